"""A person in front of the portal, over HTTP as a browser speaks it: cookies, and the token that every form carries."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from http.cookies import SimpleCookie
from urllib.parse import urlencode

import urllib3

SECONDS = 30.0
HOPS = 5
_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')
_TAG = re.compile(r"<(script|style).*?</\1>|<[^>]+>", re.DOTALL)


class Visitor:
    """Logged in from the start. Raises `OSError` for an answer that is no success."""

    def __init__(self, portal: str, user: str, password: str) -> None:
        self._portal = portal
        self._http = urllib3.PoolManager(timeout=SECONDS, retries=False)
        self._cookies: dict[str, str] = {}
        self.post("/login", {"user": user, "password": password}, form="/login")

    def page(self, path: str) -> str:
        """The page as it is sent."""
        return self._open("GET", path, None)

    def text(self, path: str) -> str:
        """What a reader sees of the page, in one line."""
        return readable(self.page(path))

    def post(self, path: str, data: Mapping[str, str], form: str) -> str:
        """Sends the form that stands on the page `form`; the page that follows."""
        found = _TOKEN.search(self.page(form))
        if found is None:
            raise OSError(f"there is no form on {form}")
        return self._open("POST", path, {"csrf_token": found[1], **data})

    def _open(self, method: str, path: str, form: Mapping[str, str] | None) -> str:
        for _ in range(HOPS):
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
            if form:
                headers |= {"Origin": self._portal, "Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(form) if form else None
            try:
                answer = self._http.request(method, f"{self._portal}{path}", body=body, headers=headers, redirect=False)
            except urllib3.exceptions.HTTPError as failure:
                raise OSError(f"{method} {path}: {failure}") from failure
            for line in answer.headers.getlist("Set-Cookie"):
                self._cookies |= {name: item.value for name, item in SimpleCookie(line).items()}
            if answer.status in (302, 303):
                method, path, form = "GET", answer.headers["Location"].removeprefix(self._portal), None
                continue
            if answer.status >= 300:
                raise OSError(f"{method} {path} answered {answer.status}")
            return answer.data.decode("utf-8")
        raise OSError(f"{path} leads on and on")


def readable(page: str) -> str:
    """A page without its tags."""
    return " ".join(html.unescape(_TAG.sub(" ", page)).split())
