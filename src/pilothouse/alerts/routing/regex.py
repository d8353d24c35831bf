"""Regular expressions as Alertmanager reads them (RE2), matched in time linear in the text.

Python's own `re` backtracks: an expression such as `(a+)+b` in a configuration that somebody
pastes would stop the process, and it reads some things differently (`$`, `\\d`, `(?i)` in the middle).
So matchers are compiled here to a set of states that is walked once per character.

Syntax: https://github.com/google/re2/wiki/Syntax. What RE2 refuses (look-around,
back-references, possessive repetition) is refused here too; Unicode scripts
(`\\p{Greek}`) are RE2's and not ours, and are refused with a reason of their own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

MAX_REPEAT = 1000
"""RE2's own limit of a counted repetition."""
MAX_STATES = 20_000

Test = Callable[[str], bool]


class BadPattern(ValueError):
    """The expression cannot be compiled; the message says why, `position` where (from 0)."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


# The tree that the parser makes. `_Seq(())` matches the empty text.
@dataclass(frozen=True)
class _Char:
    test: Test
    literal: str = ""


@dataclass(frozen=True)
class _Assert:
    kind: str


@dataclass(frozen=True)
class _Seq:
    parts: tuple[_Node, ...]


@dataclass(frozen=True)
class _Alt:
    options: tuple[_Node, ...]


@dataclass(frozen=True)
class _Repeat:
    body: _Node
    least: int
    most: int | None


_Node = _Char | _Assert | _Seq | _Alt | _Repeat


class Pattern:
    """A compiled expression. `literals` are all the texts that it matches, where it is a plain list of words."""

    def __init__(self, text: str) -> None:
        tree = _Parser(text).parse()
        self.text = text
        self.literals = _literals(tree)
        self._program = _Program(tree)

    def fullmatch(self, text: str) -> bool:
        """Whether the whole text matches (Alertmanager anchors with `^(?:…)$`)."""
        if self.literals is not None:
            return text in self.literals
        return self._program.run(text)


@lru_cache(maxsize=4096)
def compile_pattern(text: str) -> Pattern:
    """The pattern of a text, kept; raises `BadPattern`."""
    return Pattern(text)


def _literals(tree: _Node) -> frozenset[str] | None:
    options = tree.options if isinstance(tree, _Alt) else (tree,)
    words = []
    for option in options:
        parts = option.parts if isinstance(option, _Seq) else (option,)
        letters = [part.literal for part in parts if isinstance(part, _Char) and part.literal]
        if len(letters) != len(parts):
            return None
        words.append("".join(letters))
    return frozenset(words)


# ---------------------------------------------------------------- states


class _Program:
    """States as parallel lists; a state is a character test, an assertion, a fork, or the end."""

    def __init__(self, tree: _Node) -> None:
        self.tests: list[Test | None] = []
        self.asserts: list[str] = []
        self.nexts: list[list[int]] = []
        self.end = self._state()
        self.start = self._compile(tree, self.end)

    def _state(self, test: Test | None = None, kind: str = "", nexts: Iterable[int] = ()) -> int:
        if len(self.tests) >= MAX_STATES:
            raise BadPattern("the expression is too large once its repetitions are written out", 0)
        self.tests.append(test)
        self.asserts.append(kind)
        self.nexts.append(list(nexts))
        return len(self.tests) - 1

    def _compile(self, node: _Node, after: int) -> int:
        match node:
            case _Char(test=test):
                return self._state(test, nexts=[after])
            case _Assert(kind=kind):
                return self._state(kind=kind, nexts=[after])
            case _Seq(parts=parts):
                for part in reversed(parts):
                    after = self._compile(part, after)
                return after
            case _Alt(options=options):
                return self._state(nexts=[self._compile(option, after) for option in options])
            case _Repeat(body=body, least=least, most=most):
                if most is None:
                    loop = self._state(nexts=[after])
                    self.nexts[loop].append(self._compile(body, loop))
                    after = loop
                else:
                    end = after
                    for _ in range(most - least):
                        after = self._state(nexts=[end, self._compile(body, after)])
                for _ in range(least):
                    after = self._compile(body, after)
                return after

    def run(self, text: str) -> bool:
        current = self._closure([self.start], "", text[:1])
        for index, char in enumerate(text):
            stepped = []
            for state in current:
                test = self.tests[state]
                if test is not None and test(char):
                    stepped.extend(self.nexts[state])
            if not stepped:
                return False
            current = self._closure(stepped, char, text[index + 1 : index + 2])
        return self.end in current

    def _closure(self, states: list[int], before: str, behind: str) -> set[int]:
        found: set[int] = set()
        todo = states
        while todo:
            state = todo.pop()
            if state in found:
                continue
            found.add(state)
            kind = self.asserts[state]
            if self.tests[state] is None and (not kind or _holds(kind, before, behind)):
                todo.extend(self.nexts[state])
        return found


def _holds(kind: str, before: str, behind: str) -> bool:
    match kind:
        case "start":
            return not before
        case "end":
            return not behind
        case "line-start":
            return before in ("", "\n")
        case "line-end":
            return behind in ("", "\n")
    at_edge = (bool(before) and _is_word(before)) != (bool(behind) and _is_word(behind))
    return at_edge == (kind == "word-edge")


# ---------------------------------------------------------------- character classes (RE2's are ASCII)


def _is_word(char: str) -> bool:
    return char == "_" or (char.isascii() and char.isalnum())


def _is_digit(char: str) -> bool:
    return "0" <= char <= "9"


def _is_space(char: str) -> bool:
    return char in "\t\n\f\r "


def _not(test: Test) -> Test:
    return lambda char: not test(char)


def _any(char: str) -> bool:
    return True


def _not_newline(char: str) -> bool:
    return char != "\n"


def _between(low: str, high: str, fold: bool) -> Test:
    if not fold:
        return lambda char: low <= char <= high
    return lambda char: any(low <= form <= high for form in (char, char.lower(), char.upper(), char.casefold()))


def _one_of(tests: tuple[Test, ...], negated: bool) -> Test:
    return lambda char: any(test(char) for test in tests) != negated


_PERL: dict[str, Test] = {"d": _is_digit, "w": _is_word, "s": _is_space}
_POSIX: dict[str, Test] = {
    "alnum": lambda c: c.isascii() and c.isalnum(),
    "alpha": lambda c: c.isascii() and c.isalpha(),
    "ascii": str.isascii,
    "blank": lambda c: c in "\t ",
    "cntrl": lambda c: ord(c) < 32 or ord(c) == 127,
    "digit": _is_digit,
    "graph": lambda c: "!" <= c <= "~",
    "lower": lambda c: "a" <= c <= "z",
    "print": lambda c: " " <= c <= "~",
    "punct": lambda c: "!" <= c <= "~" and not c.isalnum(),
    "space": lambda c: c in "\t\n\v\f\r ",
    "upper": lambda c: "A" <= c <= "Z",
    "word": _is_word,
    "xdigit": lambda c: c in "0123456789abcdefABCDEF",
}
_ESCAPES = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ANCHORS = {"A": "start", "z": "end", "b": "word-edge", "B": "no-word-edge"}
_CATEGORIES = frozenset(
    "L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C".split()
)


def _category(name: str) -> Test:
    return lambda char: unicodedata.category(char).startswith(name)


# ---------------------------------------------------------------- parser


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.fold = False
        self.dot_all = False
        self.multiline = False
        self.depth = 0

    def parse(self) -> _Node:
        tree = self.alternatives()
        if self.at < len(self.text):
            raise self.bad("unexpected `)`")
        return tree

    def bad(self, message: str) -> BadPattern:
        return BadPattern(message, self.at)

    def peek(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def take(self, text: str) -> bool:
        if self.peek(text):
            self.at += len(text)
            return True
        return False

    def next(self) -> str:
        if self.at >= len(self.text):
            raise self.bad("the expression ends too early")
        char = self.text[self.at]
        self.at += 1
        return char

    def alternatives(self) -> _Node:
        self.depth += 1
        if self.depth > 100:
            raise self.bad("groups are nested too deeply")
        options = [self.sequence()]
        while self.take("|"):
            options.append(self.sequence())
        self.depth -= 1
        return options[0] if len(options) == 1 else _Alt(tuple(options))

    def sequence(self) -> _Node:
        parts: list[_Node] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            if self.peek("\\Q"):
                self.at += 2
                end = self.text.find("\\E", self.at)
                quoted = self.text[self.at : end if end >= 0 else len(self.text)]
                self.at += len(quoted) + (2 if end >= 0 else 0)
                parts.extend(self.literal(char) for char in quoted)
            else:
                piece = self.atom()
                if piece is None:
                    continue
                parts.append(piece)
            if parts:
                parts[-1] = self.repeated(parts[-1])
        return parts[0] if len(parts) == 1 else _Seq(tuple(parts))

    def repeated(self, body: _Node) -> _Node:
        count = 0
        while True:
            bounds = self.bounds()
            if bounds is None:
                return body
            count += 1
            if count > 1:
                raise self.bad("a repetition of a repetition")
            body = _Repeat(body, *bounds)
            self.take("?")  # lazy or not makes no difference to whether a whole text matches

    def bounds(self) -> tuple[int, int | None] | None:
        if self.take("*"):
            return 0, None
        if self.take("+"):
            return 1, None
        if self.take("?"):
            return 0, 1
        if not self.peek("{"):
            return None
        end = self.text.find("}", self.at)
        inner = self.text[self.at + 1 : end] if end > 0 else ""
        low, comma, high = inner.partition(",")
        if not (low.isascii() and low.isdigit()) or (high and not (high.isascii() and high.isdigit())):
            return None  # not a count: RE2 takes the brace for itself
        least = int(low)
        most = least if not comma else (int(high) if high else None)
        if least > MAX_REPEAT or (most is not None and (most > MAX_REPEAT or most < least)):
            raise self.bad("a bad repetition count")
        self.at = end + 1
        return least, most

    def literal(self, char: str) -> _Char:
        if self.fold and char.lower() != char.upper():
            return _Char(_between(char.lower(), char.lower(), True))
        return _Char(_between(char, char, False), char)

    def atom(self) -> _Node | None:
        char = self.next()
        match char:
            case "(":
                return self.group()
            case "[":
                return _Char(self.char_class())
            case ".":
                return _Char(_any if self.dot_all else _not_newline)
            case "^":
                return _Assert("line-start" if self.multiline else "start")
            case "$":
                return _Assert("line-end" if self.multiline else "end")
            case "\\":
                return self.escape()
            case "*" | "+" | "?":
                self.at -= 1
                raise self.bad(f"nothing stands before `{char}` to repeat")
        return self.literal(char)

    def group(self) -> _Node | None:
        saved = (self.fold, self.dot_all, self.multiline)
        if self.take("?"):
            if self.take("P<") or (self.peek("<") and not self.peek("<=") and not self.peek("<!") and self.take("<")):
                end = self.text.find(">", self.at)
                if end < 0 or not self.text[self.at : end].isidentifier():
                    raise self.bad("a bad name of a group")
                self.at = end + 1
            elif self.flags():  # `(?i)` holds to the end of the group around it
                return None
        body = self.alternatives()
        if not self.take(")"):
            raise self.bad("a `)` is missing")
        self.fold, self.dot_all, self.multiline = saved
        return body

    def flags(self) -> bool:
        """Reads `i`, `m`, `s`, `U`, `-`; true when the flags stand alone, false when a group follows."""
        on = True
        while True:
            match self.next():
                case "i":
                    self.fold = on
                case "s":
                    self.dot_all = on
                case "m":
                    self.multiline = on
                case "U":
                    pass
                case "-":
                    on = False
                case ":":
                    return False
                case ")":
                    return True
                case _:
                    self.at -= 1
                    raise self.bad("RE2 has no look-around, and no such flag")

    def escape(self) -> _Node:
        char = self.next()
        if char in _ANCHORS:
            return _Assert(_ANCHORS[char])
        test = self.class_escape(char)
        if test is not None:
            return _Char(test)
        return self.literal(self.char_escape(char))

    def class_escape(self, char: str) -> Test | None:
        lower = char.lower()
        if lower in _PERL:
            return _PERL[lower] if char == lower else _not(_PERL[lower])
        if lower != "p":
            return None
        name = self.next()
        if name == "{":
            end = self.text.find("}", self.at)
            name, self.at = (self.text[self.at : end], end + 1) if end >= 0 else ("", self.at)
        negated = (char == "P") != name.startswith("^")
        name = name.removeprefix("^")
        if name not in _CATEGORIES:
            raise self.bad(f"the Unicode class {name!r} is not known here")
        return _not(_category(name)) if negated else _category(name)

    def char_escape(self, char: str) -> str:
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char == "x":
            digits = ""
            if self.take("{"):
                while not self.take("}"):
                    digits += self.next()
            else:
                digits = self.next() + self.next()
            try:
                return chr(int(digits, 16))
            except (ValueError, OverflowError):
                raise self.bad("a bad character code") from None
        if char == "0":
            digits = char
            while len(digits) < 3 and self.at < len(self.text) and self.text[self.at] in "01234567":
                digits += self.next()
            return chr(int(digits, 8))
        if char.isascii() and not char.isalnum():
            return char
        raise self.bad(f"RE2 does not know `\\{char}`")

    def char_class(self) -> Test:
        negated = self.take("^")
        tests: list[Test] = []
        first = True
        while first or not self.peek("]"):
            first = False
            if self.take("[:"):
                end = self.text.find(":]", self.at)
                name = self.text[self.at : end] if end >= 0 else ""
                if name.removeprefix("^") not in _POSIX:
                    raise self.bad(f"no class of characters is called {name!r}")
                test = _POSIX[name.removeprefix("^")]
                tests.append(_not(test) if name.startswith("^") else test)
                self.at = end + 2
                continue
            low = self.next()
            if low == "\\":
                named = self.class_escape(char := self.next())
                if named is not None:
                    tests.append(named)
                    continue
                low = self.char_escape(char)
            high = low
            if self.peek("-") and not self.peek("-]"):
                self.at += 1
                high = self.next()
                if high == "\\":
                    high = self.char_escape(self.next())
                if high < low:
                    raise self.bad(f"the range {low}-{high} runs backwards")
            tests.append(_between(low, high, self.fold))
        self.next()
        return _one_of(tuple(tests), negated)
