"""What every page is held to, whoever serves it: contrast, names, landmarks, widths, and what axe-core finds.

Every finding of axe-core, grave or not, is written to `build/testbed/accessibility.json`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from support import axe
from support.demo import TESTBED
from support.testbed import ROOT

if TYPE_CHECKING:
    from flask import Flask
    from playwright.sync_api import Page

WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 320, "height": 740}
"""No page may scroll sideways at this width (WCAG 2.2, 1.4.10)."""
RECORD = TESTBED / "accessibility.json"

_CHECKS = (ROOT / "tests" / "support" / "page_checks.js").read_text(encoding="utf-8")
_NEXT_FRAME = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
_NAMED = frozenset("button link textbox searchbox combobox checkbox radio region navigation image".split())
_recorded: dict[str, list[str]] = {}


def look(page: Page) -> dict[str, list[str]]:
    """The mistakes of the page as it is now, by kind."""
    found: dict[str, list[str]] = page.evaluate(_CHECKS)
    return found


def mistakes(page: Page) -> dict[str, list[str]]:
    """The mistakes of a page in light and dark, wide and narrow. What axe-core thinks little of is only recorded."""
    seen: list[axe.Finding] = []
    page.set_viewport_size(WIDE)
    page.emulate_media(color_scheme="light")
    page.evaluate(_NEXT_FRAME)
    light, names = look(page), nameless(page)
    seen += axe.findings(page)
    page.emulate_media(color_scheme="dark")
    dark = look(page)
    seen += axe.findings(page, colours_only=True)
    page.set_viewport_size(NARROW)
    page.evaluate(_NEXT_FRAME)  # what listens to the new size has heard of it by then
    narrow = look(page)
    seen += axe.findings(page)
    page.emulate_media(color_scheme="light")
    seen += axe.findings(page, colours_only=True)
    _record(page, seen)
    found = {
        "light": light["contrast"],
        "dark": dark["contrast"],
        "narrow, dark": narrow["contrast"],
        "structure": light["structure"],
        "narrow": [*narrow["width"], *narrow["structure"]],
        "names": names,
        "axe": sorted({str(finding) for finding in seen if finding.fails}),
    }
    return {kind: texts for kind, texts in found.items() if texts}


def nameless(page: Page) -> list[str]:
    """What the browser's own accessibility tree has no name for; and landmarks that are missing."""
    session = page.context.new_cdp_session(page)
    nodes: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    seen = [(str(n["role"]["value"]), str(n.get("name", {}).get("value", ""))) for n in nodes if not n["ignored"]]
    roles = [role for role, _ in seen]
    found = [f"a {role} without a name" for role, name in seen if role in _NAMED and not name.strip()]
    found += [f"{roles.count(role)} of role {role}" for role in ("main", "contentinfo") if roles.count(role) != 1]
    if urlsplit(page.url).path != "/login":
        found += [f"no {role}" for role in ("banner", "navigation") if role not in roles]
    return found


def _record(page: Page, seen: list[axe.Finding]) -> None:
    """Keeps what was found on this page, on the disk at once: a run that fails half way has it, too."""
    parts = urlsplit(page.url)
    _recorded[f"{parts.path}?{parts.query}".rstrip("?")] = sorted({str(finding) for finding in seen})
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(_recorded, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """The address at which an application of this process answers until the block ends."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: Any) -> None:
            """Nothing: the application logs its requests itself."""

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
