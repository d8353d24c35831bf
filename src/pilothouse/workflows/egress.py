"""Propose a change of what a service may talk to: look at its effect, and learn who must agree.

Git is the only truth: a proposal lies in the store until everybody has agreed, and is then one commit,
with the author, who approved, and the reason. Where the service at the other end lists who may reach it, the
proposal carries that line of the other document along, and the other team is asked. What a service declares already,
and the other end does not let in, is asked for without any change of its own document (`asks`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from pilothouse.access.permissions import Action, Change, Decision, Person, may
from pilothouse.inputs import Inputs
from pilothouse.platform import documents, edit
from pilothouse.platform.model import Edge, Platform, Service, ServicePeer
from pilothouse.policies import guardrails
from pilothouse.policies.compare import effect
from pilothouse.policies.compare.effect import Effect, new_problems
from pilothouse.policies.edges import ServiceEdge
from pilothouse.policies.guardrails import Approval, By
from pilothouse.problems import (
    Denied,
    Invalid,
    Place,
    Problem,
    Problems,
    error,
    has_errors,
    nearest,
    one_of,
    ordered,
)
from pilothouse.source import Source
from pilothouse.workflows import neighbours, strays
from pilothouse.workflows.neighbours import Neighbour
from pilothouse.workflows.rendering import Opened, inputs_for, with_texts

KIND = "egress"

InputsOf = Callable[[str], Inputs]
"""The inputs of a cluster as they are now; a page hands in those that it keeps."""


@dataclass(frozen=True)
class Target:
    """A service, and the document that declares it: `path` below the platform's folder, `text` of the whole file."""

    service: Service
    path: str
    text: str


@dataclass(frozen=True)
class Needed:
    """Somebody who must agree: `role` is `second-person:TEAM` or `team:TEAM`, `why` the reason in words."""

    role: str
    why: str

    @property
    def team(self) -> str:
        return self.role.partition(":")[2]


@dataclass(frozen=True)
class Preview:
    """What a text would do. `files` are all files that change, by path; `effects` the clusters where traffic changes.

    `problems` are those that the change brings; with an error among them it cannot be submitted. `after` is the
    service as the text declares it, None where that cannot be read.
    """

    target: Target
    files: Mapping[str, str]
    problems: Problems = ()
    effects: Mapping[str, Effect] = field(default_factory=dict)
    needed: tuple[Needed, ...] = ()
    after: Service | None = None
    is_known: bool = True
    """Whether the effect is known: it is not while the documents themselves have errors."""
    clusters: tuple[str, ...] = ()
    """Those that the service runs on, before or after."""
    neighbours: tuple[Neighbour, ...] = ()
    """Who comes and where it goes, with what the change brings and takes marked, over all clusters."""
    asks: tuple[str, ...] = ()
    """Services that are asked to let in what is declared already."""

    @property
    def can_submit(self) -> bool:
        return not has_errors(self.problems) and bool(self.files)

    @property
    def others(self) -> tuple[str, ...]:
        """Paths of the documents of other services that change along."""
        return tuple(path for path in self.files if path != self.target.path)

    @property
    def groups(self) -> tuple[tuple[tuple[str, ...], Effect], ...]:
        """The effects, clusters with the same one together; `example` is that of the first of them."""
        found: dict[object, list[str]] = {}
        for cluster, item in self.effects.items():
            same = tuple(replace(change, example="") for change in item.changes)
            cut = tuple(part for part in item.cut if part.is_new)
            found.setdefault((same, item.isolation, cut), []).append(cluster)
        return tuple((tuple(clusters), self.effects[clusters[0]]) for clusters in found.values())

    @property
    def summary(self) -> str:
        """One line: nothing changes, or what changes on which clusters."""
        if not self.files:
            return "nothing is changed yet"
        if not self.is_known:
            return "the document has errors, so its effect is not known"
        if not self.effects:
            return "changes no connection on any cluster"
        where: dict[str, list[str]] = {}
        for cluster, found in self.effects.items():
            where.setdefault(found.summary, []).append(cluster)
        every = len(self.clusters) > 1
        return "; ".join(
            f"{text} on {'every cluster' if every and set(names) == set(self.clusters) else ', '.join(names)}"
            for text, names in where.items()
        )


