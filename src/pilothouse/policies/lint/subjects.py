"""Checks of whom a policy applies to."""

from __future__ import annotations

from collections.abc import Iterator

from pilothouse.policies.engine.universe import ACCOUNT_KEY
from pilothouse.policies.lint.check import Finding, Findings
from pilothouse.policies.lint.context import Context, is_all, is_derived
from pilothouse.policies.lint.impossible import is_impossible
from pilothouse.policies.lint.near import Near
from pilothouse.policies.rules import Family, Peer, Policy, Scope
from pilothouse.problems import nearest

_FIELDS = {Family.KUBERNETES: "podSelector", Family.CALICO: "selector", Family.ADMIN: "subject"}


def selects_nothing(context: Context) -> Findings:
    """A policy without pods. One for all pods of its namespace may wait for the first, one that was derived for a
    service's."""
    if not context.has_endpoints:
        return
    near = Near(context)
    for policy in context.written:
        if context.subjects(policy) or not policy.directions or _is_explained(context, policy):
            continue
        whom = f"no pod of `{policy.namespace}`" if policy.namespace else "no endpoint"
        yield Finding(
            f"{policy.key}: `spec.{_FIELDS[policy.family]}` selects {whom}",
            context.places.subject(policy),
            next((hint for peer in policy.subjects if (hint := near.pods(peer))), "")
            or "correct the selector, or remove the policy",
            minor=is_derived(policy),
        )


def _is_explained(context: Context, policy: Policy) -> bool:
    """Whether another check says why, or nothing is wrong."""
    return any(
        (peer.scope is Scope.NAMESPACE and is_all(peer.selector))
        or is_impossible(context, peer)
        or (peer.scope is Scope.NAMESPACES and not context.in_namespaces(peer.namespace_selector))
        or context.host_pods(peer)
        or context.is_dormant(peer)
        for peer in policy.subjects
    )


def host_network(context: Context) -> Findings:
    """Pods on the host's network are no endpoints: Kubernetes leaves it open, and plugins such as Calico do not select
    them (https://kubernetes.io/docs/concepts/services-networking/network-policies/#networkpolicy-and-hostnetwork-pods)."""
    for policy in context.written:
        for peer in policy.subjects:
            pods = context.host_pods(peer)
            if not pods:
                continue
            general = is_all(peer.selector)
            what = f"pod {pods[0].key}" if len(pods) == 1 else f"{len(pods):,} pods, such as {pods[0].key}"
            yield Finding(
                f"{policy.key}: does not hold for {what}, on the host's network",
                context.places.subject(policy),
                "give the pod a network of its own, or protect the node: a HostEndpoint and a policy for it",
                minor=general or bool(context.subjects(policy)),
            )


def unknown_namespace(context: Context) -> Findings:
    known = context.namespaces
    if not known:
        return
    for policy in context.written:
        if policy.namespace and policy.namespace not in known:
            yield Finding(
                f"{policy.key}: there is no namespace `{policy.namespace}`",
                context.places.at(policy, ("metadata", "namespace")),
                nearest(policy.namespace, known) or "create the namespace first, or remove the policy",
                minor=not context.knows_namespaces,
            )


def selects_hosts(context: Context) -> Findings:
    """A global policy without `namespaceSelector` selects host endpoints too, and so isolates the nodes
    (https://docs.tigera.io/calico/latest/reference/resources/globalnetworkpolicy#namespaceselector)."""
    pods = context.universe.pods
    hosts = context.universe.endpoints & ~pods
    if not hosts:
        return
    for policy in context.written:
        if policy.namespace or policy.family is not Family.CALICO or policy.forward:
            continue
        members = context.subjects(policy)
        if members & hosts and members & pods and any(_is_loose(peer) for peer in policy.subjects):
            yield Finding(
                f"{policy.key}: selects host endpoints beside pods, such as {context.some(members & hosts)}",
                context.places.subject(policy),
                "add `namespaceSelector: all()` for pods only; write a policy of their own for host endpoints",
            )


def _is_loose(peer: Peer) -> bool:
    """Whether a peer finds host endpoints by labels that they merely lack."""
    return peer.scope is Scope.CLUSTER and (peer.selector is None or peer.selector.matches({}))


def unknown_accounts(context: Context) -> Findings:
    """Service accounts that do not exist, in `serviceAccounts.names`; asked only where the snapshot has accounts."""
    if not context.snapshot.accounts:
        return
    for policy, direction, rule, number, peer in context.peers():
        for name, known in _lost_accounts(context, peer):
            yield Finding(
                f"{policy.key}: there is no service account `{name}` where `{direction}[{rule.index}]` looks for it",
                context.places.peer(
                    policy, rule, direction, number, (("serviceAccounts", "names"), ("serviceAccounts",))
                ),
                nearest(name, known) or "create the account first, or remove the name",
            )


def _lost_accounts(context: Context, peer: Peer) -> Iterator[tuple[str, set[str]]]:
    if peer.selector is None or peer.scope not in (Scope.NAMESPACE, Scope.NAMESPACES, Scope.CLUSTER):
        return
    names = {term.value for term in peer.selector.terms() if term.key == ACCOUNT_KEY and term.value is not None}
    if not names:
        return
    if peer.scope is Scope.NAMESPACE:
        spaces = {peer.namespace}
    else:
        spaces = set(context.in_namespaces(peer.namespace_selector if peer.scope is Scope.NAMESPACES else None))
    known = {name for namespace, name in context.snapshot.accounts if namespace in spaces}
    for name in sorted(names - known - {"default"}):
        yield name, known
