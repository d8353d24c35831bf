"""A server that speaks JSON over HTTP: time-outs, own CAs, credentials from a file, bounded answers, our exceptions.

Addresses come from the Cluster document alone and redirects are not followed, so that no answer of a server sends a
token elsewhere. Statuses become the one tree of exceptions: 401 and 403 `Denied`, 404 and other 4xx `Invalid`, 409 and
412 `Conflict`, and 429, 5xx and everything that breaks the connection `Unavailable`, which alone is tried again, and
only where the method may be repeated (https://www.rfc-editor.org/rfc/rfc9110#name-idempotent-methods).
"""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3

from pilothouse.clients.calls import ONCE, Retry, measured
from pilothouse.clients.reasons import reason_of
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, Unavailable

CONNECT_SECONDS = 3.0
READ_SECONDS = 15.0
TOTAL_SECONDS = 60.0
"""The longest that one answer may take: a server that sends a byte now and then never runs into the other time-outs."""
MAX_ANSWER = 64 * 1024 * 1024
MAX_REASON = 800
"""Characters of a server's own words; what is wrong with a file stands behind its path."""
USUAL = Retry()
_EMPTY = frozenset((204, 205, 304))
_REPEATABLE = frozenset(("GET", "HEAD", "PUT", "DELETE"))

Query = Mapping[str, str | Sequence[str]]


class TryLater(Unavailable):
    """The server said when it may be asked again, in seconds."""

    def __init__(self, message: str, hint: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is what JSON held, or None where the answer was empty; `text` where it was no JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any
    text: str = ""


class Http:
    """One server. Safe to share between threads.

    `server` is the word that metrics and messages call it by. The token file is read for every request: kubelet and
    Vault agents change it in place.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        server: str,
        retry: Retry = USUAL,
        connect: float = CONNECT_SECONDS,
        read: float = READ_SECONDS,
        scheme: str = "Bearer",
        headers: Mapping[str, str] | None = None,
        total: float = TOTAL_SECONDS,
    ) -> None:
        self.endpoint = endpoint
        self.url = endpoint.url.rstrip("/")
        self.server = server
        self._retry = retry
        self._scheme = scheme
        self._headers = dict(headers or {})
        self._connect, self._read_timeout, self._total = connect, read, total
        self._pool = urllib3.PoolManager(
            num_pools=2,
            maxsize=8,
            timeout=urllib3.Timeout(connect=connect, read=read),
            retries=False,
            **tls(endpoint),
        )

    def get(self, path: str, operation: str, query: Query | None = None) -> Any:
        """The JSON of a GET."""
        return self.request("GET", path, operation, query=query).body

    def request(
        self,
        method: str,
        path: str,
        operation: str,
        query: Query | None = None,
        body: Any = None,
        repeatable: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request. A `body` of bytes goes as it is, anything else as JSON.

        `repeatable` says for a POST that it changes nothing, or for a PUT that it must not be repeated.
        """
        again = method in _REPEATABLE if repeatable is None else repeatable
        retry = self._retry if again else ONCE
        with measured(self.server, operation):
            return retry.run(lambda: self._once(method, path, query, body, headers or {}), self.server, operation)

    def close(self) -> None:
        self._pool.clear()

    # ------------------------------------------------------------ one attempt

    def _once(self, method: str, path: str, query: Query | None, body: Any, headers: Mapping[str, str]) -> Answer:
        sent = {"Accept": "application/json", "User-Agent": "pilothouse", **self._headers, **self._credentials()}
        data: bytes | None = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        sent |= headers
        url = f"{self.url}{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
        status, answered, raw = self._exchange(method, url, sent, data)
        return self._answer(method, path, status, answered, raw)

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], data: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One attempt without a judgement of its status, for a client that brings its own protocol.

        `target` is path and query. The credentials are added. Raises `Unavailable`.
        """
        sent = {"User-Agent": "pilothouse", **headers, **self._credentials()}
        return self._exchange(method, f"{self.url}{target}", sent, data)

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], data: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        ends = time.monotonic() + self._total
        try:
            response = self._pool.request(
                method, url, body=data, headers=headers, redirect=False, preload_content=False
            )
            try:
                raw = self._read(response, ends)
            except BaseException:
                response.close()  # what is left of the answer must not be read as the next one's
                raise
            response.release_conn()
        except urllib3.exceptions.HTTPError as failure:
            raise self.unreachable(failure) from failure
        if not raw and method != "HEAD" and response.status not in _EMPTY and not _is_framed(response.headers):
            # A head that breaks off looks like one without a length, and its body like an empty one.
            raise Unavailable(
                f"{self.server} at {self.url} broke off its answer to {method}",
                "it ended the connection within the head of the answer; was it restarted?",
            )
        return int(response.status), dict(response.headers), raw

    def _read(self, response: urllib3.BaseHTTPResponse, ends: float) -> bytes:
        """The whole body, as it comes in: no more of it than may be, and no later than may be."""
        raw = bytearray()
        while chunk := response.read1(65536, decode_content=True):
            raw += chunk
            if len(raw) > MAX_ANSWER:
                raise Unavailable(f"{self.server} at {self.url} answered with more than {MAX_ANSWER >> 20} MiB")
            if time.monotonic() > ends:
                raise Unavailable(
                    f"{self.server} at {self.url} did not end its answer within {self._total:g} s",
                    "it is overloaded, or the network between is",
                )
        return bytes(raw)

    def _answer(self, method: str, path: str, status: int, headers: Mapping[str, str], raw: bytes) -> Answer:
        text = raw.decode("utf-8", "replace")
        try:
            body = json.loads(text) if text.strip() else None
            text = ""
        except ValueError:
            body = None
        if status >= 300:
            raise self.refusal(method, path, status, message(body) or text, _header(headers, "retry-after"))
        return Answer(status, headers, body, text)

    def refusal(self, method: str, path: str, status: int, why: str, retry_after: str = "") -> PilothouseError:
        """The exception for a status that is no success."""
        said = f": {' '.join(why.split())[:MAX_REASON]}" if why.strip() else ""
        text = f"{self.server} at {self.url} answered {status} to {method} {path}{said}"
        if status in (401, 403):
            file = self.endpoint.token_file
            hint = f"see whether {file} holds a token that may do this" if file else "declare a `tokenFile` for it"
            return Denied(text, hint)
        if status in (409, 412):
            return Conflict(text, "read it again: somebody else changed it")
        if status == 429 or status >= 500:
            seconds = float(retry_after) if retry_after.isdigit() else 0.0
            return TryLater(text, "it is overloaded or not ready; try again in a moment", min(seconds, 60.0))
        if status < 400:
            return Invalid(text, "redirects are not followed: declare the address that it redirects to")
        return Invalid(
            text, "is the address of the Cluster document that of this server, and its version the declared?"
        )

    def unreachable(self, failure: Exception) -> Unavailable:
        """The exception for a connection that did not work."""
        reason = getattr(failure, "reason", None) or failure
        if isinstance(reason, urllib3.exceptions.SSLError | ssl.SSLError):
            ca = self.endpoint.ca_file
            hint = (
                f"is {ca} the authority that signed its certificate?" if ca else "declare the `caFile` that signed it"
            )
        else:
            hint = "is it up, is the address of the Cluster document right, and can this machine reach it?"
        why = reason_of(failure, self._connect, self._read_timeout)
        return Unavailable(f"{self.server} at {self.url} does not answer: {why}", hint)

    def _credentials(self) -> dict[str, str]:
        return authorization(self.endpoint, self._scheme)


def _is_framed(headers: Mapping[str, str]) -> bool:
    """Whether an answer says where its body ends: https://www.rfc-editor.org/rfc/rfc9112#name-message-body-length."""
    return bool(_header(headers, "content-length") or _header(headers, "transfer-encoding"))


