"""A live cluster read as a snapshot.

Raw JSON is read, page by page, and never the kubernetes package's models: those take many times the memory, and turn
names into snake case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pilothouse.clients.kubernetes.api import Api
from pilothouse.clients.kubernetes.connect import to_context
from pilothouse.clients.kubernetes.kinds import CALICO, CORE, OPTIONAL, Kind
from pilothouse.clients.kubernetes.transport import Answered
from pilothouse.inventory.model import Snapshot
from pilothouse.inventory.parse import Locate, at, parse
from pilothouse.labels import OWNED_BY, OWNER
from pilothouse.problems import Denied, Place, Problem, Problems, Unavailable, ordered, warning

Progress = Callable[[str, int], None]
"""Told the kind and how many objects of it have arrived."""
Keep = Callable[[Mapping[str, Any]], None]
"""Given each object as it was read."""


@dataclass
class _Reader:
    """One reading of a cluster."""

    api: Api
    page: int
    progress: Progress | None
    keep: Keep | None = None
    problems: list[Problem] = field(default_factory=list)
    absent: list[Kind] = field(default_factory=list)

    def objects(self) -> Iterator[tuple[Any, Locate]]:
        for kind in CORE:
            yield from self.kind(kind)
        served = self.api.served()
        for kinds in CALICO:
            if served is not None and kinds[0].group_version not in served:
                self.absent.extend(kinds)
                continue
            before = len(self.absent)
            for kind in kinds:
                yield from self.kind(kind)
            if len(self.absent) - before < len(kinds):
                break  # this group is served (a version of Calico may lack single kinds)
        for kind in OPTIONAL:
            if served is None or kind.group_version in served:
                yield from self.kind(kind)
            else:
                self.absent.append(kind)

    def kind(self, kind: Kind) -> Iterator[tuple[Any, Locate]]:
        where = at(Place(f"{self.api.host}{kind.path}"))
        try:
            items = self.api.objects(kind, self.page, progress=self.progress)
        except Answered as answer:
            if answer.status == 404:
                self.absent.append(kind)
            elif answer.status == 403:
                self.problems.append(self.forbidden(kind, answer))
            elif answer.status == 401:
                raise Denied(
                    f"{self.api.host} refused the credentials: {answer.said}", self.api.transport.hint
                ) from answer
            else:
                raise Unavailable(
                    f"{self.api.host} answered {answer.status} to a list of {kind.resource}: {answer.said}",
                    "try again; `kubectl get --raw /readyz?verbose` says how the API server is",
                ) from answer
            return
        for item in items:
            shown = _without_managers(item) if isinstance(item, dict) else item
            if self.keep and isinstance(shown, dict):
                self.keep(shown)
            yield shown, where

    def forbidden(self, kind: Kind, answer: Answered) -> Problem:
        return warning(
            "inventory/forbidden-kind",
            f"{kind.resource} may not be listed: {answer.said}",
            Place(f"{self.api.host}{kind.path}"),
            f"ask for the verb `list` on `{kind.resource}` in all namespaces: what depends on them is missing",
        )


def _without_managers(item: dict[str, Any]) -> dict[str, Any]:
    """Without the record of who set which field: half of an object, and kubectl does not show it either.

    Of what is ours it stays, because it says what we once wrote.
    """
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or (metadata.get("labels") or {}).get(OWNED_BY) == OWNER:
        return item
    return {**item, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}


def snapshot(
    kubeconfig: str | None = None,
    context: str | None = None,
    page: int = 500,
    progress: Progress | None = None,
) -> tuple[Snapshot, Problems]:
    """The cluster of that kubeconfig and context, by default the current one; inside a pod, its own cluster.

    Raises `Invalid` without a usable kubeconfig, else as `read_cluster`.
    """
    api = Api(to_context(kubeconfig, context))
    try:
        return read_cluster(api, page, progress)
    finally:
        api.close()


def read_cluster(
    api: Api, page: int = 500, progress: Progress | None = None, keep: Keep | None = None
) -> tuple[Snapshot, Problems]:
    """What runs there now. `keep` is given every object as the server sent it.

    A kind that may not be listed is a problem, a kind that the cluster does not serve is counted as 0 in `others`.
    Raises `Denied` when the credentials are refused, and `Unavailable` when the server does not answer.
    """
    reader = _Reader(api, page, progress, keep)
    found, problems = parse(reader.objects(), source=api.host)
    others = {**found.others, **{f"{kind.name}.{kind.group}" if kind.group else kind.name: 0 for kind in reader.absent}}
    return replace(found, others=dict(sorted(others.items()))), ordered((*problems, *reader.problems))