def target(opened: Opened, key: str) -> Target:
    """The document of a service that may be changed here: `Invalid` for an unknown one, or one of another layer."""
    services = opened.loaded.platform.services
    service = services.get(key)
    if service is None:
        raise Invalid(f"no service `{key}` is declared", nearest(key, services) or one_of(services))
    source = opened.loaded.source(service.place.path)
    if source is None or source.path.startswith("../"):
        raise Invalid(
            f"{key} is declared in {service.place.path or 'another folder'}, which this platform only extends",
            "change it there",
        )
    return Target(service, source.path, source.text)


def edges_in(target: Target, text: str) -> tuple[Edge, ...]:
    """The egress of the service as that text declares it; `Invalid` where it cannot be read."""
    read = documents.read((Source(target.path, text),))
    found = read.platform.services.get(target.service.key)
    if found is None:
        raise Invalid("the YAML cannot be read, so the form cannot change it", "mend the YAML first", read.problems)
    return found.egress


def with_edges(
    text: str, key: str, add: Iterable[Mapping[str, Any]] = (), remove: Iterable[int] = (), field_: str = "egress"
) -> str:
    """The text with items added to and removed (by index, from 0) from a list of edges; the rest stays as written."""
    for index in sorted(set(remove), reverse=True):
        text = edit.remove_item(text, key, field_, index)
    for item in add:
        text = edit.add_item(text, key, field_, _as_people_write(item))
    return text


_ORDER = ("to", "from", "ports", "clusters", "reason", "expires")


