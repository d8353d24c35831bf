"""Markdown of the problem pages as HTML: no raw HTML comes through; links within the repository become plain text."""

from __future__ import annotations

from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_markdown = MarkdownIt("commonmark", {"html": False}).disable("image")


def html_of(markdown: str) -> Markup:
    """The text without its first heading, which is the page's own; further headings stay one level below it."""
    tokens = _markdown.parse(markdown)
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        tokens = tokens[3:]
    for token in tokens:
        if token.children:
            token.children = _without_local_links(token.children)
    # The renderer escapes all text; what it returns is its own markup.
    return Markup(_markdown.renderer.render(tokens, _markdown.options, {}))  # noqa: S704


def _without_local_links(tokens: Sequence[Token]) -> list[Token]:
    kept: list[Token] = []
    dropping = False
    for token in tokens:
        if token.type == "link_open" and not str(token.attrGet("href") or "").startswith("https://"):
            dropping = True
        elif token.type == "link_close" and dropping:
            dropping = False
        else:
            if token.type == "link_open":
                token.attrSet("rel", "noreferrer")
            kept.append(token)
    return kept
