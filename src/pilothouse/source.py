"""Text files read with line and column: YAML that remembers where every value stood.

`load` turns a text into `Node`s (plain Python data plus the place of each key and
value) and problems. Scalars follow the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema):
`yes`, `on` and `2027-01-31` stay strings, as does `22:22`. Duplicate keys are refused.
Aliases are expanded within a budget, so that a small file cannot become a large one.

`validate` holds a node against a pydantic model, and turns each of its complaints
into a problem with a caret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Union, get_args, get_origin

import yaml

from pilothouse.problems import Place, Problem, error, nearest, one_of

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")
Path = tuple[str | int, ...]

MAX_BYTES = 5_000_000
"""A document is written by people; a larger file is taken for a mistake."""
MAX_NODES = 500_000
MAX_DEPTH = 100

_Parser: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class TooDeep(yaml.MarkedYAMLError):
    """More than `MAX_DEPTH` levels."""


class _Guarded:
    """Counts the levels of a text while it is composed.

    PyYAML's composer recurses without a limit, and the C one then ends the whole process: a text of 50 kB
    is enough. It announces each node to the resolver, which counts here; nobody resolves by path.
    """

    depth = 0

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH + 1:
            mark = current_node.start_mark
            raise TooDeep(problem=f"nested more than {MAX_DEPTH} levels deep", problem_mark=mark)

    def ascend_resolver(self) -> None:
        self.depth -= 1


class BaseLoader(_Guarded, _Parser):  # type: ignore[misc]  # which of the two parsers it is, is known at run time only
    """Reads every scalar as text; the C parser where it was built, which is about ten times as fast.

    Tags are never looked at (`scalar` decides by itself).
    """

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        return ""


_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class PlainLoader(_Guarded, _Safe):  # type: ignore[misc]  # as above
    """Makes plain data of what another program wrote, by YAML 1.1 but for dates, which stay text as in JSON.

    A subclass of PyYAML's safe loader: no tag makes anything else. Merge keys (`<<`) are refused: a short text with
    them can stand for more than any memory holds, and no program writes them.
    """

    yaml_implicit_resolvers: ClassVar[Any] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in _Safe.yaml_implicit_resolvers.items()
    }

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "merge keys (`<<`) are not read", key.start_mark)
        super().flatten_mapping(node)


def plain(text: str) -> Any:
    """One YAML document of another program, such as a kubeconfig, as plain data. Raises `yaml.YAMLError`, nothing else.

    Files that people write for pilothouse go through `load`, which keeps places.
    """
    try:
        return yaml.load(text, Loader=PlainLoader)  # noqa: S506  a safe loader, which the rule does not recognise
    except (ValueError, RecursionError) as failure:  # an impossible date or number; a key that holds itself
        raise yaml.YAMLError(str(failure)) from failure


_INT = re.compile(r"[-+]?[0-9]+\Z")
_OCT = re.compile(r"0o[0-7]+\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))


@dataclass(frozen=True)
class Source:
    """A text and where it came from. `path` is what problems print; `origin` is `bundle` or `platform`."""

    path: str
    text: str
    origin: str = "platform"

    def line(self, number: int) -> str:
        """The text of a line, from 1; long lines are cut, because they are only shown."""
        lines = self._lines
        return lines[number - 1][:400] if 0 < number <= len(lines) else ""

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.splitlines()

    def place(self, line: int = 0, column: int = 0, width: int = 1) -> Place:
        """Line and column count from 1."""
        return Place(self.path, line, column, max(1, width), self.line(line))


@dataclass(frozen=True)
class Node:
    """One YAML document: its data, and the mark of every key and value by path.

    A path is the keys and indexes from the root: `("spec", "egress", 0, "to")`.
    """

    source: Source
    data: Any
    values: Mapping[Path, tuple[int, int, int]] = field(repr=False, default_factory=dict)
    keys: Mapping[Path, tuple[int, int, int]] = field(repr=False, default_factory=dict)

    def at(self, *path: str | int) -> Place:
        """The place of the value at that path, or of its nearest known parent."""
        return self._find(path, self.values)

    def key_at(self, *path: str | int) -> Place:
        """The place of the key at that path (of the value, where it has no key)."""
        mark = self.keys.get(path)
        return self.source.place(*mark) if mark else self.at(*path)

    def _find(self, path: Path, marks: Mapping[Path, tuple[int, int, int]]) -> Place:
        while path not in marks and path:
            path = path[:-1]
        return self.source.place(*marks.get(path, (1, 1, 1)))


class _Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


def load(source: Source) -> tuple[list[Node], list[Problem]]:
    """Every document of a text. After a syntax error the documents before it are still returned."""
    if len(source.text) > MAX_BYTES:
        return [], [
            error(
                "source/too-large",
                f"{len(source.text):,} characters are more than a document may have ({MAX_BYTES:,})",
                source.place(),
                "split it into one file per document, or move data that is no declaration elsewhere",
            )
        ]
    nodes: list[Node] = []
    problems: list[Problem] = []
    budget = [MAX_NODES]
    try:
        for root in yaml.compose_all(source.text, Loader=BaseLoader):
            try:
                node = _Builder(source, budget).build(root)
            except _Refused as refused:
                problems.append(refused.problem)
                if budget[0] <= 0:
                    break
                continue
            problems.extend(node[1])
            if node[0].data is not None:
                nodes.append(node[0])
    except TooDeep as failure:
        deep = failure.problem_mark
        place = source.place(deep.line + 1, deep.column + 1) if deep else source.place()
        problems.append(_too_complex(str(failure.problem), place))
    except yaml.MarkedYAMLError as failure:
        mark = failure.problem_mark or failure.context_mark
        place = source.place(mark.line + 1, mark.column + 1) if mark else source.place()
        what = " ".join(part for part in (failure.context, failure.problem) if part)
        problems.append(
            error("source/yaml-syntax", f"not valid YAML: {what}", place, _syntax_hint(source, place, what))
        )
    except (yaml.YAMLError, RecursionError) as failure:
        message = " ".join(str(failure).split())
        problems.append(
            error(
                "source/yaml-syntax",
                f"not valid YAML: {message[:200] or 'nested too deeply'}",
                source.place(),
                "is this a text file in UTF-8?",
            )
        )
    return nodes, problems


def _too_complex(message: str, place: Place) -> Problem:
    hint = (
        "no declaration nests that deep: look for brackets that are never closed, or remove the file from the folder"
        if "nested" in message
        else "write the values out where they are needed, without anchors inside anchors"
    )
    return error("source/too-complex", message, place, hint)


def _syntax_hint(source: Source, place: Place, what: str) -> str:
    line = source.line(place.line)
    if "\t" in line[: max(place.column, 1)]:
        return "indent with spaces: YAML does not allow tabs"
    if "mapping values are not allowed" in what:
        return "quote the value if it contains `: `, or check the indentation of the line above"
    if "alias" in what:
        return "quote a value that starts with `*`"
    return "check the indentation, quotes and brackets at this line and the one above"


class _Builder:
    def __init__(self, source: Source, budget: list[int]) -> None:
        self.source = source
        self.budget = budget
        self.values: dict[Path, tuple[int, int, int]] = {}
        self.keys: dict[Path, tuple[int, int, int]] = {}
        self.problems: list[Problem] = []
        self.open: set[int] = set()

    def build(self, root: yaml.Node) -> tuple[Node, list[Problem]]:
        data = self.value(root, ())
        return Node(self.source, data, self.values, self.keys), self.problems

    def mark(self, node: yaml.Node) -> tuple[int, int, int]:
        start, end = node.start_mark, node.end_mark
        width = end.column - start.column if end.line == start.line else 1
        return (start.line + 1, start.column + 1, max(1, width))

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.budget[0] -= 1
        if self.budget[0] <= 0 or len(path) > MAX_DEPTH:  # aliases may nest what the text does not
            message = (
                "the document is too large once its aliases are written out"
                if self.budget[0] <= 0
                else f"nested more than {MAX_DEPTH} levels deep"
            )
            raise _Refused(_too_complex(message, self.source.place(*self.mark(node))))
        self.values[path] = self.mark(node)
        if isinstance(node, yaml.ScalarNode):
            return scalar(node)
        if id(node) in self.open:
            raise _Refused(
                error(
                    "source/recursive-alias",
                    "an alias contains itself",
                    self.source.place(*self.mark(node)),
                    "remove the alias: a document cannot contain itself",
                )
            )
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self.mapping(node, path)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(
                    error(
                        "source/complex-key",
                        "a key must be a plain string",
                        self.source.place(*self.mark(key_node)),
                        "quote text that starts with `[`, `{` or `?`",
                    )
                )
                continue
            key = key_node.value
            here = (*path, key)
            if key in data:
                first = self.keys[here]
                self.problems.append(
                    error(
                        "source/duplicate-key",
                        f"the key `{key}` stands twice in one mapping",
                        self.source.place(*self.mark(key_node)),
                        f"remove one of them: it is first set at line {first[0]}",
                        related=(self.source.place(*first),),
                    )
                )
                continue
            self.keys[here] = self.mark(key_node)
            data[key] = self.value(value_node, here)
        return data


def scalar(node: yaml.ScalarNode) -> Any:
    """The value of a scalar under the YAML 1.2 core schema; quoted and block scalars are strings."""
    text: str = node.value
    if node.style:  # a plain scalar has None, or '' from the C parser
        return text
    if text in _NULLS:
        return None
    first = text[0]
    if first in "+-.0123456789":
        if _INT.match(text):
            return int(text)
        if _OCT.match(text):
            return int(text[2:], 8)
        if _HEX.match(text):
            return int(text[2:], 16)
        if _FLOAT.match(text):
            return float(text)
    elif first in "tTfF":
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
    return text


# ---------------------------------------------------------------- pydantic at the edge


def validate(
    node: Node, model: type[Model], area: str, at: Path = (), data: Any = None
) -> tuple[Model | None, list[Problem]]:
    """The node's value at `at` as an instance of `model`, or None with every complaint as a problem.

    Codes are `<area>/unknown-field`, `missing-field` and `bad-value`. Validators of the
    model raise `ValueError("message | hint")` to give a hint of their own.
    """
    from pydantic import ValidationError

    if data is None:
        data = node.data
        for part in at:
            data = data[part]
    try:
        return model.model_validate(data), []
    except ValidationError as failure:
        return None, [
            _complaint(node, model, area, at, item) for item in failure.errors(include_url=False, include_context=True)
        ]


def _complaint(node: Node, model: type[BaseModel], area: str, at: Path, item: Any) -> Problem:
    # A location may hold parts that are no keys of the document (names of validators and union members).
    loc: Path = tuple(part for part in item["loc"] if not (isinstance(part, str) and ("[" in part or "(" in part)))
    path = (*at, *loc)
    dotted = _dotted(loc)
    kind = item["type"]
    if kind == "extra_forbidden":
        name = str(loc[-1])
        known = fields_at(model, loc[:-1])
        return error(
            f"{area}/unknown-field",
            f"unknown field `{name}`" + (f" in `{_dotted(loc[:-1])}`" if loc[:-1] else ""),
            node.key_at(*path),
            nearest(name, known) or one_of(known, 12),
        )
    if kind == "missing":
        return error(
            f"{area}/missing-field",
            f"`{dotted}` is missing",
            node.at(*path[:-1]) if len(path) > 1 else node.at(*at),
            f"add `{loc[-1]}`" if loc else "",
        )
    message, _, hint = item["msg"].removeprefix("Value error, ").partition(" | ")
    if kind in ("literal_error", "enum"):
        expected = re.findall(r"'([^']*)'", str(item.get("ctx", {}).get("expected", "")))
        given = str(item.get("input"))
        message = f"{given!r} is not one of {', '.join(expected)}"
        hint = nearest(given, expected)
    elif kind == "string_type" and isinstance(item.get("input"), bool | int | float):
        place = node.at(*path)
        text = place.excerpt[place.column - 1 : place.column - 1 + place.width]
        message, hint = f"{text} is not text", f'quote it: "{text}"'
    elif kind not in ("value_error", "assertion_error"):
        message = message[:1].lower() + message[1:]
    return error(f"{area}/bad-value", f"`{dotted}`: {message}" if dotted else message, node.at(*path), hint)


def _dotted(loc: Path) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


def fields_at(model: Any, loc: Path) -> list[str]:
    """The names of the fields that the model allows at that location (aliases, as documents write them)."""
    from pydantic import BaseModel

    for candidate in _models(model):
        if not loc:
            return [field.alias or name for name, field in candidate.model_fields.items()]
        for name, spec in candidate.model_fields.items():
            if (spec.alias or name) == loc[0]:
                rest = loc[1:]
                annotation = spec.annotation
                while rest and (isinstance(rest[0], int) or not any(True for _ in _models(annotation))):
                    annotation = _inner(annotation, rest[0])
                    rest = rest[1:]
                found = (
                    fields_at(annotation, rest) if any(issubclass(m, BaseModel) for m in _models(annotation)) else []
                )
                if found:
                    return found
    return []


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _models(part)


def _inner(annotation: Any, part: str | int) -> Any:
    """The element type of a list or mapping annotation (through Optional)."""
    if get_origin(annotation) in (Union, UnionType):
        for option in get_args(annotation):
            found = _inner(option, part)
            if found is not None:
                return found
        return None
    arguments = get_args(annotation)
    if not arguments:
        return None
    return arguments[0] if isinstance(part, int) or len(arguments) == 1 else arguments[1]
