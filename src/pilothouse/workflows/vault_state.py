"""What Vault holds, held against what is wanted: the changes in the order in which they are made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pilothouse.access import content as vault_content
from pilothouse.access import vault, vault_elevation
from pilothouse.access.content import VaultContent
from pilothouse.access.names import GroupName
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Cluster
from pilothouse.problems import Conflict, Problem, warning

Body = Mapping[str, Any]

ROOT_TTL = "87600h"
ROOT_BACKDATE = "1h"
"""A leaf begins 5 minutes before now; Vault refuses one that begins before its issuer does."""


class Server(Protocol):
    """`clients.vault.VaultClient` with a token that may set Vault up."""

    def read(self, path: str) -> dict[str, Any] | None: ...
    def list(self, path: str) -> tuple[str, ...]: ...
    def write(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]: ...
    def delete(self, path: str) -> None: ...
    def authority(self, mount: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Change:
    """One step: `action` is create, update or remove; `differs` says what is another way now."""

    action: str
    path: str
    differs: tuple[str, ...] = ()
    body: Body = field(default_factory=dict, repr=False)


def root_body(cluster: Cluster) -> dict[str, Any]:
    """What Vault is told to make the cluster's authority, or the one after it."""
    return {
        "common_name": cluster.authority.common_name,
        "ttl": ROOT_TTL,
        "not_before_duration": ROOT_BACKDATE,
        "key_type": "ec",
        "key_bits": 256,
        "max_path_length": 0,
        "exclude_cn_from_sans": True,
    }


def directory_group(server: Server, name: str, accessor: str) -> str:
    """The id of the identity group that stands for a directory's group, or "". An alias belongs to one group, whoever
    made it."""
    found = server.write("identity/lookup/group", {"alias_name": name, "alias_mount_accessor": accessor})
    return str(found.get("id") or "")


