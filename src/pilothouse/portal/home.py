"""Home: what needs me now? Each module of this package may add a panel: a function `home` beside its blueprint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, render_template

from pilothouse.platform.model import AlertSeverity, Service
from pilothouse.portal.frame import HomePanel, NavItem, live, me, portal
from pilothouse.portal.problems import known_problems
from pilothouse.problems import Problem, Severity

blueprint = Blueprint("home", __name__)
NAV = (NavItem("Home", "home.index", 0),)
SHOWN = 8


@dataclass(frozen=True, slots=True)
class OnCall:
    """A team of the person with its rotation's users; `rotation` empty when it declares none."""

    team: str
    users: tuple[str, ...]


@blueprint.get("/")
def index() -> str:
    panels = [panel for make in portal().panels if (panel := make()) is not None]
    panels.extend(_own())
    panels.sort(key=lambda panel: (not panel.urgent, panel.order))
    return render_template("home.html", panels=panels)


def _own() -> list[HomePanel]:
    found = live()
    teams = me().teams
    services = [item for item in found.platform.services.values() if item.team in teams]
    known = known_problems()
    mine = [item for item in known.problems if concerns(item, teams, services)]
    findings = sum(item.severity is Severity.INFO for item in mine)
    mine = [item for item in mine if item.severity is not Severity.INFO]
    errors = sum(item.severity is Severity.ERROR for item in mine)
    return [
        HomePanel(
            "Problems of my teams",
            "home/problems.html",
            40,
            {
                "problems": sorted(mine, key=lambda item: item.severity.rank)[:SHOWN],
                "total": len(mine),
                "findings": findings,
                "waiting": known.waiting,
                "since": known.since,
            },
            urgent=errors > 0,
        ),
        HomePanel("My services", "home/services.html", 50, {"services": services[:SHOWN], "total": len(services)}),
        HomePanel("Alerts of my teams", "home/alerts.html", 60, _alerts(services)),
    ]


def concerns(problem: Problem, teams: frozenset[str], services: list[Service]) -> bool:
    """Whether a problem is for one of the teams: it names one, or lies in the document of one of their services."""
    if problem.teams:
        return not teams.isdisjoint(problem.teams)
    return bool(problem.place.path) and any(item.place.path == problem.place.path for item in services)


def _alerts(services: list[Service]) -> Mapping[str, Any]:
    counts = dict.fromkeys(AlertSeverity, 0)
    for item in services:
        for alert in item.alerts:
            counts[alert.severity] += 1
    return {
        "counts": counts,
        "total": sum(counts.values()),
        "rotations": [
            OnCall(team.name, team.rotation.users if team.rotation else ())
            for team in live().platform.teams.values()
            if team.name in me().teams
        ],
    }