def _as_people_write(item: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in the order of the documents; a date that came as text (JSON has none) without quotes."""
    found = {name: item[name] for name in (*_ORDER, *sorted(set(item) - set(_ORDER), key=str)) if name in item}
    if isinstance(found.get("expires"), str):
        try:
            found["expires"] = date.fromisoformat(found["expires"])
        except ValueError:
            return found  # the document's own check says what is wrong with it, at its line
    return found


def preview(
    opened: Opened,
    key: str,
    text: str,
    today: date,
    inputs_of: InputsOf | None = None,
    author: Person | None = None,
    clusters: Collection[str] = (),
    asks: Collection[str] = (),
) -> Preview:
    """What would follow if the file of the service had that text, on those clusters (none named: on all).

    `asks` are services (`namespace/name`) whose list of who may come gains what the text declares towards them. One
    that lets it in already, or has no list, is not asked.

    Whatever is wrong with the text is among the problems; it is never raised, so that nothing typed is lost. The
    platform is the one that was opened, whatever somebody writes into its folder meanwhile.
    """
    found = target(opened, key)
    if text == found.text and not asks:
        return Preview(found, {}, after=found.service)
    files = {found.path: text} if text != found.text else {}
    try:
        candidate = with_texts(opened, files)
    except Invalid as failure:
        problem = error("egress/unreadable", failure.message, Place(found.path), failure.hint)
        return Preview(found, files, (problem,), is_known=False)
    after = candidate.loaded.platform.services.get(key)
    problems = list(new_problems(opened.problems, candidate.problems))
    besides = strays.of(
        opened.loaded.platform, candidate.loaded.platform, found.service, found.path, (found.text, text)
    )
    asked: tuple[str, ...] = ()
    if after is not None and not besides:
        along, asked = _companions(opened, candidate, found.service, after, files, asks)
        if along:
            files |= along
            candidate = with_texts(opened, files)
            after = candidate.loaded.platform.services.get(key)
            problems = list(new_problems(opened.problems, candidate.problems))
    if not files:
        return Preview(found, {}, after=found.service)
    problems += besides
    if after is None:
        # A service that cannot be read is missing for others too: what they then say of it is no mistake of theirs.
        own = [problem for problem in problems if problem.place.path == found.path]
        problems = own if has_errors(own) else problems
    if after is None and not has_errors(problems):
        problems.append(strays.gone(found.service))
    if has_errors(problems) or after is None:
        return Preview(found, files, ordered(problems), after=after, is_known=False, asks=asked)
    effects, more, around = _effects(opened, candidate, found.service, after, today, inputs_of, clusters)
    problems += [problem for problem in more if problem.place.path in files or found.service.team in problem.teams]
    needed = _needed(opened, candidate, found.service, after, files, author)
    runs_on = tuple(name for name in opened.loaded.platform.clusters if _runs(name, found.service, after))
    return Preview(found, files, ordered(problems), effects, needed, after, True, runs_on, around, asked)


def _companions(
    opened: Opened,
    candidate: Opened,
    before: Service,
    after: Service,
    files: Mapping[str, str],
    asks: Collection[str] = (),
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Other documents that must change along: lists of `ingress` at the other end that gain or lose this service; and
    which of `asks` they are of."""
    changed: dict[str, str] = {}
    asked: list[str] = []
    services = candidate.loaded.platform.services
    for peer in sorted({str(e.peer) for e in (*before.egress, *after.egress) if isinstance(e.peer, ServicePeer)}):
        other = services.get(peer)
        if other is None or other.ingress is None or other.key == after.key:
            continue
        source = opened.loaded.source(other.place.path)
        was, now = _towards(before, other), _towards(after, other)
        remove, add = _other_end(after, other.ingress, was, now)
        if other.key in asks and not (remove or add):
            remove, add = _other_end(after, other.ingress, (), now)
        if source is None or source.path.startswith("../") or not (remove or add):
            continue
        text = changed.get(source.path) or files.get(source.path) or source.text
        items = [_ingress_item(after, edge) for edge in add]
        changed[source.path] = with_edges(text, other.key, items, remove, "ingress")
        if other.key in asks:
            asked.append(other.key)
    return changed, tuple(asked)


def _other_end(
    service: Service, listed: Sequence[Edge], was: Sequence[Edge], now: Sequence[Edge]
) -> tuple[list[int], list[Edge]]:
    """Which items of the other end's list go (by index), and which edges it has to gain."""
    ours = {i: edge for i, edge in enumerate(listed) if edge.peer == ServicePeer(service.namespace, service.name)}
    if {_shape(edge) for edge in was} == {_shape(edge) for edge in now}:
        return [], []
    wanted = {_shape(edge) for edge in now}
    gone = {_shape(edge) for edge in was} - wanted
    remove = [i for i, edge in ours.items() if not now or _shape(edge) in gone]
    left = [edge for i, edge in ours.items() if i not in remove]
    return remove, [edge for edge in now if not any(_covers(item, edge) for item in left)]


def _shape(edge: Edge) -> tuple[object, ...]:
    """What the two ends of a connection have in common."""
    return (frozenset(edge.ports), edge.clusters)


def _covers(listed: Edge, edge: Edge) -> bool:
    ports = not listed.ports or (bool(edge.ports) and set(edge.ports) <= set(listed.ports))
    return ports and (not listed.clusters or (bool(edge.clusters) and edge.clusters <= listed.clusters))


def _towards(service: Service, other: Service) -> tuple[Edge, ...]:
    return tuple(edge for edge in service.egress if edge.peer == ServicePeer(other.namespace, other.name))


def _ingress_item(service: Service, edge: Edge) -> dict[str, Any]:
    """The other end of an egress, as an item of the other document's list."""
    item: dict[str, Any] = {"from": {"service": service.key}}
    if edge.ports:
        item["ports"] = [
            port.name or (port.number if not port.end and not port.protocol else str(port)) for port in edge.ports
        ]
    if edge.clusters:
        item["clusters"] = sorted(edge.clusters)
    return item


def _effects(
    opened: Opened,
    candidate: Opened,
    before: Service,
    after: Service,
    today: date,
    inputs_of: InputsOf | None,
    clusters: Collection[str],
) -> tuple[dict[str, Effect], list[Problem], tuple[Neighbour, ...]]:
    effects: dict[str, Effect] = {}
    problems: list[Problem] = []
    around: dict[str, neighbours.Ends] = {}
    platform = candidate.loaded.platform
    for name in platform.clusters:
        if not _runs(name, before, after) or (clusters and name not in clusters):
            continue
        now = inputs_of(name) if inputs_of else inputs_for(opened, name, today)[0]
        then = replace(now, platform=platform, cluster=platform.clusters[name], content=candidate.loaded.content)
        problems += new_problems(guardrails.check_guardrails(now), guardrails.check_guardrails(then))
        found = effect.compare(now, then, after.key)
        problems += found.problems
        around[name] = (_declared(found.edges_before), _declared(found.edges_after))
        if found.changes or found.isolation or any(cut.is_new for cut in found.cut):
            effects[name] = replace(found, edges_before=(), edges_after=())
    return effects, _said_once(problems), neighbours.compare(around)


def _runs(cluster: str, *services: Service) -> bool:
    return any(service.runs_on(cluster) for service in services)


def _declared(edges: Iterable[ServiceEdge]) -> tuple[ServiceEdge, ...]:
    return tuple(edge for edge in edges if not edge.is_implied)


def _said_once(problems: Iterable[Problem]) -> list[Problem]:
    """The same line of the same document, found on several clusters, is one problem that names them all."""
    found: dict[object, list[Problem]] = {}
    for problem in problems:
        text = problem.message.replace(f"cluster {problem.cluster}", "cluster")
        found.setdefault((problem.code, text, problem.place), []).append(problem)
    said = []
    for same in found.values():
        first, names = same[0], ", ".join(dict.fromkeys(item.cluster for item in same if item.cluster))
        if len(same) > 1:
            text = first.message.replace(f"cluster {first.cluster}", f"clusters {names}")
            first = replace(first, message=text, cluster=names)
        said.append(first)
    return said


def _needed(
    opened: Opened, candidate: Opened, before: Service, after: Service, files: Mapping[str, str], author: Person | None
) -> tuple[Needed, ...]:
    """Who must agree, each role once with every reason; the author's own team is not asked by itself."""
    platform, content = opened.loaded.platform, opened.loaded.content
    why: dict[str, list[str]] = {}
    if before.team != after.team:
        why[f"team:{after.team}"] = [f"{after.key} becomes a service of team {after.team}"]
    for approval in guardrails.review(before, after, content, platform):
        why.setdefault(_role(approval), []).append(approval.why)
    for other in platform.services.values():
        if other.key == after.key or other.place.path not in files:
            continue
        # A document that changes along is judged like one that somebody changed by hand.
        for approval in guardrails.review(other, candidate.loaded.platform.services.get(other.key), content, platform):
            if approval.team != after.team or approval.by is By.SECOND_PERSON:
                why.setdefault(_role(approval), []).append(approval.why)
        if other.team != after.team and f"team:{other.team}" not in why:
            why[f"team:{other.team}"] = [f"the document of {other.key} changes along"]
    for role in [name for name in why if name.startswith("second-person:")]:
        # Whoever agrees as the second person of a team agrees for that team.
        why[role] += why.pop(f"team:{role.partition(':')[2]}", [])
    for team in author.teams if author else ():
        why.pop(f"team:{team}", None)
    return tuple(Needed(role, "; ".join(dict.fromkeys(reasons))) for role, reasons in sorted(why.items()))


def _role(approval: Approval) -> str:
    return f"{'second-person' if approval.by is By.SECOND_PERSON else 'team'}:{approval.team}"


# ---------------------------------------------------------------- decisions


def may_propose(person: Person, service: Service, platform: Platform) -> Decision:
    return may(person, Action.PROPOSE, service, platform)


def may_agree(person: Person, role: str, why: str, author: str, platform: Platform) -> Decision:
    """Whether the person may agree in that role; nobody agrees to their own proposal."""
    kind, _, team = role.partition(":")
    if person.user == author:
        approvers = platform.teams[team].approvers if team in platform.teams else ()
        return Decision(False, "nobody agrees to their own proposal", tuple(u for u in approvers if u != author))
    return may(person, Action.APPROVE, Change(team, author, why if kind == "second-person" else ""), platform)


def require_submittable(found: Preview, reason: str) -> None:
    """Raise `Invalid` with every problem that keeps the change from being submitted."""
    if not found.files:
        raise Invalid("nothing is changed", "change the document, or add or remove a destination")
    if not reason.strip():
        raise Invalid("a proposal needs a reason", "say why in one sentence; it becomes part of the commit")
    if has_errors(found.problems):
        raise Invalid("the change has errors", "mend them first", found.problems)


def require_may(decision: Decision) -> None:
    if not decision:
        raise Denied(decision.why, f"ask {', '.join(decision.whom_to_ask)}" if decision.whom_to_ask else "")
