"""The runbooks, where `runbook_url` of an alert leads: a page for each, so that a login in between does not lose it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, abort, render_template

from pilothouse.alerts import content as alerts_content
from pilothouse.alerts import runbooks
from pilothouse.alerts.content import StandardRule
from pilothouse.alerts.runbooks import Runbook
from pilothouse.portal.frame import NavItem, live
from pilothouse.portal.text import html_of

blueprint = Blueprint("runbooks", __name__, url_prefix="/runbooks")
NAV = (NavItem("Runbooks", "runbooks.index", 45, "What is there"),)


@dataclass(frozen=True)
class Shelf:
    """The runbooks by name, and the standard rules that lead to each; kept as long as the platform is."""

    runbooks: Mapping[str, Runbook]
    rules: Mapping[str, tuple[StandardRule, ...]]


def shelf() -> Shelf:
    def make() -> Shelf:
        found = runbooks.read(live().content)
        rules = alerts_content.read(live().content).rules
        return Shelf(found, {name: tuple(rule for rule in rules if rule.runbook == name) for name in found})

    return live().derived("runbooks", make)


@blueprint.get("/")
def index() -> str:
    """Every runbook, with the alerts that lead to it."""
    return render_template("runbooks/index.html", shelf=shelf())


@blueprint.get("/<name>")
def show(name: str) -> str:
    """What to do about the alerts that lead here."""
    found = shelf()
    if name not in found.runbooks:
        abort(404, f"there is no runbook {name}")
    runbook = found.runbooks[name]
    return render_template(
        "runbooks/show.html", runbook=runbook, text=html_of(runbook.text), rules=found.rules[name], shelf=found
    )
