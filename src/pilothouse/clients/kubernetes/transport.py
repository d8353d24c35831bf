"""One request to an API server: credentials, time-outs, repeats where they are safe, and our exceptions.

Statuses follow https://kubernetes.io/docs/reference/using-api/api-concepts/ and the Status object that an API server
answers with. A request is repeated after 429 (whose `Retry-After` holds), 5xx and a broken connection, and only where
it may be: a read, and a server-side apply, which says the whole of what should be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from pilothouse.clients.calls import ONCE, Retry, measured
from pilothouse.clients.reasons import reason_of
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, Unavailable

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
MAX_BYTES = 500_000_000
SERVER = "kubernetes"

FORBIDDEN = "grant these credentials that verb on that resource; `kubectl auth can-i --list` shows what they may"

Query = Sequence[tuple[str, str]]


class Answered(PilothouseError):
    """An answer that is no success. `said` is the server's own sentence, `details` its Status' details."""

    status: int = 0
    said: str = ""
    details: Mapping[str, Any] = {}
    retry_after: float = 0.0
    date: str = ""


class Unauthenticated(Answered, Denied):
    """401: the credentials are nobody's."""


class Forbidden(Answered, Denied):
    """403: whose they are may not do that."""


class Clash(Answered, Conflict):
    """409."""


class Rejected(Answered, Invalid):
    """404 (`absent`), 400, 422 and whatever else is ours to mend."""

    @property
    def absent(self) -> bool:
        return self.status == 404


class Failing(Answered, Unavailable):
    """429 or 5xx."""


@dataclass(frozen=True, slots=True)
class Reply:
    body: Any
    date: str = ""
    """The server's clock, as HTTP writes it."""


@dataclass
class Transport:
    """A pool of connections to one API server. Safe to share between threads.

    `credentials` gives the headers of the moment; `hint` says what to do when they are refused.
    """

    pool: Any
    host: str
    credentials: Callable[[], Mapping[str, str]]
    hint: str = ""
    retry: Retry = field(default_factory=Retry)
    close: Callable[[], None] = lambda: None

    def call(
        self,
        method: str,
        path: str,
        operation: str,
        query: Query = (),
        body: Any = None,
        content: str = "application/json",
        repeatable: bool | None = None,
        read: float = READ_SECONDS,
    ) -> Reply:
        """The JSON object of a successful answer; raises `Answered` for any other, `Unavailable` without one."""
        again = method == "GET" if repeatable is None else repeatable
        data = None if body is None else json.dumps(body).encode()
        with measured(SERVER, operation):
            return (self.retry if again else ONCE).run(
                lambda: self._once(method, path, query, data, content, read), SERVER, operation
            )

    def _once(self, method: str, path: str, query: Query, data: bytes | None, content: str, read: float) -> Reply:
        import urllib3

        headers = {"Accept": "application/json", "User-Agent": "pilothouse", **self.credentials()}
        if data is not None:
            headers["Content-Type"] = content
        url = self.host + path + (f"?{urlencode(list(query))}" if query else "")
        try:
            response = self.pool.request(
                method,
                url,
                body=data,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read),
            )
            try:
                raw = response.read(MAX_BYTES + 1, decode_content=True)
            finally:
                response.release_conn()
        except urllib3.exceptions.HTTPError as failure:
            raise self.unreachable(failure, read) from failure
        if len(raw) > MAX_BYTES:
            raise Unavailable(f"{self.host}: the answer to GET {path} is too large", "ask for fewer objects at once")
        status = int(response.status)
        found = _object(raw)
        if status >= 300:
            raise self._answered(method, path, status, found, str(response.reason or ""), response.headers)
        if found is None:
            raise Unavailable(
                f"{self.host} answered {method} {path}, and this is no list or object; is it a Kubernetes API server?",
                "declare the address of the API server itself, and not that of a login page before it",
            )
        return Reply(found, response.headers.get("Date", ""))

    def _answered(
        self, method: str, path: str, status: int, body: Mapping[str, Any] | None, reason: str, headers: Any
    ) -> Answered:
        said = " ".join(str((body or {}).get("message") or reason or "no reason given").split())[:1000]
        text = f"{self.host} answered {status} to {method} {path}: {said}"
        found: Answered
        if status == 401:
            found = Unauthenticated(text, self.hint)
        elif status == 403:
            found = Forbidden(text, FORBIDDEN)
        elif status == 409:
            found = Clash(text, "read it again: somebody else changed it")
        elif status == 429 or status >= 500:
            found = Failing(text, "try again; `kubectl get --raw /readyz?verbose` says how the API server is")
            after = headers.get("Retry-After", "")
            found.retry_after = min(float(after), 60.0) if after.isdigit() else 0.0
        else:
            found = Rejected(text, "is it the declared address, and does that cluster serve this kind?")
        found.status, found.said, found.date = status, said, headers.get("Date", "")
        details = (body or {}).get("details")
        found.details = details if isinstance(details, Mapping) else {}
        return found

    def unreachable(self, failure: Exception, read: float) -> Unavailable:
        return Unavailable(
            f"{self.host} does not answer: {reason_of(failure, CONNECT_SECONDS, read)}",
            "is it the right one (`kubectl config current-context` says the context, or the Cluster document), "
            "and can this machine reach it?",
        )


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
