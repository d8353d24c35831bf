"""Questions about all label sets there could be, answered exactly.

Every test concerns one label, so that what a set of tests leaves of each label is decided for itself (`values`); the
search over `&&`, `||` and `!` is that of Davis, Putnam, Logemann and Loveland: settle what follows, try the simplest
open choice, go back. Conjunctions, which nearly all selectors are, need no choice at all.

The label sets are those that Kubernetes and Calico can hold: values as in `values`, at most 63 characters long, or 253
for the labels that Calico makes of names (https://github.com/projectcalico/calico/issues/4529). A test that no such
value passes is false. Keys are free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from pilothouse.policies.selectors.tree import (
    All,
    And,
    Contains,
    EndsWith,
    Equal,
    Has,
    In,
    Not,
    NotEqual,
    NotIn,
    Or,
    Selector,
    StartsWith,
)
from pilothouse.policies.selectors.values import NAME, ORDINARY, Claim, Kind, Label, Test, TooComplex

__all__ = [
    "MAX_REGIONS",
    "TooComplex",
    "TooManyRegions",
    "disjoint",
    "equivalent",
    "example",
    "implies",
    "regions",
    "satisfiable",
]

MAX_REGIONS = 10_000
_MAX_WORK = 1_000_000
"""Looks at a test within one question: some seconds. Only made-up selectors need more."""
_NAMES = ("projectcalico.org/name", "projectcalico.org/serviceaccount")

Labels = Mapping[str, str]
Known = Mapping[str, Label]


class TooManyRegions(TooComplex):
    """The selectors tell apart more regions than the limit."""


def example(include: Sequence[Selector], exclude: Sequence[Selector] = ()) -> Labels | None:
    """Labels, in order of their keys, that match all of `include` and none of `exclude`; None if there are none.

    None of the labels can be left out, and values are as short as may be. Errors: TooComplex.
    """
    problem = _Problem().with_nodes(
        [*(_node(item, True) for item in include), *(_node(item, False) for item in exclude)]
    )
    found = None if problem is None else problem.solve(_Work(_MAX_WORK))
    if problem is None or found is None:
        return None
    for key in sorted(found.keys() - problem.labels().keys()):  # only what a choice brought in can be left out
        fewer = {name: value for name, value in found.items() if name != key}
        if all(item.matches(fewer) for item in include) and not any(item.matches(fewer) for item in exclude):
            found = fewer
    return dict(sorted(found.items()))


def satisfiable(*selectors: Selector) -> bool:
    """Whether some labels match all of them."""
    return example(selectors) is not None


def implies(one: Selector, other: Selector) -> bool:
    """Whether all labels that match `one` match `other`."""
    return one == other or example((one,), (other,)) is None


def equivalent(one: Selector, other: Selector) -> bool:
    """Whether they match the same labels."""
    return implies(one, other) and implies(other, one)


def disjoint(one: Selector, other: Selector) -> bool:
    """Whether no labels match both."""
    return example((one, other)) is None


def regions(selectors: Iterable[Selector], limit: int = MAX_REGIONS) -> Iterator[Labels]:
    """One label set for every combination of the selectors' answers that occurs, that of no labels first.

    Errors: TooManyRegions once there are more than `limit`, TooComplex.
    """
    pairs = [(_node(item, True), _node(item, False)) for item in dict.fromkeys(selectors)]
    given = 0
    work = _Work(10 * _MAX_WORK)
    stack: list[tuple[int, _Problem, Labels]] = [(0, _Problem(), {})]
    while stack:
        depth, problem, labels = stack.pop()
        while depth < len(pairs) and problem.verdict(pairs[depth][0]) is not None:
            depth += 1
        if depth == len(pairs):
            given += 1
            if given > limit:
                raise TooManyRegions(f"{len(pairs)} selectors tell apart more than {limit} kinds of label sets")
            yield dict(sorted(labels.items()))
            continue
        yes, no = pairs[depth]
        agreeing, opposite = (yes, no) if yes.holds(labels) else (no, yes)
        for node, known in ((opposite, None), (agreeing, labels)):
            settled = problem.with_nodes([node])
            found = known if known is not None or settled is None else settled.solve(work)
            if settled is not None and found is not None:
                stack.append((depth + 1, settled, found))


# ---------------------------------------------------------------- formulas


class _Node:
    """A formula without negations: those stand in its tests."""

    __slots__ = ()

    def holds(self, labels: Labels) -> bool:
        raise NotImplementedError

    def verdict(self, known: Known) -> bool | None:
        """Whether it must hold (True) or cannot (False), as far as its parts say one by one."""
        raise NotImplementedError

    def keys(self) -> Iterator[str]:
        raise NotImplementedError

    def needs(self, labels: Labels) -> int:
        """How many labels that are not there it asks for, roughly: simple choices are tried first."""
        raise NotImplementedError


class _Literal(_Node):
    __slots__ = ("key", "positive", "test")

    def __init__(self, key: str, test: Test, positive: bool) -> None:
        self.key, self.test, self.positive = key, test, positive

    def holds(self, labels: Labels) -> bool:
        value = labels.get(self.key)
        return (value is not None and self.test.passes(value)) is self.positive

    def verdict(self, known: Known) -> bool | None:
        found = _label(known, self.key).verdict(self.test)
        return None if found is None else found is self.positive

    def keys(self) -> Iterator[str]:
        yield self.key

    def needs(self, labels: Labels) -> int:
        return int(self.positive and self.key not in labels)


class _Every(_Node):
    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[_Node]) -> None:
        self.parts = parts

    def holds(self, labels: Labels) -> bool:
        for part in self.parts:  # noqa: SIM110  # half the frames of `all()` in a deep formula
            if not part.holds(labels):
                return False
        return True

    def verdict(self, known: Known) -> bool | None:
        found: bool | None = True
        for part in self.parts:
            verdict = part.verdict(known)
            if verdict is False:
                return False
            if verdict is None:
                found = None
        return found

    def keys(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.keys()

    def needs(self, labels: Labels) -> int:
        return sum([part.needs(labels) for part in self.parts])


class _Some(_Node):
    __slots__ = ("_keys", "parts")

    def __init__(self, parts: Sequence[_Node]) -> None:
        self.parts = parts
        self._keys: frozenset[str] | None = None

    def holds(self, labels: Labels) -> bool:
        for part in self.parts:  # noqa: SIM110
            if part.holds(labels):
                return True
        return False

    def verdict(self, known: Known) -> bool | None:
        found: bool | None = False
        for part in self.parts:
            verdict = part.verdict(known)
            if verdict is True:
                return True
            if verdict is None:
                found = None
        return found

    def keys(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.keys()

    def needs(self, labels: Labels) -> int:
        return min([part.needs(labels) for part in self.parts], default=0)

    def concerns(self, keys: set[str]) -> bool:
        if self._keys is None:
            self._keys = frozenset(self.keys())
        return not self._keys.isdisjoint(keys)

    def open_parts(self, known: Known) -> list[_Node] | None:
        """The parts that may still hold; None if one must."""
        left = []
        for part in self.parts:
            verdict = part.verdict(known)
            if verdict is True:
                return None
            if verdict is None:
                left.append(part)
        return left


def _node(selector: Selector, positive: bool) -> _Node:
    """That the selector matches, or does not."""
    match selector:
        case All():
            return _Every(()) if positive else _Some(())
        case Has(key):
            return _Literal(key, Test(Kind.HAS), positive)
        case Equal(key, value):
            return _Literal(key, Test(Kind.IN, frozenset({value})), positive)
        case NotEqual(key, value):
            return _Literal(key, Test(Kind.IN, frozenset({value})), not positive)
        case In(key, values):
            return _Literal(key, Test(Kind.IN, values), positive)
        case NotIn(key, values):
            return _Literal(key, Test(Kind.IN, values), not positive)
        case Contains(key, text):
            return _Literal(key, Test(Kind.CONTAINS, text=text), positive)
        case StartsWith(key, text):
            return _Literal(key, Test(Kind.STARTS, text=text), positive)
        case EndsWith(key, text):
            return _Literal(key, Test(Kind.ENDS, text=text), positive)
        case Not(inner):
            return _node(inner, not positive)
        case And(parts) | Or(parts):
            nodes = []
            for part in parts:  # no frames of comprehensions in a deep tree
                nodes.append(_node(part, positive))
            return _Every(nodes) if isinstance(selector, And) is positive else _Some(_merged(nodes))
    raise TypeError(f"no known selector: {selector!r}")


def _merged(parts: Iterable[_Node]) -> list[_Node]:
    """The alternatives without choices within choices, and with one for all values of a key, however many name one."""
    found: list[_Node] = []
    values: dict[str, set[str]] = {}
    for part in chain.from_iterable(part.parts if isinstance(part, _Some) else (part,) for part in parts):
        if isinstance(part, _Literal) and part.positive and part.test.kind is Kind.IN:
            values.setdefault(part.key, set()).update(part.test.values)
        else:
            found.append(part)
    return [*(_Literal(key, Test(Kind.IN, frozenset(items)), True) for key, items in values.items()), *found]


def _label(known: Known, key: str) -> Label:
    found = known.get(key)
    if found is not None:
        return found
    return _NAMED if key.endswith(_NAMES) else _ANY


_ANY = Label(ORDINARY)
_NAMED = Label(NAME)


# ---------------------------------------------------------------- search


class _Work:
    """How much may still be looked at."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise TooComplex("the selectors leave too many choices to be decided")