class Comparison:
    """Holds what is wanted against what Vault holds, in the order in which changes are made.

    What takes a right away comes before what gives one: mappings of directory groups that are no longer declared, then
    mounts, roles and policies, and last the mappings that make them count.
    """

    def __init__(
        self, server: Server, inputs: Inputs, content: VaultContent, accessor: str, kubernetes_ca: str
    ) -> None:
        self.server = server
        self.inputs = inputs
        self.cluster = inputs.cluster
        self.accessor = accessor
        self.kubernetes_ca = kubernetes_ca.strip()
        self.pki = vault.mount(self.cluster, content)
        self.workloads = content.workload_mount.format(cluster=self.cluster.name)
        self.approle = vault_elevation.mount(self.cluster.name)
        self.login = self.cluster.authority.login
        self.prefix = vault.prefix(self.cluster.name)
        self.members = vault.team_groups(inputs.platform, self.cluster, content)
        self.problems: list[Problem] = []
        self.wanted: dict[str, dict[str, Any]] = {}
        for document in vault.documents(inputs.platform, self.cluster, content):
            self.wanted[document.path.removeprefix("vault/").removesuffix(".json")] = dict(document.data)
        self.signs = self.cluster.authority.backend == "vault"
        if not self.signs:
            mine = (
                vault.AUDIT,
                f"sys/auth/{self.workloads}",
                f"sys/mounts/{content.key_value_mount.format(cluster=self.cluster.name)}",
                f"auth/{self.workloads}/",
                f"sys/policies/acl/{self.prefix}{vault.WORKLOADS}",
            )
            self.wanted = {path: body for path, body in self.wanted.items() if path.startswith(mine)}
        self.mounts = server.read("sys/mounts") or {}
        self.auths = server.read("sys/auth") or {}

    def changes(self) -> Iterator[Change]:
        taken, given = self._mappings() if self.signs else ([], [])
        yield from taken
        yield from self._gone()
        if self.signs:
            yield from self._mount(self.pki)
        for path in sorted(path for path in self.wanted if path.startswith("sys/mounts/")):
            if path != f"sys/mounts/{self.pki}":
                yield from self._mount(path.removeprefix("sys/mounts/"))
        yield from self._kubernetes()
        yield from self._approle()
        for start, compare in (
            ("sys/policies/acl/", self._policy),
            (f"{self.pki}/roles/", self._role),
            (f"auth/{self.workloads}/role/", self._role),
            (f"auth/{self.approle}/role/", self._role),
            ("identity/group/name/", self._group),
        ):
            for path in sorted(path for path in self.wanted if path.startswith(start)):
                yield from compare(path, self.wanted[path])
        yield from given

    # ------------------------------------------------------------ mounts and the authority

    def _mount(self, mount: str) -> Iterator[Change]:
        path = f"sys/mounts/{mount}"
        body = self.wanted[path]
        config = dict(body.get("config") or {})
        found = self.mounts.get(f"{mount}/")
        if found is None:
            # The root lives longer than any leaf; the mount's own limit is set once the root is there.
            first = {"config": {"max_lease_ttl": ROOT_TTL}} if body["type"] == "pki" else {}
            yield Change("create", path, body={k: v for k, v in body.items() if k != "config"} | first)
        elif found.get("type") != body["type"]:
            raise Conflict(
                f"the mount `{mount}/` is of type {found.get('type')}, and {body['type']} is wanted",
                "declare another mount, or move that one: pilothouse changes nothing that it did not make",
            )
        rootless = body["type"] == "pki" and (found is None or not self.server.authority(mount))
        if rootless:
            yield from self._root(mount, found)
        if found is None and body["type"] != "pki":
            return
        tune = {"description": body.get("description", "")} | config
        now = (self.server.read(f"{path}/tune") or {}) if found is not None else {}
        differs = differences(tune, now)
        if differs or rootless:  # to make the root may have raised the limit
            yield Change("update", f"{path}/tune", differs if found is not None else (), tune)

    def _root(self, mount: str, found: Any) -> Iterator[Change]:
        if found is not None:
            now = self.server.read(f"sys/mounts/{mount}/tune") or {}
            if _seconds(now.get("max_lease_ttl", 0)) < _seconds(ROOT_TTL):
                yield Change("update", f"sys/mounts/{mount}/tune", (), {"max_lease_ttl": ROOT_TTL})
        yield Change(
            "create",
            f"{mount}/root/generate/internal",
            body={**root_body(self.cluster), "issuer_name": "pilothouse"},
        )

    # ------------------------------------------------------------ roles and policies

    def _policy(self, path: str, body: Body) -> Iterator[Change]:
        found = self.server.read(path)
        text = json.dumps(body, indent=2, sort_keys=True)
        if found is None:
            yield Change("create", path, body={"policy": text})
            return
        try:
            same = json.loads(str(found.get("policy", ""))) == body
        except ValueError:
            same = False
        if not same:
            yield Change("update", path, ("its rules are others",), {"policy": text})

    def _role(self, path: str, body: Body) -> Iterator[Change]:
        found = self.server.read(path) if self._is_mounted(path) else None
        if found is None:
            yield Change("create", path, body=body)
            return
        differs = differences(body, found)
        if path.startswith(f"{self.pki}/"):
            differs += _undeclared(body, found)
        if differs:
            yield Change("update", path, differs, body)

    def _is_mounted(self, path: str) -> bool:
        mount, _, _ = path.rpartition("/roles/" if "/roles/" in path else "/role/")
        return f"{mount}/" in self.mounts or f"{mount.removeprefix('auth/')}/" in self.auths

    def _group(self, path: str, body: Body) -> Iterator[Change]:
        team = str(body["metadata"]["team"])
        names = self.members.get(team, ())
        full = dict(body) | {"accessor": self.accessor, "directory_groups": list(names)}
        found = self.server.read(path)
        if found is None:
            yield Change("create", path, body=full)
            return
        differs = differences({"type": body["type"], "metadata": body["metadata"]}, found)
        if found.get("member_entity_ids"):
            differs += ("it has members of its own, who are in no directory group",)
            full["member_entity_ids"] = []
        ids = {directory_group(self.server, name, self.accessor) for name in names}
        if ids != set(found.get("member_group_ids") or ()):
            differs += (f"its members are not those of {', '.join(names) or 'no directory group'}",)
        if differs:
            yield Change("update", path, differs, full)

    # ------------------------------------------------------------ workloads

    def _approle(self) -> Iterator[Change]:
        path = f"sys/auth/{self.approle}"
        if path not in self.wanted:
            return
        found = self.auths.get(f"{self.approle}/")
        if found is None:
            yield Change("create", path, body=self.wanted[path])
        elif found.get("type") != "approle":
            raise Conflict(
                f"the auth mount `{self.approle}/` is of type {found.get('type')}, and approle is wanted",
                "move that one: pilothouse changes nothing that it did not make",
            )

    def _kubernetes(self) -> Iterator[Change]:
        path = f"sys/auth/{self.workloads}"
        if path not in self.wanted:
            return
        body = self.wanted[path]
        found = self.auths.get(f"{self.workloads}/")
        if found is None:
            yield Change("create", path, body=body)
        elif found.get("type") != body["type"]:
            raise Conflict(
                f"the auth mount `{self.workloads}/` is of type {found.get('type')}, and {body['type']} is wanted",
                "declare another mount, or move that one: pilothouse changes nothing that it did not make",
            )
        declared = self.cluster.servers.kubernetes
        if declared is None:
            return
        # Without a CA of its own Vault looks for that of a pod, and refuses where it runs in none.
        wanted: dict[str, Any] = {
            "kubernetes_host": declared.url,
            "kubernetes_ca_cert": self.kubernetes_ca,
            "disable_local_ca_jwt": not self.kubernetes_ca,
        }
        now = (self.server.read(f"auth/{self.workloads}/config") if found is not None else None) or {}
        shown = now | {"kubernetes_ca_cert": str(now.get("kubernetes_ca_cert", "")).strip()}
        differs = differences(wanted, shown)
        if differs and now.get("token_reviewer_jwt_set"):
            differs += ("its token_reviewer_jwt, which nobody can read back, has to be written again afterwards",)
        if differs:
            yield Change("update" if now else "create", f"auth/{self.workloads}/config", differs if now else (), wanted)

    # ------------------------------------------------------------ directory groups

    def _mappings(self) -> tuple[list[Change], list[Change]]:
        """(what is taken away first, what is given last). Policies of others stay in each mapping."""
        start = f"auth/{self.login}/groups/"
        wanted = {path.removeprefix(start): body for path, body in self.wanted.items() if path.startswith(start)}
        # Vault folds the names of groups unless its configuration says otherwise.
        here = {name.lower(): name for name in self.server.list(f"auth/{self.login}/groups")}
        taken, given = [], []
        for name in sorted({*wanted, *(kept for low, kept in here.items() if low not in {w.lower() for w in wanted})}):
            mine = set(wanted.get(name, {}).get("policies", ()))
            found = self.server.read(f"{start}{name}") if name.lower() in here else None
            held = set((found or {}).get("policies") or ())
            ours = {policy for policy in held if policy.startswith(f"{self.prefix}profile.")}
            lost, new = ours - mine, mine - held
            if lost:
                left = sorted(held - lost)
                differs = tuple(f"loses {policy}" for policy in sorted(lost))
                if left or new:
                    taken.append(Change("update", f"{start}{name}", differs, {"policies": left}))
                else:
                    taken.append(Change("remove", f"{start}{name}", differs))
            if new:
                differs = tuple(f"gets {policy}" for policy in sorted(new))
                body = {"policies": sorted((held - lost) | mine)}
                given.append(Change("update" if found else "create", f"{start}{name}", differs, body))
        return taken, given

    # ------------------------------------------------------------ what is no longer declared

    def _gone(self) -> Iterator[Change]:
        for name in self.server.list("identity/group/name") if self.signs else ():
            path = f"identity/group/name/{name}"
            if name.startswith(f"{vault.GROUP_PREFIX}{self.cluster.name}_") and path not in self.wanted:
                yield Change("remove", path)
        if self.signs and f"{self.pki}/" in self.mounts:
            yield from self._gone_pki()
        for mount in (self.workloads, self.approle):
            for name in self.server.list(f"auth/{mount}/role") if f"{mount}/" in self.auths else ():
                path = f"auth/{mount}/role/{name}"
                if path not in self.wanted:
                    policies = (self.server.read(path) or {}).get("token_policies") or ()
                    if policies and all(str(item).startswith(self.prefix) for item in policies):
                        yield Change("remove", path)
        for name in self.server.list("sys/policies/acl"):
            path = f"sys/policies/acl/{name}"
            # What was rendered for people may have been written by hand where another authority signs.
            ours = self.prefix if self.signs else f"{self.prefix}{vault.WORKLOADS}"
            if name.startswith(ours) and path not in self.wanted:
                yield Change("remove", path)

    def _gone_pki(self) -> Iterator[Change]:
        for name in self.server.list(f"{self.pki}/roles"):
            path = f"{self.pki}/roles/{name}"
            if path in self.wanted or vault_elevation.is_one(name):
                continue  # those of requests are the worker's, who also removes them
            groups = [str(item) for item in (self.server.read(path) or {}).get("organization") or ()]
            if len(groups) == 1 and GroupName.parse(groups[0]) is not None:
                yield Change("remove", path)
            else:
                self.problems.append(
                    warning(
                        "access/foreign-vault-role",
                        f"the role `{path}`, which pilothouse did not make, signs with the authority of"
                        f" {self.cluster.name}: {', '.join(groups) or 'no group'}",
                        self.cluster.place,
                        "remove it, or move it to a mount that no API server trusts",
                        cluster=self.cluster.name,
                    )
                )


