"""The test bed itself: every server starts, is asked something that only the real one answers, and ends."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from support import testbed
from support.bed import process
from support.bed.web import get_json, request

CACHE = str(testbed.obtain().cache())


def test_api_server(kube_api):
    with kube_api.namespace() as name:
        found = kube_api.kubectl("get", "namespace", name, "-o", "json")
        assert json.loads(found.stdout)["metadata"]["name"] == name
        made = kube_api.kubectl("create", "serviceaccount", "robot", "-n", name)
        assert made.returncode == 0, made.stderr
        token = kube_api.token_for(name, "robot", audience="vault")
        assert token.count(".") == 2
    assert kube_api.kubectl("get", "namespace", name).returncode == 1


def test_who_a_certificate_is(kube_api):
    config = kube_api.kubeconfig("alice", "ph:developer:payments")
    who = json.loads(kube_api.kubectl("auth", "whoami", "-o", "json", kubeconfig=config).stdout)["status"]["userInfo"]
    assert who["username"] == "alice"
    assert "ph:developer:payments" in who["groups"]
    assert who["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")


def test_kwok_runs_pods(kube_api, kwok):
    (node,) = kwok.nodes(1)
    with kube_api.namespace() as name:
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "registry.example/c:1"}]}
        kube_api.send("POST", f"/api/v1/namespaces/{name}/pods", {"metadata": {"name": "p"}, "spec": spec})
        deadline = time.monotonic() + 20
        phase = ""
        while phase != "Running" and time.monotonic() < deadline:
            phase = kube_api.get(f"/api/v1/namespaces/{name}/pods/p")["status"].get("phase", "")
            time.sleep(0.1)
        assert phase == "Running"


def test_vault_and_its_plugins(vault):
    mount = vault.mount("ldap")
    vault.send("POST", f"sys/auth/{mount}", {"type": "ldap"})
    assert f"{mount}/" in vault.send("GET", "sys/auth")["data"]


def test_vault_that_is_sealed(vault):
    own = vault.fresh(persistent=True)
    own.seal()
    with pytest.raises(OSError, match="503"):
        own.send("GET", "sys/mounts")
    own.unseal()
    own.restart(unseal=False)
    with pytest.raises(OSError, match="503"):
        own.send("GET", "sys/mounts")
    own.unseal()
    assert "sys/" in own.send("GET", "sys/mounts")


def test_directory(slapd):
    import ldap3

    with slapd.subtree() as branch:
        dn = branch.add_user("alice", "correct horse")
        branch.add_group("engineers", ("alice",))
        connection = ldap3.Connection(slapd.url, dn, "correct horse", auto_bind=True)
        assert connection.search(branch.groups, f"(member={dn})", attributes=["cn"])
        assert [str(entry.cn) for entry in connection.entries] == ["engineers"]
        assert not ldap3.Connection(slapd.url, dn, "wrong").bind()


def test_prometheus_and_alertmanager(prometheus, alertmanager, tmp_path: Path):
    routes = tmp_path / "alertmanager.yml"
    routes.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n", encoding="utf-8")
    config = tmp_path / "prometheus.yml"
    config.write_text("global: {scrape_interval: 1s}\n", encoding="utf-8")
    assert "nobody" in alertmanager(routes).get("/api/v2/status")["config"]["original"]
    server = prometheus(config)
    config.write_text("what: is this\n", encoding="utf-8")
    with pytest.raises(OSError, match="what"):
        server.reload()
    assert server.get("/api/v1/query?query=1")["status"] == "success"


def test_elasticsearch(elasticsearch):
    index = elasticsearch.prefix()
    elasticsearch.send("PUT", f"/{index}/_doc/1?refresh=true", {"a": 1})
    assert elasticsearch.send("GET", f"/{index}/_search")["hits"]["total"]["value"] == 1


def test_elasticsearch_with_security(elasticsearch):
    own = elasticsearch.fresh(security=True)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{own.url}/_cluster/health")
    assert own.send("GET", "/_security/_authenticate")["username"] == "elastic"


def test_postgresql(postgresql):
    import psycopg

    with postgresql.database() as url:
        name = url.rsplit("/", 1)[1]
        with postgresql.connect(name) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == (name,)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        postgresql.connect(name)


# ---------------------------------------------------------------- faults


@pytest.fixture
def served(prometheus, tmp_path: Path):
    config = tmp_path / "prometheus.yml"
    config.write_text("{}", encoding="utf-8")
    return prometheus(config)


def test_a_proxy_hands_on(served, faults):
    proxy = faults(served.url)
    assert get_json(f"{proxy.url}/api/v1/query?query=1")["status"] == "success"
    assert proxy.connections == 1


def test_faults(served, faults):
    proxy = faults(served.url)
    url = f"{proxy.url}/metrics"
    with proxy.answer(503, {"Retry-After": "1"}, b"busy"), pytest.raises(OSError, match=r"503.*busy"):
        request(url)
    with proxy.cut_after(bytes=3000), pytest.raises(http.client.IncompleteRead):
        request(url)
    with proxy.refuse(), pytest.raises(OSError, match=r"(?i)reset|refused|closed"):
        request(url)
    with proxy.delay(1.0), pytest.raises(OSError, match="timed out"):
        request(url, seconds=0.3)
    started = time.monotonic()
    with proxy.throttle(bytes_per_second=50_000):
        slow = request(url, seconds=30)
    assert "prometheus_build_info" in slow
    assert time.monotonic() - started > len(slow) / 100_000


# ---------------------------------------------------------------- life and death


def test_a_paused_server_answers_when_it_is_resumed(served):
    served.pause()
    with pytest.raises(OSError, match="timed out"):
        request(f"{served.url}/-/ready", seconds=0.3)
    served.resume()
    assert "Ready" in request(f"{served.url}/-/ready")


@pytest.fixture
def run_apart(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], pytest.RunResult]:
    """Runs a test file as a run of its own."""
    # pytester changes the home folder, where the programs would be looked for.
    monkeypatch.setenv("PILOTHOUSE_TESTBED", CACHE)

    def run(text: str) -> pytest.RunResult:
        pytester.makeconftest('pytest_plugins = ["support.bed.fixtures"]')
        pytester.makepyfile(text)
        pytester.makeini(f"[pytest]\npythonpath = {Path(__file__).parents[1]}")
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-s")

    return run


def pids(result: pytest.RunResult) -> list[int]:
    """Of the lines "server PID" that the run printed."""
    return [int(number) for number in re.findall(r"server (\d+)", result.stdout.str())]


def test_a_server_that_is_killed_fails_its_test_and_no_other(run_apart):
    result = run_apart("""
