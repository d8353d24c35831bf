"""Calico's selector grammar, read.

Grammar: https://docs.tigera.io/calico/latest/reference/resources/networkpolicy#selectors, and where that is silent, the
lexer and parser in `libcalico-go/lib/selector` of https://github.com/projectcalico/calico:

- `!` binds tightest, then `&&`, then `||`; `!!` is legal and means nothing;
- space is blanks and tabs, never a line break;
- `has(`, `all(` and `global(` are written without a space before the parenthesis;
- an operator needs no space around it (`a!='x'`, `a in{'x'}`), and `startswith`, `endswith`, `notin` are legal;
- a value stands in single or double quotes, without escapes; labels cannot be compared with each other;
- a set may be empty and may end with a comma;
- a key is 1 to 512 of `[A-Za-z0-9_./-]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NoReturn

from pilothouse.policies.selectors.tree import (
    ALL,
    Contains,
    EndsWith,
    Equal,
    Has,
    In,
    NotEqual,
    NotIn,
    Selector,
    StartsWith,
    all_of,
    any_of,
    negated,
)

MAX_LENGTH = 1_000_000
"""Characters of the longest selector that is read at all."""
MAX_DEPTH = 200
"""How deep parentheses may nest."""
MAX_KEY = 512

_CACHED_LENGTH = 2_000  # longer ones are rare, and a cache full of them would be large
_EXCERPT = 60

_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"[A-Za-z0-9_./-]+")
_STRING = re.compile(r"(?:'([^']*)'|\"([^\"]*)\")[ \t]*")
_OPERATOR = re.compile(r"(==|!=|contains|starts[ \t]*with|ends[ \t]*with|not[ \t]*in|in)[ \t]*")
_CALL = re.compile(r"(has|all|global)\([ \t]*")
_GLOBAL = re.compile(r"[ \t]*global\([ \t]*\)[ \t]*")
_PIECE = re.compile(r"[A-Za-z0-9_./-]+|&&|\|\||==|!=|.", re.DOTALL)

_OF_TEXT: Mapping[str, Callable[[str, str], Selector]] = {
    "==": Equal,
    "!=": NotEqual,
    "contains": Contains,
    "startswith": StartsWith,
    "endswith": EndsWith,
}


class SelectorError(ValueError):
    """The text is no selector.

    `message` is one sentence; the trouble is `width` characters from `offset` on (counting from 0; `offset` is the
    text's length where something is missing at its end).
    """

    def __init__(self, message: str, offset: int = 0, width: int = 1, text: str = "") -> None:
        shown = text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"
        super().__init__(f"selector `{shown}`: {message}")
        self.message = message
        self.offset = offset
        self.width = width


def parse(text: str) -> Selector:
    """The selector that a text says; the empty text is ALL. Errors: `SelectorError`, also for `global()`, which only
    `parse_namespaces` understands, and for texts beyond `MAX_LENGTH` or `MAX_DEPTH`."""
    return _parse(text) if len(text) > _CACHED_LENGTH else _cached(text)


def is_global(text: str) -> bool:
    """Whether a `namespaceSelector` is exactly `global()`."""
    return _GLOBAL.fullmatch(text) is not None


def parse_namespaces(text: str) -> Selector | None:
    """A `namespaceSelector`, over the labels of namespaces: `all()` is every namespace, and None is `global()`, what
    is in no namespace. (An empty one is to Calico as if it were not written, which the caller looks for.)"""
    return None if is_global(text) else parse(text)


def _parse(text: str) -> Selector:
    if len(text) > MAX_LENGTH:
        raise SelectorError(
            f"it has {len(text):,} characters, and more than {MAX_LENGTH:,} are not read", MAX_LENGTH, 1, text
        )
    return _Reader(text).read()


_cached = lru_cache(maxsize=16_384)(_parse)


@dataclass(slots=True)
class _Group:
    """What stands between a pair of parentheses, read so far: done alternatives, and the factors of the current one."""

    offset: int
    negative: bool = False
    alternatives: list[Selector] = field(default_factory=list)
    factors: list[Selector] = field(default_factory=list)

    def next_alternative(self) -> None:
        self.alternatives.append(all_of(*self.factors))
        self.factors = []

    def selector(self) -> Selector:
        self.next_alternative()
        found = any_of(*self.alternatives)
        return negated(found) if self.negative else found


class _Reader:
    """Reads from left to right with a stack of its own: a deep text costs no Python frames."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.groups = [_Group(0)]

    def read(self) -> Selector:
        self.skip()
        if self.at == len(self.text):
            return ALL
        while True:
            self.operand()
            while self.take(")"):
                self.close()
            if self.take("&&"):
                continue
            if self.take("||"):
                self.groups[-1].next_alternative()
                continue
            if self.at < len(self.text):
                self.no_connection()
            if len(self.groups) > 1:
                self.fail("this parenthesis is never closed", self.groups[-1].offset)
            return self.groups[0].selector()

    # ---------------------------------------------------------------- parts

    def operand(self) -> None:
        """Opening parentheses, and the first test within them."""
        while True:
            negative = False
            while self.take("!"):
                negative = not negative
            start = self.at
            if not self.take("("):
                test = self.test()
                self.groups[-1].factors.append(negated(test) if negative else test)
                return
            if len(self.groups) > MAX_DEPTH:
                self.fail(f"parentheses nest deeper than {MAX_DEPTH} levels", start)
            self.groups.append(_Group(start, negative))

    def close(self) -> None:
        if len(self.groups) == 1:
            place = self.text.rindex(")", 0, self.at)
            self.fail("no parenthesis is open here", place)
        closed = self.groups.pop()
        self.groups[-1].factors.append(closed.selector())

    def test(self) -> Selector:
        start = self.at
        call = _CALL.match(self.text, start)
        if call:
            self.at = call.end()
            return self.call(call[1], start)
        key = self.key("expected a test such as `has(key)` or `key == 'value'`")
        after_key = self.at
        self.skip()
        operator = _OPERATOR.match(self.text, self.at)
        if not operator:
            self.no_operator(key, after_key)
        self.at = operator.end()
        name = operator[1].replace(" ", "").replace("\t", "")
        if name == "in":
            return In(key, self.values())
        if name == "notin":
            return NotIn(key, self.values())
        return _OF_TEXT[name](key, self.string(f"{key} {operator[1]}"))

    def call(self, name: str, start: int) -> Selector:
        found = Has(self.key("expected a label's key in `has(`")) if name == "has" else ALL
        self.skip()
        if not self.take(")"):
            self.fail(f"expected `)` after `{name}(`, found {self.found()}")
        if name == "global":
            message = "`global()` can only stand alone, and only in a namespaceSelector"
            self.fail(message, start, len("global()"))
        return found

    def key(self, wanted: str) -> str:
        match = _KEY.match(self.text, self.at)
        if not match:
            self.fail(f"{wanted}, found {self.found()}")
        if len(match[0]) > MAX_KEY:
            self.fail(f"a label's key has at most {MAX_KEY} characters", match.start(), len(match[0]))
        self.at = match.end()
        return match[0]

    def string(self, after: str) -> str:
        match = _STRING.match(self.text, self.at)
        if match:
            self.at = match.end()
            return match[match.lastindex or 0]
        piece = self.piece()
        if piece in ("'", '"'):
            self.fail("this quote is never closed", self.at, len(self.text) - self.at)
        raise self.error(f"expected a value in quotes after `{after}`, found {self.found()}")

    def values(self) -> frozenset[str]:
        start = self.at
        if not self.take("{"):
            self.fail(f"expected a set such as {{'a', 'b'}}, found {self.found()}")
        found: list[str] = []
        while not self.take("}"):
            if self.at == len(self.text):
                self.fail("this set is never closed", start)
            found.append(self.string("{" if not found else ","))
            if not self.take(",") and self.piece() != "}":
                self.fail(f"expected `,` or `}}` in a set, found {self.found()}")
        return frozenset(found)

    # ---------------------------------------------------------------- pieces

    def skip(self) -> None:
        if self.text.startswith((" ", "\t"), self.at):
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at

    def take(self, mark: str) -> bool:
        """Whether `mark` stands here; if so it is passed, with the space after it."""
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        self.skip()
        return True

    def piece(self) -> str:
        match = _PIECE.match(self.text, self.at)
        return match[0] if match else ""

    def found(self) -> str:
        piece = self.piece()
        if piece in ("\n", "\r"):
            return "a line break, which is no space to a selector"
        return f"`{piece[:_EXCERPT]}`" if piece else "the end"

    # ---------------------------------------------------------------- troubles

    def error(self, message: str, offset: int | None = None, width: int = 1) -> SelectorError:
        if offset is None:
            offset, width = self.at, len(self.piece())
        return SelectorError(message, offset, max(1, width), self.text)

    def fail(self, message: str, offset: int | None = None, width: int = 1) -> NoReturn:
        raise self.error(message, offset, width)

    def no_connection(self) -> NoReturn:
        piece = self.piece()
        if piece in ("&", "|"):
            self.fail(f"`{piece}` is no operator: write `{piece * 2}`")
        self.fail(f"expected `&&`, `||` or the end, found {self.found()}")

    def no_operator(self, key: str, after_key: int) -> NoReturn:
        piece = self.piece()
        if piece == "=":
            self.fail("`=` is no operator: write `==`")
        if piece == "(" and key in ("has", "all", "global"):
            gap = max(1, self.at - after_key)
            self.fail(f"no space may stand between `{key}` and its parenthesis", after_key, gap)
        if piece == "(":
            self.fail(f"there is no function `{key[:_EXCERPT]}()`", after_key - len(key), len(key))
        self.fail(
            f"expected an operator after the key `{key[:_EXCERPT]}` "
            f"(==, !=, in, not in, contains, starts with, ends with), found {self.found()}"
        )
