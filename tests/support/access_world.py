"""A small platform on disk with people, sessions and a signer: what issuance needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from support.access_values import NOW

from pilothouse.access.ledger import Head
from pilothouse.platform.model import Platform
from pilothouse.signer.declared import Declared
from pilothouse.signer.keys import EmbeddedAuthorities
from pilothouse.store import Store, sessions
from pilothouse.store.schema import users as user_rows
from pilothouse.store.users import User
from pilothouse.workflows.issuance import Issuance

PEOPLE = {
    "alice": ("engineers",),
    "bob": ("engineers",),
    "olga": ("engineers", "platform-admins"),
    "pat": ("engineers", "platform-admins"),
    "zoe": ("engineers",),
}

DOCUMENTS = """\
apiVersion: pilothouse.dev/v1
kind: Team
metadata: {name: payments}
spec:
  members: [{user: alice, name: Alice Adler, email: alice@bank.example}, {user: bob}]
  approvers: [alice]
  receivers: [{severity: page, email: payments@bank.example}]
  onCall: {users: [alice, bob], start: 2026-01-05}
---
apiVersion: pilothouse.dev/v1
kind: Team
metadata: {name: infra}
spec:
  platform: true
  members: [{user: olga, email: olga@bank.example}, {user: pat}]
  receivers: [{severity: page, email: infra@bank.example}]
  onCall: {users: [olga, pat], start: 2026-01-05}
---
apiVersion: pilothouse.dev/v1
kind: Service
metadata: {name: payments, namespace: payments}
spec: {team: payments, podSelector: {matchLabels: {app: payments}}}
---
apiVersion: pilothouse.dev/v1
kind: Service
metadata: {name: portal, namespace: tools}
spec: {team: infra, podSelector: {matchLabels: {app: portal}}, clusters: [dev]}
"""

CLUSTER = """\
---
apiVersion: pilothouse.dev/v1
kind: Cluster
metadata: {{name: {name}}}
spec:
  environment: {name}
  podCIDRs: [10.{n}.0.0/16]
  serviceCIDRs: [10.{m}.0.0/16]
  nodeCIDRs: [10.200.{n}.0/24]
  servers: {{kubernetes: {{url: "https://api.{name}.bank.example:6443"}}}}
  authority: {{backend: {backend}}}
"""


def write_platform(root: Path) -> Path:
    """Clusters dev and prod (embedded authorities) and vaulted (Vault's); the bundle's own profiles."""
    root.mkdir(parents=True, exist_ok=True)
    clusters = [("dev", "embedded"), ("prod", "embedded"), ("vaulted", "vault")]
    text = DOCUMENTS + "".join(
        CLUSTER.format(name=name, n=40 + i, m=80 + i, backend=backend) for i, (name, backend) in enumerate(clusters)
    )
    (root / "platform.yaml").write_text(text, encoding="utf-8")
    return root


def declare_api_ca(root: Path, file: Path) -> None:
    """Name the file as the authority of dev's API server."""
    path, url = root / "platform.yaml", 'url: "https://api.dev.bank.example:6443"'
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(url, f'{url}, caFile: "{file}"'), encoding="utf-8")


@dataclass
class World:
    """`clock` gives `now`, which a test may move; serials count from 1000."""

    data: Path
    platform: Path
    store: Store
    now: datetime = NOW
    heads: list[Head] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    serials: Any = field(default_factory=lambda: count(1000))

    def clock(self) -> datetime:
        return self.now

    def later(self, **delta: float) -> datetime:
        self.now += timedelta(**delta)
        return self.now

    def token(self, name: str) -> str:
        """A living session's token of that person."""
        token, _ = sessions.start(
            self.store, User(name, groups=frozenset(PEOPLE.get(name, ()))), self.now, kind="token"
        )
        return token

    def declared(self) -> Platform:
        return Declared(self.platform, lambda: 0.0)()

    @contextmanager
    def authorities(self) -> Iterator[EmbeddedAuthorities]:
        found = EmbeddedAuthorities(
            self.data / "signer", self.data / "authorities", self.declared, self.clock, lambda: next(self.serials)
        )
        try:
            yield found
        finally:
            found.close()

    def issuance(self, authorities: Any, **fields: Any) -> Issuance:
        values: dict[str, Any] = {
            "store": self.store,
            "platform": self.declared,
            "authorities": authorities,
            "clock": self.clock,
            "serial": lambda: next(self.serials),
            "exported": self.heads.append,
        }
        return Issuance(**{**values, **fields})


def add_user(store: Store, name: str, groups: tuple[str, ...], now: datetime = NOW, disabled: bool = False) -> None:
    """An account with a hash that no password matches: hashing one takes long, and no test here logs in by it."""
    with store.write() as connection:
        connection.execute(
            insert(user_rows).values(
                name=name,
                display_name=name.capitalize(),
                email=f"{name}@bank.example",
                groups=list(groups),
                password_hash="none",
                disabled=disabled,
                created_at=now,
                changed_at=now,
            )
        )


def make_world(folder: Path) -> World:
    store = Store(folder / "data")
    store.migrate()
    for name, groups in PEOPLE.items():
        add_user(store, name, groups)
    return World(folder / "data", write_platform(folder / "platform"), store)
