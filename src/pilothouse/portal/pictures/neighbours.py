"""A service and its neighbours as SVG: who comes stands at the left, where it goes at the right.

What a change brings and takes bears a mark (+, −, ±), the word for it, and another line; colours come from
classes (`static/neighbours.css`) and only repeat that. A side that is long is cut, never one of its changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from pilothouse.policies.edges import Direction
from pilothouse.workflows.neighbours import Mark, Neighbour

MOST = 14
"""That many neighbours are shown at one side; the rest is counted."""

WIDTH, BOX, CENTRE = 880, 308, 164
STEP, TALL, TOP = 56, 48, 36
_LETTER, _SMALL = 7.8, 6.7
_SIGNS = {Mark.ADDED: "M-4 0h8m-4-4v8", Mark.REMOVED: "M-4 0h8", Mark.CHANGED: "M-4-2h8m-4-4v8M-4 5h8"}
_SIDES = {Direction.INGRESS: "Who comes", Direction.EGRESS: "Where it goes"}
_NOBODY = {Direction.INGRESS: "nobody is let in", Direction.EGRESS: "nowhere"}


def draw(
    service: str,
    neighbours: Sequence[Neighbour],
    href: Callable[[str], str] = lambda key: f"/catalogue/{key}",
    identity: str = "neighbours",
) -> str:
    """The picture as one `<svg>`, deterministic, every text escaped, no inline style or script.

    `href` gives the address of a declared service by its key; `identity` keeps the ids of two pictures apart.
    """
    sides = {direction: _side(neighbours, direction) for direction in (Direction.INGRESS, Direction.EGRESS)}
    rows = max(1, *(len(shown) + bool(left) for shown, left in sides.values()))
    height = TOP + rows * STEP + 4
    middle = TOP + rows * STEP / 2 - (STEP - TALL) / 2
    parts: list[str] = []
    for direction, (shown, left) in sides.items():
        parts += _drawn(direction, shown, left, rows, middle, href)
    lines = [part for part in parts if part.startswith("<path")]
    nodes = [part for part in parts if not part.startswith("<path")]
    return "\n".join(
        [
            f'<svg class="neighbours" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_n(height)}"'
            f' width="{WIDTH}" height="{_n(height)}" role="group" aria-labelledby="{identity}-title {identity}-text">',
            f'<title id="{identity}-title">{escape(f"Neighbours of {service}")}</title>',
            f'<desc id="{identity}-text">{escape(alternative(neighbours))}</desc>',
            *(
                f'<text class="side-name" x="{_n(_left(direction))}" y="18" aria-hidden="true">{title}</text>'
                for direction, title in _SIDES.items()
            ),
            '<g class="lines" aria-hidden="true">',
            *lines,
            "</g>",
            *nodes,
            _centre(service, middle),
            "</svg>",
            "",
        ]
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
    return f"{text} ({item.mark})" if item.mark else text


def _side(neighbours: Sequence[Neighbour], direction: Direction) -> tuple[list[Neighbour], int]:
    """What is shown at a side, changes always among them, and how many are left out."""
    found = [item for item in neighbours if item.direction is direction]
    if len(found) <= MOST:
        return found, 0
    room = max(0, MOST - sum(1 for item in found if item.mark))
    quiet = [item for item in found if not item.mark][:room]
    kept = [item for item in found if item.mark or item in quiet]
    return kept, len(found) - len(kept)


def _left(direction: Direction) -> float:
    return 0.5 if direction is Direction.INGRESS else WIDTH - BOX - 0.5


def _drawn(
    direction: Direction,
    shown: Sequence[Neighbour],
    left: int,
    rows: int,
    middle: float,
    href: Callable[[str], str],
) -> list[str]:
    count = len(shown) + bool(left)
    first = TOP + (rows - max(1, count)) * STEP / 2
    x = _left(direction)
    if not count:
        return [f'<text class="nothing" x="{_n(x + 12)}" y="{_n(first + 28)}">{_NOBODY[direction]}</text>']
    parts = []
    for number, item in enumerate(shown):
        top = first + number * STEP
        parts += [_line(item, direction, top + TALL / 2, middle), _node(item, x, top, href)]
    if left:
        top = first + len(shown) * STEP
        parts.append(f'<text class="nothing" x="{_n(x + 12)}" y="{_n(top + 28)}">and {left} more, in the table</text>')
    return parts


def _line(item: Neighbour, direction: Direction, y: float, middle: float) -> str:
    """From the one who opens the connection to the one who takes it, with an arrow's head there."""
    centre = (WIDTH - CENTRE) / 2
    if direction is Direction.INGRESS:
        start, end, ahead, behind = BOX + 1.0, centre - 1.0, y, middle
    else:
        start, end, ahead, behind = centre + CENTRE + 1.0, WIDTH - BOX - 1.0, middle, y
    half = (start + end) / 2
    head = f"M{_n(end - 7)} {_n(behind - 4)}l7 4-7 4"
    return (
        f'<path class="{_classes("", item)}" d="M{_n(start)} {_n(ahead)}'
        f'C{_n(half)} {_n(ahead)} {_n(half)} {_n(behind)} {_n(end)} {_n(behind)}"/>'
        f'<path class="{_classes("head", item)}" d="{head}"/>'
    )


def _node(item: Neighbour, x: float, top: float, href: Callable[[str], str]) -> str:
    at, sign = x + 14, ""
    if item.mark:
        sign = (
            f'<g transform="translate({_n(x + 19)} {_n(top + 17)})"><circle class="mark" r="9"/>'
            f'<path class="sign" d="{_SIGNS[item.mark]}"/></g>'
        )
        at = x + 36
    room = x + BOX - at - 8
    below = _below(item)
    body = (
        f"<title>{escape(_hover(item))}</title>"
        f'<rect class="box" x="{_n(x)}" y="{_n(top + 0.5)}" width="{BOX}" height="{TALL - 1}" rx="6"/>'
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
        str(item.mark),
        f"{item.before} → {ports}" if item.before else ports,
        f"on {', '.join(item.clusters)}" if item.clusters else "",
        "implied" if item.implied else "",
        "" if item.agreed else "not accepted there",
    ]
    return " · ".join(word for word in words if word)


def _hover(item: Neighbour) -> str:
    below = _below(item)
    return f"{item.name}: {below}" if below else item.name


def _classes(first: str, item: Neighbour) -> str:
    names = [first, str(item.mark), "implied" if item.implied else "", "" if item.agreed else "refused"]
    return " ".join(name for name in names if name) or "plain"


def _centre(service: str, middle: float) -> str:
    namespace, _, name = service.partition("/")
    x, top = (WIDTH - CENTRE) / 2, middle - 32
    at = _n(WIDTH / 2)
    return (
        f'<g class="centre"><rect class="box" x="{_n(x)}" y="{_n(top)}" width="{CENTRE}" height="64" rx="8"/>'
        f'<text class="label" x="{at}" y="{_n(middle - 1)}" text-anchor="middle">'
        f"{escape(_cut(name, CENTRE - 16, _LETTER))}</text>"
        f'<text class="below" x="{at}" y="{_n(middle + 18)}" text-anchor="middle">'
        f"{escape(_cut(namespace, CENTRE - 16, _SMALL))}</text></g>"
    )


def _cut(text: str, room: float, letter: float) -> str:
    most = max(8, int(room / letter))
    return text if len(text) <= most else text[: most - 1] + "…"


def _n(number: float) -> str:
    """A coordinate without a needless fraction."""
    return f"{number:g}"
