"""Portals and workers as real processes on one database, each with a data folder of its own."""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_SECONDS = 60.0


def until(found: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
    """What `found` returns once it is true; fails with `what` after that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


@dataclass
class Running:
    """A process of ours, with all that it prints."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def says(self, pattern: str) -> re.Match[str]:
        """The first line it prints that matches."""

        def look() -> re.Match[str] | None:
            found = next((match for line in list(self.lines) if (match := re.search(pattern, line))), None)
            assert found or self.process.poll() is None, "".join(self.lines)
            return found

        match: re.Match[str] = until(look, f"{pattern!r} in {self.lines}")
        return match

    def end(self) -> None:
        """As an operator ends it."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


@contextmanager
def started(*arguments: object, stdin: str = "") -> Iterator[Running]:
    """A Python process of ours, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    running = Running(process)
    assert process.stdin is not None
    process.stdin.write(stdin)
    process.stdin.close()
    try:
        yield running
    finally:
        running.end()


@contextmanager
def portal(
    data: Path, database: Path, platform: Path, without: tuple[str, ...] = ("--no-worker", "--no-signer")
) -> Iterator[str]:
    """The address of a real `pilothouse serve`, unless said otherwise without worker and signer."""
    arguments = ("--data", data, "--database-file", database, "--platform", platform, "--port", 0)
    with started("-m", "pilothouse", "serve", *arguments, *without) as running:
        yield running.says(r"pilothouse serves at (http://\S+)").group(1)


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Browser:
    """Somebody who talks to portals: cookies go to each of them, as behind one address."""

    def __init__(self) -> None:
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()), _NoRedirect()
        )

    def ask(self, url: str, data: dict[str, Any] | None = None, token: str = "", form: bool = False) -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = None
        if data is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded" if form else "application/json"
            body = (urllib.parse.urlencode(data) if form else json.dumps(data)).encode()
        request = urllib.request.Request(url, data=body, headers=headers)
        try:
            with self._opener.open(request, timeout=60) as answer:
                return Answer(answer.status, answer.read().decode())
        except urllib.error.HTTPError as failure:
            return Answer(failure.code, failure.read().decode())

    def token(self, address: str, user: str, password: str) -> str:
        """A session of the command line."""
        answer = self.ask(f"{address}/api/v1/session", {"user": user, "password": password})
        assert answer.status == 201, answer.text
        found: str = answer.json["token"]
        return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None
