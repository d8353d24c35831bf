"""Vault as a workload meets it: log in with the account's token, look at versions, read secrets, end the token.

For the agent that runs beside every service, so it needs the standard library alone: hvac with requests would double
its memory. What goes into a path is checked as in `clients.vault`; nothing comes from the environment, redirects are
not followed, and neither a token nor a value stands in a message.

https://developer.hashicorp.com/vault/api-docs/auth/kubernetes#login
https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from pilothouse.clients.vault_names import ROLE, address, checked_path, mount_path, name
from pilothouse.problems import Denied, Invalid, Unavailable

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
MAX_ANSWER = 8 * 1024 * 1024
ROTATED = "pilothouse_rotated"
"""The field of a secret's own metadata whose change asks every agent to fetch it again."""


@dataclass(frozen=True, slots=True)
class Session:
    """A token of Vault's and the seconds that it lives."""

    token: str = field(repr=False)
    seconds: int


@dataclass(frozen=True, slots=True)
class Version:
    """Which state of a secret: its version, and when somebody asked for it to be fetched again."""

    number: int
    rotated: str = ""


class WorkloadVault:
    """One Vault. `Invalid` for an address that would carry tokens unencrypted, or a CA file that cannot be used."""

    def __init__(
        self, url: str, ca_file: str = "", connect: float = CONNECT_SECONDS, answer: float = ANSWER_SECONDS
    ) -> None:
        self.url = address(url)
        parts = urlsplit(self.url)
        self._base = parts.path
        self._host, self._port = parts.hostname or "", parts.port
        self._connect, self._answer = connect, answer
        self._tls = _trusting(ca_file) if parts.scheme == "https" else None

    def __repr__(self) -> str:
        return f"WorkloadVault({self.url})"

    def login(self, mount: str, role: str, jwt: str) -> Session:
        """`Denied` with Vault's own words where role, account, namespace or audience do not fit."""
        path = f"auth/{mount_path(mount)}/login"
        status, body = self._send("POST", path, "", {"role": name(ROLE, role, "role"), "jwt": jwt})
        if status in (400, 401, 403):
            raise Denied(f"Vault at {self.url} refused the login as role {role}: {_said(body, status)}")
        auth = self._checked("POST", path, status, body).get("auth")
        if not isinstance(auth, Mapping) or not (auth.get("client_token") and isinstance(auth["client_token"], str)):
            raise Unavailable(f"Vault at {self.url} answered a login without a token")
        return Session(auth["client_token"], int(auth.get("lease_duration") or 0))

    def version(self, session: Session, mount: str, path: str) -> Version | None:
        """The state that a secret is in, without its values; None where there is none, or it was deleted."""
        data = self._read(session, f"{mount_path(mount)}/metadata/{checked_path(path)}")
        if data is None:
            return None
        number = int(data.get("current_version") or 0)
        newest = (data.get("versions") or {}).get(str(number)) or {}
        gone = bool(newest.get("destroyed")) or bool(newest.get("deletion_time"))
        return None if gone or not number else Version(number, _rotated(data))

    def secret(self, session: Session, mount: str, path: str) -> tuple[Mapping[str, Any], Version] | None:
        """A secret's values and the state that they are of; None as in `version`."""
        data = self._read(session, f"{mount_path(mount)}/data/{checked_path(path)}")
        if data is None or not isinstance(data.get("data"), Mapping):
            return None
        metadata = data.get("metadata") or {}
        return data["data"], Version(int(metadata.get("version") or 0), _rotated(metadata))

    def revoke(self, session: Session) -> None:
        """End the token."""
        path = "auth/token/revoke-self"
        self._checked("POST", path, *self._send("POST", path, session.token, {}))

    # ------------------------------------------------------------ one request

    def _read(self, session: Session, path: str) -> Mapping[str, Any] | None:
        status, body = self._send("GET", path, session.token)
        if status == 404:
            return None
        data = self._checked("GET", path, status, body).get("data")
        if not isinstance(data, Mapping):
            raise Unavailable(f"the answer of Vault at {self.url} cannot be read")
        return data

    def _checked(self, method: str, path: str, status: int, body: bytes) -> Mapping[str, Any]:
        text = f"Vault at {self.url} answered {status} to {method} {path}: {_said(body, status)}"
        if status in (401, 403):
            raise Denied(text)
        if status >= 500 or status in (429, 472, 473):
            sealed = "sealed" in _said(body, status).lower()
            raise Unavailable(f"Vault at {self.url} is sealed" if sealed else text)
        if status >= 300:
            raise Invalid(text, "redirects are not followed: declare the address that it leads to" * (status < 400))
        if status == 204:
            return {}
        try:
            found = json.loads(body)
        except ValueError as failure:
            raise Unavailable(f"the answer of Vault at {self.url} is not whole, or no JSON") from failure
        if not isinstance(found, Mapping):
            raise Unavailable(f"the answer of Vault at {self.url} cannot be read")
        return found

    def _send(self, method: str, path: str, token: str, body: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        connection = self._connection()
        headers = {"X-Vault-Request": "true", "Accept": "application/json"} | (
            {"X-Vault-Token": token} if token else {}
        )
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.connect()
            connection.sock.settimeout(self._answer)
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, f"{self._base}/v1/{quote(path)}", content, headers)
            response = connection.getresponse()
            return response.status, self._whole(response)
        except ssl.SSLCertVerificationError as failure:
            raise Unavailable(
                f"the certificate of Vault at {self.url} is not trusted: {failure.verify_message}",
                "is the authority that the pod mounts the one that signed it?",
            ) from failure
        except TimeoutError as failure:
            raise Unavailable(f"Vault at {self.url} does not answer in time", "is it up, or overloaded?") from failure
        except (OSError, http.client.HTTPException) as failure:
            why = getattr(failure, "strerror", None) or type(failure).__name__
            raise Unavailable(
                f"Vault at {self.url} does not answer: {why}", "is it up, and may this pod reach it?"
            ) from failure
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._connect)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._connect, context=self._tls)

    def _whole(self, response: http.client.HTTPResponse) -> bytes:
        """The body, bounded in size and time: a server that sends a byte now and then holds nobody up for ever."""
        ends = time.monotonic() + self._answer
        found = bytearray()
        while piece := response.read1(65536):
            found += piece
            if len(found) > MAX_ANSWER:
                raise Unavailable(f"Vault at {self.url} answered with more than {MAX_ANSWER >> 20} MiB")
            if time.monotonic() > ends:
                raise TimeoutError
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return bytes(found)


def _trusting(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as failure:
        raise Invalid(
            f"the CA file {ca_file} cannot be used: {getattr(failure, 'strerror', None) or failure}",
            "it holds the PEM certificates of the authority that signed Vault's certificate",
        ) from failure


def _rotated(metadata: Mapping[str, Any]) -> str:
    return str((metadata.get("custom_metadata") or {}).get(ROTATED, ""))


def _said(body: bytes, status: int) -> str:
    """Vault's own words, on one line and short."""
    try:
        errors = json.loads(body).get("errors") or ()
    except (ValueError, AttributeError):
        errors = ()
    words = "; ".join(" ".join(str(item).split()) for item in errors)[:300]
    return words or f"status {status}, without a reason"
