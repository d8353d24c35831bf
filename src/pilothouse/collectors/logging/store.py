"""What the log store should hold of ours, what it holds, and the plan from the one to the other.

Only what carries our owner and this cluster is ever changed or removed. What a server cannot take (lifecycle policies
without lifecycle management, roles by document without the licence for them) is left out by name, never silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from pilothouse.artifacts.model import Artifacts
from pilothouse.collectors.logging.differing import Body, Kind, differing
from pilothouse.collectors.logging.mapping import FieldConflict, conflicts, merged
from pilothouse.labels import CLUSTER_LABEL, OWNED_BY, OWNER
from pilothouse.problems import Problem, error, info, warning

FOLDER = "elasticsearch"


Key = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the server has. `modules` are those that every node has; `license` is its type, "" where none is told."""

    version: str
    modules: frozenset[str] = frozenset()
    license: str = ""
    security: bool = False

    @property
    def lifecycle(self) -> bool:
        return "x-pack-ilm" in self.modules

    @property
    def document_security(self) -> bool:
        """Roles that show some documents of an index: https://www.elastic.co/subscriptions."""
        return self.security and self.license in ("trial", "platinum", "enterprise")


@dataclass(frozen=True, slots=True)
class Stored:
    """One document as the server gives it; `users` are the indices that a lifecycle policy governs."""

    body: Body
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WriteIndex:
    """The index that a data stream or alias is written to now, with its mapping's body."""

    target: str
    index: str
    mapping: Body


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings and mapping that a new index of that name would get, and the templates that would not count."""

    settings: Body
    mapping: Body
    overlapping: tuple[str, ...] = ()


class LogStore(Protocol):
    """The server that a plan is made for. Every method may raise the exceptions of `problems`."""

    def abilities(self) -> Abilities: ...
    def stored(self, kind: Kind, prefix: str) -> Mapping[str, Stored]: ...
    def put(self, kind: Kind, name: str, body: Body) -> None: ...
    def remove(self, kind: Kind, name: str) -> None: ...
    def simulate(self, name: str, template: Body) -> Resolved: ...
    def resolved(self, index: str) -> Resolved: ...
    def write_indices(self, names: Iterable[str]) -> tuple[WriteIndex, ...]: ...
    def roll_over(self, target: str) -> str: ...


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A rendered document that this server cannot take."""

    kind: Kind
    name: str
    why: str


@dataclass(frozen=True)
class Desired:
    """The rendered documents that this server can take, and the others by name."""

    documents: Mapping[Key, Body]
    left_out: tuple[LeftOut, ...] = ()


NO_LIFECYCLE = "the server has no lifecycle management: nothing rolls over or deletes its indices"
NO_SECURITY = "the server's security is off: whoever reaches it reads everything"


def desired(artifacts: Artifacts, able: Abilities) -> Desired:
    """The documents below `elasticsearch/` as that server can take them."""
    documents: dict[Key, Body] = {}
    left: list[LeftOut] = []
    for kind in Kind:
        for document in artifacts.under(f"{FOLDER}/{kind.folder}"):
            name = document.path.rpartition("/")[2].removesuffix(".json")
            why = _refused(kind, document.data, able)
            if why:
                left.append(LeftOut(kind, name, why))
            else:
                documents[kind, name] = document.data
    gone = {(item.kind, item.name) for item in left}
    for (kind, name), body in list(documents.items()):
        if kind is Kind.TEMPLATE:
            pieces = [piece for piece in body["composed_of"] if (Kind.COMPONENT, piece) not in gone]
            documents[kind, name] = {**body, "composed_of": pieces}
        elif kind is Kind.ROLE_MAPPING and all((Kind.ROLE, role) in gone for role in body["roles"]):
            del documents[kind, name]
            left.append(LeftOut(kind, name, "its role is left out"))
    return Desired(documents, tuple(left))


