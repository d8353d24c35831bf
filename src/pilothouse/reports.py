"""Problems on paper: text with a caret under the place, JSON, and SARIF for code hosts and editors.

Pure: problems in, text out. The page of a code is `docs/problems/<area>/<slug>.md`.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from pilothouse.problems import Place, Problem, Severity, ordered

_TAB = 4
_WIDTH = 160
"""Source lines are shown up to this many columns; a longer one is cut around the caret."""

_STYLE = {Severity.ERROR: "31;1", Severity.WARNING: "33;1", Severity.INFO: "36;1"}
_LEVEL = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def to_text(problems: Iterable[Problem], color: bool = False, total: bool = True) -> str:
    """The problems by file, each with its line and a caret, and with `total` a summary; "" when there are none."""
    found = ordered(problems)
    if not found:
        return ""
    paint = _Paint(color)
    blocks: list[str] = []
    for path, group in groupby(found, key=lambda problem: problem.place.path):
        blocks.append(paint("1;4", path) if path else paint("1;4", "the platform as a whole"))
        blocks.extend(_one(problem, paint) for problem in group)
    if total:
        blocks.append(paint("1", summary(found)))
    return "\n\n".join(blocks) + "\n"


def _one(problem: Problem, paint: _Paint) -> str:
    place = problem.place
    where = f"{place}: " if place.path else ""
    lines = [
        f"{where}{paint(_STYLE[problem.severity], problem.severity.value)} {paint('2', f'[{problem.code}]')}"
        f" {_clean(problem.message)}"
    ]
    lines += _excerpt(place, paint, _STYLE[problem.severity])
    if problem.hint:
        lines.append(f"  {paint('32', 'hint:')} {_clean(problem.hint)}")
    lines += [f"  {paint('2', 'see also:')} {other}" for other in problem.related if other.path]
    return "\n".join(lines)


def _excerpt(place: Place, paint: _Paint, style: str) -> list[str]:
    """The line with its number, and the caret below it, in columns of the terminal."""
    if not place.line or not place.excerpt.strip():
        return []
    text, start, end = _columns(place)
    first = max(0, start - _WIDTH // 2) if len_columns(text) > _WIDTH else 0
    shown = _slice(text, first, first + _WIDTH)
    lead = "…" if first else ""
    tail = "…" if first + _WIDTH < len_columns(text) else ""
    number = str(place.line)
    lines = [f"  {paint('2', f'{number} |')} {lead}{shown}{tail}"]
    if place.column:
        offset = start - first + len(lead)
        width = max(1, min(end, first + _WIDTH) - start)
        caret = "^" + "~" * (width - 1)
        lines.append(f"  {paint('2', ' ' * len(number) + ' |')} {' ' * offset}{paint(style, caret)}")
    return lines


def _columns(place: Place) -> tuple[str, int, int]:
    """The line with its tabs written out, and the columns at which the caret starts and ends.

    A column of a `Place` counts characters; on a terminal a tab takes up to four and a CJK character two.
    """
    begin = max(place.column, 1) - 1
    stop = begin + max(place.width, 1)
    text = ""
    start = end = None
    column = 0
    for index, char in enumerate(place.excerpt):
        if index == begin:
            start = column
        if index == stop:
            end = column
        piece = " " * (_TAB - column % _TAB) if char == "\t" else (char if _is_shown(char) else "�")
        text += piece
        column += len_columns(piece)
    return text, column if start is None else start, column if end is None else end


def _is_shown(char: str) -> bool:
    return char.isprintable() or char == "\u200d"


def len_columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(_char_columns(char) for char in text)


def _char_columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _slice(text: str, first: int, last: int) -> str:
    found, column = "", 0
    for char in text:
        if first <= column < last:
            found += char
        column += _char_columns(char)
    return found


def _clean(text: str) -> str:
    """Declared text may hold anything: control characters never reach the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


class _Paint:
    def __init__(self, color: bool) -> None:
        self.color = color

    def __call__(self, style: str, text: str) -> str:
        return f"\033[{style}m{text}\033[0m" if self.color else text


def summary(problems: Iterable[Problem]) -> str:
    """Such as "2 errors, 1 warning in 3 files"; "no problems" when there are none."""
    found = ordered(problems)
    if not found:
        return "no problems"
    counts = Counter(problem.severity for problem in found)
    parts = [plural(counts[severity], _NOUN[severity]) for severity in Severity if counts[severity]]
    files = len({problem.place.path for problem in found if problem.place.path})
    return ", ".join(parts) + (f" in {plural(files, 'file')}" if files else "")


_NOUN = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "finding"}


def plural(count: int, one: str, several: str = "") -> str:
    """ "1 pod", "2 pods"; `several` where it is not just an s more."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def to_data(problems: Iterable[Problem]) -> dict[str, Any]:
    """`{"problems": […], "summary": {"error": n, "warning": n, "info": n}}`, as JSON can hold it."""
    found = ordered(problems)
    counts = Counter(problem.severity for problem in found)
    return {
        "problems": [_plain(problem) for problem in found],
        "summary": {severity.value: counts[severity] for severity in Severity},
    }


def to_json(problems: Iterable[Problem]) -> str:
    """`to_data` as text, ending in a newline."""
    return json.dumps(to_data(problems), indent=2, ensure_ascii=False) + "\n"


def _plain(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "severity": problem.severity.value,
        "message": problem.message,
        "hint": problem.hint,
        "place": _plain_place(problem.place),
        "related": [_plain_place(place) for place in problem.related],
        "teams": list(problem.teams),
        "cluster": problem.cluster,
        "page": f"docs/problems/{problem.code}.md",
    }


def _plain_place(place: Place) -> dict[str, Any] | None:
    if not place.path:
        return None
    return {"path": place.path, "line": place.line, "column": place.column, "width": place.width}


def to_sarif(problems: Iterable[Problem], version: str) -> str:
    """One run in SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html)."""
    found = ordered(problems)
    codes = sorted({problem.code for problem in found})
    rules = {code: index for index, code in enumerate(codes)}
    data = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "pilothouse",
                        "semanticVersion": version,
                        "rules": [{"id": code, "name": _pascal(code)} for code in codes],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(problem, rules) for problem in found],
            }
        ],
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _result(problem: Problem, rules: Mapping[str, int]) -> dict[str, Any]:
    text = problem.message + (f". {problem.hint[0].upper()}{problem.hint[1:]}" if problem.hint else "")
    result: dict[str, Any] = {
        "ruleId": problem.code,
        "ruleIndex": rules[problem.code],
        "level": _LEVEL[problem.severity],
        "message": {"text": text},
    }
    if problem.place.path:
        result["locations"] = [{"physicalLocation": _location(problem.place)}]
    related = [
        {"id": index, "physicalLocation": _location(place)}
        for index, place in enumerate((place for place in problem.related if place.path), 1)
    ]
    if related:
        result["relatedLocations"] = related
    properties = {"teams": list(problem.teams), "cluster": problem.cluster}
    if any(properties.values()):
        result["properties"] = {key: value for key, value in properties.items() if value}
    return result


def _location(place: Place) -> dict[str, Any]:
    from urllib.parse import quote

    location: dict[str, Any] = {"artifactLocation": {"uri": quote(place.path)}}
    if place.line:
        region: dict[str, Any] = {"startLine": place.line}
        if place.column:
            region |= {"startColumn": place.column, "endColumn": place.column + max(place.width, 1)}
        location["region"] = region
    return location


def _pascal(code: str) -> str:
    return "".join(word.capitalize() for word in code.replace("/", "-").split("-"))
