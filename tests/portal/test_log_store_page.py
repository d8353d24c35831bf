"""The log store on the catalogue's pages: its figures with their age, and the reason where it is dead."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.builders import cluster, platform, pod, service, snapshot
from support.portal import NOW, FakeEngine, login, make_app

from pilothouse.collectors.logging.figures import Health, IndexFigures, NodeFigures, Reading, Written
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Endpoint, Logs, Servers
from pilothouse.workflows.log_figures import Seen
from pilothouse.workflows.log_store import declared, status_of

GIB = 1024**3
NODE = NodeFigures(
    identity="a", name="es-<0>", roles=("data",), started=0, active=2, queued=1234, completed=100, rejected=40,
    in_flight=3 * GIB, in_flight_limit=4 * GIB, pressure_rejections=2, heap_used=GIB, heap_most=4 * GIB, tripped=0,
    disk_free=25, disk_total=100, indexed=1_000,
)  # fmt: skip
INDEX = IndexFigures(".ds-pilothouse-logs-30d-2026.11.21-000001", "pilothouse-logs-30d", 12_345, 5 * GIB, 12_345, 0)


class Watch:
    """What the test says is known."""

    def __init__(self) -> None:
        self.reason = ""
        self.dead = False

    def look(self, inputs: Inputs) -> Seen:
        if self.dead:
            return Seen(reason=self.reason)
        wrote = (Written("pay/api", 5_000, 3 * 1024**2, 7, 2048.0),)
        now = Reading(NOW - timedelta(seconds=42), Health("yellow", 1, 1, 6, 0), (NODE,), (INDEX,), wrote)
        older = replace(NODE, rejected=30, pressure_rejections=0, indexed=900)
        before = replace(now, at=now.at - timedelta(seconds=10), nodes=(older,), indices=())
        return Seen(status_of(declared(inputs), now, before), self.reason)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def app(tmp_path: Path, watch: Watch) -> Flask:
    on = cluster("prod", servers=Servers(elasticsearch=Endpoint("https://logs.example")))
    services = [service("pay/api", logs=Logs(rate=1024)), service("pay/idle")]
    engine = FakeEngine(platform(services, clusters=[on]), {"prod": snapshot([pod("pay/api.1"), pod("pay/idle.1")])})
    return make_app(tmp_path, engine=engine, users_={"pay-1": {}}, extra={"log_figures": watch})


def text(app: Flask, path: str) -> str:
    response = login(app, "pay-1").get(path)
    assert response.status_code == 200, response.get_data(as_text=True)
    return " ".join(response.get_data(as_text=True).split())


def test_the_catalogue_shows_bulk_thread_pool_and_index_figures(app: Flask) -> None:
    page = text(app, "/catalogue/")
    assert "Log store of prod" in page
    assert "yellow" in page
    assert "42 s ago" in page
    assert "3 GiB of" in page
    assert "rejected above 4 GiB" in page
    assert "12</span> within 10 s" in page
    assert "10 records/s, copies included" in page
    assert "<td>es-&lt;0&gt;</td><td>2</td><td>1,234</td>" in page
    assert "25% of 4 GiB" in page
    assert "<code>pilothouse-logs-30d</code></td><td>1</td><td>12,345</td>" in page
    assert "5 GiB</td>" in page
    assert "/problems/logging/store-rejects" in page
    assert "pilothouse logs status prod" in page


def test_a_service_shows_what_it_writes_against_what_it_declared(app: Flask) -> None:
    page = text(app, "/catalogue/pay/api")
    assert "2 KiB/s of 1 KiB/s declared for 1 pod" in page
    assert "above what is declared" in page
    assert "5,000 records, 3 MiB of lines" in page
    assert "<code>pilothouse-logs-30d</code>, 30 days" in page
    idle = text(app, "/catalogue/pay/idle")
    assert "0 B/s of 50 KiB/s declared for 1 pod" in idle
    assert "above what is declared" not in idle


def test_a_dead_store_is_a_reason_beside_its_last_figures(app: Flask, watch: Watch) -> None:
    watch.reason = "elasticsearch at https://logs.example does not answer"
    page = text(app, "/catalogue/")
    assert watch.reason in page
    assert "42 s ago" in page
    service_page = text(app, "/catalogue/pay/api")
    assert f"Not read since: {watch.reason}" in service_page
    watch.dead = True
    assert watch.reason in text(app, "/catalogue/")
    assert f"What it writes on prod is not known: {watch.reason}" in text(app, "/catalogue/pay/api")


def test_a_platform_without_a_store_says_so(tmp_path: Path) -> None:
    plain = make_app(tmp_path, platform([service("pay/api")]), users_={"pay-1": {}})
    assert "dev declares no log store" in text(plain, "/catalogue/")


def test_a_store_that_does_not_answer_never_breaks_a_page(tmp_path: Path) -> None:
    """The real watch and the real client, at an address where nobody listens."""
    on = cluster("prod", servers=Servers(elasticsearch=Endpoint("http://127.0.0.1:9")))
    app: Any = make_app(tmp_path, platform([service("pay/api")], clusters=[on]), users_={"pay-1": {}})
    page = text(app, "/catalogue/")
    assert "Log store of prod" in page
    assert "does not answer" in page or "being read for the first time" in page
