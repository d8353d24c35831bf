"""Calico's selectors as values: a tree of tests over labels.

Semantics: https://docs.tigera.io/calico/latest/reference/resources/networkpolicy#selectors. Every test of a label that
is not there is false; `!=` and `not in` are the negations of `==` and `in`, so they match where the label is missing.

Trees are made by `all_of`, `any_of` and `negated` (the parser uses them too), which keep them canonical: no `And` in
an `And`, no `Or` in an `Or`, no double negation, `all()` only alone or as `!all()`. The text of such a tree parses to
an equal tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol


@dataclass(frozen=True, slots=True)
class Term:
    """Something that a selector looks at: whether `key` has `value`, or with `value` None whether it is there at all.

    `textual` means that `value` is looked for within the label's value. Label sets that agree on all terms of a
    selector are the same to it.
    """

    key: str
    value: str | None
    textual: bool = False


class Index(Protocol):
    """A population of labelled members as bit sets, each a subset of `everything`."""

    @property
    def everything(self) -> int: ...

    def pair(self, key: str, value: str) -> int:
        """The members whose label `key` is `value`."""
        ...

    def having(self, key: str) -> int:
        """The members with a label `key`."""
        ...

    def values(self, key: str) -> Mapping[str, int]:
        """By value of `key`, the members that have it."""
        ...


class Selector:
    """A condition on labels. `str()` is its canonical text."""

    __slots__ = ()
    binding: ClassVar[int] = 2
    """How tightly the text holds together: 0 for `||`, 1 for `&&`, 2 for a single test."""

    # No ABC: its `isinstance` is several times slower, and this module lives on it.

    def matches(self, labels: Mapping[str, str]) -> bool:
        raise NotImplementedError

    def members(self, index: Index) -> int:
        """What `select` answers."""
        raise NotImplementedError

    def terms(self) -> Iterator[Term]:
        """In the order of the text, repeated ones repeatedly."""
        raise NotImplementedError

    def with_prefix(self, prefix: str) -> Selector:
        """What `prefixed` answers."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class All(Selector):
    """`all()`"""

    def matches(self, labels: Mapping[str, str]) -> bool:
        return True

    def members(self, index: Index) -> int:
        return index.everything

    def terms(self) -> Iterator[Term]:
        return iter(())

    def with_prefix(self, prefix: str) -> Selector:
        return self

    def __str__(self) -> str:
        return "all()"


@dataclass(frozen=True, slots=True)
class Has(Selector):
    """`has(key)`"""

    key: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        return self.key in labels

    def members(self, index: Index) -> int:
        return index.having(self.key)

    def terms(self) -> Iterator[Term]:
        yield Term(self.key, None)

    def with_prefix(self, prefix: str) -> Selector:
        return Has(prefix + self.key)

    def __str__(self) -> str:
        return f"has({self.key})"


@dataclass(frozen=True, slots=True)
class Equal(Selector):
    """`key == "value"`"""

    key: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        return labels.get(self.key) == self.value

    def members(self, index: Index) -> int:
        return index.pair(self.key, self.value)

    def terms(self) -> Iterator[Term]:
        yield Term(self.key, self.value)

    def with_prefix(self, prefix: str) -> Selector:
        return Equal(prefix + self.key, self.value)

    def __str__(self) -> str:
        return f"{self.key} == {quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class NotEqual(Selector):
    """`key != "value"`: true where the label is missing."""

    key: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        return labels.get(self.key) != self.value

    def members(self, index: Index) -> int:
        return index.everything & ~index.pair(self.key, self.value)

    def terms(self) -> Iterator[Term]:
        yield Term(self.key, self.value)

    def with_prefix(self, prefix: str) -> Selector:
        return NotEqual(prefix + self.key, self.value)

    def __str__(self) -> str:
        return f"{self.key} != {quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class In(Selector):
    """`key in {"value", ...}`; of no values it matches nothing."""

    key: str
    values: frozenset[str]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return labels.get(self.key) in self.values

    def members(self, index: Index) -> int:
        return _any_pair(index, self.key, self.values)

    def terms(self) -> Iterator[Term]:
        return (Term(self.key, value) for value in sorted(self.values))

    def with_prefix(self, prefix: str) -> Selector:
        return In(prefix + self.key, self.values)

    def __str__(self) -> str:
        return f"{self.key} in {_set(self.values)}"


