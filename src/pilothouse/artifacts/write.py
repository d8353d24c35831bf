"""Documents turned into bytes: deterministic, quoted where YAML would misread, fast.

The YAML writer is our own because a render of thousands of manifests spends most of its
time here, and PyYAML's representer takes about ten times as long (`bench/`). It writes only what
JSON can hold: mappings with string keys, sequences, strings, numbers, booleans and null.
A property test holds it against PyYAML's reader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pilothouse.artifacts.model import Document, Format

# Plain scalars that no YAML 1.1 or 1.2 reader takes for anything but a string: they start with a letter
# or `/`, hold no indicator, and are no word that stands for a boolean or null.
_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9_./+-]*(?: [A-Za-z0-9_./(][A-Za-z0-9_./+()-]*)*(?::[A-Za-z0-9_./+-]+)*\Z")
_WORDS = frozenset(
    ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity")
)  # the YAML 1.1 types: https://yaml.org/type/bool.html
_SEXAGESIMAL_OR_NUMBER = re.compile(r"[-+0-9_.:eExXoO]+\Z")


def serialise(document: Document) -> bytes:
    """The file's content, in UTF-8 and ending in a newline."""
    match document.format:
        case Format.JSON:
            return (json.dumps(document.data, indent=2, ensure_ascii=False) + "\n").encode()
        case Format.TEXT:
            text: str = document.data
            return (_comment(document.comment) + text).encode()
        case Format.MANIFESTS:
            parts = [to_yaml(manifest) for manifest in document.data]
            return (_comment(document.comment) + "---\n".join(parts)).encode()
        case Format.YAML:
            return (_comment(document.comment) + to_yaml(document.data)).encode()


def _comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


def to_yaml(data: Any) -> str:
    """One YAML document in block style, keys in the order given."""
    lines: list[str] = []
    if isinstance(data, Mapping) and data:
        _mapping(data, "", "", lines)
    elif _is_list(data) and data:
        _sequence(data, "", lines)
    else:
        lines.append(_flow(data))
    return "\n".join(lines) + "\n"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _mapping(data: Mapping[Any, Any], indent: str, first: str, lines: list[str]) -> None:
    """`first` stands before the first key instead of the indentation (the `- ` of a sequence's item)."""
    lead = first or indent
    for key, value in data.items():
        name = scalar(key) if isinstance(key, str) else _refuse(key)
        if isinstance(value, str):
            lines.append(f"{lead}{name}: {_string(value, indent)}")
        elif isinstance(value, Mapping) and value:
            lines.append(f"{lead}{name}:")
            _mapping(value, indent + "  ", "", lines)
        elif _is_list(value) and value:
            lines.append(f"{lead}{name}:")
            _sequence(value, indent + "  ", lines)
        else:
            lines.append(f"{lead}{name}: {_flow(value)}")
        lead = indent


def _sequence(data: Sequence[Any], indent: str, lines: list[str]) -> None:
    for item in data:
        if isinstance(item, str):
            lines.append(f"{indent}- {_string(item, indent)}")
        elif isinstance(item, Mapping) and item:
            _mapping(item, indent + "  ", indent + "- ", lines)
        elif _is_list(item) and item:
            lines.append(f"{indent}-")
            _sequence(item, indent + "  ", lines)
        else:
            lines.append(f"{indent}- {_flow(item)}")


def _refuse(key: object) -> str:
    raise TypeError(f"a key must be a string, not {key!r}")


def _flow(value: Any) -> str:
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return scalar(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        text = json.dumps(value, allow_nan=False)
        return text if "." in text else text.replace("e", ".0e")  # YAML 1.1 wants the point
    if isinstance(value, Mapping):
        return "{}"
    if _is_list(value):
        return "[]"
    raise TypeError(f"{type(value).__name__} cannot be written as YAML")


def _string(text: str, indent: str) -> str:
    """A block scalar where the text is made of several clean lines, else `scalar`."""
    if "\n" in text and _blockable(text):
        chomp = "" if text.endswith("\n") else "-"
        body = text.removesuffix("\n").split("\n")
        return f"|{chomp}\n" + "\n".join(f"{indent}  {line}" if line else "" for line in body)
    return scalar(text)


def _blockable(text: str) -> bool:
    body = text.removesuffix("\n")
    return (
        bool(body)
        and not body.startswith((" ", "\n"))
        and not body.endswith("\n")
        and all(line == line.rstrip() for line in body.split("\n"))
        and all(char == "\n" or (char.isprintable() and char != "\ufeff") for char in text)
    )


def scalar(text: str) -> str:
    """A string on one line: plain where every reader agrees that it is a string, else double-quoted as in JSON."""
    if _PLAIN.match(text) and text.lower() not in _WORDS and not _SEXAGESIMAL_OR_NUMBER.match(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    if quoted.isprintable():
        return quoted
    return "".join(char if char.isprintable() else _escape(ord(char)) for char in quoted)


def _escape(code: int) -> str:
    """Beyond 16 bits YAML has `\\U` where JSON has a pair of surrogates."""
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
