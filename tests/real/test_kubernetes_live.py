"""The worker and the command line on a live cluster: read, applied, compared, and applied again after an approval."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from support import applied, testbed
from support.bed import kubernetes
from support.bed.kubernetes import KubeApi, Kwok

from pilothouse.access.permissions import person_of
from pilothouse.artifacts.objects import ObjectKey
from pilothouse.cli.main import main
from pilothouse.clients.kubernetes import Api, read_cluster, to_context, to_endpoint
from pilothouse.files import snapshot as snapshot_files
from pilothouse.files.git import Repository, init
from pilothouse.store import Store, events, findings, jobs
from pilothouse.store.jobs import JobState
from pilothouse.store.proposals import State
from pilothouse.worker.scheduler import Worker
from pilothouse.workflows import egress, live, proposals
from pilothouse.workflows.proposals import Desk
from pilothouse.workflows.upkeep import Upkeep

KINDS = (
    "namespaces,nodes,pods,services,endpointslices,serviceaccounts,networkpolicies,ingresses,"
    "roles,rolebindings,clusterroles,clusterrolebindings"
)


@pytest.fixture(scope="module")
def server() -> Iterator[KubeApi]:
    """An API server for this file, with the namespaces of the bank's dev cluster."""
    found = kubernetes.start()
    applied.namespaces(found, applied.namespaces_of(applied.manifests("dev")))
    applied.namespaces(found, [item.name for item in testbed.bank("dev").snapshot.namespaces])
    yield found
    found.stop()


@pytest.fixture(scope="module")
def kwok(server: KubeApi) -> Iterator[Kwok]:
    found = kubernetes.start_kwok(server)
    yield found
    found.stop()


@pytest.fixture
def upkeep(server: KubeApi, tmp_path: Path) -> Iterator[Upkeep]:
    """A worker's jobs on a copy of the bank, whose dev cluster is that API server."""
    platform = Path(shutil.copytree(testbed.BANK, tmp_path / "platform"))
    document = next((platform / "clusters").glob("dev.yaml"))
    endpoint = server.endpoint
    declared = f'kubernetes: {{url: "{endpoint.url}", tokenFile: {endpoint.token_file}, caFile: {endpoint.ca_file}}}'
    text, count = re.subn(r"kubernetes: \{url: [^}]*\}", declared, document.read_text())
    assert count == 1
    document.write_text(text)
    init(platform).commit_all("The bank", "test", "test@localhost")
    store = Store(tmp_path / "data")
    store.migrate()
    moment = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
    begun = time.monotonic()

    def clock() -> datetime:
        return datetime.fromtimestamp(moment.timestamp() + time.monotonic() - begun, UTC)

    with applied.cleaned(server):
        yield Upkeep(store, platform, tmp_path / "data", clock, lambda *_: None)


def pods(server: KubeApi, kwok: Kwok, count: int) -> None:
    """Pods that run, on two nodes, in a namespace of the bank."""
    nodes = kwok.nodes(2)
    for number in range(count):
        body = {
            "metadata": {"name": f"redis-{number}", "namespace": "data", "labels": {"app": "redis"}},
            "spec": {
                "nodeName": nodes[number % 2],
                "containers": [{"name": "main", "image": "redis:7", "ports": [{"containerPort": 6379}]}],
            },
        }
        server.send("POST", "/api/v1/namespaces/data/pods", body)
    deadline = time.monotonic() + 60
    while True:
        found = server.get("/api/v1/namespaces/data/pods")["items"]
        if len(found) == count and all(item["status"].get("phase") == "Running" for item in found):
            return
        assert time.monotonic() < deadline, [item["status"] for item in found]
        time.sleep(0.1)


def test_a_live_snapshot_is_that_of_kubectls_dump(server: KubeApi, kwok: Kwok, tmp_path: Path) -> None:
    pods(server, kwok, 7)
    dump = tmp_path / "dump.json"
    for attempt in range(5):
        dump.write_text(server.kubectl("get", KINDS, "-A", "-o", "json").stdout, encoding="utf-8")
        expected, _ = snapshot_files.read(dump)
        for client in (Api(to_endpoint(server.endpoint)), Api(to_context(str(server.admin_kubeconfig)))):
            seen: list[int] = []
            found, problems = read_cluster(client, page=3, progress=lambda _, count: seen.append(count))  # noqa: B023
            client.close()
            assert problems == ()
            assert len([pod for pod in found.pods if pod.name.startswith("redis-")]) == 7
            assert 3 in seen  # in pages
        if replace(found, source="", others={}) == replace(expected, source="", others={}) or attempt == 4:
            break  # a node's heartbeat may fall between the two
    assert replace(found, source="", others={}) == replace(expected, source="", others={})


