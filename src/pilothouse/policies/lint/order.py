"""Checks of what decides first: rules that never decide anything, that change nothing, and what names decide."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise

from pilothouse.policies.lint.check import Finding, Findings
from pilothouse.policies.lint.context import Context
from pilothouse.policies.lint.covering import covers
from pilothouse.policies.lint.fates import Fate, Key, identity
from pilothouse.policies.rules import (
    ANY_ORDER,
    BASELINE_TIER,
    STANDARD_TIERS,
    Action,
    Family,
    Policy,
    Tier,
)
from pilothouse.problems import Place

_MOST = 3


def starved(context: Context) -> Findings:
    """Every endpoint of the policy meets a tier before whose default action denies what none of its rules matched."""
    for policy, fates in _met(context):
        if _is_starved(fates):
            tiers = _tiers_before(context, policy)
            before = f"the tier `{tiers[-1]}`" if tiers else "an earlier tier"
            yield Finding(
                f"{policy.key}: never decides anything: {before} leaves nothing to the tier `{policy.tier}`",
                context.places.at(policy, ("spec", "tier")),
                "let the earlier tier pass on what it does not decide: a Pass rule, or `defaultAction: Pass`",
                minor=policy.tier == BASELINE_TIER,
            )


def _is_starved(fates: list[Fate]) -> bool:
    return all(fate.pieces and not fate.reached for fate in fates)


def _tiers_before(context: Context, policy: Policy) -> list[str]:
    """The tiers that endpoints of the policy meet before its own."""
    found: dict[str, None] = {}
    members = context.subjects(policy)
    for direction in policy.directions:
        for chain, pieces in context.chains[direction]:
            if pieces & members:
                for stage in chain.stages:
                    if stage.tier == policy.tier:
                        break
                    found[stage.tier] = None
    return list(found)


def shadowed_policy(context: Context) -> Findings:
    for policy, fates in _met(context):
        if _is_shadowed(fates) and not _is_starved(fates):
            yield Finding(
                f"{policy.key}: none of its rules ever decides anything: {_named(context, fates)} before it",
                context.places.name(policy),
                "lower its `order`, or remove it: everything that it matches is decided before",
                _places(context, {key for fate in fates for key in fate.otherwise | fate.because}),
                minor=policy.tier == BASELINE_TIER,
            )


def _is_shadowed(fates: list[Fate]) -> bool:
    return all(_is_hidden(fate) or not fate.matches for fate in fates) and any(_is_hidden(fate) for fate in fates)


def _is_hidden(fate: Fate) -> bool:
    """Whether all that it matches is decided before it, some of it otherwise."""
    return bool(fate.pieces and fate.matches and not fate.takes and fate.otherwise)


def shadowed_rule(context: Context) -> Findings:
    for policy, fates in _met(context):
        if _is_shadowed(fates) or _is_starved(fates):
            continue
        for fate in fates:
            if _is_hidden(fate) and fate.reached:
                yield Finding(
                    f"{policy.key}: `{fate.direction}[{fate.rule.index}]` never decides anything:"
                    f" {_named(context, [fate])} before it",
                    fate.rule.place,
                    "move it before the other, or remove it",
                    _places(context, fate.otherwise),
                    minor=policy.tier == BASELINE_TIER,
                )


def _met(context: Context) -> Iterator[tuple[Policy, list[Fate]]]:
    """The policies with rules that endpoints meet."""
    for policy in context.enforced:
        fates = context.fates.of(policy)
        if fates and any(fate.pieces for fate in fates):
            yield policy, fates


# ---------------------------------------------------------------- redundancy


def redundant_policy(context: Context) -> Findings:
    """Without it every verdict about today's endpoints is the same: the engine has tried."""
    for policy, fates in _met(context):
        if _is_redundant(context, policy, fates):
            yield Finding(
                f"{policy.key}: without it every verdict is the same",
                context.places.name(policy),
                "remove it, unless it is for pods that are still to come",
                _places(context, {key for fate in fates for key in fate.because}),
                minor=not _is_covered(context, policy, fates),
            )


def _is_redundant(context: Context, policy: Policy, fates: list[Fate]) -> bool:
    if _is_shadowed(fates) or _is_starved(fates):
        return False
    return identity(policy) in context.fates.unneeded and all(fate.key in context.fates.redundant for fate in fates)


def _is_covered(context: Context, policy: Policy, fates: list[Fate]) -> bool:
    """Whether other policies say all of it, whatever pods there will be."""
    return all(_cover(context, fate) is not None for fate in fates)


