"""A rotation where Vault signs: the stages are issuers of the cluster's PKI mount, told apart by their names.

    made      a second issuer, `pilothouse-next`, which is not the default and is in no bundle
    trusted   the same, called `pilothouse-trusted`: now it is in the bundle
    signing   it is the default, and the one of before is called `pilothouse-old`
    at rest   the old issuer and its key are gone

How far it is follows from the mount alone, so that a command that was cut short is run again. The key of each is made
inside Vault (https://developer.hashicorp.com/vault/docs/secrets/pki/rotation-primitives).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography import x509

from pilothouse.access.rotation import Stage
from pilothouse.platform.model import Cluster
from pilothouse.problems import Conflict, Unavailable
from pilothouse.workflows.vault_state import ROOT_TTL, root_body

CURRENT, NEXT, TRUSTED, OLD = "pilothouse", "pilothouse-next", "pilothouse-trusted", "pilothouse-old"
_STAGES = {NEXT: Stage.MADE, TRUSTED: Stage.TRUSTED, OLD: Stage.SIGNING}


class Anybody(Protocol):
    """What everybody may ask a Vault for (`clients.vault.VaultClient` without a token)."""

    def authority(self, mount: str) -> str: ...
    def issuers(self, mount: str) -> Mapping[str, str]: ...
    def issuer(self, mount: str, id: str) -> str: ...


class Server(Protocol):
    """`clients.vault.VaultClient` with a token that may set Vault up."""

    def read(self, path: str) -> dict[str, Any] | None: ...
    def list(self, path: str) -> tuple[str, ...]: ...
    def write(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]: ...
    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]: ...
    def delete(self, path: str) -> None: ...
    def issuers(self, mount: str) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class At:
    stage: Stage


@dataclass(frozen=True, slots=True)
class Held:
    """The authorities of a mount, as `workflows.rotation.Held`: Vault keeps the keys to itself."""

    shelf: At
    signs: tuple[x509.Certificate, None]
    beside: tuple[x509.Certificate, None] | None = None

    @property
    def trusted(self) -> tuple[x509.Certificate, ...]:
        """What API servers are to trust, the one that signs first."""
        both = self.beside is not None and self.shelf.stage is not Stage.MADE
        return (self.signs[0], *((self.beside[0],) if self.beside and both else ()))


def held(client: Anybody, mount: str) -> Held | None:
    """The authorities of the mount; None where it has none yet. `Unavailable` where Vault does not answer."""
    text = client.authority(mount)
    if not text:
        return None
    signs = _parsed(text)
    for id, name in sorted(client.issuers(mount).items()):
        if name in _STAGES:
            other = _parsed(client.issuer(mount, id))
            if other != signs:
                return Held(At(_STAGES[name]), (signs, None), (other, None))
    return Held(At(Stage.AT_REST), (signs, None))


def _parsed(text: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(text.encode())
    except ValueError as failure:
        raise Unavailable("Vault sent what is no certificate", "tell the platform team") from failure


def turn(server: Server, cluster: Cluster, mount: str, to: Stage) -> None:
    """Take that stage, the one after the present. Run again after it was cut short it does what is left."""
    default = str((server.read(f"{mount}/config/issuers") or {}).get("default") or "")
    if not default:
        raise Conflict(f"the mount `{mount}/` has no authority that could be rotated", "run `access vault apply` first")
    named = {name: id for id, name in server.issuers(mount).items() if name}
    match to:
        case Stage.MADE:
            _make(server, cluster, mount)
        case Stage.TRUSTED:
            _call(server, mount, _one(named, NEXT), TRUSTED)
        case Stage.SIGNING:
            new = _one(named, TRUSTED)
            _call(server, mount, default, OLD)
            server.write(f"{mount}/config/issuers", {"default": new})
            _call(server, mount, new, CURRENT)
        case Stage.AT_REST:
            _call(server, mount, default, CURRENT)
            old = _one(named, OLD)
            # Vault keeps a key as long as an issuer has it. By its name it is known again should this be cut short.
            key = str((server.read(f"{mount}/issuer/{old}") or {}).get("key_id") or "")
            server.write(f"{mount}/key/{key}", {"key_name": OLD})
            server.delete(f"{mount}/issuer/{old}")
            _forget_old_key(server, mount)


def _make(server: Server, cluster: Cluster, mount: str) -> None:
    """A root lives longer than any leaf: the mount's own limit is lifted for the moment in which it is made."""
    _forget_old_key(server, mount)
    limit = (server.read(f"sys/mounts/{mount}/tune") or {}).get("max_lease_ttl")
    server.write(f"sys/mounts/{mount}/tune", {"max_lease_ttl": ROOT_TTL})
    try:
        server.write(f"{mount}/root/rotate/internal", {**root_body(cluster), "issuer_name": NEXT})
    finally:
        if limit:
            server.write(f"sys/mounts/{mount}/tune", {"max_lease_ttl": f"{limit}s"})


def _forget_old_key(server: Server, mount: str) -> None:
    for id in server.list(f"{mount}/keys"):
        if str((server.read(f"{mount}/key/{id}") or {}).get("key_name", "")) == OLD:
            server.delete(f"{mount}/key/{id}")


def _call(server: Server, mount: str, id: str, name: str) -> None:
    if str((server.read(f"{mount}/issuer/{id}") or {}).get("issuer_name", "")) != name:
        server.patch(f"{mount}/issuer/{id}", {"issuer_name": name})


def _one(named: Mapping[str, str], name: str) -> str:
    if name not in named:
        raise Conflict(f"no issuer of the mount is called {name}", "look again: `pilothouse access ca plan`")
    return named[name]
