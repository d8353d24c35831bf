"""Certificates of an embedded authority where the ledger lies in PostgreSQL: portal, worker and signer as they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from support.access_values import csr
from support.installation import Browser, portal, until
from support.stores import migrated
from support.testbed import BANK

from pilothouse.cli.main import main
from pilothouse.files.git import init
from pilothouse.store import Store, certificates, grants, jobs, ledger, users
from pilothouse.store.jobs import JobState

PASSWORD = "a long enough password"


def new_csr() -> str:
    return csr(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def url(postgresql: Any) -> Iterator[str]:
    with migrated(postgresql) as made:
        yield made


def test_from_a_request_to_a_certificate(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    platform = Path(shutil.copytree(BANK, tmp_path / "platform"))
    init(platform).commit_all("The bank", "test", "test@localhost")
    database = tmp_path / "database"
    database.touch(mode=0o600)
    database.write_text(url)
    store = Store(url)
    users.add(store, "alice", PASSWORD, datetime.now(UTC), groups=["engineers"])
    for name in ("peggy", "quentin"):
        users.add(store, name, PASSWORD, datetime.now(UTC), groups=["platform-admins", "engineers"])
    browser = Browser()
    with portal(tmp_path / "data", database, platform, ()) as address:

        def signs() -> bool:
            state = browser.ask(f"{address}/readyz").json["backends"].get("signer", {})
            return bool(state.get("ok"))

        until(signs, "the signer answers")
        tokens = {name: browser.token(address, name, PASSWORD) for name in ("alice", "peggy", "quentin")}

        def call(user: str, path: str, status: int, **body: Any) -> Any:
            answer = browser.ask(f"{address}/api/v1/access/{path}", body, tokens[user])
            assert answer.status == status, answer.text
            return answer.json

        # Twelve at once: each has a row, an entry, and a serial number of its own.
        with ThreadPoolExecutor(6) as pool:
            issued = list(
                pool.map(
                    lambda _: call("alice", "certificates", 201, profile="developer", cluster="dev", csr=new_csr()),
                    range(12),
                )
            )
        assert {item["user"] for item in issued} == {"alice"}
        rows = certificates.of_user(store, "alice")
        assert {row.state for row in rows} == {certificates.State.ISSUED}
        assert len({row.serial for row in rows}) == 12
        assert x509.load_pem_x509_certificate(rows[0].pem.encode()).serial_number in {int(row.serial) for row in rows}

        # A raised profile: asked for, approved by another person, and claimed once, however many try.
        asked = call("peggy", "requests", 201, profile="cluster-admin", cluster="dev", reason="repair", seconds=1800)
        number = asked["id"]
        call("peggy", f"requests/{number}/approve", 403)
        call("quentin", f"requests/{number}/approve", 200)

        def claim(_: int) -> int:
            answer = Browser().ask(
                f"{address}/api/v1/access/requests/{number}/claim", {"csr": new_csr()}, tokens["peggy"]
            )
            return answer.status

        with ThreadPoolExecutor(4) as pool:
            statuses = sorted(pool.map(claim, range(4)))
        assert statuses[0] == 201
        assert set(statuses[1:]) <= {409, 422}
        found = grants.get(store, number)
        assert found is not None
        assert found.serial
        assert len(certificates.of_user(store, "peggy")) == 1

        def verified() -> bool:
            job = next((item for item in jobs.everything(store) if item.name == "verify-ledger"), None)
            return job is not None and job.finished_at is not None

        until(verified, "the worker has verified the ledger")
        jobs.request(store, "verify-ledger", "peggy", datetime.now(UTC))
        until(
            lambda: "entries, the chain is whole" in _message(store) and not _message(store).startswith("0 "), "again"
        )
    with pytest.raises(SystemExit) as ended:
        main(["access", "verify-ledger", "--data", str(tmp_path / "data")])
    assert ended.value.code in (0, None)
    assert "The chain is whole" in capsys.readouterr().out
    problems, head = ledger.verify(store)
    assert problems == ()
    kinds = [item.entry.kind for item in ledger.everything(store)]
    assert kinds.count("certificate.issued") == 13
    assert head.sequence == len(kinds)
    assert {job.state for job in jobs.everything(store)} <= {JobState.OK, JobState.PROBLEMS}
    store.close()


def _message(store: Store) -> str:
    return next(item.message for item in jobs.everything(store) if item.name == "verify-ledger")
