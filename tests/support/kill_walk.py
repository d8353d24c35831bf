"""The walk: portal and signer are killed at every step of issuance and elevation, and what remains is looked at."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete
from support.access_values import csr
from support.access_world import PEOPLE, World, add_user, write_platform
from support.kill_steps import Nursery

from pilothouse.access import ledger as chain
from pilothouse.access.grants import Grant, State
from pilothouse.access.ledger import Head
from pilothouse.clients.signer import SignerClient
from pilothouse.problems import PilothouseError
from pilothouse.store import Store, ledger
from pilothouse.store import grants as grant_rows
from pilothouse.store.schema import rate_limits

READY_SECONDS = 20.0


@contextmanager
def walking(folder: Path, url: str = "") -> Iterator[Walk]:
    """A world with one cluster, whose database lies in its data folder or at `url`."""
    data, platform = folder / "data", write_platform(folder / "platform")
    parts = (platform / "platform.yaml").read_text().split("---\n")
    kept = (part for part in parts if "name: prod}" not in part and "name: vaulted}" not in part)
    (platform / "platform.yaml").write_text("---\n".join(kept))
    file = ""
    if url:
        (folder / "database").touch(mode=0o600)
        (folder / "database").write_text(url)
        file = str(folder / "database")
        data.mkdir(mode=0o700)
    store = Store(url or data)
    store.migrate()
    for name, groups in PEOPLE.items():
        add_user(store, name, groups)
    nursery = Nursery(folder / "log")
    try:
        yield Walk(World(data, platform, store, datetime.now(UTC)), nursery, file)
    finally:
        nursery.close()
        store.close()


@dataclass
class Walk:
    """`database` is a file with the address of a PostgreSQL, "" for the data folder's SQLite. `rows` are what the walk
    found: (process, action, step, what remained, the request afterwards)."""

    world: World
    nursery: Nursery
    database: str = ""
    rows: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    number: int = 0

    @property
    def data(self) -> Path:
        return self.world.data

    @property
    def signer(self) -> SignerClient:
        return SignerClient(self.data / "signer.sock", timeout=10.0)

    # ------------------------------------------------------------ processes

    def start(self, role: str, at: int = 0) -> int:
        """A child that answers. That it comes up at all after a kill is the first thing that the walk shows."""
        (self.data / "port").unlink(missing_ok=True)
        pid = self.nursery.start(role, self.data, self.world.platform, at, self.database)
        end = time.monotonic() + READY_SECONDS
        while not self._answers(role):
            assert time.monotonic() < end, f"the {role} does not come up"
            time.sleep(0.01)
        return pid

    def _answers(self, role: str) -> bool:
        if role == "portal":
            return (self.data / "port").exists()
        try:
            self.signer.ping()
        except PilothouseError:
            return False
        return True

    def arm(self) -> None:
        (self.data / "steps").unlink(missing_ok=True)
        (self.data / "arm").touch()

    def passed(self) -> list[str]:
        path = self.data / "steps"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    # ------------------------------------------------------------ what people do

    def post(self, who: str, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        """(status, answer) of the portal, (0, {}) where it was gone before it answered."""
        port = int((self.data / "port").read_text())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        headers = {"Authorization": f"Bearer {self.world.token(who)}", "Content-Type": "application/json"}
        try:
            connection.request("POST", f"/api/v1/access{path}", json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            return 0, {}
        finally:
            connection.close()

    def grant(self, state: State = State.APPROVED) -> str:
        """A new request of olga's for cluster-admin on dev, approved by pat."""
        self.number += 1
        now = datetime.now(UTC).replace(microsecond=0)
        decided = {"decided_by": "pat", "decided_at": now} if state is State.APPROVED else {}
        made = Grant(
            f"g-{self.number}", "olga", "cluster-admin", "dev", "to repair a node", 1800, now, state,
            now + timedelta(hours=1), **decided,
        )  # fmt: skip
        with self.world.store.write() as connection:
            grant_rows.put(connection, made)
        return made.id

    def forget_limits(self) -> None:
        """Nobody is stopped for asking as often as the walk does."""
        with self.world.store.write() as connection:
            connection.execute(delete(rate_limits))

    # ------------------------------------------------------------ what remains

    def entries(self) -> list[chain.Recorded]:
        return list(ledger.everything(self.world.store))

    def check_records(self) -> None:
        """The chain is whole and goes through the head that was kept; every signature has its record."""
        kept = self.data / "signer" / "head"
        heads = [Head.parse(kept.read_text())] if kept.exists() else []
        problems, _ = ledger.verify(self.world.store, heads)
        assert problems == ()
        recorded = {item.entry.subject for item in self.entries() if item.entry.kind == "certificate.intent"}
        signed = self.data / "signed"
        serials = set(signed.read_text().split()) if signed.exists() else set()
        assert serials <= recorded, "a certificate without a record"

    def check_handed_out(self, serial: str) -> None:
        issued = {item.entry.subject for item in self.entries() if item.entry.kind == "certificate.issued"}
        assert serial in issued, "handed out, and not recorded as issued"

    def once(self, id: str) -> None:
        """No request has two certificates."""
        of_it = [item for item in self.entries() if item.entry.data.get("request") == id]
        assert sum(item.entry.kind == "certificate.issued" for item in of_it) <= 1
        intents = sum(item.entry.kind == "certificate.intent" for item in of_it)
        assert intents <= 1, "claimed twice"

    def state(self, id: str) -> str:
        found = grant_rows.get(self.world.store, id)
        return str(found.state) if found else "none"