# ---------------------------------------------------------------- comparing

_DURATION = re.compile(r"[1-9][0-9]*[smh]")
_UNDECLARED = frozenset(("issuer_ref", "serial_number_source", "signature_bits", "not_before_bound", "not_after_bound"))
"""Fields whose own default is not empty and does no harm."""


def differences(wanted: Body, found: Body) -> tuple[str, ...]:
    """What is otherwise in `found`, for the fields of `wanted`. Vault gives durations back in seconds and sorts no
    list."""
    return tuple(
        f"{name} is {_shown(found.get(name))}, not {_shown(value)}"
        for name, value in sorted(wanted.items())
        if _plain(value) != _plain(found.get(name))
    )


def _undeclared(wanted: Body, found: Body) -> tuple[str, ...]:
    """Fields that we leave out and that hold something: a POST of the role sets them back to Vault's defaults."""
    return tuple(
        f"{name} is {_shown(value)}, not the default"
        for name, value in sorted(found.items())
        if name not in wanted and name not in _UNDECLARED and value not in (None, "", False, 0, [], {})
    )


def _plain(value: Any) -> Any:
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return _seconds(value)
    if isinstance(value, list | tuple):
        return sorted(str(item) for item in value)
    if isinstance(value, Mapping):
        return {str(key): str(item) for key, item in value.items()}
    return value if value not in (None, "", 0) or isinstance(value, bool) else ""


def _seconds(value: Any) -> int:
    text = str(value)
    return vault_content.seconds(text) if _DURATION.fullmatch(text) else int(text or 0)


def _shown(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"
