"""A definition as Grafana's JSON, made with grafana-foundation-sdk.

The SDK takes milliseconds for a dashboard, so it builds one per definition and set of conditions, for all clusters;
what makes it one service's own is put in afterwards, as text.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pilothouse.dashboards.model import Defaults, Definition, Panel, Row

LINKS = "@links@"
UID = "@uid@"
DATASOURCE = "datasource"


@lru_cache(maxsize=64)
def template(definition: Definition, defaults: Defaults, meets: frozenset[str]) -> str:
    """The dashboard's JSON with placeholders, `UID` and `LINKS` still in it: sorted keys, indented by two."""
    with warnings.catch_warnings():
        # The SDK prefers the second schema of dashboards, which only the newest Grafana reads; every one reads this.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _template(definition, defaults, meets)


def _template(definition: Definition, defaults: Defaults, meets: frozenset[str]) -> str:
    from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable
    from grafana_foundation_sdk.builders.dashboard import Row as RowBuilder
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    board = (
        Dashboard(definition.title)
        .uid(UID)
        .description(definition.description)
        .tags([*defaults.tags, definition.kind])
        .refresh(defaults.refresh)
        .time(defaults.since, "now")
        .timezone(defaults.timezone)
        .readonly()
        .with_variable(DatasourceVariable(DATASOURCE).label("Prometheus").type("prometheus"))
    )
    for row, panels in shown(definition, meets):
        board = board.with_row(RowBuilder(row.title))
        for panel in panels:
            board = board.with_panel(_panel(panel))
    data: Any = json.loads(JSONEncoder(sort_keys=True).encode(board.build()))
    data["links"] = LINKS
    for number, item in enumerate(data["panels"], start=1):
        item["id"] = number  # the SDK gives none to rows
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def shown(definition: Definition, meets: frozenset[str]) -> Iterator[tuple[Row, tuple[Panel, ...]]]:
    """The rows and panels whose conditions are met; a row without panels is left out."""
    for row in definition.rows:
        panels = tuple(panel for panel in row.panels if panel.needs | row.needs <= meets)
        if panels:
            yield row, panels


def links(items: tuple[tuple[str, str], ...]) -> str:
    """Links of a dashboard as JSON, indented to stand in the template's place."""
    made: list[dict[str, object]] = [
        {
            "asDropdown": False,
            "icon": "external link" if address.startswith("http") else "dashboard",
            "includeVars": False,
            "keepTime": not address.startswith("http"),
            "tags": [],
            "targetBlank": False,
            "title": title,
            "tooltip": "",
            "type": "link",
            "url": address,
        }
        for title, address in items
    ]
    return json.dumps(made, indent=2, ensure_ascii=False).replace("\n", "\n  ")


def _panel(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import common, prometheus, stat, table, timeseries
    from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
    from grafana_foundation_sdk.models.common import (
        DataSourceRef,
        GraphDrawStyle,
        LegendDisplayMode,
        LegendPlacement,
        SortOrder,
        StackingMode,
        TooltipDisplayMode,
    )
    from grafana_foundation_sdk.models.dashboard import Threshold, ThresholdsMode
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat

    made: Any
    if panel.type == "stat":
        made = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    elif panel.type == "table":
        made = table.Panel()
    else:
        made = (
            timeseries.Panel()
            .draw_style(GraphDrawStyle.LINE)
            .fill_opacity(30 if panel.stack else 8)
            .legend(
                common.VizLegendOptions()
                .display_mode(LegendDisplayMode.LIST)
                .placement(LegendPlacement.BOTTOM)
                .show_legend(True)
            )
            .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        )
        if panel.stack:
            made = made.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    made = (
        made.title(panel.title)
        .span(panel.width)
        .height(panel.height)
        .datasource(DataSourceRef(type_val="prometheus", uid=f"${{{DATASOURCE}}}"))
    )
    if panel.description:
        made = made.description(panel.description)
    if panel.unit:
        made = made.unit(panel.unit)
    if panel.min is not None or panel.type == "timeseries":
        made = made.min(panel.min or 0) if not _below_zero(panel) else made
    if panel.max is not None:
        made = made.max(panel.max)
    if panel.thresholds:
        steps = [Threshold(value=None, color="text"), *(Threshold(value=v, color=c) for v, c in panel.thresholds)]
        made = made.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    for index, target in enumerate(panel.targets):
        query = prometheus.Dataquery().expr(target.expr).legend_format(target.legend).ref_id(chr(ord("A") + index))
        if panel.type == "table":
            query = query.format(PromQueryFormat.TABLE).instant()
        elif panel.type == "stat":
            query = query.instant()
        else:
            query = query.range()
        made = made.with_target(query)
    return made


def _below_zero(panel: Panel) -> bool:
    """Whether a panel shows something downwards, so that its axis must not start at zero."""
    return panel.min is None and any(target.expr.startswith("-") for target in panel.targets)
