"""What differs between two reaches, put together as people speak of it: by service, workload or addresses.

What a connection comes to is allowed, conditional or denied; each change of that is told apart. Endpoints that come
under policy, or are left without any, are one sentence instead: everything changes there at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pilothouse.policies.address_names import AddressNames
from pilothouse.policies.adoption import shown
from pilothouse.policies.compare.rows import Cast, Rows, every_pod
from pilothouse.policies.engine import ALL, Connections, Engine, Reach, Universe
from pilothouse.policies.engine.bitsets import bits, of
from pilothouse.policies.engine.decide import Outcome
from pilothouse.policies.engine.reach import Granted, changed
from pilothouse.policies.parties import Kind, Parties, Party
from pilothouse.policies.rules import Direction, NetworkSet
from pilothouse.reports import plural

Verdict = Literal[Outcome.ALLOW, Outcome.CONDITIONAL, Outcome.DENY]
Step = tuple[Verdict, Verdict]
"""What a connection came to before, and what it comes to after."""
Isolated = Callable[[Engine, Direction], int]
"""Which endpoints count as governed in a direction."""

_ALL_STEPS: tuple[Step, ...] = tuple(
    (before, after)
    for before in (Outcome.ALLOW, Outcome.CONDITIONAL, Outcome.DENY)
    for after in (Outcome.ALLOW, Outcome.CONDITIONAL, Outcome.DENY)
    if before != after
)


class What(StrEnum):
    APPEARS = "appears"
    VANISHES = "vanishes"
    CHANGES = "changes"
    """Allowed under a condition instead of always, or the other way round."""


@dataclass(frozen=True, slots=True)
class Group:
    """Connections of one kind between two parties. `some`: it holds for some of their pods or addresses only. `example`
    is one pair of pieces."""

    before: Verdict
    after: Verdict
    source: Party
    destination: Party
    connections: Connections
    example: tuple[int, int]
    some: bool = False

    @property
    def gained(self) -> bool:
        """Whether it was denied before."""
        return self.before is Outcome.DENY

    @property
    def what(self) -> What:
        return _what(self.before, self.after)


@dataclass(frozen=True, slots=True)
class Change:
    """One connection between two parties that appears, vanishes or changes its verdict, at `connections` of the
    destination. `some`: for some of their pods or addresses only."""

    before: Verdict
    after: Verdict
    source: Party
    destination: Party
    connections: Connections
    example: str
    """One pair of pods or addresses, `payments/api-1 → ledger/db-0`."""
    some: bool = False
    in_force: bool = True
    """Whether the namespaces of both ends are enforced after the change (those that are governed at all)."""
    spaces: tuple[str, ...] = ()
    """The namespaces of the example's pods."""

    @property
    def what(self) -> What:
        return _what(self.before, self.after)

    @property
    def ports(self) -> str:
        return str(self.connections)

    @property
    def note(self) -> str:
        """What more there is to say, or ""."""
        words = []
        if self.what is What.CHANGES:
            words.append(f"{self.before} becomes {self.after}")
        elif Outcome.CONDITIONAL in (self.before, self.after):
            words.append("some requests")
        return ", ".join([*words, *(["some pods"] if self.some else [])])

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{SIGNS[self.what]} {self.source} → {self.destination} at {self.ports}{note}"


def _what(before: Verdict, after: Verdict) -> What:
    if before is Outcome.DENY:
        return What.APPEARS
    return What.VANISHES if after is Outcome.DENY else What.CHANGES


SIGNS = {What.APPEARS: "+", What.VANISHES: "-", What.CHANGES: "~"}


@dataclass(frozen=True, slots=True)
class Isolation:
    """Pods of a namespace whose `direction` (ingress or egress) is governed from now on, or no longer."""

    namespace: str
    direction: str
    begins: bool
    pods: tuple[str, ...]

    def __str__(self) -> str:
        state = "comes under policy" if self.begins else "is left without any policy"
        where = f" in {self.namespace}" if self.namespace else ""
        what = "pod" if self.namespace else "host endpoint"
        return f"{self.direction} of {plural(len(self.pods), what)}{where} {state}: {shown(self.pods)}"


# ---------------------------------------------------------------- grouping


def grouped(
    before: Reach,
    after: Reach,
    was: Parties,
    now: Parties,
    sources: int = -1,
    destinations: int = -1,
    *,
    together: bool = False,
    sets: Iterable[NetworkSet] = (),
) -> tuple[Group, ...]:
    """Each group once, sorted: gained first, then by source and destination.

    What vanishes bears the names of `was`, everything else those of `now`. Pieces that are not in `sources` (or
    `destinations`) are left out on that side. `together`: what holds for every pod, or every pod of a namespace, is one
    group. `sets` have names for addresses.
    """
    universe = before.universe
    addresses = {id(names): AddressNames(universe, names.inputs, sets) for names in (was, now)}
    tables: dict[bool, Rows] = {}
    for lost, names in ((True, was), (False, now)):
        cast = Cast(universe, names.party)
        everybody, spaces = every_pod(cast)
        crowds = (everybody, *spaces) if together else ()
        tables[lost] = Rows(cast, addresses[id(names)], (crowds, crowds))
    for item in changed(before, after, sources, destinations):
        for step, connections in steps(item.before, item.after):
            tables[step[1] is Outcome.DENY].add(item.sources, item.destinations, step, connections)
    groups = [
        Group(row.tag[0], row.tag[1], row.source, row.destination, row.connections, row.example, row.some)
        for table in tables.values()
        for row in table.found()
        if isinstance(row.tag, tuple)
    ]
    order = list(What)
    return tuple(
        sorted(groups, key=lambda g: (order.index(g.what), g.source, g.destination, str(g.connections), g.some))
    )


