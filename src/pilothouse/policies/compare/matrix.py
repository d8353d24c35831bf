"""A map as a matrix: who opens connections at the left, who takes them on top, ordered by namespace.

Where there are very many parties, whole namespaces stand for them, and the darker the more of their pairs connect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from pilothouse.policies.compare.drawing import SMALL, cut, frame, in_words, n, text
from pilothouse.policies.compare.map import Link, Map
from pilothouse.policies.engine import ALL
from pilothouse.policies.parties import Kind, Party
from pilothouse.reports import plural

PARTIES_UP_TO = 160
CELL = 14.0
NAMES, TOP, MARGIN = 250.0, 76.0, 24.0
"""Names have that much room at most."""
OUTSIDE = "outside"
_LETTER = SMALL * 0.95


@dataclass(frozen=True, slots=True)
class _Line:
    """A row and a column: a party, or a whole namespace."""

    space: str
    name: str
    parties: tuple[Party, ...]


def draw_matrix(found: Map, *, alone: bool = True, identity: str = "policy-map") -> str:
    """The matrix as one `<svg>`."""
    lines = _lines(found)
    whole = len(lines) > PARTIES_UP_TO
    if whole:
        lines = _by_space(lines)
    index = {party: number for number, line in enumerate(lines) for party in line.parties}
    cells = _dense(found, lines, index) if whole else _cells(found, lines, index)
    size = len(lines) * CELL
    names = min(NAMES, 24 + max((len(line.name) for line in lines), default=0) * SMALL * (1.12 if whole else 1.0))
    start = TOP + names
    title = f"Who reaches whom: {found.title}" if found.title else "Who reaches whom"
    unit = "namespace" if whole else "party"
    words = (
        f"{plural(len(lines), unit, 'parties' if unit == 'party' else '')}, {plural(len(found.links), 'connection')}; "
        "a row opens connections to its columns; "
        + (
            "the darker, the more of the pairs connect"
            if whole
            else "pale: as one of a group; framed: some requests only"
        )
    )
    parts = [
        text(title, MARGIN, 34, "heading"),
        text(words, MARGIN, 56, "below"),
        f'<g transform="translate({n(MARGIN + names)} {n(start)})">',
        *_ground(lines, size, names),
        *cells,
        *_names(lines, whole, names),
        "</g>",
    ]
    width = max(MARGIN * 2 + names + size, 640.0)
    return frame(title, in_words(found.links), width, start + size + MARGIN, parts, alone=alone, identity=identity)


def _lines(found: Map) -> list[_Line]:
    """One for each party that has pods, by namespace; then the addresses."""
    inside = [
        _Line(member.namespace or "host endpoints", member.party.name, (member.party,))
        for member in found.members
        if member.pods
    ]
    outside = [
        _Line(OUTSIDE, member.party.name, (member.party,))
        for member in found.members
        if member.party.kind is Kind.ADDRESSES
    ]
    return [*sorted(inside, key=lambda line: (line.space, line.name)), *outside]


def _by_space(lines: Sequence[_Line]) -> list[_Line]:
    spaces: dict[str, list[Party]] = {}
    for line in lines:
        spaces.setdefault(line.space, []).extend(line.parties)
    return [_Line(name, name, tuple(parties)) for name, parties in spaces.items()]


def _ground(lines: Sequence[_Line], size: float, names: float) -> Iterator[str]:
    """Every second namespace shaded, both ways, and lines between them."""
    yield f'<rect class="grid" width="{n(size)}" height="{n(size)}"/>'
    for number, (_, first, count) in enumerate(_runs(lines)):
        at, length = first * CELL, count * CELL
        if number % 2:
            yield f'<rect class="band" x="0" y="{n(at)}" width="{n(size)}" height="{n(length)}"/>'
        yield f'<path class="grid" d="M{n(-names)} {n(at)}H{n(size)}M{n(at)} {n(-names)}V{n(size)}"/>'


def _runs(lines: Sequence[_Line]) -> Iterator[tuple[str, int, int]]:
    """(namespace, its first line, how many)."""
    first = 0
    for number in range(1, len(lines) + 1):
        if number == len(lines) or lines[number].space != lines[first].space:
            yield lines[first].space, first, number - first
            first = number


def _names(lines: Sequence[_Line], whole: bool, names: float) -> Iterator[str]:
    for number, line in enumerate(lines):
        middle = (number + 0.5) * CELL + 3.5
        name = cut(line.name, names - 10, _LETTER)
        kind = "caption" if whole else "below"
        yield text(name, -8, middle, kind, "end")
        yield f'<text class="{kind}" transform="translate({n(middle)} -8) rotate(-90)">{escape(name)}</text>'


# ---------------------------------------------------------------- cells


def _ends(found: Map, party: Party, index: Mapping[Party, int]) -> tuple[int, ...]:
    return tuple(index[item] for item in found.groups.get(party, (party,)) if item in index)


def _cells(found: Map, lines: Sequence[_Line], index: Mapping[Party, int]) -> Iterator[str]:
    crowds: dict[bool, set[tuple[int, int]]] = {True: set(), False: set()}
    plain: dict[tuple[int, int], list[Link]] = {}
    for link in found.links:
        is_crowd = Kind.GROUP in (link.source.kind, link.destination.kind)
        for row in _ends(found, link.source, index):
            for column in _ends(found, link.destination, index):
                if is_crowd:
                    crowds[link.connections == ALL].add((row, column))
                else:
                    plain.setdefault((row, column), []).append(link)
    for everything, members in crowds.items():
        if members:
            yield f'<path class="crowd{" all" if everything else ""}" d="{_squares(members)}"/>'
    for (row, column), links in sorted(plain.items()):
        names = ["cell"]
        names += ["all"] * any(link.connections == ALL for link in links)
        names += ["conditional"] * all(link.conditional for link in links)
        names += ["some"] * all(link.some for link in links)
        hover = "\n".join(map(str, links))
        yield _cell(row, column, " ".join(names), hover)


def _squares(members: set[tuple[int, int]]) -> str:
    """Cells next to each other in a row as one."""
    found: list[str] = []
    for row, column in sorted(members):
        if (row, column - 1) in members:
            continue
        last = column
        while (row, last + 1) in members:
            last += 1
        width = (last - column + 1) * CELL - 2
        found.append(f"M{n(column * CELL + 1)} {n(row * CELL + 1)}h{n(width)}v{n(CELL - 2)}h{n(-width)}z")
    return "".join(found)


def _dense(found: Map, lines: Sequence[_Line], index: Mapping[Party, int]) -> Iterator[str]:
    """How much of namespace times namespace connects, in five steps."""
    sizes = [len(line.parties) for line in lines]
    counts: dict[tuple[int, int], float] = {}
    for link in found.links:
        rows, columns = (_counted(_ends(found, party, index)) for party in (link.source, link.destination))
        for row, many in rows.items():
            for column, others in columns.items():
                counts[row, column] = counts.get((row, column), 0) + many * others
    for (row, column), count in sorted(counts.items()):
        share = min(1.0, count / (sizes[row] * sizes[column]))
        step = next(number for number, most in enumerate((0.02, 0.1, 0.3, 0.7, 1.0), 1) if share <= most)
        pairs = plural(round(count), "pair")
        hover = f"{lines[row].name} → {lines[column].name}: {pairs} of {sizes[row] * sizes[column]:,}"
        yield _cell(row, column, "cell", hover, f' fill-opacity="{step / 5:g}"')


def _counted(numbers: Sequence[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for number in numbers:
        found[number] = found.get(number, 0) + 1
    return found


def _cell(row: int, column: int, kind: str, hover: str, more: str = "") -> str:
    x, y, side = n(column * CELL + 1), n(row * CELL + 1), n(CELL - 2)
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{side}" height="{side}" rx="2"{more}>'
        f"<title>{escape(hover)}</title></rect>"
    )
