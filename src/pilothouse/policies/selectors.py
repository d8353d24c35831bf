"""Calico's selector grammar, read and evaluated.

Grammar: https://docs.tigera.io/calico/latest/reference/resources/networkpolicy#selectors. Precedence is
`!`, then `&&`, then `||`. A comparison with a missing label is false, except that `!=` and `not in` match it.
The empty selector is `all()`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

Labels = Mapping[str, str]
Predicate = Callable[[Labels], bool]

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<op>\|\||&&|==|!=|!|\(|\)|\{|\}|,)
    | (?P<string>"[^"]*"|'[^']*')
    | (?P<word>[A-Za-z0-9_./-]+)
    )""",
    re.VERBOSE,
)
_TEXT_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "contains": lambda value, text: text in value,
    "starts with": lambda value, text: value.startswith(text),
    "ends with": lambda value, text: value.endswith(text),
}


class SelectorError(ValueError):
    """The text is no selector; the message says where it stops being one."""


@lru_cache(maxsize=4096)
def parse(text: str) -> Predicate:
    """A predicate over labels. `global()` is refused: it may only stand alone, which the caller looks for."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        position = 0
        stripped = text.rstrip()
        while position < len(stripped):
            match = _TOKEN.match(stripped, position)
            if not match:
                raise SelectorError(f"selector {text!r}: unexpected text at {stripped[position:][:20]!r}")
            kind = match.lastgroup or ""
            self.tokens.append((kind, match.group(kind)))
            position = match.end()
        self.at = 0

    def parse(self) -> Predicate:
        if not self.tokens:
            return _all
        found = self.either()
        if self.at < len(self.tokens):
            raise self.error()
        return found

    def error(self) -> SelectorError:
        rest = self.tokens[self.at][1] if self.at < len(self.tokens) else "the end"
        return SelectorError(f"selector {self.text!r}: unexpected {rest!r}")

    def take(self, *wanted: str) -> str:
        """The next token when it is an operator or word among `wanted`, else ""."""
        if self.at < len(self.tokens):
            kind, value = self.tokens[self.at]
            if kind != "string" and value in wanted:
                self.at += 1
                return value
        return ""

    def need(self, wanted: str) -> None:
        if not self.take(wanted):
            raise self.error()

    def kind(self, wanted: str) -> str:
        if self.at >= len(self.tokens) or self.tokens[self.at][0] != wanted:
            raise self.error()
        self.at += 1
        value = self.tokens[self.at - 1][1]
        return value[1:-1] if wanted == "string" else value

    def either(self) -> Predicate:
        parts = [self.both()]
        while self.take("||"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else (lambda labels: any(part(labels) for part in parts))

    def both(self) -> Predicate:
        parts = [self.term()]
        while self.take("&&"):
            parts.append(self.term())
        return parts[0] if len(parts) == 1 else (lambda labels: all(part(labels) for part in parts))

    def term(self) -> Predicate:
        if self.take("!"):
            inner = self.term()
            return lambda labels: not inner(labels)
        if self.take("("):
            inner = self.either()
            self.need(")")
            return inner
        key = self.kind("word")
        if self.take("("):
            return self.call(key)
        return self.comparison(key)

    def call(self, name: str) -> Predicate:
        if name == "all":
            self.need(")")
            return _all
        if name == "has":
            key = self.kind("word")
            self.need(")")
            return lambda labels: key in labels
        raise SelectorError(f"selector {self.text!r}: {name}() cannot stand here")

    def comparison(self, key: str) -> Predicate:
        if self.take("=="):
            value = self.kind("string")
            return lambda labels: labels.get(key) == value
        if self.take("!="):
            value = self.kind("string")
            return lambda labels: labels.get(key) != value
        if self.take("in"):
            values = self.values()
            return lambda labels: key in labels and labels[key] in values
        if self.take("not"):
            self.need("in")
            values = self.values()
            return lambda labels: key not in labels or labels[key] not in values
        word = self.take("contains", "starts", "ends", "startswith", "endswith")
        if not word:
            raise self.error()
        if word in ("starts", "ends"):
            self.need("with")
        test = _TEXT_TESTS["contains" if word == "contains" else f"{word.removesuffix('with')} with"]
        text = self.kind("string")
        return lambda labels: key in labels and test(labels[key], text)

    def values(self) -> frozenset[str]:
        self.need("{")
        found: set[str] = set()
        while not self.take("}"):
            if found:
                self.need(",")
            found.add(self.kind("string"))
        return frozenset(found)


def _all(labels: Labels) -> bool:
    return True
