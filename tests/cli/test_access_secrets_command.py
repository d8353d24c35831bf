"""`pilothouse access secrets`, as typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from support.secret_site import DATABASE, SecretSite, fake_secret_site

from pilothouse.cli.access import group
from pilothouse.problems import Conflict, Invalid, PilothouseError

PLATFORM = """\
apiVersion: pilothouse.dev/v1
kind: Platform
metadata: {name: small}
---
apiVersion: pilothouse.dev/v1
kind: Team
metadata: {name: payments}
spec: {members: [{user: alice}], platform: true, receivers: [{severity: page, email: payments@bank.example}]}
---
apiVersion: pilothouse.dev/v1
kind: Team
metadata: {name: risk}
spec: {members: [{user: bob}], receivers: [{severity: page, email: risk@bank.example}]}
---
apiVersion: pilothouse.dev/v1
kind: Cluster
metadata: {name: fake}
spec:
  environment: dev
  podCIDRs: [10.40.0.0/16]
  serviceCIDRs: [10.50.0.0/16]
  nodeCIDRs: [10.60.0.0/24]
  servers: {vault: {url: "URL", tokenFile: "TOKEN"}}
---
apiVersion: pilothouse.dev/v1
kind: Service
metadata: {name: api, namespace: payments}
spec:
  team: payments
  podSelector: {matchLabels: {app: api}}
  serviceAccountName: api
  secrets:
    - {path: payments/database, mountPath: /secrets/database, keys: [username, password]}
    - {path: payments/signing, mountPath: /secrets/signing}
---
apiVersion: pilothouse.dev/v1
kind: Service
metadata: {name: other, namespace: payments}
spec:
  team: risk
  podSelector: {matchLabels: {app: other}}
  serviceAccountName: other
  secrets: [{path: payments/signing, mountPath: /secrets/s}]
