"""What logs show for certain: attacks of each kind in logs of 60 days, read in by the import that users have.

The logs are lines as Vault and an API server write them. Every certificate of the normal days stands in the store, and
in the logs; each kind of attack is put among them a few times. A finding that names no attack is a false one.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from processes import tell
from table import Budget, Column, Table

from pilothouse.files.audit_logs import Line
from pilothouse.files.audit_settings import AuditSettings
from pilothouse.store import Store, users
from pilothouse.store import certificates as rows
from pilothouse.store.certificates import Certificate, State
from pilothouse.workflows import audit
from pilothouse.workflows.audit import Imported, Mounts, Reader
from pilothouse.workflows.rendering import open_platform

START = datetime(2026, 9, 1, tzinfo=UTC)
SIZES = {"full": (200, 60, 8), "tiny": (5, 3, 2)}
"""People, days, attacks of each kind."""
CODES = {
    "certificate that was never issued": "access/unknown-certificate",
    "signature past the portal": "access/signed-past-portal",
    "use after give-back": "access/used-after-end",
    "use after the account was closed": "access/used-after-end",
    "shell that outlives its certificate": "access/open-past-end",
    "watch open past the give-back": "access/open-past-end",
    "name of Kubernetes' own": "access/system-name-used",
    "binding changed outside": "access/binding-changed-outside",
    "hours cut from the log": "access/audit-gap",
    "line cut from Vault's log": "access/audit-gap",
}
PLATFORM = """\
apiVersion: pilothouse.dev/v1
kind: Team
metadata: {name: infra}
spec: {platform: true, members: [{user: olga}], receivers: [{severity: page, email: infra@bank.example}]}
---
apiVersion: pilothouse.dev/v1
kind: Cluster
metadata: {name: prod}
spec:
  environment: prod
  podCIDRs: [10.40.0.0/16]
  serviceCIDRs: [10.50.0.0/16]
  nodeCIDRs: [10.60.0.0/24]
  servers: {kubernetes: {url: "https://api.bank.example:6443"}, vault: {url: "https://vault.bank.example:8200"}}
  authority: {backend: vault}
"""


_GROUPS = ("ph:developer",)


class _Logs:
    """Both logs as (moment, line), and the certificates that belong to them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.vault: list[tuple[datetime, bytes]] = []
        self.cluster: list[tuple[datetime, bytes]] = []
        self.certificates: list[Certificate] = []

    def hex(self, length: int) -> str:
        return f"{self.rng.getrandbits(4 * length):0{length}x}"

    def sign(self, user: str, at: datetime, shown: bool = True, recorded: bool = True, name: str = "") -> str:
        """A certificate; its fingerprint."""
        serial, print_ = self.hex(40), self.hex(64)
        if shown:
            self._vault(user, at + timedelta(seconds=1), serial, name or user)
        if recorded:
            self.certificates.append(
                Certificate(
                    "prod", str(int(serial, 16)), user, "developer", ("ph:developer",), self.hex(64), at,
                    at + timedelta(hours=16), "", print_, State.ISSUED,
                )
            )  # fmt: skip
        return print_

    def _vault(self, user: str, at: datetime, serial: str, name: str) -> None:
        shown = ":".join(serial[i : i + 2] for i in range(0, len(serial), 2))
        line = {
            "time": at.isoformat(),
            "type": "response",
            "auth": {"display_name": f"ldap-{user}", "metadata": {"username": user}},
            "request": {
                "id": self.hex(32), "operation": "update", "path": "pki-prod/sign/developer",
                "mount_point": "pki-prod/", "remote_address": "10.60.0.9", "data": {"common_name": name},
            },
            "response": {"data": {"serial_number": shown}},
        }  # fmt: skip
        self.vault.append((at, json.dumps(line).encode()))

    def use(
        self, user: str, at: datetime, print_: str, groups: tuple[str, ...] = ("ph:developer",), **more: Any
    ) -> str:
        audit_id = self.hex(32)
        line = {
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": audit_id,
            "stage": "ResponseComplete", "requestURI": "/api/v1/pods", "verb": "list", "userAgent": "kubectl/v1.34.1",
            "user": {
                "username": user, "groups": [*groups, "system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": [f"X509SHA256={print_}"]},
            },
            "sourceIPs": ["10.60.0.8"], "objectRef": {"resource": "pods", "namespace": "payments", "apiVersion": "v1"},
            "responseStatus": {"code": 200}, "requestReceivedTimestamp": at.isoformat(),
            "stageTimestamp": at.isoformat(),
        } | more  # fmt: skip
        self.cluster.append((at, json.dumps(line).encode()))
        return audit_id

    def open(self, user: str, at: datetime, print_: str, until: datetime | None, **more: Any) -> str:
        """A request that stays open until then; None: no end of it is in the log."""
        audit_id = self.hex(32)
        self.use(user, at, print_, stage="ResponseStarted", auditID=audit_id, **more)
        if until is not None:
            line = json.loads(self.cluster[-1][1]) | {"stage": "ResponseComplete", "stageTimestamp": until.isoformat()}
            self.cluster.append((until, json.dumps(line).encode()))
        return audit_id

    def noise(self, at: datetime) -> None:
        """The cluster's own talk: a node's lease, and a look at a token in Vault."""
        asked = {
            "id": self.hex(32),
            "operation": "read",
            "path": "auth/token/lookup-self",
            "mount_point": "auth/token/",
        }
        self.vault.append((at, json.dumps({"time": at.isoformat(), "type": "request", "request": asked}).encode()))
        self.use("system:node:n1", at, "f" * 64, ("system:nodes",), verb="update")


