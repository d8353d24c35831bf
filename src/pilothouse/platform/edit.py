"""Edit documents as text, the edge lists of a Service above all: what the author wrote around them stays as it is.

A form and the YAML are two views of one document. The form adds and removes single items, or sets one field;
comments, order and spelling of everything else belong to the author and are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import yaml

from pilothouse.artifacts.write import scalar
from pilothouse.problems import Invalid
from pilothouse.source import BaseLoader

Line = int  # counted from 0 in this module, as YAML's marks are


def add_item(text: str, key: str, field: str, item: Mapping[str, Any], comment: str = "") -> str:
    """The text with one more item at the end of a list of the Service `key` (`namespace/name`).

    `field` is `egress` or `ingress`. `comment` goes behind the item; above a list that is written in brackets.
    Raises `Invalid` where the text cannot be edited this way.
    """
    spec = _spec(text, key)
    found = _entry(spec, field)
    lines = text.splitlines()
    remark = "# " + " ".join(comment.split()) if comment else ""
    written = f"{flow(item)}  {remark}" if remark else flow(item)
    if found is None or _is_empty(found[1]):
        indent = " " * spec.value[0][0].start_mark.column
        block = [f"{indent}{field}:", f"{indent}  - {written}"]
        if found is None:
            at = _last_line(spec) + 1
            return _joined(lines[:at] + block + lines[at:])
        start, end = found[0].start_mark.line, _last_line(found[1])
        mark = found[1].end_mark
        behind = lines[mark.line][mark.column :] if mark.line < len(lines) else ""
        if mark.line == end and behind.lstrip().startswith("#"):
            block[0] += f"  {behind.lstrip()}"
        return _joined(lines[:start] + block + lines[end + 1 :])
    items = found[1]
    if not isinstance(items, yaml.SequenceNode):
        raise Invalid(f"`{field}` of {key} is no list", "mend the YAML first")
    if items.flow_style:
        line, column = items.end_mark.line, items.end_mark.column - 1
        before = lines[line][:column].rstrip().rstrip(",")
        lines[line] = f"{before}, {flow(item)}{lines[line][column:]}"
        above = [" " * found[0].start_mark.column + remark] if remark else []
        first = found[0].start_mark.line
        return _joined([*lines[:first], *above, *lines[first:]])
    indent = " " * items.start_mark.column
    at = _last_line(items) + 1
    return _joined([*lines[:at], f"{indent}- {written}", *lines[at:]])


def remove_item(text: str, key: str, field: str, index: int) -> str:
    """The text without item `index` (from 0) of the list; with the last item of `egress` the list goes too.

    An `ingress` list stays as `[]`: nobody at all is not the same as nothing said.
    """
    spec = _spec(text, key)
    found = _entry(spec, field)
    sequence = found[1] if found else None
    items = sequence.value if isinstance(sequence, yaml.SequenceNode) else []
    if found is None or not isinstance(sequence, yaml.SequenceNode) or not 0 <= index < len(items):
        raise Invalid(f"{key} has no {field} item {index + 1}", f"it has {len(items)}")
    lines = text.splitlines()
    if len(items) == 1:
        rest = [] if field == "egress" else [" " * found[0].start_mark.column + f"{field}: []"]
        return _joined(lines[: found[0].start_mark.line] + rest + lines[_last_line(found[1]) + 1 :])
    item = items[index]
    if sequence.flow_style:
        offset = _offsets(lines)
        start, end = _offset(offset, item.start_mark), _offset(offset, item.end_mark)
        if index + 1 < len(items):
            end = _offset(offset, items[index + 1].start_mark)
        else:
            start = _offset(offset, items[index - 1].end_mark)
        whole = "\n".join(lines)
        return _joined((whole[:start] + whole[end:]).split("\n"))
    # The dash stands on the item's own line, or (rarely) alone on a line above it.
    first = item.start_mark.line
    while not lines[first].lstrip().startswith("-"):
        first -= 1
    return _joined(lines[:first] + lines[_last_line(item) + 1 :])


def set_field(text: str, kind: str, name: str, path: Sequence[str], value: str) -> str:
    """The text with one word of the spec of a document without a namespace, `path` below `spec`. What is not there yet
    is added. Raises `Invalid` where the text cannot be edited this way."""
    node = _document(text, lambda root, metadata: (_text(root, "kind"), _text(metadata, "name")) == (kind, name), name)
    for depth, key in enumerate(path):
        below: Any = value
        for each in reversed(path[depth + 1 :]):
            below = {each: below}
        found = _entry(node, key)
        if found is None:
            return _with_entry(text, node, key, below)
        child = found[1]
        if depth + 1 == len(path) or _is_empty(child):
            if not (isinstance(child, yaml.ScalarNode) or _is_empty(child)):
                raise Invalid(f"`{'.'.join(path)}` of {name} is not one word", "mend the YAML first")
            return _with_value(text, child, flow(below))
        if not isinstance(child, yaml.MappingNode):
            raise Invalid(f"`{'.'.join(path[: depth + 1])}` of {name} holds no fields", "mend the YAML first")
        node = child
    raise ValueError("an empty path names no field")


def _with_entry(text: str, node: yaml.MappingNode, key: str, value: Any) -> str:
    """A field more, behind the last one."""
    lines = text.splitlines()
    written = f"{flow(key)}: {flow(value)}"
    if node.flow_style:
        return _spliced(lines, node.value[-1][1].end_mark, node.value[-1][1].end_mark, f", {written}")
    at = _last_line(node) + 1
    return _joined([*lines[:at], " " * node.value[0][0].start_mark.column + written, *lines[at:]])


def _with_value(text: str, node: yaml.Node, written: str) -> str:
    start, end = node.start_mark, node.end_mark
    nothing = (start.line, start.column) == (end.line, end.column)
    return _spliced(text.splitlines(), start, end, f" {written}" if nothing else written)


def _spliced(lines: list[str], start: yaml.Mark, end: yaml.Mark, written: str) -> str:
    offsets = _offsets(lines)
    whole = "\n".join(lines)
    return _joined((whole[: _offset(offsets, start)] + written + whole[_offset(offsets, end) :]).split("\n"))


def flow(value: Any) -> str:
    """A value in YAML's flow style on one line, strings quoted where a reader could misread them."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(str(key))}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, date):
        return value.isoformat()
    return scalar(value) if isinstance(value, str) else str(value)


