"""A routing tree as SVG: one row a route, the path of the alert lit, the reason at each node.

An outline rather than a fan: matchers are long, and sixty rows read well from top to bottom, also on a telephone.
Above that, what does not take the alert is folded: subtrees first, then runs of siblings, each a link that opens it.
Colours come from classes (`static/routing.css`); the marks differ in shape as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from pilothouse.alerts.routing.model import Route
from pilothouse.alerts.routing.walk import Explanation, Step, Verdict

FOLD_ABOVE = 60
RUN = 4
"""That many siblings in a row that don't take the alert are folded into one row."""

INDENT, LEFT, TOP = 28, 20, 12
TALL, LOW = 46, 30
WIDTH = 880
_LETTER, _SMALL = 7.8, 6.9


@dataclass(frozen=True, slots=True)
class Row:
    """A route, or (`count` > 0) a fold of that many routes below `parent`."""

    depth: int
    parent: str | None
    step: Step | None = None
    count: int = 0
    label: str = ""


def anchor(key: str) -> str:
    """The id of a route's row in the table beside the picture."""
    return f"route-{key.replace('.', '-') or 'root'}"


def rows(explanation: Explanation, opened: frozenset[str] = frozenset()) -> list[Row]:
    """What is shown, top to bottom. `opened` are the keys of routes whose children are all wanted."""
    steps = explanation.steps
    if len(steps) <= FOLD_ABOVE:
        return [Row(step.depth, step.parent, step) for step in steps]
    children: dict[str | None, list[Step]] = {}
    for step in steps:
        children.setdefault(step.parent, []).append(step)
    found: list[Row] = []
    _show(steps[0], children, opened, found)
    return found


def _show(step: Step, children: dict[str | None, list[Step]], opened: frozenset[str], found: list[Row]) -> None:
    found.append(Row(step.depth, step.parent, step))
    below = children.get(step.route.key, [])
    is_open = step.route.key in opened
    if step.verdict is not Verdict.MATCHED and not is_open:
        if below:
            found.append(_fold(step, below, "below"))
        return
    run: list[Step] = []
    for child in [*below, None]:
        if child is not None and child.verdict is not Verdict.MATCHED and not is_open:
            run.append(child)
            continue
        if len(run) >= RUN:
            found.append(_fold(step, run, "that do not take it"))
        else:
            for quiet in run:
                _show(quiet, children, opened, found)
        run = []
        if child is not None:
            _show(child, children, opened, found)


def _fold(parent: Step, hidden: list[Step], words: str) -> Row:
    count = sum(1 for step in hidden for _ in step.route.walk())
    one = "route" if count == 1 else "routes"
    return Row(parent.depth + 1, parent.route.key, count=count, label=f"{count} {one} {words}")


def draw(
    explanation: Explanation,
    node_href: Callable[[Step], str] = lambda step: f"#{anchor(step.route.key)}",
    fold_href: Callable[[str], str] = lambda key: f"?open={key or 'root'}",
    opened: frozenset[str] = frozenset(),
    overview: bool = False,
) -> str:
    """The picture as one `<svg>` element. Deterministic; every text is escaped; no inline style or script.

    An `overview` lights nothing and shows the receiver of each route instead of a reason.
    """
    shown = rows(explanation, opened)
    heights = [LOW if overview or not _was_tried(row.step) else TALL for row in shown]
    tops = [TOP + sum(heights[:index]) for index in range(len(shown))]
    width = max(WIDTH, *(LEFT + row.depth * INDENT + 640 for row in shown))
    height = TOP * 2 + sum(heights)
    places = {row.step.route.key: (row.depth, top) for row, top in zip(shown, tops, strict=True) if row.step}
    lines = [
        _line(row, top, places[row.parent], overview)
        for row, top in zip(shown, tops, strict=True)
        if row.parent is not None
    ]
    lines.sort(key=lambda line: "lit" in line.split(">", 1)[0])  # the lit path is drawn last, on top
    nodes = [
        _node(row.step, row.depth, top, width, node_href(row.step), overview)
        if row.step
        else _fold_node(row, top, fold_href(row.parent or ""))
        for row, top in zip(shown, tops, strict=True)
    ]
    title, text = alternative(explanation, overview)
    return "\n".join(
        [
            f'<svg class="route-tree" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
            f' height="{height}" role="group" aria-labelledby="route-tree-title route-tree-text">',
            f'<title id="route-tree-title">{escape(title)}</title>',
            f'<desc id="route-tree-text">{escape(text)}</desc>',
            '<g class="lines" aria-hidden="true">',
            *lines,
            "</g>",
            *nodes,
            "</svg>",
            "",
        ]
    )