def table(scale: str) -> Table:
    people, days, times = SIZES[scale]
    tell(f"unusual: logs of {people} people and {days} days")
    logs = _Logs(random.Random(7))
    _normal(logs, people, days)
    wanted, found, false, lines, seconds = _judged(logs, days, times)
    columns = (Column("attacks", "attacks"), Column("missed", "missed"))
    kinds = [{"name": kind, "attacks": wanted[kind], "missed": max(0, wanted[kind] - found[kind])} for kind in CODES]
    kinds.append({"name": "findings that name no attack", "attacks": 0, "missed": false})
    return Table(
        f"What logs of {people} people and {days} days show for certain",
        columns,
        kinds,
        [f"{lines:,} lines imported and judged in {seconds:.1f} s; the last row counts false findings"],
        [Budget(str(row["name"]), "missed", 0) for row in kinds],
    )


def _normal(logs: _Logs, people: int, days: int) -> None:
    for minute in range(0, days * 1440, 10):
        logs.noise(START + timedelta(minutes=minute))
    for day in range(days):
        for number in range(people):
            if logs.rng.random() < 0.3:
                continue
            user, at = f"user-{number:03}", START + timedelta(days=day, hours=7, minutes=logs.rng.randrange(180))
            print_ = logs.sign(user, at)
            for _ in range(3):
                logs.use(user, at + timedelta(minutes=logs.rng.randrange(1, 500)), print_)
            begun = at + timedelta(minutes=logs.rng.randrange(1, 500))
            logs.open(user, begun, print_, begun + timedelta(minutes=logs.rng.randrange(1, 60)), verb="watch")


def _judged(logs: _Logs, days: int, times: int) -> tuple[Counter[str], Counter[str], int, int, float]:
    with tempfile.TemporaryDirectory() as folder:
        root, data = Path(folder) / "platform", Path(folder) / "data"
        root.mkdir()
        (root / "platform.yaml").write_text(PLATFORM)
        store = Store(data)
        store.migrate()
        marks = _attack(logs, store, days, times)
        _keep(store, logs.certificates)
        opened = open_platform(root)
        lines, began = 0, time.perf_counter()
        for shown, cluster, log in (("vault", "", logs.vault), ("kubernetes", "prod", logs.cluster)):
            reader = Reader(store, Mounts.of(opened), Imported(shown, cluster=cluster))
            lines += reader.read(_lines(log)).lines
        settings = AuditSettings(appliers={"prod": ("gitops",)})
        now = START + timedelta(days=days + 1)
        texts = [
            (item.problem.code, item.problem.message)
            for item in audit.certain_findings(store, opened, "prod", settings, now)
        ]
        seconds = time.perf_counter() - began
        store.close()
    wanted = Counter(kind for kind, _ in marks)
    found: Counter[str] = Counter()
    named = set()
    for kind, mark in marks:
        hits = [text for text in texts if text[0] == CODES[kind] and mark in text[1]]
        found[kind] += bool(hits)
        named |= set(hits)
    return wanted, found, len(set(texts) - named), lines, seconds