def _refused(kind: Kind, body: Body, able: Abilities) -> str:
    """Why that server cannot take the document, or ""."""
    if kind is Kind.LIFECYCLE and not able.lifecycle:
        return NO_LIFECYCLE
    if (
        kind is Kind.COMPONENT
        and not able.lifecycle
        and "lifecycle" in body["template"].get("settings", {}).get("index", {})
    ):
        return NO_LIFECYCLE
    if kind in (Kind.ROLE, Kind.ROLE_MAPPING) and not able.security:
        return NO_SECURITY
    if kind is Kind.ROLE and not able.document_security and any("query" in item for item in body["indices"]):
        return f"its licence ({able.license or 'unknown'}) has no roles by document: nobody gets this role"
    return ""


# ---------------------------------------------------------------- the plan


class Action(StrEnum):
    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"
    ROLL_OVER = "roll over"


@dataclass(frozen=True, slots=True)
class Change:
    """One step. `before` and `after` are bodies; what is not there is None. `fields` are what differs."""

    action: Action
    kind: Kind
    name: str
    before: Body | None = None
    after: Body | None = None
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Steps in their order; errors among the problems forbid them."""

    changes: tuple[Change, ...]
    left_out: tuple[LeftOut, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.changes


def owner(kind: Kind, body: Body) -> Mapping[str, Any]:
    """The marks of ownership that a document carries."""
    where = {Kind.ROLE: "metadata", Kind.ROLE_MAPPING: "metadata"}.get(kind, "_meta")
    held: Any = body.get("policy", {}) if kind is Kind.LIFECYCLE else body
    found = held.get(where) or {}
    return found if isinstance(found, Mapping) else {}


def plan(
    cluster: str,
    wanted: Desired,
    current: Mapping[Key, Stored],
    writing: Iterable[WriteIndex] = (),
    roll_over: bool = False,
) -> Plan:
    """The steps that make `current` what is wanted.

    `writing` are the indices that records go to now. A mapping that would give one of their fields another type is an
    error unless they are rolled over, because one search would then see both types.
    """
    problems: list[Problem] = []
    steps: list[Change] = []
    for (kind, name), body in wanted.documents.items():
        stored = current.get((kind, name))
        if stored is None:
            steps.append(Change(Action.ADD, kind, name, None, body))
        elif kind is Kind.FIRST_INDEX:
            continue
        elif not _is_ours(kind, stored.body, cluster) and not _is_unclaimed(kind, stored.body):
            problems.append(_foreign(kind, name, stored.body, cluster))
        elif fields := differing(kind, body, stored.body):
            steps.append(Change(Action.CHANGE, kind, name, stored.body, body, fields))
    writing = tuple(writing)
    removals, found = _removals(cluster, wanted, current, {item.target: item.index for item in writing})
    problems += found
    steps.sort(key=lambda step: (step.kind.rank, step.name))
    removals.sort(key=lambda step: (-step.kind.rank, step.name))
    rollovers, found = _rollovers(cluster, wanted, writing, roll_over)
    return Plan((*steps, *removals, *rollovers), wanted.left_out, (*problems, *found))


def _removals(
    cluster: str, wanted: Desired, current: Mapping[Key, Stored], writing: Mapping[str, str]
) -> tuple[list[Change], list[Problem]]:
    """What is ours and no longer declared; a class whose records are still there keeps its documents."""
    left_out = {(item.kind, item.name) for item in wanted.left_out}
    gone = {
        key: stored
        for key, stored in current.items()
        # A first index holds records, and what is left out may be taken again tomorrow.
        if key not in wanted.documents
        and key not in left_out
        and key[0] is not Kind.FIRST_INDEX
        and _is_ours(key[0], stored.body, cluster)
    }
    problems = []
    used: set[str] = set()
    for (kind, name), stored in list(gone.items()):
        users = stored.users or ((writing[name],) if kind is Kind.TEMPLATE and name in writing else ())
        if not users:
            continue
        del gone[kind, name]
        used.update(stored.body.get("composed_of", ()))
        problems.append(
            info(
                "logging/class-in-use",
                f"the {kind} {name} of {cluster} is no longer declared, and {users[0]}"
                + (f" and {len(users) - 1} more" if len(users) > 1 else "")
                + " still depends on it",
                hint="it stays until those records are gone; apply again then",
                cluster=cluster,
            )
        )
    removals = [
        Change(Action.REMOVE, kind, name, stored.body, None)
        for (kind, name), stored in gone.items()
        if kind is not Kind.COMPONENT or name not in used
    ]
    return removals, problems


def _is_ours(kind: Kind, body: Body, cluster: str) -> bool:
    found = owner(kind, body)
    return found.get(OWNED_BY) == OWNER and found.get(CLUSTER_LABEL) == cluster


def _is_unclaimed(kind: Kind, body: Body) -> bool:
    """Rendered by us and put there by hand before documents named their cluster."""
    found = owner(kind, body)
    return found.get(OWNED_BY) == OWNER and CLUSTER_LABEL not in found


def _foreign(kind: Kind, name: str, body: Body, cluster: str) -> Problem:
    other = str(owner(kind, body).get(CLUSTER_LABEL, ""))
    whose = f"belongs to the cluster {other}" if other else "is not ours"
    return error(
        "logging/foreign-document",
        f"the {kind} {name} of {cluster}'s log store {whose}, so it is left as it is and nothing is changed",
        hint="remove it by hand, or give this cluster a `prefix` of its own in collectors/elasticsearch/retention.yaml",
        cluster=cluster,
    )


def _rollovers(
    cluster: str, wanted: Desired, writing: Iterable[WriteIndex], roll_over: bool
) -> tuple[list[Change], list[Problem]]:
    steps: list[Change] = []
    problems: list[Problem] = []
    templates = {name: body for (kind, name), body in wanted.documents.items() if kind is Kind.TEMPLATE}
    for item in writing:
        template = templates.get(item.target)
        if template is None:
            continue
        whole = composed(template, wanted.documents)
        found = conflicts(item.mapping, whole.get("mappings", {}))
        if found and roll_over:
            fields = tuple(conflict.field for conflict in found)
            steps.append(Change(Action.ROLL_OVER, Kind.FIRST_INDEX, item.target, None, None, fields))
        elif found:
            problems.extend(_conflict(cluster, item, conflict) for conflict in found)
    return steps, problems


def _conflict(cluster: str, item: WriteIndex, conflict: FieldConflict) -> Problem:
    return error(
        "logging/mapping-conflict",
        f"the field `{conflict.field}` would become {conflict.wanted} on {cluster}, and in {item.index} it is "
        f"{conflict.held}: one search would meet both",
        hint="give the field another name, or apply with --roll-over: new records then go to a new index, and the old "
        "one ends with its retention",
        cluster=cluster,
    )


def composed(template: Body, documents: Mapping[Key, Body]) -> Body:
    """An index template's body with its component templates put into it, in their order."""
    whole: dict[str, Any] = {}
    for name in template["composed_of"]:
        piece = documents.get((Kind.COMPONENT, name))
        if piece is not None:
            whole = merged(whole, piece["template"])
    return merged(whole, template["template"])


def shadowed(cluster: str, name: str, expected: Body, found: Resolved) -> list[Problem]:
    """What differs between the mapping we meant for an index and the one it would get: a template above ours."""
    missing = conflicts(found.mapping, expected.get("mappings", {}), strict=True)
    if not missing:
        return []
    others = f", beside {', '.join(found.overlapping)}" if found.overlapping else ""
    return [
        warning(
            "logging/shadowed-template",
            f"a new index of {name} on {cluster} would not get our mapping{others}: `{missing[0].field}` would be "
            f"{missing[0].held}, and {missing[0].wanted} is meant",
            hint="raise `priority` in collectors/elasticsearch/retention.yaml, or narrow the other template's patterns",
            cluster=cluster,
        )
    ]
