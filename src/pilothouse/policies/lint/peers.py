"""Checks of the other end of a rule: peers that are nobody, or somebody else than was meant."""

from __future__ import annotations

from pilothouse.policies.engine.backends import backends
from pilothouse.policies.engine.universe import ACCOUNT_KEY
from pilothouse.policies.lint.check import Finding, Findings
from pilothouse.policies.lint.context import Context, is_all, is_derived
from pilothouse.policies.lint.impossible import is_impossible
from pilothouse.policies.lint.near import Near
from pilothouse.policies.rules import Action, Direction, Family, Peer, Policy, Rule, Scope
from pilothouse.problems import nearest

_SELECTED = frozenset((Scope.NAMESPACE, Scope.NAMESPACES, Scope.CLUSTER, Scope.GLOBAL))
_SELECTORS = (("podSelector",), ("selector",), ("pods", "podSelector"), ("namespaces",))
_NAMESPACES = (("namespaceSelector",), ("pods", "namespaceSelector"), ("namespaces",))


def matches_nothing(context: Context) -> Findings:
    """A peer without pods and address sets. Denying those that may come is no mistake."""
    if not context.has_endpoints:
        return
    near = Near(context)
    for policy, direction, rule, number, peer in context.peers():
        if not _is_nobody(context, peer) or _is_split(context, policy, rule, number):
            continue
        where = f" of `{peer.namespace}`" if peer.scope is Scope.NAMESPACE else ""
        sets = "" if peer.pods_only else " and no address set"
        yield Finding(
            f"{policy.key}: a peer of `{direction}[{rule.index}]` is no pod{where}{sets}",
            context.places.peer(policy, rule, direction, number, _SELECTORS),
            _global_set(context, policy, peer) or near.pods(peer) or "correct the selector, or remove the peer",
            minor=rule.action is not Action.ALLOW or is_derived(policy),
        )


def _is_nobody(context: Context, peer: Peer) -> bool:
    """Whether a peer is nobody today, and no other check says why."""
    if peer.scope not in _SELECTED or context.compiler.peer(peer) or is_impossible(context, peer):
        return False
    if peer.scope is Scope.NAMESPACE and is_all(peer.selector):
        return False
    if peer.scope is Scope.NAMESPACES and not context.in_namespaces(peer.namespace_selector):
        return False
    if peer.selector is not None and any(term.key == ACCOUNT_KEY for term in peer.selector.terms()):
        return False
    return not (
        context.host_pods(peer)
        or context.is_dormant(peer)
        or any(context.holds_set(peer, item) for item in context.policies.sets)
    )


def _global_set(context: Context, policy: Policy, peer: Peer) -> str:
    """A hint where a policy of a namespace names a global set by its labels: those are found by `global()` alone."""
    if policy.family is not Family.CALICO or peer.scope not in (Scope.NAMESPACE, Scope.NAMESPACES):
        return ""
    if peer.selector is None:
        return ""
    found = (item for item in context.policies.sets if not item.namespace and peer.selector.matches(dict(item.labels)))
    item = next(found, None)
    return f"GlobalNetworkSet {item.name} has these labels: add `namespaceSelector: global()`" if item else ""


def no_namespace(context: Context) -> Findings:
    """A selector of namespaces that finds none. Without Namespace objects, only names are known."""
    if not context.namespaces:
        return
    near = Near(context)
    for policy in context.written:
        for peer in policy.subjects:
            if _finds_no_namespace(context, peer):
                yield Finding(
                    f"{policy.key}: its `namespaceSelector` selects no namespace",
                    context.places.at(policy, _subject_namespaces(policy)),
                    near.namespaces(peer.namespace_selector),
                    minor=not context.knows_namespaces,
                )
    for policy, direction, rule, number, peer in context.peers():
        if _finds_no_namespace(context, peer):
            yield Finding(
                f"{policy.key}: the `namespaceSelector` of a peer of `{direction}[{rule.index}]` selects no namespace",
                context.places.peer(policy, rule, direction, number, _NAMESPACES),
                near.namespaces(peer.namespace_selector),
                minor=not context.knows_namespaces or rule.action is not Action.ALLOW,
            )


def _finds_no_namespace(context: Context, peer: Peer) -> bool:
    return (
        peer.scope is Scope.NAMESPACES
        and not context.in_namespaces(peer.namespace_selector)
        and not is_impossible(context, peer)
    )


def _subject_namespaces(policy: Policy) -> tuple[str, ...]:
    return ("spec", "subject") if policy.family is Family.ADMIN else ("spec", "namespaceSelector")