"""


class Desk:
    def __init__(self, site: SecretSite, folder: Path) -> None:
        self.site, self.folder = site, folder
        token = folder / "vault-token"
        assert site.site.fake
        token.write_text(site.site.fake.root_token)
        self.platform = folder / "platform"
        self.platform.mkdir()
        text = PLATFORM.replace("URL", site.site.url).replace("TOKEN", str(token))
        (self.platform / "platform.yaml").write_text(text)

    def run(self, *arguments: object, stdin: str | None = None, code: int = 0) -> str:
        words = ["secrets", *map(str, arguments)]
        if arguments[0] != "agent":
            words += ["--platform", str(self.platform), "--cluster", "fake"]
        result = CliRunner().invoke(group, words, input=stdin, env={"HOME": str(self.folder)})
        if isinstance(result.exception, PilothouseError):
            raise result.exception
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    def json(self, *arguments: object, **named: Any) -> Any:
        return json.loads(self.run(*arguments, "--output", "json", **named))

    def kept(self, path: str) -> dict[str, Any]:
        found = self.site.site.root.read(f"kv-fake/data/{path}") or {}
        return dict(found["data"])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with fake_secret_site() as site:
        yield Desk(site, tmp_path)


def test_explain_says_where_a_secret_comes_from(desk: Desk) -> None:
    text = desk.run("explain", "api")
    assert "role payments.api, policy ph.fake.secrets.payments.api" in text
    assert "as ServiceAccount payments/api, with a token for the audience vault" in text
    assert "payments/database  declared at platform.yaml:33:7" in text
    assert "/secrets/database/ (username, password)" in text
    assert "also read by: payments/other (team risk, platform.yaml:" in text


def test_explain_looks_in_vault_and_shows_no_value(desk: Desk) -> None:
    text = desk.run("explain", "payments/api", "--live")
    assert "last rotated: version 1, written 20" in text
    assert "its keys:    host, password, username" in text
    assert DATABASE["password"] not in text
    desk.site.site.root.delete("kv-fake/data/payments/signing")
    found = desk.json("explain", "api", "--live")
    assert found["states"]["payments/database"]["version"] == 1
    assert [item["code"] for item in found["problems"]] == ["access/secret-missing"]


def test_explain_finds_the_last_read_in_vaults_log(desk: Desk) -> None:
    log = desk.folder / "audit.log"
    entry = {
        "type": "response",
        "time": "2026-11-21T10:00:00Z",
        "auth": {"metadata": {"service_account_name": "api", "service_account_namespace": "payments"}},
        "request": {"path": "kv-fake/data/payments/database", "operation": "read"},
    }
    log.write_text(json.dumps(entry) + '\n"text"\n{"type": "resp')
    text = desk.run("explain", "api", "--audit-log", log)
    assert "last read:   2026-11-21T10:00:00Z by payments/api" in text
    assert "last read:   never in this log" in text


@pytest.mark.parametrize(("name", "said"), [("apy", "did you mean"), ("nobody/here", "known: ")])
def test_a_service_that_is_not_there(desk: Desk, name: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        desk.run("explain", name)
    assert said in caught.value.hint


def test_render_is_yaml_to_merge(desk: Desk) -> None:
    made = yaml.safe_load(desk.run("render", "api", "--container", "main"))
    assert made["spec"]["containers"][0]["name"] == "main"
    assert made == desk.json("render", "api", "--container", "main")
    patch = yaml.safe_load(desk.run("render", "api", "--kind", "Deployment"))
    assert patch["spec"]["template"]["spec"]["serviceAccountName"] == "api"


def test_rotate_shows_who_is_affected_and_changes_one_key(desk: Desk) -> None:
    text = desk.run("rotate", "payments/database", "--generate", "password", "--dry-run")
    assert "payments/database on fake, version 1: new values for password. It is read by:" in text
    assert "payments/api (team payments, platform.yaml:33:7) at /secrets/database" in text
    assert "Nothing was changed." in text
    assert desk.kept("payments/database")["password"] == DATABASE["password"]
    text = desk.run("rotate", "payments/database", "--generate", "password", "--yes")
    new = desk.kept("payments/database")
    assert "Version 2 is written." in text
    assert len(new["password"]) == 43
    assert new["password"] not in text
    assert new == DATABASE | {"host": "not declared", "password": new["password"]}


def test_rotate_takes_values_from_stdin_alone(desk: Desk) -> None:
    found = desk.json("rotate", "payments/signing", "--stdin", "--yes", stdin='{"key": "typed"}')
    assert (found["version"], found["changed"], found["done"]) == (2, ["key"], True)
    assert [reader["service"] for reader in found["readers"]] == ["payments/api", "payments/other"]
    assert "typed" not in json.dumps(found)
    assert desk.kept("payments/signing") == {"key": "typed", "rounds": 3}


def test_rotate_without_values_asks_pods_to_fetch_again(desk: Desk) -> None:
    text = desk.run("rotate", "payments/signing", "--yes")
    assert "to be fetched again as it is" in text
    assert "within 30 s" in text
    assert "fetched again on demand 20" in desk.run("explain", "api", "--live")


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (("payments/databse", "--yes"), None, "no service of cluster fake declares"),
        (("payments/database", "--generate", "../x", "--yes"), None, "cannot be the name of a file"),
        (("payments/database",), None, "no terminal to ask on"),
        (("payments/database", "--stdin", "--yes"), "hunter2", "no JSON object of texts"),
        (("payments/database", "--stdin", "--yes"), '{"a": 1}', "no JSON object of texts"),
        (("payments/database", "--stdin", "--generate", "a", "--yes"), '{"a": "hunter2"}', "is to be generated"),
    ],
)
def test_a_rotation_that_cannot_be(desk: Desk, arguments: tuple[str, ...], stdin: str | None, said: str) -> None:
    with pytest.raises(Invalid, match=said) as caught:
        desk.run("rotate", *arguments, stdin=stdin)
    assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"
    assert desk.kept("payments/database")["password"] == DATABASE["password"]


def test_a_first_value_is_written_with_the_keys_that_are_missing_said(desk: Desk) -> None:
    desk.site.site.root.delete("kv-fake/metadata/payments/database")
    with pytest.raises(Invalid, match="nothing at payments/database"):
        desk.run("rotate", "payments/database", "--yes")
    found = desk.json("rotate", "payments/database", "--generate", "password", "--yes")
    assert [item["code"] for item in found["problems"]] == ["access/secret-key-missing"]
    assert list(desk.kept("payments/database")) == ["password"]


def test_dummies_for_a_laptop(desk: Desk) -> None:
    out = desk.folder / "pod"
    text = desk.run("dummy", "api", "--out", out)
    assert (out / "secrets/database/password").read_text() == "dummy-payments-database-password"
    assert (out / "secrets/database/username").read_text() == "dummy-user"
    assert "its keys are not declared" in text
    again = desk.json("dummy", "api", "--out", out)
    assert again[0]["files"] == ["password", "username"]
    real = desk.folder / "real" / "secrets" / "signing"
    real.mkdir(parents=True)
    (real / "key").write_text("real")
    with pytest.raises(Conflict, match="no dummies of ours"):
        desk.run("dummy", "api", "--out", desk.folder / "real")
    assert not (desk.folder / "real" / "secrets" / "database").exists()


# ---------------------------------------------------------------- the agent as a process


def agent(config: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pilothouse", "access", "secrets", "agent", how, "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "VAULT_ADDR": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"},
    )


def written(desk: Desk, **changes: Any) -> Path:
    path = desk.folder / "config.json"
    path.write_text(desk.site.config(desk.folder, **changes).to_json())
    return path


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_once_as_a_process(desk: Desk) -> None:
    out, err = (process := agent(written(desk), "--once")).communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == ""
    assert [line["event"] for line in lines(err)] == ["written", "written"]
    assert DATABASE["password"] not in err
    assert (desk.folder / "pilothouse/secrets/0/password").read_text() == DATABASE["password"]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"url": "http://127.0.0.1:1", "budget": 1}, 3, "given up after"),
        ({"token": "not a token"}, 4, "refused the login as role payments.api"),
        ({"key_value_mount": "kv-other"}, 4, "cannot get payments/database for /secrets/database"),
        ({"url": "http://vault.bank.example"}, 2, "is not encrypted"),
    ],
)
def test_exit_codes_and_the_last_line(desk: Desk, changes: dict[str, Any], code: int, said: str) -> None:
    _, err = (process := agent(written(desk, **changes), "--once")).communicate(timeout=60)
    assert process.returncode == code, err
    last = lines(err)[-1]
    assert (last["level"], last["event"]) == ("error", "failed")
    assert said in last["reason"]
    assert "not a token" not in err


def test_the_sidecar_ends_when_it_is_told_to_and_leaves_no_token(desk: Desk) -> None:
    assert desk.site.site.fake
    process = agent(written(desk, interval=1), "--watch")
    try:
        path = desk.folder / "pilothouse/secrets/0/password"
        deadline = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        seen = Path(f"/proc/{process.pid}/cmdline").read_bytes() + Path(f"/proc/{process.pid}/environ").read_bytes()
        assert DATABASE["password"].encode() not in seen
        desk.run("rotate", "payments/database", "--stdin", "--yes", stdin='{"password": "rotated"}')
        while path.read_text() != "rotated":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=15)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert desk.site.site.fake.state.tokens == {}
    assert "rotated" not in err


def test_the_agent_loads_no_library_beside_those_of_the_command_line(desk: Desk) -> None:
    program = (
        "import sys\nfrom pilothouse.cli.main import main\ntry:\n    main(sys.argv[1:])\nfinally:\n"
        "    print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "access", "secrets", "agent", "--once", "--config", str(written(desk))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    loaded = set(done.stdout.split())
    assert {"pilothouse", "http"} <= loaded
    assert loaded.isdisjoint({"hvac", "requests", "urllib3", "pydantic", "yaml", "cryptography", "rich", "kubernetes"})


def test_how_it_runs_has_to_be_said(desk: Desk) -> None:
    assert "--once or --watch" in desk.run("agent", "--config", written(desk), code=2)


def test_an_authority_that_pods_do_not_have_is_said(desk: Desk) -> None:
    path = desk.platform / "platform.yaml"
    path.write_text(path.read_text().replace("vault: {url", "vault: {caFile: /etc/pilothouse/vault-ca.crt, url"))
    assert "authorityConfigMap" in desk.run("render", "api")
