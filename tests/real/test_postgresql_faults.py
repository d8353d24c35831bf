"""The store on a PostgreSQL that is away, hangs, refuses or is full: a sentence with the way out, and it recovers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from support.stores import migrated

from pilothouse.problems import Conflict, Invalid, Unavailable
from pilothouse.store import Store, ledger, settings
from pilothouse.store import postgresql as driver

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)


@pytest.fixture
def url(postgresql: Any) -> Iterator[str]:
    with migrated(postgresql) as made:
        yield made


def changed(url: str, **parts: Any) -> str:
    return make_url(url).set(**parts).render_as_string(hide_password=False)


def said(store: Store) -> Unavailable:
    """What a read of the store is refused with."""
    with pytest.raises(Unavailable) as caught:
        store.check()
    store.close()
    password = store.url.password or "none"
    assert password not in str(caught.value)
    assert password not in caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("parts", "message", "hint"),
    [
        ({"password": "not-the-password"}, "refuses its user or password", "--database-file"),
        ({"username": "stranger"}, "refuses its user or password", "--database-file"),
        ({"database": "nowhere"}, 'does not exist (connection to server at "127.0.0.1"', "CREATE DATABASE"),
        ({"port": 1}, "nobody listens there", "host and port"),
        ({"host": "no.such.host.invalid"}, "host name that nobody knows", "host"),
        ({"query": {"sslmode": "require"}}, "does not speak TLS", "sslmode"),
        ({"query": {"sslmode": "nonsense"}}, "does not answer", "check"),
        ({"query": {"colour": "red"}}, "unknown parameter", "libpq"),
    ],
)
def test_what_cannot_be_reached(url: str, parts: dict[str, Any], message: str, hint: str) -> None:
    failure = said(Store(changed(url, **parts)))
    assert message in failure.message
    assert hint in failure.hint


def test_no_password(url: str) -> None:
    parts = make_url(url)
    without = f"postgresql://{parts.username}@{parts.host}:{parts.port}/{parts.database}"
    failure = said(Store(without))
    assert "asks for a password" in failure.message
    assert "--database-file" in failure.hint


def test_a_database_without_tables(postgresql: Any) -> None:
    with postgresql.database() as empty:
        failure = said(Store(empty))
        assert "has no tables yet" in failure.message
        assert "pilothouse serve" in failure.hint


def test_a_full_server_says_how_many_we_use(url: str, postgresql: Any) -> None:
    others = []
    try:
        with contextlib.suppress(psycopg.OperationalError):
            while len(others) < 100:
                others.append(postgresql.connect())
        assert len(others) < 100
        failure = said(Store(url))
        assert "no connection left" in failure.message
        assert "max_connections" in failure.hint
    finally:
        for other in others:
            other.close()
    Store(url).check()


def test_a_server_that_may_only_be_read(url: str) -> None:
    store = Store(url)
    with store.write() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        with pytest.raises(Exception, match="read-only"):
            connection.execute(text("UPDATE settings SET value = '1'"))
        connection.rollback()
    standby = Store(changed(url, query={"options": "-c default_transaction_read_only=on"}))
    with pytest.raises(Unavailable, match="is read only") as caught:
        settings.put(standby, "a", 1, NOW)
    assert "primary" in caught.value.hint
    assert settings.get(standby, "a") is None
    store.close()
    standby.close()


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        ("53100", "no space left on its disk", "by itself"),
        ("53200", "out of memory", "memory"),
        ("42501", "lets its user not do that", "OWNER"),
        ("40P01", "waited for another one in a circle", "try again"),
        ("58030", "does not answer", "space"),
    ],
)
def test_what_the_server_meets(url: str, code: str, message: str, hint: str) -> None:
    """The server's own codes, which a trigger raises here: https://www.postgresql.org/docs/current/errcodes-appendix.html"""
    store = Store(url)
    with store.write() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{code}'; END $$"
        )
        connection.exec_driver_sql("CREATE TRIGGER fail BEFORE INSERT ON settings EXECUTE FUNCTION fail()")
    with pytest.raises(Unavailable) as caught:
        settings.put(store, "a", "s3cret value", NOW)
    assert message in caught.value.message
    assert hint in caught.value.hint or hint in caught.value.message
    assert "s3cret" not in str(caught.value)
    store.close()


def test_what_a_column_cannot_hold(url: str) -> None:
    store = Store(url)
    with pytest.raises(Invalid, match="cannot hold that: value too long"):
        settings.put(store, "x" * 101, 1, NOW)
    with pytest.raises(Invalid, match=r"cannot hold that: .*NUL"):
        settings.put(store, "a\0b", 1, NOW)
    assert settings.get(store, "a") is None
    store.close()


@pytest.mark.parametrize("statement", ["UPDATE ledger SET actor = 'x'", "DELETE FROM ledger", "TRUNCATE ledger"])
def test_the_ledger_is_only_ever_added_to(url: str, statement: str) -> None:
    store = Store(url)
    with pytest.raises(Conflict, match="only ever added to"), store.write() as connection:
        connection.exec_driver_sql(statement)
    store.close()


# ---------------------------------------------------------------- away and back


