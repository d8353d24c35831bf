"""The worker's job on domains: resolved, kept, read into the inputs, told, and applied at once."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from pilothouse.cli.main import main
from pilothouse.clients import resolver as client
from pilothouse.files import domains as files
from pilothouse.policies.domains import KEEP, Answer
from pilothouse.portal.state import Current, snapshots_stamp
from pilothouse.problems import Invalid, Problem
from pilothouse.store import Store, events, findings, jobs
from pilothouse.store.jobs import JobState
from pilothouse.workflows import domains, rendering
from pilothouse.workflows.upkeep import Upkeep

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
LISTS = "lists.sanctions.example"
STORAGE = "objects.storage.example"


class Clock:
    def __init__(self) -> None:
        self.moment = NOW

    def __call__(self) -> datetime:
        return self.moment


class FakeResolver:
    """Answers what it was given; a name without an answer fails."""

    def __init__(self, **answers: str) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, ...]] = []

    def say(self, name: str, *addresses: str) -> None:
        self.answers[name] = Answer(tuple(ip_address(item) for item in addresses))

    def resolve(self, names: Sequence[str]) -> Mapping[str, Answer]:
        self.asked.append(tuple(names))
        return {name: self.answers.get(name, Answer(failure="DNS knows no address of it")) for name in names}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver()


@pytest.fixture
def upkeep(root: Path, tmp_path: Path, clock: Clock, resolver: FakeResolver) -> Upkeep:
    """A worker on a copy of the bank, whose dev cluster pins one of its three domains only and has Calico."""
    platform = Path(shutil.copytree(root / "examples" / "bank", tmp_path / "platform"))
    document = platform / "clusters" / "dev.yaml"
    text = document.read_text()
    for name in (LISTS, STORAGE):
        (line,) = (item for item in text.splitlines(keepends=True) if item.strip().startswith(f"{name}:"))
        text = text.replace(line, "")
    document.write_text(text.replace("  apply: auto", "  calico: {apiVersion: projectcalico.org/v3}\n  apply: auto"))
    store = Store(tmp_path / "data")
    store.migrate()
    jobs.register(store, "apply", "Apply", "every 5 minutes", None)
    return Upkeep(store, platform, tmp_path / "data", clock, lambda *_: None, resolver=resolver)


def found(upkeep: Upkeep, prefix: str = "policies/domain") -> list[Problem]:
    shown = (item.problem for item in findings.current(upkeep.store, "dev") if item.source == domains.SOURCE)
    return [problem for problem in shown if problem.code.startswith(prefix)]


def nets(upkeep: Upkeep) -> dict[str, list[str]]:
    """Domain → nets of the set that is derived for dev now."""
    _, result = rendering.derive_cluster(upkeep.read(), "dev", NOW.date())
    return {
        item["metadata"]["labels"]["pilothouse.dev/domain"]: item["spec"]["nets"]
        for item in result.artifacts.manifests()
        if item["kind"] == "GlobalNetworkSet"
    }


def kept(upkeep: Upkeep) -> Path:
    return upkeep.domains / "dev.json"


def test_what_is_resolved_is_kept_derived_and_applied_at_once(
    upkeep: Upkeep, resolver: FakeResolver, clock: Clock
) -> None:
    resolver.say(LISTS, "192.0.2.81")
    resolver.say(STORAGE, "192.0.2.65", "2001:db8:64::1", "192.0.2.64")
    assert nets(upkeep) == {"sandbox.cardnetwork.example": ["192.0.2.40/32"]}
    outcome = upkeep.resolve()
    assert (outcome.state, outcome.message) == (JobState.OK, "dev 2 domains, 2 changed")
    assert resolver.asked == [(LISTS, STORAGE)], "what is pinned is not asked for"
    assert nets(upkeep) == {
        LISTS: ["192.0.2.81/32"],
        STORAGE: ["192.0.2.64/31", "2001:db8:64::1/128"],
        "sandbox.cardnetwork.example": ["192.0.2.40/32"],
    }
    assert jobs.requested(upkeep.store) == ("apply",)
    ((event,), total) = events.find(upkeep.store, events.Filter(kind="domains.changed"))
    assert (total, event.subject) == (1, "dev")
    assert event.data[LISTS] == {"added": ["192.0.2.81/32"], "removed": []}
    assert found(upkeep) == []
    stamp = snapshots_stamp(upkeep.domains)
    clock.moment += timedelta(minutes=1)
    assert upkeep.resolve().message == "dev 2 domains"
    assert snapshots_stamp(upkeep.domains) == stamp, "nothing is derived anew"
    assert events.find(upkeep.store, events.Filter(kind="domains.changed"))[1] == 1


def test_a_renewed_expiry_is_kept_and_hurries_nobody(upkeep: Upkeep, resolver: FakeResolver, clock: Clock) -> None:
    resolver.say(LISTS, "192.0.2.81")
    resolver.say(STORAGE, "192.0.2.64")
    upkeep.resolve()
    before = files.read(kept(upkeep))
    jobs.register(upkeep.store, "apply", "Apply", "every 5 minutes", None)
    held = jobs.claim(upkeep.store, "apply", "w", clock(), timedelta(minutes=5))
    assert held is not None
    jobs.finish(upkeep.store, held, JobState.OK, "", clock(), timedelta(minutes=5))
    clock.moment += KEEP / 2 + timedelta(minutes=1)
    upkeep.resolve()
    after = files.read(kept(upkeep))
    assert after[LISTS].expires == clock.moment + KEEP
    assert after[LISTS].networks == before[LISTS].networks
    assert jobs.requested(upkeep.store) == ()


def test_a_name_that_fails_keeps_its_addresses_until_they_end(
    upkeep: Upkeep, resolver: FakeResolver, clock: Clock
) -> None:
    resolver.say(LISTS, "192.0.2.81")
    resolver.say(STORAGE, "192.0.2.64")
    upkeep.resolve()
    del resolver.answers[LISTS]
    clock.moment += timedelta(hours=1)
    outcome = upkeep.resolve()
    assert outcome.state is JobState.PROBLEMS
    assert outcome.message == f"dev 2 domains, 1 with problems: {LISTS} (DNS knows no address of it)"
    assert [problem.code for problem in found(upkeep)] == ["policies/domain-stale"]
    assert nets(upkeep)[LISTS] == ["192.0.2.81/32"]
    clock.moment = NOW + KEEP
    upkeep.resolve()
    assert LISTS not in nets(upkeep)
    assert [problem.code for problem in found(upkeep)] == ["policies/domain-unresolved"]
    resolver.say(LISTS, "192.0.2.82")
    upkeep.resolve()
    assert nets(upkeep)[LISTS] == ["192.0.2.82/32"]
    assert found(upkeep) == []


def test_where_nobody_refreshes_any_more_it_ends_all_the_same(
    upkeep: Upkeep, resolver: FakeResolver, clock: Clock
) -> None:
    resolver.say(LISTS, "192.0.2.81")
    upkeep.resolve()
    clock.moment = NOW + KEEP - timedelta(seconds=1)
    assert nets(upkeep)[LISTS] == ["192.0.2.81/32"]
    opened = upkeep.opened()
    clock.moment = NOW + KEEP
    assert LISTS not in nets(upkeep)
    assert opened.domains is not None
    later = upkeep.opened()
    assert later.domains is not None
    assert later.domains.now == clock.moment


def test_a_name_that_leads_inside_opens_nothing(upkeep: Upkeep, resolver: FakeResolver) -> None:
    resolver.say(LISTS, "10.16.0.9", "192.0.2.81")
    resolver.say(STORAGE, "169.254.169.254")
    assert upkeep.resolve().state is JobState.PROBLEMS
    assert nets(upkeep) == {LISTS: ["192.0.2.81/32"], "sandbox.cardnetwork.example": ["192.0.2.40/32"]}
    assert sorted((p.code, p.teams) for p in found(upkeep)) == [
        ("policies/domain-private-address", ("accounts",)),
        ("policies/domain-private-address", ("risk",)),
    ]


def test_a_file_that_says_what_it_may_not_opens_nothing(upkeep: Upkeep, resolver: FakeResolver) -> None:
    """Whoever can write the data folder is not stopped by this; an older state of the ranges is."""
    resolver.say(LISTS, "192.0.2.81")
    upkeep.resolve()
    document = upkeep.root / "clusters" / "dev.yaml"
    document.write_text(document.read_text().replace("nodeCIDRs: [", "nodeCIDRs: [192.0.2.80/28, "))
    assert LISTS not in nets(upkeep)


def test_what_is_pinned_meanwhile_is_what_the_document_says(upkeep: Upkeep, resolver: FakeResolver) -> None:
    resolver.say(LISTS, "192.0.2.81")
    upkeep.resolve()
    document = upkeep.root / "clusters" / "dev.yaml"
    document.write_text(
        document.read_text().replace("  domainAddresses:\n", f"  domainAddresses:\n    {LISTS}: [192.0.2.99]\n")
    )
    assert nets(upkeep)[LISTS] == ["192.0.2.99/32"]
    upkeep.resolve()
    assert LISTS not in files.read(kept(upkeep))


def test_documents_with_errors_forget_no_domain(upkeep: Upkeep, resolver: FakeResolver, clock: Clock) -> None:
    resolver.say(LISTS, "192.0.2.81")
    upkeep.resolve()
    (service,) = upkeep.root.rglob("sanctions.yaml")
    text = service.read_text()
    service.write_text("kind: Service\n")
    upkeep.reload()
    clock.moment += KEEP - timedelta(minutes=1)
    upkeep.resolve()
    clock.moment += timedelta(minutes=30)
    service.write_text(text)
    assert nets(upkeep)[LISTS] == ["192.0.2.81/32"]
    upkeep.reload()
    service.write_text(text.replace(f"{LISTS}}}, ports: [443]", f"{LISTS}}}, ports: [443], clusters: [prod]"))
    assert upkeep.reload().state is JobState.OK
    upkeep.resolve()
    assert LISTS not in files.read(kept(upkeep))


def test_a_damaged_file_is_never_taken_for_nothing(upkeep: Upkeep, resolver: FakeResolver) -> None:
    resolver.say(LISTS, "192.0.2.81")
    upkeep.resolve()
    for text in ("{", "[]", '{"apiVersion": "x", "kind": "y"}', kept(upkeep).read_text().replace("+00:00", "")):
        kept(upkeep).write_text(text)
        with pytest.raises(Invalid, match=r"dev\.json is damaged"):
            nets(upkeep)
        assert upkeep.resolve().message.startswith("dev 2 domains, 1 changed")
        assert nets(upkeep)[LISTS] == ["192.0.2.81/32"]


def test_what_cannot_be_kept_is_said(upkeep: Upkeep, resolver: FakeResolver) -> None:
    upkeep.domains.parent.mkdir(exist_ok=True)
    upkeep.domains.write_text("a file is in the way")
    outcome = upkeep.resolve()
    assert outcome.state is JobState.PROBLEMS
    assert re.match(r"dev not resolved: cannot read .*dev\.json", outcome.message)
    upkeep.domains.unlink()
    upkeep.domains.mkdir()
    (upkeep.domains / ".dev.json.new").mkdir()
    outcome = upkeep.resolve()
    assert outcome.state is JobState.PROBLEMS
    assert re.match(r"dev not kept: cannot keep .*dev\.json", outcome.message)


def test_nothing_is_resolved_where_nothing_is_to_be(upkeep: Upkeep, resolver: FakeResolver, root: Path) -> None:
    upkeep.root = root / "examples" / "bank"
    upkeep.read()
    outcome = upkeep.resolve()
    assert (outcome.state, outcome.message) == (JobState.OK, "dev nothing to resolve, 3 pinned")
    assert resolver.asked == [()]
    upkeep.resolver = None
    assert "no resolver" in upkeep.resolve().message


def test_a_cluster_that_is_neither_read_nor_applied_is_left(upkeep: Upkeep, resolver: FakeResolver) -> None:
    upkeep.resolve()
    assert found(upkeep) != []
    document = upkeep.root / "clusters" / "dev.yaml"
    document.write_text(document.read_text().replace("apply: auto", "apply: manual"))
    upkeep.reload()
    assert upkeep.resolve().message == "no cluster is read or applied here"
    assert found(upkeep) == []


def test_without_readable_guardrails_nothing_is_resolved(upkeep: Upkeep, resolver: FakeResolver) -> None:
    (upkeep.root / "policies").mkdir(exist_ok=True)
    (upkeep.root / "policies" / "guardrails.yaml").write_text("a: 1\n")
    upkeep.reload()
    outcome = upkeep.resolve()
    assert outcome.state is JobState.PROBLEMS
    assert "dev not resolved" in outcome.message
    assert not kept(upkeep).exists()


def test_the_portal_sees_it_and_a_proposal_rests_on_it(upkeep: Upkeep, resolver: FakeResolver, clock: Clock) -> None:
    current = Current(upkeep.root, clock, warm=False, kept=upkeep.snapshots, domains=upkeep.domains)
    assert current.refresh().inputs("dev").domain_addresses(LISTS) == ()
    before = rendering.snapshot_digest(upkeep.read(), "dev")
    resolver.say(LISTS, "192.0.2.81")
    upkeep.resolve()
    assert [str(net) for net in current.refresh().inputs("dev").domain_addresses(LISTS)] == ["192.0.2.81/32"]
    assert rendering.snapshot_digest(upkeep.read(), "dev") != before


# ---------------------------------------------------------------- the command


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["policies", "domains", *arguments])
    captured = capsys.readouterr()
    assert ended.value.code == 0, captured.out + captured.err
    return captured.out


def test_the_command_lists_what_each_domain_is(
    upkeep: Upkeep,
    resolver: FakeResolver,
    clock: Clock,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock.moment = datetime.now(UTC)
    resolver.say(LISTS, "192.0.2.81")
    upkeep.resolve()
    given = (str(upkeep.root), "--cluster", "dev", "--today", "2026-11-21")
    text = command(capsys, *given, "--data", str(upkeep.data))
    assert "192.0.2.81" in text
    assert "risk/sanctions" in text
    assert "not known: nothing is allowed" in text
    data = json.loads(command(capsys, *given, "--data", str(upkeep.data), "--output", "json"))
    rows = {item["domain"]: item for item in data["domains"]}
    assert rows["sandbox.cardnetwork.example"]["pinned"] == ["192.0.2.40/32"]
    assert [item["network"] for item in rows[LISTS]["resolved"]] == ["192.0.2.81/32"]
    assert rows[LISTS]["services"] == ["risk/sanctions"]
    assert rows[STORAGE]["resolved"] == []
    assert "192.0.2.81" not in command(capsys, *given), "without a data folder nothing is known to be resolved"

    resolver.say(STORAGE, "192.0.2.64", "10.16.0.9")
    monkeypatch.setattr(client, "SystemResolver", lambda: resolver)
    before = kept(upkeep).read_bytes()
    shown = command(capsys, *given, "--data", str(upkeep.data), "--resolve")
    assert "192.0.2.64" in shown
    assert "policies/domain-private-address" in shown
    assert kept(upkeep).read_bytes() == before, "to look changes nothing"


def test_an_apply_by_hand_takes_what_the_worker_resolved(
    upkeep: Upkeep, resolver: FakeResolver, clock: Clock, tmp_path: Path
) -> None:
    clock.moment = datetime.now(UTC)
    resolver.say(LISTS, "192.0.2.81")
    upkeep.resolve()
    given = ["render", str(upkeep.root), "--cluster", "dev", "--today", "2026-11-21", "--quiet"]
    for data, there in ((["--data", str(upkeep.data)], True), ([], False)):
        out = tmp_path / f"out-{there}"
        with pytest.raises(SystemExit) as ended:
            main([*given, "--out", str(out), *data])
        assert ended.value.code == 0
        assert ("192.0.2.81/32" in (out / "dev" / "policies" / "_cluster.yaml").read_text()) is there
