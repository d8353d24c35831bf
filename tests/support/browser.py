"""Chromium through Playwright: people with a browser of their own, and everything their pages complained about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.demo import Demo
from support.testbed import program

if TYPE_CHECKING:  # Playwright comes with `make test-real` only
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response

FLAGS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
WAIT_MS = 15_000
# A violation of the Content-Security-Policy as an error of the console, whatever the browser itself prints.
_TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP violation: ${event.violatedDirective} by ${event.blockedURI} ${event.sample}`));
"""
# The browser prints these for any answer that is no 2xx; the tests look at the status themselves.
_STATUS = "Failed to load resource: the server responded with a status of 4"


def expect(what: Any) -> Any:
    """Playwright's `expect`: an assertion that waits for its condition."""
    from playwright.sync_api import expect as waiting

    waiting.set_options(timeout=WAIT_MS)
    return waiting(what)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium of the system, with a fresh profile."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(program("chromium")), args=FLAGS, timeout=60_000)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class People:
    """Opens browsers for people of the demo; each person types the password once."""

    browser: Browser
    demo: Demo
    complaints: list[str] = field(default_factory=list)
    _sessions: dict[str, Any] = field(default_factory=dict)
    _open: list[BrowserContext] = field(default_factory=list)

    def anonymous(self, **options: Any) -> Page:
        """A page of somebody who is not logged in."""
        return self._page(**options)

    def __call__(self, user: str, **options: Any) -> Page:
        """A page of that user, in a browser of its own; `options` are those of Playwright's `new_context`."""
        if user not in self._sessions:
            page = self.anonymous()
            log_in(page, user, self.demo.passwords[user])
            self._sessions[user] = page.context.storage_state()
        return self._page(storage_state=self._sessions[user], **options)

    def pages(self) -> list[Page]:
        return [page for context in self._open for page in context.pages]

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def _page(self, **options: Any) -> Page:
        context = self.browser.new_context(
            base_url=self.demo.address, **{"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **options}
        )
        self._open.append(context)
        context.set_default_timeout(WAIT_MS)
        context.add_init_script(_TELL_VIOLATIONS)
        context.on("console", self._console)
        context.on("weberror", lambda failure: self.complaints.append(f"{failure.page.url}: {failure.error}"))
        context.on("response", self._response)
        return context.new_page()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(_STATUS):
            where = message.page.url if message.page else ""
            self.complaints.append(f"{where}: {message.text}")

    def _response(self, response: Response) -> None:
        if response.status >= 500:
            self.complaints.append(f"{response.url}: answered {response.status}")


def log_in(page: Page, user: str, password: str) -> None:
    """As a person does it: by the form."""
    page.goto("/login")
    page.get_by_label("User").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("/")


def press_until(page: Page, key: str, selector: str, most: int = 120) -> None:
    """Presses the key until what is focused matches the selector; fails where focus cannot be seen on the way."""
    for _ in range(most):
        page.keyboard.press(key)
        state = page.evaluate(_FOCUS, selector)
        assert state["seen"], f"focus cannot be seen at {state['what']} of {page.url}"
        if state["there"]:
            return
    raise AssertionError(f"{most} times {key} never came to {selector} of {page.url}")


# Focus is seen by an outline, or by the stroke that a shape within has instead.
_FOCUS = """(selector) => {
  const element = document.activeElement;
  if (element === document.body) return {what: "the page", there: false, seen: true};
  const style = getComputedStyle(element);
  const shapes = [...element.querySelectorAll("rect")].map((shape) => getComputedStyle(shape));
  return {
    what: element.outerHTML.slice(0, 120),
    there: element.matches(selector),
    seen: (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2)
      || shapes.some((shape) => shape.stroke !== "none" && parseFloat(shape.strokeWidth) >= 2),
  };
}"""
