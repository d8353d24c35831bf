"""A map as SVG: arrows between panels while they can be followed, else a matrix.

Pure: the same map gives the same bytes; nothing in it needs a script. Each namespace has a hue, that of its arrows;
which end is which, what is conditional, and what nothing isolates show in shape and words as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise

from pilothouse.policies.compare.drawing import SANS, SMALL, cut, frame, in_words, n, text
from pilothouse.policies.compare.map import Link, Map
from pilothouse.policies.compare.matrix import draw_matrix
from pilothouse.policies.compare.panels import (
    HEAD,
    LINE,
    LOW,
    PAD,
    WIDE,
    Box,
    Edge,
    End,
    Mark,
    Panel,
    Scene,
    mark_rows,
    scene,
)
from pilothouse.policies.compare.placing import Placed, place
from pilothouse.policies.parties import Kind
from pilothouse.reports import plural

ARROWS_UP_TO = 40
"""With more parties than that, arrows cannot be followed."""
MARGIN, TOP = 24.0, 76.0
_NOTES = 40


def draw(found: Map, *, alone: bool = True, identity: str = "policy-map") -> str:
    """The picture as one `<svg>`. Not `alone`, its colours are those of the page (`drawing.RULES`); `identity` keeps
    the ids of two pictures apart."""
    parties = sum(1 for member in found.members if member.pods)
    if parties > ARROWS_UP_TO:
        return draw_matrix(found, alone=alone, identity=identity)
    what = scene(found)
    placed = place(what, TOP)
    anchors = _Anchors(what)
    width = max(placed.width, 640.0) + 2 * MARGIN
    below, height = _below(what, found, width, placed.height + 30)
    title, words = heading(found)
    parts = [
        text(title, MARGIN, 34, "heading"),
        text(words, MARGIN, 56, "below"),
        f'<g transform="translate({n(MARGIN)} 0)">',
        *(_panel(panel) for panel in what.panels),
        *(_edge(edge, what, placed, anchors) for edge in what.edges),
        *below,
        "</g>",
    ]
    return frame(title, in_words(found.links), width, height + MARGIN, parts, alone=alone, identity=identity)


def heading(found: Map) -> tuple[str, str]:
    """A title, and how much there is."""
    parties = sum(1 for member in found.members if member.pods)
    counts = (
        f"{plural(parties, 'party', 'parties')}, {plural(len(found.links), 'connection')}; an arrow leads from who "
        "opens a connection to who takes it; what nothing isolates is dashed"
    )
    return f"Who reaches whom: {found.title}" if found.title else "Who reaches whom", counts


# ---------------------------------------------------------------- panels


def _panel(panel: Panel) -> str:
    width = WIDE + 2 * PAD
    outside = " outside" if panel.is_outside else ""
    parts = [
        f'<g class="namespace hue{panel.hue}{outside}">'
        f'<rect class="panel" x="{n(panel.x)}" y="{n(panel.y)}" width="{n(width)}" height="{n(panel.height)}" rx="8"/>',
        f'<rect class="bar" x="{n(panel.x)}" y="{n(panel.y + 8)}" width="4" height="{n(panel.height - 16)}" rx="2"/>',
        text(cut(panel.caption, width - 24), panel.x + PAD + 2, panel.y + 19, "caption"),
    ]
    room = width - 36 - len(panel.caption) * SANS
    if panel.teams and room > 40:
        words = cut(f"team {panel.teams}", room, SMALL)
        parts.append(text(words, panel.x + width - PAD, panel.y + 19, "below", "end"))
    parts.extend(_marks(panel.marks, panel.x + PAD, panel.y + HEAD + 2))
    parts.extend(_box(box) for box in panel.boxes)
    return "".join([*parts, "</g>"])


def _box(box: Box) -> str:
    kind = "party open" if box.is_open else "party"
    below = cut(box.below, WIDE - 16, SMALL)
    hover = f"{box.member.party.name}: {box.below}" if box.below else box.member.party.name
    middle = box.y + (17 if box.below else 25)
    return (
        f'<g class="{kind}"><title>{escape(hover)}</title>'
        f'<rect class="box" x="{n(box.x)}" y="{n(box.y)}" width="{n(WIDE)}" height="{n(box.height)}" rx="5"/>'
        + text(cut(box.label, WIDE - 16), box.x + 9, middle, "label")
        + (text(below, box.x + 9, box.y + 32, "state") if below else "")
        + "".join(_marks(box.marks, box.x + 8, box.y + LOW - 1))
        + "</g>"
    )


def _marks(marks: list[Mark], x: float, y: float) -> Iterator[str]:
    for row, items in enumerate(mark_rows(marks)):
        at = x
        for mark in items:
            top = y + row * LINE
            yield (
                f'<g class="mark hue{mark.hue}"><title>{escape(mark.hover)}</title>'
                f'<rect class="pill" stroke="currentColor" x="{n(at)}" y="{n(top)}" width="{n(mark.width)}" height="14"'
                f' rx="7"/>' + text(mark.words, at + 6, top + 10.5, "pill-text") + "</g>"
            )
            at += mark.width + 4


# ---------------------------------------------------------------- arrows


class _Anchors:
    """Where arrows touch a box: those of one side below each other, by where they lead."""

    def __init__(self, what: Scene) -> None:
        self.home = what.home
        self.boxes: dict[End, Box] = {}
        for panel in what.panels:
            for box in panel.boxes:
                key = f"{panel.caption}/{box.member.party.name}" if panel.is_outside else box.member.party
                self.boxes[key] = box
        sides: dict[tuple[End, bool], list[tuple[float, int, bool]]] = {}
        for number, edge in enumerate(what.edges):
            for own, other, starts in ((edge.source, edge.destination, True), (edge.destination, edge.source, False)):
                right = self.side(own, other)
                sides.setdefault((own, right), []).append((self.middle(other), number, starts))
        self.at: dict[tuple[int, bool], float] = {}
        for (own, _), ends in sides.items():
            top, height = self.span(own)
            step = min(9.0, (height - 8) / max(1, len(ends)))
            first = top + height / 2 - step * (len(ends) - 1) / 2
            for index, (_, number, starts) in enumerate(sorted(ends)):
                self.at[number, starts] = first + step * index

    def side(self, own: End, other: End) -> bool:
        """Whether an arrow between the two touches the right side of the first."""
        return self.home[other].column >= self.home[own].column

    def span(self, end: End) -> tuple[float, float]:
        box = self.boxes.get(end)
        return (box.y, box.height) if box is not None else (self.home[end].y, HEAD + 8)

    def middle(self, end: End) -> float:
        top, height = self.span(end)
        return top + height / 2

    def x(self, end: End, right: bool) -> float:
        box = self.boxes.get(end)
        if box is not None:
            return box.x + WIDE if right else box.x
        panel = self.home[end]
        return panel.x + WIDE + 2 * PAD if right else panel.x


def _edge(edge: Edge, what: Scene, placed: Placed, anchors: _Anchors) -> str:
    number = what.edges.index(edge)
    source, destination = what.home[edge.source], what.home[edge.destination]
    leaves, enters = anchors.side(edge.source, edge.destination), anchors.side(edge.destination, edge.source)
    points = [(anchors.x(edge.source, leaves), anchors.at[number, True])]
    end = (anchors.x(edge.destination, enters), anchors.at[number, False])
    if source.column != destination.column:
        left, right = sorted((source, destination), key=lambda panel: panel.column)
        lanes = placed.lanes.get((left.caption, right.caption), [])
        for lane in lanes if source is left else reversed(lanes):
            middle = lane.y + lane.height / 2
            ends = (lane.x, middle), (lane.x + WIDE + 2 * PAD, middle)
            points.extend(ends if source is left else reversed(ends))
    points.append((end[0] + (3 if enters else -3), end[1]))
    line = (
        _curve(points) if source.column != destination.column else _bulge(points[0], points[-1], source is destination)
    )
    out = 1 if enters else -1
    head = f"M{n(end[0] + 9 * out)} {n(end[1] - 4)}l{n(-7 * out)} 4 {n(7 * out)} 4"
    kind = " ".join(filter(None, ("edge", f"hue{source.hue}", edge.kind)))
    return (
        f'<g class="{kind}">'
        f"<title>{escape(edge.hover)}</title>"
        f'<path class="reach" d="{line}"/><path class="line" d="{line}"/><path class="head" d="{head}"/></g>'
    )


def _curve(points: list[tuple[float, float]]) -> str:
    found = f"M{n(points[0][0])} {n(points[0][1])}"
    for (x, y), (to_x, to_y) in pairwise(points):
        if y == to_y:
            found += f"H{n(to_x)}"
        else:
            half = (x + to_x) / 2
            found += f"C{n(half)} {n(y)} {n(half)} {n(to_y)} {n(to_x)} {n(to_y)}"
    return found


def _bulge(start: tuple[float, float], end: tuple[float, float], within: bool) -> str:
    """Out at the right side and in again."""
    out = max(start[0], end[0]) + (26 if within else min(80.0, 34 + abs(start[1] - end[1]) / 8))
    return f"M{n(start[0])} {n(start[1])}C{n(out)} {n(start[1])} {n(out)} {n(end[1])} {n(end[0])} {n(end[1])}"


# ---------------------------------------------------------------- in words


def _below(what: Scene, found: Map, width: float, top: float) -> tuple[list[str], float]:
    """What is said below the arrows: connections of many at once, and who has no other."""
    parts: list[str] = []
    y = top
    room = width - 2 * MARGIN
    if what.notes:
        parts.append(text("Besides, for many at once", 0, y, "caption"))
        for link in what.notes[:_NOTES]:
            y += 18
            parts.append(text(cut(_note(link, found), room, SMALL), 0, y, "below"))
        if len(what.notes) > _NOTES:
            y += 18
            parts.append(
                text(f"and {plural(len(what.notes) - _NOTES, 'more connection')}, in the table", 0, y, "below")
            )
        y += 30
    if what.quiet:
        parts.append(text("With no other connections", 0, y, "caption"))
        for panel in what.quiet:
            names = ", ".join(f"{box.label} ({box.below})" if box.is_open else box.label for box in panel.boxes)
            y += 18
            parts.append(text(cut(f"{panel.caption}: {names}", room, SMALL), 0, y, "below"))
        y += 24
    return parts, y


def _note(link: Link, found: Map) -> str:
    return str(link) + "".join(
        f"; {party.name}: {_list(member.name for member in found.groups[party])}"
        for party in (link.source, link.destination)
        if party.kind is Kind.GROUP and len(found.groups.get(party, ())) <= 6
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