import os, signal, time
def test_one(vault):
    print("server", vault.pid)
    os.kill(vault.pid, signal.SIGKILL)
    while vault.alive:
        time.sleep(0.01)
def test_two(vault):
    print("server", vault.pid)
    assert "token/" in vault.send("GET", "sys/auth")
""")
    result.assert_outcomes(passed=2, errors=1)
    text = result.stdout.str()
    assert "the server vault died during this test" in text
    assert "core: vault is unsealed" in text, "the end of the server's log is shown"
    assert len(set(pids(result))) == 2
    for pid in pids(result):
        assert not Path(f"/proc/{pid}").exists(), "no process is left at the end"


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 2), ("SIGTERM", 2), ("SIGKILL", -9)])
def test_a_run_that_is_ended_leaves_no_process(run_apart, number, code):
    result = run_apart(f"""
import os, signal, time
def test_one(vault, slapd):
    print("server", vault.pid)
    print("server", slapd.pid, flush=True)
    os.kill(os.getpid(), signal.{number})
    time.sleep(20)
""")
    assert result.ret == code
    assert len(pids(result)) == 2
    deadline = time.monotonic() + 10
    for pid in pids(result):
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not Path(f"/proc/{pid}").exists()


def test_a_start_that_fails_shows_the_log(tmp_path: Path):
    server = process.Server(
        "broken", ["/bin/sh", "-c", "echo what went wrong; exit 3"], lambda: request("http://127.0.0.1:9")
    )
    with pytest.raises(process.NotReady, match=r"ended with code 3.*\n.*\nwhat went wrong"):
        server.start()
    assert server.log.exists()
