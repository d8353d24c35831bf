"""Reads Fluentd's configuration format (v1) into `config.Element`s, with the place of each parameter.

It follows Fluentd's own parser where people are surprised by it: ` #` starts a comment in a bare value,
the last of two equal keys counts, a missing value is an empty text, and in single quotes only `\\'` and
`\\\\` are escapes. https://github.com/fluent/fluentd/blob/v1.16.5/lib/fluent/config/v1_parser.rb
"""

from __future__ import annotations

import json
import re

from pilothouse.collectors.logging.config import INCLUDE, Element, Param
from pilothouse.problems import Place, Problem, error
from pilothouse.source import Source

_OPEN = re.compile(r"<([A-Za-z0-9_]+)(?:[ \t]+([^\r\n]*?))?[ \t]*>[ \t]*(?:#[^\r\n]*)?(?=\r?\n|\Z)")
_CLOSE = re.compile(r"</([A-Za-z0-9_]+)>[ \t]*(?:#[^\r\n]*)?(?=\r?\n|\Z)")
_KEY = re.compile(r"[^\s#\"'<>][^\s#]*")
_LINE_END = re.compile(r"[ \t]*(?:#[^\r\n]*)?(?=\r?\n|\Z)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "b": "\b", "0": "\0", '"': '"', "'": "'", "\\": "\\"}
MAX_DEPTH = 50


class _Refused(Exception):
    def __init__(self, message: str, at: int, hint: str) -> None:
        super().__init__(message)
        self.message, self.at, self.hint = message, at, hint


def parse(source: Source) -> tuple[Element, tuple[Problem, ...]]:
    """The file as a ROOT element. A syntax error is one problem, and the element is then empty."""
    scanner = _Scanner(source)
    try:
        return scanner.body("ROOT", "", 0, 0), ()
    except _Refused as refused:
        problem = error("logging/syntax", refused.message, scanner.place(refused.at), refused.hint)
        return Element("ROOT"), (problem,)


class _Scanner:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = source.text
        self.at = 0
        self.starts = [0, *(match.end() for match in re.finditer(r"\n", source.text))]

    def place(self, at: int, width: int = 1) -> Place:
        low, high = 0, len(self.starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.starts[middle] <= at else (low, middle)
        return self.source.place(low + 1, at - self.starts[low] + 1, width)

    def skip(self) -> None:
        """Over blanks, line ends and comments."""
        while self.at < len(self.text):
            if self.text[self.at].isspace():
                self.at += 1
            elif self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return

    def body(self, name: str, argument: str, start: int, depth: int) -> Element:
        if depth > MAX_DEPTH:
            raise _Refused(f"elements are nested more than {MAX_DEPTH} deep", start, "close an element that is open")
        params: list[Param] = []
        children: list[Element] = []
        while True:
            self.skip()
            if self.at >= len(self.text):
                if name != "ROOT":
                    raise _Refused(f"<{name}> is never closed", start, f"add </{name}>")
                break
            here = self.at
            if self.text.startswith("</", here):
                closing = _CLOSE.match(self.text, here)
                if not closing:
                    raise _Refused("a closing tag must stand alone on its line", here, "write it as </name>")
                if closing[1] != name:
                    wanted = f"</{name}>" if name != "ROOT" else "no closing tag"
                    raise _Refused(f"</{closing[1]}> closes nothing here", here, f"expected {wanted}")
                self.at = closing.end()
                break
            if self.text[here] == "<":
                opening = _OPEN.match(self.text, here)
                if not opening:
                    raise _Refused("not an element", here, "write <name argument> and nothing after it on the line")
                self.at = opening.end()
                children.append(self.body(opening[1], opening[2] or "", here, depth + 1))
                continue
            param = self.param()
            if param.key == INCLUDE:
                children.append(Element(INCLUDE, param.value, place=param.place))
            else:
                params.append(param)
        return Element(name, argument, tuple(params), tuple(children), place=self.place(start, len(name) + 2))

    def param(self) -> Param:
        here = self.at
        key = _KEY.match(self.text, here)
        if not key:
            raise _Refused(f"a parameter cannot start with {self.text[here]}", here, "write `key value` on a line")
        self.at = key.end()
        blank = re.compile(r"[ \t]*").match(self.text, self.at)
        self.at = blank.end() if blank else self.at
        place = self.place(here, len(key[0]))
        if self.at >= len(self.text) or self.text[self.at] in "\r\n#":
            self.line_end()
            return Param(key[0], "", place=place)
        first = self.text[self.at]
        ruby = False
        if first == "'":
            value = self.single()
        elif first == '"':
            value, ruby = self.double()
        elif first in "[{" and key[0] != INCLUDE:
            value = self.json()
        else:
            return Param(key[0], self.bare(), place=place)
        self.line_end()
        return Param(key[0], value, ruby, place)

    def line_end(self) -> None:
        end = _LINE_END.match(self.text, self.at)
        if not end:
            raise _Refused("something follows the value on its line", self.at, "quote the whole value")
        self.at = end.end()

    def bare(self) -> str:
        end = re.compile(r"[ \t]#|\r?\n|\Z").search(self.text, self.at)
        assert end is not None  # \Z always matches
        value = self.text[self.at : end.start()]
        self.at = end.start()
        self.line_end()
        return value.strip()

    def single(self) -> str:
        start = self.at
        self.at += 1
        out: list[str] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "\\" and self.text[self.at + 1 : self.at + 2] in ("'", "\\"):
                out.append(self.text[self.at + 1])
                self.at += 2
            elif char == "'":
                self.at += 1
                return "".join(out)
            else:
                out.append(char)
                self.at += 1
        raise _Refused("the quote is never closed", start, "add the closing '")

    def double(self) -> tuple[str, bool]:
        start = self.at
        self.at += 1
        out: list[str] = []
        ruby = False
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "\\":
                following = self.text[self.at + 1 : self.at + 2]
                if following == "\n":
                    pass  # a line that is continued
                elif following in _ESCAPES:
                    out.append(_ESCAPES[following])
                elif following.isalnum():
                    raise _Refused(f"\\{following} is no escape in double quotes", self.at, "use single quotes")
                else:
                    out.append(following)
                self.at += 2
            elif char == '"':
                self.at += 1
                return "".join(out), ruby
            elif self.text.startswith("#{", self.at):
                end = self.text.find("}", self.at)
                if end < 0:
                    break
                ruby = True
                out.append(self.text[self.at : end + 1])
                self.at = end + 1
            else:
                out.append(char)
                self.at += 1
        raise _Refused("the quote is never closed", start, 'add the closing "')

    def json(self) -> str:
        """JSON over as many lines as it needs, with comments between the items; its own text on one line."""
        start = self.at
        depth = 0
        out: list[str] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                string = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL).match(self.text, self.at)
                if not string:
                    break
                out.append(string[0])
                self.at = string.end()
                continue
            if char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
                continue
            depth += (char in "[{") - (char in "]}")
            out.append(char)
            self.at += 1
            if depth == 0:
                break
        raw = "".join(out)
        try:
            return json.dumps(json.loads(raw), ensure_ascii=False)
        except (ValueError, RecursionError) as failure:
            raise _Refused(
                "a value that starts with [ or { must be JSON", start, f"quote it if it is text ({failure})"
            ) from failure
