"""An alert of a declared rule goes Prometheus → Alertmanager → webhook at the receiver that the explainer names."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import local_bank
from support.exporters import Exporter, Hook, service_metrics
from support.portal import FakeEngine, login, make_app
from support.testbed import run, written

from pilothouse import alerts, bundle
from pilothouse.alerts.live import Board, Held
from pilothouse.artifacts.write import serialise_all
from pilothouse.clients.alertmanager import Alertmanagers
from pilothouse.clients.prometheus import Prometheus
from pilothouse.files import tree
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Invalid
from pilothouse.workflows import firing, loaded, reloading, routing

Start = Callable[..., Any]

RULES: dict[str, Any] = {
    "group": "proof",
    "owner": "service",
    "rules": [
        {"alert": "ProofPage", "expr": "proof_page{$owned} > 0", "severity": "page"},
        {"alert": "ProofTicket", "expr": "proof_ticket{$owned} > 0", "severity": "ticket"},
        {"alert": "ProofInfo", "expr": "proof_info{$owned} > 0", "severity": "info"},
    ],
}


def rules() -> dict[str, Any]:
    texts = {"summary": "It is {{ $value }}", "description": "For the test", "runbook": "replicas-below"}
    return RULES | {"rules": [{**rule, **texts} for rule in RULES["rules"]]}


@dataclass
class Chain:
    """The rendered bank on one Prometheus and one Alertmanager, with an exporter that decides what fires."""

    inputs: Inputs
    folder: Path
    exporter: Exporter
    hook: Hook
    alertmanager: Any
    prometheus: Any

    def board(self) -> Board:
        return Alertmanagers([self.alertmanager.endpoint]).board()

    def fire(self, name: str, severity: str, **labels: str) -> None:
        self.exporter.set(f"proof_{name}", 1, team="payments", namespace="payments", service="payments", **labels)

    def until(self, wanted: Callable[[Board], bool], seconds: float = 30) -> Board:
        """The first board that is as wanted."""
        ends = time.monotonic() + seconds
        while not wanted(board := self.board()):
            assert time.monotonic() < ends, [(item.name, item.held, dict(item.labels)) for item in board.alerts]
            time.sleep(0.2)
        return board


def named(board: Board, name: str) -> Any:
    return next((item for item in board.alerts if item.name == name), None)


@pytest.fixture
def chain(tmp_path: Path, prometheus: Start, alertmanager: Start) -> Iterator[Chain]:
    hook, exporter = Hook(), Exporter()
    service_metrics(exporter, 0)
    root = local_bank.write(
        tmp_path / "platform",
        hook=f"{hook.url}/",
        servers={"alertmanagers": [Endpoint("http://127.0.0.1:9")]},
        content={"alerts/rules/proof.yaml": rules()},
    )
    rendered = bundle.derive(local_bank.inputs(root))
    folder = tmp_path / "alertmanager"
    files = serialise_all(rendered.artifacts.under("alertmanager/"))
    tree.write_tree(folder, {path.removeprefix("alertmanager/"): content for path, content in files.items()})
    written(rendered, "prometheus", tmp_path)
    receiver = alertmanager(folder / "alertmanager.yaml")
    # One server that scrapes the exporter and evaluates the rendered rules of both sides.
    config = tmp_path / "prometheus" / "one.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "global": {
                    "scrape_interval": "1s",
                    "evaluation_interval": "1s",
                    "external_labels": {"cluster": "local"},
                },
                "rule_files": ["rules/leaf/*.yaml", "rules/global/*.yaml"],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [receiver.url[7:]]}]}]},
                "scrape_configs": [
                    {
                        "job_name": "payments/payments",
                        "honor_labels": True,
                        "static_configs": [{"targets": [exporter.url[7:]]}],
                    }
                ],
            }
        )
    )
    server = prometheus(config)
    local_bank.write(
        root,
        hook=f"{hook.url}/",
        servers={"alertmanagers": [receiver.endpoint]},
        content={"alerts/rules/proof.yaml": rules()},
    )
    yield Chain(local_bank.inputs(root), tmp_path, exporter, hook, receiver, server)
    hook.close()
    exporter.close()


def test_an_alert_arrives_where_the_explainer_says(chain: Chain) -> None:
    for name in ("page", "ticket"):
        chain.fire(name, name, pod=f"payments-{name}")
    board = chain.until(lambda found: named(found, "ProofPage") and named(found, "ProofTicket"))
    page = named(board, "ProofPage")
    tree = routing.tree_of(chain.inputs)
    answer = routing.explain_route(tree, page.labels, datetime.now(UTC), chain.inputs.platform)
    assert answer.explanation.receivers == page.receivers == ("payments-page",)
    path, body = chain.hook.wait(lambda path, body: path == "/payments-page" and body["status"] == "firing")
    assert path == "/" + answer.explanation.receivers[0]
    (delivery,) = answer.explanation.deliveries
    assert body["groupKey"] == delivery.group_key
    assert body["commonLabels"]["alertname"] == "ProofPage"
    assert body["commonLabels"]["pod"] == "payments-page"
    assert "ProofPage" in body["commonAnnotations"]["explain_url"]
    # The watchdog always fires; its address says which cluster it is.
    chain.hook.wait(lambda path, _: path == "/watchdog-local-global")
    (shown,) = firing.firing(board, chain.inputs.platform, datetime.now(UTC), [page])
    assert shown.why == ""
    assert shown.person == routing.oncall(chain.inputs.platform, "payments", datetime.now(UTC)).person


def test_what_holds_an_alert_back_is_what_we_say(chain: Chain) -> None:
    """Inhibited by a page of its service, muted by an interval, silenced by a person: as Alertmanager, so we."""
    chain.fire("info", "info", pod="a")
    chain.fire("ticket", "ticket", pod="a")
    tree = routing.tree_of(chain.inputs).routing
    assert tree is not None
    # Muting shows once the group was due for its first notification.
    board = chain.until(lambda found: (item := named(found, "ProofInfo")) and item.held is Held.MUTED)
    assert named(board, "ProofInfo").muted_by == ("never",)
    assert named(board, "ProofTicket").held is Held.NO
    assert_agreed(chain, board)

    chain.fire("page", "page", pod="b")
    board = chain.until(lambda found: (item := named(found, "ProofTicket")) and item.held is Held.INHIBITED)
    (ticket,) = firing.firing(board, chain.inputs.platform, datetime.now(UTC), [named(board, "ProofTicket")])
    assert ticket.why == "inhibited by ProofPage"
    assert [item.name for item in ticket.inhibitors] == ["ProofPage"]
    assert_agreed(chain, board)
    other = {**named(board, "ProofTicket").labels, "alertname": "Another"}
    held = firing.held_now(board, tree, other)
    assert [(rule.name, alert.name) for rule, alert in held.inhibited] == [("page-over-ticket", "ProofPage")]
    assert not held.silences


def assert_agreed(chain: Chain, board: Board) -> None:
    """Every alert of the board is held back by what our own reading of the configuration holds it back with."""
    tree = routing.tree_of(chain.inputs).routing
    assert tree is not None
    now = datetime.now(UTC)
    compared = 0
    for alert in board.alerts:
        ours = firing.held_now(board, tree, alert.labels)
        assert {item.fingerprint for _, item in ours.inhibited} <= {item.fingerprint for item in board.alerts}
        assert bool(ours.inhibited) == bool(alert.inhibited_by), alert.labels
        assert {id for item in ours.silences for id in item.named} == set(alert.silenced_by), alert.labels
        if alert.held is Held.MUTED:
            assert firing.muted_now(tree, alert, now)
        explained = routing.explain_route(routing.tree_of(chain.inputs), alert.labels, now)
        assert sorted(explained.explanation.receivers) == sorted(item.receiver for item in alert.taken)
        compared += 1
    assert compared >= 3


def test_loaded_is_rendered_until_somebody_edits_it(chain: Chain, amtool: Path) -> None:
    servers = Alertmanagers([chain.alertmanager.endpoint])
    expected = loaded.expected_routing(chain.inputs)
    (found,) = loaded.loaded_routing(expected, servers)
    assert (found.version, found.reason, found.differences) == ("0.31.1", "", ())

    file = chain.folder / "alertmanager" / "alertmanager.yaml"
    rendered = file.read_text()
    data = yaml.safe_load(rendered)
    branch = next(item for item in data["route"]["routes"] if item["matchers"] == ['team="payments"'])
    branch["routes"][0]["receiver"] = "platform-page"
    data["inhibit_rules"] = [rule for rule in data["inhibit_rules"] if rule["name"] != "page-over-ticket"]
    data["time_intervals"][0]["time_intervals"] = [{"years": ["2002"]}]
    data["receivers"] = [
        {**item, "email_configs": [{"to": "x@bank.example"}]} if item["name"] == "risk-page" else item
        for item in data["receivers"]
    ]
    file.write_text(yaml.safe_dump(data))
    servers.servers[0].reload()
    (found,) = loaded.loaded_routing(expected, servers)
    seen = {item.part for item in found.differences}
    assert seen == {"alert", "route", "receiver", "inhibition", "interval"}
    moved = next(item for item in found.differences if item.part == "alert")
    assert (moved.rendered, moved.loaded, moved.teams) == ("payments-page", "platform-page", ("payments",))
    assert "ProofPage" in moved.subject
    assert "ProofTicket" not in moved.subject
    route = next(item for item in found.differences if item.part == "route")
    assert route.subject.endswith('{severity="page"} receiver')

    file.write_text("route: {receiver: nobody}\n")
    with pytest.raises(Invalid, match="nobody"):
        servers.servers[0].reload()
    assert servers.servers[0].reloaded() is False
    (kept,) = loaded.loaded_routing(expected, servers)
    assert kept.differences == found.differences
    # Installed anew, checked by its own tool, it is what was rendered again.
    artifacts = bundle.derive(chain.inputs).artifacts

    def check(folder: Path) -> str:
        done = run(amtool, "check-config", folder / "alertmanager.yaml")
        return done.stderr if done.returncode else ""

    folder = chain.folder / "alertmanager"
    made = reloading.install_alertmanager(folder, chain.inputs, artifacts, expected, check)
    assert made.is_well, made
    assert made.changed == ("alertmanager.yaml",)
    assert file.read_text() == rendered
    assert servers.servers[0].reloaded() is True
    assert loaded.loaded_routing(expected, servers)[0].differences == ()


def test_the_rules_that_prometheus_loaded_are_those_that_were_rendered(chain: Chain) -> None:
    from pilothouse.collectors.metrics.loaded import rule_differences

    rendered = bundle.derive(chain.inputs).artifacts
    documents = [item.data for item in rendered.under("prometheus/rules/")]
    server = Prometheus(chain.prometheus.endpoint)
    assert list(map(str, rule_differences(documents, server.rules()))) == []
    assert sum(len(group.rules) for group in server.rules("alert")) >= len(alerts.rules(chain.inputs)) > 50
    one, *rest = documents
    assert {item.what for item in rule_differences(rest, server.rules())} == {"extra"}
    assert {item.what for item in rule_differences([*documents, {"groups": [
        {"name": "more", "rules": [{"alert": "New", "expr": "up == 0", "labels": {"team": "risk"}}]}]}], server.rules()
    )} == {"missing"}  # fmt: skip
    assert one["groups"]


def test_the_portal_shows_silences_and_survives_a_server_that_hangs(chain: Chain, tmp_path: Path) -> None:
    engine = FakeEngine(chain.inputs.platform, content=chain.inputs.content)
    users = {"alice": {"groups": ("payments-engineers",)}}
    app = make_app(tmp_path / "portal", users_=users, engine=engine, clock=lambda: datetime.now(UTC))
    browser = login(app, "alice")
    chain.fire("page", "page", pod="payments-1")
    chain.until(lambda found: named(found, "ProofPage"))
    address = "/alerts/firing?cluster=local"

    def page_until(words: str, path: str = address) -> str:
        ends = time.monotonic() + 40
        while words not in (page := browser.get(path).get_data(as_text=True)):
            assert time.monotonic() < ends, page[-4000:]
            time.sleep(0.5)
        return page

    assert "payments-page" in page_until("ProofPage")
    assert "has loaded something else" not in page_until("Firing now", "/alerts/?cluster=local")
    data = {"matchers": '{team="payments",alertname="ProofPage"}', "length": "2h", "comment": "it is known"}
    assert browser.post("/alerts/silences?cluster=local", data=data).status_code == 302
    board = chain.until(lambda found: named(found, "ProofPage").held is Held.SILENCED)
    page_until("it is known")
    (id,) = named(board, "ProofPage").silenced_by
    chain.alertmanager.pause()
    try:
        assert "ProofPage" in page_until("not fresh"), "what was last heard stays"
    finally:
        chain.alertmanager.resume()
    page_until('badge ok"')
    assert browser.post(f"/alerts/silences/{id}/end?cluster=local", data={}).status_code == 302
    chain.until(lambda found: named(found, "ProofPage").held is Held.NO)
