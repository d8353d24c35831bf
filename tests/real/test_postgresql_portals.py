"""Two portals, each a real `pilothouse serve` with a data folder of its own, on one PostgreSQL."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.egress_world import write
from support.installation import Browser, portal, until

from pilothouse.files.git import Repository, init
from pilothouse.store import Store, proposals, users

PASSWORD = "a long enough password"
PEOPLE = ("shop-one", "money-one", "money-two", "infra-one")
PRICES = {"to": {"service": "money/quotes"}, "ports": ["http"]}
RATES = {"to": {"service": "money/rates"}, "ports": ["http"]}


@dataclass
class Installation:
    one: str
    two: str
    store: Store
    repository: Repository
    server: Any


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, bed: Any) -> Iterator[Installation]:
    """Two portals on a PostgreSQL of their own, which may be hurt."""
    from support.bed import postgresql

    folder = tmp_path_factory.mktemp("portals")
    platform = folder / "platform"
    platform.mkdir()
    write(platform)
    repository = init(platform)
    repository.commit_all("The platform", "test", "test@localhost")
    server = postgresql.start()
    with server.database("portals") as url, ExitStack() as stack:
        database = folder / "database"
        database.touch(mode=0o600)
        database.write_text(url + "\n")
        store = Store(url)
        store.migrate()
        for name in PEOPLE:
            users.add(store, name, PASSWORD, datetime.now(UTC))
        # Both start at once, each with its own folder.
        with ThreadPoolExecutor(2) as pool:
            addresses = list(
                pool.map(lambda name: stack.enter_context(portal(folder / name, database, platform)), ("one", "two"))
            )
        yield Installation(*addresses, store, repository, server)
        store.close()
    server.stop()


@pytest.fixture
def browser() -> Browser:
    return Browser()


def test_a_session_of_one_portal_is_one_of_the_other(both: Installation, browser: Browser) -> None:
    token = browser.token(both.one, "shop-one", PASSWORD)
    assert browser.ask(f"{both.two}/api/v1/jobs", token=token).status == 200
    assert browser.ask(f"{both.two}/api/v1/jobs", token=token[:-1] + "x").status == 401


def test_a_form_of_one_portal_is_taken_by_the_other(both: Installation, browser: Browser) -> None:
    form = browser.ask(f"{both.one}/login").text
    found = re.search(r'name="csrf_token" value="([^"]+)"', form)
    assert found
    sent = {"user": "shop-one", "password": PASSWORD, "csrf_token": found[1]}
    assert browser.ask(f"{both.two}/login", {**sent, "csrf_token": "x" + found[1]}, form=True).status == 400
    assert browser.ask(f"{both.two}/login", sent, form=True).status == 302
    assert browser.ask(f"{both.one}/me").status == browser.ask(f"{both.two}/me").status == 200


def test_a_limit_holds_over_both(both: Installation, browser: Browser) -> None:
    wrong = {"user": "nobody-at-all", "password": "wrong"}
    statuses = [browser.ask(f"{(both.one, both.two)[n % 2]}/api/v1/session", wrong).status for n in range(6)]
    assert statuses == [401] * 4 + [429] * 2


def test_no_password_is_in_the_list_of_processes(both: Installation) -> None:
    listed = ""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended in the meantime
            listed += path.read_bytes().replace(b"\0", b" ").decode(errors="replace") + "\n"
    assert "--database-file" in listed
    assert both.server.password not in listed


def test_one_commit_where_both_agree_at_once(both: Installation, browser: Browser) -> None:
    author = browser.token(both.one, "shop-one", PASSWORD)
    tokens = [browser.token(both.one, "money-one", PASSWORD), browser.token(both.two, "money-two", PASSWORD)]
    before = len(both.repository.log(limit=100))
    change = {"service": "shop/cart", "add": [PRICES], "reason": "Prices"}
    made = browser.ask(f"{both.one}/api/v1/proposals", change, author).json
    assert made["state"] == "submitted", made
    step = {"version": made["version"], "approve": True}

    def agree(number: int) -> tuple[int, str]:
        address = (both.one, both.two)[number]
        answer = Browser().ask(f"{address}/api/v1/proposals/{made['number']}/decide", step, tokens[number])
        return answer.status, answer.text

    with ThreadPoolExecutor(2) as pool:
        found = sorted(pool.map(agree, range(2)))
    assert [status for status, _ in found] == [200, 409], found
    proposal = proposals.get(both.store, made["number"])
    assert (proposal.state, len(proposal.reviews)) == (proposals.State.COMMITTED, 1)
    assert len(both.repository.log(limit=100)) == before + 1
    assert both.repository.head() == proposal.commit


def test_two_agreed_at_once_are_two_commits(both: Installation, browser: Browser) -> None:
    """Different proposals at different portals: both arrive in the one repository, whichever was first."""
    author = browser.token(both.one, "shop-one", PASSWORD)
    agreeing = browser.token(both.two, "money-one", PASSWORD)
    before = len(both.repository.log(limit=100))
    made = []
    for service in ("shop/cart", "shop/web"):
        change = {"service": service, "add": [{**RATES, "ports": ["grpc"]}], "reason": service, "submit": False}
        answer = browser.ask(f"{both.one}/api/v1/proposals", change, author)
        assert answer.status == 201, answer.text
        made.append(answer.json)

    def submit(number: int) -> dict[str, Any]:
        address, item = (both.one, both.two)[number], made[number]
        step = {"version": item["version"]}
        answer = Browser().ask(f"{address}/api/v1/proposals/{item['number']}/submit", step, author)
        assert answer.status == 200, answer.text
        found: dict[str, Any] = answer.json
        return found

    def agree(number: int) -> None:
        address, item = (both.one, both.two)[number], found[number]
        step = {"version": item["version"], "approve": True}
        answer = Browser().ask(f"{address}/api/v1/proposals/{item['number']}/decide", step, agreeing)
        assert answer.status == 200, answer.text

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(submit, range(2)))
        assert {item["state"] for item in found} <= {"submitted", "committed"}, [item["error"] for item in found]
        list(pool.map(agree, [number for number in range(2) if found[number]["state"] == "submitted"]))
    states = {item["number"]: proposals.get(both.store, item["number"]) for item in found}
    assert {item.state for item in states.values()} == {proposals.State.COMMITTED}, [i.error for i in states.values()]
    assert len(both.repository.log(limit=100)) == before + 2
    assert both.repository.is_clean()


def test_a_database_that_hangs_is_a_reason_on_the_page(both: Installation, browser: Browser) -> None:
    token = browser.token(both.one, "infra-one", PASSWORD)
    assert browser.ask(f"{both.one}/api/v1/jobs", token=token).status == 200
    both.server.pause()
    try:
        began = time.monotonic()
        answer = browser.ask(f"{both.one}/api/v1/jobs", token=token)
        first = time.monotonic() - began
        assert answer.status == 503
        assert "does not answer" in answer.json["detail"]
        assert both.server.password not in answer.text
        began = time.monotonic()
        page = browser.ask(f"{both.one}/jobs/", token=token)
        with ThreadPoolExecutor(8) as pool:
            more = list(pool.map(lambda _: browser.ask(f"{both.one}/jobs/", token=token).status, range(16)))
        second = time.monotonic() - began
        assert page.status == 503
        assert "does not answer" in page.text
        assert set(more) == {503}
        assert browser.ask(f"{both.one}/healthz").status == 200
        assert browser.ask(f"{both.one}/login").status == 200
        ready = browser.ask(f"{both.one}/readyz")
        assert (ready.status, ready.json["ready"]) == (503, False)
        numbers = browser.ask(f"{both.one}/metrics")
        assert numbers.status == 200
        assert "pilothouse_store_up 0.0" in numbers.text
        assert "pilothouse_requests_total" in numbers.text
    finally:
        both.server.resume()
    print(f"the first request answered after {first:.1f} s, the next 17 within {second:.1f} s")
    until(lambda: browser.ask(f"{both.one}/api/v1/jobs", token=token).status == 200, "the portal answers again")
    assert "pilothouse_store_up 1.0" in browser.ask(f"{both.one}/metrics").text


def test_a_database_that_is_started_again_ends_no_session(both: Installation, browser: Browser) -> None:
    token = browser.token(both.two, "infra-one", PASSWORD)
    both.server.stop()
    answer = browser.ask(f"{both.two}/api/v1/jobs", token=token)
    assert answer.status == 503
    assert "nobody listens there" in answer.json["detail"]
    both.server.server.start()
    until(lambda: browser.ask(f"{both.two}/api/v1/jobs", token=token).status == 200, "the portal answers again")
    assert browser.ask(f"{both.one}/api/v1/jobs", token=token).status == 200


def test_what_was_named_is_kept_for_the_folder(both: Installation, tmp_path: Path) -> None:
    """A later command of that folder works on the same database, though nobody names it again."""
    folder = both.repository.path.parent
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", "users", "list", "--data", str(folder / "one"), "--output", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "money-two" in done.stdout
    assert both.server.password not in (folder / "one" / "database.json").read_text()
    assert not (folder / "one" / "pilothouse.db").exists()
