"""What does the portal add to a signature of Vault, with one engineer, with ten and with a hundred at once?

A real Vault (in development mode, with its LDAP login and a real slapd behind it) is set up by `pilothouse access vault
apply`; every engineer logs in there. Raw signing is what an engineer could do without pilothouse: the same signing
request, sent straight to the same role at the same Vault over a connection that is kept. Beside it the whole way: the
portal over HTTP, the signer, its two records in the ledger, Vault with the engineer's own token, and the check of what
came back. Portal, signer, Vault and the clients share this machine.

It needs the real programs: `make testbed` gets them.
"""

from __future__ import annotations

import http.client
import json
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import issuance
from issuance import Stopwatch, TimedAuthorities, TimedStore, now, percentile, request
from processes import folder, server, tell
from table import Budget, Column, Row, Table, shares

from pilothouse.access import certificates, csr
from pilothouse.clients.signer import SignerClient
from pilothouse.signer.authorities import VaultAuthorities
from pilothouse.signer.keys import write
from pilothouse.store import Store, sessions, users
from pilothouse.workflows.issuance import Ask, Issuance
from pilothouse.workflows.rendering import open_platform

TESTS = Path(__file__).parents[1] / "tests"
CLIENTS = (1, 10, 100)
SECONDS = {"full": 8.0, "tiny": 0.3}
SAMPLES = {"full": 100, "tiny": 3}
PEOPLE = 40
"""Engineers; nobody may change more than 120 things a minute, so many take turns."""
TEAM, PROFILE, PASSWORD = "payments", "developer", "only for the benchmark"
DOCUMENTS = """\
apiVersion: pilothouse.dev/v1
kind: Team
metadata: {{name: payments}}
spec:
  members: [{{user: {first}}}]
  groups: [payments-people]
  platform: true
  approvers: [{first}]
  receivers: [{{severity: page, email: payments@bank.example}}]
---
apiVersion: pilothouse.dev/v1
kind: Service
metadata: {{name: api, namespace: payments}}
spec: {{team: payments, podSelector: {{matchLabels: {{app: api}}}}}}
---
apiVersion: pilothouse.dev/v1
kind: Cluster
metadata: {{name: {cluster}}}
spec:
  environment: test
  podCIDRs: [10.40.0.0/16]
  serviceCIDRs: [10.50.0.0/16]
  nodeCIDRs: [10.60.0.0/24]
  servers:
    kubernetes: {{url: "https://127.0.0.1:6443"}}
    vault: {{url: "{vault}", tokenFile: {token_file}}}
  authority: {{backend: vault, mount: {mount}, login: {login}, commonName: {cluster} access}}
"""
COLUMNS = (
    Column("clients", "clients"),
    Column("raw", "raw/s", "", 1),
    Column("raw50", "raw p50", "ms", 1),
    Column("raw99", "raw p99", "ms", 1),
    Column("rate", "portal/s", "", 1),
    Column("p50", "p50", "ms", 1),
    Column("p99", "p99", "ms", 1),
    Column("added", "added to p50", "ms", 1),
    Column("share", "of raw", "%", 1),
)
STEPS = (Column("milliseconds", "median", "ms", 2), Column("share", "share", "%"))


@dataclass(frozen=True)
class Engineer:
    """Somebody who is logged in at the portal and at Vault."""

    name: str
    session: str
    vault_token: str
    csr: str


@dataclass(frozen=True)
class Place:
    """Everything that runs, and who asks."""

    cluster: str
    mount: str
    vault: str
    portal: str
    data: Path
    platform: Path
    engineers: tuple[Engineer, ...]

    @property
    def role(self) -> str:
        return f"{PROFILE}.{TEAM}"


