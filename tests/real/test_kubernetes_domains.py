"""Another answer of the resolver, and another GlobalNetworkSet in the API server: through the worker's own jobs."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from support import applied, policy_kinds, testbed
from support.bed import kubernetes
from support.bed.kubernetes import KubeApi

from pilothouse.artifacts.objects import ObjectKey
from pilothouse.files.git import init
from pilothouse.policies.domains import KEEP, Answer
from pilothouse.store import Store, events, findings, jobs
from pilothouse.store.jobs import JobState
from pilothouse.worker.scheduler import Worker
from pilothouse.workflows.upkeep import Job, Upkeep

CARDS = "acquirer.cardnetwork.example"
SET = f"pilothouse-domain-{CARDS}"
POLICY = "pilothouse-cards-domains"


class Answers:
    """A resolver whose answers the test gives."""

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()

    def resolve(self, names: Sequence[str]) -> Mapping[str, Answer]:
        found = Answer(tuple(map(ip_address, self.addresses)), failure="" if self.addresses else "no name server")
        return {name: found if name == CARDS else Answer(failure="no name server") for name in names}


class Clock:
    """The time of this machine, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture(scope="module")
def server() -> Iterator[KubeApi]:
    """An API server with Calico's kinds and the namespaces of the bank's dev cluster."""
    found = kubernetes.start()
    policy_kinds.install(found, policy_kinds.of(*policy_kinds.CALICO))
    applied.namespaces(found, applied.namespaces_of(applied.manifests("dev")))
    applied.namespaces(found, [item.name for item in testbed.bank("dev").snapshot.namespaces])
    yield found
    found.stop()


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def upkeep(server: KubeApi, tmp_path: Path, answers: Answers, clock: Clock) -> Iterator[Upkeep]:
    """A worker's jobs on a copy of the bank. Its dev cluster is that API server, with Calico, and cards/cards names a
    domain that nobody pinned."""
    platform = Path(shutil.copytree(testbed.BANK, tmp_path / "platform"))
    document = platform / "clusters" / "dev.yaml"
    endpoint = server.endpoint
    declared = f'kubernetes: {{url: "{endpoint.url}", tokenFile: {endpoint.token_file}, caFile: {endpoint.ca_file}}}'
    text, count = re.subn(r"kubernetes: \{url: [^}]*\}", declared, document.read_text())
    assert count == 1
    document.write_text(text.replace("  apply: auto", "  calico: {apiVersion: projectcalico.org/v3}\n  apply: auto"))
    service = platform / "services" / "cards" / "cards.yaml"
    edge = f"    - {{to: {{domain: {CARDS}}}, ports: [443], clusters: [dev], reason: acquiring, expires: 2027-01-31}}\n"
    changed, count = re.subn(r"(?m)^  egress:\n", f"  egress:\n{edge}", service.read_text())
    assert count == 1
    service.write_text(changed)
    init(platform).commit_all("The bank", "test", "test@localhost")
    store = Store(tmp_path / "data")
    store.migrate()
    with applied.cleaned(server):
        yield Upkeep(store, platform, tmp_path / "data", clock, lambda *_: None, resolver=answers)


def present(server: KubeApi) -> dict[str, dict[str, Any]]:
    """What is ours in Calico's API about the domain, by name."""
    names = (SET, POLICY)
    return {key.name: item for key, item in applied.ours(server).items() if key.name in names}


def nets(server: KubeApi) -> list[str]:
    found = present(server).get(SET)
    return list(found["spec"]["nets"]) if found else []


def resolve_and_apply(upkeep: Upkeep) -> None:
    upkeep.resolve()
    done = upkeep.apply()
    assert done.state is JobState.OK, done.message


def test_the_set_follows_the_answers_and_ends(server: KubeApi, upkeep: Upkeep, answers: Answers, clock: Clock) -> None:
    upkeep.snapshot()
    answers.addresses = ("192.0.2.71", "2001:db8:71::1")
    resolve_and_apply(upkeep)
    assert nets(server) == ["192.0.2.71/32", "2001:db8:71::1/128"]
    first = present(server)
    expires = datetime.fromisoformat(first[SET]["metadata"]["annotations"]["pilothouse.dev/expires"])
    assert timedelta(0) <= clock() + KEEP - expires < timedelta(minutes=2)
    assert first[POLICY]["spec"]["egress"][0]["destination"]["selector"] == f"pilothouse.dev/domain == '{CARDS}'"

    answers.addresses = ("192.0.2.72", "10.16.3.4")
    resolve_and_apply(upkeep)
    assert nets(server) == ["192.0.2.71/32", "192.0.2.72/32", "2001:db8:71::1/128"], "beside it, and nothing inside"
    again = present(server)
    assert again[SET]["metadata"]["uid"] == first[SET]["metadata"]["uid"]
    assert again[POLICY]["metadata"]["resourceVersion"] == first[POLICY]["metadata"]["resourceVersion"]
    codes = {item.problem.code for item in findings.current(upkeep.store, "dev")}
    assert "policies/domain-private-address" in codes
    assert upkeep.apply().message.endswith("objects as declared")

    answers.addresses = ()
    clock.ahead = KEEP - timedelta(minutes=2)
    resolve_and_apply(upkeep)
    assert nets(server) == ["192.0.2.71/32", "192.0.2.72/32", "2001:db8:71::1/128"], "the last good one"
    clock.ahead = KEEP + timedelta(minutes=2)
    done = upkeep.apply()
    assert done.state is JobState.OK, done.message
    assert present(server) == {}, "it ends although nobody resolved it again"


def until(true: Callable[[], bool], seconds: float = 60.0) -> float:
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds
        time.sleep(0.02)
    return time.monotonic() - begun


def test_a_change_is_applied_at_once(
    server: KubeApi, upkeep: Upkeep, answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job `apply` has an hour to its next turn: it runs because addresses changed."""
    answers.addresses = ("192.0.2.81",)
    table = (
        Job("snapshot", "Read", timedelta(hours=1), Upkeep.snapshot, local=True),
        Job("domains", "Resolve", timedelta(seconds=1), Upkeep.resolve, local=True),
        Job("apply", "Apply", timedelta(hours=1), Upkeep.apply),
    )
    worker = Worker(upkeep, table)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        until(lambda: nets(server) == ["192.0.2.81/32"])
        until(lambda: jobs.requested(upkeep.store) == ())
        answers.addresses = ("192.0.2.82",)
        took = until(lambda: nets(server) == ["192.0.2.81/32", "192.0.2.82/32"])
        with capsys.disabled():
            print(f"\n  another answer → set in the API server {took:.2f} s", end="")
    finally:
        worker.stop()
        thread.join(60)
    found, _ = events.find(upkeep.store, events.Filter(kind="domains.changed"))
    assert [item.data for item in found] == [
        {CARDS: {"added": ["192.0.2.82/32"], "removed": []}},
        {CARDS: {"added": ["192.0.2.81/32"], "removed": []}},
    ]
    assert ObjectKey.of(present(server)[SET]).kind == "GlobalNetworkSet"
