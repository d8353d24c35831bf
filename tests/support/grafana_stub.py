"""Grafana's dashboard API as its published reference describes it; there is no Grafana to run tests on.

https://grafana.com/docs/grafana/latest/developers/http_api/dashboard/, …/folder/, …/folder_dashboard_search/, …/other/
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pilothouse.platform.model import Endpoint


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Tests do not print requests."""

    def _serve(self) -> None:
        stub: GrafanaStub = self.server.owner  # type: ignore[attr-defined]  # set by GrafanaStub
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if stub.token and self.headers.get("Authorization") != f"Bearer {stub.token}":
            status, answer = 401, {"message": "Unauthorized"}
        else:
            status, answer = stub.answer(self.command, parts.path, query, body)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()


class GrafanaStub:
    """`boards` are dashboards by uid with their folder; `saves` what was written, in order."""

    def __init__(self, token: str = "") -> None:
        self.token = token
        self.boards: dict[str, tuple[dict[str, Any], str]] = {}
        self.folders: dict[str, str] = {}
        self.history: dict[str, list[str]] = {}
        self.saves: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.owner = self  # type: ignore[attr-defined]  # how the handler finds us
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.url)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, uid: str, title: str, folder: str = "", tags: tuple[str, ...] = (), **more: Any) -> None:
        """A dashboard that somebody made by hand."""
        self.boards[uid] = ({"uid": uid, "title": title, "tags": list(tags), "version": 1, **more}, folder)

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        if path == "/api/health":
            return 200, {"database": "ok", "version": "12.1.0", "commit": "0"}
        if path == "/api/search":
            return 200, self._search(query)
        if path == "/api/dashboards/db" and method == "POST":
            return self._save(body)
        if path == "/api/folders" and method == "POST":
            self.folders[body["uid"]] = body["title"]
            return 200, {"uid": body["uid"], "title": body["title"]}
        name = unquote(path.rsplit("/", 1)[1])
        if path.startswith("/api/folders/"):
            return (200, {"uid": name}) if name in self.folders else (404, {"message": "folder not found"})
        if path.endswith("/versions"):
            said = self.history.get(unquote(path.split("/")[-2]), [])
            items = [{"version": at, "createdBy": "bot", "message": text} for at, text in enumerate(said, 1)]
            return 200, {"versions": items[::-1]}
        if path.startswith("/api/dashboards/uid/"):
            if name not in self.boards:
                return 404, {"message": "Dashboard not found"}
            data, folder = self.boards[name]
            if method == "DELETE":
                del self.boards[name]
                return 200, {"title": data["title"], "message": "Dashboard deleted"}
            return 200, {"dashboard": {**data, "id": 7}, "meta": {"folderUid": folder, "provisioned": False}}
        return 404, {"message": "Not found"}

    def _search(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        hits = [
            {"uid": uid, "title": data["title"], "folderUid": folder, "tags": data.get("tags", []), "type": "dash-db"}
            for uid, (data, folder) in sorted(self.boards.items())
            if query["tag"] in data.get("tags", [])
        ]
        limit, page = int(query.get("limit", 1000)), int(query.get("page", 1))
        return hits[limit * (page - 1) : limit * page]

    def _save(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        data, uid = dict(body["dashboard"]), body["dashboard"]["uid"]
        if body["folderUid"] and body["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        held = self.boards.get(uid)
        if held is not None and not body["overwrite"] and data.get("version") != held[0]["version"]:
            why = "The dashboard has been changed by someone else"
            return 412, {"status": "version-mismatch", "message": why}
        data["version"] = held[0]["version"] + 1 if held else 1
        data.pop("id", None)
        self.boards[uid] = (data, body["folderUid"])
        self.history.setdefault(uid, []).append(body["message"])
        self.saves.append(uid)
        return 200, {"uid": uid, "version": data["version"], "status": "success", "id": 7}
