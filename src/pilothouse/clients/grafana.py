"""Grafana's HTTP API: dashboards by uid, search, folders, create and update, health.

Written from the published reference, https://grafana.com/docs/grafana/latest/developers/http_api/ (dashboard, folder,
folder/dashboard search, other). A service account's token stands in the endpoint's token file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pilothouse.clients.calls import ONCE, Retry
from pilothouse.clients.http import Http
from pilothouse.clients.together import understood
from pilothouse.dashboards.live import Found, Held
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Conflict, Invalid

PAGE = 1000
"""Hits of one search request; Grafana gives no more than 5000."""


@dataclass(frozen=True, slots=True)
class Health:
    """`database` is `ok` where Grafana can work."""

    version: str
    database: str


class Grafana:
    """One server. Safe to share between threads."""

    def __init__(self, endpoint: Endpoint, read: float = 8.0, retry: Retry = ONCE) -> None:
        self.http = Http(endpoint, "grafana", retry=retry, connect=2.0, read=read)
        self.url = self.http.url

    def health(self) -> Health:
        found = self.http.get("/api/health", "health")
        with understood(self.http):
            return Health(str(found.get("version", "")), str(found["database"]))

    def search(self, tag: str) -> tuple[Found, ...]:
        """Every dashboard that carries the tag."""
        hits: list[Found] = []
        page = 1
        while True:
            query = {"type": "dash-db", "tag": tag, "limit": str(PAGE), "page": str(page)}
            found = self.http.get("/api/search", "search", query)
            with understood(self.http):
                hits += [
                    Found(item["uid"], item["title"], item.get("folderUid", ""), tuple(item.get("tags") or ()))
                    for item in found
                ]
                if len(found) < PAGE:
                    return tuple(hits)
            page += 1

    def dashboard(self, uid: str) -> Held | None:
        """The dashboard with its folder and version, or None where there is none."""
        path = f"/api/dashboards/uid/{quote(uid, safe='')}"
        try:
            found = self.http.get(path, "dashboard")
        except Invalid as failure:
            if _is_missing(failure):
                return None
            raise
        with understood(self.http):
            meta = found["meta"]
            return Held(found["dashboard"], meta.get("folderUid", ""), int(found["dashboard"].get("version", 0)))

    def versions(self, uid: str) -> tuple[tuple[int, str, str], ...]:
        """(version, by whom, message) of a dashboard's history, the newest first."""
        found = self.http.get(f"/api/dashboards/uid/{quote(uid, safe='')}/versions", "versions")
        with understood(self.http):
            items = found["versions"] if isinstance(found, dict) else found
            return tuple((int(item["version"]), item.get("createdBy", ""), item.get("message", "")) for item in items)

    def save(self, dashboard: Mapping[str, Any], folder: str, message: str, version: int = 0) -> int:
        """Creates it, or replaces that `version` of it; the new version. `Conflict` where somebody saved in between."""
        body = {
            "dashboard": {**dashboard, "id": None, "version": version},
            "folderUid": folder,
            "message": message,
            "overwrite": False,
        }
        try:
            found = self.http.request("POST", "/api/dashboards/db", "save", body=body).body
        except Conflict as failure:
            raise Conflict(
                failure.message, "somebody saved it in Grafana meanwhile: look at the difference again"
            ) from failure
        with understood(self.http):
            return int(found["version"])

    def delete(self, uid: str) -> None:
        self.http.request("DELETE", f"/api/dashboards/uid/{quote(uid, safe='')}", "delete")

    def folder(self, uid: str, title: str) -> bool:
        """Makes sure that the folder is there; whether it was made now."""
        try:
            self.http.get(f"/api/folders/{quote(uid, safe='')}", "folder")
        except Invalid as failure:
            if not _is_missing(failure):
                raise
            self.http.request("POST", "/api/folders", "create_folder", body={"uid": uid, "title": title})
            return True
        return False


def _is_missing(failure: Invalid) -> bool:
    return " answered 404 " in failure.message