def edited(server: KubeApi, manifest: dict[str, object]) -> None:
    where = ObjectKey.of(manifest)
    done = server.kubectl(
        "patch",
        "--field-manager=kubectl-edit",
        "--type=merge",
        "-n",
        where.namespace,
        "networkpolicy",
        where.name,
        "-p",
        json.dumps({"spec": {"ingress": [{}]}}),
    )
    assert done.returncode == 0, done.stderr


def of_cards(server: KubeApi, name: str) -> dict[str, object]:
    found: dict[str, object] = server.get(f"/apis/networking.k8s.io/v1/namespaces/cards/networkpolicies/{name}")
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **found}


def codes(upkeep: Upkeep) -> set[str]:
    return {item.problem.code for item in findings.current(upkeep.store, "dev")}


def test_the_worker_reads_applies_and_sees_an_edit(server: KubeApi, upkeep: Upkeep) -> None:
    first = upkeep.snapshot()
    assert first.state is JobState.OK
    assert "dev" in first.message
    assert live.kept(upkeep.snapshots, "dev") is not None
    done = upkeep.apply()
    assert done.state is JobState.OK, done.message
    assert re.search(r"dev: \d+ added, 0 changed, 0 removed", done.message)
    (event,), total = events.find(upkeep.store, events.Filter(kind="apply.done"))
    assert total == 1
    assert event.subject == "dev"
    assert "(commit " in event.message
    assert len(event.data["changes"]) == len(applied.ours(server))
    assert upkeep.apply().message.endswith("objects as declared")
    assert upkeep.drift().state is JobState.OK

    edited(server, of_cards(server, "pilothouse-default-deny"))
    drifted = upkeep.drift()
    assert drifted.state is JobState.PROBLEMS
    messages = [i.problem.message for i in findings.current(upkeep.store, "dev") if i.problem.code == "policies/drift"]
    assert messages, codes(upkeep)
    undeclared = "which is not declared: ingress rule 1 of NetworkPolicy cards/pilothouse-default-deny"
    assert all(undeclared in text for text in messages)
    held = upkeep.apply()
    assert held.state is JobState.PROBLEMS
    assert "apply/conflict" in codes(upkeep)
    assert server.kubectl("delete", "-n", "cards", "networkpolicy", "pilothouse-default-deny").returncode == 0
    assert upkeep.apply().state is JobState.OK
    assert upkeep.drift().state is JobState.OK
    assert codes(upkeep) & {"apply/conflict", "worker/cluster-differs", "policies/drift"} == set()


def test_a_cluster_that_does_not_answer_keeps_its_last_good_snapshot(server: KubeApi, upkeep: Upkeep) -> None:
    upkeep.snapshot()
    kept = live.kept(upkeep.snapshots, "dev")
    assert kept is not None
    before = kept.path.read_bytes()
    document = next((upkeep.root / "clusters").glob("dev.yaml"))
    document.write_text(document.read_text().replace(server.url, "https://127.0.0.1:9"))
    upkeep.reload()
    again = upkeep.snapshot()
    assert again.state is JobState.PROBLEMS
    assert "the last good one is 0 min old" in again.message
    assert "worker/cluster-unread" in codes(upkeep)
    assert kept.path.read_bytes() == before
    failed = upkeep.apply()
    assert failed.state is JobState.PROBLEMS
    assert "does not answer" in failed.message
    assert "worker/apply-failed" in codes(upkeep)