def _header(headers: Mapping[str, str], name: str) -> str:
    """The value of a header whose name is `name` in small letters."""
    return next((value for key, value in headers.items() if key.lower() == name), "")


def authorization(endpoint: Endpoint, scheme: str = "Bearer") -> dict[str, str]:
    """The Authorization header for what the endpoint's token file holds now, or none.

    With a `user` the file holds that user's password. Raises `Unavailable` where the file cannot be read.
    """
    if not endpoint.token_file:
        return {}
    try:
        token = Path(endpoint.token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as failure:
        why = getattr(failure, "strerror", "") or "it is no text"
        raise Unavailable(
            f"cannot read the token file {endpoint.token_file} for {endpoint.url}: {why}",
            "it lies on the machine that makes the call; check its path, owner and mode",
        ) from failure
    if endpoint.user:
        return {"Authorization": "Basic " + base64.b64encode(f"{endpoint.user}:{token}".encode()).decode()}
    return {"Authorization": f"{scheme} {token}"}


def tls(endpoint: Endpoint) -> dict[str, Any]:
    """What urllib3 needs to trust the server: its CA file alone, where one is declared. Raises `Unavailable`."""
    if urlsplit(endpoint.url).scheme != "https":
        return {}
    if not endpoint.ca_file:
        return {"cert_reqs": "CERT_REQUIRED"}
    try:
        return {"ssl_context": ssl.create_default_context(cafile=endpoint.ca_file)}
    except (OSError, ssl.SSLError) as failure:
        raise Unavailable(
            f"cannot use the CA file {endpoint.ca_file} for {endpoint.url}: {failure}",
            "it holds the PEM certificates of the authorities that may have signed the server's",
        ) from failure


def message(body: Any) -> str:
    """The sentence in an error's JSON, as the servers that we know write it."""
    if not isinstance(body, Mapping):
        return ""
    for key in ("error", "message", "errors", "reason"):
        found = body.get(key)
        if isinstance(found, str):
            return found
        if isinstance(found, Mapping):
            return message(found)
        if isinstance(found, list) and found:
            return "; ".join(str(item) for item in found)
    return ""
