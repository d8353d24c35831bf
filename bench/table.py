"""Figures in rows: as aligned text for a terminal, and as they stand in the JSON file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One figure of each row: `digits` after the point; `most` is what the figure is held to, where there is such."""

    key: str
    heading: str
    unit: str = ""
    digits: int = 0

    def text(self, value: Any) -> str:
        if value is None or value == "":
            return ""
        if isinstance(value, str):
            return value
        sign = "x" if self.unit == "x" else ""
        unit = f" {self.unit}" if self.unit not in ("", "x", "%") else "%" if self.unit == "%" else ""
        return f"{sign}{value:,.{self.digits}f}{unit}"


@dataclass(frozen=True)
class Budget:
    """`key` of the rows whose `name` it is must stay at or below `most`."""

    name: str
    key: str
    most: float


@dataclass
class Table:
    """`rows` have a `name` and a figure for each column; a figure that is missing is left empty."""

    title: str
    columns: Sequence[Column]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    budgets: Sequence[Budget] = ()

    def text(self) -> str:
        cells = [["", *(column.heading for column in self.columns)]]
        cells += [
            [str(row["name"]), *(column.text(row.get(column.key)) for column in self.columns)] for row in self.rows
        ]
        widths = [max(len(line[at]) for line in cells) for at in range(len(self.columns) + 1)]
        lines = [
            "  ".join(
                text.ljust(width) if not at else text.rjust(width)
                for at, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        return "\n".join([self.title, "", *lines, *self.notes])

    def over(self) -> list[str]:
        """The figures above what they are held to."""
        return [
            f"{self.title}: {row['name']}: {budget.key} {row[budget.key]} is above {budget.most}"
            for budget in self.budgets
            for row in self.rows
            if row["name"] == budget.name and row.get(budget.key, 0) > budget.most
        ]

    def as_data(self) -> dict[str, Any]:
        return {"title": self.title, "rows": self.rows, "notes": self.notes}


def shares(steps: Mapping[str, float], whole: str) -> list[Row]:
    """Seconds by step as milliseconds and per cent of all of them, and a last row `whole` that is their sum."""
    together = sum(steps.values())
    rows: list[Row] = [
        {"name": name, "milliseconds": round(1000 * seconds, 2), "share": round(100 * seconds / together, 1)}
        for name, seconds in steps.items()
    ]
    return [*rows, {"name": whole, "milliseconds": round(1000 * together, 2), "share": 100}]


def grown(rows: Iterable[Row], size: str, figure: str) -> None:
    """Adds to each row but the first how often `size` and `figure` of the row before fit in its own.

    `size_growth` beside `growth`: where the second is not above the first, it grows no faster than its input does.
    """
    before: Row | None = None
    for row in rows:
        if before is not None and before[size] and before[figure]:
            row["size_growth"] = round(row[size] / before[size], 1)
            row["growth"] = round(row[figure] / before[figure], 1)
        before = row


GROWTH = (Column("size_growth", "size", "x", 1), Column("growth", "growth", "x", 1))
