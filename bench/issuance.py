"""How many certificates a second does the embedded authority issue, how long does one take, and where does it go?

`pilothouse serve` runs on the bank with a data folder of its own. Clients, threads of this process, ask the signer for
the certificate of the day through its socket, each over and over: who asks is looked up, the intent goes to the ledger,
the certificate is signed and verified, and goes to the ledger. What one client waits for is then taken apart: the same
issuance in this process with a stopwatch at each door, and the whole way over HTTP through the portal.

Beside it stands raw signing: `cryptography` building and signing the same certificate, and nothing around it.
"""

from __future__ import annotations

import http.client
import json
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import render
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from processes import folder, server, tell
from sqlalchemy import insert
from table import Budget, Column, Row, Table, shares

from pilothouse.access import certificates, csr
from pilothouse.access import ledger as chain
from pilothouse.access.certificates import Issued
from pilothouse.clients.signer import SignerClient
from pilothouse.problems import PilothouseError
from pilothouse.signer.keys import EmbeddedAuthorities
from pilothouse.store import Store, ledger, sessions, users
from pilothouse.store.schema import ledger as ledger_rows
from pilothouse.store.schema import users as user_rows
from pilothouse.workflows.issuance import Ask, Issuance
from pilothouse.workflows.rendering import open_platform

CLIENTS = (1, 10, 100)
SETTLE_SECONDS = {"full": 12.0, "tiny": 0.0}
"""The portal proves the platform once it has started, which is not what is measured."""
WAITING = 64
"""How many may wait at once while they are asked for at a steady rate."""
SECONDS = {"full": 8.0, "tiny": 0.3}
SAMPLES = {"full": 100, "tiny": 3}
USER, CLUSTER, PROFILE = "alice", "dev", "developer"
START_SECONDS = 60.0
COLUMNS = (
    Column("clients", "clients"),
    Column("rate", "certificates/s", "", 1),
    Column("p50", "p50", "ms", 1),
    Column("p99", "p99", "ms", 1),
    Column("refused", "refused"),
    Column("share", "of raw signing", "%", 1),
)
SIZES = {"full": ((100_000, 100), (1_000_000, 1_000)), "tiny": ((100, 10), (1_000, 100))}
"""Entries of the ledger and users, ten times as many the second time."""
BATCH = 5_000
GROWN = (
    Column("one", "one certificate", "ms", 2),
    Column("verify", "whole chain verified", "s", 2),
    Column("per", "of each entry", "µs", 2),
)
STEPS = (Column("milliseconds", "median", "ms", 2), Column("share", "share", "%"))


def now() -> datetime:
    return datetime.now(UTC)


def request() -> str:
    """A signing request with a key of its own, in PEM."""
    built = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return built.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def percentile(values: list[float], part: float) -> float:
    """In milliseconds; `values` are seconds."""
    ordered = sorted(values)
    return round(1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))], 1)


# ---------------------------------------------------------------- the whole, by the number of clients


@contextmanager
def served(data: Path) -> Iterator[tuple[str, str]]:
    """(address, token) of a portal with its signer on the bank; the token is that of a session of USER."""
    store = Store(data)
    store.migrate()
    token = session(store)
    store.close()
    log = data.with_name("serve.log")
    arguments = ("--data", data, "--platform", render.BANK, "--port", 0, "--no-worker")
    with server(log, "-m", "pilothouse", "serve", *arguments) as process:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"serves at http://(\S+) ", log.read_text())) or not answers(data, found[1]):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the portal does not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield found[1], token


def session(store: Store) -> str:
    """The token of a new session of USER, who has an account then."""
    user = users.get(store, USER) or users.add(store, USER, "only for the benchmark", now(), groups=("engineers",))
    return sessions.start(store, user, now(), kind="token")[0]


