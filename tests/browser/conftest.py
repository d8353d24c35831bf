"""The demo and a browser as fixtures. What a page complains about fails the test that opened it."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import browser as browsing
from support.browser import People
from support.demo import TESTBED, Demo, Laptop, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all tests of this folder, on a data folder of its own."""
    with running(tmp_path_factory.mktemp("demo"), TESTBED / "portal.log") as found:
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with browsing.chromium() as found:
        yield found


@pytest.fixture(scope="session")
def everybody(browser: Browser, demo: Demo) -> People:
    return People(browser, demo)


@pytest.fixture
def people(everybody: People) -> Iterator[People]:
    """`people("alice")` is a page of a browser where alice is logged in."""
    everybody.complaints.clear()
    yield everybody
    everybody.close()
    assert everybody.complaints == []


@pytest.fixture
def laptop(tmp_path: Path, demo: Demo) -> Laptop:
    """A machine with an empty home folder."""
    home = tmp_path / "home"
    home.mkdir()
    return Laptop(home, demo)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure comes with the end of the portal's log and a picture of every open page."""
    report = yield
    if report.failed and HERE in item.path.parents:
        values = getattr(item, "funcargs", {})
        if isinstance(demo := values.get("demo"), Demo):
            report.sections.append((f"end of {demo.log}", demo.tail(40)))
        if isinstance(people := values.get("people"), People) and call.when == "call":
            name = re.sub(r"\W+", "-", item.name).strip("-")
            for number, page in enumerate(people.pages()):
                path = TESTBED / f"{name}-{number}.png"
                page.screenshot(path=path, full_page=True)
                report.sections.append((f"page {number}", f"{page.url}, see {path}"))
    return report
