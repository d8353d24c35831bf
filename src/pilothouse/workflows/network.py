"""The network of one cluster as its policies make it, for whoever asks about it again and again: a page, an API.

What a question needs is made once and kept: after the first a question takes milliseconds.
"""

from __future__ import annotations

import shlex
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from pilothouse.inputs import Inputs
from pilothouse.platform.edit import flow
from pilothouse.platform.model import CidrPeer, Platform, Service, ServicePeer
from pilothouse.policies import adoption, edges
from pilothouse.policies import site as sites
from pilothouse.policies.address_names import NODE_LOCAL_DNS
from pilothouse.policies.adoption import NamespaceMode
from pilothouse.policies.ask import Answer, ask, parse
from pilothouse.policies.compare import beside as besides
from pilothouse.policies.compare.adopting import Adopting, adopting
from pilothouse.policies.compare.beside import Beside
from pilothouse.policies.compare.groups import Change
from pilothouse.policies.compare.map import Link, Map, Only, draw_up
from pilothouse.policies.content import read
from pilothouse.policies.derive import derive
from pilothouse.policies.edges import Edges, Origin, ServiceEdge
from pilothouse.policies.engine import Reach
from pilothouse.policies.explain import Explanation, explain
from pilothouse.policies.explain.declare import Line, edge_data
from pilothouse.policies.explain.edits import Edit
from pilothouse.policies.flows.model import Flow
from pilothouse.policies.flows.promotion import Candidate, candidates
from pilothouse.policies.parties import Kind, Party
from pilothouse.policies.rules import Direction
from pilothouse.policies.site import Site
from pilothouse.problems import PilothouseError, Problem, Severity
from pilothouse.workflows.neighbours import Mark, Neighbour
from pilothouse.workflows.policy_flows import read_flows

FLOWS = "flows"
"""Below a platform's folder: observed flows, `flows/CLUSTER.*` or `flows/CLUSTER/*`, each a window by itself."""
MOST_FLOW_BYTES = 64_000_000
"""Of the files of one cluster; with more the command line is asked."""
MANY_PODS = 2_000
"""On a cluster with more pods an edit that flips a verdict takes seconds to find."""
KEPT = 16
"""So many answers are kept for each cluster."""
EVERYBODY = Only()

Value = TypeVar("Value")


