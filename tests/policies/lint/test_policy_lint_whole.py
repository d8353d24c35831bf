"""Lint as a whole: what the engine says of its claims, the bank, the table of checks, and the use case around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from policies.cases import worlds
from policies.reference import World
from support.lint_cases import CLUSTER, kubernetes, together
from support.testbed import bank

from pilothouse.inventory.parse import at, parse
from pilothouse.policies import derive
from pilothouse.policies.engine import Engine
from pilothouse.policies.engine.fold import fold, of_union
from pilothouse.policies.lint import CHECKS, lint
from pilothouse.policies.lint.context import Context
from pilothouse.policies.lint.covering import covers
from pilothouse.policies.lint.fates import Key, identity, key_of
from pilothouse.policies.lint.walk import Walk
from pilothouse.policies.reading import from_data, read
from pilothouse.policies.rules import Action, Direction, Policy, PolicySet
from pilothouse.problems import Invalid, Place, Severity
from pilothouse.workflows.policy_lint import lint_path, lint_snapshot


def context_of(world: World) -> Context:
    snapshot, _ = parse((each, at(Place("world"))) for each in world.objects)
    return Context(snapshot, read(snapshot.policies).policies)


def without(context: Context, keys: frozenset[Key]) -> PolicySet:
    """The enforced set without some rules; every policy still isolates as before."""

    def trimmed(policy: Policy) -> Policy:
        kept = {
            of.value: tuple(rule for rule in policy.rules(of) if key_of(policy, of, rule) not in keys)
            for of in Direction
        }
        return replace(policy, **kept)  # type: ignore[arg-type]

    enforced = context.policies.enforced()
    return enforced.with_policies(trimmed(policy) for policy in enforced.policies)


def is_same(context: Context, policies: PolicySet) -> bool:
    engine = Engine.of(context.snapshot, policies, known=context.universe.vocabulary)
    one, two = context.engine.reach, engine.reach
    return list(one.egress) == list(two.egress) and list(one.ingress) == list(two.ingress)


@settings(deadline=None, max_examples=60)
@given(world=worlds())
def test_what_lint_calls_redundant_or_shadowed_changes_nothing_when_it_goes(world: World) -> None:
    context = context_of(world)
    fates = context.fates
    assert is_same(context, without(context, fates.redundant))
    hidden = {
        key
        for key, fate in fates.rules.items()
        if fate.pieces and not fate.takes and fate.rule.action is not Action.LOG
    }
    assert is_same(context, without(context, frozenset(hidden)))
    for name in fates.unneeded:
        enforced = context.policies.enforced()
        assert is_same(context, enforced.with_policies(p for p in enforced.policies if identity(p) != name)), name


@settings(deadline=None, max_examples=60)
@given(world=worlds())
def test_a_rule_that_is_needed_changes_something_when_it_goes(world: World) -> None:
    """What a host endpoint says to traffic that passes may hide that."""
    context = context_of(world)
    if any(chain.forwarded for chains in context.chains.values() for chain, _ in chains):
        return
    for key, fate in context.fates.rules.items():
        conditional = any(traffic.http for traffic in fate.rule.traffic)
        if fate.needed and fate.rule.action is not Action.LOG and not conditional:
            assert not is_same(context, without(context, frozenset({key}))), key


@settings(deadline=None, max_examples=60)
@given(world=worlds())
def test_a_walk_takes_what_a_fold_allows(world: World) -> None:
    context = context_of(world)
    for direction in Direction:
        for chain, _ in context.chains[direction]:
            walk = Walk(chain, context.universe.everything)
            folded = fold(replace(chain, forwarded=()), context.universe.everything)
            sure = [
                (peers, packets)
                for step in walk.steps
                if step.action is Action.ALLOW and not step.rule.conditional
                for packets, peers in step.taken
            ]
            if chain.failsafe:
                sure.append((context.universe.everything, chain.failsafe))
            allowed = of_union(sure)
            for packets, peers, _ in allowed.cells:
                for other, reached, _ in folded.cells:
                    if packets & other:
                        assert not peers & ~reached
            if chain.profiles is not None:
                assert allowed == of_union((reached, packets) for packets, reached, _ in folded.cells)


@settings(deadline=None, max_examples=40)
@given(world=worlds())
def test_a_rule_that_covers_another_matches_all_that_it_matches(world: World) -> None:
    context = context_of(world)
    fates = [fate for fate in context.fates.rules.values() if fate.rule.action is not Action.LOG]
    for one in fates:
        for two in fates:
            if one is two or one.direction is not two.direction:
                continue
            if not covers((one.policy, one.rule), (two.policy, two.rule), one.direction):
                continue
            assert not context.own_end(two.policy, two.rule) & ~context.own_end(one.policy, one.rule)
            for number in range(len(context.universe.pieces)):
                if not context.own_end(two.policy, two.rule) >> number & 1:
                    continue
                names = tuple((name, of) for name, of, _ in context.universe.pieces[number].signature)
                meaning = context.universe.meaning(number, names)
                wide = of_union(context.compiler.rule(one.rule, one.direction, meaning).cells)
                inner = of_union(context.compiler.rule(two.rule, two.direction, meaning).cells)
                for packets, peers, _ in inner.cells:
                    for piece in range(context.universe.size):
                        if peers >> piece & 1:
                            assert not packets - wide.allowed(piece)


@pytest.mark.parametrize("cluster", ["dev", "test", "uat", "prod"])
def test_nothing_to_warn_of_in_what_pilothouse_derives_for_the_bank(cluster: str) -> None:
    inputs = bank(cluster)
    derived = derive(inputs)
    for documents in (derived.as_if_enforced(), derived.in_force()):
        reading = from_data(*documents)
        found = lint(inputs.snapshot, reading.policies)
        assert [problem.message for problem in found if problem.severity is not Severity.INFO] == []


def test_every_check_has_a_code_of_its_own_and_says_what_it_is_for() -> None:
    codes = [check.code for check in CHECKS]
    assert len(set(codes)) == len(codes) > 50
    assert all(check.summary and not check.summary.endswith(".") for check in CHECKS)


def test_an_empty_cluster_has_nothing_wrong() -> None:
    snapshot, _ = parse(())
    assert lint(snapshot, PolicySet()) == ()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Path]:
    def written(text: str) -> Path:
        (tmp_path / "all.yaml").write_text(text, encoding="utf-8")
        return tmp_path

    return written


WRONG = together(
    CLUSTER,
    kubernetes("{podSelector: {matchLabels: {app: wbe}}, ingress: [{}]}"),
    kubernetes("{podSelector: {}, ingress: [{form: []}]}", "unread"),
)


def test_a_folder_is_read_and_judged(folder: Callable[[str], Path]) -> None:
    found = lint_path(folder(WRONG))
    codes = [problem.code for problem in found.problems]
    assert found.policies == 1
    assert "policies/unknown-field" in codes  # of reading
    assert "policies/policy-selects-nothing" in codes


def test_single_checks_are_run_by_name(folder: Callable[[str], Path]) -> None:
    found = lint_path(folder(WRONG), ["allow-all-ingress"])
    assert {problem.code for problem in found.problems} == {"policies/unknown-field", "policies/allow-all-ingress"}
    with pytest.raises(Invalid, match="no check is called `allow-al-ingress`") as refused:
        lint_path(folder(WRONG), ["allow-al-ingress"])
    assert refused.value.hint == "did you mean `policies/allow-all-ingress`?"


def test_staged_policies_count_in_a_preview(folder: Callable[[str], Path]) -> None:
    staged = (
        "apiVersion: projectcalico.org/v3\nkind: StagedNetworkPolicy\nmetadata: {name: deny, namespace: shop}\n"
        "spec: {selector: all(), types: [Ingress]}\n"
    )
    snapshot, _ = parse([])
    assert lint_snapshot(snapshot).problems == ()
    path = folder(together(CLUSTER, staged))
    now, then = lint_path(path), lint_path(path, preview=True)
    assert "policies/all-ingress-blocked" not in [problem.code for problem in now.problems]
    assert "policies/all-ingress-blocked" in [problem.code for problem in then.problems]
