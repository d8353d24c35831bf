"""Pods that may come to a site: what policies mean for those shows whether the next pod is let in by accident."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pilothouse.inventory.model import Pod
from pilothouse.labels import NAMESPACE_NAME_LABEL
from pilothouse.policies.rules import Direction, Peer, PolicySet, Scope
from pilothouse.policies.selectors import Selector
from pilothouse.policies.selectors.space import TooComplex, example
from pilothouse.policies.site import Site

NEW_NAMESPACE = "(a new namespace)"
_OWN = "projectcalico.org/"
"""Labels that Calico gives endpoints itself begin with that (and `pcns.`, `pcsa.`): no manifest sets them."""


def newcomers(site: Site) -> tuple[Pod, ...]:
    """One pod without labels for each namespace, and for a namespace that does not exist yet; and for each selector
    that policies use one with just the labels that it asks for, in each namespace where it looks."""
    spaces = {item.name: item.labels for item in site.snapshot.namespaces}
    spaces |= {pod.namespace: {NAMESPACE_NAME_LABEL: pod.namespace} for pod in site.snapshot.pods} | spaces
    found: dict[tuple[str, tuple[tuple[str, str], ...]], Pod] = {}
    for name in (*sorted(spaces), NEW_NAMESPACE):
        found[name, ()] = _pod(name, {})
    for namespace, selector in sorted(set(_used(site.effective, spaces)), key=lambda item: (item[0], str(item[1]))):
        labels = _asked(selector)
        if labels:
            found.setdefault((namespace, tuple(labels.items())), _pod(namespace, labels))
    return tuple(found.values())


def _pod(namespace: str, labels: Mapping[str, str]) -> Pod:
    text = ",".join(f"{key}={value}" if value else key for key, value in labels.items())
    return Pod(namespace, f"(a new pod with {text})" if text else "(a new pod)", labels, from_template=True)


def _asked(selector: Selector) -> dict[str, str] | None:
    try:
        labels = example([selector])
    except TooComplex:
        return None
    if labels is None or any(key.startswith((_OWN, "pcns.", "pcsa.")) for key in labels):
        return None
    return dict(labels)


def _used(policies: PolicySet, spaces: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, Selector]]:
    """(namespace, selector) of every selector that looks for pods there."""
    for policy in policies.policies:
        for peer in policy.subjects:
            yield from _looking(peer, spaces)
        for direction in Direction:
            for rule in policy.rules(direction):
                for peer in (*rule.peers, rule.subject):
                    yield from _looking(peer, spaces)


def _looking(peer: Peer, spaces: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, Selector]]:
    if peer.selector is None:
        return
    if peer.scope is Scope.NAMESPACE:
        yield peer.namespace, peer.selector
    elif peer.scope is Scope.NAMESPACES:
        for name, labels in spaces.items():
            if peer.namespace_selector is None or peer.namespace_selector.matches(labels):
                yield name, peer.selector
    elif peer.scope is Scope.CLUSTER:
        yield NEW_NAMESPACE, peer.selector