@dataclass(frozen=True)
class Observed:
    """Flows that lie beside a platform. `files` are their names, `reason` why there are none or not all."""

    readings: tuple[tuple[Flow, ...], ...] = ()
    files: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Adoption:
    """Every governed namespace: what ends once it is enforced, and what observed flows say of that."""

    rows: tuple[Adopting, ...]
    candidates: Mapping[str, Candidate]
    observed: Observed


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its answer; `found` and its stories where a port was named. `edits` says whether edits were
    looked for."""

    answer: Answer
    found: Explanation | None = None
    edits: bool = False


class Network:
    """One cluster of one platform. Safe for many threads: what is not kept yet is made by one of them."""

    def __init__(self, inputs: Inputs, declared: Edges | None = None) -> None:
        self.inputs = inputs
        self.edges = edges.of(inputs) if declared is None else declared
        self._making = Lock()
        self._kept: OrderedDict[object, Any] = OrderedDict()
        self._sites: dict[bool, Site] = {}
        self._declared: dict[bool, Reach | None] = {}

    @property
    def cluster(self) -> str:
        return self.inputs.cluster.name

    @property
    def is_large(self) -> bool:
        return len(self.inputs.snapshot.pods) > MANY_PODS

    @cached_property
    def modes(self) -> Mapping[str, NamespaceMode]:
        """Every namespace; empty where the baseline cannot be read."""
        baseline = read(self.inputs.content).baseline
        return {} if baseline is None else adoption.modes(self.inputs, baseline)

    def site(self, enforced: bool = False) -> Site:
        """As the policies hold now, or as if every governed namespace were enforced."""
        found = self._sites.get(enforced)
        if found is None:
            with self._making:
                if enforced not in self._sites:
                    if not self._sites:
                        self._derived = derive(self.inputs)
                    made = sites.of_platform(self.inputs, self._derived, as_if_enforced=enforced)
                    made.engine.reach, made.edges  # noqa: B018  # whoever asks next need not wait
                    self._sites[enforced] = made
                found = self._sites[enforced]
        return found

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What of the policies is not understood, and left out of every answer."""
        return tuple(item for item in self.site().problems if item.severity is Severity.ERROR)

    # -------------------------------------------------------- answers

    def ask(
        self, source: str, destination: str, port: str = "", *, enforced: bool = False, edits: bool = True
    ) -> Asked:
        """Whether one end reaches another; with a port also why, and with `edits` what would change that.

        Raises `Invalid` where an end or the port means nothing.
        """
        site = self.site(enforced)
        packet = parse(port) if port else None
        if packet is None:
            return Asked(ask(site, source, destination))

        def make() -> Asked:
            found = explain(site, source, destination, packet, edits=edits)
            return Asked(found.answer, found, edits)

        return self._lately((source, destination, port, enforced, edits), make)

    def map(self, only: Only = EVERYBODY, *, enforced: bool = False) -> Map:
        """Who reaches whom. Raises `Invalid` where `only` names nothing that runs."""
        title = " ".join(word for word in (only.service or only.namespace or only.team, "on", self.cluster) if word)
        title = title if only else f"cluster {self.cluster}"
        return self._lately((only, enforced), lambda: draw_up(self.site(enforced), title, only))

    def beside(self, key: str, *, enforced: bool = False) -> Beside | None:
        """What a service may do, beside what is declared; None where the baseline cannot be read."""
        site = self.site(enforced)
        if enforced not in self._declared:
            governed = [name for name, mode in self.modes.items() if mode.mode.governs]
            self._declared[enforced] = besides.declared_reach(site, self.edges, governed)
        declared = self._declared[enforced]
        return None if declared is None else self._lately((key, enforced), lambda: besides.beside(site, declared, key))

    def neighbours(self, key: str, *, enforced: bool = False) -> tuple[Neighbour, ...]:
        """Who really reaches a service and whom it reaches, marked where that is not what is declared; as `map`."""
        found = self.map(Only(service=key), enforced=enforced)
        return self._lately(
            ("neighbours", key, enforced),
            lambda: tuple(_neighbours(self, found, self.beside(key, enforced=enforced) or Beside(), key)),
        )

    def adoption(self, observed: Observed) -> Adoption:
        """What enforcing each namespace would end."""
        rows = adopting(self.site(), self.site(enforced=True), self.modes, self.edges)
        found = candidates(self.inputs, observed.readings) if self.modes else ()
        return Adoption(rows, {item.namespace: item for item in found}, observed)

    def _lately(self, key: object, make: Callable[[], Value]) -> Value:
        with self._making:
            if key in self._kept:
                self._kept.move_to_end(key)
                known: Value = self._kept[key]
                return known
        made = make()
        with self._making:
            self._kept[key] = made
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return made

    # -------------------------------------------------------- what may be asked about

    def ends(self, text: str = "", limit: int = 20) -> tuple[str, ...]:
        """Ends of connections whose name holds that text: declared services first, then what runs."""
        wanted = text.strip().lower()
        seen: dict[str, None] = {}
        for name in self._names:
            if wanted in name.lower() and name.lower() != wanted:
                seen[name] = None
                if len(seen) == limit:
                    break
        return tuple(seen)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._every_name()))

    def _every_name(self) -> Iterator[str]:
        snapshot = self.inputs.snapshot
        yield from sorted(item.key for item in self.inputs.platform.services_on(self.cluster))
        yield "internet"
        yield from sorted(f"svc:{item.namespace}/{item.name}" for item in snapshot.services)
        running = [pod for pod in snapshot.pods if not pod.is_finished]
        yield from sorted({f"workload:{pod.namespace}/{pod.owner.name}" for pod in running if pod.owner is not None})
        yield from sorted(f"host:{node.name}" for node in snapshot.nodes)
        yield from sorted(f"pod:{pod.key}" for pod in running)

    def ports(self, end: str) -> tuple[str, ...]:
        """Ports that an end is known to listen at: of a declared service by name, of a Kubernetes Service by number."""
        word, colon, rest = end.strip().partition(":")
        if not colon:
            service = self.inputs.platform.services.get(end.strip())
            return tuple(port.name or str(port.number) for port in service.ports) if service else ()
        if word == "svc":
            for item in self.inputs.snapshot.services:
                if rest == f"{item.namespace}/{item.name}":
                    return tuple(f"{p.port}" if p.protocol == "TCP" else f"{p.port}/{p.protocol}" for p in item.ports)
        return ()

    def because(self, key: str, other: str, direction: Direction) -> tuple[ServiceEdge, ...]:
        """The edges of a service that name another service, or any other end by its name, in a direction."""
        found = [edge for edge in self.edges.of(key, direction) if edge.needs_rule]
        named = [edge for edge in found if other in edge.others or (not edge.others and str(edge.peer) == other)]
        if not named and other == NODE_LOCAL_DNS:
            named = [edge for edge in found if edge.origin is Origin.DNS and isinstance(edge.peer, CidrPeer)]
        return tuple(named)


