"""The worker on a copy of the bank: each job, the schedule, requests, and the lock."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.access_values import elevated

from pilothouse.access import break_glass, grants
from pilothouse.access.audit import certain
from pilothouse.clients import calls
from pilothouse.files.git import clone, init, run
from pilothouse.problems import Conflict, Problem, Unavailable
from pilothouse.store import Store, events, findings, jobs
from pilothouse.store import grants as grant_rows
from pilothouse.store import proposals as rows
from pilothouse.store.jobs import JobState
from pilothouse.worker.scheduler import Worker, claim
from pilothouse.workflows.upkeep import JOBS, Job, Lane, Outcome, Upkeep

Told = list[tuple[tuple[str, ...], str, str]]


class Clock:
    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def upkeep(root: Path, tmp_path: Path, told: Told) -> Upkeep:
    platform = Path(shutil.copytree(root / "examples" / "bank", tmp_path / "platform"))
    init(platform).commit_all("The bank", "test", "test@localhost")
    store = Store(tmp_path / "data")
    store.migrate()
    return Upkeep(store, platform, tmp_path / "data", Clock(), lambda *message: told.append(message))


def service_file(upkeep: Upkeep, name: str) -> Path:
    return next(upkeep.root.rglob(f"services/**/{name}.yaml"))


def drift_of(upkeep: Upkeep, cluster: str) -> list[Problem]:
    found = (item.problem for item in findings.current(upkeep.store, cluster))
    return [problem for problem in found if problem.code.startswith("worker/")]


def test_reload_reads_what_is_there_now(upkeep: Upkeep) -> None:
    first = upkeep.reload()
    assert first.state is JobState.OK
    assert "services" in first.message
    service_file(upkeep, "fraud").write_text("kind: Service\n")
    second = upkeep.reload()
    assert second.state is JobState.PROBLEMS
    assert "error" in second.message
    assert [item.problem.place.path for item in findings.current(upkeep.store)] != []


def test_reload_takes_what_others_pushed_and_gives_what_was_committed_here(upkeep: Upkeep, tmp_path: Path) -> None:
    hub = Path(shutil.copytree(upkeep.root, tmp_path / "hub"))
    run(hub, "config", "receive.denyCurrentBranch", "updateInstead")
    here = clone(str(hub), tmp_path / "here")
    upkeep.root = here.path
    init(hub).commit({"note.txt": "theirs\n"}, "theirs", "other", "other@localhost")
    assert upkeep.reload().message.startswith(f"pulled {here.head()[:12]}; 22 services")
    assert (here.path / "note.txt").read_text() == "theirs\n"
    here.commit({"note.txt": "ours\n"}, "ours", "alice", "alice@localhost")
    assert "; pushed 1 commit; " in upkeep.reload().message
    assert (hub / "note.txt").read_text() == "ours\n"
    assert "pushed" not in upkeep.reload().message


def test_an_apply_that_was_asked_for_takes_what_was_agreed_to_elsewhere(upkeep: Upkeep, tmp_path: Path) -> None:
    bare = tmp_path / "remote.git"
    run(tmp_path, "clone", "--quiet", "--bare", str(upkeep.root), str(bare))
    here, portal = clone(str(bare), tmp_path / "here"), clone(str(bare), tmp_path / "portal")
    upkeep.root = here.path
    upkeep.reload()
    head = portal.commit({"note.txt": "agreed\n"}, "Agreed", "alice", "alice@localhost")
    portal.push()
    seen: list[str] = []

    def apply(context: Upkeep) -> Outcome:
        outcome = context.apply()
        seen.append(here.head())
        return outcome

    worker = Worker(upkeep, (Job("apply", "Apply", timedelta(hours=1), apply),), poll=0.05)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        wait_for(upkeep.store, "apply", JobState.OK)
        jobs.request(upkeep.store, "apply", "alice", upkeep.clock())
        deadline = time.monotonic() + 20
        while len(seen) < 2:
            assert time.monotonic() < deadline, jobs.everything(upkeep.store)
            time.sleep(0.02)
        wait_for(upkeep.store, "apply", JobState.OK)
        bare.rename(tmp_path / "away.git")
        jobs.request(upkeep.store, "apply", "alice", upkeep.clock())
        last = wait_for(upkeep.store, "apply", JobState.PROBLEMS)
    finally:
        worker.stop()
        thread.join()
    assert seen[0] != head, "in its period it takes what the last reload pulled"
    assert seen[1:] == [head, head]
    assert last.message.startswith("not pulled: ")
    assert last.message.endswith("; dev: not applied: its token is not here")


def test_render_writes_each_cluster_and_keeps_it_when_a_document_breaks(upkeep: Upkeep) -> None:
    assert upkeep.render().state is JobState.OK
    rendered = upkeep.data / "rendered" / "prod" / "alertmanager" / "alertmanager.yaml"
    before = rendered.read_bytes()
    assert upkeep.render().message == "no file changed"
    service_file(upkeep, "fraud").write_text("kind: Service\n")
    broken = upkeep.render()
    assert broken.state is JobState.PROBLEMS
    assert "nothing was written" in broken.message
    assert rendered.read_bytes() == before


def test_drift_sees_an_edit_by_hand(upkeep: Upkeep) -> None:
    upkeep.render()
    assert upkeep.drift() == Outcome(JobState.OK, "no drift")
    rendered = upkeep.data / "rendered" / "dev" / "alertmanager" / "alertmanager.yaml"
    rendered.write_text(rendered.read_text() + "# by hand\n")
    found = upkeep.drift()
    assert found == Outcome(JobState.PROBLEMS, "differences: dev 1")
    (finding,) = drift_of(upkeep, "dev")
    assert finding.code == "worker/rendered-differs"
    assert "dev/alertmanager/alertmanager.yaml" in finding.message
    upkeep.render()
    assert upkeep.drift().message == "no drift"
    assert drift_of(upkeep, "dev") == []


def test_drift_compares_the_objects_of_ours_in_a_snapshot(upkeep: Upkeep) -> None:
    """A snapshot that holds what was rendered, with one object edited and one gone."""
    from pilothouse.workflows import rendering

    opened = rendering.open_platform(upkeep.root)
    _, result = rendering.derive_cluster(opened, "dev", upkeep.clock().date())
    ours = [dict(m) for m in result.artifacts.manifests() if m["kind"] in ("NetworkPolicy", "ClusterRole")]
    assert len(ours) > 2
    edited = next(m for m in ours if m["kind"] == "ClusterRole" and m.get("rules"))
    ours[ours.index(edited)] = {**edited, "rules": []}
    path = upkeep.root / "snapshots" / "dev.json"
    data = json.loads(path.read_text())
    data["items"] += [m for m in ours if m is not edited]
    path.write_text(json.dumps(data))
    upkeep.reload()
    assert upkeep.drift().state is JobState.PROBLEMS
    messages = [item.problem.message for item in findings.current(upkeep.store, "dev")]
    assert any(f"ClusterRole {edited['metadata']['name']} on dev" in text and "(change " in text for text in messages)


def test_drift_compares_policies_by_what_they_mean(upkeep: Upkeep) -> None:
    """Rules in another order are no drift, one changed port is."""
    from pilothouse.workflows import rendering

    opened = rendering.open_platform(upkeep.root)
    _, result = rendering.derive_cluster(opened, "dev", upkeep.clock().date())
    ours = [json.loads(json.dumps(m)) for m in result.artifacts.manifests() if m["kind"] != "ServiceAccount"]
    path = upkeep.root / "snapshots" / "dev.json"
    before = json.loads(path.read_text())
    held = next(m for m in ours if m["metadata"]["name"] == "pilothouse-cards-egress")
    held["spec"]["egress"].reverse()

    def look() -> list[Problem]:
        path.write_text(json.dumps({**before, "items": [*before["items"], *ours]}))
        upkeep.reload()
        upkeep.drift()
        found = (item.problem for item in findings.current(upkeep.store, "dev"))
        return [item for item in found if item.code in ("policies/drift", "worker/cluster-differs")]

    assert look() == []
    held["spec"]["egress"][0]["ports"][0]["port"] = 1
    found = look()
    assert {item.code for item in found} == {"policies/drift"}
    assert any("of NetworkPolicy cards/pilothouse-cards-egress" in item.message for item in found)
    assert all(item.teams for item in found)


def test_expire_withdraws_what_nobody_touched(upkeep: Upkeep) -> None:
    draft = rows.Draft("egress", "a/b", "a", "text")
    kept = rows.create(upkeep.store, draft, "alice", upkeep.clock() - timedelta(days=31))
    fresh = rows.create(upkeep.store, draft, "alice", upkeep.clock())
    assert "1 proposals" in upkeep.expire().message
    assert rows.get(upkeep.store, kept.id).state is rows.State.WITHDRAWN
    assert rows.get(upkeep.store, fresh.id).state is rows.State.DRAFT


def test_the_end_of_an_elevation_is_told_to_who_had_it_and_who_approved(upkeep: Upkeep, told: Told) -> None:
    clock = upkeep.clock
    assert isinstance(clock, Clock)
    asked = grants.request("g-1", "olga", elevated("admin"), "dev", "a node is down", 1800, clock())
    grant_rows.add(upkeep.store, asked)
    grant_rows.change(upkeep.store, "g-1", lambda g: grants.approve(g, "pat", "", clock()), "pat", "approved", clock())
    claimed = grant_rows.change(
        upkeep.store, "g-1", lambda g: grants.claim(g, "1000", clock()), "olga", "claimed", clock()
    )
    upkeep.expire()
    assert told == []
    clock.moment = claimed.deadline + timedelta(seconds=1)
    upkeep.expire()
    ((users, subject, text),) = told
    assert (users, subject) == (("olga", "pat"), "admin on dev: expired")
    assert "Reason: a node is down" in text


def test_a_break_glass_is_a_finding_until_it_is_reviewed_and_its_end_is_told(upkeep: Upkeep, told: Told) -> None:
    def codes() -> list[str]:
        assert upkeep.expire().state is JobState.OK
        found = findings.current(upkeep.store)
        return [item.problem.code for item in found if item.problem.code.startswith("access/break-glass")]

    clock, glass = upkeep.clock, elevated("glass", groups=(), approver_groups=(), break_glass=("olga", "pat"))
    assert isinstance(clock, Clock)
    assert codes() == []
    asked = grants.request("g-1", "olga", glass, "dev", "directory is down", 1800, clock())
    grant_rows.add(upkeep.store, asked)
    assert codes() == ["access/break-glass-open"]
    for step, word in (
        (lambda g: grants.approve(g, "pat", "", clock()), "approved"),
        (lambda g: grants.claim(g, "1000", clock()), "claimed"),
    ):
        grant_rows.change(upkeep.store, "g-1", step, "pat", f"elevation.{word}", clock())
    assert codes() == ["access/break-glass-open"]
    assert told == []
    clock.moment += timedelta(minutes=31)
    assert codes() == ["access/break-glass-review"]
    ((people, subject, text),) = told
    assert subject == "BREAK-GLASS expired: glass on dev"
    assert people  # the platform team and the approvers, even where the profile is not declared any more
    assert "directory is down" in text
    assert codes() == ["access/break-glass-review"]
    assert len(told) == 1
    reviewed = "The directory was down; that was right."
    grant_rows.change(
        upkeep.store,
        "g-1",
        lambda g: break_glass.review(g, "zoe", reviewed, clock()),
        "zoe",
        "break-glass.reviewed",
        clock(),
    )
    assert codes() == []


def test_an_empty_ledger_is_whole(upkeep: Upkeep) -> None:
    assert upkeep.verify() == Outcome(JobState.OK, "0 entries, the chain is whole")


def test_an_egress_that_ends_is_reminded_of_once_for_each_stage(upkeep: Upkeep, told: Told) -> None:
    path = service_file(upkeep, "cards")
    text = path.read_text().replace(
        "  egress:\n",
        "  egress:\n    - {to: {domain: soon.example}, ports: [443], reason: a trial, expires: 2026-11-27}\n",
        1,
    )
    path.write_text(text)
    upkeep.reload()
    first = upkeep.remind()
    assert first.message.endswith("1 reminders sent")
    assert [(subject, "soon.example" in body) for _, subject, body in told] == [
        ("An egress of cards/cards ends in 6 days", True)
    ]
    assert upkeep.remind().message.endswith("0 reminders sent")
    assert isinstance(upkeep.clock, Clock)
    upkeep.clock.moment += timedelta(days=5)
    assert upkeep.remind().message.endswith("1 reminders sent")
    assert events.find(upkeep.store, events.Filter(kind="egress.reminded"))[1] == 2
    assert [item.problem.code for item in findings.current(upkeep.store)] == ["worker/egress-ends"]


def wait_for(store: Store, name: str, state: JobState, since: datetime | None = None) -> jobs.Job:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for job in jobs.everything(store):
            if job.name == name and job.state is state and (since is None or (job.started_at or since) > since):
                return job
        time.sleep(0.02)
    raise AssertionError(f"{name} did not become {state}: {jobs.everything(store)}")


def test_the_worker_runs_its_jobs_and_what_is_asked_for(upkeep: Upkeep) -> None:
    ran: list[str] = []

    def broken(_: Upkeep) -> Outcome:
        ran.append("broken")
        raise RuntimeError("boom")

    def good(_: Upkeep) -> Outcome:
        ran.append("good")
        return Outcome(JobState.OK, "done")

    upkeep.clock = lambda: datetime.now(UTC)
    table = (Job("broken", "Breaks", timedelta(hours=1), broken), Job("good", "Works", timedelta(minutes=90), good))
    worker = Worker(upkeep, table, poll=0.02)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        assert "a mistake of ours: RuntimeError: boom" in wait_for(upkeep.store, "broken", JobState.FAILED).message
        first = wait_for(upkeep.store, "good", JobState.OK)
        assert first.schedule == "every 90 minutes"
        assert first.next_run_at is not None
        assert first.next_run_at > datetime.now(UTC) + timedelta(minutes=80)
        with pytest.raises(Conflict, match="another worker runs"):
            claim(upkeep.data)
        jobs.request(upkeep.store, "good", "alice", datetime.now(UTC))
        wait_for(upkeep.store, "good", JobState.OK, since=first.started_at)
        assert ran.count("good") == 2
    finally:
        worker.stop()
        thread.join(20)
    assert not thread.is_alive()


def test_logs_are_read_whatever_else_takes_long() -> None:
    """A signature stands in a finding within a minute: the period, what settles, and no job before it in its lane."""
    of_it = [job for job in JOBS if job.lane is Lane.LOGS]
    assert [job.name for job in of_it] == ["audit"]
    assert of_it[0].every + certain.SETTLE < timedelta(seconds=45)


def test_an_urgent_job_does_not_stand_behind_a_long_one(upkeep: Upkeep) -> None:
    begun, let = threading.Event(), threading.Event()

    def slow(_: Upkeep) -> Outcome:
        begun.set()
        assert let.wait(20)
        return Outcome(JobState.OK, "at last")

    upkeep.clock = lambda: datetime.now(UTC)
    table = (
        Job("slow", "Takes long", timedelta(hours=1), slow),
        Job("quick", "Somebody waits", timedelta(hours=1), lambda _: Outcome(JobState.OK, "done"), lane=Lane.URGENT),
    )
    worker = Worker(upkeep, table, poll=0.02)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        assert begun.wait(20)
        first = wait_for(upkeep.store, "quick", JobState.OK)
        jobs.request(upkeep.store, "quick", "alice", datetime.now(UTC))
        wait_for(upkeep.store, "quick", JobState.OK, since=first.started_at)
        assert {job.name: job.state for job in jobs.everything(upkeep.store)}["slow"] is JobState.RUNNING
        # A run may be planned sooner than its period says, and never later.
        soon, late = datetime.now(UTC) + timedelta(minutes=5), datetime.now(UTC) + timedelta(days=1)
        jobs.due_by(upkeep.store, "quick", soon)
        jobs.due_by(upkeep.store, "quick", late)
        assert {job.name: job.next_run_at for job in jobs.everything(upkeep.store)}["quick"] == soon
    finally:
        let.set()
        worker.stop()
        thread.join(20)
    assert not thread.is_alive()


def test_a_job_waits_while_another_process_holds_the_database(upkeep: Upkeep) -> None:
    ran: list[str] = []

    def good(_: Upkeep) -> Outcome:
        ran.append("good")
        return Outcome(JobState.OK, "done")

    worker = Worker(upkeep, (Job("good", "Works", timedelta(hours=1), good),))
    jobs.register(upkeep.store, "good", "Works", "every hour", upkeep.clock())
    patient, upkeep.store = upkeep.store, Store(upkeep.data, busy_seconds=0.05)
    with patient.write():
        outcome = worker.run_job("good")
    assert outcome.state is JobState.FAILED
    assert "is locked by another process" in outcome.message
    assert ran == []
    assert worker.run_job("good").state is JobState.OK


def test_a_worker_that_is_told_to_stop_lets_its_run_end(upkeep: Upkeep) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def long(_: Upkeep) -> Outcome:
        begun.set()
        assert go_on.wait(20)
        return Outcome(JobState.OK, "done")

    upkeep.clock = lambda: datetime.now(UTC)
    table = (Job("long", "Long", timedelta(hours=1), long), Job("next", "Next", timedelta(hours=1), long))
    worker = Worker(upkeep, table, poll=0.02)
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert begun.wait(20)
    worker.stop()
    time.sleep(0.2)  # it is on its way down while the run goes on
    assert thread.is_alive()
    go_on.set()
    thread.join(20)
    assert not thread.is_alive()
    states = {job.name: job.state for job in jobs.everything(upkeep.store)}
    assert states == {"long": JobState.OK, "next": JobState.WAITING}, "what had not begun is not begun"


def test_a_job_that_waits_for_its_turn_is_not_warned_of(upkeep: Upkeep, caplog: pytest.LogCaptureFixture) -> None:
    """Its period ends while another job runs on: the run that waits is the one that is due."""
    begun, go_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def long(_: Upkeep) -> Outcome:
        begun.set()
        assert go_on.wait(20)
        return Outcome(JobState.OK, "done")

    def short(_: Upkeep) -> Outcome:
        ran.append("short")
        return Outcome(JobState.OK, "done")

    upkeep.clock = lambda: datetime.now(UTC)
    table = (Job("long", "Long", timedelta(hours=1), long), Job("short", "Short", timedelta(hours=1), short))
    worker = Worker(upkeep, table, poll=0.02)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        assert begun.wait(20)
        for name in ("short", "long"):
            now = datetime.now(UTC)
            worker._scheduler.get_job(name).modify(next_run_time=now)
            until = time.monotonic() + 20
            while worker._scheduler.get_job(name).next_run_time <= now:
                assert time.monotonic() < until
                time.sleep(0.01)
        go_on.set()
        wait_for(upkeep.store, "short", JobState.OK)
    finally:
        go_on.set()
        worker.stop()
        thread.join(20)
    assert ran == ["short"]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("apscheduler")] == []


def test_what_a_library_warns_of_is_a_line_like_the_others() -> None:
    script = (
        "import logging; from pilothouse import logs; logs.configure('worker'); logs.configure('worker')\n"
        "logging.getLogger('urllib3').warning('pool of %s is full', 'vault')\n"
        "logging.getLogger('urllib3').info('nothing to warn of')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    found = json.loads(line)
    assert (found["event"], found["logger"]) == ("pool of vault is full", "urllib3")
    assert (found["level"], found["process"]) == ("warning", "worker")


def test_a_job_that_fails_is_tried_again_sooner(upkeep: Upkeep) -> None:
    outcomes = [Outcome(JobState.FAILED, "no server"), Outcome(JobState.FAILED, "no server"), Outcome(JobState.OK, "")]
    worker = Worker(upkeep, (Job("remind", "Remind", timedelta(hours=12), lambda _: outcomes.pop(0)),))
    assert isinstance(upkeep.clock, Clock)
    began = upkeep.clock.moment
    jobs.register(upkeep.store, "remind", "Remind", "every 12 hours", began)
    seen = []
    while outcomes:
        worker.run_job("remind")
        (job,) = jobs.everything(upkeep.store)
        assert job.next_run_at is not None
        seen.append((job.failures, job.failing_since, job.next_run_at - upkeep.clock.moment))
        assert worker.run_job("remind") is None, "it is not due yet"
        upkeep.clock.moment = job.next_run_at
    assert seen == [
        (1, began, timedelta(minutes=1)),
        (2, began, timedelta(minutes=2)),
        (0, None, timedelta(hours=12)),
    ]


def test_what_lies_in_its_folder_a_worker_makes_itself(upkeep: Upkeep) -> None:
    """Another worker has the turn: a job that is local runs here as well, once for each run of the other one."""
    ran: list[str] = []

    def job(name: str, local: bool) -> Job:
        def run(_: Upkeep) -> Outcome:
            ran.append(name)
            return Outcome(JobState.OK, "done")

        return Job(name, name, timedelta(minutes=5), run, local)

    worker = Worker(upkeep, (job("render", True), job("drift", False)))
    for name in ("render", "drift"):
        jobs.register(upkeep.store, name, name, "every 5 minutes", upkeep.clock())
        assert jobs.claim(upkeep.store, name, "another", upkeep.clock(), timedelta(minutes=5)) is not None
    for _ in range(2):
        worker._turn("render")
        worker._turn("drift")
    assert ran == ["render"]
    worker._seen["render"] = 2  # what it sees when the other one has run it again
    worker._turn("render")
    assert ran == ["render"] * 2
    assert {job.holder for job in jobs.everything(upkeep.store)} == {"another"}


def test_the_worker_serves_its_numbers(upkeep: Upkeep) -> None:
    worker = Worker(upkeep, (Job("good", "Works", timedelta(hours=1), lambda _: Outcome(JobState.OK, "done")),))
    jobs.register(upkeep.store, "good", "Works", "every hour", upkeep.clock())
    worker.run_job("good")
    with pytest.raises(Unavailable, match="nobody"), calls.measured("vault", "status"):
        raise Unavailable("nobody answers")
    port = worker.metrics.serve("127.0.0.1", 0)
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    assert 'pilothouse_job_runs_total{job="good",state="ok"} 1.0' in text
    assert 'pilothouse_job_seconds_count{job="good"} 1.0' in text
    assert 'pilothouse_client_calls_total{operation="status",outcome="unavailable",server="vault"}' in text
    with pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1, port {port}") as caught:
        Worker(upkeep, ()).metrics.serve("127.0.0.1", port)
    assert "--metrics-port" in caught.value.hint


def test_the_table_of_jobs_is_that_of_the_documentation() -> None:
    assert [job.name for job in JOBS] == [
        "reload",
        "snapshot",
        "domains",
        "render",
        "apply",
        "drift",
        "log-store",
        "audit",
        "unusual",
        "elevate",
        "elevation-sweep",
        "notices",
        "expire",
        "verify-ledger",
        "remind",
    ]