def answers(data: Path, address: str) -> bool:
    """Whether both do, the portal once it has its platform."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        SignerClient(data / "signer.sock", timeout=1.0).ping()
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (PilothouseError, OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def at_once(data: Path, token: str, clients: int, seconds: float) -> Row:
    """That many clients ask the signer for so long, each as soon as it was answered."""
    times: list[float] = []
    refused: list[str] = []
    begin = threading.Barrier(clients + 1)
    stop = threading.Event()
    csrs = [request() for _ in range(clients)]

    def ask(text: str) -> None:
        signer = SignerClient(data / "signer.sock", timeout=60.0)
        begin.wait()
        while not stop.is_set():
            began = time.perf_counter()
            try:
                signer.sign(token, text, profile=PROFILE, cluster=CLUSTER)
            except PilothouseError as failure:
                refused.append(failure.message)
            else:
                times.append(time.perf_counter() - began)

    threads = [threading.Thread(target=ask, args=(text,), daemon=True) for text in csrs]
    for thread in threads:
        thread.start()
    begin.wait()
    began = time.perf_counter()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if not times:
        raise SystemExit(f"nothing was issued: {refused[:1]}")
    return {
        "name": f"{clients} at once",
        "clients": clients,
        "rate": round(len(times) / took, 1),
        "p50": percentile(times, 0.5),
        "p99": percentile(times, 0.99),
        "refused": len(refused),
        "why": refused[:3],
    }


def at_a_rate(data: Path, token: str, rate: float, seconds: float) -> Row:
    """So many certificates a second are asked for, whether the ones before were answered or not.

    What one takes is counted from the moment at which it was due, so that a pause is seen by everybody whom it held up.
    """
    due = [number / rate for number in range(max(1, int(rate * seconds)))]
    times: list[float] = []
    refused: list[str] = []
    turns, begin = count(), threading.Barrier(WAITING + 1)

    def ask(text: str) -> None:
        signer = SignerClient(data / "signer.sock", timeout=60.0)
        begin.wait()
        while (turn := next(turns)) < len(due):
            wait = began + due[turn] - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            try:
                signer.sign(token, text, profile=PROFILE, cluster=CLUSTER)
            except PilothouseError as failure:
                refused.append(failure.message)
            else:
                times.append(time.perf_counter() - began - due[turn])

    threads = [threading.Thread(target=ask, args=(request(),), daemon=True) for _ in range(WAITING)]
    for thread in threads:
        thread.start()
    began = time.perf_counter() + 0.1
    begin.wait()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    return {
        "name": "half of the most",
        "rate": round(len(times) / took, 1),
        "p50": percentile(times, 0.5),
        "p99": percentile(times, 0.99),
        "refused": len(refused),
        "why": refused[:3],
    }


class Door:
    """The portal's API, over one connection."""

    def __init__(self, address: str, token: str, csr: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=60)
        self._body = json.dumps({"profile": PROFILE, "cluster": CLUSTER, "csr": csr})
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def ask(self) -> None:
        self._connection.request("POST", "/api/v1/access/certificates", self._body, self._headers)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != 201:
            raise SystemExit(f"the portal answers {answer.status}: {said.decode()[:500]}")

    def close(self) -> None:
        self._connection.close()


# ---------------------------------------------------------------- taken apart


class Stopwatch:
    """Adds up the seconds that pass within; `taken` by name, for the issuance that runs now."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = {}

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.taken[name] = self.taken.get(name, 0.0) + time.perf_counter() - began

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            with self.running(name):
                return work(*arguments)

        return timed


class TimedStore:
    """A store whose transactions are timed; all else is the store's."""

    def __init__(self, store: Store, watch: Stopwatch) -> None:
        self._store, self._watch = store, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def read(self) -> Iterator[Any]:
        with self._watch.running("read"), self._store.read() as connection:
            yield connection

    @contextmanager
    def write(self, *arguments: Any, **more: Any) -> Iterator[Any]:
        with self._watch.running("write"), self._store.write(*arguments, **more) as connection:
            yield connection


class TimedAuthorities:
    def __init__(self, authorities: Any, watch: Stopwatch) -> None:
        self.certificate = authorities.certificate
        self.trusted = authorities.trusted
        self.sign = watch.timed("sign", authorities.sign)