@contextmanager
def place(scale: str) -> Iterator[Place]:
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    from support.bed import directory
    from support.bed import vault as vault_server
    from support.vault_site import real_site

    from pilothouse.workflows import vault_setup
    from pilothouse.workflows.rendering import inputs_for

    with ExitStack() as stack:
        made = stack.enter_context(folder("vault"))
        vault = vault_server.start()
        stack.callback(vault.stop)
        slapd = directory.start()
        stack.callback(slapd.stop)
        site = stack.enter_context(real_site(vault, slapd))
        branch = site.extra["branch"]
        names = tuple(f"engineer{n}" for n in range(PEOPLE if scale == "full" else 3))
        for name in names:
            branch.add_user(name, PASSWORD)
            for group in ("engineers", "payments-people"):
                branch.add_member(group, name)
        platform, data = made / "platform", made / "data"
        platform.mkdir()
        text = DOCUMENTS.format(
            first=names[0],
            cluster=site.name,
            vault=vault.url,
            token_file=vault.token_file,
            mount=site.pki,
            login=site.login_mount,
        )
        (platform / "platform.yaml").write_text(text, encoding="utf-8")
        inputs, _ = inputs_for(open_platform(platform), site.name, now().date())
        vault_setup.apply(site.root, inputs)
        tell(f"vault: {len(names)} engineers log in")
        store = Store(data)
        store.migrate()
        engineers = []
        for name in names:
            user = users.add(store, name, PASSWORD, now(), groups=("engineers", "payments-people"))
            token, _ = sessions.start(store, user, now(), kind="token")
            engineers.append(Engineer(name, token, site.login(name, PASSWORD).token, request()))
        store.close()
        log = made / "serve.log"
        arguments = ("--data", data, "--platform", platform, "--port", 0, "--no-worker")
        running = stack.enter_context(server(log, "-m", "pilothouse", "serve", *arguments))
        deadline = time.monotonic() + issuance.START_SECONDS
        while not (found := re.search(r"serves at http://(\S+) ", log.read_text())) or not issuance.answers(
            data, found[1]
        ):
            if running.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the portal does not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        time.sleep(issuance.SETTLE_SECONDS[scale])
        yield Place(site.name, site.pki, vault.url, found[1], data, platform, tuple(engineers))


# ---------------------------------------------------------------- two ways to a certificate


class Caller:
    """Asks over one connection, which is kept; for another engineer each time, so that nobody asks too often."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=60)

    def send(self, path: str, headers: dict[str, str], body: dict[str, Any], wanted: int) -> dict[str, Any]:
        self._connection.request("POST", path, json.dumps(body), headers | {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != wanted:
            raise RuntimeError(f"{path} answers {answer.status}: {said.decode()[:500]}")
        found: dict[str, Any] = json.loads(said)
        return found

    def close(self) -> None:
        self._connection.close()


Way = Callable[[Caller, Engineer], object]


def straight(at: Place) -> Way:
    """Vault's own API, as `pilothouse` asks it."""
    path = f"/v1/{at.mount}/sign/{at.role}"

    def ask(caller: Caller, who: Engineer) -> object:
        body = {"csr": who.csr, "common_name": who.name, "ttl": "57600s", "exclude_cn_from_sans": "true"}
        return caller.send(path, {"X-Vault-Token": who.vault_token}, body, 200)["data"]["certificate"]

    return ask


def by_portal(at: Place) -> Way:
    def ask(caller: Caller, who: Engineer) -> object:
        body = {
            "profile": PROFILE,
            "cluster": at.cluster,
            "team": TEAM,
            "csr": who.csr,
            "vault_token": who.vault_token,
        }
        return caller.send("/api/v1/access/certificates", {"Authorization": f"Bearer {who.session}"}, body, 201)["pem"]

    return ask


def at_once(at: Place, address: str, way: Way, clients: int, seconds: float) -> Row:
    """That many clients ask for so long, each as soon as it was answered."""
    times: list[float] = []
    failed: list[str] = []
    begin, stop = threading.Barrier(clients + 1), threading.Event()
    turns = count()

    def ask() -> None:
        caller = Caller(address)
        begin.wait()
        while not stop.is_set():
            who = at.engineers[next(turns) % len(at.engineers)]
            began = time.perf_counter()
            try:
                way(caller, who)
            except RuntimeError as failure:
                failed.append(str(failure))
                return
            times.append(time.perf_counter() - began)
        caller.close()

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    begin.wait()
    began = time.perf_counter()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    if failed or not times:
        raise SystemExit(f"not signed: {failed[:1]}")
    return {
        "rate": round(len(times) / (time.perf_counter() - began), 1),
        "p50": percentile(times, 0.5),
        "p99": percentile(times, 0.99),
    }


# ---------------------------------------------------------------- taken apart


