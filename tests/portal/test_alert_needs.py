"""What alerts need of the portal: metrics that their rules read, and pages that their links open."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask
from support.builders import bundle_content, cluster, platform, service, team
from support.portal import NOW, FakeEngine, login, make_app
from werkzeug.test import TestResponse

from pilothouse import alerts, links
from pilothouse.access import certificates
from pilothouse.alerts.runbooks import PATH
from pilothouse.inputs import Content
from pilothouse.platform.authority import Authority
from pilothouse.platform.model import AlertSeverity, Receiver
from pilothouse.portal import authorities
from pilothouse.promql import analyse

CLUSTERS = [cluster("dev"), cluster("prod"), cluster("lab", authority=Authority("vault", "pki-lab"))]


def made(tmp_path: Path, content: Content | None = None) -> Flask:
    receivers = (Receiver(AlertSeverity.PAGE, email="a@bank.example"),)
    teams = [team("infra", platform=True, receivers=receivers), team("pay", receivers=receivers)]
    engine = FakeEngine(platform([service("pay/api")], teams=teams, clusters=CLUSTERS), content=content)
    return make_app(tmp_path, engine=engine, users_={"infra-1": {}})


def publish(app: Flask, name: str) -> None:
    folder = app.extensions["pilothouse"].settings.data / authorities.FOLDER
    folder.mkdir(exist_ok=True)
    authority = certificates.create_authority(f"access {name}", ec.generate_private_key(ec.SECP256R1()), 7, NOW)
    (folder / f"{name}.crt").write_text(certificates.pem(authority))


def metrics(app: Flask) -> str:
    return app.test_client().get("/metrics").get_data(as_text=True)


def values(text: str, name: str) -> dict[str, float]:
    return {label: float(value) for label, value in re.findall(rf'^{name}{{cluster="(\w+)"}} (\S+)$', text, re.M)}


def test_the_end_of_each_embedded_authority(tmp_path: Path) -> None:
    app = made(tmp_path)
    name = "pilothouse_authority_expires_timestamp_seconds"
    assert values(metrics(app), name) == {}
    for published in ("dev", "lab", "gone"):
        publish(app, published)
    assert values(metrics(app), name) == {"dev": (NOW + certificates.AUTHORITY_LIFETIME).timestamp()}
    (app.extensions["pilothouse"].settings.data / authorities.FOLDER / "prod.crt").write_text("no certificate")
    assert set(values(metrics(app), name)) == {"dev"}, "a damaged file costs no other number"


def test_the_portal_exports_what_the_rules_read(tmp_path: Path) -> None:
    app = made(tmp_path)
    publish(app, "dev")
    exported = set(re.findall(r"^# TYPE (\w+) ", metrics(app), re.M))
    engine = FakeEngine(platform(teams=[team("infra", platform=True)], clusters=CLUSTERS))
    rules = alerts.rules(engine.inputs(engine, "dev", NOW.date())[0])
    read = {name for rule in rules for name in analyse(rule.expr).metrics if name.startswith("pilothouse_")}
    assert "pilothouse_authority_expires_timestamp_seconds" in read
    assert read - exported == set()


# ---------------------------------------------------------------- runbooks


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    return made(tmp_path_factory.mktemp("runbooks"))


def opened(app: Flask, path: str) -> TestResponse:
    return login(app, "infra-1").get(path)


def test_every_alert_leads_to_a_page(app: Flask) -> None:
    engine = FakeEngine(platform([service("pay/api")], teams=[team("infra", platform=True)], clusters=CLUSTERS))
    found, _ = links.read(bundle_content())
    assert found is not None
    client = login(app, "infra-1")
    rules = alerts.rules(engine.inputs(engine, "dev", NOW.date())[0])
    addresses = {rule.annotations["runbook_url"].removeprefix(found.portal) for rule in rules}
    assert len(addresses) > 20
    assert {path: client.get(path).status_code for path in addresses} == dict.fromkeys(addresses, 200)


def test_a_runbook_names_its_alerts(app: Flask) -> None:
    page = opened(app, "/runbooks/pod-stuck").get_data(as_text=True)
    assert "<h1>Pod stuck</h1>" in page
    assert "kubectl describe pod" in page
    assert ">PodStuck</a>" in page
    assert "Alerts that lead here" not in opened(app, "/runbooks/replicas-below").get_data(as_text=True)


def test_the_list_and_what_is_not_in_it(app: Flask) -> None:
    page = opened(app, "/runbooks/").get_data(as_text=True)
    assert 'href="/runbooks/watchdog"' in page
    assert opened(app, "/runbooks/nothing").status_code == 404


def test_a_login_in_between_does_not_lose_the_runbook(app: Flask) -> None:
    client = app.test_client()
    first = client.get("/runbooks/pod-stuck")
    assert first.status_code == 302
    assert "pod-stuck" in first.headers["Location"]


def test_a_platforms_own_runbooks_are_shown(tmp_path: Path) -> None:
    own = made(tmp_path, bundle_content({PATH: "## Watchdog\n\nCall <b>the</b> vault.\n"}))
    page = opened(own, "/runbooks/watchdog").get_data(as_text=True)
    assert "Call &lt;b&gt;the&lt;/b&gt; vault." in page
    none = made(tmp_path / "none", Content({}))
    assert "There is no alerts/runbooks.md" in opened(none, "/runbooks/").get_data(as_text=True)
