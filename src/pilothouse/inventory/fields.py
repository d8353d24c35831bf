"""Fields of a manifest, read with a complaint that names the field.

Objects come from the API server (always well formed) or from people (not always); both pass here,
so the helpers are plain functions over dictionaries and cost little for ten thousand pods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Path = tuple[str | int, ...]
Object = Mapping[str, Any]


class Key(str):
    """As the last step of a path: the key itself rather than its value."""

    __slots__ = ()


_NONE: Mapping[str, Any] = {}


class Malformed(Exception):
    """A field is not what the API says. `path` leads from the object to the field."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.message = message


def dotted(path: Path) -> str:
    """`("spec", "ports", 0)` → `spec.ports[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "a mapping"


def mapping(data: Object, key: str, at: Path = ()) -> Mapping[str, Any]:
    """The mapping at `key`, empty where it is absent or null."""
    value = data.get(key)
    if value is None:
        return _NONE
    if not isinstance(value, dict):
        raise Malformed((*at, key), f"must be a mapping, not {_word(value)}")
    return value


def items(data: Object, key: str, at: Path = ()) -> Sequence[Mapping[str, Any]]:
    """The list of mappings at `key`, empty where it is absent or null."""
    value = data.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Malformed((*at, key), f"must be a list, not {_word(value)}")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise Malformed((*at, key, index), "must be a mapping" + (f", not {_word(item)}" if item else ""))
    return value


def strings(data: Object, key: str, at: Path = ()) -> tuple[str, ...]:
    """The list of strings at `key`."""
    value = data.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Malformed((*at, key), f"must be a list, not {_word(value)}")
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise Malformed((*at, key, index), "must be a string: quote it")
    return tuple(value)


def string(data: Object, key: str, at: Path = (), default: str = "") -> str:
    value = data.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise Malformed((*at, key), "must be a string: quote it" if _is_scalar(value) else "must be a string")
    return value


def integer(data: Object, key: str, at: Path = (), default: int | None = None) -> int:
    """The whole number at `key`; `default` None means that it must be there."""
    value = data.get(key)
    if value is None:
        if default is None:
            raise Malformed((*at, key), "is missing")
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise Malformed((*at, key), f"must be a whole number, not {_word(value)}")
    return value


def port_number(data: Object, key: str, at: Path = ()) -> int:
    number = integer(data, key, at)
    if not 0 < number < 65536:
        raise Malformed((*at, key), f"{number} is no port: 1 to 65535")
    return number


def labels(data: Object, key: str = "labels", at: Path = ()) -> Mapping[str, str]:
    """The mapping of strings at `key`."""
    found = mapping(data, key, at)
    for name, value in found.items():
        if not isinstance(value, str):
            raise Malformed((*at, key, name), "must be a string: quote it" if _is_scalar(value) else "must be a string")
    return found


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (int, float))
