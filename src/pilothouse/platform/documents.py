"""Documents in, declared values out: the parse module of this room.

`parse` reads every document of every source and returns the platform together with all
problems; a document with a problem is left out of the platform and remembered in
`Platform.unreadable`, so that nobody who refers to it is blamed as well.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from pilothouse import source
from pilothouse.labels import API_VERSION
from pilothouse.platform.model import AccessProfile, Cluster, Platform, Service, Team
from pilothouse.platform.schemas.cluster import ClusterDocument
from pilothouse.platform.schemas.platform import PlatformDocument
from pilothouse.platform.schemas.profile import ProfileDocument
from pilothouse.platform.schemas.service import ServiceDocument
from pilothouse.platform.schemas.team import TeamDocument
from pilothouse.problems import Place, Problem, Problems, error, nearest, one_of, ordered
from pilothouse.source import Node, Source

MODELS: Mapping[str, type[BaseModel]] = {
    "AccessProfile": ProfileDocument,
    "Cluster": ClusterDocument,
    "Platform": PlatformDocument,
    "Service": ServiceDocument,
    "Team": TeamDocument,
}
"""The model of each kind."""

AREA = "platform"


@dataclass(frozen=True, slots=True)
class Extension:
    """A folder that a `Platform` document extends, as written, and where it is written."""

    folder: str
    place: Place


@dataclass(frozen=True)
class Documents:
    """One layer of documents as read: its own platform, what it extends, and every problem.

    `places` says where each document stands, by (kind, key).
    """

    platform: Platform = field(default_factory=Platform)
    extends: tuple[Extension, ...] = ()
    problems: Problems = ()
    places: Mapping[tuple[str, str], Place] = field(default_factory=dict)


def parse(sources: Iterable[Source]) -> tuple[Platform, Problems]:
    """The platform that the documents of all sources declare, and every problem.

    `extends` of a `Platform` document is left to `files.platform`, which can read folders.
    """
    documents = read(sources)
    return documents.platform, documents.problems


def read(sources: Iterable[Source]) -> Documents:
    """As `parse`, for one layer of a platform that may extend others."""
    reader = _Reader()
    for item in sources:
        nodes, problems = source.load(item)
        reader.problems.extend(problems)
        if any(problem.code != "source/duplicate-key" for problem in problems):
            reader.unreadable.add(item.path)
        for node in nodes:
            reader.document(node)
    return reader.finish()


def lay_over(lower: Platform, upper: Platform) -> Platform:
    """The documents of both; where kind and name are the same, the upper one's."""
    return Platform(
        name=upper.name or lower.name,
        teams=_sorted({**lower.teams, **upper.teams}),
        clusters=_sorted({**lower.clusters, **upper.clusters}),
        services=_sorted({**lower.services, **upper.services}),
        profiles=_sorted({**lower.profiles, **upper.profiles}),
        unreadable=lower.unreadable | upper.unreadable,
    )


def _sorted(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(values.items()))


