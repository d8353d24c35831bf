"""Rendered files on their way to the servers that read them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.bed.web import request


@dataclass
class Delivery:
    """What a configuration management does: servers read what the worker rendered, as soon as it changed."""

    rendered: Path
    servers: Mapping[str, Sequence[str]]
    """By part of what is rendered: the addresses of the servers that read it."""
    period: float = 1.0
    reloads: int = 0
    _end: threading.Event = field(default_factory=threading.Event)
    _seen: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        for part in self.servers:
            self._seen[part] = self._state(part)
        threading.Thread(target=self._run, name="delivery", daemon=True).start()

    def stop(self) -> None:
        self._end.set()

    def _state(self, part: str) -> str:
        files = sorted((self.rendered / part).rglob("*.yaml"))
        return " ".join(f"{file.name}:{file.stat().st_mtime_ns}" for file in files)

    def _run(self) -> None:
        while not self._end.wait(self.period):
            for part in self.servers:
                try:
                    state = self._state(part)
                    if state != self._seen[part]:
                        self._reload(part)
                        self._seen[part] = state
                except OSError:
                    continue  # being written, or the server was stopped: looked at again in a second

    def _reload(self, part: str) -> None:
        for url in self.servers[part]:
            request(f"{url}/-/reload", "POST", b"")
        self.reloads += 1
