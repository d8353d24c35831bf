"""The client of Prometheus on the real server, healthy and not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.exporters import Exporter

from pilothouse.clients.http import TryLater
from pilothouse.clients.prometheus import Prometheus
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Denied, Invalid, Unavailable

CONFIG = {
    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
    "rule_files": ["rules.yml"],
    "scrape_configs": [
        {
            "job_name": "shop",
            "relabel_configs": [{"source_labels": ["__address__"], "regex": ".*:1", "action": "drop"}],
            "static_configs": [{"targets": ["127.0.0.1:1", "127.0.0.1:9"], "labels": {"team": "pay"}}],
        }
    ],
}
RULES = {
    "groups": [
        {
            "name": "g",
            "rules": [
                {"alert": "Down", "expr": "up == 0", "labels": {"team": "pay"}, "annotations": {"summary": "s"}},
                {"alert": "Later", "expr": "up == 0", "for": "1h", "keep_firing_for": "5m"},
                {"record": "up:sum", "expr": "sum by (job) (up)"},
                {"record": "bad", "expr": 'label_replace(up, "team", "a", "instance", ".*") * on(job) up'},
            ],
        }
    ]
}


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    made = Exporter()
    made.set("stock", 3, shop="a")
    made.set("stock", 4, shop="b")
    yield made
    made.close()


@pytest.fixture
def server(tmp_path: Path, prometheus: Callable[..., Any], exporter: Exporter) -> Any:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(RULES))
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    config["scrape_configs"][0]["static_configs"][0]["targets"].append(exporter.url[7:])
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    return prometheus(tmp_path / "prometheus.yml")


def until(ask: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    ends = time.monotonic() + 20
    while not wanted(found := ask()):
        assert time.monotonic() < ends, found
        time.sleep(0.2)
    return found


def test_everything_that_it_says(server: Any, exporter: Exporter) -> None:
    client = Prometheus(server.endpoint)
    client.ready()
    found = until(lambda: client.query("stock"), lambda samples: len(samples) == 2)
    assert sorted((item.labels["shop"], item.value) for item in found) == [("a", 3.0), ("b", 4.0)]
    assert abs(found[0].at - time.time()) < 60
    assert client.query("scalar(vector(7))")[0].value == 7
    assert client.query("nothing") == ()
    assert client.query("stock", at=datetime.now(UTC) - timedelta(days=1)) == ()
    now = datetime.now(UTC)
    (line,) = until(
        lambda: client.query_range('stock{shop="a"}', now - timedelta(seconds=30), datetime.now(UTC), 1),
        lambda lines: bool(lines) and len(lines[0].points) >= 3,
    )
    assert {value for _, value in line.points} == {3.0}

    targets = until(client.targets, lambda seen: {item.health for item in seen.active} == {"up", "down"})
    by_health = {item.health: item for item in targets.active}
    assert by_health["up"].labels["instance"] == exporter.url[7:]
    assert by_health["up"].labels["team"] == "pay"
    assert "connection refused" in by_health["down"].error
    assert client.targets("active", "shop").active
    assert client.targets("active", "other").active == ()
    dropped = client.targets("dropped")
    assert dropped.dropped[0]["__address__"] == "127.0.0.1:1"
    assert dropped.dropped_counts == {"shop": 1}

    (group,) = until(client.rules, lambda groups: groups[0].rules[0].state == "firing" and groups[0].rules[3].error)
    down, later, record, bad = group.rules
    assert (group.name, group.interval) == ("g", 1.0)
    assert (down.name, down.alerting, down.labels, down.alerts) == ("Down", True, {"team": "pay"}, 1)
    assert down.annotations == {"summary": "s"}
    assert (later.for_seconds, later.keep_firing_seconds, later.state) == (3600.0, 300.0, "pending")
    assert (record.alerting, record.expr, record.health) == (False, "sum by (job) (up)", "ok")
    assert bad.health == "err"
    assert "many-to-many" in bad.error
    assert [rule.name for rule in client.rules("record")[0].rules] == ["up:sum", "bad"]

    head = client.head(3)
    assert head.series >= 5
    assert len(head.names) == 3
    assert yaml.safe_load(client.config())["scrape_configs"][0]["job_name"] == "shop"
    assert client.flags()["web.enable-lifecycle"] == "true"
    runtime = client.runtime()
    assert runtime.version == "3.15.0"
    assert runtime.reload_successful
    assert runtime.reloaded_at is not None
    assert abs(runtime.started_at - datetime.now(UTC)) < timedelta(minutes=5)


def test_what_is_no_query_and_a_reload_that_is_forbidden(server: Any, faults: Callable[[str], Any]) -> None:
    proxy = faults(server.url)
    client = Prometheus(Endpoint(proxy.url))
    with pytest.raises(Invalid, match="parse error"):
        client.query("sum by (")
    with proxy.answer(403, body=b"Lifecycle API is not enabled."), pytest.raises(Denied, match="is not enabled"):
        client.reload()
    client.reload()


def test_faults(server: Any, faults: Callable[[str], Any]) -> None:
    proxy = faults(server.url)
    client = Prometheus(Endpoint(proxy.url), read=0.5)
    client.ready()
    with proxy.delay(5), pytest.raises(Unavailable, match="does not answer"):
        client.query("up")
    with proxy.cut_after(bytes=60), pytest.raises(Unavailable):
        client.query("up")
    with proxy.refuse(), pytest.raises(Unavailable):
        client.query("up")
    with proxy.answer(503, body=b"starting"), pytest.raises(TryLater, match="starting"):
        client.query("up")
    with proxy.answer(200, body=b"<html>log in</html>"), pytest.raises(Unavailable, match="what no prometheus would"):
        client.query("up")
    client.query("up")