def reached(found: Map, key: str, direction: Direction) -> list[tuple[Link, Party]]:
    """(connection, other end) of one service in a direction."""
    if direction is Direction.EGRESS:
        return [(link, link.destination) for link in found.links if link.source.name == key]
    return [(link, link.source) for link in found.links if link.destination.name == key]


def _neighbours(network: Network, found: Map, beside: Beside, key: str) -> Iterator[Neighbour]:
    for direction in (Direction.INGRESS, Direction.EGRESS):
        more, less = (
            [(other, change) for change in changes for own, other in (_ends(change, direction),) if own.name == key]
            for changes in (beside.more, beside.less)
        )
        names = {other.name for other, _ in more}
        missing: dict[Party, list[str]] = {}
        for other, change in less:
            missing.setdefault(other, []).append(change.ports)
        ports: dict[Party, list[str]] = {}
        for link, other in reached(found, key, direction):
            ports.setdefault(other, []).append(str(link.connections))
        for other in sorted({*ports, *missing}):
            edges = network.because(key, other.name, direction)
            mark, word = Mark.NONE, ""
            if other in missing:
                mark, word = (Mark.CHANGED, "less than declared") if other in ports else (Mark.REMOVED, "not allowed")
            elif more and not edges:
                mark, word = Mark.CHANGED, "not declared"
            elif other.name in names:
                mark, word = Mark.CHANGED, "more than declared"
            yield Neighbour(
                direction,
                other.name,
                ", ".join(ports.get(other) or missing[other]),
                mark,
                other.name if other.kind is Kind.SERVICE else "",
                implied=bool(edges) and all(edge.is_implied for edge in edges),
                word=word,
            )


def _ends(change: Change, direction: Direction) -> tuple[Party, Party]:
    """(own end, other end) of a change, seen in a direction."""
    if direction is Direction.EGRESS:
        return change.source, change.destination
    return change.destination, change.source


# ---------------------------------------------------------------- from an edit to a proposal


@dataclass(frozen=True)
class Start:
    """A proposal that an edit leads to, and for which service. `add` and `remove` are items of `egress`, `let` and
    `shut` of `ingress` (numbers from 1); `ask` the services that are asked to let in what is declared already. `teams`
    are the teams of other ends whose document changes along."""

    service: Service
    add: tuple[str, ...] = ()
    remove: tuple[int, ...] = ()
    let: tuple[str, ...] = ()
    shut: tuple[int, ...] = ()
    ask: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()

    @property
    def query(self) -> dict[str, Any]:
        """The parameters of the page that writes it."""
        named = {"add": self.add, "remove": self.remove, "let": self.let, "shut": self.shut, "ask": self.ask}
        return {"service": self.service.key} | {name: list(value) for name, value in named.items() if value}

    @property
    def command(self) -> str:
        """The same on the command line; "" for a list of who may come, which is changed in the document."""
        if self.let or self.shut:
            return ""
        words = ["pilothouse", "egress", "propose", self.service.key]
        for option, values in (("--remove", self.remove), ("--add", self.add), ("--ask", self.ask)):
            for value in values:
                words += [option, str(value)]
        return f"{shlex.join(words)} --reason …"