def of_signer(walk: Walk, name: str, elevated: bool) -> None:
    """The signer, killed at each step of one signature."""
    at = 1
    pid = walk.start("signer", at)
    while True:
        id = walk.grant() if elevated else ""
        before = len(walk.entries())
        who = "olga" if elevated else "alice"
        serial = _sign(walk, who, id, armed=True)
        passed = walk.passed()
        if len(passed) < at:  # past the last step
            assert serial
            walk.nursery.end(pid)
            break
        assert walk.nursery.wait(pid) == -9
        assert serial == "", "an answer of a process that was gone"
        walk.check_records()
        left = [item.entry.kind for item in walk.entries()[before:]]
        at += 1
        pid = walk.start("signer", at)
        retried = _sign(walk, who, id)
        if elevated:
            claimed = "certificate.intent" in left
            assert bool(retried) is not claimed, "claimed twice, or lost without a record"
            walk.once(id)
        else:
            assert retried
        assert _sign(walk, "alice"), "the next start does not serve"
        walk.check_records()
        after = "" if not elevated else "claimed again" if retried else "stays claimed, give it back"
        walk.rows.append(("signer", name, passed[-1], _shown(left), after))


def _sign(walk: Walk, who: str, id: str = "", armed: bool = False) -> str:
    """The serial of a certificate, "" where there was none."""
    token, request = walk.world.token(who), csr(_new_key())
    fields = {"grant_id": id} if id else {"profile": "developer", "cluster": "dev"}
    if armed:
        walk.arm()
    try:
        issued = walk.signer.sign(token, request, **fields)  # type: ignore[arg-type]  # texts only
    except PilothouseError:
        return ""
    walk.check_handed_out(issued.serial)
    return issued.serial


REQUESTS: dict[str, tuple[str, str, State | None, dict[str, Any]]] = {
    "certificate": ("/certificates", "alice", None, {"profile": "developer", "cluster": "dev", "csr": ""}),
    "request": ("/requests", "olga", None, {"profile": "cluster-admin", "cluster": "dev", "reason": "repair it"}),
    "approval": ("/requests/{id}/approve", "pat", State.REQUESTED, {}),
    "claim": ("/requests/{id}/claim", "olga", State.APPROVED, {"csr": ""}),
    "withdrawal": ("/give-back/{id}", "olga", State.APPROVED, {}),
}
"""What the portal is asked: path, who asks, the state of the request that it is about, body."""


def of_portal(walk: Walk, name: str) -> None:
    """The portal, killed at each step of one request to it; the signer lives on."""
    path, who, state, body = REQUESTS[name]
    signing = walk.start("signer")
    at = 1
    pid = walk.start("portal", at)
    while True:
        walk.forget_limits()
        id = walk.grant(state) if state else ""
        before = len(walk.entries())
        given = {key: csr(_new_key()) if key == "csr" else value for key, value in body.items()}
        walk.arm()
        status, _ = walk.post(who, path.format(id=id), **given)
        passed = walk.passed()
        if len(passed) < at:
            assert status in (200, 201), status
            walk.nursery.end(pid)
            break
        assert walk.nursery.wait(pid) == -9
        assert status == 0
        walk.check_records()
        left = [item.entry.kind for item in walk.entries()[before:]]
        at += 1
        pid = walk.start("portal", at)
        walk.forget_limits()
        status, _ = walk.post(who, path.format(id=id), **given)
        assert status in (200, 201, 409, 422), status
        if id:
            walk.once(id)
        walk.check_records()
        after = "done at the second try" if status < 300 else "had been done"
        if name != "certificate":  # of which one may have many
            assert (status < 300) == (not left), "done twice, or lost"
        _settle(walk)
        walk.rows.append(("portal", name, passed[-1], _shown(left), after))
    _settle(walk)
    walk.nursery.end(signing)


def _settle(walk: Walk) -> None:
    """Open requests are ended, so that the next one is not refused for them."""
    from sqlalchemy import update

    from pilothouse.store.schema import grants

    with walk.world.store.write() as connection:
        connection.execute(update(grants).values(state=State.LAPSED.value, deadline=None))


def _new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _shown(kinds: list[str]) -> str:
    return ", ".join(kinds) or "nothing"
