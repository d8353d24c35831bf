"""Where each value of a document comes from: a line of the file, or the default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pilothouse import source
from pilothouse.platform.documents import AREA, MODELS, document_key
from pilothouse.problems import Place
from pilothouse.source import Node, Path, Source


@dataclass(frozen=True, slots=True)
class Effective:
    """One value: `path` such as `spec.logging.heap`; `place` None where it is the default."""

    path: str
    value: str
    place: Place | None = None


def effective(text: Source, kind: str, key: str) -> tuple[Effective, ...]:
    """Every value of the document of that kind and key, in the order of its model; () where it cannot be read."""
    for node in source.load(text)[0]:
        if isinstance(node.data, dict) and node.data.get("kind") == kind and document_key(node, kind) == key:
            model, _ = source.validate(node, MODELS[kind], AREA)
            return tuple(_leaves(node, model.model_dump(by_alias=True), ())) if model else ()
    return ()


def _leaves(node: Node, value: Any, path: Path) -> Iterator[Effective]:
    if path in node.values and _is_short(_given(node, path)):  # such as a port `grpc`, of which the model makes more
        yield Effective(_dotted(path), _say(_given(node, path)), node.at(*path))
    elif isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(node, item, (*path, name))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, item in enumerate(value):
            yield from _leaves(node, item, (*path, index))
    elif value is not None and value != [] and value != {} and value != "":
        yield Effective(_dotted(path), _say(value))


def _is_short(given: Any) -> bool:
    """A scalar, or a list of nothing else."""
    items = given if isinstance(given, list) else [given]
    return not any(isinstance(item, dict | list) for item in items)


def _given(node: Node, path: Path) -> Any:
    value = node.data
    for part in path:
        value = value[part]
    return value


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def _say(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(_say(item) for item in value) or "[]"
    if isinstance(value, dict):
        return "{}"
    return str(value)
