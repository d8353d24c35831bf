"""Problems are values: what is wrong, where, how bad, and the way out.

A check returns every problem it finds, never only the first. A problem that a
person cannot act upon is not one: `hint` says the fix, and `docs/problems/`
holds a page for each code. Exceptions are for plumbing only and live at the
end of this module.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache


class Severity(StrEnum):
    """How bad: an `error` fails a check, a `warning` does not, `info` is a finding worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for the worst, so that sorting puts errors first."""
        return _RANKS[self]


_RANKS = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a file; `line` and `column` count from 1, 0 means "the file as a whole".

    `excerpt` is the text of that line (without the newline) and `width` the
    number of characters that the caret underlines.
    """

    path: str
    line: int = 0
    column: int = 0
    width: int = field(default=1, compare=False)
    excerpt: str = field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        if not self.line:
            return self.path
        return f"{self.path}:{self.line}:{self.column}" if self.column else f"{self.path}:{self.line}"


NOWHERE = Place("")


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding.

    `code` is `area/slug` (for example `platform/unknown-field`) and names the page
    `docs/problems/<area>/<slug>.md`. `message` is one sentence without a final
    full stop that names the offender; `hint` is the way out.
    `teams` are the names of the teams that the problem concerns, `cluster` the
    cluster it was found for ("" when it holds for all).
    """

    code: str
    message: str
    place: Place = NOWHERE
    severity: Severity = Severity.ERROR
    hint: str = ""
    related: tuple[Place, ...] = ()
    teams: tuple[str, ...] = ()
    cluster: str = ""

    @property
    def sort_key(self) -> tuple[str, int, int, int, str, str]:
        return (self.place.path, self.place.line, self.place.column, self.severity.rank, self.code, self.message)


Problems = tuple[Problem, ...]


def error(
    code: str,
    message: str,
    place: Place = NOWHERE,
    hint: str = "",
    *,
    related: tuple[Place, ...] = (),
    teams: tuple[str, ...] = (),
    cluster: str = "",
) -> Problem:
    """A problem that fails a check."""
    return Problem(code, message, place, Severity.ERROR, hint, related, teams, cluster)


def warning(
    code: str,
    message: str,
    place: Place = NOWHERE,
    hint: str = "",
    *,
    related: tuple[Place, ...] = (),
    teams: tuple[str, ...] = (),
    cluster: str = "",
) -> Problem:
    """A problem that is shown and fails nothing by itself."""
    return Problem(code, message, place, Severity.WARNING, hint, related, teams, cluster)


def info(
    code: str,
    message: str,
    place: Place = NOWHERE,
    hint: str = "",
    *,
    related: tuple[Place, ...] = (),
    teams: tuple[str, ...] = (),
    cluster: str = "",
) -> Problem:
    """Something worth knowing."""
    return Problem(code, message, place, Severity.INFO, hint, related, teams, cluster)


def ordered(problems: Iterable[Problem]) -> Problems:
    """The problems by file, line and column, each one once."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: problem.sort_key))


def has_errors(problems: Iterable[Problem]) -> bool:
    return any(problem.severity is Severity.ERROR for problem in problems)


_ALIKE = 0.6
"""Words less alike than that (`difflib`'s ratio) are no slip of the fingers."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint "did you mean `x`?" for the known word nearest to `word`, or ""."""
    found = _nearest(word, tuple(sorted(set(known))))
    return f"did you mean `{found}`?" if found else ""


@lru_cache(maxsize=1024)
def _nearest(word: str, known: tuple[str, ...]) -> str:
    """What `difflib.get_close_matches` finds, of equals the last.

    A namespace that goes missing asks this a thousand times of thousands of words, so the dear comparison is made only
    while the letters in common allow for a better one.
    """
    slots, letters = _letters(known)
    own = _bits(word, slots)
    bounds = [
        (2 * (own & bits).bit_count() / (len(word) + len(other) or 1), other)
        for other, bits in zip(known, letters, strict=True)
    ]
    matcher = difflib.SequenceMatcher(b=word)
    best = (_ALIKE, "")
    for bound, other in sorted((item for item in bounds if item[0] >= _ALIKE), reverse=True):
        if bound < best[0]:
            break
        matcher.set_seq1(other)
        best = max(best, (matcher.ratio(), other))
    return best[1]


Slots = dict[tuple[str, int], int]


@lru_cache(maxsize=16)
def _letters(words: tuple[str, ...]) -> tuple[Slots, tuple[int, ...]]:
    """A bit for the first, second, … of each letter that occurs in any word; and each word as such bits."""
    slots: Slots = {}
    for word in words:
        for letter, times in Counter(word).items():
            for number in range(times):
                slots.setdefault((letter, number), len(slots))
    return slots, tuple(_bits(word, slots) for word in words)


def _bits(word: str, slots: Slots) -> int:
    found = 0
    for letter, times in Counter(word).items():
        for number in range(times):
            slot = slots.get((letter, number))
            if slot is not None:
                found |= 1 << slot
    return found


def one_of(known: Sequence[str] | Iterable[str], limit: int = 8) -> str:
    """A hint "known: a, b, c" that stays on one line."""
    words = sorted(set(known))
    tail = f" and {len(words) - limit} more" if len(words) > limit else ""
    return f"known: {', '.join(words[:limit])}{tail}" if words else "none is declared"


class PilothouseError(Exception):
    """The root of the one small tree of exceptions, for plumbing alone.

    The message is one line that names the offender; `hint` is the way out.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def with_hint(self) -> str:
        """Both on one line, for places that have one."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


class Unavailable(PilothouseError):
    """Something outside does not answer: a server, the database, a full disk, a port in use."""


class Denied(PilothouseError):
    """The caller may not do that."""


class Invalid(PilothouseError):
    """What was given cannot be used; `problems` says where, when more than one thing is wrong."""

    def __init__(self, message: str, hint: str = "", problems: Problems = ()) -> None:
        super().__init__(message, hint)
        self.problems = problems


class Conflict(PilothouseError):
    """Somebody else changed it in the meantime, or it is in a state that does not allow this."""