def apart(at: Place, own: Path, samples: int) -> dict[str, float]:
    """Median seconds of each part of one issuance, one of each in turn; `own` is a data folder for this process."""
    watch = Stopwatch()
    store = Store(own)
    store.migrate()
    who = at.engineers[0]
    user = users.add(store, who.name, PASSWORD, now(), groups=("engineers", "payments-people"))
    mine, _ = sessions.start(store, user, now(), kind="token")
    platform = open_platform(at.platform).loaded.platform
    serials = count(1 << 120)
    head = own / "head"
    issued = Issuance(
        TimedStore(store, watch),  # type: ignore[arg-type]  # it has what is asked of a store
        lambda: platform,
        TimedAuthorities(VaultAuthorities(own / "authorities", lambda: platform, time.monotonic), watch),
        now,
        lambda: next(serials),
        watch.timed("head", lambda found: write(head, f"{found}\n".encode(), 0o600, durable=False)),
    )
    (own / "authorities").mkdir(exist_ok=True)
    signer = SignerClient(at.data / "signer.sock", timeout=60.0)
    vault, portal = Caller(urlsplit(at.vault).netloc), Caller(at.portal)
    raw, whole = straight(at), by_portal(at)
    asked = {"profile": PROFILE, "cluster": at.cluster, "team": TEAM}
    found: list[dict[str, float]] = []
    for turn in range(samples):
        other = at.engineers[turn % len(at.engineers)]
        watch.taken = {}
        with watch.running("raw"):
            raw(vault, other)
        with watch.running("portal"):
            whole(portal, other)
        with watch.running("socket"):
            signer.sign(other.session, other.csr, vault_token=other.vault_token, **asked)
        with watch.running("whole"):
            made = issued.issue(Ask(mine, who.csr, at.cluster, PROFILE, team=TEAM, vault_token=who.vault_token))
        with watch.running("parse"):
            csr.parse(who.csr)
        leaf, authority = issuance.pair(made)
        wanted = certificates.Template(
            who.name, made.groups, leaf.public_key(), leaf.serial_number, now(), made.not_after
        )
        with watch.running("verify"):
            certificates.verify_issued(leaf, wanted, authority)
        found.append(watch.taken)
    vault.close()
    portal.close()
    store.close()
    return {name: statistics.median(item[name] for item in found) for name in found[0]}


def taken_apart(parts: dict[str, float]) -> list[Row]:
    """Where the time of one certificate through the portal goes; the parts add up to the whole."""
    checks = parts["whole"] - sum(parts[name] for name in ("sign", "write", "verify"))
    steps = {
        "Vault, as raw signing takes it": parts["raw"],
        "Vault's client: allow-list, reading what came": max(parts["sign"] - parts["raw"], 0.0),
        "checks: session, account, rules, signing request": max(checks, 0.0),
        "ledger: recorded twice, durably": parts["write"],
        "verified before it is handed on": parts["verify"],
        "socket between portal and signer": max(parts["socket"] - parts["whole"], 0.0),
        "portal: HTTP, session, limit, log": max(parts["portal"] - parts["socket"], 0.0),
    }
    return shares(steps, "one certificate through the portal")


def answer(scale: str) -> list[Table]:
    rows: list[Row] = []
    with place(scale) as at, folder("own") as own:
        address = urlsplit(at.vault).netloc
        for clients in CLIENTS:
            tell(f"vault: {clients} at once, straight and by the portal")
            raw = at_once(at, address, straight(at), clients, SECONDS[scale])
            portal = at_once(at, at.portal, by_portal(at), clients, SECONDS[scale])
            rows.append(
                {
                    "name": f"{clients} at once",
                    "clients": clients,
                    "raw": raw["rate"],
                    "raw50": raw["p50"],
                    "raw99": raw["p99"],
                    "rate": portal["rate"],
                    "p50": portal["p50"],
                    "p99": portal["p99"],
                    "added": round(max(portal["p50"] - raw["p50"], 0.0), 1),
                    "share": round(100 * portal["rate"] / raw["rate"], 1),
                }
            )
        tell("vault: taken apart")
        parts = apart(at, own, SAMPLES[scale])
    made = Table("Certificates by Vault: straight, and through the portal", COLUMNS, rows)
    made.budgets = [Budget("1 at once", "added", 5.0)] if scale == "full" else []
    return [made, Table("Where the time of one certificate of Vault goes", STEPS, taken_apart(parts))]