def redundant_rule(context: Context) -> Findings:
    """A warning where another rule says it all for whatever pods there will be; an info where that is so today."""
    for policy, fates in _met(context):
        if _is_redundant(context, policy, fates):
            continue
        for fate in fates:
            if fate.key not in context.fates.redundant:
                continue
            cover = _cover(context, fate)
            if cover is not None:
                other = cover.policy
                same = "" if other is policy else f" of {other.key}"
                yield Finding(
                    f"{policy.key}: `{fate.direction}[{fate.rule.index}]` adds nothing to"
                    f" `{cover.direction}[{cover.rule.index}]`{same}, which says all of it",
                    fate.rule.place,
                    "remove it",
                    (cover.rule.place,),
                )
            else:
                why = "denies what is denied anyway" if fate.rule.action is Action.DENY else "changes no verdict"
                yield Finding(
                    f"{policy.key}: `{fate.direction}[{fate.rule.index}]` {why}, of the endpoints that there are",
                    fate.rule.place,
                    "remove it, unless it is for pods that are still to come, or for the reader",
                    _places(context, fate.because),
                    minor=True,
                )


def _cover(context: Context, fate: Fate) -> Fate | None:
    """One rule that stays and says all that this one says: of those that decide alike in the same tier."""
    for key in sorted(fate.because):
        other = context.fates.rules.get(key)
        if other is None or other is fate or key in context.fates.redundant:
            continue
        if other.rule.action is not fate.rule.action or other.policy.tier != fate.policy.tier:
            continue
        together = other.policy is fate.policy and other.rule.index < fate.rule.index
        unordered = other.policy.family is fate.policy.family is Family.KUBERNETES
        if (together or unordered) and covers((other.policy, other.rule), (fate.policy, fate.rule), fate.direction):
            return other
    return None


# ---------------------------------------------------------------- ties


def order_tie(context: Context) -> Findings:
    """Policies of one tier with the same order are met by name
    (https://docs.tigera.io/calico/latest/reference/resources/networkpolicy)."""
    found: dict[tuple[str, str], tuple[Fate, Fate, int]] = {}
    for tie, members in context.fates.ties.items():
        one, two = context.fates.rules[tie.first], context.fates.rules[tie.second]
        pair = (identity(one.policy), identity(two.policy))
        known = found.get(pair)
        found[pair] = (*known[:2], known[2] | members) if known else (one, two, members)
    for one, two, members in found.values():
        order = "no `order`" if two.policy.order == ANY_ORDER else f"the order {two.policy.order:g}"
        yield Finding(
            f"{two.policy.key}: has {order} as {one.policy.key}, and the other action for {context.some(members)}:"
            f" their names decide that `{one.direction}[{one.rule.index}]` of the other is met first",
            context.places.at(two.policy, ("spec", "order"), two.rule.place),
            "give the two policies different orders",
            (one.rule.place,),
        )


def tier_tie(context: Context) -> Findings:
    used = {policy.tier for policy in context.written}
    groups: dict[float, list[Tier]] = defaultdict(list)
    for tier in context.policies.tiers:
        if tier.name in used:
            groups[tier.order].append(tier)
    for order, tiers in groups.items():
        tiers.sort(key=lambda tier: tier.name)
        for one, two in pairwise(tiers):
            shown = "no `order`" if order == ANY_ORDER else f"the order {order:g}"
            yield Finding(
                f"Tier {two.name}: has {shown} as Tier {one.name}: their names decide which is met first",
                context.places.of(two, "spec", "order"),
                "give the two tiers different orders",
                (context.places.of(one, "spec", "order"),),
            )


def empty_tier(context: Context) -> Findings:
    used = {policy.tier for policy in context.policies.policies}
    for tier in context.policies.tiers:
        if tier.name not in used and tier.name not in STANDARD_TIERS:
            yield Finding(
                f"Tier {tier.name}: no policy is in it",
                context.places.of(tier),
                "remove it, or set `tier` in its policies",
            )


def last_pass(context: Context) -> Findings:
    """Pass out of the last tier goes to the endpoint's profile, and that of a namespace allows everything
    (https://docs.tigera.io/calico/latest/reference/resources/profile)."""
    for policy, fates in _met(context):
        for fate in fates:
            if fate.rule.action is Action.PASS and fate.last and fate.takes:
                whole = fate.last == fate.pieces
                yield Finding(
                    f"{policy.key}: `{fate.direction}[{fate.rule.index}]` passes to no further tier for"
                    f" {context.some(fate.last)}: the profile decides, and that of a namespace allows",
                    context.places.rule(policy, fate.rule, "action"),
                    "write Allow or Deny, or give these endpoints a policy in a later tier",
                    minor=not whole or policy.family is Family.ADMIN,
                )


# ---------------------------------------------------------------- words


def _named(context: Context, fates: list[Fate]) -> str:
    """Who decides, in words."""
    keys = {key for fate in fates for key in fate.otherwise} or {key for fate in fates for key in fate.because}
    names: Mapping[str, None] = dict.fromkeys(
        context.fates.rules[key].policy.key for key in sorted(keys) if key in context.fates.rules
    )
    shown = list(names)
    verb = "decides" if len(shown) == 1 else "decide"
    more = f" and {len(shown) - _MOST} more" if len(shown) > _MOST else ""
    return f"{', '.join(shown[:_MOST])}{more} {verb}"


def _places(context: Context, keys: set[Key]) -> tuple[Place, ...]:
    found = dict.fromkeys(context.fates.rules[key].rule.place for key in sorted(keys) if key in context.fates.rules)
    return tuple(place for place in found if place.path)[:_MOST]
