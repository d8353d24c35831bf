"""A secret of Vault as files: one per key, and look-alikes of them for a machine that has no Vault."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from pilothouse.problems import Invalid

MARK = "dummy"
"""Stands in every value that is made up, so that none is ever taken for a real one."""

_FILE_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
_PORTS = {"postgres": "5432", "database": "5432", "mysql": "3306", "redis": "6379", "kafka": "9092"}


def is_file_name(text: str) -> bool:
    """Whether a key may be the name of a file. `..data` and its like are the writer's own, as in
    https://kubernetes.io/docs/concepts/configuration/secret/#restriction-names-data"""
    return bool(_FILE_NAME.fullmatch(text)) and text != "." and not text.startswith("..")


def files_of(data: Mapping[str, Any], keys: Collection[str] = ()) -> dict[str, bytes]:
    """File name → content. Text is written as it is, anything else as JSON. `keys` empty means all.

    `Invalid` where a key cannot be a file's name, one that was declared is not there, or nothing is there at all. No
    value stands in a message.
    """
    missing = sorted(set(keys) - set(data))
    if missing:
        raise Invalid(
            f"it has no key {', '.join(missing)}, which the Service declares",
            f"add it to the secret, or take it out of `keys`; it has {', '.join(sorted(map(str, data))) or 'no key'}",
        )
    if not data:
        raise Invalid("it has no keys", "write a value to it")
    chosen = sorted(keys or data)
    odd = [key for key in chosen if not is_file_name(key)]
    if odd:
        raise Invalid(
            f"its key {odd[0]!r} cannot be the name of a file",
            "letters, digits, `-`, `_` and `.`; or declare the `keys` that are wanted",
        )
    return {key: _bytes(data[key]) for key in chosen}


def _bytes(value: Any) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), sort_keys=True)).encode()


def dummy_files(path: str, keys: Collection[str]) -> dict[str, bytes]:
    """Look-alikes for the secret at `path`: one file per key, the same on every machine.

    What a value is like follows from the last word of its key. A declaration without `keys` gives one file, `value`.
    """
    return {key: _dummy(path, key).encode() for key in sorted(keys) or ("value",)}


def _dummy(path: str, key: str) -> str:
    words = [word for word in re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", key).lower()) if word]
    last = words[-1] if words else ""
    slug = "-".join([*re.split(r"[^a-z0-9]+", path.lower()), *words]).strip("-")
    name = next((name for name in _PORTS if name in slug), "")
    if last in ("user", "username", "login"):
        return f"{MARK}-{words[0] if len(words) > 1 else 'user'}"
    if last in ("host", "hostname", "server"):
        return "localhost"
    if last == "port":
        return _PORTS.get(name, "8443")
    if last in ("url", "uri", "endpoint", "address"):
        return f"https://{MARK}.example/{slug}"
    if last == "dsn":
        return f"postgresql://{MARK}:{MARK}@localhost:5432/{MARK}"
    if last in ("email", "mail"):
        return f"{MARK}@{MARK}.example"
    if last == "json":
        return json.dumps({MARK: slug})
    if last in ("pem", "crt", "cert", "certificate") or (last == "key" and {"tls", "private"} & set(words)):
        # No real header: a scanner for private keys must find nothing, and no library may take it for a key.
        return f"-----BEGIN {MARK.upper()}-----\n{slug}\n-----END {MARK.upper()}-----\n"
    return f"{MARK}-{slug}"
