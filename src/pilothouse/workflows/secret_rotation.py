"""The secrets of workloads as they lie in Vault: their state, without values, and a change of them on demand.

To rotate is to write new values as a new version, or to ask every agent to fetch again what is there. Values that are
not changed are never read: the write is a merge patch, and the state comes from metadata and from the names of keys
(https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-subkeys).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pilothouse.access.secret_readers import Reader, Readers
from pilothouse.clients.vault_workload import ROTATED
from pilothouse.mounted.layout import is_file_name
from pilothouse.platform.model import Cluster
from pilothouse.problems import Invalid, Problem, nearest, one_of, warning


class Server(Protocol):
    """`clients.vault.VaultClient` with a token that may see, and where something is changed write, the secrets."""

    def read(self, path: str) -> dict[str, Any] | None: ...
    def write(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]: ...
    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class State:
    """`version` 0: nothing is there. `keys` None where the token may not see their names. Times as Vault writes them,
    "" where there is none."""

    path: str
    version: int
    written_at: str
    asked_at: str
    keys: tuple[str, ...] | None
    deleted: bool = False

    @property
    def is_there(self) -> bool:
        return self.version > 0 and not self.deleted


def state(server: Server, key_value: str, path: str) -> State:
    """As it is now. `Denied` where the token may not see it."""
    found = server.read(f"{key_value}/metadata/{path}") or {}
    number = int(found.get("current_version") or 0)
    newest = (found.get("versions") or {}).get(str(number)) or {}
    deleted = bool(newest.get("destroyed")) or bool(newest.get("deletion_time"))
    keys: tuple[str, ...] | None = None
    if number and not deleted:
        subkeys = (server.read(f"{key_value}/subkeys/{path}") or {}).get("subkeys")
        keys = tuple(sorted(subkeys)) if isinstance(subkeys, Mapping) else None
    return State(
        path,
        number,
        str(newest.get("created_time", "")),
        str((found.get("custom_metadata") or {}).get(ROTATED, "")),
        keys,
        deleted,
    )


def wrong(found: State, readers: Collection[Reader], cluster: str) -> Iterator[Problem]:
    """What would keep the pods of a reader from starting."""
    for reader in readers:
        at, team = reader.declared_at, (reader.team,)
        if not found.is_there:
            what = "was deleted" if found.deleted else "does not exist"
            yield warning(
                "access/secret-missing",
                f"`{found.path}`, which service {reader.service} declares, {what} in Vault",
                at,
                "write it; until then no new pod of the service starts",
                teams=team,
                cluster=cluster,
            )
            continue
        missing = sorted(set(reader.keys) - set(found.keys)) if found.keys is not None else []
        odd = [key for key in found.keys or () if not is_file_name(key)] if not reader.keys else []
        if missing or odd:
            yield warning(
                "access/secret-key-missing",
                f"`{found.path}` has no key `{missing[0]}`, which service {reader.service} declares"
                if missing
                else f"`{found.path}` has a key that cannot be a file of service {reader.service}: {odd[0]!r}",
                at,
                "add the key to the secret, or change `keys` of the Service; until then no new pod of it starts",
                teams=team,
                cluster=cluster,
            )


@dataclass(frozen=True, slots=True)
class Rotation:
    """What is about to happen, or has: `version` is the one afterwards, `changed` the keys that get a new value."""

    path: str
    cluster: str
    before: int
    version: int
    changed: tuple[str, ...]
    readers: tuple[Reader, ...]
    interval: int
    done: bool
    problems: tuple[Problem, ...]


def plan(
    server: Server, cluster: Cluster, readers: Readers, path: str, keys: Collection[str], seconds: int
) -> Rotation:
    """Who is affected when these keys of the path get new values; no keys: when all agents fetch it again.

    `Invalid` for a path that nobody declares on that cluster (a typing mistake would otherwise make a new secret), and
    where there is nothing to fetch again. `seconds` is the agents' interval.
    """
    if not any(True for _ in readers.declaring(path)):
        known = readers.paths()
        raise Invalid(
            f"no service of cluster {cluster.name} declares the secret {path!r}", nearest(path, known) or one_of(known)
        )
    odd = [key for key in keys if not is_file_name(key)]
    if odd:
        raise Invalid(f"the key {odd[0]!r} cannot be the name of a file", "letters, digits, `-`, `_` and `.`")
    before = state(server, readers.key_value, path)
    if not keys and not before.is_there:
        raise Invalid(
            f"there is nothing at {path} that could be fetched again", "give it a value, with --generate or --stdin"
        )
    after = State(
        path,
        max(before.version, 1),
        "",
        "",
        tuple(sorted({*(before.keys or ()), *keys})) if before.keys is not None or not before.is_there else None,
    )
    affected = readers.of(path)
    return Rotation(
        path,
        cluster.name,
        before.version,
        before.version + bool(keys),
        tuple(sorted(keys)),
        affected,
        seconds,
        False,
        tuple(wrong(after, affected, cluster.name)),
    )


def rotate(server: Server, planned: Rotation, key_value: str, values: Mapping[str, str], now: datetime) -> Rotation:
    """Carry it out. `Conflict` where somebody else wrote since the plan; then nothing was changed."""
    if set(values) != set(planned.changed):
        raise Invalid("the keys are not those that were planned")
    path, version = planned.path, planned.before
    if not values:
        server.patch(
            f"{key_value}/metadata/{path}", {"custom_metadata": {ROTATED: now.isoformat(timespec="microseconds")}}
        )
    else:
        body = {"options": {"cas": planned.before}, "data": dict(values)}
        there = state(server, key_value, path).is_there
        answer = (server.patch if there else server.write)(f"{key_value}/data/{path}", body)
        version = int(answer.get("version") or planned.version)
    return Rotation(
        path,
        planned.cluster,
        planned.before,
        version,
        planned.changed,
        planned.readers,
        planned.interval,
        True,
        planned.problems,
    )
