"""A service and its neighbours as SVG: who comes stands at the left, where it goes at the right.

What a change brings and takes bears a mark (+, −, ±), the word for it, and another line; colours come from
classes (`static/neighbours.css`) and only repeat that. A side that is long is cut, never one of its changes.
The same is drawn twice, side by side and one below the other; the style sheet shows the one that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from pilothouse.policies.rules import Direction
from pilothouse.workflows.neighbours import Mark, Neighbour

MOST = 14
"""That many neighbours are shown at one side; the rest is counted."""

WIDTH, BOX, CENTRE = 880, 308, 164
NARROW, INDENT = 312, 24
STEP, TALL, TOP = 56, 48, 36
_LETTER, _SMALL = 7.8, 6.7
_SIGNS = {Mark.ADDED: "M-4 0h8m-4-4v8", Mark.REMOVED: "M-4 0h8", Mark.CHANGED: "M-4-2h8m-4-4v8M-4 5h8"}
_SIDES = {Direction.INGRESS: "Who comes", Direction.EGRESS: "Where it goes"}
_NOBODY = {Direction.INGRESS: "nobody is let in", Direction.EGRESS: "nowhere"}
Href = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Side:
    """What is shown at a side, and how many are left out."""

    direction: Direction
    shown: Sequence[Neighbour]
    left_out: int

    @property
    def rows(self) -> int:
        return max(1, len(self.shown) + bool(self.left_out))


@dataclass(frozen=True, slots=True)
class _Parts:
    """Lines lie below nodes; those of a change lie on top of the others."""

    lines: list[tuple[Mark, str]]
    nodes: list[str]


def draw(
    service: str,
    neighbours: Sequence[Neighbour],
    href: Href = lambda key: f"/catalogue/{key}",
    identity: str = "neighbours",
) -> str:
    """The picture as two `<svg>`, deterministic, every text escaped, no inline style or script.

    `href` gives the address of a declared service by its key; `identity` keeps the ids of two pictures apart.
    """
    who, where = (_side(neighbours, direction) for direction in _SIDES)
    text = alternative(neighbours)
    return _wide(service, who, where, href, identity, text) + _narrow(
        service, who, where, href, f"{identity}-narrow", text
    )


def alternative(neighbours: Sequence[Neighbour]) -> str:
    """The picture in words."""
    said = []
    for direction, title in _SIDES.items():
        found = [_words(item) for item in neighbours if item.direction is direction]
        said.append(f"{title}: {'; '.join(found) or _NOBODY[direction]}.")
    return " ".join(said)


def _words(item: Neighbour) -> str:
    text = f"{item.name} at {item.ports}" if item.ports not in ("", "-") else item.name
    return f"{text} ({item.word or item.mark})" if item.mark else text


def _side(neighbours: Sequence[Neighbour], direction: Direction) -> _Side:
    found = [item for item in neighbours if item.direction is direction]
    room = MOST - sum(1 for item in found if item.mark)
    kept: list[Neighbour] = []
    for item in found:
        if not item.mark:
            room -= 1
        if item.mark or room >= 0:
            kept.append(item)
    return _Side(direction, kept, len(found) - len(kept))


# ---------------------------------------------------------------- side by side


def _wide(service: str, who: _Side, where: _Side, href: Href, identity: str, text: str) -> str:
    rows = max(who.rows, where.rows)
    middle = TOP + rows * STEP / 2 - (STEP - TALL) / 2
    parts = _Parts([], [])
    for side in (who, where):
        x = 0.5 if side is who else WIDTH - BOX - 0.5
        parts.nodes.append(_heading(side, x, 18))
        first = TOP + (rows - side.rows) * STEP / 2
        for number, item in enumerate(side.shown):
            top = first + number * STEP
            parts.lines.append((item.mark, _curve(item, side is who, top + TALL / 2, middle)))
            parts.nodes.append(_node(item, x, top, BOX, href))
        parts.nodes.extend(_rest(side, x, first))
    parts.nodes.append(_centre(service, (WIDTH - CENTRE) / 2, middle - 32, CENTRE))
    return _svg("wide", service, identity, text, WIDTH, TOP + rows * STEP + 4, parts)


def _curve(item: Neighbour, comes: bool, y: float, middle: float) -> str:
    """From the one who opens the connection to the one who takes it, with an arrow's head there."""
    centre = (WIDTH - CENTRE) / 2
    if comes:
        start, end, ahead, behind = BOX + 1.0, centre - 1.0, y, middle
    else:
        start, end, ahead, behind = centre + CENTRE + 1.0, WIDTH - BOX - 1.0, middle, y
    half = (start + end) / 2
    return (
        f'<path class="{_classes("line", item)}" d="M{_n(start)} {_n(ahead)}'
        f'C{_n(half)} {_n(ahead)} {_n(half)} {_n(behind)} {_n(end)} {_n(behind)}"/>'
        f'<path class="{_classes("head", item)}" d="M{_n(end - 7)} {_n(behind - 4)}l7 4-7 4"/>'
    )


# ---------------------------------------------------------------- one below the other