@dataclass(frozen=True, slots=True)
class NotIn(Selector):
    """`key not in {"value", ...}`: true where the label is missing."""

    key: str
    values: frozenset[str]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return labels.get(self.key) not in self.values

    def members(self, index: Index) -> int:
        return index.everything & ~_any_pair(index, self.key, self.values)

    def terms(self) -> Iterator[Term]:
        return (Term(self.key, value) for value in sorted(self.values))

    def with_prefix(self, prefix: str) -> Selector:
        return NotIn(prefix + self.key, self.values)

    def __str__(self) -> str:
        return f"{self.key} not in {_set(self.values)}"


@dataclass(frozen=True, slots=True)
class Contains(Selector):
    """`key contains "text"`"""

    key: str
    text: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        return value is not None and self.text in value

    def members(self, index: Index) -> int:
        return _union(found for value, found in index.values(self.key).items() if self.text in value)

    def terms(self) -> Iterator[Term]:
        yield Term(self.key, self.text, textual=True)

    def with_prefix(self, prefix: str) -> Selector:
        return Contains(prefix + self.key, self.text)

    def __str__(self) -> str:
        return f"{self.key} contains {quoted(self.text)}"


@dataclass(frozen=True, slots=True)
class StartsWith(Selector):
    """`key starts with "text"`"""

    key: str
    text: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        return value is not None and value.startswith(self.text)

    def members(self, index: Index) -> int:
        return _union(found for value, found in index.values(self.key).items() if value.startswith(self.text))

    def terms(self) -> Iterator[Term]:
        yield Term(self.key, self.text, textual=True)

    def with_prefix(self, prefix: str) -> Selector:
        return StartsWith(prefix + self.key, self.text)

    def __str__(self) -> str:
        return f"{self.key} starts with {quoted(self.text)}"


@dataclass(frozen=True, slots=True)
class EndsWith(Selector):
    """`key ends with "text"`"""

    key: str
    text: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        return value is not None and value.endswith(self.text)

    def members(self, index: Index) -> int:
        return _union(found for value, found in index.values(self.key).items() if value.endswith(self.text))

    def terms(self) -> Iterator[Term]:
        yield Term(self.key, self.text, textual=True)

    def with_prefix(self, prefix: str) -> Selector:
        return EndsWith(prefix + self.key, self.text)

    def __str__(self) -> str:
        return f"{self.key} ends with {quoted(self.text)}"


class _Compound(Selector):
    """Compared, hashed and shown without recursion: a tree may be as deep as the parser allows."""

    __slots__ = ("_hash",)
    _hash: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Compound) and _same(self, other)

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            found = hash(_text(self))
            object.__setattr__(self, "_hash", found)
            return found

    def __repr__(self) -> str:
        return f"parse({_text(self)!r})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Not(_Compound):
    """`!inner`"""

    inner: Selector

    def matches(self, labels: Mapping[str, str]) -> bool:
        return not self.inner.matches(labels)

    def members(self, index: Index) -> int:
        return index.everything & ~self.inner.members(index)

    def terms(self) -> Iterator[Term]:
        return self.inner.terms()

    def with_prefix(self, prefix: str) -> Selector:
        return Not(self.inner.with_prefix(prefix))

    def __str__(self) -> str:
        return _text(self)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class And(_Compound):
    """`one && other && ...`, of two parts at least."""

    parts: tuple[Selector, ...]
    binding: ClassVar[int] = 1

    def matches(self, labels: Mapping[str, str]) -> bool:
        for part in self.parts:  # noqa: SIM110  # half the frames of `all()` in a deep tree, and quicker
            if not part.matches(labels):
                return False
        return True

    def members(self, index: Index) -> int:
        found = index.everything
        for part in self.parts:
            found &= part.members(index)
            if not found:
                break
        return found

    def terms(self) -> Iterator[Term]:
        return _terms(self.parts)

    def with_prefix(self, prefix: str) -> Selector:
        parts = []
        for part in self.parts:
            parts.append(part.with_prefix(prefix))  # no frames of comprehensions in a deep tree
        return And(tuple(parts))

    def __str__(self) -> str:
        return _text(self)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Or(_Compound):
    """`one || other || ...`, of two parts at least."""

    parts: tuple[Selector, ...]
    binding: ClassVar[int] = 0

    def matches(self, labels: Mapping[str, str]) -> bool:
        for part in self.parts:  # noqa: SIM110
            if part.matches(labels):
                return True
        return False

    def members(self, index: Index) -> int:
        found = 0
        for part in self.parts:
            found |= part.members(index)
        return found

    def terms(self) -> Iterator[Term]:
        return _terms(self.parts)

    def with_prefix(self, prefix: str) -> Selector:
        parts = []
        for part in self.parts:
            parts.append(part.with_prefix(prefix))
        return Or(tuple(parts))

    def __str__(self) -> str:
        return _text(self)


