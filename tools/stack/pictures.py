"""The pictures of docs/stack.md: `stack pictures FOLDER` photographs the portal of a running stack, light and dark."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stack import bank, console
from stack.machine import Failed
from stack.servers import Stack
from support.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MOST_BYTES = 150_000
SECONDS = 90.0
WIDTH = 1280
FIRING, DRIFT = "/alerts/firing", "/problems/?area=worker"
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


def take(stack: Stack, folder: Path) -> str:
    """What fires while payments is broken, and what the portal says of a policy that was edited by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    made: list[str] = []
    with chromium() as browser:
        since = len(stack.pager.read())
        stack.break_("payments/payments")
        try:
            _until(lambda: any(item.receiver == "payments-page" for item in stack.pager.read()[since:]))
            page = _person(stack, browser, "alice", "light")
            _until(lambda: _shows(page, FIRING, "MetricsUnreachable"))  # which the page's alert holds back
            page.context.close()
            made += _both(stack, browser, folder, "stack-firing", "alice", FIRING, 800)
        finally:
            stack.mend("payments/payments")
        patch = '[{"op": "remove", "path": "/spec/egress/0"}]'
        policy = ("networkpolicy", "-n", "cards", console.POLICY)
        edited = stack.shell.run(stack.shell.kubectl, "patch", *policy, "--type=json", "-p", patch)
        if edited.returncode:
            raise Failed(edited.stderr)
        made += _drift(stack, browser, folder)
        stack.shell.pilothouse("apply", bank.CLUSTER, stack.platform, "--yes", "--force-conflicts")
    return "\n".join(made)


def _drift(stack: Stack, browser: Browser, folder: Path) -> list[str]:
    page = _person(stack, browser, "peggy", "light")
    page.goto("/jobs/")
    page.locator("#run-drift").click()
    _until(lambda: _shows(page, DRIFT, console.POLICY))
    page.context.close()
    return _both(stack, browser, folder, "stack-drift", "peggy", DRIFT, 520)


def _shows(page: Page, path: str, text: str) -> bool:
    page.goto(path)
    return text in page.content()


def _both(stack: Stack, browser: Browser, folder: Path, name: str, user: str, path: str, height: int) -> list[str]:
    made = []
    for scheme in SCHEMES:
        page = _person(stack, browser, user, scheme)
        page.goto(path)
        page.mouse.move(0, 0)
        file = folder / f"{name}-{scheme}.png"
        page.screenshot(path=file, animations="disabled", clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
        page.context.close()
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise Failed(f"{file} has {size} bytes: at most {MOST_BYTES}, please")
        made.append(f"{file}: {size // 1000} kB")
    return made


def _person(stack: Stack, browser: Browser, user: str, scheme: Scheme) -> Page:
    context = browser.new_context(
        base_url=stack.addresses.portal, viewport={"width": WIDTH, "height": 800}, color_scheme=scheme
    )
    page = context.new_page()
    page.goto("/login")
    page.fill('input[name="user"]', user)
    page.fill('input[name="password"]', next(item.password for item in stack.people if item.name == user))
    page.locator("button.primary").click()
    page.wait_for_url(lambda url: "/login" not in url)
    return page


def _until(look: Callable[[], bool]) -> None:
    ends = time.monotonic() + SECONDS
    while not look():
        if time.monotonic() > ends:
            raise Failed("what should be photographed did not come")
        time.sleep(0.5)