def _narrow(service: str, who: _Side, where: _Side, href: Href, identity: str, text: str) -> str:
    centre = 28 + who.rows * STEP + 8
    below = centre + 64
    parts = _Parts([], [_heading(who, INDENT + 0.5, 18)])
    for side, first in ((who, 28.0), (where, below + 36.0)):
        if side is where:
            parts.nodes.extend((_centre(service, 0.5, centre, NARROW - 1), _heading(where, INDENT + 0.5, below + 26)))
        for number, item in enumerate(side.shown):
            top = first + number * STEP
            parts.lines.append((item.mark, _elbow(item, side is who, top + TALL / 2, centre, below)))
            parts.nodes.append(_node(item, INDENT + 0.5, top, NARROW - INDENT - 1, href))
        parts.nodes.extend(_rest(side, INDENT + 0.5, first))
    return _svg("narrow", service, identity, text, NARROW, below + 36 + where.rows * STEP, parts)


def _elbow(item: Neighbour, comes: bool, y: float, centre: float, below: float) -> str:
    """Along the left edge: down into the service, or out of it and into the neighbour."""
    if comes:
        line, head = f"M{INDENT} {_n(y)}H10V{_n(centre - 1)}", f"M6 {_n(centre - 8)}l4 7 4-7"
    else:
        line, head = f"M10 {_n(below + 1)}V{_n(y)}H{INDENT - 1}", f"M{INDENT - 8} {_n(y - 4)}l7 4-7 4"
    return f'<path class="{_classes("line", item)}" d="{line}"/><path class="{_classes("head", item)}" d="{head}"/>'


# ---------------------------------------------------------------- parts


def _svg(form: str, service: str, identity: str, text: str, width: int, height: float, parts: _Parts) -> str:
    return "\n".join(
        [
            f'<svg class="neighbours {form}" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_n(height)}"'
            f' width="{width}" height="{_n(height)}" role="group" aria-labelledby="{identity}-title {identity}-text">',
            f'<title id="{identity}-title">{escape(f"Neighbours of {service}")}</title>',
            f'<desc id="{identity}-text">{escape(text)}</desc>',
            '<g class="lines" aria-hidden="true">',
            *(line for _, line in sorted(parts.lines, key=lambda item: bool(item[0]))),
            "</g>",
            *parts.nodes,
            "</svg>",
            "",
        ]
    )


def _heading(side: _Side, x: float, y: float) -> str:
    title = _SIDES[side.direction]
    return f'<text class="side-name" x="{_n(x)}" y="{_n(y)}" aria-hidden="true">{title}</text>'


def _rest(side: _Side, x: float, first: float) -> list[str]:
    """A word where nothing is, or where there is more."""
    words = f"and {side.left_out} more, in the table" if side.left_out else _NOBODY[side.direction]
    if side.shown and not side.left_out:
        return []
    return [f'<text class="nothing" x="{_n(x + 12)}" y="{_n(first + len(side.shown) * STEP + 28)}">{words}</text>']


def _node(item: Neighbour, x: float, top: float, width: float, href: Href) -> str:
    at, sign = x + 14, ""
    if item.mark:
        sign = (
            f'<g transform="translate({_n(x + 19)} {_n(top + 17)})"><circle class="mark" r="9"/>'
            f'<path class="sign" d="{_SIGNS[item.mark]}"/></g>'
        )
        at = x + 36
    room = x + width - at - 8
    below = _below(item)
    hover = f"{item.name}: {below}" if below else item.name
    body = (
        f"<title>{escape(hover)}</title>"
        f'<rect class="box" x="{_n(x)}" y="{_n(top + 0.5)}" width="{_n(width)}" height="{TALL - 1}" rx="6"/>'
        f'{sign}<text class="label" x="{_n(at)}" y="{_n(top + 21)}">{escape(_cut(item.name, room, _LETTER))}</text>'
        f'<text class="below" x="{_n(at)}" y="{_n(top + 38)}">{escape(_cut(below, room, _SMALL))}</text>'
    )
    classes = _classes("node", item)
    if item.key:
        return f'<a class="{classes}" href="{escape(href(item.key))}">{body}</a>'
    return f'<g class="{classes}">{body}</g>'


def _below(item: Neighbour) -> str:
    ports = item.ports if item.ports != "-" else ""
    words = [
        item.word or str(item.mark),
        f"{item.before} → {ports}" if item.before else ports,
        f"on {', '.join(item.clusters)}" if item.clusters else "",
        "implied" if item.implied else "",
        "" if item.agreed else "not accepted there",
    ]
    return " · ".join(word for word in words if word)


def _classes(first: str, item: Neighbour) -> str:
    names = [first, str(item.mark), "implied" if item.implied else "", "" if item.agreed else "refused"]
    return " ".join(name for name in names if name)


def _centre(service: str, x: float, top: float, width: float) -> str:
    namespace, _, name = service.partition("/")
    at = _n(x + width / 2)
    return (
        f'<g class="centre"><rect class="box" x="{_n(x)}" y="{_n(top)}" width="{_n(width)}" height="64" rx="8"/>'
        f'<text class="label" x="{at}" y="{_n(top + 31)}" text-anchor="middle">'
        f"{escape(_cut(name, width - 16, _LETTER))}</text>"
        f'<text class="below" x="{at}" y="{_n(top + 50)}" text-anchor="middle">'
        f"{escape(_cut(namespace, width - 16, _SMALL))}</text></g>"
    )


def _cut(text: str, room: float, letter: float) -> str:
    most = max(8, int(room / letter))
    return text if len(text) <= most else text[: most - 1] + "…"


def _n(number: float) -> str:
    """A coordinate without a needless fraction."""
    return f"{number:g}"
