"""A cluster on which the worker binds requests: the platform of `access_world`, whose dev cluster declares it.

The API server is the fake one or a real one. `Site.turn` is what the worker does when it is woken; a claim that waits
for the worker gives it its turn.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support.access_values import csr, key
from support.access_world import World, make_world
from support.bed.kubernetes import KubeApi
from support.kube_fake import FakeServer

from pilothouse import access as component
from pilothouse.access import grants
from pilothouse.access.certificates import Issued
from pilothouse.access.elevation import is_one, request_of
from pilothouse.access.permissions import person_of
from pilothouse.clients.kubernetes import Api, to_endpoint
from pilothouse.platform.model import Cluster
from pilothouse.store import grants as grant_rows
from pilothouse.store import jobs
from pilothouse.worker.scheduler import Worker
from pilothouse.workflows import access, elevation, elevation_sweep, live, locks
from pilothouse.workflows.access import Desk, GivenBack, Nobody
from pilothouse.workflows.elevation import KINDS
from pilothouse.workflows.issuance import Ask, Issuance
from pilothouse.workflows.locks import Step
from pilothouse.workflows.rendering import inputs_for, open_platform
from pilothouse.workflows.upkeep import JOBS, Job, Lane, Outcome, Upkeep

ACCOUNT = "system:serviceaccount:pilothouse:pilothouse"
NAMESPACES = {"payments", "tools"}
PROFILES = """\
---
apiVersion: pilothouse.dev/v1
kind: AccessProfile
metadata: {name: repair}
spec:
  title: Repair
  description: Delete pods of your teams.
  groups: [engineers]
  scope: team-namespaces
  rules: [{apiGroups: [""], resources: [pods], verbs: [get, list, delete]}]
  lifetime: 30m
  maxLifetime: 60m
  elevated: true
  withoutApproval: pods come back by themselves
"""


def declare(root: Path, url: str, token: Path, ca: Path | None = None, account: str = ACCOUNT) -> None:
    """The worker binds on dev, with that token, at that address."""
    path, before = root / "platform.yaml", 'kubernetes: {url: "https://api.dev.bank.example:6443"}'
    authority = f', caFile: "{ca}"' if ca else ""
    after = f'kubernetes: {{url: "{url}", tokenFile: "{token}"{authority}}}'
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1
    text = text.replace(before, after)
    text = text.replace("  environment: dev\n", f'  environment: dev\n  elevation: {{account: "{account}"}}\n')
    path.write_text(text + PROFILES, encoding="utf-8")


@dataclass
class Site:
    """`reach` is how the worker gets to the API server; claims are made by `issuance`, whose waiting is the worker's
    turn."""

    world: World
    upkeep: Upkeep
    reach: Callable[[Cluster], Any]
    issuance: Issuance
    server: Any = None
    away: bool = False
    """Whether the worker is down."""
    pauses: int = field(default=0)

    def turn(self, _seconds: float = 0.0) -> None:
        """The worker's, while somebody waits."""
        self.pauses += 1
        if not self.away:
            elevation.run(self.upkeep, self.reach)

    def sweep(self) -> Any:
        return elevation_sweep.run(self.upkeep, self.reach)

    def approved(self, who: str = "olga", profile: str = "cluster-admin", by: str = "pat") -> str:
        """The id of a request that may be claimed."""
        declared = self.world.declared().profiles[profile]
        id = f"g-{secrets.token_hex(4)}"
        grant_rows.add(
            self.world.store, grants.request(id, who, declared, "dev", "repair the node", 1800, self.world.now)
        )
        if declared.approval:
            with_word = lambda found: grants.approve(found, by, "", self.world.now)  # noqa: E731
            grant_rows.change(self.world.store, id, with_word, by, "elevation.approved", self.world.now)
        return id

    def claim(self, id: str, who: str = "olga") -> Issued:
        return self.issuance.issue(Ask(self.world.token(who), csr(key(who)), grant_id=id))

    def give_back(self, id: str, who: str = "olga") -> GivenBack:
        platform = self.world.declared()
        desk = Desk(self.world.store, None, Nobody(), lambda: "", pause=self.turn)  # type: ignore[arg-type]
        person = person_of(platform, who, ("engineers", "platform-admins"))
        return access.give_back(desk, platform, person, id, self.world.now)

    def lock(self, subject: str, by: str = "pat") -> Step:
        platform = self.world.declared()
        desk = Desk(self.world.store, None, Nobody(), lambda: "g-lock", pause=self.turn)  # type: ignore[arg-type]
        person = person_of(platform, by, ("engineers", "platform-admins"))
        return locks.lock(desk, platform, person, subject, "laptop was stolen", 0, self.world.now)

    def bindings(self, id: str = "") -> list[dict[str, Any]]:
        """The bindings of requests that the API server has (of one request)."""
        found = [item for kind in KINDS for item in self.server.objects(kind) if is_one(item)]
        return [item for item in found if not id or request_of(item) == id]