def split(context: Context) -> Findings:
    """Two items of a list where one was meant: pods of other namespaces, written as "those namespaces, or such pods of
    this one". Said only where this namespace has no such pods, and those have."""
    if not context.has_endpoints:
        return
    for policy, direction, rule, number, _ in context.peers():
        if _is_split(context, policy, rule, number):
            yield Finding(
                f"{policy.key}: `{direction}[{rule.index}]` means every pod of the namespaces of one item, and the pods"
                f" of `{policy.namespace}` that the other selects, of which there are none",
                context.places.peer(policy, rule, direction, number),
                "for such pods of such namespaces, write both selectors into one item: remove the `-` of the second",
            )


def _is_split(context: Context, policy: Policy, rule: Rule, number: int) -> bool:
    """Whether the peer with that number has lost the selector of its namespaces to the item beside it."""
    if policy.family is not Family.KUBERNETES:
        return False
    pods = rule.peers[number]
    if pods.scope is not Scope.NAMESPACE or is_all(pods.selector) or pods.nets is not None:
        return False
    if context.compiler.peer(pods) or context.is_dormant(pods) or context.host_pods(pods):
        return False
    for beside in (number - 1, number + 1):
        if 0 <= beside < len(rule.peers):
            spaces = rule.peers[beside]
            if spaces.scope is Scope.NAMESPACES and spaces.selector is None and spaces.pods_only:
                together = Peer(Scope.NAMESPACES, "", spaces.namespace_selector, pods.selector, pods_only=True)
                if context.compiler.peer(together):
                    return True
    return False


def host_network(context: Context) -> Findings:
    """Traffic of pods on the host's network has the node's address: a selector never finds it
    (https://kubernetes.io/docs/concepts/services-networking/network-policies/#networkpolicy-and-hostnetwork-pods)."""
    for policy, direction, rule, number, peer in context.peers():
        if is_all(peer.selector) or rule.action is not Action.ALLOW or context.compiler.peer(peer):
            continue
        pods = context.host_pods(peer)
        if pods:
            what = f"pod {pods[0].key} is" if len(pods) == 1 else f"{len(pods):,} pods such as {pods[0].key} are"
            yield Finding(
                f"{policy.key}: {what} on the host's network, where a peer of `{direction}[{rule.index}]` does not find"
                f" {'it' if len(pods) == 1 else 'them'}",
                context.places.peer(policy, rule, direction, number, _SELECTORS),
                "name the addresses of the nodes instead: `ipBlock`, `nets`, or `nodes` where the kind has it",
            )


def unknown_service(context: Context) -> Findings:
    if not context.services:
        return
    names = {f"{namespace}/{name}" for namespace, name in context.services}
    for policy, direction, rule, number, peer in context.peers():
        if peer.services is not None and peer.services not in context.services:
            shown = "/".join(peer.services)
            yield Finding(
                f"{policy.key}: `{direction}[{rule.index}]` names a Service {shown} that does not exist",
                context.places.peer(policy, rule, direction, number, (("services", "name"), ("services",))),
                nearest(shown, names) or "create the Service first, or remove the rule",
            )


def service_without_endpoints(context: Context) -> Findings:
    """`services` matches the addresses of EndpointSlices: without any, nothing
    (https://docs.tigera.io/calico/latest/reference/resources/networkpolicy#entityrule)."""
    for policy, direction, rule, number, peer in context.peers():
        service = context.services.get(peer.services) if peer.services is not None else None
        if service is not None and not backends(context.snapshot, service.namespace, service.name):
            yield Finding(
                f"{policy.key}: the Service {service.namespace}/{service.name} of `{direction}[{rule.index}]` has"
                " no endpoints: the rule matches nothing",
                context.places.peer(policy, rule, direction, number, (("services",),)),
                "see why the Service selects no running pod, or give it EndpointSlices",
            )


def not_selector_alone(context: Context) -> Findings:
    """`notSelector` by itself is everybody else on earth, addresses outside of the cluster too
    (https://docs.tigera.io/calico/latest/reference/resources/networkpolicy#entityrule)."""
    for policy, direction, rule, number, peer in context.peers():
        if rule.action is Action.ALLOW and peer.not_selector is not None and _is_everybody_else(peer):
            end = "source" if direction is Direction.INGRESS else "destination"
            yield Finding(
                f"{policy.key}: `notSelector` of `{direction}[{rule.index}]` allows every address outside of the"
                " cluster, too",
                context.places.peer(policy, rule, direction, number, (("notSelector",),)),
                f"for endpoints only, write it as `selector: '!(…)'` of the `{end}`, or name `nets` beside it",
            )


def _is_everybody_else(peer: Peer) -> bool:
    return peer.scope is Scope.ANY and peer.nets is None and peer.services is None
