"""The agent of a pod at a Vault, the stand-in and the real one with tokens of a real API server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.secret_site import DATABASE, SecretSite, fake_secret_site, secret_site_of

from pilothouse.clients.vault_workload import WorkloadVault
from pilothouse.files import swap
from pilothouse.mounted.config import AgentConfig
from pilothouse.problems import Denied, Invalid, PilothouseError, Unavailable
from pilothouse.workflows import secret_rotation
from pilothouse.workflows.secret_agent import Agent, Stopped, Surroundings, exit_code

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def made(request: Any) -> Iterator[SecretSite]:
    yield from secret_site_of(request)


@pytest.fixture
def fake() -> Iterator[SecretSite]:
    with fake_secret_site() as found:
        yield found


class Pod:
    """An agent with time of its own: a wait is over at once, is kept, and may do something meanwhile."""

    def __init__(self, config: AgentConfig, looks: int = 1) -> None:
        self.config = config
        self.time = 0.0
        self.waits: list[float] = []
        self.lines: list[dict[str, Any]] = []
        self.looks = looks
        self.meanwhile: dict[int, Any] = {}
        around = Surroundings(lambda: NOW, lambda: self.time, self.wait, lambda: 0.5, self.log)
        self.agent = Agent(config, WorkloadVault(config.url), around)

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.time += seconds
        self.meanwhile.get(len(self.waits), lambda: None)()
        return len(self.waits) >= self.looks

    def log(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        self.lines.append({"level": level, "event": event, **fields})

    def files(self, index: int) -> dict[str, bytes]:
        return swap.read(Path(self.config.secrets[index].folder))

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]


def refused(config: AgentConfig) -> PilothouseError:
    with pytest.raises(PilothouseError) as caught:
        Pod(config, looks=99).agent.once()
    return caught.value


def test_once_everything_is_there_and_the_token_has_ended(made: SecretSite, tmp_path: Path) -> None:
    pod = Pod(made.config(tmp_path))
    pod.agent.once()
    assert pod.files(0) == {key: value.encode() for key, value in DATABASE.items()}
    assert pod.files(1) == {"key": b"signing", "rounds": b"3"}
    folder = Path(pod.config.secrets[0].folder)
    assert (folder / "password").read_text() == DATABASE["password"]
    assert str((folder / "password").readlink()) == "..data/password"
    assert (folder / "password").stat().st_mode & 0o777 == 0o444
    assert (folder / "..data/").stat().st_mode & 0o777 == 0o755
    assert pod.waits == []
    assert DATABASE["password"] not in json.dumps(pod.lines)
    if made.site.fake:
        assert made.site.fake.state.tokens == {}


def test_the_modes_are_as_the_settings_say(made: SecretSite, tmp_path: Path) -> None:
    pod = Pod(made.config(tmp_path, file_mode=0o400))
    pod.agent.once()
    assert (Path(pod.config.secrets[0].folder) / "password").stat().st_mode & 0o777 == 0o400


def test_a_change_is_picked_up_at_the_next_look(made: SecretSite, tmp_path: Path) -> None:
    config = made.config(tmp_path)
    Pod(config).agent.once()
    pod = Pod(config, looks=3)
    pod.meanwhile[1] = lambda: made.put("payments/database", DATABASE | {"password": "the second password"})
    pod.agent.watch()
    assert pod.files(0)["password"] == b"the second password"
    assert [(line["path"], line["version"]) for line in pod.lines] == [("payments/database", 2)]
    assert all(seconds <= config.interval for seconds in pod.waits)


def test_a_rotation_gives_one_key_a_new_value_and_the_agent_sees_it(made: SecretSite, tmp_path: Path) -> None:
    pod = Pod(made.config(tmp_path), looks=2)

    def rotate() -> None:
        values = {"password": "the third password"}
        planned = secret_rotation.plan(
            made.site.root, made.inputs.cluster, made.readers, "payments/database", values, 30
        )
        assert [reader.service for reader in planned.readers] == [f"{made.namespace}/api"]
        done = secret_rotation.rotate(made.site.root, planned, made.key_value, values, NOW)
        assert (done.before, done.version, done.done) == (1, 2, True)

    pod.meanwhile[1] = rotate
    pod.agent.watch()
    assert pod.files(0) == {"username": b"api", "password": b"the third password"}
    kept = made.site.root.read(f"{made.key_value}/data/payments/database") or {}
    assert kept["data"]["host"] == "not declared"


def test_a_bump_writes_the_same_values_anew(made: SecretSite, tmp_path: Path) -> None:
    pod = Pod(made.config(tmp_path), looks=3)
    folder = Path(pod.config.secrets[1].folder)
    before: list[Path] = []
    made.site.root.patch(f"{made.key_value}/metadata/payments/signing", {"custom_metadata": {"owner": "risk"}})

    def bump() -> None:
        before.append((folder / swap.DATA).readlink())
        planned = secret_rotation.plan(made.site.root, made.inputs.cluster, made.readers, "payments/signing", (), 30)
        assert [reader.service.partition("/")[2] for reader in planned.readers] == ["api", "other"]
        secret_rotation.rotate(made.site.root, planned, made.key_value, {}, NOW)

    pod.meanwhile[1] = bump
    pod.agent.watch()
    assert (folder / swap.DATA).readlink() != before[0]
    assert pod.files(1) == {"key": b"signing", "rounds": b"3"}
    state = secret_rotation.state(made.site.root, made.key_value, "payments/signing")
    assert state.version == 1
    assert state.asked_at.startswith("2026-11-21T12:00:00")
    assert state.keys == ("key", "rounds")
    custom = (made.site.root.read(f"{made.key_value}/metadata/payments/signing") or {})["custom_metadata"]
    assert custom["owner"] == "risk"


def test_a_rotation_that_comes_second_changes_nothing(made: SecretSite) -> None:
    values = {"password": "mine"}
    planned = secret_rotation.plan(made.site.root, made.inputs.cluster, made.readers, "payments/database", values, 30)
    made.put("payments/database", DATABASE)
    from pilothouse.problems import Conflict

    with pytest.raises(Conflict, match="in the meantime"):
        secret_rotation.rotate(made.site.root, planned, made.key_value, values, NOW)
    kept = made.site.root.read(f"{made.key_value}/data/payments/database") or {}
    assert kept["data"] == DATABASE


def test_a_deleted_secret_is_missing_and_can_be_written_anew(made: SecretSite, tmp_path: Path) -> None:
    made.site.root.delete(f"{made.key_value}/data/payments/database")
    assert not secret_rotation.state(made.site.root, made.key_value, "payments/database").is_there
    failure = refused(made.config(tmp_path))
    assert isinstance(failure, Invalid)
    assert "payments/database for /secrets/database" in failure.message
    assert "vault kv put" in failure.hint
    values = {"username": "api", "password": "again"}
    planned = secret_rotation.plan(made.site.root, made.inputs.cluster, made.readers, "payments/database", values, 30)
    assert secret_rotation.rotate(made.site.root, planned, made.key_value, values, NOW).version == 2
    Pod(made.config(tmp_path)).agent.once()


@pytest.mark.parametrize(
    ("account", "audience", "of", "said"),
    [
        ("other", "vault", "", "service account name not authorized"),
        ("api", "vault", "elsewhere", "namespace not authorized"),
        ("api", "kubernetes.default", "", "audience"),
    ],
)
def test_a_token_of_somebody_else_is_refused(
    made: SecretSite, tmp_path: Path, account: str, audience: str, of: str, said: str
) -> None:
    token = made.jwt(account, audience, of) if of else made.jwt(account, audience)
    failure = refused(made.config(tmp_path, token=token))
    assert isinstance(failure, Denied)
    assert said in failure.message
    assert "access secrets explain" in failure.hint
    assert token not in f"{failure.message}{failure.hint}"
    assert exit_code(failure) == 4


def test_a_policy_that_does_not_reach_is_named_with_its_path(made: SecretSite, tmp_path: Path) -> None:
    policy = f"ph.{made.site.name}.secrets.{made.namespace}.api"
    made.site.root.write(f"sys/policies/acl/{policy}", {"policy": json.dumps({"path": {}})})
    failure = refused(made.config(tmp_path))
    assert isinstance(failure, Denied)
    assert "payments/database for /secrets/database" in failure.message
    assert "payments/signing for /secrets/signing" in failure.message


def test_a_declared_key_that_is_not_there(made: SecretSite, tmp_path: Path) -> None:
    made.put("payments/database", {"username": "api"})
    failure = refused(made.config(tmp_path))
    assert "no key password" in failure.message
    assert exit_code(failure) == 5
    problems = list(
        secret_rotation.wrong(
            secret_rotation.state(made.site.root, made.key_value, "payments/database"),
            made.readers.of("payments/database"),
            made.site.name,
        )
    )
    assert [problem.code for problem in problems] == ["access/secret-key-missing"]


def test_no_vault_is_waited_for_within_the_budget(fake: SecretSite, tmp_path: Path) -> None:
    pod = Pod(fake.config(tmp_path, url="http://127.0.0.1:1", budget=20), looks=99)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not answer.*given up after \d+ tries") as caught:
        pod.agent.once()
    assert sum(pod.waits) <= 20
    assert pod.waits[:4] == [0.375, 0.75, 1.5, 3.0]
    assert set(pod.events()) == {"waiting for Vault"}
    assert exit_code(caught.value) == 3


def test_a_sealed_vault_that_is_unsealed_in_time_costs_nothing_but_time(fake: SecretSite, tmp_path: Path) -> None:
    assert fake.site.fake
    state = fake.site.fake.state
    pod = Pod(fake.config(tmp_path), looks=99)
    state.sealed = True
    pod.meanwhile[3] = lambda: setattr(state, "sealed", False)
    pod.agent.once()
    assert pod.files(0)["username"] == b"api"
    assert [line["reason"] for line in pod.lines[:3]] == [f"Vault at {fake.site.url} is sealed"] * 3


def test_told_to_end_while_it_waits(fake: SecretSite, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        Pod(fake.config(tmp_path, url="http://127.0.0.1:1")).agent.once()


def test_a_sidecar_keeps_what_it_holds_and_comes_back_less_often(fake: SecretSite, tmp_path: Path) -> None:
    assert fake.site.fake
    state = fake.site.fake.state
    pod = Pod(fake.config(tmp_path), looks=7)
    pod.meanwhile[1] = lambda: setattr(state, "sealed", True)

    def back() -> None:
        state.sealed = False
        fake.put("payments/database", DATABASE | {"password": "after the seal"})

    pod.meanwhile[5] = back
    pod.agent.watch()
    assert pod.files(0)["password"] == b"after the seal"
    assert pod.waits == [27.0, 45.0, 90.0, 90.0, 90.0, 27.0, 27.0]
    assert pod.events().count("cannot look") == 4


def test_one_secret_that_is_gone_does_not_hold_up_the_others(fake: SecretSite, tmp_path: Path) -> None:
    pod = Pod(fake.config(tmp_path), looks=3)

    def change() -> None:
        fake.site.root.delete(f"{fake.key_value}/data/payments/database")
        fake.put("payments/signing", {"key": "new"})

    pod.meanwhile[1] = change
    pod.agent.watch()
    assert pod.files(0)["password"] == DATABASE["password"].encode()
    assert pod.files(1) == {"key": b"new"}
    assert {line["path"] for line in pod.lines if line["event"] == "cannot look"} == {"payments/database"}


def test_it_logs_in_anew_before_its_token_ends_and_with_the_token_of_that_moment(
    fake: SecretSite, tmp_path: Path
) -> None:
    assert fake.site.fake
    config = fake.config(tmp_path)
    pod = Pod(config, looks=62)
    pod.meanwhile[20] = lambda: Path(config.token_file).write_text(fake.jwt("api", "vault"))
    pod.agent.watch()
    logins = [path for method, path in fake.site.fake.state.requests if path.endswith("/login")]
    assert len(logins) == 3  # 62 looks of 27 s, and a new token after two thirds of 20 minutes
    assert pod.events() == ["written", "written"]
    assert fake.site.fake.state.tokens == {}


def test_an_account_that_was_removed_gets_nothing_new(fake: SecretSite, tmp_path: Path) -> None:
    assert fake.site.fake
    state = fake.site.fake.state
    pod = Pod(fake.config(tmp_path), looks=60)

    def remove() -> None:
        state.accounts.clear()
        state.tokens.clear()  # as Vault does when the role or its mount goes

    pod.meanwhile[2] = remove
    pod.agent.watch()
    assert pod.files(0)["username"] == b"api"
    assert "refused the login as role" in pod.lines[-1]["reason"]


def test_a_reader_never_sees_half_a_change(made: SecretSite, tmp_path: Path) -> None:
    """Real time, a watching agent and a reader that looks as fast as it can while the secret changes."""
    config = made.config(tmp_path, interval=1)
    stop = threading.Event()
    around = Surroundings(
        lambda: datetime.now(UTC), time.monotonic, lambda _: stop.wait(0.02), lambda: 0.5, lambda *_: None
    )
    made.put("payments/signing", {"a": "0" * 5000, "b": "0" * 5000})
    Agent(config, WorkloadVault(config.url), around).once()
    folder = Path(config.secrets[1].folder)
    thread = threading.Thread(target=Agent(config, WorkloadVault(config.url), around).watch)
    thread.start()
    seen: set[str] = set()
    try:
        deadline = time.monotonic() + 60
        for change in range(1, 9):
            made.put("payments/signing", {"a": str(change) * 5000, "b": str(change) * 5000})
            while str(change) not in seen:
                assert time.monotonic() < deadline, "the change was not picked up"
                alone = (folder / "a").read_text()
                assert len(alone) == 5000
                assert len(set(alone)) == 1
                at_once = folder / (folder / swap.DATA).readlink()
                pair = ((at_once / "a").read_text(), (at_once / "b").read_text())
                assert pair[0] == pair[1]
                assert len(pair[0]) == 5000
                seen.add(pair[0][0])
    finally:
        stop.set()
        thread.join(timeout=30)
    assert not thread.is_alive()
    assert len(seen) == 9
    leftovers = [path.name for path in folder.iterdir() if path.name.startswith("..2")]
    assert len(leftovers) <= 2
