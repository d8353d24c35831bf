"""Calico's NetworkPolicy and GlobalNetworkPolicy, enforced and staged, in both of its API groups.

Fields: https://docs.tigera.io/calico/latest/reference/resources/globalnetworkpolicy. `projectcalico.org/v3` is the API,
`crd.projectcalico.org/v1` the form that it stores: the same fields, names with the tier before them (`default.web`; the
API shows that tier's without), and nothing filled in or checked. A stored policy without `types` is one for both
directions (felix/calc/policy_sorter.go of https://github.com/projectcalico/calico); the API fills in the directions
that have rules, and ingress where none has.
"""

from __future__ import annotations

from pilothouse.policies.reading.calico_rules import (
    account_selector,
    finds_global,
    policy_selector,
    rules,
    with_namespace,
)
from pilothouse.policies.reading.document import Document, Object, is_name, repeated, short
from pilothouse.policies.reading.kubernetes import BOTH, ONLY, staged_action
from pilothouse.policies.rules import (
    ANY_ORDER,
    DEFAULT_TIER,
    TIER_ALIASES,
    Direction,
    Family,
    Peer,
    Policy,
    Rule,
    Scope,
)
from pilothouse.policies.selectors import Selector, all_of

_NAMESPACED = frozenset(
    ("tier", "order", "ingress", "egress", "selector", "types", "serviceAccountSelector", "performanceHints")
)
_GLOBAL = _NAMESPACED | {"doNotTrack", "preDNAT", "applyOnForward", "namespaceSelector"}
_STAGED = frozenset(("stagedAction",))
_USUAL = _NAMESPACED - {"performanceHints"}
_TYPES = {"Ingress": Direction.INGRESS, "Egress": Direction.EGRESS}
_HINTS = ("AssumeNeededOnEveryNode",)


def network_policy(doc: Document) -> Policy | None:
    """The policy, or None after an error."""
    return _policy(doc, doc.spec(_NAMESPACED), "")


def global_network_policy(doc: Document) -> Policy | None:
    return _policy(doc, doc.spec(_GLOBAL), "")


def staged_network_policy(doc: Document) -> Policy | None:
    return _staged(doc, _NAMESPACED | _STAGED)


def staged_global_network_policy(doc: Document) -> Policy | None:
    return _staged(doc, _GLOBAL | _STAGED)


def _staged(doc: Document, known: frozenset[str]) -> Policy | None:
    spec = doc.spec(known)
    action = staged_action(doc, spec)
    if action == "Delete":
        for key in spec:
            if key not in ("stagedAction", "tier", "types") and spec[key]:
                doc.error(
                    "policies/staged-action",
                    ("spec", key),
                    f"`{key}` stands beside `stagedAction: Delete`, which takes none but `tier`",
                    "remove it",
                )
    return _policy(doc, spec, action) if action else None


def plain_name(name: str, tier: str = DEFAULT_TIER) -> str:
    """The name as the API shows it: of the default tier without the tier."""
    return name.removeprefix("default.") if tier == DEFAULT_TIER else name


def tier_of(spec: Object) -> str:
    """The tier that a policy names, under its present name."""
    tier = spec.get("tier")
    return TIER_ALIASES.get(tier, tier) if isinstance(tier, str) and tier else DEFAULT_TIER


def _policy(doc: Document, spec: Object, staged: str) -> Policy | None:
    manifest = doc.manifest
    named = doc.string(spec, "tier", ("spec",))
    if named and not is_name(named):
        doc.bad(("spec", "tier"), f"{short(named)} is no name of a tier", "lower-case letters, digits and `-`")
    order = doc.number(spec, "order", ("spec",))
    ingress = rules(doc, spec, Direction.INGRESS, manifest.namespace)
    egress = rules(doc, spec, Direction.EGRESS, manifest.namespace)
    directions = _directions(doc, spec, ingress, egress)
    subject = _global_subject(doc, spec) if not manifest.namespace else _subject(doc, spec)
    untracked = pre_dnat = forward = False
    if not spec.keys() <= _USUAL:
        _hints(doc, spec)
        untracked, pre_dnat, forward = _host_options(doc, spec, egress)
    labels = doc.labels()
    if doc.failed:
        return None
    tier = tier_of(spec)
    return Policy(
        manifest.kind,
        plain_name(manifest.name, tier),
        manifest.namespace,
        Family.CALICO,
        manifest.api_version,
        tier,
        ANY_ORDER if order is None else order,
        (subject,),
        frozenset() if staged == "Delete" else directions,
        ingress,
        egress,
        bool(staged),
        staged,
        untracked,
        pre_dnat,
        forward,
        labels,
        manifest.place,
    )


