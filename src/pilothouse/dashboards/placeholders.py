"""`$namespace` and the like in definitions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from pilothouse.promql.parse import parse
from pilothouse.promql.tree import Node, Selector, render, transform

KNOWN: Mapping[str, tuple[str, ...]] = {
    "service": ("cluster", "namespace", "service", "team", "pods"),
    "team": ("cluster", "team"),
    "cluster": ("cluster",),
}
_WORD = re.compile(r"\$(?:\{([a-zA-Z]\w*)\}|([a-zA-Z]\w*))")


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with placeholders replaced; a word that is not among the values stays."""
    return _WORD.sub(lambda found: values.get(found[1] or found[2], found[0]), text)


def unknown(kind: str, text: str) -> Iterator[str]:
    """Words that nothing replaces. A group's number in a replacement (`$1`) and Grafana's own `$__…` are none."""
    for found in _WORD.finditer(text):
        word = found[1] or found[2]
        if word not in KNOWN[kind]:
            yield word


def of_any(expr: str) -> str:
    """The expression as it reads for all subjects: without the matchers that hold a placeholder.

    From it follows what the federation must fetch, whichever subjects there are. Raises `SyntaxFault`.
    """

    def widened(node: Node) -> Node | None:
        if not isinstance(node, Selector):
            return None
        return replace(node, matchers=tuple(m for m in node.matchers if not _WORD.search(m.value)))

    return render(transform(parse(expr), widened))
