"""The worker's hand in a Vault that signs: the PKI role of a request is written at its claim and removed at its end.

What Vault holds is held against what was written. A role without its binding gives nothing, since the group of the
request is bound to nothing then; the sweep removes what a crash left, by the requests that the roles name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from pilothouse.access import content as vault_content
from pilothouse.access import vault, vault_elevation
from pilothouse.access.content import VaultContent
from pilothouse.access.grants import Grant, State, settle
from pilothouse.clients.vault import VaultClient
from pilothouse.files.tokens import private_text
from pilothouse.inputs import Content
from pilothouse.platform.model import Cluster, Endpoint
from pilothouse.problems import Denied, Invalid, Unavailable

SECRET_DAYS = 90
"""As `access.vault_elevation.SECRET_TTL` has it."""


class Server(Protocol):
    """What is asked of Vault (`clients.vault.VaultClient` with the worker's token)."""

    def read(self, path: str) -> dict[str, Any] | None: ...
    def list(self, path: str) -> tuple[str, ...]: ...
    def write(self, path: str, body: dict[str, Any]) -> dict[str, Any]: ...
    def delete(self, path: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Swept:
    """A role that was removed, for people, and why; `odd` where only somebody else can have written it."""

    role: str
    why: str
    odd: bool


class Roles:
    """The roles of requests of one cluster, in its PKI mount. Raises what Vault answers."""

    def __init__(self, server: Server, cluster: Cluster, content: VaultContent) -> None:
        self._server = server
        self._cluster = cluster
        self._content = content
        self._mount = vault.mount(cluster, content)

    def make(self, request: str, user: str) -> str:
        """Write the role of a request of that engineer's; what was written, for people."""
        accessor = self._accessor()
        name = vault_elevation.role_name(self._entity(user, accessor), request)
        body = vault_elevation.role_body(request, self._content, accessor)
        path = f"{self._mount}/roles/{name}"
        # Vault answers with the role as it holds it. To read it would want what is required to write it.
        held = self._server.write(path, body)
        if not vault_elevation.same(held, body):
            self._server.delete(path)
            raise Unavailable(
                f"the Vault of {self._cluster.name} holds the role of request {request} otherwise than it was written",
                "somebody else changes it, or its version knows a field under another name",
            )
        return f"PKI role {name}"

    def remove(self, request: str) -> tuple[str, ...]:
        """Remove the roles of a request; what was removed, for people."""
        return tuple(self._remove(name) for name in self.present() if vault_elevation.request_of(name) == request)

    def present(self) -> tuple[str, ...]:
        """The names of all roles of requests that are there, well-formed or not."""
        return tuple(name for name in self._server.list(f"{self._mount}/roles") if vault_elevation.is_one(name))

    def sweep(self, grant_of: Callable[[str], Grant | None], now: Callable[[], datetime]) -> Iterator[Swept]:
        """Remove every role that may not stand."""
        for name in self.present():
            # Read after the list: a role is written after its claim was written down, so its request is known.
            grant = grant_of(vault_elevation.request_of(name))
            if grant is None or grant.cluster != self._cluster.name:
                yield Swept(self._remove(name), "no request of that id is known for this cluster", True)
            elif settle(grant, now()).state is not State.CLAIMED:
                yield Swept(self._remove(name), "its request is over", False)
            elif name != vault_elevation.role_name(self._entity(grant.user, self._accessor()), grant.id):
                yield Swept(self._remove(name), f"it is for another than {grant.user}, who claimed that request", True)

    def _remove(self, name: str) -> str:
        self._server.delete(f"{self._mount}/roles/{name}")
        return f"PKI role {name}"

    def _accessor(self) -> str:
        """Of the LDAP mount at which engineers log in: the one that is declared, else as Vault has it."""
        declared = self._content.accessors.get(self._cluster.name)
        if declared:
            return declared
        mount = self._cluster.authority.login
        found = (self._server.read("sys/auth") or {}).get(f"{mount}/") or {}
        if not found.get("accessor"):
            raise Unavailable(
                f"the Vault of {self._cluster.name} has no auth mount `{mount}/` at which engineers log in",
                f"the platform team runs `pilothouse access vault plan {self._cluster.name}`",
            )
        return str(found["accessor"])

    def _entity(self, user: str, accessor: str) -> str:
        """Vault's own word for whose name that is: nobody else is believed about it."""
        asked = {"alias_name": user, "alias_mount_accessor": accessor}
        found = str(self._server.write("identity/lookup/entity", asked).get("id") or "")
        if not found:
            raise Unavailable(
                f"the Vault of {self._cluster.name} does not know {user} yet",
                "log in there first: `pilothouse access login`",
            )
        return found


# ---------------------------------------------------------------- how the worker gets there

Vaults = Callable[[Cluster, VaultContent], AbstractContextManager[Roles]]
Opening = Callable[[], AbstractContextManager[Roles]]


def roles_of(vaults: Vaults, cluster: Cluster, content: Content) -> Opening | None:
    """How the roles of a cluster are got at, each time anew; None where Vault signs for none of its requests."""
    if cluster.authority.backend != "vault" or not cluster.binds_requests:
        return None

    def opened() -> AbstractContextManager[Roles]:
        settings, problems = vault_content.read(content)
        if settings is None:
            raise Unavailable(f"secrets/vault cannot be used: {problems[0].message}", problems[0].hint)
        return vaults(cluster, settings)

    return opened


@contextmanager
def worker_roles(cluster: Cluster, content: VaultContent) -> Iterator[Roles]:
    """Logged in as the worker, with a token that ends with the block. `Unavailable` where it cannot."""
    endpoint = cluster.servers.vault
    if endpoint is None:
        raise Unavailable(f"the authority of cluster {cluster.name} is vault, and no Vault is declared for it")
    role_id, secret_id = _secret(cluster)
    bare = Endpoint(endpoint.url, ca_file=endpoint.ca_file)
    client = VaultClient(bare)
    try:
        login = client.login_approle(vault_elevation.mount(cluster.name), role_id, secret_id)
    except Denied as failure:
        raise Unavailable(
            f"the Vault of {cluster.name} does not accept the worker",
            f"get it a new secret: pilothouse access vault elevator {cluster.name}",
        ) from failure
    server = VaultClient(bare, login.token)
    try:
        yield Roles(server, cluster, content)
    finally:
        client.revoke(login.token)


def _secret(cluster: Cluster) -> tuple[str, str]:
    """(role id, secret id) of the file that the Cluster document names."""
    if not cluster.elevation.vault_secret_file:
        raise Unavailable(
            f"cluster {cluster.name} names no file with what the worker logs in with at its Vault",
            "set `elevation.vaultSecretFile` in the Cluster document",
        )
    path = Path(cluster.elevation.vault_secret_file)
    hint = f"get one: pilothouse access vault elevator {cluster.name} --out {path}"
    try:
        held = json.loads(private_text(path))
        return str(held["role_id"]), str(held["secret_id"])
    except Unavailable as failure:
        raise Unavailable(failure.message, hint) from failure
    except (KeyError, TypeError, ValueError) as failure:
        raise Unavailable(f"{path} does not hold what the worker logs in with at Vault", hint) from failure
    except Invalid as failure:
        raise Unavailable(failure.message, failure.hint) from failure


def new_secret(server: Server, cluster: Cluster) -> str:
    """What the worker logs in with at that Vault, as the text of its file; each call makes a new secret."""
    role = f"auth/{vault_elevation.mount(cluster.name)}/role/{vault_elevation.APPROLE}"
    found = server.read(f"{role}/role-id")
    if not found:
        raise Invalid(
            f"the Vault of {cluster.name} knows no worker",
            f"first `pilothouse access vault apply {cluster.name}`, with `elevation` in the Cluster document",
        )
    made = server.write(f"{role}/secret-id", {})
    return json.dumps({"role_id": found["role_id"], "secret_id": made["secret_id"]}) + "\n"
