"""How long does the portal take for a page of a large platform, while thousands of alerts fire?

The application answers in this process, so that what is timed is the server's own work, from the request's first byte
to the last of the answer. Each page is asked for by a member of a team, once before anybody else asked (`first`) and
then some times more. The clusters are checked beforehand, as the portal does in the background after each load. An
Alertmanager on loopback (`alertmanager.py`) says that the alerts fire. The last row is a page of the same size that
Flask hands out alone: what is above it is ours.
"""

from __future__ import annotations

import logging
import re
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import alertmanager
import render
import structlog
from flask import Flask
from flask.testing import FlaskClient
from processes import folder, tell
from table import Budget, Column, Row, Table

from pilothouse.files import platform as platform_files
from pilothouse.platform.model import Platform
from pilothouse.portal import Settings, create_app
from pilothouse.store import Store, users

SIZES = {"full": ((500, 1_000), (2_000, 10_000)), "tiny": ((4, 20),)}
"""(services, alerts that fire)."""
REPEAT = {"full": 9, "tiny": 2}
COLUMNS = (
    Column("first", "first", "ms"),
    Column("median", "median", "ms"),
    Column("slowest", "slowest", "ms"),
    Column("growth", "growth", "x", 1),
    Column("kilobytes", "size", "kB"),
)
LISTS = ("catalogue", "problems", "egress", "declared alerts", "home", "alerts that fire")
LOADING = (Column("load", "load", "s", 2), Column("check", "check", "s", 2), Column("growth", "growth", "x", 1))
_PASSWORD = "only for the benchmark"


def pages(platform: Platform, user: str) -> Iterator[tuple[str, str]]:
    """(what it is, its address) for every page whose size follows that of the platform."""
    team = next(team.name for team in platform.teams.values() if any(m.user == user for m in team.members))
    mine = next(service for service in platform.services.values() if service.team == team)
    busy = max(platform.services.values(), key=lambda service: len(service.egress))
    word = mine.name.split("-")[0]
    labels = f"team%3D{team}+severity%3Dpage+namespace%3D{mine.namespace}+service%3D{mine.name}"
    yield "home", "/"
    yield "catalogue", "/catalogue/"
    yield "catalogue, searched", f"/catalogue/?q={word}"
    yield "catalogue, sorted, page 20", "/catalogue/?page=20&sort=-team"
    yield "service", f"/catalogue/{mine.key}"
    yield "service with most egress", f"/catalogue/{busy.key}"
    yield "problems", "/problems/"
    yield "egress", "/egress/"
    yield "egress, new proposal", f"/egress/new?service={mine.key}"
    yield "alert routing", f"/alerts/?labels={labels}"
    yield "declared alerts", "/alerts/declared"
    yield "alerts that fire", "/alerts/firing"
    yield "alerts that fire, searched", f"/alerts/firing?q={word}&sort=-since"
    yield "alerts that fire, page 50", "/alerts/firing?page=50"
    yield "what fires, beside the tree", "/alerts/now"
    yield "silences", "/alerts/silences"
    yield "access", "/access/"
    yield "audit", "/audit/"
    yield "metrics", "/metrics"
    yield "API: services", "/api/v1/services"
    yield "API: one service", f"/api/v1/services/{mine.key}"


def measure(platform: Path, repeat: int, alerts: int) -> tuple[Row, list[Row]]:
    """(seconds until the platform was there and every check had run, the pages). So many alerts fire already."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with folder("portal") as data:
        store = Store(data)
        settings = Settings(
            data=data,
            platform=platform,
            secret_key=b"made for the benchmark alone, again each time",
            clock=lambda: datetime.now(UTC),
            watch_seconds=3600,  # the folder is not looked at in between
        )
        app = create_app(settings, store=store, warm=False)
        current = app.extensions["pilothouse"].current
        began = time.perf_counter()
        live = current.get()
        loaded = time.perf_counter()
        current.check_all(live)
        checked = time.perf_counter()
        user = _member(live.platform)
        users.add(store, user, _PASSWORD, datetime.now(UTC))
        client = app.test_client()
        _log_in(client, user)
        _all_fire(client, alerts)
        found = [_page(client, name, address, repeat) for name, address in pages(live.platform, user)]
        store.close()
    return {"load": round(loaded - began, 2), "check": round(checked - loaded, 2)}, found


def bare(kilobytes: float, repeat: int) -> Row:
    """A page of that size which Flask alone hands out."""
    app = Flask(__name__)
    body = "x" * int(kilobytes * 1000)
    app.add_url_rule("/", "page", lambda: body)
    return _page(app.test_client(), "a text, by Flask alone", "/", repeat)


def _member(platform: Platform) -> str:
    owners = {service.team for service in platform.services.values()}
    return next(team.members[0].user for team in platform.teams.values() if team.name in owners)


def _log_in(client: FlaskClient, user: str) -> None:
    form = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/login").get_data(as_text=True))
    if form is None:
        sys.exit("the login page has no form")
    answer = client.post("/login", data={"csrf_token": form[1], "user": user, "password": _PASSWORD})
    if answer.status_code != 302:
        sys.exit(f"the benchmark cannot log in: {answer.status}")


def _all_fire(client: FlaskClient, alerts: int) -> None:
    """Waits until the portal has heard of every alert, and says so on its page."""
    deadline = time.monotonic() + 30
    while f"{alerts:,} alerts" not in client.get("/alerts/firing").get_data(as_text=True):
        if time.monotonic() > deadline:
            sys.exit(f"the portal does not show that {alerts:,} alerts fire")
        time.sleep(0.1)


def _page(client: FlaskClient, name: str, address: str, repeat: int) -> Row:
    times = []
    for _ in range(repeat + 1):
        began = time.perf_counter()
        answer = client.get(address)
        body = answer.get_data()
        times.append((time.perf_counter() - began) * 1000)
    if answer.status_code != 200:
        sys.exit(f"{address}: {answer.status}")
    first, *rest = times
    return {
        "name": name,
        "status": answer.status_code,
        "first": round(first, 1),
        "median": round(statistics.median(rest), 2),
        "slowest": round(max(rest), 1),
        "kilobytes": round(len(body) / 1000, 1),
    }


def answer(scale: str) -> list[Table]:
    loading = Table("The portal reads its platform", LOADING)
    before: dict[str, Row] = {}
    for services, alerts in SIZES[scale]:
        tell(f"portal: {services:,} services, {alerts:,} alerts")
        with alertmanager.stub() as stub, render.generated(services, [stub.url]) as platform:
            stub.fire(platform_files.load(platform).platform, alerts)
            loaded, rows = measure(platform, REPEAT[scale], alerts)
            loaded["name"] = f"{services:,} services"
            if loading.rows:
                loaded["growth"] = round(loaded["load"] / (loading.rows[-1]["load"] or 1), 1)
            loading.rows.append(loaded)
            asked = sum(stub.asked.values())
        for row in rows:
            if (earlier := before.get(row["name"])) and earlier["median"]:
                row["growth"] = round(row["median"] / earlier["median"], 1)
        before = {row["name"]: row for row in rows}
    rows.append(bare(statistics.median(row["kilobytes"] for row in rows), REPEAT[scale]))
    table = Table(f"Pages at {services:,} services while {alerts:,} alerts fire", COLUMNS, rows)
    table.budgets = [Budget(name, "median", 300) for name in LISTS]
    first_services, first_alerts = SIZES[scale][0]
    table.notes.append(
        f"growth: beside {first_services:,} services and {first_alerts:,} alerts; Alertmanager was asked {asked} times"
    )
    return [loading, table]
