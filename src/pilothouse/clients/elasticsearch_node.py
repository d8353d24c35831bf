"""How requests of Elasticsearch's official client travel: by `clients.http`, and refusals as exceptions of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from elastic_transport import ApiResponseMeta, BaseNode, HttpHeaders
from elastic_transport._node import NodeApiResponse

from pilothouse.clients.http import Http, message
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError


class Missing(Invalid):
    """What was asked for is not there."""


def node(http: Http) -> type[BaseNode]:
    """A node of the official client whose requests `http` carries, and whose refusals are exceptions of ours."""

    class Node(BaseNode):
        def perform_request(
            self,
            method: str,
            target: str,
            body: bytes | None = None,
            headers: HttpHeaders | None = None,
            request_timeout: Any = None,
        ) -> NodeApiResponse:
            status, answered, raw = http.exchange(method, target, dict(headers or {}), body)
            found = HttpHeaders(answered)
            if status >= 300:
                raise _refusal(http, method, target.partition("?")[0], status, raw, found.get("retry-after") or "")
            return NodeApiResponse(ApiResponseMeta(status, "1.1", found, 0.0, self.config), raw)

    return Node


def _refusal(http: Http, method: str, path: str, status: int, raw: bytes, retry_after: str) -> PilothouseError:
    """The exception for a status that is no success; what stands before the server may answer with anything."""
    try:
        said = why(json.loads(raw))
    except ValueError:
        said = raw.decode("utf-8", "replace")
    server = f"elasticsearch at {http.url}"
    if status == 404:
        return Missing(f"{server} has no {path}" + (f": {said}" if said else ""))
    if status == 403 and "license" in said:
        return Denied(f"{server} refused {method} {path}: {said}", "its licence lacks what that needs")
    if "resource_already_exists" in said or "version_conflict" in said:
        return Conflict(f"{server} refused {method} {path}: {said}", "read it again")
    if "failed to find action" in said:
        # A 500 of a build without that module: no time will bring it.
        return Invalid(f"{server} cannot do {method} {path}: {said}", "its build lacks a module")
    return http.refusal(method, path, status, said, retry_after)


def why(body: Any) -> str:
    """The sentences in an error: the outermost, and the cause that says most."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return message(body)
    said = [f"{error.get('type', '')}: {error.get('reason', '')}"]
    cause = error.get("caused_by")
    while isinstance(cause, Mapping):
        said.append(str(cause.get("reason", "")))
        cause = cause.get("caused_by")
    return "; ".join(dict.fromkeys(item for item in said if item.strip(": ")))