def _spec(text: str, key: str) -> yaml.MappingNode:
    def is_it(root: yaml.MappingNode, metadata: yaml.MappingNode) -> bool:
        named = f"{_text(metadata, 'namespace')}/{_text(metadata, 'name')}"
        return _text(root, "kind") == "Service" and named == key

    return _document(text, is_it, key)


def _document(text: str, is_it: Callable[[yaml.MappingNode, yaml.MappingNode], bool], shown: str) -> yaml.MappingNode:
    """The spec of the document that `is_it` takes, given the document and its metadata."""
    try:
        roots = list(yaml.compose_all(text, Loader=BaseLoader))
    except yaml.YAMLError as failure:
        raise Invalid("the YAML cannot be read, so the form cannot change it", "mend the YAML first") from failure
    for root in roots:
        if not isinstance(root, yaml.MappingNode):
            continue
        metadata, spec = _entry(root, "metadata"), _entry(root, "spec")
        if metadata is None or spec is None or not isinstance(metadata[1], yaml.MappingNode):
            continue
        if is_it(root, metadata[1]):
            if not isinstance(spec[1], yaml.MappingNode) or spec[1].flow_style or not spec[1].value:
                raise Invalid(f"the spec of {shown} is not written as a block", "edit the YAML by hand")
            return spec[1]
    raise Invalid(f"the document of {shown} is not in this file", "was it renamed? load the page again")


def _entry(node: yaml.MappingNode, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    return next(((key, value) for key, value in node.value if key.value == name), None)


def _text(node: yaml.MappingNode, name: str) -> str:
    found = _entry(node, name)
    return str(found[1].value) if found and isinstance(found[1], yaml.ScalarNode) else ""


def _is_empty(node: yaml.Node) -> bool:
    return not node.value or (isinstance(node, yaml.ScalarNode) and node.value in ("", "~", "null"))


def _last_line(node: yaml.Node) -> Line:
    """The last line that the node's own text reaches: a block's end mark lies beyond comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    end = node.end_mark
    line = end.line - 1 if end.column == 0 and end.line > node.start_mark.line else end.line
    return int(line)


def _offsets(lines: list[str]) -> list[int]:
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    return starts


def _offset(starts: list[int], mark: yaml.Mark) -> int:
    return int(starts[mark.line] + mark.column)


def _joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
