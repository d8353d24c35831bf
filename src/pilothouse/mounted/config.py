"""What the agent in a pod is told: which secrets, where to, how to log in. It holds no secret itself.

It lies in an annotation of the pod, which the kubelet shows the agent as a file; so it is JSON, it is one line, and it
is read strictly, since a field that is overlooked would be a wish that is not heard.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilothouse.mounted.layout import is_file_name
from pilothouse.problems import Invalid

VERSION = 1
MAX_BYTES = 256 * 1024
"""All annotations of an object together: https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/"""


@dataclass(frozen=True, slots=True)
class Mounted:
    """One secret: `path` below the key-value mount, the folder that the agent writes, and where the service sees
    it. `keys` empty means all."""

    path: str
    folder: str
    mount_path: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """`interval` and `budget` are seconds: between two looks, and for all tries of a start together."""

    url: str
    ca_file: str
    auth_mount: str
    role: str
    token_file: str
    key_value_mount: str
    secrets: tuple[Mounted, ...]
    interval: int = 30
    budget: int = 60
    file_mode: int = 0o444

    def to_json(self) -> str:
        """One line, the same for the same values."""
        return json.dumps(
            {
                "version": VERSION,
                "vault": {"url": self.url, "caFile": self.ca_file},
                "login": {"mount": self.auth_mount, "role": self.role, "tokenFile": self.token_file},
                "keyValueMount": self.key_value_mount,
                "secrets": [
                    {
                        "path": item.path,
                        "folder": item.folder,
                        "mountPath": item.mount_path,
                        "keys": list(item.keys),
                    }
                    for item in self.secrets
                ],
                "interval": self.interval,
                "budget": self.budget,
                "fileMode": f"{self.file_mode:04o}",
            },
            separators=(",", ":"),
        )


def parse(text: str) -> AgentConfig:
    """From `to_json`. `Invalid` names the field that is wrong, missing or unknown."""
    if len(text) > MAX_BYTES:
        raise Invalid(f"the agent's configuration is longer than {MAX_BYTES} characters")
    try:
        data = json.loads(text)
    except ValueError as failure:
        raise Invalid(f"the agent's configuration is no JSON: {failure}", _HINT) from failure
    top = _Fields(data, "")
    if top.get("version", int) != VERSION:
        raise Invalid(
            f"the agent's configuration has version {top.data['version']}, and this agent reads {VERSION}",
            "use the agent's image of the pilothouse that rendered it",
        )
    vault, login = top.section("vault"), top.section("login")
    mode = top.get("fileMode", str)
    if not re.fullmatch(r"0[0-7]{3}", mode) or int(mode, 8) & 0o222:
        raise Invalid(f"fileMode {mode!r} is none that only reads", _HINT)
    found = AgentConfig(
        url=vault.get("url", str),
        ca_file=vault.get("caFile", str),
        auth_mount=login.get("mount", str),
        role=login.get("role", str),
        token_file=_absolute(login.get("tokenFile", str), "login.tokenFile"),
        key_value_mount=top.get("keyValueMount", str),
        secrets=tuple(
            _secret(_Fields(item, f"secrets[{index}].")) for index, item in enumerate(top.get("secrets", list))
        ),
        interval=_within(top.get("interval", int), "interval", 1, 86400),
        budget=_within(top.get("budget", int), "budget", 1, 3600),
        file_mode=int(mode, 8),
    )
    for fields in (top, vault, login):
        fields.end()
    if not found.secrets:
        raise Invalid("the agent's configuration names no secret", _HINT)
    folders = [item.folder for item in found.secrets]
    if len(set(folders)) != len(folders):
        raise Invalid("two secrets of the agent's configuration have one folder", _HINT)
    return found


_HINT = "take it from `pilothouse access secrets render`, unchanged"


def _secret(fields: _Fields) -> Mounted:
    keys = fields.get("keys", list)
    if not all(isinstance(key, str) and is_file_name(key) for key in keys):
        raise Invalid(f"{fields.prefix}keys of the agent's configuration are no names of files", _HINT)
    found = Mounted(
        fields.get("path", str),
        _absolute(fields.get("folder", str), f"{fields.prefix}folder"),
        fields.get("mountPath", str),
        tuple(keys),
    )
    fields.end()
    return found


def _absolute(path: str, name: str) -> str:
    if not path.startswith("/") or ".." in path.split("/"):
        raise Invalid(f"{name} of the agent's configuration is no absolute path: {path!r}", _HINT)
    return path


def _within(value: int, name: str, least: int, most: int) -> int:
    if not least <= value <= most:
        raise Invalid(f"{name} of the agent's configuration is {value}, not {least} to {most} seconds", _HINT)
    return value


class _Fields:
    """A mapping that is taken apart; `end` refuses what is left over."""

    def __init__(self, data: Any, prefix: str) -> None:
        if not isinstance(data, Mapping):
            raise Invalid(f"{prefix.rstrip('.') or 'the whole'} of the agent's configuration is no mapping", _HINT)
        self.data = data
        self.prefix = prefix
        self.known: set[str] = set()

    def get(self, name: str, kind: type) -> Any:
        self.known.add(name)
        value = self.data.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            what = "is missing" if name not in self.data else f"is no {kind.__name__}"
            raise Invalid(f"{self.prefix}{name} of the agent's configuration {what}", _HINT)
        return value

    def section(self, name: str) -> _Fields:
        self.known.add(name)
        return _Fields(self.data.get(name), f"{name}.")

    def end(self) -> None:
        extra = sorted(set(self.data) - self.known)
        if extra:
            raise Invalid(f"{self.prefix}{extra[0]} of the agent's configuration is unknown", _HINT)
