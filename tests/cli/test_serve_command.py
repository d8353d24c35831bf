"""`serve`, `demo`, `backup`, `restore`: ports, folders, processes, and a whole demonstration."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pilothouse.cli.main import main
from pilothouse.cli.processes import Process, Supervisor, claim, listen
from pilothouse.cli.serve import PLATFORM_KEY, _is_loopback, _platform, _shown
from pilothouse.files import git
from pilothouse.files.content import example
from pilothouse.files.platform import load
from pilothouse.portal.server import ServerOptions, make_app, secret_key
from pilothouse.problems import Invalid, Unavailable
from pilothouse.store import Store, settings, users
from pilothouse.workflows import demo

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(item) for item in arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


# ---------------------------------------------------------------- ports and folders


def test_a_port_that_is_taken_gives_way_to_the_next() -> None:
    with closing(listen("127.0.0.1", 0, False)) as first:
        port = first.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} on 127.0.0.1 is in use"):
            listen("127.0.0.1", port, False)
        with closing(listen("127.0.0.1", port, True)) as second:
            assert port < second.getsockname()[1] <= port + 50


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(Unavailable, match="cannot listen"):
        listen("203.0.113.1", 8420, False)
    with pytest.raises(Unavailable, match="cannot listen"):
        listen("no.such.host.invalid", 8420, False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every port")
def test_a_port_for_root_alone() -> None:
    with pytest.raises(Unavailable, match="above 1023"):
        listen("127.0.0.1", 80, False)


def test_one_data_folder_is_served_once(tmp_path: Path) -> None:
    handle = claim(tmp_path)
    with pytest.raises(Unavailable, match="another pilothouse serves"):
        claim(tmp_path)
    os.close(handle)
    os.close(claim(tmp_path))


def test_the_secret_key_is_made_once(tmp_path: Path) -> None:
    key = secret_key(tmp_path)
    assert secret_key(tmp_path) == key
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "secret.key").write_bytes(b"")
    with pytest.raises(Invalid, match="damaged"):
        secret_key(tmp_path)
    with pytest.raises(Unavailable, match="cannot write"):
        secret_key(tmp_path / "missing")


def test_what_is_shown() -> None:
    assert (_shown("::1"), _shown("10.0.0.1"), _shown("0.0.0.0")) == ("[::1]", "10.0.0.1", socket.gethostname())
    assert [_is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "10.0.0.1", "portal.example")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_options_travel_to_the_web_process(tmp_path: Path) -> None:
    options = ServerOptions(str(tmp_path), str(tmp_path), 3, trusted_proxies=("10.0.0.0/8",))
    assert ServerOptions.from_json(options.to_json()) == options
    app = make_app(options)
    assert app.test_client().get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--platform", "missing"), "missing"),
        ((), "no platform is named"),
        (("--platform", "P", "--tls-cert", "x"), "belong together"),
        (("--platform", "P", "--tls-cert", "x", "--tls-key", "y"), "no file x"),
        (("--platform", "P", "--tls-cert", "P/a", "--tls-key", "P/a"), "cannot use"),
        (("--platform", "P", "--trusted-proxy", "near"), "--trusted-proxy 'near'"),
        (("--platform", "P", "--host", "203.0.113.1"), "cannot listen"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "P").symlink_to(example())
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a").write_text("no certificate")
    arguments = tuple("bad/a" if item == "P/a" else item for item in arguments)
    code, _, err = run(capsys, "serve", "--data", "data", *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert err.count("\n") <= 2


@pytest.mark.parametrize("command", ["serve", "demo", "worker"])
def test_what_could_never_be_served_leaves_no_data_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "notes").mkdir()
    code, _, err = run(capsys, command, "--data", tmp_path / "data", "--platform", tmp_path / "notes")
    assert code == 2
    assert "declares nothing" in err
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_a_repository_without_a_platform_is_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.me").write_text("nothing is declared here")
    git.init(tmp_path / "notes").commit_all("Notes", "test", "test@localhost")
    code, _, err = run(capsys, "serve", "--data", tmp_path / "data", "--platform", f"file://{tmp_path / 'notes'}")
    assert code == 2
    assert "declares nothing" in err
    assert not (tmp_path / "data" / "platform").exists()


def test_a_taken_port_that_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(listen("127.0.0.1", 0, False)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run(capsys, "serve", "--data", tmp_path / "data", "--platform", example(), "--port", port)
    assert code == 2
    assert f"port {port} on 127.0.0.1 is in use" in err


def test_a_data_folder_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").write_text("x")
    code, _, err = run(capsys, "serve", "--data", tmp_path / "data", "--platform", example())
    assert code == 2
    assert "is a file, not a folder" in err


def test_the_worker_wants_a_platform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "worker", "--data", tmp_path / "data")
    assert code == 2
    assert "no platform is named" in err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--database", "postgresql://pilothouse:hush@db.example/x"), "--database holds a password"),
        (("--database", "mysql://db.example/x"), "PostgreSQL is what can be used"),
        (("--database", "postgresql://a@db.example/x", "--database-file", "f"), "give one of them"),
        (("--database-file", "missing"), "there is no file"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "worker", "users"])
def test_a_database_that_is_refused_leaves_no_data_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ("users", "list") if command == "users" else (command, "--platform", example())
    code, out, err = run(capsys, *more, "--data", "data", *arguments)
    assert code == 2
    assert message in err
    assert "hush" not in err + out
    assert not (tmp_path / "data").exists()


def test_what_is_typed_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PILOTHOUSE_DATABASE_FILE", str(tmp_path / "missing"))
    code, _, err = run(capsys, "users", "list", "--data", tmp_path / "data")
    assert code == 2
    assert f"there is no file {tmp_path / 'missing'}" in err
    wanted = ("--database", "postgresql://pilothouse@127.0.0.1:1/x")
    code, _, err = run(capsys, "users", "list", "--data", tmp_path / "data", *wanted)
    assert code == 2
    assert "the database postgresql://pilothouse@127.0.0.1:1/x does not answer: nobody listens there" in err


def test_a_database_is_copied_to_one_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "copy-database", "--data", tmp_path)
    assert (code, "no database is named" in err) == (2, True)
    wanted = ("--database", "postgresql://pilothouse@127.0.0.1:1/x")
    code, _, err = run(capsys, "copy-database", "--data", tmp_path / "none", *wanted)
    assert (code, "no data folder" in err) == (2, True)
    store = Store(tmp_path / "data")
    store.migrate()
    store.close()
    code, _, err = run(capsys, "copy-database", "--data", tmp_path / "data", *wanted)
    assert (code, "nobody listens there" in err) == (2, True)
    assert Store(tmp_path / "data").is_sqlite


# ---------------------------------------------------------------- processes


def test_the_end_of_an_essential_process_ends_the_others() -> None:
    server = Process("server", ("http.server", "--bind", "127.0.0.1", "0"))
    brief = Process("brief", ("pilothouse", "nonsense"))
    assert Supervisor([server, brief]).run() == 2
    assert server.running
    assert server.running.poll() == -signal.SIGTERM


def test_another_process_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr("pilothouse.cli.processes.time.sleep", lambda seconds: (waits.append(seconds), sleep(0.01)))
    helper = Process("helper", ("pilothouse", "nonsense"), essential=False, restarts=1)
    assert Supervisor([helper]).run() == 2
    assert waits.count(1.0) == 1


def test_a_signal_ends_everything_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Process("server", ("http.server", "--bind", "127.0.0.1", "0"))
    supervisor = Supervisor([server])
    before = signal.getsignal(signal.SIGINT)
    sleep = time.sleep

    def interrupt(seconds: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        sleep(0.01)

    monkeypatch.setattr("pilothouse.cli.processes.time.sleep", interrupt)
    assert supervisor.run() == 0
    assert server.running
    assert server.running.poll() is not None
    assert signal.getsignal(signal.SIGINT) is before


# ---------------------------------------------------------------- demonstration, backup


def test_the_people_of_a_demonstration_can_ask_and_agree(tmp_path: Path) -> None:
    platform = load(example()).platform
    people = demo.people(platform)
    names = {person.name: person for person in people}
    for team in platform.teams.values():
        here = [person for person in people if person.team == team.name]
        assert len(here) == demo.PER_TEAM
        assert {person.name for person in here}.intersection(team.approvers)
    for profile in platform.profiles.values():
        if set(profile.groups) & {demo.EVERYBODY, demo.ON_CALL, demo.RELEASES, demo.ADMINS}:
            assert [p for p in people if set(p.groups) & set(profile.groups)], profile.name
    store = Store(tmp_path / "data")
    store.migrate()
    made = demo.add_people(store, platform, people, NOW)
    assert len({person.password for person in made}) == len(made) == len(names)
    assert all(users.verify(store, person.name, person.password) for person in made[:2])
    assert all(not person.password for person in demo.add_people(store, platform, people, NOW))
    renewed = demo.add_people(store, platform, people[:1], NOW, renew=True)
    assert users.verify(store, renewed[0].name, renewed[0].password)
    assert users.verify(store, made[0].name, made[0].password) is None


def test_the_platform_of_a_demonstration_is_a_repository(tmp_path: Path) -> None:
    root = demo.import_platform(example(), tmp_path)
    assert git.Repository(root).is_clean()
    assert len(git.Repository(root).log()) == 1
    assert load(root).platform.services.keys() == load(example()).platform.services.keys()
    (root / "platform.yaml").touch()
    assert demo.import_platform(example(), tmp_path) == root
    with pytest.raises(Invalid, match="no platform folder"):
        demo.import_platform(tmp_path / "none", tmp_path / "other")


def test_backup_and_restore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path / "data").migrate()
    code, out, _ = run(capsys, "backup", tmp_path / "b.tgz", "--data", tmp_path / "data")
    assert (code, out) == (0, f"saved 1 files to {tmp_path / 'b.tgz'}\n")
    code, out, _ = run(capsys, "restore", tmp_path / "b.tgz", "--data", tmp_path / "new", "--output", "json")
    assert code == 0
    assert '"files": 1' in out
    Store(tmp_path / "new").check()
    code, _, err = run(capsys, "restore", tmp_path / "b.tgz", "--data", tmp_path / "new")
    assert code == 2
    assert "is not empty" in err


def test_a_whole_demonstration(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pilothouse", "demo", "--data", str(tmp_path / "data"), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout
    try:
        printed = ""
        for line in process.stdout:
            printed += line
            if "Ctrl-C" in line:
                break
        found = re.search(r"http://127\.0\.0\.1:\d+", printed)
        assert found, printed + (process.stderr.read() if process.stderr and process.poll() is not None else "")
        password = re.search(r"alice\s+(\S+)", printed)
        assert password
        assert "passwords are shown this once" in printed
        request = urllib.request.Request(
            f"{found[0]}/api/v1/session",
            data=f'{{"user": "alice", "password": "{password[1]}"}}'.encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 201
            assert "Server" not in answer.headers or "Python" not in answer.headers["Server"]
        with urllib.request.urlopen(f"{found[0]}/readyz", timeout=30) as answer:
            body = answer.read().decode()
        assert '"ready":true' in body
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    with pytest.raises(FileNotFoundError):
        (tmp_path / "data" / "signer.sock").stat()
    moved = (tmp_path / "data").rename(tmp_path / "moved")
    kept = str(settings.get(Store(moved), PLATFORM_KEY))
    assert _platform(moved, kept) == moved / "platform", "a folder that was moved, or restored elsewhere, is served"
