"""What a run shows at its end: the table of attacks, and that of the processes that were killed.

A pytest plugin. Tests hand rows on as properties of their reports, so that they come through where several processes
run the tests: `@pytest.mark.attack(row)`, whose system is that of the test's fixture or a second argument, and
`record_property("killed", rows)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

SYSTEMS = ("embedded", "Vault stand-in", "Vault and slapd")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "attack(row, system): a test of one row of the table of attacks")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker("attack")
    if marker is not None:
        callspec = getattr(item, "callspec", None)
        params = getattr(callspec, "params", {}).values()
        system = marker.args[1] if len(marker.args) > 1 else next((v for v in params if v in SYSTEMS), SYSTEMS[0])
        item.user_properties.append(("attack", (marker.args[0], system)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    attacks: dict[str, dict[str, list[bool]]] = {}
    killed: list[Sequence[str]] = []
    for report, withstood in _reports(terminalreporter):
        for name, value in getattr(report, "user_properties", ()):  # a module that cannot be read has none
            if name == "attack":
                row, system = value
                attacks.setdefault(row, {}).setdefault(system, []).append(withstood)
            elif name == "killed" and report.when == "teardown":
                killed += value
    if attacks:
        _attacks(terminalreporter, attacks)
    if killed:
        _killed(terminalreporter, killed)


def _reports(terminalreporter: Any) -> Iterator[tuple[Any, bool]]:
    """(report, whether the test passed): of each test its call, or what failed before it; and its end."""
    for report in terminalreporter.stats.get("passed", []):
        if report.when == "call":
            yield report, True
    for kind in ("failed", "error"):
        for report in terminalreporter.stats.get(kind, []):
            yield report, False
    for report in terminalreporter.stats.get("", []):
        if report.when == "teardown":
            yield _Rows(report), True


class _Rows:
    """The end of a test, of which only the rows count that it left."""

    def __init__(self, report: Any) -> None:
        self.when = "teardown"
        self.user_properties = [item for item in report.user_properties if item[0] == "killed"]


def _attacks(terminalreporter: Any, attacks: dict[str, dict[str, list[bool]]]) -> None:
    systems = [name for name in SYSTEMS if any(name in found for found in attacks.values())]
    rows = [["attack", *systems]]
    for row, found in attacks.items():
        rows.append([row, *(f"{sum(found[s])} of {len(found[s])}" if s in found else "" for s in systems)])
    tried = [value for found in attacks.values() for value in found.values()]
    held = sum(all(value) for value in tried)
    terminalreporter.section("attacks withstood", sep="-")
    _lines(terminalreporter, rows)
    terminalreporter.write_line(f"{held} of {len(tried)} rows withstood")


def _killed(terminalreporter: Any, killed: list[Sequence[str]]) -> None:
    terminalreporter.section("killed with SIGKILL: step, and what remained", sep="-")
    _lines(terminalreporter, [["process", "request", "step", "in the ledger", "afterwards"], *map(list, killed)])


def _lines(terminalreporter: Any, rows: list[list[str]]) -> None:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        terminalreporter.write_line(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )
