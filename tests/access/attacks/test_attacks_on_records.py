"""Attacks on the records, the secrets and the keys."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.access_portal import access_portal
from support.attacked import System, leaf, new_csr
from support.demo import until
from support.portal import login
from support.vault_site import PASSWORD

from pilothouse.access.ledger import Head
from pilothouse.problems import PilothouseError
from pilothouse.store import Store, ledger

EVIL = 'dev\n{"event": "forged"}\x1b[31m'


@pytest.mark.attack("Log injection")
def test_what_was_typed_forges_no_line_of_a_log(system: System) -> None:
    with pytest.raises(PilothouseError):
        system.signer.sign(system.token("alice"), new_csr(), profile=EVIL, cluster=EVIL)
    system.send("POST", "/api/v1/session", json={"user": EVIL, "password": "x"})
    text = until(system.logs, 10)  # processes write when they like
    lines = [json.loads(line) for line in text.split("\n") if line.startswith("{")]
    assert lines
    assert "forged" not in {line.get("event") for line in lines}
    assert "\x1b" not in text


@pytest.mark.attack("Log injection")
def test_what_was_typed_forges_no_entry_of_the_ledger(system: System) -> None:
    body = {"profile": "cluster-admin", "cluster": "dev", "reason": f"drain it {EVIL}"}
    answer = system.send("POST", "/api/v1/access/requests", "olga", json=body)
    assert answer.status_code == 201
    entry = list(ledger.everything(system.store))[-1]
    assert entry.text.count("\n") == 0
    assert "\x1b" not in entry.text
    assert ledger.verify(system.store)[0] == ()
    system.give_back(answer.json()["id"])


@pytest.mark.attack("Audit down or full")
def test_without_a_ledger_nothing_is_signed(system: System) -> None:
    before = system.kinds()
    asked = new_csr()
    system.token("alice")
    system.vault_token("alice")
    with system.store.write() as connection:
        connection.exec_driver_sql("ALTER TABLE ledger RENAME TO ledger_away")
    try:
        answer = system.certificate("alice", asked)
        assert answer.status_code == 503
        assert "BEGIN CERTIFICATE" not in answer.text
    finally:
        with system.store.write() as connection:
            connection.exec_driver_sql("ALTER TABLE ledger_away RENAME TO ledger")
    assert system.kinds() == before
    leaf(system.certificate("alice", asked))


@pytest.mark.attack("Audit down or full")
def test_a_database_that_takes_no_write_signs_nothing(system: System) -> None:
    system.token("alice")
    system.vault_token("alice")
    before = system.kinds()
    full = sqlite3.connect(system.data / "pilothouse.db", isolation_level=None)
    full.execute("BEGIN IMMEDIATE")  # nobody else writes meanwhile
    try:
        answer = system.certificate("alice")
        assert answer.status_code == 503
    finally:
        full.execute("ROLLBACK")
        full.close()
    assert system.kinds() == before


@pytest.mark.attack("Audit tampering")
@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE ledger SET text = replace(text, 'actor', 'Actor') WHERE sequence = 1", "access/ledger-broken"),
        ("UPDATE ledger SET actor = 'mallory' WHERE sequence = 1", "access/ledger-broken"),
        ("DELETE FROM ledger WHERE sequence = 2", "access/ledger-broken"),
        ("DELETE FROM ledger WHERE sequence >= (SELECT max(sequence) FROM ledger)", "access/ledger-truncated"),
    ],
    ids=["text", "column", "removed", "cut"],
)
def test_a_changed_ledger_is_found(system: System, tmp_path: Path, statement: str, code: str) -> None:
    leaf(system.certificate("alice"))
    kept = Head.parse((system.data / "signer/head").read_text())
    assert ledger.verify(system.store, [kept])[0] == ()
    with sqlite3.connect(system.data / "pilothouse.db") as source, sqlite3.connect(tmp_path / "pilothouse.db") as copy:
        source.backup(copy)
    store = Store(tmp_path)
    with pytest.raises(PilothouseError), store.write() as connection:
        connection.exec_driver_sql(statement)  # the database itself refuses
    with store.write() as connection:
        for name in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all():
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql(statement)
    assert code in {problem.code for problem in ledger.verify(store, [kept])[0]}
    store.close()


@pytest.mark.attack("Secret leakage")
def test_no_password_token_or_key_lies_on_the_disk_or_in_a_log(system: System) -> None:
    secrets = [PASSWORD, system.token("alice"), system.vault_token("alice")]
    leaf(system.certificate("alice"))
    assert system.certificate("alice", "nonsense").status_code == 422
    assert system.send("POST", "/api/v1/session", json={"user": "alice", "password": [PASSWORD]}).status_code == 422
    seen = system.logs()
    for path in system.data.rglob("*"):
        if path.is_file() and not path.is_symlink():
            seen += path.read_bytes().decode("latin-1")
    for secret in filter(None, secrets):
        assert secret not in seen
    arguments = Path("/proc").glob("[0-9]*/cmdline")
    told = b"".join(_read(path) for path in arguments)
    assert not any(secret.encode() in told for secret in filter(None, secrets))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.attack("CA-key theft through the portal")
def test_another_user_than_the_signers_reads_no_key(system: System) -> None:
    keys = list((system.data / "signer").rglob("ca.key"))
    assert keys
    for path in (*keys, *(key.parent for key in keys), system.data / "signer"):
        assert path.stat().st_mode & 0o077 == 0
    if os.getuid() == 0:  # a portal that runs as another user
        code = "import os, sys; os.setgid(65534); os.setuid(65534); open(sys.argv[1]).read()"
        done = subprocess.run([sys.executable, "-c", code, str(keys[0])], capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "PermissionError" in done.stderr


@pytest.mark.attack("CA-key theft through the portal")
def test_the_socket_gives_signatures_and_no_keys(system: System) -> None:
    for message in ({"op": "key"}, {"op": "sign-verbatim"}, {"op": "export", "cluster": "dev"}, {"op": "../sign"}):
        with pytest.raises(PilothouseError, match="unknown operation"):
            system.signer._ask(message)
    with pytest.raises(PilothouseError, match="session has ended"):
        system.signer.sign("x" * 43, new_csr(), profile="developer", cluster=system.cluster)


@pytest.mark.attack("CSRF, XSS, framing")
def test_a_reason_with_a_script_is_shown_as_text(tmp_path: Path) -> None:
    script = "<script>alert(document.cookie)</script> please"
    with access_portal(tmp_path, ("olga", "pat")) as (app, _, _heard):
        olga: Any = login(app, "olga")
        form = {"cluster": "dev", "reason": script, "minutes": "30"}
        asked = olga.post("/access/profiles/cluster-admin/request", data=form)
        page = login(app, "pat").get("/access").get_data(as_text=True) + asked.get_data(as_text=True)
    assert "<script>alert(" not in page
