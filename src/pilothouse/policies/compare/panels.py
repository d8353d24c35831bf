"""What is drawn of a small map: panels of a namespace's parties, edges between them, and what is said in words instead.

An end that very many reach (a message broker, a database), or that reaches very many (Prometheus), would hide the rest
behind its arrows. Such a hub is written as a mark on each of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pilothouse.policies.compare.drawing import HUES, SMALL
from pilothouse.policies.compare.map import Guard, Link, Map, Member
from pilothouse.policies.engine import NONE, Connections
from pilothouse.policies.parties import Kind, Party

WIDE, LOW, LINE = 196.0, 40.0, 17.0
"""A box: its width, its height without marks, and the height of a row of marks."""
PAD, HEAD, GAP = 10.0, 24.0, 8.0
HUB, HUB_PANELS = 8, 3
"""An end with so many edges on one side, from so many panels, is a hub."""
OUTSIDE = ("outside, coming in", "outside, going out")

End = Party | str
"""A party, or the caption of a panel: all of a namespace."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A hub as it is written on a box; `outward`: the box reaches the hub."""

    hub: str
    outward: bool
    hue: int
    hover: str

    @property
    def words(self) -> str:
        return f"→ {self.hub}" if self.outward else f"← {self.hub}"

    @property
    def width(self) -> float:
        return len(self.words) * SMALL * 0.95 + 12


@dataclass
class Box:
    """One party in its panel. `y` is its top, relative to the panel until all is placed."""

    member: Member
    label: str
    below: str = ""
    marks: list[Mark] = field(default_factory=list)
    x: float = 0
    y: float = 0

    @property
    def height(self) -> float:
        return LOW + LINE * sum(1 for _ in mark_rows(self.marks))

    @property
    def is_open(self) -> bool:
        return self.member.pods > 0 and Guard.OPEN in (self.member.egress, self.member.ingress)


@dataclass
class Panel:
    caption: str
    hue: int
    boxes: list[Box] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    teams: str = ""
    column: int = 0
    x: float = 0
    y: float = 0

    @property
    def is_outside(self) -> bool:
        return self.caption in OUTSIDE

    @property
    def head(self) -> float:
        return HEAD + LINE * sum(1 for _ in mark_rows(self.marks))

    @property
    def height(self) -> float:
        return PAD + self.head + sum(box.height + GAP for box in self.boxes) - GAP + PAD

    def stack(self) -> None:
        """Put the boxes below each other, in their order."""
        top = self.y + PAD + self.head
        for box in self.boxes:
            box.x, box.y = self.x + PAD, top
            top += box.height + GAP


@dataclass(frozen=True, slots=True)
class Edge:
    source: End
    destination: End
    links: tuple[Link, ...]

    @property
    def hover(self) -> str:
        return "\n".join(map(str, self.links))

    @property
    def kind(self) -> str:
        names = ["conditional"] * all(link.conditional for link in self.links)
        return " ".join(names + ["some"] * all(link.some for link in self.links))


@dataclass
class Scene:
    """`quiet` are panels without an edge or a mark; `notes` the connections that are said in words; `reached` the
    captions of panels with a hub that others reach."""

    panels: list[Panel]
    edges: list[Edge]
    quiet: list[Panel]
    notes: list[Link]
    home: dict[End, Panel]
    reached: frozenset[str]


def mark_rows(marks: Iterable[Mark], room: float = WIDE - 16) -> Iterator[list[Mark]]:
    """The marks in as many rows as they need."""
    row: list[Mark] = []
    used = 0.0
    for mark in marks:
        if row and used + mark.width > room:
            yield row
            row, used = [], 0.0
        row.append(mark)
        used += mark.width + 4
    if row:
        yield row


def scene(found: Map) -> Scene:
    """Everything that is to be drawn, not placed yet."""
    panels, boxes = _panels(found)
    home: dict[End, Panel] = {}
    for panel in panels:
        home[panel.caption] = panel
    for party, (panel, _) in boxes.items():
        home[party] = panel
    spaces = _spaces(found)
    together: dict[tuple[End, End], list[Link]] = {}
    notes: list[Link] = []
    for link in found.links:
        source, destination = (
            _end(party, spaces, OUTSIDE[side]) for side, party in enumerate((link.source, link.destination))
        )
        if source in home and destination in home:
            together.setdefault((source, destination), []).append(link)
        else:
            notes.append(link)
    edges, reached = _marked(together, home, {key: box for key, (_, box) in boxes.items()})
    _label(found, boxes)
    linked = {id(home[end]) for edge in edges for end in (edge.source, edge.destination)}
    shown = [panel for panel in panels if id(panel) in linked or panel.marks or any(box.marks for box in panel.boxes)]
    quiet = [panel for panel in panels if panel not in shown]
    return Scene(shown, edges, quiet, notes, home, reached)


