"""Where the panels of a map stand: in columns, so that most arrows lead to the right and few cross.

The known steps of layered drawing (Sugiyama, Tagawa and Toda, https://doi.org/10.1109/TSMC.1981.4308636): break cycles,
give each panel a column, give long arrows a place in each column that they pass, and order every column by where its
neighbours stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pilothouse.policies.compare.panels import OUTSIDE, PAD, WIDE, Box, Edge, End, Panel, Scene

ACROSS, DOWN = 104.0, 22.0
"""The room between two columns, and between two panels of one."""
COLUMNS = 6
_LANE = 10.0
_SWEEPS = 12


@dataclass
class Lane:
    """Where arrows from one panel to another pass a column between them."""

    column: int
    x: float = 0
    y: float = 0
    height: float = _LANE


Item = Panel | Lane


@dataclass
class Placed:
    """`lanes`: for two panels, the lanes from the left one to the right one."""

    width: float
    height: float
    lanes: dict[tuple[str, str], list[Lane]] = field(default_factory=dict)


def place(scene: Scene, top: float) -> Placed:
    """Give every panel and box of the scene its place, below `top`."""
    weights = _weights(scene)
    _columns(scene.panels, weights)
    _loose(scene, weights)
    columns, lanes, chains = _lanes(scene.panels, weights)
    neighbours = _neighbours(chains, weights)
    for column in columns:
        _pile(column, top)
    for sweep in range(_SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            column.sort(key=lambda item: _middle(item, neighbours))
            _pile(column, top)
    _settle(columns, neighbours, top)
    _order_boxes(scene)
    height = max((item.y + item.height for column in columns for item in column), default=top)
    return Placed(len(columns) * (WIDE + 2 * PAD + ACROSS) - ACROSS, height, lanes)


Weights = dict[tuple[str, str], int]


def _weights(scene: Scene) -> Weights:
    found: Weights = {}
    for edge in scene.edges:
        pair = (scene.home[edge.source].caption, scene.home[edge.destination].caption)
        if pair[0] != pair[1]:
            found[pair] = found.get(pair, 0) + 1
    return found


def _columns(panels: Sequence[Panel], weights: Weights) -> None:
    """Senders at the left. The order comes from taking away whoever sends most and is sent to least (Eades, Lin and
    Smyth); what an arrow leads to then stands at least one column further, as long as there are columns."""
    left = [panel.caption for panel in panels]
    order: list[str] = []
    while left:
        alone = set(left)

        def surplus(name: str, alone: set[str] = alone) -> tuple[int, int]:
            out = sum(w for (one, other), w in weights.items() if one == name and other in alone)
            into = sum(w for (one, other), w in weights.items() if other == name and one in alone)
            return (0 if into else 1, out - into)

        best = max(left, key=surplus)
        order.append(best)
        left.remove(best)
    rank = {name: number for number, name in enumerate(order)}
    depth = dict.fromkeys(order, 0)
    for name in order:
        for (one, other), _ in weights.items():
            if one == name and rank[other] > rank[name]:
                depth[other] = max(depth[other], depth[name] + 1)
    for name in reversed(order):  # nobody stands further left than the arrows need
        ahead = [depth[other] for (one, other), _ in weights.items() if one == name and rank[other] > rank[name]]
        behind = any(other == name and rank[one] < rank[name] for one, other in weights)
        if ahead and not behind:
            depth[name] = max(depth[name], min(ahead) - 1)
    last = max(depth.values(), default=0)
    scale = min(1.0, (COLUMNS - 1) / last) if last else 1.0
    for panel in panels:
        panel.column = round(depth[panel.caption] * scale)
    if any(panel.caption == OUTSIDE[1] for panel in panels):
        furthest = max(panel.column for panel in panels)
        for panel in panels:
            if panel.caption == OUTSIDE[1]:
                panel.column = max(furthest, 1)
    used = sorted({panel.column for panel in panels})
    for panel in panels:
        panel.column = used.index(panel.column)


def _loose(scene: Scene, weights: Weights) -> None:
    """Panels without arrows to others: those with hubs that many reach stand last, the others where there is room."""
    linked = {caption for pair in weights for caption in pair}
    loose = [panel for panel in scene.panels if panel.caption not in linked]
    last = max((panel.column for panel in scene.panels if panel not in loose), default=0)
    heights = [0.0] * (last + 1)
    for panel in scene.panels:
        if panel not in loose:
            heights[panel.column] += panel.height + DOWN
    for panel in sorted(loose, key=lambda panel: (panel.caption not in scene.reached, panel.caption)):
        panel.column = last if panel.caption in scene.reached else heights.index(min(heights))
        heights[panel.column] += panel.height + DOWN


def _lanes(
    panels: Sequence[Panel], weights: Weights
) -> tuple[list[list[Item]], dict[tuple[str, str], list[Lane]], dict[tuple[str, str], list[Item]]]:
    columns: list[list[Item]] = [[] for _ in range(max((panel.column for panel in panels), default=-1) + 1)]
    by_caption = {panel.caption: panel for panel in panels}
    for panel in panels:
        columns[panel.column].append(panel)
    lanes: dict[tuple[str, str], list[Lane]] = {}
    chains: dict[tuple[str, str], list[Item]] = {}
    for one, other in weights:
        left, right = sorted((by_caption[one], by_caption[other]), key=lambda panel: panel.column)
        key = (left.caption, right.caption)
        if key in lanes:
            continue
        lanes[key] = [Lane(column) for column in range(left.column + 1, right.column)]
        for lane in lanes[key]:
            columns[lane.column].append(lane)
        chains[key] = [left, *lanes[key], right]
    return columns, lanes, chains


Neighbours = dict[int, list[tuple[Item, int]]]


def _neighbours(chains: dict[tuple[str, str], list[Item]], weights: Weights) -> Neighbours:
    """Item (by identity) → (what stands next to it on an arrow, how many arrows)."""
    found: Neighbours = {}
    for (one, other), chain in chains.items():
        weight = weights.get((one, other), 0) + weights.get((other, one), 0)
        for left, right in pairwise(chain):
            found.setdefault(id(left), []).append((right, weight))
            found.setdefault(id(right), []).append((left, weight))
    return found


def _middle(item: Item, neighbours: Neighbours) -> float:
    known = neighbours.get(id(item), ())
    total = sum(weight for _, weight in known)
    if not total:
        return item.y + item.height / 2
    return sum((other.y + other.height / 2) * weight for other, weight in known) / total


def _pile(column: list[Item], top: float) -> None:
    y = top
    for item in column:
        item.x, item.y = _left(item), y
        y += item.height + (DOWN if isinstance(item, Panel) else _LANE / 2)


def _left(item: Item) -> float:
    return item.column * (WIDE + 2 * PAD + ACROSS)


def _settle(columns: list[list[Item]], neighbours: Neighbours, top: float) -> None:
    """Move the items of a column towards their neighbours, in their order, no two over each other."""
    tallest = max((column[-1].y + column[-1].height for column in columns if column), default=top)
    for column in columns:
        if column:
            shift = (tallest - column[-1].y - column[-1].height) / 2
            for item in column:
                item.y += shift
    for _ in range(_SWEEPS):
        for column in columns:
            wanted = [_middle(item, neighbours) - item.height / 2 for item in column]
            least = top
            for item, y in zip(column, wanted, strict=True):
                item.y = max(least, y)
                least = item.y + item.height + (DOWN if isinstance(item, Panel) else _LANE)
            most = tallest
            for item in reversed(column):
                item.y = max(top, min(item.y, most - item.height))
                most = item.y - (DOWN if isinstance(item, Panel) else _LANE)
    for column in columns:  # where there is too little room, the column grows downwards
        least = top
        for item in column:
            item.y = max(item.y, least)
            least = item.y + item.height + (DOWN if isinstance(item, Panel) else _LANE / 2)


def _order_boxes(scene: Scene) -> None:
    """Within a panel, boxes stand by where their arrows lead."""
    for panel in scene.panels:
        panel.stack()
    boxes: dict[End, Box] = {}
    for panel in scene.panels:
        for box in panel.boxes:
            boxes[box.member.party] = box
    for _ in range(3):
        for panel in scene.panels:
            panel.boxes.sort(key=lambda box: _pull(box, scene.edges, boxes, scene))
            panel.stack()


def _pull(box: Box, edges: Sequence[Edge], boxes: dict[End, Box], scene: Scene) -> float:
    found = []
    for edge in edges:
        for own, other in ((edge.source, edge.destination), (edge.destination, edge.source)):
            if own == box.member.party:
                target = boxes.get(other)
                found.append(target.y if target is not None else scene.home[other].y)
    return sum(found) / len(found) if found else box.y
