"""Names and addresses at Vault: what may stand in a path, and where a token may be sent.

HTTP libraries collapse `..` in a path before it is sent, so every name is checked before it becomes a part of one.
"""

from __future__ import annotations

import re

from pilothouse.clients.addresses import plain
from pilothouse.problems import Invalid

USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 ._:-]{0,254}")
"""No segment begins with a dot, so that none is `.` or `..`; no `%`, `?` or `#`, which would end the path."""


def address(url: str) -> str:
    """The plain address of a Vault. `Invalid` for what is none, or would carry a token unencrypted."""
    return plain(url, "Vault", "https://vault.bank.example:8200", "tokens")


def name(form: re.Pattern[str], value: str, what: str) -> str:
    """The value, or `Invalid` where it has not that form."""
    if not form.fullmatch(value):
        raise Invalid(f"{value!r} cannot be a {what} at Vault", "letters, digits, dots, dashes and underscores")
    return value


def mount_path(mount: str) -> str:
    """The path of a mount, `Invalid` where it holds anything but plain segments."""
    return checked_path(mount.strip("/"), "mount")


def checked_path(path: str, what: str = "path") -> str:
    """The path, `Invalid` unless each segment of it is a plain name."""
    if len(path) > 1024:
        raise Invalid(f"a {what} of {len(path)} characters is none of Vault's")
    for segment in path.split("/"):
        if not _SEGMENT.fullmatch(segment):
            raise Invalid(f"{path!r} cannot be a {what} at Vault", "plain names with slashes between them")
    return path
