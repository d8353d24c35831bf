"""Take the README's pictures anew: `.venv/bin/python tools/screenshots.py [FOLDER]` (default: docs/images).

Starts a demo of its own on a temporary folder, lets its people do something, and photographs five pages in
light and dark with the system's Chromium. Needs what `make testbed` sets up.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.browser import People, chromium  # noqa: E402  # the tests' folder has to be on the path first
from support.demo import TESTBED, Demo, Laptop, running  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Page

SIZE = {"width": 1280, "height": 800}
MOST_BYTES = 150_000
QUESTION = "/network/can?cluster=prod&from=payments/payments&to=ledger/ledger&port=9091"
SUNDAY = "/alerts/?cluster=prod&labels=alertname%3DLedgerOutOfBalance+severity%3Dpage+team%3Daccounts&at=sunday+03:00"


def something_happens(people: People, demo: Demo, home: Path) -> None:
    """Certificates of Alice, a request and a proposal that wait for her."""
    laptop = Laptop(home, demo)
    laptop.log_in("alice")
    laptop.run("access", "cert", "developer", "--cluster", "dev")
    laptop.run("access", "cert", "on-call", "--cluster", "prod", "--for", "12h")
    laptop.log_in("niaj")
    reason = "Scores arrive late: look at the threads of fraud from inside"
    laptop.run("access", "elevate", "shell", "--cluster", "prod", "--reason", reason)
    page = people("erin")
    propose(page, "accounts/statements", "payments/payments", "http")
    page.get_by_role("textbox", name="Title").fill("Statements list pending payments")
    page.get_by_role("textbox", name="Why").fill("Customers ask why a payment is not on their statement yet")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(lambda url: "/new" not in url)


def propose(page: Page, service: str, peer: str, port: str) -> None:
    page.goto(f"/egress/new?service={service}")
    page.get_by_label("Which one").fill(peer)
    page.get_by_role("textbox", name="Ports").fill(port)
    page.get_by_role("button", name="Add to the document").click()
    page.get_by_role("heading", name="Who must agree").wait_for()


def take(page: Page, folder: Path, name: str, scheme: str) -> None:
    path = folder / f"{name}-{scheme}.png"
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.screenshot(path=path, animations="disabled")
    size = path.stat().st_size
    print(f"{path}: {size // 1000} kB")
    if size > MOST_BYTES:
        sys.exit(f"{path} has {size} bytes: at most {MOST_BYTES}, please")


def scroll_to(page: Page, selector: str) -> None:
    page.locator(selector).first.evaluate("element => scrollTo(0, element.getBoundingClientRect().top + scrollY - 24)")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        running(Path(scratch), TESTBED / "screenshots.log", port=8420) as demo,
        chromium() as browser,
    ):
        people = People(browser, demo)
        something_happens(people, demo, Path(scratch))
        for scheme in ("light", "dark"):
            page = people("alice", viewport=SIZE, color_scheme=scheme)
            page.goto("/")
            take(page, folder, "home", scheme)
            page.goto("/access/")
            take(page, folder, "access", scheme)
            page.goto(SUNDAY)
            scroll_to(page, ".ends")
            take(page, folder, "routing", scheme)
            page.goto(QUESTION)
            page.set_viewport_size({**SIZE, "height": 540})
            scroll_to(page, ".verdict")
            take(page, folder, "network", scheme)
            page.set_viewport_size(SIZE)
            propose(page, "cards/cards", "accounts/accounts", "http")
            scroll_to(page, "#effect")
            take(page, folder, "egress", scheme)
        people.close()
        if people.complaints:
            sys.exit("\n".join(people.complaints))


if __name__ == "__main__":
    main()
