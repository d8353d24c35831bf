"""How long the portal takes for a page of a large platform: `python bench/portal.py [--services 2000] [--json FILE]`.

The application answers in this process, so that what is timed is the server's own work, from the request's first byte
to the last of the answer. Each page is asked for by a member of a team, once before anybody else asked (`first`) and
then some times more. The clusters are checked beforehand, as the portal does in the background after each load.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import about
import render
import structlog
from flask.testing import FlaskClient

from pilothouse.platform.model import Platform
from pilothouse.portal import Settings, create_app
from pilothouse.store import Store, users

SERVICES = 2000
REPEAT = 9
_PASSWORD = "only for the benchmark"


@dataclass(frozen=True)
class PageTime:
    """Milliseconds of one page; `median` and `slowest` are of the requests after the first."""

    page: str
    status: int
    first: float
    median: float
    slowest: float
    kilobytes: float


@dataclass(frozen=True)
class Loaded:
    """Seconds until the platform was there, and until every check of it had run in the background."""

    load_seconds: float
    check_seconds: float


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
    yield "access", "/access/"
    yield "audit", "/audit/"
    yield "metrics", "/metrics"
    yield "API: services", "/api/v1/services"
    yield "API: one service", f"/api/v1/services/{mine.key}"


def measure(folder: Path) -> tuple[Loaded, list[PageTime]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(prefix="portal-") as data:
        store = Store(Path(data))
        settings = Settings(
            data=Path(data),
            platform=folder,
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
        found = [_page(client, name, address) for name, address in pages(live.platform, user)]
    return Loaded(round(loaded - began, 2), round(checked - loaded, 2)), found


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


def _page(client: FlaskClient, name: str, address: str) -> PageTime:
    times = []
    for _ in range(REPEAT + 1):
        began = time.perf_counter()
        answer = client.get(address)
        body = answer.get_data()
        times.append((time.perf_counter() - began) * 1000)
    if answer.status_code != 200:
        sys.exit(f"{address}: {answer.status}")
    first, *rest = times
    return PageTime(
        name,
        answer.status_code,
        round(first, 1),
        round(statistics.median(rest), 1),
        round(max(rest), 1),
        round(len(body) / 1000, 1),
    )


HEAD = f"{'page':<28}{'first':>10}{'median':>10}{'slowest':>10}{'size':>10}"


def row(item: PageTime) -> str:
    return f"{item.page:<28}{item.first:>7.0f} ms{item.median:>7.0f} ms{item.slowest:>7.0f} ms{item.kilobytes:>7.0f} kB"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the portal's pages on a generated platform.")
    parser.add_argument("--services", type=int, default=SERVICES)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--max-milliseconds", type=float, help="fail where the median of a page is above")
    given = parser.parse_args()
    machine = about.run()
    print(about.heading(machine))
    with render.generated(given.services) as folder:
        loaded, found = measure(folder)
    print(f"\n{given.services:,} services: loaded in {loaded.load_seconds} s, checked in {loaded.check_seconds} s")
    print(HEAD, *map(row, found), sep="\n")
    if given.json:
        figures = {"services": given.services, "loaded": asdict(loaded), "pages": [asdict(item) for item in found]}
        given.json.write_text(json.dumps(machine | {"portal": figures}, indent=2) + "\n")
    slow = [item.page for item in found if given.max_milliseconds and item.median > given.max_milliseconds]
    if slow:
        sys.exit(f"over the budget: {', '.join(slow)}")


if __name__ == "__main__":
    main()
