"""What the pictures of a map share: their style, the frame, and text that fits.

A picture follows the page that it stands in: it names the colours of the portal's style sheet. By itself (`alone`) it
brings its own, for light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pilothouse.policies.compare.map import Link
from pilothouse.reports import plural

SANS, SMALL = 7.0, 6.1
"""About the width of a letter of a label, and of the text below it."""
HUES = 8
"""So many colours tell namespaces apart; the last one is for addresses outside."""

_RULES = """\
.policy-map { display: block; font-family: var(--sans); font-size: 12px; }
.policy-map text { fill: var(--dim); font-size: 11px; font-family: var(--sans); }
.policy-map .ground { fill: var(--bg); }
.policy-map .heading { fill: var(--text); font-size: 18px; font-weight: 650; }
.policy-map .below { fill: var(--dim); font-size: 12px; }
.policy-map .caption { fill: var(--text); font-size: 12px; font-weight: 650; }
.policy-map .label { fill: var(--text); font-size: 12.5px; font-weight: 550; }
.policy-map .panel { fill: var(--soft); stroke: var(--line); }
.policy-map .outside .panel { fill: none; stroke-dasharray: 5 4; }
.policy-map .box { fill: var(--panel); stroke: var(--line); }
.policy-map .open .box { stroke: var(--warn); stroke-dasharray: 5 3; }
.policy-map .open .state { fill: var(--warn); }
.policy-map .pill { fill: var(--panel); stroke-width: 1.2; }
.policy-map .pill-text { fill: var(--text); font-size: 10px; }
.policy-map .edge path { fill: none; stroke: currentColor; stroke-width: 1.6; }
.policy-map .edge .head { stroke-width: 1.8; stroke-linecap: round; stroke-linejoin: round; }
.policy-map .edge .reach { stroke: transparent; stroke-width: 12; }
.policy-map .edge.conditional .line { stroke-dasharray: 7 4; }
.policy-map .edge.some .line { stroke-dasharray: 2 4; }
.policy-map .edge:hover .line, .policy-map .edge:hover .head { stroke-width: 3.5; }
.policy-map .bar { fill: currentColor; }
.policy-map .grid { stroke: var(--line); stroke-width: 1; fill: none; }
.policy-map .band { fill: var(--soft); }
.policy-map .cell { fill: var(--accent); }
.policy-map .cell.all { fill: var(--warn); }
.policy-map .cell.conditional { fill: none; stroke: var(--accent); stroke-width: 2; }
.policy-map .cell.some { fill-opacity: .45; }
.policy-map .crowd { fill: var(--accent); fill-opacity: .28; }
.policy-map .crowd.all { fill: var(--warn); fill-opacity: .28; }
.policy-map .cell:hover { stroke: var(--text); stroke-width: 2; }
"""

_HUES = ("#1f6f8b", "#8a5300", "#2c7a3f", "#9c3d73", "#5a55b0", "#a8442a", "#4d6b1f", "#55616b")
_DARK_HUES = ("#7cc4de", "#f0bd6b", "#7fd19b", "#eb9cc6", "#aba6f5", "#ffa58f", "#b9d77a", "#a0acb6")

_LIGHT = (
    "--sans: system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif; --bg: #f6f7f8;"
    " --panel: #ffffff; --text: #1a2127; --dim: #55616b; --line: #d5dbe0; --soft: #e9edf0; --accent: #1f5d74;"
    " --warn: #8a5300;"
)
_DARK = (
    "--bg: #12171b; --panel: #1a2126; --text: #e3e8ec; --dim: #a0acb6; --line: #34404a; --soft: #242d34;"
    " --accent: #7cc4de; --warn: #f0bd6b;"
)
_IN_DARK = " ".join(f".policy-map .hue{number} {{ color: {hue}; }}" for number, hue in enumerate(_DARK_HUES))
RULES = _RULES + "".join(
    f".policy-map .hue{number} {{ color: {light}; color: light-dark({light}, {dark}); }}\n"
    for number, (light, dark) in enumerate(zip(_HUES, _DARK_HUES, strict=True))
)
"""The rules, over the custom properties of the portal's pages (`--text`, `--line`, …): `static/policy-map.css`."""
ALONE = (
    f".policy-map {{ {_LIGHT} }}\n{RULES}"
    f"@media (prefers-color-scheme: dark) {{ .policy-map {{ {_DARK} }} {_IN_DARK} }}\n"
)
"""The same with its own colours, for a picture that stands in no page."""


def frame(
    title: str, words: str, width: float, height: float, parts: Sequence[str], *, alone: bool, identity: str
) -> str:
    """One `<svg>`; `words` are the picture's text for whoever does not see it."""
    style = [f"<style>\n{ALONE}</style>"] if alone else []
    return "\n".join(
        [
            f'<svg class="policy-map" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {n(width)} {n(height)}"'
            f' width="{n(width)}" height="{n(height)}" role="img" aria-labelledby="{identity}-title {identity}-text">',
            f'<title id="{identity}-title">{escape(title)}</title>',
            f'<desc id="{identity}-text">{escape(words)}</desc>',
            *style,
            f'<rect class="ground" width="{n(width)}" height="{n(height)}"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def text(words: str, x: float, y: float, kind: str, anchor: str = "") -> str:
    end = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text class="{kind}" x="{n(x)}" y="{n(y)}"{end}>{escape(words)}</text>'


def cut(words: str, room: float, letter: float = SANS) -> str:
    most = max(4, int(room / letter))
    return words if len(words) <= most else words[: most - 1] + "…"


def n(number: float) -> str:
    """A coordinate without a needless fraction."""
    return f"{round(number, 1):g}"


def in_words(links: Sequence[Link], most: int = 60) -> str:
    """The connections as sentences, the first of them where there are many."""
    said = "; ".join(str(link) for link in links[:most])
    more = f"; and {plural(len(links) - most, 'more connection')}" if len(links) > most else ""
    return f"{said}{more}." if said else "Nobody reaches anybody."
