"""`pilothouse alerts silence` and `unsilence` through a portal that really listens."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result
from support.alertmanager_fake import FakeAlertmanager
from support.builders import cluster, platform, service, team
from support.portal import PASSWORD, make_app
from werkzeug.serving import make_server

from pilothouse.cli.access import group as access
from pilothouse.cli.alerts import group
from pilothouse.platform.model import Servers
from pilothouse.problems import Denied, Invalid

CONFIG = "route: {receiver: all}\nreceivers: [{name: all}]\n"
LABELS = {"alertname": "Slow", "team": "pay", "severity": "page"}


@pytest.fixture
def fake() -> Iterator[FakeAlertmanager]:
    made = FakeAlertmanager(CONFIG)
    yield made
    made.close()


@pytest.fixture
def engineer(tmp_path: Path, fake: FakeAlertmanager) -> Iterator[Callable[..., Result]]:
    """`engineer("pay-1", "silence", …)` runs the command as somebody who is logged in."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    declared = platform(
        [service("pay/api", team="pay")],
        [team("pay"), team("risk"), team("infra", platform=True)],
        [cluster("dev", servers=Servers(alertmanagers=(fake.endpoint,)))],
    )
    users = {name: {"groups": ()} for name in ("pay-1", "risk-1")}
    app = make_app(tmp_path / "data", declared, users, clock=lambda: datetime.now(UTC))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def run(user: str, *words: str) -> Result:
        home = tmp_path / user
        env = {"XDG_CONFIG_HOME": str(home), "HOME": str(home), "PILOTHOUSE_SERVER": ""}
        if not home.exists():
            home.mkdir()
            line = ["login", "--server", f"http://127.0.0.1:{server.server_port}", "--user", user]
            assert CliRunner().invoke(access, line, input=PASSWORD + "\n", env=env).exit_code == 0
        return CliRunner().invoke(group, list(words), env=env)

    yield run
    server.shutdown()
    thread.join()
    server.server_close()
    structlog.reset_defaults()


def test_from_silence_to_unsilence(engineer: Callable[..., Result], fake: FakeAlertmanager) -> None:
    words = ("team=pay", "alertname=~Sl.+", 'pod="a \\"b\\""', "-c", "dev", "--for", "45m", "-m", "index is rebuilt")
    made = engineer("pay-1", "silence", *words, "-o", "json")
    assert made.exit_code == 0, made.output
    found: Any = json.loads(made.output)
    assert sorted(found["matchers"]) == sorted(['team="pay"', 'alertname=~"Sl.+"', 'pod="a \\"b\\""'])
    (held,) = fake.silences.values()
    length = datetime.fromisoformat(held["endsAt"]) - datetime.fromisoformat(held["startsAt"])
    assert length.total_seconds() == 45 * 60
    assert (held["createdBy"], held["comment"]) == ("pay-1", "index is rebuilt")
    refused = engineer("risk-1", "unsilence", found["id"], "-c", "dev")
    assert isinstance(refused.exception, Denied)
    ended = engineer("pay-1", "unsilence", found["id"], "-c", "dev")
    assert f"Ended {found['id']}." in ended.output
    again = engineer("pay-1", "unsilence", found["id"], "-c", "dev")
    assert isinstance(again.exception, Invalid)
    assert "already" in str(again.exception)


def test_another_teams_alerts(engineer: Callable[..., Result], fake: FakeAlertmanager) -> None:
    refused = engineer("risk-1", "silence", "team=pay", "-c", "dev", "-m", "why")
    assert isinstance(refused.exception, Denied)
    assert "it belongs to team pay" in str(refused.exception)
    assert fake.silences == {}