def test_a_server_that_is_started_again_costs_nothing(url: str, postgresql: Any) -> None:
    own = postgresql.fresh()
    with own.database() as address:
        store = Store(address)
        store.migrate()
        settings.put(store, "a", 1, NOW)
        own.restart()
        assert settings.get(store, "a") == 1, "every connection of the pool was dead"
        settings.put(store, "a", 2, NOW)
        own.stop()
        with pytest.raises(Unavailable, match="nobody listens there"):
            settings.put(store, "a", 3, NOW)
        own.server.start()
        assert settings.get(store, "a") == 2
        store.close()


def test_connections_that_are_cut(url: str, postgresql: Any) -> None:
    store = Store(url)
    settings.put(store, "a", 1, NOW)
    with postgresql.connect() as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [make_url(url).database]
        )
    assert settings.get(store, "a") == 1
    with pytest.raises(Unavailable):
        _cut_halfway(store)
    assert settings.get(store, "a") == 1, "what was not committed did not happen"
    store.close()


def _cut_halfway(store: Store) -> None:
    with store.write() as connection:
        connection.execute(text("UPDATE settings SET value = '7'"))
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_a_server_that_hangs_is_given_up_and_found_again(postgresql: Any) -> None:
    own = postgresql.fresh()
    with own.database() as address:
        store = Store(address)
        store.migrate()
        settings.put(store, "a", 1, NOW)
        own.pause()
        try:
            began = time.monotonic()
            with pytest.raises(Unavailable, match="does not answer"):
                settings.get(store, "a")
            alone = time.monotonic() - began
            # Everybody else is told at once, or as soon as the one who tries knows.
            with ThreadPoolExecutor(8) as pool:
                failures = list(pool.map(lambda _: _outcome(store), range(24)))
            together = time.monotonic() - began - alone
        finally:
            own.resume()
        print(f"one caller waited {alone:.1f} s, 24 more together {together:.1f} s")
        assert all("does not answer" in failure for failure in failures)
        deadline = time.monotonic() + 20
        while _outcome(store) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert settings.get(store, "a") == 1
        store.close()


def _outcome(store: Store) -> str:
    try:
        settings.get(store, "a")
    except Unavailable as failure:
        return failure.message
    return ""


WRITER = """
import sys, time
from pilothouse.store import Store
store = Store(sys.stdin.readline().strip())
with store.write() as connection:
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_writer_that_falls_asleep_with_the_lock_is_sent_home(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its transaction is ended by the server, which also undoes it; the others wait no longer than that."""
    monkeypatch.setattr(driver, "IDLE_SECONDS", 2)
    code = f"from pilothouse.store import postgresql\npostgresql.IDLE_SECONDS = 2\n{WRITER}"
    sleeper = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert sleeper.stdin is not None
        assert sleeper.stdout is not None
        sleeper.stdin.write(url + "\n")
        sleeper.stdin.flush()
        assert sleeper.stdout.readline() == "writing\n"
        os.kill(sleeper.pid, signal.SIGSTOP)
        impatient = Store(url, busy_seconds=0.2)
        with pytest.raises(Unavailable, match="busy with another process that writes"):
            settings.put(impatient, "a", 1, NOW)
        patient = Store(url)
        settings.put(patient, "a", 2, NOW)
        assert settings.get(patient, "a") == 2
        impatient.close()
        patient.close()
    finally:
        sleeper.kill()
        sleeper.wait()
        for stream in (sleeper.stdin, sleeper.stdout, sleeper.stderr):
            if stream is not None:
                stream.close()


# ---------------------------------------------------------------- several at once


def test_processes_that_start_at_once_migrate_once(postgresql: Any) -> None:
    code = "import sys\nfrom pilothouse.store import Store\nStore(sys.stdin.readline().strip()).migrate()"
    with postgresql.database() as address:
        children = [
            subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        for child in children:
            assert child.stdin is not None
            child.stdin.write(address + "\n")
            child.stdin.flush()
        ends = [(child.wait(60), child.communicate()[1]) for child in children]
        assert ends == [(0, "")] * 4
        Store(address).check()


APPEND = """
import sys
from datetime import UTC, datetime
from pilothouse.access.ledger import Entry
from pilothouse.store import Store, ledger
url, who, count = sys.stdin.readline().split()
store = Store(url)
for number in range(int(count)):
    with store.write() as connection:
        ledger.append(connection, Entry("test.step", who, str(number)), datetime.now(UTC))
"""


def test_hundreds_of_entries_at_once_make_one_chain(url: str) -> None:
    each, several = 100, 4
    began = time.monotonic()
    children = [
        subprocess.Popen([sys.executable, "-c", APPEND], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(several)
    ]
    for number, child in enumerate(children):
        assert child.stdin is not None
        child.stdin.write(f"{url} process-{number} {each}\n")
        child.stdin.flush()
    ends = [(child.wait(120), child.communicate()[1]) for child in children]
    print(f"{each * several} entries of {several} processes in {time.monotonic() - began:.1f} s, their starts included")
    assert ends == [(0, "")] * several
    store = Store(url)
    problems, head = ledger.verify(store)
    assert (problems, head.sequence) == ((), each * several)
    for number in range(several):
        found, total = ledger.find(store, ledger.Filter(actor=f"process-{number}"), limit=each)
        assert total == each
        assert [int(item.entry.subject) for item in reversed(found)] == list(range(each)), "each in its own order"
    store.close()
