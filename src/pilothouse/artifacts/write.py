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

from pilothouse.artifacts.model import Artifacts, Document, Format

# Plain scalars that no YAML 1.1 or 1.2 reader takes for anything but a string: they start with a letter
# or `/`, hold no indicator, and are no word that stands for a boolean or null.
_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9_./+-]*(?: [A-Za-z0-9_./(][A-Za-z0-9_./+()-]*)*(?::[A-Za-z0-9_./+-]+)*\Z")
_WORDS = frozenset(
    ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity")
)  # the YAML 1.1 types: https://yaml.org/type/bool.html
_SEXAGESIMAL_OR_NUMBER = re.compile(r"[-+0-9_.:eExXoO]+\Z")


def serialise(document: Document) -> bytes:
    """The file's content, in UTF-8 and ending in a newline."""
    return _Writer().document(document)


def serialise_all(artifacts: Artifacts) -> dict[str, bytes]:
    """The content of every file by path. What several documents share is turned into text once."""
    writer = _Writer()
    return {document.path: writer.document(document) for document in artifacts}


def to_yaml(data: Any) -> str:
    """One YAML document in block style, keys in the order given."""
    return _Writer().yaml(data)


def _comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


_CONTAINERS = (dict, list, tuple, Mapping, Sequence)  # those that are common first: they are asked for in this order
_BUILT_IN = frozenset((dict, list, tuple))


class _Writer:
    """Writes documents, and keeps the text of strings and of what it meets twice: leaves of Prometheus share most.

    A value is met again when the same object stands in another place, so the documents must live, and stay as they
    are, until the last is written. Below other containers than dicts, lists and tuples nothing is kept: they may make
    their values anew whenever they are asked, and one object may then take the place of another in memory.
    """

    def __init__(self) -> None:
        self.strings: dict[str, str] = {}
        self.keeping = True
        self.parts: dict[str, dict[int, str | None]] = {}
        """By what leads the first line: the text of a value by identity; None as long as it was met once."""

    def document(self, document: Document) -> bytes:
        match document.format:
            case Format.JSON:
                return (json.dumps(document.data, indent=2, ensure_ascii=False) + "\n").encode()
            case Format.TEXT:
                text: str = document.data
                return (_comment(document.comment) + text).encode()
            case Format.MANIFESTS:
                self.keeping = type(document.data) in _BUILT_IN
                parts = [self.yaml(manifest) for manifest in document.data]
                self.keeping = True
                return (_comment(document.comment) + "---\n".join(parts)).encode()
            case Format.YAML:
                return (_comment(document.comment) + self.yaml(document.data)).encode()

    def yaml(self, data: Any) -> str:
        lines: list[str] = []
        if (isinstance(data, Mapping) or _is_list(data)) and data:
            self.part(data, "", "", lines)
        else:
            lines.append(_flow(data))
        return "\n".join(lines) + "\n"

    def part(self, value: Any, indent: str, lead: str, lines: list[str]) -> None:
        """A mapping or list that is not empty. `lead` starts its first line, `indent` the others."""
        if not self.keeping or type(value) not in _BUILT_IN:
            before, self.keeping = self.keeping, False
            self.block(value, indent, lead, lines)
            self.keeping = before
            return
        known = self.parts.get(lead)
        if known is None:
            known = self.parts[lead] = {}
        identity = id(value)
        if identity not in known:
            known[identity] = None
            self.block(value, indent, lead, lines)
            return
        text = known[identity]
        if text is None:
            own: list[str] = []
            self.block(value, indent, lead, own)
            text = known[identity] = "\n".join(own)
        lines.append(text)

    def block(self, value: Any, indent: str, lead: str, lines: list[str]) -> None:
        if type(value) is dict or isinstance(value, Mapping):
            self.mapping(value, indent, lead, lines)
        else:
            self.sequence(value, indent, lines)

    def mapping(self, data: Mapping[Any, Any], indent: str, lead: str, lines: list[str]) -> None:
        strings, below = self.strings, indent + "  "
        for key, value in data.items():
            name = strings.get(key) or self.key(key)
            if type(value) is str or isinstance(value, str):
                lines.append(f"{lead}{name}: {strings.get(value) or self.string(value, indent)}")
            elif isinstance(value, _CONTAINERS) and value:
                lines.append(f"{lead}{name}:")
                self.part(value, below, below, lines)
            else:
                lines.append(f"{lead}{name}: {_flow(value)}")
            lead = indent

    def sequence(self, data: Sequence[Any], indent: str, lines: list[str]) -> None:
        strings, below, first = self.strings, indent + "  ", indent + "- "
        for item in data:
            if type(item) is str or isinstance(item, str):
                lines.append(f"{first}{strings.get(item) or self.string(item, indent)}")
            elif (type(item) is dict or isinstance(item, Mapping)) and item:
                self.part(item, below, first, lines)
            elif isinstance(item, _CONTAINERS) and item:
                lines.append(f"{indent}-")
                self.part(item, below, below, lines)
            else:
                lines.append(f"{first}{_flow(item)}")

    def key(self, key: Any) -> str:
        if not isinstance(key, str):
            raise TypeError(f"a key must be a string, not {key!r}")
        return scalar(key) if "\n" in key else self.string(key, "")

    def string(self, text: str, indent: str) -> str:
        """A block scalar where the text is made of several clean lines, else `scalar`."""
        if "\n" in text and _blockable(text):
            chomp = "" if text.endswith("\n") else "-"
            body = text.removesuffix("\n").split("\n")
            return f"|{chomp}\n" + "\n".join(f"{indent}  {line}" if line else "" for line in body)
        written = self.strings[text] = scalar(text)
        return written


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


def _blockable(text: str) -> bool:
    body = text.removesuffix("\n")
    return (
        bool(body)
        and not body.startswith((" ", "\n"))
        and not body.endswith(("\n", " "))
        and " \n" not in body
        and "\ufeff" not in body
        and body.replace("\n", "").isprintable()  # no other white space is
    )


def scalar(text: str) -> str:
    """A string on one line: plain where every reader agrees that it is a string, else double-quoted as in JSON."""
    if _PLAIN.match(text) and text.lower() not in _WORDS and not _SEXAGESIMAL_OR_NUMBER.match(text):
        return str(text)  # a member of a StrEnum is not the text itself
    quoted = json.dumps(text, ensure_ascii=False)
    if quoted.isprintable():
        return quoted
    return "".join(char if char.isprintable() else _escape(ord(char)) for char in quoted)


def _escape(code: int) -> str:
    """Beyond 16 bits YAML has `\\U` where JSON has a pair of surrogates."""
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