def _lines(log: list[tuple[datetime, bytes]]) -> Iterator[Line]:
    for number, (_, data) in enumerate(sorted(log, key=lambda item: item[0]), 1):
        yield Line(number, data, 0)


def _keep(store: Store, certificates: list[Certificate]) -> None:
    with store.write() as connection:
        for item in certificates:
            rows.add(connection, item)
            rows.issued(connection, item.cluster, item.serial, item.fingerprint, item.not_after, "", item.serial)
            if item.ended_at is not None:
                rows.end(connection, item.cluster, item.serial, State.GIVEN_BACK, item.ended_at)


def _attack(logs: _Logs, store: Store, days: int, times: int) -> list[tuple[str, str]]:
    """(kind, text that its finding must hold) of each attack."""
    marks: list[tuple[str, str]] = []
    for number in range(times):
        at = START + timedelta(days=(number * 7 + 2) % days, hours=13, minutes=number)
        print_ = logs.hex(64)
        marks.append(("certificate that was never issued", logs.use(f"ghost-{number}", at, print_)))
        logs.sign(f"past-{number}", at, recorded=False)
        marks.append(("signature past the portal", f"past-{number} "))
        marks += _after_the_end(logs, store, number, at)
        marks += _open_too_long(logs, number, at)
        masters = logs.use(f"root-{number}", at, logs.hex(64), ("system:masters",))
        marks.append(("name of Kubernetes' own", masters))
        what = {"apiGroup": "rbac.authorization.k8s.io", "resource": "clusterrolebindings", "name": "ph:developer"}
        who = f"helper-{number}"
        logs.use(who, at, "", ("people",), verb="patch", objectRef=what)
        logs.use("gitops", at, "", ("people",), verb="patch", objectRef=what)
        marks.append(("binding changed outside", f"{who} did patch"))
        logs.sign(f"unseen-{number}", at, shown=False)
        marks.append(("line cut from Vault's log", f"of unseen-{number},"))
    hole = START + timedelta(days=days // 2, hours=2)
    logs.cluster = [item for item in logs.cluster if not hole < item[0] < hole + timedelta(hours=3)]
    marks.append(("hours cut from the log", f"{hole:%Y-%m-%d %H:%M}"))
    return marks


def _open_too_long(logs: _Logs, number: int, at: datetime) -> Iterator[tuple[str, str]]:
    """Every second one is open still, as far as the log goes."""
    print_ = logs.sign(f"shell-{number}", at)
    into = {"resource": "pods", "subresource": "exec", "namespace": "payments", "name": "api-0"}
    logs.certificates[-1] = replace(logs.certificates[-1], not_after=at + timedelta(hours=1))
    until = None if number % 2 else at + timedelta(hours=2)
    opened = logs.open(f"shell-{number}", at + timedelta(minutes=9), print_, until, objectRef=into, verb="create")
    yield "shell that outlives its certificate", opened
    print_ = logs.sign(f"watcher-{number}", at)
    logs.certificates[-1] = replace(logs.certificates[-1], ended_at=at + timedelta(minutes=20))
    until = None if number % 2 else at + timedelta(minutes=50)
    opened = logs.open(f"watcher-{number}", at + timedelta(minutes=5), print_, until, verb="watch")
    yield "watch open past the give-back", opened


def _after_the_end(logs: _Logs, store: Store, number: int, at: datetime) -> Iterator[tuple[str, str]]:
    print_ = logs.sign(f"back-{number}", at)
    given = logs.certificates[-1]
    logs.certificates[-1] = replace(given, ended_at=at + timedelta(minutes=5))
    logs.use(given.user, at + timedelta(minutes=2), print_)
    logs.use(given.user, at + timedelta(minutes=9), print_)
    yield "use after give-back", given.serial
    name = f"closed-{number}"
    users.add(store, name, "a password that is long enough", at)
    users.set_disabled(store, name, True, at + timedelta(minutes=5))
    print_ = logs.sign(name, at)
    logs.use(name, at + timedelta(minutes=30), print_)
    yield "use after the account was closed", f"of {name} "
