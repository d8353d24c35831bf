"""A Vault with a directory in front of it, real or not, and a cluster whose authority it is."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.access_values import elevated, profile
from support.builders import TODAY, bundle_content, cluster, platform, service, snapshot, team
from support.vault_fake import FakeVault, fake_vault

from pilothouse.clients.vault import VaultClient, VaultToken
from pilothouse.inputs import Inputs
from pilothouse.platform.authority import Authority
from pilothouse.platform.model import Cluster, Endpoint, Member, Platform, Scope, Secret, Servers
from pilothouse.workflows import vault_setup

PASSWORD = "correct horse battery"
PEOPLE: dict[str, tuple[str, ...]] = {
    "alice": ("engineers", "payments-people", "risk-people"),
    "bob": ("engineers", "risk-people"),
    "carol": ("payments-people",),
    "olga": ("engineers", "on-call", "platform-admins"),
}


@dataclass
class Site:
    """`name` is the cluster's: every mount, policy and group of it carries it, so that tests do not meet."""

    name: str
    url: str
    root: VaultClient
    login_mount: str
    add_group: Callable[[str, tuple[str, ...]], Any]
    remove_member: Callable[[str, str], Any]
    stop_directory: Callable[[], Any]
    fake: FakeVault | None = None
    kubernetes: str = "https://127.0.0.1:6443"
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def client(self) -> VaultClient:
        return VaultClient(Endpoint(self.url))

    @property
    def pki(self) -> str:
        return f"pki-{self.name}"

    def login(self, user: str, password: str = PASSWORD) -> VaultToken:
        return self.client.login_ldap(self.login_mount, user, password)

    def cluster(self, **fields: Any) -> Cluster:
        defaults: dict[str, Any] = {
            "servers": Servers(kubernetes=Endpoint(self.kubernetes), vault=Endpoint(self.url)),
            "authority": Authority("vault", self.pki, f"{self.name} access", self.login_mount),
        }
        return cluster(self.name, **{**defaults, **fields})

    def platform(self, **fields: Any) -> Platform:
        defaults: dict[str, Any] = {
            "profiles": {
                item.name: item
                for item in (
                    profile(groups=("engineers",)),
                    profile("on-call", groups=("on-call",), scope=Scope.CLUSTER, max_lifetime=3600, lifetime=3600),
                    elevated(groups=("platform-admins",)),
                )
            },
            "teams": [
                team(name, members=(Member("alice"),), groups=(f"{name}-people",)) for name in ("payments", "risk")
            ],
        }
        services = (
            service("payments/api", secrets=(Secret("payments/database", "/secrets/db"),)),
            service("risk/api"),
        )
        given = {**defaults, **fields}
        on = given.pop("on", None) or self.cluster()
        return platform(given.pop("services", services), given.pop("teams"), [on], **given)

    def inputs(self, **fields: Any) -> Inputs:
        found = self.platform(**fields)
        return Inputs(found, found.clusters[self.name], snapshot(), bundle_content(), TODAY)

    def set_up(self, **fields: Any) -> vault_setup.Plan:
        return vault_setup.apply(self.root, self.inputs(**fields))

    def plan(self, **fields: Any) -> vault_setup.Plan:
        return vault_setup.plan(self.root, self.inputs(**fields))


@contextmanager
def fake_site() -> Iterator[Site]:
    with fake_vault() as server:
        directory = server.state.directory
        for user, groups in PEOPLE.items():
            directory.people[user] = PASSWORD
            for group in groups:
                directory.groups.setdefault(group, set()).add(user)
        root = VaultClient(Endpoint(server.url), server.root_token)
        root.write("sys/auth/ldap", {"type": "ldap"})

        def stop() -> None:
            directory.up = False

        yield Site(
            "fake",
            server.url,
            root,
            "ldap",
            lambda name, members: directory.groups.__setitem__(name, set(members)),
            lambda name, uid: directory.groups[name].discard(uid),
            stop,
            server,
        )


@contextmanager
def real_site(vault: Any, slapd: Any) -> Iterator[Site]:
    mark = secrets.token_hex(3)
    root = VaultClient(Endpoint(vault.url), vault.root_token)
    mount = f"ldap-{mark}"

    with slapd.subtree("vault") as branch:
        members: dict[str, list[str]] = {}
        for user, groups in PEOPLE.items():
            branch.add_user(user, PASSWORD)
            for group in groups:
                members.setdefault(group, []).append(user)
        for group, who in members.items():
            branch.add_group(group, tuple(who))
        root.write(f"sys/auth/{mount}", {"type": "ldap"})
        config = {
            "url": slapd.url,
            "binddn": slapd.admin_dn,
            "bindpass": slapd.admin_password,
            "userdn": branch.people,
            "userattr": "uid",
            "groupdn": branch.groups,
            "groupattr": "cn",
            "groupfilter": "(member={{.UserDN}})",
            "token_ttl": "1h",
            "token_explicit_max_ttl": "16h",
        }
        root.write(f"auth/{mount}/config", config)

        def stop() -> None:
            root.write(f"auth/{mount}/config", config | {"url": "ldap://127.0.0.1:1"})

        yield Site(
            f"c{mark}",
            vault.url,
            root,
            mount,
            lambda name, who: branch.add_group(name, who),
            lambda name, uid: branch.remove_member(name, uid),
            stop,
            extra={"branch": branch, "vault": vault, "slapd": slapd},
        )


def site_of(request: Any) -> Iterator[Site]:
    """The body of a fixture that is parametrised with fake and real."""
    if request.param == "fake":
        with fake_site() as site:
            yield site
    else:
        with real_site(request.getfixturevalue("vault"), request.getfixturevalue("slapd")) as site:
            yield site
