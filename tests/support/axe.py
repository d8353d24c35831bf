"""axe-core on a page as it is now: what it finds, by its own four levels.

Rules and levels: https://github.com/dequelabs/axe-core/blob/develop/doc/rule-descriptions.md. The script comes from
`tests/real/servers/programs.yaml`; it runs through the browser's debugger, so a page's policy stays as strict as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from support.testbed import program

if TYPE_CHECKING:
    from playwright.sync_api import Page

FAILS = frozenset(("serious", "critical"))
"""The levels that no page may have; minor and moderate findings are printed."""

# The success criteria of WCAG 2.2 up to level AA, and the rules that are good practice. Sizes of targets are off unless
# asked for. Style sheets are not fetched again: they are all ours.
_OPTIONS = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "rules": {"target-size": {"enabled": True}},
    "resultTypes": ["violations"],
    "preload": False,
}
_COLOURS = {**_OPTIONS, "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}


@dataclass(frozen=True, order=True)
class Finding:
    """One element that breaks one rule. `level` is minor, moderate, serious or critical; `target` a CSS selector."""

    level: str
    rule: str
    target: str
    why: str

    @property
    def fails(self) -> bool:
        return self.level in FAILS

    def __str__(self) -> str:
        return f"{self.level}: {self.rule} at {self.target}: {self.why}"


def findings(page: Page, colours_only: bool = False) -> list[Finding]:
    """Everything that axe-core finds on the page as it is; with `colours_only`, what depends on the theme alone."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_script())
    answer: dict[str, Any] = page.evaluate(
        "options => axe.run(document, options)", _COLOURS if colours_only else _OPTIONS
    )
    found = [
        Finding(
            str(node["impact"] or rule["impact"]),
            str(rule["id"]),
            " ".join(map(str, node["target"])),
            "; ".join(str(node["failureSummary"]).split("\n")[1:]).strip()[:300],
        )
        for rule in answer["violations"]
        for node in rule["nodes"]
    ]
    return sorted(found)


@cache
def _script() -> str:
    # As an expression without a value: what `evaluate` hands back must be data.
    return program("axe").read_text(encoding="utf-8") + "\n;undefined;"
