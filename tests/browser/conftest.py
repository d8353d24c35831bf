"""The demo and a browser as fixtures. What a page complains about fails the test that opened it."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from support import browser as browsing
from support.browser import People
from support.demo import TESTBED, Demo, Laptop, running
from support.real_bank import RealBank, Site
from support.real_bank import real_bank as started
from support.visits import LATER

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


@pytest.fixture(scope="session")
def real_bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBank]:
    """The demo on real servers, for the journeys."""
    with started(tmp_path_factory.mktemp("real")) as found:
        yield found


@pytest.fixture(scope="session")
def real_everybody(browser: Browser, real_bank: RealBank) -> People:
    return People(browser, real_bank.demo)


@pytest.fixture(params=["embedded", "real"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """The same journey on both."""
    real = request.getfixturevalue("real_bank") if request.param == "real" else None
    people: People = request.getfixturevalue("real_everybody" if real else "everybody")
    people.complaints.clear()
    home = tmp_path / "home"
    home.mkdir()
    yield Site(people, Laptop(home, people.demo), real)
    people.close()
    assert people.complaints == []


@pytest.fixture(scope="session")
def later(everybody: People, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Addresses of things that exist once somebody did something, by endpoint as in `support.visits.LATER`; besides,
    `waiting` and `approved` are requests of alice."""
    home = tmp_path_factory.mktemp("home")
    laptop = Laptop(home, everybody.demo)
    laptop.log_in("peggy")
    laptop.run("access", "cert", "developer", "--cluster", "test")
    laptop.run("access", "cert", "on-call", "--cluster", "prod")
    reason = "Node 7 of prod reports no metrics: look at its kubelet"
    asked = laptop.json("access", "elevate", "cluster-admin", "--cluster", "prod", "--reason", reason)
    laptop.log_in("alice")
    reason = "Payments wait: look at their threads from inside"
    waiting, approved = (
        laptop.json("access", "elevate", "shell", "--cluster", cluster, "--reason", reason)["id"]
        for cluster in ("prod", "uat")
    )
    laptop.log_in("quentin")
    laptop.run("access", "approve", approved)
    page = everybody("alice")
    page.goto("/egress/new?service=cards/tokenizer")
    page.get_by_label("Which one").fill("accounts/accounts")
    page.get_by_role("textbox", name="Ports").fill("http")
    page.get_by_role("button", name="Add to the document").click()
    page.get_by_role("textbox", name="Why").fill("The tokenizer asks for the owner of an account")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile(r"/egress/\d+$"))
    proposal = urlsplit(page.url).path
    page.context.close()
    found = {name: address.format(request=asked["id"], proposal=proposal) for name, address in LATER.items()}
    return found | {"waiting": f"/access/requests/{waiting}", "approved": f"/access/requests/{approved}"}


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
        if isinstance(site := values.get("site"), Site):
            values = values | {"demo": site.demo, "people": site.people}
        if isinstance(demo := values.get("demo"), Demo):
            report.sections.append((f"end of {demo.log}", demo.tail(40)))
        if isinstance(people := values.get("people"), People) and call.when == "call":
            name = re.sub(r"\W+", "-", item.name).strip("-")
            for number, page in enumerate(people.pages()):
                path = TESTBED / f"{name}-{number}.png"
                page.screenshot(path=path, full_page=True)
                report.sections.append((f"page {number}", f"{page.url}, see {path}"))
    return report
