"""An API server's list protocol on loopback, for tests of what reads a live cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

TOKEN = "a-token-for-tests"
GROUPS = ("discovery.k8s.io/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1")


@dataclass
class Stub:
    """An API server's lists. `objects` by path; `answers` overrides a path with (status, body)."""

    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    groups: list[str] = field(default_factory=lambda: list(GROUPS))
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    """Path → how many continued requests still answer 410."""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        self.asked.append((path, query))
        if path in self.answers:
            return self.answers[path]
        if path == "/apis":
            names = sorted({name.partition("/")[0] for name in self.groups})
            groups = [
                {"name": n, "versions": [{"groupVersion": g} for g in self.groups if g.startswith(f"{n}/")]}
                for n in names
            ]
            return 200, json.dumps({"kind": "APIGroupList", "groups": groups}).encode()
        version = path.removeprefix("/apis/").removeprefix("/api/").rpartition("/")[0]
        if version != "v1" and version not in self.groups:
            return status(404, "the server could not find the requested resource")
        items = self.objects.get(path, [])
        start = int(query.get("continue") or 0)
        if start and self.gone.get(path, 0) > 0:
            self.gone[path] -= 1
            return status(410, "The provided continue parameter is too old")
        limit = int(query.get("limit") or 0) or len(items)
        rest = len(items) - start - limit
        metadata = {"continue": str(start + limit), "remainingItemCount": rest} if rest > 0 else {}
        return 200, json.dumps({"kind": "List", "metadata": metadata, "items": items[start : start + limit]}).encode()


def status(code: int, message: str) -> tuple[int, bytes]:
    return code, json.dumps({"kind": "Status", "apiVersion": "v1", "message": message, "code": code}).encode()


@contextmanager
def serving() -> Iterator[Stub]:
    """A stub that answers at its `url` until the block ends."""
    found = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            found.headers.append({key.lower(): value for key, value in self.headers.items()})
            code, body = found.answer(parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()})
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def kubeconfig(folder: Path, url: str) -> str:
    path = folder / "kubeconfig"
    data = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in ("here", "there")],
    }
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return str(path)
