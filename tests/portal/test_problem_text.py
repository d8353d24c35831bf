"""Markdown as HTML: escaped, without foreign or broken links."""

from __future__ import annotations

from pathlib import Path

from pilothouse.portal.text import html_of


def test_what_comes_through_and_what_does_not() -> None:
    found = html_of(
        "# `a/b`\n\nText & <script>x</script> ![p](https://x.example/p.png)\n\n## Why\n\n- [one](../x.md) [two](https://k.example)"
        " [three](javascript:alert(1))\n\n```yaml\na: <b>\n```\n"
    )
    assert "<h1>" not in found
    assert "<h2>Why</h2>" in found
    assert "<script>" not in found
    assert "<img" not in found
    assert "one " in found
    assert "../x.md" not in found
    assert '<a href="https://k.example" rel="noreferrer">two</a>' in found
    assert 'href="javascript' not in found
    assert "a: &lt;b&gt;" in found


def test_every_page_of_a_code_can_be_shown(root: Path) -> None:
    pages = list((root / "docs/problems").glob("*/*.md"))
    assert pages
    for path in pages:
        assert "<p>" in html_of(path.read_text(encoding="utf-8")), path