def _end(party: Party, spaces: dict[Party, str], outside: str) -> End:
    if party.kind is Kind.ADDRESSES:
        return f"{outside}/{party.name}"
    return spaces.get(party, party)


def _panels(found: Map) -> tuple[list[Panel], dict[End, tuple[Panel, Box]]]:
    by_caption: dict[str, Panel] = {}
    boxes: dict[End, tuple[Panel, Box]] = {}

    def put(caption: str, key: End, member: Member, label: str) -> None:
        panel = by_caption.get(caption)
        if panel is None:
            panel = by_caption[caption] = Panel(caption, len(by_caption) % (HUES - 1))
        box = Box(member, label)
        panel.boxes.append(box)
        boxes[key] = (panel, box)

    for member in sorted(found.members, key=lambda item: (item.namespace, item.party)):
        if member.pods:
            space = member.namespace or "host endpoints"
            put(space, member.party, member, member.party.name.removeprefix(f"{space}/"))
    for side, caption in enumerate(OUTSIDE):
        for party in dict.fromkeys((link.source, link.destination)[side] for link in found.links):
            plain = any(
                (link.source, link.destination)[side] == party
                and (link.source, link.destination)[1 - side].kind is not Kind.GROUP
                for link in found.links
            )
            if party.kind is Kind.ADDRESSES and plain:
                put(caption, f"{caption}/{party.name}", Member(party), party.name)
                by_caption[caption].hue = HUES - 1
    for panel in by_caption.values():
        panel.teams = ", ".join(sorted({box.member.party.team for box in panel.boxes} - {"", panel.caption}))
    return list(by_caption.values()), boxes


def _spaces(found: Map) -> dict[Party, str]:
    """Group → the namespace that it is all of."""
    by_space: dict[str, set[Party]] = {}
    for member in found.members:
        if member.pods:
            by_space.setdefault(member.namespace, set()).add(member.party)
    known = {party: member.namespace for member in found.members for party in (member.party,)}
    spaces: dict[Party, str] = {}
    for group, members in found.groups.items():
        own = {known.get(party, "") for party in members}
        if len(own) == 1 and set(members) == by_space.get(next(iter(own))):
            spaces[group] = own.pop()
    return spaces


def _marked(
    together: dict[tuple[End, End], list[Link]], home: dict[End, Panel], boxes: dict[End, Box]
) -> tuple[list[Edge], frozenset[str]]:
    """The edges, without those of hubs, which become marks; and the panels of hubs that others reach."""
    edges = [Edge(source, destination, tuple(links)) for (source, destination), links in together.items()]
    hubs: dict[tuple[End, bool], set[int]] = {}
    counts: dict[tuple[End, bool], int] = {}
    for edge in edges:
        for end, other, outward in ((edge.destination, edge.source, True), (edge.source, edge.destination, False)):
            if end != other and end in boxes and boxes[end].member.pods:
                hubs.setdefault((end, outward), set()).add(id(home[other]))
                counts[end, outward] = counts.get((end, outward), 0) + 1
    chosen = {key for key, panels in hubs.items() if counts[key] >= HUB and len(panels) >= HUB_PANELS}
    kept = []
    for edge in edges:
        if edge.source == edge.destination:
            _mark(edge.source, edge, Mark("itself", True, home[edge.source].hue, edge.hover), boxes, home)
        elif (edge.destination, True) in chosen:
            hub = boxes[edge.destination].label
            _mark(edge.source, edge, Mark(hub, True, home[edge.destination].hue, edge.hover), boxes, home)
        elif (edge.source, False) in chosen:
            hub = boxes[edge.source].label
            _mark(edge.destination, edge, Mark(hub, False, home[edge.source].hue, edge.hover), boxes, home)
        else:
            kept.append(edge)
    return kept, frozenset(home[end].caption for end, outward in chosen if outward)


def _mark(end: End, edge: Edge, mark: Mark, boxes: dict[End, Box], home: dict[End, Panel]) -> None:
    (boxes[end].marks if end in boxes else home[end].marks).append(mark)


def _label(found: Map, boxes: dict[End, tuple[Panel, Box]]) -> None:
    """Below each name: the ports at which it is reached, and where nothing isolates it."""
    spaces = _spaces(found)
    ports: dict[Party, Connections] = {}
    for link in found.links:
        targets = found.groups.get(link.destination, ()) if link.destination in spaces else (link.destination,)
        for target in targets:
            ports[target] = ports.get(target, NONE) | link.connections
    for _, box in boxes.values():
        if not box.member.pods:
            continue
        known = NONE if box.member.ingress is Guard.OPEN else ports.get(box.member.party, NONE)
        open_ = [w for w, g in (("ingress", box.member.ingress), ("egress", box.member.egress)) if g is Guard.OPEN]
        words = [f"{' and '.join(open_)} open"] if open_ else []
        box.below = " · ".join([*words, *([f"at {known}"] if known else [])]) or "nobody comes"