def steps(before: Granted, after: Granted) -> Iterator[tuple[Step, Connections]]:
    """What connections came to and come to, for those that changed."""
    was, now = (_verdicts(side) for side in (before, after))
    for step in _ALL_STEPS:
        common = was[step[0]] & now[step[1]]
        if common:
            yield step, common


def _verdicts(side: Granted) -> dict[Outcome, Connections]:
    allowed, conditional = side
    return {
        Outcome.ALLOW: allowed,
        Outcome.CONDITIONAL: conditional - allowed,
        Outcome.DENY: ALL - allowed - conditional,
    }


# ---------------------------------------------------------------- between two engines


def changes(
    was: Engine,
    now: Engine,
    before: Parties,
    after: Parties,
    *,
    together: bool = False,
    among: int = -1,
    isolated: Isolated = Engine.isolated,
) -> tuple[Change, ...]:
    """Every connection that differs, on one universe, but for what `isolation` says. Both ends are `among` these."""
    universe = now.universe
    groups = grouped(
        was.reach,
        now.reach,
        before,
        after,
        ~flips(was, now, Direction.EGRESS, isolated) & among,
        ~flips(was, now, Direction.INGRESS, isolated) & among,
        together=together,
        sets=now.policies.sets,
    )
    return tuple(change_of(universe, group) for group in groups)


def change_of(universe: Universe, group: Group) -> Change:
    """A group as people read it."""
    return Change(
        group.before,
        group.after,
        group.source,
        group.destination,
        group.connections,
        " → ".join(universe.name(piece) for piece in group.example),
        group.some,
        spaces=tuple(universe.pieces[end].namespace for end in group.example if universe.is_endpoint(end)),
    )


def flips(was: Engine, now: Engine, direction: Direction, isolated: Isolated = Engine.isolated) -> int:
    """The endpoints that are isolated in one of the two only, and may do other things for it."""
    one, two = (engine.reach.egress if direction is Direction.EGRESS else engine.reach.ingress for engine in (was, now))
    turned = isolated(was, direction) ^ isolated(now, direction)
    return of(number for number in bits(turned) if one[number] != two[number])


def isolation(was: Engine, now: Engine, among: int = -1, isolated: Isolated = Engine.isolated) -> Iterator[Isolation]:
    """Where isolation begins and ends, of the endpoints that are `among` these."""
    universe = now.universe
    for direction in (Direction.EGRESS, Direction.INGRESS):
        found: dict[tuple[str, bool], set[str]] = {}
        governed = isolated(now, direction)
        for number in bits(flips(was, now, direction, isolated) & among):
            item = universe.pieces[number]
            begins = bool(governed >> number & 1)
            names = {pod.name for pod in item.pods} or {item.name.removeprefix("host endpoint ")}
            found.setdefault((item.namespace, begins), set()).update(names)
        for (namespace, begins), pods in sorted(found.items()):
            yield Isolation(namespace, direction, begins, tuple(sorted(pods)))


def summary(found: Sequence[Change], isolated: Sequence[Isolation]) -> str:
    """ "adds 2, removes 1 connection", for a headline."""
    words = {What.APPEARS: "adds", What.VANISHES: "removes", What.CHANGES: "changes"}
    counts = {what: sum(1 for change in found if change.what is what) for what in What}
    parts = [f"{words[what]} {count}" for what, count in counts.items() if count]
    if not parts:
        return "changes isolation only" if isolated else "changes no connection"
    last = next(count for count in reversed(counts.values()) if count)
    return ", ".join(parts) + (" connection" if last == 1 else " connections")


# ---------------------------------------------------------------- as data


def party_data(item: Party) -> dict[str, str]:
    return {"kind": item.kind.value, "name": item.name} | ({"team": item.team} if item.kind is Kind.SERVICE else {})


def change_data(change: Change) -> dict[str, Any]:
    return {
        "what": change.what.value,
        "before": change.before.value,
        "after": change.after.value,
        "source": party_data(change.source),
        "destination": party_data(change.destination),
        "ports": change.ports,
        "some": change.some,
        "inForce": change.in_force,
        "example": change.example,
    }


def isolation_data(item: Isolation) -> dict[str, Any]:
    return {
        "namespace": item.namespace,
        "direction": str(item.direction),
        "begins": item.begins,
        "pods": list(item.pods),
    }


def by_team(items: Iterable[Change]) -> dict[str, list[Change]]:
    """Team → the changes that one of its services is an end of; "" has those of nobody. Sorted."""
    found: dict[str, list[Change]] = {}
    for item in items:
        teams = {item.source.team, item.destination.team} - {""}
        for team in teams or {""}:
            found.setdefault(team, []).append(item)
    return dict(sorted(found.items(), key=lambda pair: (pair[0] == "", pair[0])))
