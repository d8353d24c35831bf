"""What lies on an engineer's machine: the session, keys with their certificates, kubeconfigs.

    $XDG_CONFIG_HOME/pilothouse/            0700  (~/.config/pilothouse)
        session.json                        0600  address of the portal and the session's token
        credentials/<cluster>.<profile>.json 0600 key, certificate, authority (<cluster>.<profile>.<team>.json for one
        team) vault/<cluster>.json                0600  the login at the Vault that signs for that cluster
        kubeconfig/<cluster>.yaml           0600  one context per standing profile
        kubeconfig/<cluster>.<profile>.yaml 0600  an elevated profile, apart

Keys are made here and never leave it. Files are replaced in one step, under a lock, so that two commands at
once do no harm.
"""

from __future__ import annotations

import fcntl
import json
import os
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from pilothouse.artifacts.write import to_yaml
from pilothouse.problems import Invalid, Unavailable
from pilothouse.source import plain

EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


def _role(profile: str, team: str) -> str:
    """The profile, with the team where it is that of one."""
    return f"{profile}.{team}" if team else profile


@dataclass(frozen=True, slots=True)
class Context:
    """What stands in a kubeconfig: as whom to go where. `server` is the address of the cluster's API server."""

    cluster: str
    profile: str
    team: str
    server: str

    @property
    def name(self) -> str:
        return f"{_role(self.profile, self.team)}@{self.cluster}"


@dataclass(frozen=True, slots=True)
class Credential:
    """A key with its certificate, all in PEM. `grant_id` is set for an elevated one, `team` where it was got for
    one."""

    cluster: str
    profile: str
    user: str
    key: str = field(repr=False)
    certificate: str
    authority: str
    serial: str
    not_after: datetime
    server: str = ""
    grant_id: str = ""
    team: str = ""
    renew_at: datetime | None = None
    """From when on a new one is got although this one is still good; None where it simply ends."""

    @property
    def role(self) -> str:
        return _role(self.profile, self.team)

    @property
    def context(self) -> Context:
        return Context(self.cluster, self.profile, self.team, self.server)

    def is_alive(self, now: datetime) -> bool:
        return now < self.not_after

    def is_due(self, now: datetime) -> bool:
        """Whether it is time to get the next one."""
        return self.renew_at is not None and now >= self.renew_at


@dataclass(frozen=True, slots=True)
class Login:
    """The session that is kept. `ca_file` is the authority file it was made with."""

    server: str
    token: str
    user: str
    expires_at: datetime
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class VaultLogin:
    """A login at the Vault that signs for a cluster. `seconds` is the token's life as it was given, 0 for one without
    an end."""

    cluster: str
    url: str
    mount: str
    token: str = field(repr=False)
    user: str
    seconds: int
    expires_at: datetime
    renewable: bool = False
    ca_file: str = ""

    def is_alive(self, now: datetime) -> bool:
        return now < self.expires_at


def default_root(environment: Mapping[str, str]) -> Path:
    """The folder by the XDG base directory specification: https://specifications.freedesktop.org/basedir-spec/"""
    base = environment.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "pilothouse"