def apart(data: Path, address: str, token: str, own: Path, samples: int) -> dict[str, float]:
    """Median seconds of each part of one issuance, of the `whole`, and of the ways to it: `socket`, and `portal`.

    One of each in turn, so that what else the machine does falls on all alike. `own` is a data folder for this process.
    """
    watch = Stopwatch()
    store = Store(own)
    store.migrate()
    mine = session(store)
    platform = open_platform(render.BANK).loaded.platform
    serials = count(1 << 120)
    keys = EmbeddedAuthorities(own / "signer", own / "authorities", lambda: platform, now, lambda: next(serials))
    issuance = Issuance(
        TimedStore(store, watch),  # type: ignore[arg-type]  # it has what is asked of a store
        lambda: platform,
        TimedAuthorities(keys, watch),
        now,
        lambda: next(serials),
        watch.timed("head", keys.keep_head),
    )
    text = request()
    signer, door = SignerClient(data / "signer.sock", timeout=60.0), Door(address, token, text)
    found: list[dict[str, float]] = []
    for _ in range(samples):
        watch.taken = {}
        with watch.running("portal"):
            door.ask()
        with watch.running("socket"):
            signer.sign(token, text, profile=PROFILE, cluster=CLUSTER)
        with watch.running("whole"):
            issued = issuance.issue(Ask(mine, text, CLUSTER, PROFILE))
        with watch.running("parse"):
            csr.parse(text)
        leaf, authority = pair(issued)
        wanted = certificates.Template(
            USER, issued.groups, leaf.public_key(), leaf.serial_number, now(), issued.not_after
        )
        with watch.running("verify"):
            certificates.verify_issued(leaf, wanted, authority)
        found.append(watch.taken)
    door.close()
    store.close()
    keys.close()
    return {name: statistics.median(item[name] for item in found) for name in found[0]}


def pair(issued: Issued) -> tuple[x509.Certificate, x509.Certificate]:
    """The leaf and its authority."""
    leaf, authority = (x509.load_pem_x509_certificate(pem.encode()) for pem in (issued.pem, issued.authority))
    return leaf, authority


