"""Fluentd's configuration format (v1) as values, and those values as text.

An `Element` is `<name argument>` with parameters and elements inside, in order. A `Param` holds the
value as Fluentd reads it, so that writing and parsing again give the same values. The rules of
quoting are those of Fluentd's own parser:
https://docs.fluentd.org/configuration/config-file#supported-data-types-for-values
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pilothouse.problems import NOWHERE, Place

INCLUDE = "@include"


@dataclass(frozen=True, slots=True)
class Param:
    """One `key value`. `ruby` marks a double-quoted value in which `#{…}` is evaluated when Fluentd starts."""

    key: str
    value: str
    ruby: bool = False
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Element:
    """`<name argument> … </name>`; the file itself is an element named ROOT.

    `@include path` is an element named `@include`, because its place among the others counts.
    """

    name: str
    argument: str = ""
    params: tuple[Param, ...] = ()
    children: tuple[Element, ...] = ()
    comment: str = ""
    """Written above the element; not part of what Fluentd reads."""
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    def get(self, key: str, default: str = "") -> str:
        """The value of a parameter: of two with one key, Fluentd takes the last."""
        param = self.param(key)
        return default if param is None else param.value

    def param(self, key: str) -> Param | None:
        return next((param for param in reversed(self.params) if param.key == key), None)

    def all(self, name: str) -> tuple[Element, ...]:
        """The elements directly inside that have this name."""
        return tuple(child for child in self.children if child.name == name)

    def walk(self) -> Iterator[Element]:
        """This element and every one inside it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Ruby:
    """A value that Fluentd evaluates when it starts, such as `#{ENV['ES_PASSWORD']}`."""

    text: str


Value = str | int | float | bool | Ruby | Sequence[str] | Mapping[str, str]


def element(
    name: str, argument: str = "", params: Mapping[str, Value] | None = None, *children: Element, comment: str = ""
) -> Element:
    """An element from plain values: booleans, whole numbers, texts, lists and mappings (as JSON), `Ruby`."""
    return Element(name, argument, tuple(param(key, value) for key, value in (params or {}).items()), children, comment)


def param(key: str, value: Value) -> Param:
    match value:
        case bool():
            return Param(key, "true" if value else "false")
        case Ruby():
            return Param(key, value.text, ruby=True)
        case str():
            return Param(key, value)
        case int() | float():
            return Param(key, f"{value:g}" if isinstance(value, float) else str(value))
        case _:
            return Param(key, json.dumps(value if isinstance(value, Mapping) else list(value), ensure_ascii=False))


def size(number: int) -> str:
    """Bytes as a Fluentd size: the largest unit that says it exactly (`k`, `m`, `g` are powers of 1024)."""
    for unit, factor in (("g", 1024**3), ("m", 1024**2), ("k", 1024)):
        if number and number % factor == 0:
            return f"{number // factor}{unit}"
    return str(number)


def seconds(number: float) -> str:
    """Seconds as a Fluentd time. A fraction has no unit: `0.5s` would be read as five seconds."""
    return f"{int(number)}s" if number == int(number) else f"{number:g}"


# A text that needs no quotes: it holds no space, quote, `#` or backslash and does not start JSON.
_BARE = re.compile(r"""[A-Za-z0-9_./@:$*+^|?&=~%<>,-][A-Za-z0-9_./@:$*+^|?&=~%<>,(){}\[\];!-]*\Z""")
_KEY = re.compile(r"[@A-Za-z0-9_$][^\s#\"'<>]*\Z")
_NAME = re.compile(r"[A-Za-z0-9_]+\Z")


def quoted(value: str) -> str:
    """A value as text: bare where that is safe, else in single quotes, in which only `\\'` and `\\\\` are escapes."""
    if _BARE.match(value):
        return value
    if value[:1] in "[{" and _is_json(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _is_json(value: str) -> bool:
    try:
        # Only what our own writer makes: one line, and the same when it is written again.
        return json.dumps(json.loads(value), ensure_ascii=False) == value
    except ValueError:
        return False


def _double(value: str) -> str:
    """Inside double quotes; the parts in `#{…}` are Ruby and stay as they are."""
    parts = re.split(r"(#\{[^}]*\})", value)
    return (
        '"'
        + "".join(part if part.startswith("#{") else part.replace("\\", "\\\\").replace('"', '\\"') for part in parts)
        + '"'
    )


def text(root: Element) -> str:
    """The file of a ROOT element. Raises `ValueError` for a name or key that Fluentd could not read."""
    lines: list[str] = []
    _write(root.params, root.children, 0, lines)
    return "\n".join(lines) + "\n"


def _write(params: Sequence[Param], children: Sequence[Element], depth: int, lines: list[str]) -> None:
    pad = "  " * depth
    for item in params:
        if not _KEY.match(item.key):
            raise ValueError(f"{item.key!r} cannot be a parameter's name")
        value = _double(item.value) if item.ruby else quoted(item.value)
        lines.append(f"{pad}{item.key} {value}")
    for child in children:
        if child.name == INCLUDE:
            lines.append(f"{pad}{INCLUDE} {child.argument}")
            continue
        if not _NAME.match(child.name) or "\n" in child.argument:
            raise ValueError(f"<{child.name} {child.argument}> cannot be written")
        if depth == 0 and lines:
            lines.append("")
        lines.extend(f"{pad}# {line}".rstrip() for line in child.comment.splitlines())
        lines.append(f"{pad}<{child.name}{' ' + child.argument if child.argument else ''}>")
        _write(child.params, child.children, depth + 1, lines)
        lines.append(f"{pad}</{child.name}>")
