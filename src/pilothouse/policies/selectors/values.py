"""What one label may be, under tests of its value: decided exactly, with the shortest value as the witness.

A value is empty, or up to `longest` of `[A-Za-z0-9_.-]` that begin and end with a letter or digit
(https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set).
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import product
from typing import NamedTuple

ORDINARY = 63
"""Characters of the longest label value in Kubernetes."""
NAME = 253
"""Characters of the longest name of an object."""

_WORD = string.ascii_lowercase + string.digits + string.ascii_uppercase
_LETTERS = _WORD + "-._"
_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?)?")
_MAX_READS = 100_000


class TooComplex(ValueError):
    """A question about all label sets would take more work than is allowed."""


class Kind(StrEnum):
    HAS = "has"
    IN = "in"
    CONTAINS = "contains"
    STARTS = "starts with"
    ENDS = "ends with"


@dataclass(frozen=True, slots=True)
class Test:
    """A test that only a label that is there can pass."""

    kind: Kind
    values: frozenset[str] = frozenset()
    text: str = ""

    def passes(self, value: str) -> bool:
        match self.kind:
            case Kind.HAS:
                return True
            case Kind.IN:
                return value in self.values
            case Kind.CONTAINS:
                return self.text in value
            case Kind.STARTS:
                return value.startswith(self.text)
            case Kind.ENDS:
                return value.endswith(self.text)


Claim = tuple[Test, bool]
"""That a test is passed, or (False) that it is not."""


@dataclass(frozen=True, slots=True)
class Label:
    """What is known of one label: whether it may be `absent`; if it is there, its value is among `only` (None: any),
    not among `banned`, and as `texts` claim. Where `only` is given, it has been sifted, and the other two are empty."""

    longest: int = ORDINARY
    absent: bool = True
    only: frozenset[str] | None = None
    banned: frozenset[str] = frozenset()
    texts: frozenset[Claim] = frozenset()

    def narrowed(self, claims: Iterable[Claim]) -> Label:
        absent, only = self.absent, self.only
        banned: list[frozenset[str]] = []
        texts: list[Claim] = []
        for test, passed in claims:
            if passed:
                absent = False
            if test.kind is Kind.HAS:
                only = only if passed else frozenset()
            elif test.kind is not Kind.IN:
                texts.append((test, passed))
            elif passed:
                only = test.values if only is None else only & test.values
            else:
                banned.append(test.values)
        ban = self.banned.union(*banned)
        wanted = self.texts.union(texts)
        if only is None:
            return Label(self.longest, absent, None, ban, wanted)
        sifted = frozenset(value for value in only - ban if self.is_value(value) and _agrees(value, wanted))
        return Label(self.longest, absent, sifted)

    def is_value(self, text: str) -> bool:
        return len(text) <= self.longest and _VALUE.fullmatch(text) is not None

    @property
    def possible(self) -> bool:
        return self.absent or self.example() is not None

    def example(self) -> str | None:
        """The shortest value that it may have, preferably not the empty one; None if it may have none."""
        if self.only is None:
            if self.texts:
                return shortest(self.texts, self.banned, self.longest)
            return next(word for word in _words(self.longest) if word not in self.banned)
        return min(self.only, key=lambda value: (not value, len(value), value), default=None)

    def verdict(self, test: Test) -> bool | None:
        """Whether it must pass the test (True) or cannot (False)."""
        if not self._may_pass(test):
            return False
        return None if self.absent or self._may_fail(test) else True

    def _may_pass(self, test: Test) -> bool:
        if self.only is not None:
            return any(map(test.passes, self.only))
        if test.kind is Kind.IN:
            return any(
                self.is_value(value) and value not in self.banned and _agrees(value, self.texts)
                for value in test.values
            )
        return self.narrowed(((test, True),)).possible

    def _may_fail(self, test: Test) -> bool:
        """Whether some value that it may have fails the test."""
        if self.only is not None:
            return not all(map(test.passes, self.only))
        if test.kind is Kind.HAS:
            return False
        return self.narrowed(((test, False),)).example() is not None


def _agrees(value: str, claims: Iterable[Claim]) -> bool:
    return all(test.passes(value) is passed for test, passed in claims)


@lru_cache(maxsize=16_384)
def shortest(texts: frozenset[Claim], banned: frozenset[str], longest: int) -> str | None:
    """The shortest value as `texts` claim and not among `banned`, of equally short ones the first in the order
    a-z, 0-9, A-Z, -._; the empty one only if there is no other. None if there is none. Errors: TooComplex."""
    found = _Search(texts, banned, longest).run()
    if found is None and "" not in banned and _agrees("", texts):
        return ""
    return found


def _words(longest: int) -> Iterator[str]:
    """Values by length, in plenty: more than any finite set that bans some."""
    for length in range(1, longest + 1):
        for letters in product(_WORD, repeat=length):
            yield "".join(letters)


class _State(NamedTuple):
    """All that matters of a text read so far: its longest end that begins some pattern; the whole text, while some
    anchored word begins with it; which of the wanted parts it contained; whether a value may end here."""

    tail: str
    head: str | None
    seen: frozenset[str]
    closed: bool


class _Search:
    """Breadth first over the texts, letter by letter, where texts of equal `_State` are followed once."""

    def __init__(self, claims: Iterable[Claim], banned: frozenset[str], longest: int) -> None:
        by_kind: dict[tuple[Kind, bool], list[str]] = {}
        for test, passed in claims:
            by_kind.setdefault((test.kind, passed), []).append(test.text)

        def texts(kind: Kind, passed: bool) -> list[str]:
            return sorted(by_kind.get((kind, passed), ()), key=len)

        self.contains, self.lacks = texts(Kind.CONTAINS, True), texts(Kind.CONTAINS, False)
        self.starts, self.starts_not = texts(Kind.STARTS, True), texts(Kind.STARTS, False)
        self.ends, self.ends_not = texts(Kind.ENDS, True), texts(Kind.ENDS, False)
        self.banned = banned
        self.longest = longest
        self.start = self.starts[-1] if self.starts else ""
        self.end = self.ends[-1] if self.ends else ""
        self.within = _beginnings([*self.contains, *self.lacks, *self.ends, *self.ends_not])
        self.anchored = _beginnings([self.start, *self.starts_not, *banned])

    def run(self) -> str | None:
        if self.hopeless():
            return None
        letters = self.letters()
        root = _State("", "", frozenset(text for text in self.contains if not text), closed=False)
        reads = 0
        level = [(root, "")]
        known = {root}
        for length in range(self.longest):
            following: list[tuple[_State, str]] = []
            for state, text in level:
                reads += len(letters)
                if reads > _MAX_READS:
                    raise TooComplex("the tests of one label's text are too many to be decided")
                for letter in self.start[length] if length < len(self.start) else letters:
                    after = self.read(state, letter, first=not length)
                    if after is None or after in known:
                        continue
                    if self.accepts(after):
                        return text + letter
                    known.add(after)
                    following.append((after, text + letter))
            level = following
        return None

    def hopeless(self) -> bool:
        """Whether no text that is not empty can do, seen without a search."""
        wanted = [*self.contains, *self.starts, *self.ends]
        return (
            not all(map(self.start.startswith, self.starts))
            or not all(map(self.end.endswith, self.ends))
            or any(len(text) > self.longest or set(text) - set(_LETTERS) for text in wanted)
            or "" in (*self.lacks, *self.starts_not, *self.ends_not)
        )

    def letters(self) -> str:
        """Those that some pattern or banned word names, and one that stands for all the others."""
        named = set().union(*self.within, *self.anchored)
        other = next((letter for letter in _LETTERS if letter not in named), "")
        return "".join(letter for letter in _LETTERS if letter in named or letter == other)

    def read(self, state: _State, letter: str, first: bool) -> _State | None:
        """The state one letter later; None if no value goes on like this."""
        closed = letter in _WORD
        if first and not closed:
            return None
        tail = state.tail + letter
        while tail not in self.within:
            tail = tail[1:]
        if any(map(tail.endswith, self.lacks)):
            return None
        head = None if state.head is None else state.head + letter
        if head in self.starts_not:
            return None
        if head not in self.anchored:
            head = None
        now = [text for text in self.contains if text not in state.seen and tail.endswith(text)]
        return _State(tail, head, state.seen.union(now) if now else state.seen, closed)

    def accepts(self, state: _State) -> bool:
        return (
            state.closed
            and len(state.seen) == len(self.contains)
            and state.head not in self.banned
            and state.tail.endswith(self.end)
            and not any(map(state.tail.endswith, self.ends_not))
            and (state.head is None or len(state.head) >= len(self.start))
        )


def _beginnings(words: Sequence[str]) -> frozenset[str]:
    return frozenset(word[:length] for word in words for length in range(len(word) + 1)) | {""}
