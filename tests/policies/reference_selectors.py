"""Selectors of the reference evaluator: Calico's expressions and Kubernetes' LabelSelector.

An expression is parsed into a nest of plain functions of a label mapping. The grammar is the one of
https://docs.tigera.io/calico/latest/reference/resources/networkpolicy#selectors: `!` binds closest, then `&&`, then
`||`; an empty expression is `all()`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

Labels = Mapping[str, str]
Test = Callable[[Labels], bool]

_TOKEN = re.compile(
    r"""[ \t]*(?:
      (?P<string>'[^']*'|"[^"]*")
    | (?P<sign>&&|\|\||==|!=|[!(){},])
    | (?P<call>has|all|global)\([ \t]*(?P<argument>[A-Za-z0-9_./-]*)[ \t]*\)
    | (?P<word>[A-Za-z0-9_./-]+)
    )""",
    re.VERBOSE,
)


def selects(expression: str, labels: Labels, prefix: str = "", everything: str = "") -> bool:
    """Whether the Calico expression holds for the labels.

    `prefix` goes before each label name: `pcns.` in a namespaceSelector, `pcsa.` in a selector of service accounts.
    `everything` is a label that `all()` asks for, and whose absence `global()` asks for; "" for none.
    """
    return parse(expression, prefix, everything)(labels)


@cache
def parse(expression: str, prefix: str = "", everything: str = "") -> Test:
    """Raises ValueError for what is not an expression."""
    tokens = _tokens(expression)
    if not tokens:
        return _all(everything)
    parser = _Parser(tokens, prefix, everything)
    test = parser.either()
    if parser.position != len(tokens):
        raise ValueError(f"selector {expression!r}: something is left over at its end")
    return test


def _tokens(expression: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    rest = expression.rstrip(" \t")
    position = 0
    while position < len(rest):
        found = _TOKEN.match(rest, position)
        if found is None:
            raise ValueError(f"selector {expression!r}: cannot read {rest[position:]!r}")
        position = found.end()
        if found["string"] is not None:
            tokens.append(("string", found["string"][1:-1]))
        elif found["sign"] is not None:
            tokens.append((found["sign"], ""))
        elif found["call"] is not None:
            if (found["call"] == "has") != (found["argument"] != ""):
                raise ValueError(f"selector {expression!r}: {found['call']}() has the wrong argument")
            tokens.append((found["call"], found["argument"]))
        else:
            tokens.append(("word", found["word"]))
    return tokens


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], prefix: str, everything: str) -> None:
        self.tokens, self.prefix, self.everything, self.position = tokens, prefix, everything, 0

    def next_is(self, kind: str, value: str = "") -> bool:
        return self.position < len(self.tokens) and self.tokens[self.position] == (kind, value)

    def take(self, *kinds: str) -> tuple[str, str]:
        if self.position == len(self.tokens) or self.tokens[self.position][0] not in kinds:
            raise ValueError(f"selector: expected one of {kinds} at token {self.position} of {self.tokens}")
        self.position += 1
        return self.tokens[self.position - 1]

    def either(self) -> Test:
        tests = [self.both()]
        while self.next_is("||"):
            self.position += 1
            tests.append(self.both())
        return lambda labels: any(test(labels) for test in tests)

    def both(self) -> Test:
        tests = [self.single()]
        while self.next_is("&&"):
            self.position += 1
            tests.append(self.single())
        return lambda labels: all(test(labels) for test in tests)

    def single(self) -> Test:
        if self.next_is("!"):
            self.position += 1
            inner = self.single()
            return lambda labels: not inner(labels)
        kind, value = self.take("(", "has", "all", "global", "word")
        if kind == "(":
            inner = self.either()
            self.take(")")
            return inner
        if kind == "has":
            name = self.prefix + value
            return lambda labels: name in labels
        if kind == "all":
            return _all(self.everything)
        if kind == "global":
            named = _all(self.everything)
            return lambda labels: not named(labels)
        return self.comparison(self.prefix + value)

    def comparison(self, name: str) -> Test:
        sign, word = self.take("==", "!=", "word")
        if sign == "==":
            wanted = self.take("string")[1]
            return lambda labels: labels.get(name) == wanted
        if sign == "!=":
            unwanted = self.take("string")[1]
            return lambda labels: labels.get(name) != unwanted
        if word in ("starts", "ends", "not"):  # two words, which may also be written as one
            word += self.take("word")[1]
        if word == "in":
            members = self.members()
            return lambda labels: name in labels and labels[name] in members
        if word == "notin":
            members = self.members()
            return lambda labels: name not in labels or labels[name] not in members
        part = self.take("string")[1]
        if word == "contains":
            return lambda labels: name in labels and part in labels[name]
        if word == "startswith":
            return lambda labels: name in labels and labels[name].startswith(part)
        if word == "endswith":
            return lambda labels: name in labels and labels[name].endswith(part)
        raise ValueError(f"selector: no operator {word!r}")

    def members(self) -> list[str]:
        self.take("{")
        members = []
        while not self.next_is("}"):
            members.append(self.take("string")[1])
            if not self.next_is("}"):
                self.take(",")
        self.take("}")
        return members


def _all(everything: str) -> Test:
    return lambda labels: everything == "" or everything in labels


def label_selector(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Whether a Kubernetes LabelSelector holds: all of its terms; an empty one holds for everything.

    https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#resources-that-support-set-based-requirements
    """
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or []:
        key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
        if operator == "In" and not (key in labels and labels[key] in values):
            return False
        if operator == "NotIn" and key in labels and labels[key] in values:
            return False
        if operator == "Exists" and key not in labels:
            return False
        if operator == "DoesNotExist" and key in labels:
            return False
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            raise ValueError(f"no operator {operator!r} in a LabelSelector")
    return True
