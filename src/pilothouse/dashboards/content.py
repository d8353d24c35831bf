"""The files of `dashboards/`; their format is documented in `dashboards/README.md`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from pilothouse import links
from pilothouse.dashboards.model import Defaults, Definition, Panel, Row, Target
from pilothouse.dashboards.placeholders import KNOWN, unknown
from pilothouse.inputs import Content
from pilothouse.problems import Problem, Problems, error, one_of
from pilothouse.source import Node, load, validate

AREA = "dashboards"
DEFAULTS = "dashboards/defaults.yaml"
Condition = Literal["metrics", "sql", "edge"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class _Threshold(_Document):
    value: float
    color: str


class _Target(_Document):
    expr: str
    legend: str = ""


class _Panel(_Document):
    title: str
    type: Literal["timeseries", "stat", "table"] = "timeseries"
    description: str = ""
    unit: str = ""
    width: int = Field(12, ge=1, le=24)
    height: int = Field(8, ge=2, le=40)
    stack: bool = False
    min: float | None = None
    max: float | None = None
    thresholds: list[_Threshold] = []
    needs: list[Condition] = []
    targets: list[_Target] = Field(min_length=1, max_length=26)


class _Row(_Document):
    title: str
    needs: list[Condition] = []
    panels: list[_Panel] = Field(min_length=1)


class _Definition(_Document):
    kind: Literal["service", "team", "cluster"]
    name: str = Field("", pattern=r"^([a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?)?$")
    title: str
    description: str = ""
    rows: list[_Row] = Field(min_length=1)

    @model_validator(mode="after")
    def _conditions(self) -> _Definition:
        if self.kind != "service" and any(row.needs or any(panel.needs for panel in row.panels) for row in self.rows):
            raise ValueError("`needs` is about services | remove it from this definition")
        return self


class _Defaults(_Document):
    refresh: str = "1m"
    since: str = Field("now-6h", alias="from")
    timezone: str = "browser"
    tags: list[str] = ["pilothouse"]


def read(content: Content) -> tuple[Defaults, tuple[Definition, ...], Problems]:
    """Defaults, definitions by file, and every mistake in them."""
    problems: list[Problem] = []
    defaults = Defaults()
    definitions: dict[tuple[str, str], Definition] = {}
    for path, source in content.under("dashboards"):
        nodes, complaints = load(source)
        problems += complaints
        for node in nodes:
            if path == DEFAULTS:
                given, found = validate(node, _Defaults, AREA)
                problems += found
                defaults = _defaults(given) if given else defaults
                continue
            parsed, found = validate(node, _Definition, AREA)
            problems += found
            if parsed is None:
                continue
            key = (parsed.kind, parsed.name)
            if key in definitions:
                problems.append(
                    error(
                        "dashboards/duplicate-definition",
                        f"{definitions[key].path} describes the {parsed.kind} dashboard {parsed.name!r} already",
                        node.at("kind"),
                        "give one of them a `name` of its own",
                    )
                )
                continue
            problems += _placeholders(parsed, node)
            definitions[key] = _definition(parsed, node, path)
    if definitions:
        found_links, faults = links.read(content)
        problems += faults
        defaults = replace(defaults, portal_url=found_links.portal) if found_links else defaults
    return defaults, tuple(definitions[key] for key in sorted(definitions)), tuple(problems)


def _defaults(parsed: _Defaults) -> Defaults:
    return Defaults(refresh=parsed.refresh, since=parsed.since, timezone=parsed.timezone, tags=tuple(parsed.tags))


def _placeholders(parsed: _Definition, node: Node) -> list[Problem]:
    """A problem for each `$word` of an expression or title that nothing replaces."""
    texts: list[tuple[tuple[str | int, ...], str]] = [
        (("title",), parsed.title),
        (("description",), parsed.description),
    ]
    for r, row in enumerate(parsed.rows):
        for p, panel in enumerate(row.panels):
            texts += [
                (("rows", r, "panels", p, "targets", t, "expr"), target.expr) for t, target in enumerate(panel.targets)
            ]
    return [
        error(
            "dashboards/unknown-placeholder",
            f"nothing replaces ${word} in a {parsed.kind} dashboard",
            node.at(*path),
            one_of(f"${name}" for name in KNOWN[parsed.kind]),
        )
        for path, text in texts
        for word in unknown(parsed.kind, text)
    ]


def _definition(parsed: _Definition, node: Node, path: str) -> Definition:
    return Definition(
        kind=parsed.kind,
        title=parsed.title,
        rows=tuple(
            Row(
                row.title,
                tuple(_panel(panel, node, ("rows", r, "panels", p)) for p, panel in enumerate(row.panels)),
                frozenset(row.needs),
            )
            for r, row in enumerate(parsed.rows)
        ),
        name=parsed.name,
        description=parsed.description,
        path=path,
    )


def _panel(panel: _Panel, node: Node, at: tuple[str | int, ...]) -> Panel:
    return Panel(
        title=panel.title,
        targets=tuple(
            Target(target.expr, target.legend, node.at(*at, "targets", index, "expr"))
            for index, target in enumerate(panel.targets)
        ),
        type=panel.type,
        description=panel.description,
        unit=panel.unit,
        width=panel.width,
        height=panel.height,
        stack=panel.stack,
        min=panel.min,
        max=panel.max,
        thresholds=tuple((item.value, item.color) for item in panel.thresholds),
        needs=frozenset(panel.needs),
    )
