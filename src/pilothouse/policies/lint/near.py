"""Why a selector finds nobody, in words: the label that nobody has, or the value that is written otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from pilothouse.labels import NAMESPACE_NAME_LABEL
from pilothouse.policies.lint.context import Context
from pilothouse.policies.rules import Peer, Scope
from pilothouse.policies.selectors import And, Equal, Has, In, Selector
from pilothouse.problems import nearest, one_of

Labelled = Iterable[Mapping[str, str]]
_MOST = 5


class Near:
    def __init__(self, context: Context) -> None:
        self.context = context
        self._values: dict[str, Mapping[str, frozenset[str]]] = {}

    def pods(self, peer: Peer) -> str:
        """Why a peer's selector finds no pod, as a hint; "" where nothing simple can be said."""
        if peer.selector is None:
            return ""
        where = peer.namespace if peer.scope is Scope.NAMESPACE else ""
        return explain(peer.selector, self._of(where), f"no pod of `{where}`" if where else "no pod")

    def _of(self, namespace: str) -> Mapping[str, frozenset[str]]:
        """Label → values, of the pods of one namespace, or of all ("")."""
        found = self._values.get(namespace)
        if found is None:
            snapshot = self.context.snapshot
            pods = snapshot.pods_by_namespace.get(namespace, ()) if namespace else snapshot.pods
            found = self._values[namespace] = collected(pod.labels for pod in pods)
        return found

    @cached_property
    def _of_namespaces(self) -> Mapping[str, frozenset[str]]:
        return collected(self.context.snapshot.namespace_labels.values())

    def namespaces(self, selector: Selector | None) -> str:
        """Why a selector finds no namespace."""
        if selector is None:
            return ""
        for part in _parts(selector):
            if isinstance(part, Equal) and part.key != NAMESPACE_NAME_LABEL and part.value in self.context.namespaces:
                return f"to name the namespace write `{NAMESPACE_NAME_LABEL}: {part.value}`, a label that each one has"
        return explain(selector, self._of_namespaces, "no namespace")


def explain(selector: Selector, known: Mapping[str, frozenset[str]], nobody: str) -> str:
    """A hint on the first test that nobody passes."""
    for part in _parts(selector):
        if not isinstance(part, Equal | In | Has):
            continue
        key = part.key
        values = known.get(key)
        if values is None:
            return f"{nobody} has a label `{key}`" + _meant(key, known)
        if isinstance(part, Has):
            continue
        wanted = {part.value} if isinstance(part, Equal) else part.values
        if not wanted & values:
            shown = sorted(wanted)[0] if wanted else ""
            return f"{nobody} has `{key}: {shown}`" + _meant(shown, values)
    return f"{nobody} has all of these labels at once" if isinstance(selector, And) else ""


def _meant(word: str, known: Iterable[str]) -> str:
    close = nearest(word, known)
    return f": {close}" if close else f"; {one_of(known, _MOST)}"


def collected(labels: Labelled) -> Mapping[str, frozenset[str]]:
    """Key → all values."""
    found: dict[str, set[str]] = {}
    for item in labels:
        for key, value in item.items():
            found.setdefault(key, set()).add(value)
    return {key: frozenset(values) for key, values in found.items()}


def _parts(selector: Selector) -> tuple[Selector, ...]:
    return selector.parts if isinstance(selector, And) else (selector,)