def site(folder: Path, kube: KubeApi | None = None) -> Any:
    """A site on the fake server, or on a real one that has the worker's account and what is rendered for it."""
    world = make_world(folder)
    if kube is None:
        token = folder / "token"
        token.write_text("none")
        declare(world.platform, "https://fake.example", token)
        fake = fenced(world)
        return _site(world, lambda _cluster: fake, fake)
    world.now = datetime.now(UTC)
    token = worker_token(kube, folder)
    declare(world.platform, kube.url, token, kube.ca_file)
    admin = Api(to_endpoint(kube.endpoint))
    for manifest in rendered(world):
        admin.apply(manifest, force=True)
    return _site(world, live.worker_api, admin)


def fenced(world: World) -> FakeServer:
    """A fake server that has what is rendered for dev."""
    fake = FakeServer(set(NAMESPACES))
    for manifest in rendered(world):
        fake.apply(manifest)
    return fake


def _site(world: World, reach: Callable[[Cluster], Any], server: Any) -> Site:
    upkeep = Upkeep(world.store, world.platform, world.data, world.clock, lambda *_: None)
    announce(world)
    authorities = world.authorities()
    found = Site(world, upkeep, reach, world.issuance(authorities.__enter__()), server)
    object.__setattr__(found.issuance, "pause", found.turn)
    return found


@contextmanager
def working(world: World, reach: Callable[[Cluster], Any]) -> Iterator[Worker]:
    """The worker in a thread, with the jobs of elevation alone."""
    upkeep = Upkeep(world.store, world.platform, world.data, world.clock, lambda *_: None)
    table = (
        Job("elevate", "Bind", timedelta(seconds=30), lambda it: Outcome(*elevation.run(it, reach)), lane=Lane.URGENT),
        Job("elevation-sweep", "Sweep", timedelta(minutes=1), lambda it: Outcome(*elevation_sweep.run(it, reach))),
    )
    worker = Worker(upkeep, table, poll=0.02)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(20)


def announce(world: World) -> None:
    """A worker has run here before, so its jobs are known."""
    for job in JOBS:
        jobs.announce(world.store, job.name, job.title, "", world.now)


def rendered(world: World) -> list[dict[str, Any]]:
    """What an administrator applies for dev."""
    inputs = inputs_for(open_platform(world.platform), "dev", world.now.date())[0]
    return [dict(item) for item in component.derive(inputs).artifacts.under("rbac/").manifests()]


def worker_token(kube: KubeApi, folder: Path) -> Path:
    """The worker's account, the namespaces of the platform, and a token."""
    present = {item["metadata"]["name"] for item in kube.get("/api/v1/namespaces")["items"]}
    for name in {*NAMESPACES} - present:
        kube.send("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return worker_account(kube, folder)


def worker_account(kube: KubeApi, folder: Path) -> Path:
    """The worker's account in a namespace of its own, and a token."""
    for path, name in (
        ("/api/v1/namespaces", "pilothouse"),
        ("/api/v1/namespaces/pilothouse/serviceaccounts", "pilothouse"),
    ):
        with suppress(OSError):  # it is there already
            kube.send("POST", path, {"metadata": {"name": name}})
    return _token(kube, folder)


def _token(kube: KubeApi, folder: Path) -> Path:
    path = folder / "token"
    path.touch(mode=0o600)
    path.write_text(kube.token_for("pilothouse", "pilothouse", seconds=3600), encoding="ascii")
    return path