class _Reader:
    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.unreadable: set[str] = set()
        self.places: dict[tuple[str, str], Place] = {}
        self.values: dict[str, dict[str, Any]] = {kind: {} for kind in MODELS}
        self.extends: tuple[Extension, ...] = ()
        self.name = ""

    def document(self, node: Node) -> None:
        kind = self._kind(node)
        if not kind:
            return
        key = document_key(node, kind)
        model, problems = source.validate(node, MODELS[kind], AREA)
        self.problems.extend(problems)
        place = node.at("metadata", "name")
        if key:
            first = self.places.setdefault((kind, key), place)
            if first is not place:
                self.problems.append(_duplicate(kind, key, place, first))
                return
        if model is None:
            self.unreadable.add(f"{kind} {key}" if key else node.source.path)
        elif isinstance(model, PlatformDocument):
            self._platform(node, model)
        else:
            value: Callable[[Node], Any] = model.value  # type: ignore[attr-defined]  # every other model has it
            self.values[kind][key] = value(node)

    def _platform(self, node: Node, model: PlatformDocument) -> None:
        if self.name:
            others = [place for (kind, _), place in self.places.items() if kind == "Platform"]
            self.problems.append(
                error(
                    "platform/duplicate-document",
                    f"a second Platform document, `{model.metadata.name}`",
                    node.at("metadata", "name"),
                    "keep one Platform document in a folder",
                    related=tuple(others[:1]),
                )
            )
            return
        self.name = model.metadata.name
        self.extends = tuple(
            Extension(folder, node.at("spec", "extends", index)) for index, folder in enumerate(model.spec.extends)
        )

    def _kind(self, node: Node) -> str:
        """The kind of a document that is one of ours, or "" with a problem noted."""
        data = node.data
        if not isinstance(data, dict):
            self._refuse(
                node, error("platform/not-a-document", "this is no document: a mapping is expected", node.at(), _SHAPE)
            )
            return ""
        kind, version = data.get("kind"), data.get("apiVersion")
        if not isinstance(kind, str) or not isinstance(version, str):
            missing = "kind" if not isinstance(kind, str) else "apiVersion"
            self._refuse(
                node, error("platform/not-a-document", f"this document has no `{missing}`", node.at(missing), _SHAPE)
            )
            return ""
        if version != API_VERSION:
            self._refuse(node, _wrong_version(node, kind, version))
            return ""
        if kind not in MODELS:
            self._refuse(
                node,
                error(
                    "platform/unknown-kind",
                    f"there is no kind `{kind}`",
                    node.at("kind"),
                    nearest(kind, MODELS) or one_of(MODELS),
                ),
            )
            return ""
        return kind

    def _refuse(self, node: Node, problem: Problem) -> None:
        self.problems.append(problem)
        self.unreadable.add(_meant(node) or node.source.path)

    def finish(self) -> Documents:
        teams: dict[str, Team] = self.values["Team"]
        clusters: dict[str, Cluster] = self.values["Cluster"]
        services: dict[str, Service] = self.values["Service"]
        profiles: dict[str, AccessProfile] = self.values["AccessProfile"]
        return Documents(
            Platform(
                self.name,
                _sorted(teams),
                _sorted(clusters),
                _sorted(services),
                _sorted(profiles),
                frozenset(self.unreadable),
            ),
            self.extends,
            ordered(self.problems),
            dict(sorted(self.places.items())),
        )


_SHAPE = f"a document starts with `apiVersion: {API_VERSION}` and `kind:`, one of {', '.join(MODELS)}"


def document_key(node: Node, kind: str) -> str:
    """`namespace/name` of a service, the name of anything else; "" where the document does not say."""
    metadata = node.data.get("metadata")
    if not isinstance(metadata, dict):
        return ""
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str):
        return ""
    if kind != "Service":
        return name
    return f"{namespace}/{name}" if isinstance(namespace, str) else ""


def _meant(node: Node) -> str:
    """Such as `Service payments/api`, where a document that is refused still says what it declares, or ""."""
    kind = node.data.get("kind") if isinstance(node.data, dict) else None
    kinds = difflib.get_close_matches(kind, MODELS, n=1) if isinstance(kind, str) else []
    key = document_key(node, kinds[0]) if kinds else ""
    return f"{kinds[0]} {key}" if key else ""


def _duplicate(kind: str, key: str, place: Place, first: Place) -> Problem:
    return error(
        "platform/duplicate-document",
        f"{kind} `{key}` is declared twice",
        place,
        f"remove one of them, or give it another name: it is first declared at {first}",
        related=(first,),
    )


def _wrong_version(node: Node, kind: str, version: str) -> Problem:
    group = API_VERSION.partition("/")[0]
    if version.partition("/")[0] == group:
        message = f"apiVersion `{version}` is unknown to this pilothouse"
        hint = f"write `{API_VERSION}`, or use a release of pilothouse that reads `{version}`"
    elif kind in MODELS:
        message = f"apiVersion `{version}` is not pilothouse's"
        hint = nearest(version, [API_VERSION]) or f"write `apiVersion: {API_VERSION}`"
    else:
        message = f"a {kind} of `{version}` is no declaration"
        hint = "move Kubernetes manifests out of the platform folder, or into its `snapshots/`"
    return error("platform/unknown-api-version", message, node.at("apiVersion"), hint)