def alternative(explanation: Explanation, overview: bool = False) -> tuple[str, str]:
    """The picture in words: a title, and the lit path with its receivers."""
    if overview:
        return f"Routing tree of {len(explanation.steps)} routes", "The table below lists every route and its receiver."
    names = explanation.receivers
    lit = [matchers_of(step.route) for step in explanation.steps if step.verdict is Verdict.MATCHED]
    return (
        f"Routing tree of {len(explanation.steps)} routes",
        f"The alert takes {' then '.join(lit)} and ends at {', '.join(names) or 'no receiver'}."
        " The table below lists every route with its reason.",
    )


def matchers_of(route: Route) -> str:
    """The matchers as the tree shows them; the root and a route without any say so in words."""
    if not route.key:
        return "root"
    return ", ".join(str(matcher) for matcher in route.matchers) or "every alert"


def _cut(text: str, room: float, letter: float) -> str:
    most = max(8, int(room / letter))
    return text if len(text) <= most else text[: most - 1] + "…"


def _was_tried(step: Step | None) -> bool:
    return step is not None and step.verdict in (Verdict.MATCHED, Verdict.FAILED)


def _line(row: Row, top: int, parent: tuple[int, int], overview: bool) -> str:
    depth, parent_top = parent
    x = LEFT + depth * INDENT
    lit = row.step is not None and row.step.verdict is Verdict.MATCHED and not overview
    return f'<path class="{"lit" if lit else "dim"}" d="M{x} {parent_top + 20}V{top + 12}H{x + INDENT - 8}"/>'


_MARKS = {
    Verdict.MATCHED: '<circle class="mark" cx="{x}" cy="{y}" r="8"/><path class="sign" d="M{a} {y}l3 3 5-6"/>',
    Verdict.FAILED: '<circle class="mark" cx="{x}" cy="{y}" r="8"/><path class="sign" d="M{b} {c}l6 6m0-6l-6 6"/>',
    Verdict.SKIPPED: '<circle class="mark" cx="{x}" cy="{y}" r="5"/>',
    Verdict.UNREACHED: '<circle class="mark" cx="{x}" cy="{y}" r="3"/>',
}


def _node(step: Step, depth: int, top: int, width: int, href: str, overview: bool) -> str:
    x, y = LEFT + depth * INDENT, top + 12
    mark = _MARKS[Verdict.SKIPPED if overview else step.verdict].format(x=x, y=y, a=x - 4, b=x - 3, c=y - 3)
    text_at = x + 16
    room = width - text_at - 12
    label = matchers_of(step.route)
    if step.final or overview:
        target = f"→ {step.settings.receiver or 'no receiver'}"
        shown = _cut(label, room - len(target) * _LETTER - 24, _LETTER)
        target_at = round(text_at + len(shown) * _LETTER + 16)
        end = f'<text class="target" x="{target_at}" y="{y + 4}">{escape(target)}</text>'
    else:
        shown, end = _cut(label, room, _LETTER), ""
    classes = "node plain" if overview else f"node {step.verdict.value}{' final' if step.final else ''}"
    tried = _was_tried(step) and not overview
    reason = (
        f'<text class="reason" x="{text_at}" y="{y + 22}">{escape(_cut(step.reason, room, _SMALL))}</text>'
        if tried
        else ""
    )
    tall = (TALL if tried else LOW) - 4
    hover = label if overview else f"{label}: {step.reason}"
    return (
        f'<a href="{escape(href)}" class="{classes}"><title>{escape(hover)}</title>'
        f'<rect class="hit" x="{x - 12}" y="{top - 4}" width="{width - x}" height="{tall}" rx="6"/>'
        f'{mark}<text class="label" x="{text_at}" y="{y + 4}">{escape(shown)}</text>{end}{reason}</a>'
    )


def _fold_node(row: Row, top: int, href: str) -> str:
    x, y = LEFT + row.depth * INDENT, top + 12
    return (
        f'<a href="{escape(href)}" class="node fold"><title>{escape(f"Show {row.label}")}</title>'
        f'<rect class="mark" x="{x - 7}" y="{y - 7}" width="14" height="14" rx="3"/>'
        f'<path class="sign" d="M{x - 4} {y}h8m-4-4v8"/>'
        f'<text class="label" x="{x + 16}" y="{y + 4}">{escape(row.label)}</text></a>'
    )
