"""Where in an expression, and in which column of its document, a syntax fault lies.

promql-parser names no position, so a small scanner finds it: an unclosed bracket or string, two operands
without an operator between them, or an operator without an operand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from pilothouse.problems import Place

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
    |(?P<number>(?:0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+)[a-zA-Z0-9]*)
    |(?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<operator>==|!=|=~|!~|<=|>=|[-+*/%^<>=,@])|(?P<open>[(\[{])|(?P<close>[)\]}])
    |(?P<broken>.)""",
    re.VERBOSE | re.DOTALL,
)
_PAIRS = {")": "(", "]": "[", "}": "{"}
_BETWEEN = frozenset(("and", "or", "unless", "atan2"))
_GLUE = frozenset(
    (
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "bool",
        "offset",
        "fill",
        "fill_left",
        "fill_right",
    )
)


def _tokens(expr: str) -> Iterator[tuple[str, str, int]]:
    for found in _TOKEN.finditer(expr):
        kind = found.lastgroup or ""
        if kind != "space":
            yield kind, found.group(), found.start()


def fault(expr: str, message: str) -> tuple[int, int, str]:
    """(offset from 0, width, what is wrong there) of the first fault, as well as can be told."""
    open_brackets: list[tuple[str, int]] = []
    operand = False  # whether the last token ended an operand, at the present depth
    last = (0, 1)
    for kind, text, offset in _tokens(expr):
        here = (offset, len(text))
        inside_braces = bool(open_brackets) and open_brackets[-1][0] in "{["
        if kind == "broken":
            return (*here, "a string is not closed" if text in "\"'`" else f"unexpected {text!r}")
        if kind == "open":
            if text == "(" and operand and expr[last[0]] == ")" and _is_operand_after_operand(expr, last):
                return (*here, "an operator is missing before this")
            open_brackets.append((text, offset))
            operand = False
        elif kind == "close":
            if not open_brackets or open_brackets[-1][0] != _PAIRS[text]:
                return (*here, f"this `{text}` closes nothing")
            open_brackets.pop()
            operand = True
        elif inside_braces:
            pass
        elif kind == "operator" or text in _BETWEEN:
            if not operand and text not in "-+":
                return (*here, f"`{text}` has no operand before it")
            operand = False
        elif text in _GLUE:
            operand = False
        else:
            if operand and _is_operand_after_operand(expr, last):
                return (*here, "an operator is missing before this")
            operand = True
        last = here
    if open_brackets:
        bracket, offset = open_brackets[-1]
        return offset, 1, f"this `{bracket}` is never closed"
    if not operand and expr.strip():
        return (*last, "an operand is missing after this")
    return _quoted(expr, message)


def _is_operand_after_operand(expr: str, last: tuple[int, int]) -> bool:
    """`sum by (a) (x)` and `on (a) x` are no mistakes: their bracket belongs to the keyword before it."""
    if expr[last[0]] != ")":
        return True
    depth = 0
    for index in range(last[0], -1, -1):
        depth += (expr[index] == ")") - (expr[index] == "(")
        if depth == 0:
            words = expr[:index].split()
            return not words or words[-1].rpartition(")")[2] not in _GLUE
    return True


def _quoted(expr: str, message: str) -> tuple[int, int, str]:
    """The place of what the message quotes, else the whole first line."""
    for word in sorted(re.findall(r"'([^']+)'|: (\S+)$|for (\S+)$", message), key=lambda found: -max(map(len, found))):
        text = next(filter(None, word))
        if text in expr:
            return expr.index(text), len(text), ""
    return 0, max(1, len(expr.partition("\n")[0])), ""


def within(place: Place, expr: str, offset: int, width: int = 1) -> Place:
    """The place `offset` characters into an expression whose YAML value starts at `place`.

    A value in quotes starts one column later. Where the document's line does not hold the expression as it is (a block
    scalar, escapes), the value's own place is all that is known.
    """
    start = place.column - 1
    if start < 0 or not place.line:
        return place
    lead = 1 if place.excerpt[start : start + 1] in ("'", '"') else 0
    if place.excerpt[start + lead :].startswith(expr[: offset + 1]) and "\n" not in expr[: offset + 1]:
        return replace(place, column=place.column + lead + offset, width=max(1, width))
    return place
