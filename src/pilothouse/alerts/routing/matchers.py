"""Matchers, read as Alertmanager reads them.

Up to 0.26 there is one grammar, here called classic. From 0.27 the UTF-8 grammar
is tried as well: where only one of them accepts the text, that one counts; where both accept
and disagree, classic counts.
https://prometheus.io/docs/alerting/latest/configuration/#label-matchers
"""

from __future__ import annotations

import contextlib
import re

from pilothouse.alerts.routing.model import Matcher, Matchers, MatchOp
from pilothouse.alerts.routing.regex import BadPattern, compile_pattern

UTF8_SINCE = (0, 27)

_CLASSIC = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|=|!=|!~)\s*(.*?)\s*\Z", re.DOTALL | re.ASCII)
_TOKEN = re.compile(r"""\s*(?:(=~|!=|!~|[={},])|("(?:[^"\\]|\\.)*")|([^\s{}!=~,\\"'`]+))""", re.DOTALL)


class BadMatcher(ValueError):
    """The text is no matcher; the message says why."""


def parse(text: str, version: tuple[int, ...] = UTF8_SINCE) -> Matchers:
    """The matchers of one line of `matchers:`; raises `BadMatcher`."""
    if version < UTF8_SINCE:
        return classic(text)
    new = old = None
    failure = None
    # Where the new grammar fails, only the classic one can still take it; its complaint is what Alertmanager prints.
    with contextlib.suppress(BadMatcher):
        new = utf8(text)
    try:
        old = classic(text)
    except BadMatcher as error:
        failure = error
    if new is None:
        if old is None:
            raise failure or BadMatcher(text)
        return old
    return new if old is None or old == new else old


def make(name: str, op: str, value: str) -> Matcher:
    """A matcher whose expression compiles; raises `BadMatcher`."""
    matcher = Matcher(name, MatchOp(op), value)
    if matcher.op in (MatchOp.REGEX, MatchOp.NOT_REGEX):
        try:
            compile_pattern(value)
        except BadPattern as failure:
            raise BadMatcher(f"bad regular expression `{value}`: {failure}") from None
    return matcher


def classic(text: str) -> Matchers:
    """The grammar of all releases: names of letters, digits, `_` and `:`; quotes around a value are optional."""
    return tuple(_classic_one(part) for part in _split(text.removeprefix("{").removesuffix("}")))


def _split(text: str) -> list[str]:
    parts: list[str] = []
    part = ""
    quoted = escaped = False
    for char in text:
        if char == "," and not quoted:
            parts.append(part)
            part = ""
            continue
        if char == '"':
            if not escaped:
                quoted = not quoted
            escaped = False
        elif char == "\\":
            escaped = not escaped
        else:
            escaped = False
        part += char
    if part.strip():
        parts.append(part.strip())
    return parts


def _classic_one(text: str) -> Matcher:
    found = _CLASSIC.match(text)
    if not found:
        raise BadMatcher(f"bad matcher format: {text}")
    name, op, raw = found.groups()
    open_quote = raw.startswith('"')
    body = raw[1:] if open_quote else raw
    value = ""
    index = 0
    while index < len(body):
        char = body[index]
        last = index == len(body) - 1
        if char == "\\" and not last:
            index += 1
            after = body[index]
            value += {"n": "\n", '"': '"', "\\": "\\"}.get(after, "\\" + after)
        elif char == '"':
            if not open_quote or not last:
                raise BadMatcher(f"matcher value contains unescaped double quote: {raw}")
            open_quote = False
        else:
            value += char
        index += 1
    if open_quote:
        raise BadMatcher(f"matcher value contains unescaped double quote: {raw}")
    return make(name, op, value)


def utf8(text: str) -> Matchers:
    """The grammar since 0.27: any UTF-8 in quoted names and values, braces around all or none, a last comma allowed."""
    tokens = _tokens(text)
    braced = bool(tokens) and tokens[0] == ("{", "")
    if braced:
        if tokens[-1] != ("}", "") or len(tokens) < 2:
            raise BadMatcher(f"expected close brace: {text}")
        tokens = tokens[1:-1]
    found: list[Matcher] = []
    at = 0
    while at < len(tokens):
        name, op, value = (tokens[at : at + 3] + [("", "")] * 3)[:3]
        if name[0] != "word" or op[0] not in ("=", "!=", "=~", "!~") or value[0] != "word":
            raise BadMatcher(f"expected `name operator value` in {text}")
        found.append(make(name[1], op[0], value[1]))
        at += 3
        if at < len(tokens):
            if tokens[at][0] != ",":
                raise BadMatcher(f"expected a comma or close brace in {text}")
            at += 1
    return tuple(found)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if not found:
            raise BadMatcher(f"unexpected {text[at:].strip()[0]!r} in {text}")
        sign, quoted, plain = found.groups()
        tokens.append((sign, "") if sign else ("word", _unquote(quoted) if quoted else plain))
        at = found.end()
    return tokens


_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_PLAIN = dict(zip(b'abfnrtv\\"', b'\a\b\f\n\r\t\v\\"', strict=True))


def _unquote(quoted: str) -> str:
    """A string literal as Go writes it: https://go.dev/ref/spec#String_literals"""
    if "\n" in quoted:
        raise BadMatcher("a quoted text runs over the end of its line")
    try:
        return _ESCAPE.sub(_unescape, quoted[1:-1].encode()).decode()
    except (ValueError, OverflowError):
        raise BadMatcher(f"invalid quoted text {quoted}") from None


def _unescape(found: re.Match[bytes]) -> bytes:
    code = found[1]
    if len(code) == 1:
        if code[0] not in _PLAIN:
            raise ValueError(code)
        return bytes((_PLAIN[code[0]],))
    match code[:1]:
        case b"x":
            return bytes((int(code[1:], 16),))
        case b"u" | b"U":
            return chr(int(code[1:], 16)).encode()
        case _:
            return bytes((int(code, 8),))
