"""`/metrics` and the jobs page: what a job that fails looks like, and what is left when the store is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from support.builders import cluster, platform, team
from support.portal import NOW, login, make_app

from pilothouse.clients import calls
from pilothouse.problems import Unavailable
from pilothouse.store import Store, jobs


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return make_app(
        tmp_path, platform([], teams=[team("infra", platform=True)], clusters=[cluster("dev")]), {"infra-1": {}}
    )


def fail(store: Store, times: int) -> None:
    jobs.register(store, "render", "Render", "every 5 minutes", NOW)
    for number in range(times):
        at = NOW + timedelta(hours=number)
        held = jobs.claim(store, "render", "host-a/17/ab", at, timedelta(minutes=5))
        assert held is not None
        jobs.finish(store, held, jobs.JobState.FAILED, "no server", at, timedelta(minutes=5))


def test_a_job_that_fails_again_says_since_when(app: Flask) -> None:
    fail(app.config["STORE"], 3)
    page = login(app, "infra-1").get("/jobs/").get_data(as_text=True)
    assert "failed 3 times in a row, since" in page
    text = app.test_client().get("/metrics").get_data(as_text=True)
    assert 'pilothouse_job_failures{job="render"} 3.0' in text
    since = next(
        line for line in text.splitlines() if line.startswith("pilothouse_job_failing_since_timestamp_seconds{")
    )
    assert float(since.split()[-1]) == NOW.timestamp()


def test_a_job_that_runs_says_where(app: Flask) -> None:
    fail(app.config["STORE"], 1)
    later = NOW + timedelta(hours=2)
    assert jobs.claim(app.config["STORE"], "render", "host-b/18/cd", later, timedelta(minutes=5)) is not None
    page = login(app, "infra-1").get("/jobs/").get_data(as_text=True)
    assert "by host-b" in page
    assert "in a row" not in page, "once is no row"


def test_calls_of_real_servers_are_counted(app: Flask) -> None:
    with calls.measured("prometheus", "targets"):
        pass
    text = app.test_client().get("/metrics").get_data(as_text=True)
    assert 'pilothouse_client_calls_total{operation="targets",outcome="ok",server="prometheus"}' in text
    assert "pilothouse_store_up 1.0" in text


def test_without_the_store_the_other_numbers_stay(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def away() -> Iterator[None]:
        raise Unavailable("the database hangs")
        yield

    monkeypatch.setattr(app.config["STORE"], "read", away)
    answer = app.test_client().get("/metrics")
    text = answer.get_data(as_text=True)
    assert answer.status_code == 200
    assert "pilothouse_store_up 0.0" in text
    assert "pilothouse_platform_stale 0.0" in text
    assert "pilothouse_job_state" not in text
