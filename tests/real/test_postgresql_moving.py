"""From SQLite to PostgreSQL, backups beside it, and TLS with a certificate that is checked."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url
from support.bed import pki
from support.bed.process import own

from pilothouse.access.ledger import Entry
from pilothouse.cli.main import main
from pilothouse.problems import Conflict, Unavailable, warning
from pilothouse.store import Store, address, events, findings, ledger, proposals, settings, users
from pilothouse.store.address import Named
from pilothouse.store.copying import COPIED, copy

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)
PASSWORD = "a long enough password"


def filled(data: Path) -> Store:
    store = Store(data)
    store.migrate()
    users.add(store, "alice", PASSWORD, NOW, groups=["payments"])
    settings.put(store, "a", {"x": [1, "ü"]}, NOW)
    for number in range(3):
        events.record(store, events.Event(NOW, "test", "alice", str(number)))
        with store.write() as connection:
            ledger.append(connection, Entry("test.step", "alice", str(number), data={"why": "100 % ü"}), NOW)
    findings.replace(store, "drift", "prod", [warning("drift/changed", "a policy was changed", teams=("a",))], NOW)
    proposals.create(store, proposals.Draft("egress", "a/b", "a", "text", data={"x": None}), "alice", NOW)
    return store


def file_of(folder: Path, url: str) -> Named:
    path = folder / "address"
    path.touch(mode=0o600)
    path.write_text(url)
    return address.named("", path)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(item) for item in arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_a_whole_database_moves(postgresql: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    filled(data).close()
    with postgresql.database("moved") as url:
        named = file_of(tmp_path, url)
        code, out, err = run(capsys, "copy-database", "--data", data, "--database-file", named.file, "--output", "json")
        assert (code, err) == (0, "")
        assert json.loads(out)["rows"] > 10
        after = address.opened(data)
        assert not after.is_sqlite
        kept = Store(tmp_path / "kept")
        (data / COPIED).rename(tmp_path / "kept" / "pilothouse.db")
        for read in (users.everyone, findings.current, lambda store: proposals.find(store)[0], ledger.head):
            assert read(after) == read(kept)
        assert events.find(after) == events.find(kept)
        assert settings.get(after, "a") == {"x": [1, "ü"]}
        assert users.verify(after, "alice", PASSWORD)
        assert ledger.verify(after, [ledger.head(kept)])[0] == ()
        # It counts on from where it stood.
        events.record(after, events.Event(NOW, "test"))
        made = proposals.create(after, proposals.Draft("egress", "a/b", "a", "text"), "alice", NOW)
        assert made.id == 2
        for store in (after, kept):
            store.close()


def test_nothing_is_copied_over_what_is_there(postgresql: Any, tmp_path: Path) -> None:
    filled(tmp_path / "data").close()
    with postgresql.database("taken") as url:
        other = Store(url)
        other.migrate()
        users.add(other, "bob", PASSWORD, NOW)
        with pytest.raises(Conflict, match="holds users already"):
            copy(tmp_path / "data", file_of(tmp_path, url))
        assert [user.name for user in users.everyone(other)] == ["bob"]
        assert users.verify(address.opened(tmp_path / "data"), "alice", PASSWORD)
        assert ledger.head(other).sequence == 0
        other.close()


def test_a_backup_says_what_is_not_in_it(postgresql: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    with postgresql.database("saved") as url:
        address.opened(data, file_of(tmp_path, url)).migrate()
        address.keep(data, file_of(tmp_path, url))
        (data / "signer").mkdir()
        (data / "signer" / "dev.key").write_text("the key")
        code, out, _ = run(capsys, "backup", tmp_path / "b.tgz", "--data", data)
        name = Store(url).name
        assert code == 0
        assert "saved 2 files" in out
        assert f"pg_dump --format=custom --file=FILE {name}" in out
        assert postgresql.password not in out
        assert postgresql.password.encode() not in (tmp_path / "b.tgz").read_bytes()
        code, out, _ = run(capsys, "restore", tmp_path / "b.tgz", "--data", tmp_path / "again")
        assert code == 0
        assert "pg_restore" in out
        assert (tmp_path / "again" / "signer" / "dev.key").read_text() == "the key"
        assert address.opened(tmp_path / "again").name == name
        code, out, _ = run(capsys, "access", "verify-ledger", "--data", tmp_path / "again")
        assert (code, "The chain is whole" in out) == (0, True)


def test_a_certificate_that_is_checked(postgresql: Any, tmp_path: Path) -> None:
    """libpq's own parameters do what they do everywhere: https://www.postgresql.org/docs/current/libpq-ssl.html"""
    server = postgresql.fresh()
    folder = server.server.cwd / "tls"
    folder.mkdir()
    authority, stranger = pki.Authority(folder, "the authority"), pki.Authority(tmp_path, "somebody else")
    pair = authority.server("server")
    own(folder)
    pair.key.chmod(0o600)
    with server.connect() as connection:
        connection.execute(f"ALTER SYSTEM SET ssl_cert_file = '{pair.certificate}'")
        connection.execute(f"ALTER SYSTEM SET ssl_key_file = '{pair.key}'")
        connection.execute("ALTER SYSTEM SET ssl = on")
    server.restart()
    trusted = tmp_path / "trusted.crt"
    trusted.write_bytes(authority.file.read_bytes())
    with server.database("tls") as url:

        def store(**query: str) -> Store:
            return Store(make_url(url).set(query=query).render_as_string(hide_password=False))

        good = store(sslmode="verify-full", sslrootcert=str(trusted))
        good.migrate()
        with good.read() as connection:
            assert connection.exec_driver_sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").scalar_one()
        for bad in (
            store(sslmode="verify-full", sslrootcert=str(stranger.file)),
            store(sslmode="verify-full", sslrootcert=str(tmp_path / "none.crt")),
        ):
            with pytest.raises(Unavailable, match="certificate that does not hold") as caught:
                bad.check()
            assert "sslrootcert" in caught.value.hint
        good.close()