def median(work: Callable[[], object], samples: int) -> float:
    times = []
    for _ in range(samples):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def raw(samples: int) -> tuple[float, float]:
    """Median seconds of (building and signing such a certificate, the signature alone)."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = certificates.create_authority("raw signing", key, 1, now().replace(microsecond=0))
    template = certificates.Template(
        USER,
        ("ph:developer:payments",),
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        2,
        now().replace(microsecond=0),
        now().replace(microsecond=0) + timedelta(hours=16),
    )
    whole = median(lambda: certificates.sign(template, authority, key), 5 * samples)
    signature = median(lambda: key.sign(b"x" * 600, ec.ECDSA(hashes.SHA256())), 5 * samples)
    return whole, signature


def taken_apart(parts: dict[str, float]) -> list[Row]:
    """Where the time of one certificate through the portal goes; the parts add up to the whole."""
    rest = parts["whole"] - sum(parts[name] for name in ("read", "write", "head", "sign", "parse", "verify"))
    steps = {
        "signed": parts["sign"],
        "verified before it is handed on": parts["verify"],
        "signing request read": parts["parse"],
        "who asks: session and account": parts["read"],
        "recorded twice, durably": parts["write"],
        "head of the ledger kept beside the keys": parts["head"],
        "rules, names and PEM": max(rest, 0.0),
        "socket between portal and signer": max(parts["socket"] - parts["whole"], 0.0),
        "portal: HTTP, session, limit, log": max(parts["portal"] - parts["socket"], 0.0),
    }
    return shares(steps, "one certificate through the portal")


# ---------------------------------------------------------------- by the size of the ledger


def sizes(scale: str, samples: int) -> list[Row]:
    """What one certificate costs, and how long the whole chain takes to verify, by the entries that stand in it."""
    rows = []
    for entries, people in SIZES[scale]:
        tell(f"issuance: a ledger of {entries:,} entries")
        with folder("ledger") as made:
            store = Store(made)
            store.migrate()
            fill(store, entries, people)
            one = issued_in(store, made, samples)
            began = time.perf_counter()
            problems, head = ledger.verify(store)
            took = time.perf_counter() - began
            if problems or head.sequence < entries:
                raise SystemExit(f"the chain that was made is broken: {problems[:1]}")
            store.close()
        rows.append(
            {
                "name": f"{entries:,} entries, {people:,} users",
                "one": round(1000 * one, 2),
                "verify": round(took, 2),
                "per": round(1e6 * took / entries, 2),
            }
        )
    return rows


def fill(store: Store, entries: int, people: int) -> None:
    """A chain of that many entries, and accounts beside it."""
    head, begin = chain.EMPTY, now() - timedelta(days=400)
    fields = {"display_name": "", "email": "", "groups": ["engineers"], "password_hash": "none", "disabled": False}
    with store.write() as connection:
        accounts = [fields | {"name": f"user{n}", "created_at": begin, "changed_at": begin} for n in range(people)]
        connection.execute(insert(user_rows), accounts)
        for start in range(0, entries, BATCH):
            batch = []
            for number in range(start, min(start + BATCH, entries)):
                data = {"fingerprint": f"{number:064x}", "profile": PROFILE, "request": ""}
                entry = chain.Entry("certificate.issued", f"user{number % people}", str(number), CLUSTER, data)
                made = chain.append(head, entry, begin + timedelta(seconds=30 * number))
                head = made.head
                batch.append(
                    {
                        "sequence": made.sequence,
                        "at": made.at,
                        "kind": entry.kind,
                        "actor": entry.actor,
                        "subject": entry.subject,
                        "cluster": entry.cluster,
                        "text": made.text,
                        "hash": made.hash,
                    }
                )
            connection.execute(insert(ledger_rows), batch)


def issued_in(store: Store, own: Path, samples: int) -> float:
    """Median seconds of one issuance in this process on that store."""
    platform = open_platform(render.BANK).loaded.platform
    serials = count(1 << 120)
    keys = EmbeddedAuthorities(own / "signer", own / "authorities", lambda: platform, now, lambda: next(serials))
    issuance = Issuance(store, lambda: platform, keys, now, lambda: next(serials), keys.keep_head)
    asked = Ask(session(store), request(), CLUSTER, PROFILE)
    try:
        return median(lambda: issuance.issue(asked), samples)
    finally:
        keys.close()


def answer(scale: str) -> list[Table]:
    samples = SAMPLES[scale]
    tell("issuance: raw signing")
    signing, signature = raw(samples)
    peer = {
        "name": "raw signing, one thread",
        "clients": 1,
        "rate": round(1 / signing, 1),
        "p50": round(1000 * signing, 2),
        "share": 100,
    }
    with folder("issuance") as made, served(made / "data") as (address, token):
        rows = []
        time.sleep(SETTLE_SECONDS[scale])
        for clients in CLIENTS:
            tell(f"issuance: {clients} at once")
            rows.append(at_once(made / "data", token, clients, SECONDS[scale]))
        tell("issuance: at half of that rate")
        rows.append(at_a_rate(made / "data", token, max(row["rate"] for row in rows) / 2, SECONDS[scale]))
        tell("issuance: taken apart")
        parts = apart(made / "data", address, token, made / "own", samples)
    for row in rows:
        row["share"] = round(100 * row["rate"] / peer["rate"], 1)
    issued = Table("Certificates by the embedded authority, through the signer's socket", COLUMNS, [*rows, peer])
    issued.notes.append(f"raw signing builds the same certificate; its signature alone takes {1000 * signature:.2f} ms")
    issued.budgets = [Budget("half of the most", "p99", 100.0)] if scale == "full" else []
    issued.notes += sorted({f"refused: {why}" for row in rows for why in row.pop("why")})
    grown = Table("A ledger and a number of users ten times as large", GROWN, sizes(scale, samples))
    grown.budgets = [Budget(grown.rows[-1]["name"], "verify", 10.0)] if scale == "full" else []
    return [issued, Table("Where the time of one certificate goes", STEPS, taken_apart(parts)), grown]