def _subject(doc: Document, spec: Object) -> Peer:
    chosen = _both(policy_selector(doc, spec, "selector"), account_selector(doc, spec, everywhere=False))
    return Peer(Scope.NAMESPACE, doc.manifest.namespace, selector=chosen)


def _global_subject(doc: Document, spec: Object) -> Peer:
    chosen = _both(policy_selector(doc, spec, "selector"), account_selector(doc, spec, everywhere=True))
    where = policy_selector(doc, spec, "namespaceSelector")
    if where is None:
        return Peer(Scope.CLUSTER, selector=chosen)
    text = str(spec["namespaceSelector"])
    if finds_global(text):
        return Peer(Scope.CLUSTER, selector=with_namespace(text, chosen))
    return Peer(Scope.NAMESPACES, "", where, chosen)


def _both(one: Selector | None, two: Selector | None) -> Selector | None:
    if one is None or two is None:
        return one or two
    return all_of(one, two)


def _directions(
    doc: Document, spec: Object, ingress: tuple[Rule, ...], egress: tuple[Rule, ...]
) -> frozenset[Direction]:
    given = doc.strings(spec, "types", ("spec",))
    if given:
        found: set[Direction] = set()
        for index, item in enumerate(given):
            direction = _TYPES.get(item)
            if direction is None:
                doc.bad(("spec", "types", index), f"{short(item)} is not one of Ingress, Egress")
            else:
                found.add(direction)
        if twice := repeated(given):
            doc.bad(("spec", "types"), f"names {twice} twice", "remove one of them")
        return frozenset(found)
    if doc.manifest.api_version.startswith("crd.") and spec.get("stagedAction") != "Delete":
        if not (ingress and egress):
            doc.warn(
                "policies/types-missing",
                ("spec",),
                "stored without `types`: Calico takes it as one for ingress and egress, whatever rules it has",
                "add `types`, or write the policy through the projectcalico.org/v3 API, which fills them in",
            )
        return BOTH
    if egress:
        return BOTH if ingress else ONLY[Direction.EGRESS]
    return ONLY[Direction.INGRESS]


def _hints(doc: Document, spec: Object) -> None:
    """Performance hints never change what a policy does."""
    for index, item in enumerate(doc.strings(spec, "performanceHints", ("spec",))):
        if item not in _HINTS:
            path = ("spec", "performanceHints", index)
            doc.bad(path, f"{short(item)} is not one of {', '.join(_HINTS)}", "remove it")


def _host_options(doc: Document, spec: Object, egress: tuple[Rule, ...]) -> tuple[bool, bool, bool]:
    """`doNotTrack`, `preDNAT` and `applyOnForward`, which concern host endpoints
    (https://docs.tigera.io/calico/latest/reference/host-endpoints/pre-dnat)."""
    untracked = doc.boolean(spec, "doNotTrack", ("spec",))
    pre_dnat = doc.boolean(spec, "preDNAT", ("spec",))
    forward = doc.boolean(spec, "applyOnForward", ("spec",))
    if untracked and pre_dnat:
        message = "`preDNAT` and `doNotTrack` cannot both be true"
        doc.error("policies/host-options", ("spec", "preDNAT"), message, "make it two policies")
    if (untracked or pre_dnat) and not forward:
        field = "doNotTrack" if untracked else "preDNAT"
        message = f"`{field}` needs `applyOnForward: true`"
        doc.error("policies/host-options", ("spec", field), message, "add `applyOnForward: true`")
    if pre_dnat and egress:
        message = "a `preDNAT` policy has no egress rules"
        doc.error("policies/host-options", ("spec", "egress"), message, "move them to a policy without `preDNAT`")
    types = spec.get("types")
    if pre_dnat and isinstance(types, list) and "Egress" in types:
        message = "a `preDNAT` policy is for ingress only"
        doc.error("policies/host-options", ("spec", "types"), message, "remove `Egress` from `types`")
    return untracked, pre_dnat, forward