class _Problem:
    """What is known of each label, and the choices that are open."""

    __slots__ = ("clauses", "known")

    def __init__(self, known: Known | None = None, clauses: Sequence[_Some] = ()) -> None:
        self.known: Known = known or {}
        self.clauses = clauses

    def verdict(self, node: _Node) -> bool | None:
        return node.verdict(self.known)

    def with_nodes(self, nodes: Sequence[_Node]) -> _Problem | None:
        """With these too, and all that follows at once; None if that is a contradiction."""
        known = dict(self.known)
        kept: list[_Some] = list(self.clauses)
        fresh: list[_Node] = list(nodes)
        while fresh:
            claims, new = _flat(fresh)
            changed = _narrow(known, claims)
            if changed is None:
                return None
            fresh = []
            clauses, kept = kept, []
            for clause in clauses:
                if changed and clause.concerns(changed):
                    new.append(clause)
                else:
                    kept.append(clause)
            for clause in new:
                parts = clause.open_parts(known)
                if parts is None:
                    continue
                if not parts:
                    return None
                if len(parts) == 1:
                    fresh.append(parts[0])
                else:
                    kept.append(clause if len(parts) == len(clause.parts) else _Some(parts))
        return _Problem(known, kept)

    def labels(self) -> dict[str, str]:
        """The labels that must be there, each with its shortest value."""
        found = {}
        for key, label in self.known.items():
            value = None if label.absent else label.example()
            if value is not None:
                found[key] = value
        return found

    def solve(self, work: _Work) -> dict[str, str] | None:
        """Labels that meet everything, or None. Errors: TooComplex."""
        stack: list[tuple[_Problem, Sequence[_Node]]] = [(self, ())]
        while stack:
            given, nodes = stack.pop()
            problem = given.with_nodes(nodes) if nodes else given
            work.spend(1 + sum([len(clause.parts) for clause in given.clauses]))
            if problem is None:
                continue
            labels = problem.labels()
            unmet = [clause for clause in problem.clauses if not clause.holds(labels)]
            if not unmet:
                return labels
            clause = min(unmet, key=lambda item: len(item.parts))
            first = min(clause.parts, key=lambda part: part.needs(labels))
            others = _Some([part for part in clause.parts if part is not first])
            opposite = [_Literal(first.key, first.test, not first.positive)] if isinstance(first, _Literal) else []
            # The clause itself is done with either way, so that every choice leaves less to choose.
            rest = _Problem(problem.known, [item for item in problem.clauses if item is not clause])
            stack.append((rest, [others, *opposite]))
            stack.append((rest, [first]))
        return None


def _flat(nodes: Sequence[_Node]) -> tuple[dict[str, list[Claim]], list[_Some]]:
    """What these say of single labels, and their choices."""
    claims: dict[str, list[Claim]] = {}
    choices: list[_Some] = []
    stack = list(reversed(nodes))
    while stack:
        node = stack.pop()
        if isinstance(node, _Literal):
            claims.setdefault(node.key, []).append((node.test, node.positive))
        elif isinstance(node, _Every):
            stack.extend(reversed(node.parts))
        elif isinstance(node, _Some):
            choices.append(node)
    return claims, choices


def _narrow(known: dict[str, Label], claims: Mapping[str, Sequence[Claim]]) -> set[str] | None:
    """The keys of which something new is known; None if one of them can neither be absent nor have a value."""
    changed = set()
    for key, said in claims.items():
        before = _label(known, key)
        after = before.narrowed(said)
        if not after.possible:
            return None
        if after != before:
            changed.add(key)
        known[key] = after
    return changed