class Wallet:
    """The files of one person. `Unavailable` where they cannot be read or written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # ------------------------------------------------------------ the session

    def login(self) -> Login | None:
        data = self._read(self.root / "session.json")
        if data is None:
            return None
        try:
            return Login(
                data["server"],
                data["token"],
                data["user"],
                datetime.fromisoformat(data["expires_at"]),
                data.get("ca_file", ""),
            )
        except (KeyError, TypeError, ValueError) as failure:
            raise Invalid(f"{self.root / 'session.json'} is damaged", "run `pilothouse access login`") from failure

    def keep_login(self, login: Login) -> Path:
        path = self.root / "session.json"
        self._write(path, json.dumps(asdict(login) | {"expires_at": login.expires_at.isoformat()}))
        return path

    def forget_login(self) -> None:
        (self.root / "session.json").unlink(missing_ok=True)

    # ------------------------------------------------------------ logins at Vault

    def vault(self, cluster: str) -> VaultLogin | None:
        """The login at the Vault of a cluster, ended ones too."""
        path = self._vault_path(cluster)
        data = self._read(path)
        if data is None:
            return None
        try:
            return VaultLogin(**data | {"expires_at": datetime.fromisoformat(data["expires_at"])})
        except (KeyError, TypeError, ValueError) as failure:
            raise Invalid(f"{path} is damaged", "remove it, and run `pilothouse access login`") from failure

    def vaults(self) -> tuple[VaultLogin, ...]:
        """All that are kept, by cluster."""
        found = (self.vault(path.stem) for path in sorted((self.root / "vault").glob("*.json")))
        return tuple(login for login in found if login)

    def keep_vault(self, login: VaultLogin) -> Path:
        path = self._vault_path(login.cluster)
        self._write(path, json.dumps(asdict(login) | {"expires_at": login.expires_at.isoformat()}))
        return path

    def forget_vault(self, cluster: str) -> None:
        self._vault_path(cluster).unlink(missing_ok=True)

    def _vault_path(self, cluster: str) -> Path:
        return self.root / "vault" / f"{_plain(cluster)}.json"

    # ------------------------------------------------------------ credentials

    def credential(self, cluster: str, profile: str, team: str = "") -> Credential | None:
        return self._credential(self._credential_path(cluster, profile, team))

    def credentials(self) -> tuple[Credential, ...]:
        """All that are kept, ended ones too, by cluster and profile."""
        folder = self.root / "credentials"
        found = (self._credential(path) for path in sorted(folder.glob("*.json")))
        return tuple(credential for credential in found if credential)

    def keep(self, credential: Credential) -> Path:
        path = self._credential_path(credential.cluster, credential.profile, credential.team)
        due = credential.renew_at.isoformat() if credential.renew_at else None
        moments = {"not_after": credential.not_after.isoformat(), "renew_at": due}
        self._write(path, json.dumps(asdict(credential) | moments))
        return path

    def forget(self, id: str) -> tuple[Credential, ...]:
        """Delete key and certificate of a request or serial; those that were here."""
        gone = tuple(item for item in self.credentials() if id in (item.grant_id, item.serial))
        for item in gone:
            self._credential_path(item.cluster, item.profile, item.team).unlink(missing_ok=True)
        return gone

    def _credential_path(self, cluster: str, profile: str, team: str = "") -> Path:
        names = (cluster, profile, team) if team else (cluster, profile)
        return self.root / "credentials" / f"{'.'.join(map(_plain, names))}.json"

    def _credential(self, path: Path) -> Credential | None:
        data = self._read(path)
        if data is None:
            return None
        try:
            due = datetime.fromisoformat(data["renew_at"]) if data.get("renew_at") else None
            return Credential(**data | {"not_after": datetime.fromisoformat(data["not_after"]), "renew_at": due})
        except (KeyError, TypeError, ValueError) as failure:
            raise Invalid(f"{path} is damaged", "remove it, and get a new certificate") from failure

    # ------------------------------------------------------------ kubeconfig

    def kubeconfig_path(self, cluster: str, profile: str, elevated: bool) -> Path:
        """A standing profile shares its cluster's file; an elevated one has its own, never to be used by habit."""
        name = f"{cluster}.{profile}.yaml" if elevated else f"{cluster}.yaml"
        return self.root / "kubeconfig" / name

    def write_kubeconfig(
        self,
        path: Path,
        context: Context,
        command: tuple[str, ...],
        api_version: str,
        authority_file: str = "",
        authority: str = "",
        make_current: bool = True,
    ) -> str:
        """Put the context into that file (made if need be), and make it the current one unless `make_current` is false
        and there is one; its name.

        `command` runs `pilothouse access credential`; `authority_file`, else `authority` (PEM), is what the API
        server's certificate is checked against, the system's authorities where both are "".
        """
        name = context.name
        with self.locked():
            config = _kubeconfig(path)
            cluster: dict[str, Any] = {"server": context.server}
            if authority_file:
                cluster["certificate-authority"] = authority_file
            elif authority:
                cluster["certificate-authority-data"] = b64encode(authority.encode()).decode("ascii")
            _put(config["clusters"], {"name": context.cluster, "cluster": cluster})
            arguments = [*command[1:], "--cluster", context.cluster, "--profile", context.profile]
            arguments += ["--team", context.team] if context.team else []
            user = {
                "exec": {
                    "apiVersion": api_version,
                    "command": command[0],
                    "args": arguments,
                    "interactiveMode": "Never",
                    "provideClusterInfo": False,
                    "installHint": "install pilothouse, then run `pilothouse access login`",
                }
            }
            _put(config["users"], {"name": name, "user": user})
            _put(config["contexts"], {"name": name, "context": {"cluster": context.cluster, "user": name}})
            if make_current or not config.get("current-context"):
                config["current-context"] = name
            self._write(path, to_yaml(config))
        return name

    # ------------------------------------------------------------ plumbing

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time; others wait."""
        self._folder(self.root)
        try:
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as failure:
            raise self._unusable(failure) from failure
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except OSError as failure:
            raise self._unusable(failure) from failure
        except ValueError as failure:
            raise Invalid(f"{path} is damaged", "remove it, and run `pilothouse access login`") from failure
        if not isinstance(data, dict):
            raise Invalid(f"{path} is damaged", "remove it, and run `pilothouse access login`")
        return data

    def _write(self, path: Path, text: str) -> None:
        if path.is_relative_to(self.root):
            self._folder(self.root)
            self._folder(path.parent)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(text if text.endswith("\n") else text + "\n")
            temporary.replace(path)
        except OSError as failure:
            temporary.unlink(missing_ok=True)
            raise self._unusable(failure) from failure

    def _folder(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as failure:
            raise self._unusable(failure) from failure

    def _unusable(self, failure: OSError) -> Unavailable:
        return Unavailable(
            f"{failure.filename or self.root} cannot be used: {failure.strerror}",
            "check its owner and mode, or set XDG_CONFIG_HOME",
        )


def _plain(name: str) -> str:
    if not name or "/" in name or name.startswith("."):
        raise Invalid(f"{name!r} is no name of a cluster, profile or team")
    return name


def _kubeconfig(path: Path) -> dict[str, Any]:
    """The file's configuration, or an empty one."""
    empty: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
    try:
        found = plain(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return empty
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as failure:
        raise Invalid(f"{path} cannot be read as a kubeconfig", "choose another file with --kubeconfig") from failure
    if not isinstance(found, dict) or any(not isinstance(found.get(k) or [], list) for k in ("clusters", "users")):
        raise Invalid(f"{path} is no kubeconfig", "choose another file with --kubeconfig")
    return empty | {key: value for key, value in found.items() if value is not None}


def _put(items: list[Any], item: dict[str, Any]) -> None:
    """Replace the item of that name, or append it."""
    items[:] = [other for other in items if not (isinstance(other, dict) and other.get("name") == item["name"])]
    items.append(item)