def test_diff_live_sees_an_edit(
    server: KubeApi, upkeep: Upkeep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    upkeep.apply()

    def diff() -> dict[str, list[str]]:
        with pytest.raises(SystemExit) as ended:
            main(["diff", str(upkeep.root), "-c", "dev", "--live", "--today", "2026-11-21", "--output", "json"])
        assert ended.value.code == 0
        (found,) = json.loads(capsys.readouterr().out)["clusters"]
        return {word: found[word] for word in ("added", "changed", "removed")}

    assert diff() == {"added": [], "changed": [], "removed": []}
    edited(server, of_cards(server, "pilothouse-dns"))
    assert diff() == {"added": [], "changed": ["NetworkPolicy cards/pilothouse-dns"], "removed": []}


def test_the_command_plans_and_applies(
    server: KubeApi, upkeep: Upkeep, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def apply(*options: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["apply", "dev", str(upkeep.root), "--today", "2026-11-21", *options])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    code, said = apply("--dry-run")
    assert (code, applied.ours(server)) == (0, {})
    assert "+kind: NetworkPolicy" in said
    assert "nothing was applied" in said
    code, said = apply()
    assert code == 2
    assert "no terminal to ask on" in said
    code, said = apply("--yes", "--output", "json")
    assert code == 0
    found = json.loads(said)
    assert found["applied"] is True
    assert len(found["added"]) == len(applied.ours(server)) > 40
    code, said = apply("--yes")
    assert code == 0
    assert "dev is as declared" in said
    edited(server, of_cards(server, "pilothouse-dns"))
    code, said = apply("--yes")
    assert code == 1
    assert "apply/conflict" in said
    assert "kubectl-edit" in said
    code, said = apply("--yes", "--force-conflicts")
    assert code == 0
    assert "0 added, 1 changed, 0 removed" in said
    # Another cluster's documents on this one, by a kubeconfig: the wrong context.
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(server.admin_kubeconfig.read_text())
    with pytest.raises(SystemExit) as ended:
        main(["apply", "uat", str(upkeep.root), "--yes", "--kubeconfig", str(kubeconfig), "--today", "2026-11-21"])
    assert ended.value.code == 2
    assert "carries what was applied for cluster dev" in capsys.readouterr().err


def until(true: Callable[[], bool], seconds: float = 60.0) -> float:
    """How long it took."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds
        time.sleep(0.02)
    return time.monotonic() - begun


def test_from_the_approval_to_the_policy(server: KubeApi, upkeep: Upkeep, capsys: pytest.CaptureFixture[str]) -> None:
    """What a team waits for after the last yes: printed, with where the time went."""
    worker = Worker(upkeep)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        until(lambda: _ended(upkeep, "remind"), 120)
        assert len(applied.ours(server)) > 40
        times = []
        for number in range(3):
            desk = Desk(upkeep.store, Repository(upkeep.root), upkeep.read(), upkeep.clock(), lambda *_: None)
            alice = person_of(desk.platform, "alice")
            target = egress.target(desk.opened, "cards/cards")
            edge = {
                "to": {"cidr": f"203.0.113.{number * 16}/28"},
                "ports": [443],
                "reason": "the gateway of the card network",
                "clusters": ["dev"],
                "expires": "2027-01-31",
            }
            text = egress.with_edges(target.text, "cards/cards", [edge], ())
            preview = egress.preview(desk.opened, "cards/cards", text, desk.now.date(), author=alice)
            assert [p.message for p in preview.problems if p.severity == "error"] == []
            asked = proposals.submit(desk, proposals.save(desk, preview, alice, "", "Because"), 1, alice)
            assert asked.state is State.SUBMITTED, asked
            desk = replace(desk, now=upkeep.clock())
            (role,) = (item.role for item in asked.required)
            begun = time.monotonic()
            done = proposals.decide(desk, asked, asked.version, role, person_of(desk.platform, "carol"), True)
            committed = time.monotonic()
            assert done.state is State.COMMITTED
            wanted = f"203.0.113.{number * 16}/28"
            until(lambda: wanted in json.dumps(of_cards(server, "pilothouse-cards-egress")["spec"]))  # noqa: B023
            times.append((committed - begun, time.monotonic() - committed))
            until(lambda: _ended(upkeep, "apply"))
        with capsys.disabled():
            for commit, policy in times:
                print(f"\n  approval → commit {commit:.2f} s, commit → policy in the API server {policy:.2f} s", end="")
    finally:
        worker.stop()
        thread.join(60)


def _ended(upkeep: Upkeep, name: str) -> bool:
    return any(
        job.name == name and job.finished_at and not job.requested_at and job.state is not JobState.RUNNING
        for job in jobs.everything(upkeep.store)
    )


def test_yaml_is_what_kubectl_reads(server: KubeApi) -> None:
    """The rendered files themselves, through kubectl."""
    text = yaml.safe_dump_all(json.loads(json.dumps(applied.manifests("dev"))))
    done = server.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(server dry run)") == len(applied.manifests("dev"))