def starts(edit: Edit, platform: Platform) -> tuple[Start, ...]:
    """The proposals that make an edit of declarations; none where manifests change as well.

    One for each document whose team would write it: a list at the other end changes along with the line that goes
    there, and where that line stands already its team is asked (`workflows.egress`).
    """
    lines = [change.line for change in edit.changes if change.line is not None]
    if len(lines) < len(edit.changes):
        return ()
    outward = [line for line in lines if line.direction is Direction.EGRESS]
    found = [_outward(line, platform) for line in outward]
    for line in lines:
        if line.direction is Direction.INGRESS and not _goes_along(line, outward):
            found.append(_inward(line, platform))
    return tuple(found)


def _outward(line: Line, platform: Platform) -> Start:
    add = (flow(edge_data(line.add, line.direction)),) if line.add else ()
    remove = (line.number,) if line.remove else ()
    teams = set()
    for edge in (line.add, line.remove):
        other = platform.services.get(str(edge.peer)) if edge and isinstance(edge.peer, ServicePeer) else None
        if other is not None and other.ingress is not None:
            teams.add(other.team)
    return Start(line.service, add, remove, teams=tuple(sorted(teams - {line.service.team})))


def _goes_along(line: Line, outward: list[Line]) -> bool:
    """Whether it is the other end of one that goes there."""
    for other in outward:
        peers = {str(edge.peer) for edge in (other.add, other.remove) if edge and isinstance(edge.peer, ServicePeer)}
        own = {str(edge.peer) for edge in (line.add, line.remove) if edge and isinstance(edge.peer, ServicePeer)}
        if line.service.key in peers and other.service.key in own:
            return True
    return False


def _inward(line: Line, platform: Platform) -> Start:
    peer = line.add.peer if line.add else None
    source = platform.services.get(str(peer)) if isinstance(peer, ServicePeer) else None
    if source is not None and any(str(edge.peer) == line.service.key for edge in source.egress):
        return Start(source, ask=(line.service.key,), teams=tuple({line.service.team} - {source.team}))
    added = line.listed or ((line.add,) if line.add else ())
    let = tuple(flow(edge_data(edge, line.direction)) for edge in added)
    return Start(line.service, let=let, shut=(line.number,) if line.remove else ())


# ---------------------------------------------------------------- observed flows


def observed(root: Path, cluster: str) -> Observed:
    """The flows that lie beside a platform, for one of its clusters. Whatever cannot be read is the reason, and the
    others are used."""
    folder = root / FLOWS
    files = sorted(path for path in (*folder.glob(f"{cluster}.*"), *(folder / cluster).glob("*")) if path.is_file())
    if not files:
        return Observed(reason=f"no flows lie in {FLOWS}/{cluster}.* beside the platform's documents")
    size = sum(path.stat().st_size for path in files)
    names = tuple(path.relative_to(root).as_posix() for path in files)
    if size > MOST_FLOW_BYTES:
        return Observed((), names, f"{size // 1_000_000:,} MB of flows are too many for a page: use the command line")
    readings: list[tuple[Flow, ...]] = []
    reasons: list[str] = []
    for path, name in zip(files, names, strict=True):
        try:
            readings.append(tuple(read_flows(path).flows))
        except PilothouseError as failure:
            reasons.append(failure.message.replace(path.as_posix(), name))
    return Observed(tuple(readings), names, "; ".join(reasons))