ALL: Selector = All()
NOTHING: Selector = Not(ALL)
"""`!all()`"""


def all_of(*selectors: Selector) -> Selector:
    """What matches every one of them; ALL of none."""
    parts: list[Selector] = []
    for item in selectors:
        if isinstance(item, And):
            parts.extend(item.parts)
        elif _is_nothing(item):
            return NOTHING
        elif not isinstance(item, All):
            parts.append(item)
    if len(parts) < 2:
        return parts[0] if parts else ALL
    return And(tuple(parts))


def any_of(*selectors: Selector) -> Selector:
    """What matches one of them at least; `!all()` of none."""
    parts: list[Selector] = []
    for item in selectors:
        if isinstance(item, Or):
            parts.extend(item.parts)
        elif isinstance(item, All):
            return ALL
        elif not _is_nothing(item):
            parts.append(item)
    if len(parts) < 2:
        return parts[0] if parts else NOTHING
    return Or(tuple(parts))


def negated(selector: Selector) -> Selector:
    """What matches where `selector` does not."""
    return selector.inner if isinstance(selector, Not) else Not(selector)


def prefixed(selector: Selector, prefix: str) -> Selector:
    """Every key with `prefix` before it: so Calico looks at the labels of an endpoint's namespace (`pcns.`) and of its
    service account (`pcsa.`)."""
    return selector.with_prefix(prefix)


def select(selector: Selector, index: Index) -> int:
    """The members of `index` that the selector matches."""
    return selector.members(index)


def quoted(text: str) -> str:
    """As a string of the grammar, which has no escapes: a text with both kinds of quotes cannot be said in it (and is
    no label's value either)."""
    return f"'{text}'" if '"' in text else f'"{text}"'


def _is_nothing(selector: Selector) -> bool:
    return isinstance(selector, Not) and isinstance(selector.inner, All)


def _set(values: Iterable[str]) -> str:
    return "{" + ", ".join([quoted(value) for value in sorted(values)]) + "}"


def _same(one: Selector, other: Selector) -> bool:
    stack = [(one, other)]
    while stack:
        a, b = stack.pop()
        if a is b:
            continue
        if type(a) is not type(b):
            return False
        if isinstance(a, Not) and isinstance(b, Not):
            stack.append((a.inner, b.inner))
        elif isinstance(a, And | Or) and isinstance(b, And | Or):
            if len(a.parts) != len(b.parts):
                return False
            stack.extend(zip(a.parts, b.parts, strict=True))
        elif a != b:
            return False
    return True


def _text(selector: Selector) -> str:
    """The text of a whole tree, by a stack of its own: what is parsed however deep is also printed."""
    pieces: list[str] = []
    stack: list[Selector | str] = [selector]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            pieces.append(item)
        elif isinstance(item, Not):
            pieces.append("!")
            _push(stack, item.inner, 2)
        elif isinstance(item, And | Or):
            mark = " && " if isinstance(item, And) else " || "
            for number, part in enumerate(reversed(item.parts)):
                if number:
                    stack.append(mark)
                _push(stack, part, item.binding + 1)
        else:
            pieces.append(str(item))
    return "".join(pieces)


def _push(stack: list[Selector | str], selector: Selector, binding: int) -> None:
    """With parentheses where it binds less tightly than `binding`."""
    stack.extend([selector] if selector.binding >= binding else [")", selector, "("])


def _terms(parts: Iterable[Selector]) -> Iterator[Term]:
    for part in parts:
        yield from part.terms()


def _any_pair(index: Index, key: str, values: Iterable[str]) -> int:
    return _union(index.pair(key, value) for value in values)


def _union(sets: Iterable[int]) -> int:
    found = 0
    for item in sets:
        found |= item
    return found
