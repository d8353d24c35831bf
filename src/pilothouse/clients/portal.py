"""The portal's API from an engineer's machine: standard library only, so that the base install suffices.

A token travels over TLS alone, except to this machine itself. Redirects are not followed: a token must not
be carried elsewhere.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from pilothouse.access.certificates import Issued
from pilothouse.clients.addresses import LOOPBACK, plain
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, Unavailable

TIMEOUT = 20.0
MAX_ANSWER = 8_000_000


@dataclass(frozen=True, slots=True)
class Session:
    """What a login gives. `token` is a secret; `expires_at` ends it."""

    server: str
    token: str
    user: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate, and the cluster's API server: its address ("" where none is declared), and the authority of its
    own certificate in PEM ("" where there is none; `note` says why it could not be read)."""

    issued: Issued
    server: str
    server_authority: str = ""
    note: str = ""


def address(server: str) -> str:
    """The portal's address in its plain form. `Invalid` for what is none, or would carry a token unencrypted."""
    return plain(server.strip(), "portal", "https://pilothouse.bank.example", "a password", scheme="https")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        return None


class PortalClient:
    """`ca_file` is a PEM file of authorities to trust instead of the system's."""

    def __init__(self, server: str, token: str = "", ca_file: str = "") -> None:
        self.server = address(server)
        self._token = token
        try:
            context = ssl.create_default_context(cafile=ca_file or None)
        except (OSError, ssl.SSLError) as failure:
            raise Invalid(f"{ca_file} holds no authority that can be used: {failure}") from failure
        # No proxy of the environment: it would see the token of a plain loopback address.
        handlers = [urllib.request.HTTPSHandler(context=context), _NoRedirect()]
        if urlsplit(self.server).hostname in LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def login(self, user: str, password: str) -> Session:
        """A session for the command line. `Denied` for a wrong name or password."""
        answer = self._call("POST", "/session", {"user": user, "password": password})
        try:
            return Session(self.server, answer["token"], answer["user"], datetime.fromisoformat(answer["expires_at"]))
        except (KeyError, TypeError, ValueError) as failure:
            raise self._unreadable() from failure

    def logout(self) -> None:
        self._call("DELETE", "/session")

    def profiles(self) -> list[dict[str, Any]]:
        return self._items("/access/profiles")

    def certificates(self) -> list[dict[str, Any]]:
        return self._items("/access/certificates")

    def vaults(self) -> list[dict[str, Any]]:
        """`cluster`, `url`, `mount` and `ca_file` of each Vault at which engineers log in."""
        return self._items("/access/vaults")

    def contexts(self) -> list[dict[str, Any]]:
        """`cluster`, `profile`, `team`, `server`, `server_authority`, `server_note`: where the caller may go."""
        return self._items("/access/contexts")

    def certificate(
        self, profile: str, cluster: str, csr: str, seconds: int = 0, team: str = "", vault_token: str = ""
    ) -> Signed:
        body = {"profile": profile, "cluster": cluster, "csr": csr, "seconds": seconds}
        body |= {name: value for name, value in (("team", team), ("vault_token", vault_token)) if value}
        return self._signed(self._call("POST", "/access/certificates", body))

    def request(self, profile: str, cluster: str, reason: str, seconds: int, ticket: str = "") -> dict[str, Any]:
        body = {"profile": profile, "cluster": cluster, "reason": reason, "seconds": seconds}
        body |= {"ticket": ticket} if ticket else {}  # a portal of before knows none
        return self._call("POST", "/access/requests", body)

    def requests(self) -> dict[str, Any]:
        """`mine` and `waiting` (for a decision of the caller)."""
        return self._call("GET", "/access/requests")

    def decide(self, id: str, approve: bool, comment: str) -> dict[str, Any]:
        word = "approve" if approve else "deny"
        return self._call("POST", f"/access/requests/{quote(id, safe='')}/{word}", {"comment": comment})

    def claim(self, id: str, csr: str, vault_token: str = "") -> Signed:
        body = {"csr": csr} | ({"vault_token": vault_token} if vault_token else {})
        return self._signed(self._call("POST", f"/access/requests/{quote(id, safe='')}/claim", body))

    def give_back(self, id: str) -> dict[str, Any]:
        return self._call("POST", f"/access/give-back/{quote(id, safe='')}", {})

    def lock(self, subject: str, reason: str, seconds: int, anyway: bool) -> dict[str, Any]:
        """Locks a person or a certificate: the lock, and how many sessions ended with it."""
        body = {"subject": subject, "reason": reason, "seconds": seconds, "anyway": anyway}
        return self._call("POST", "/access/locks", body)

    def unlock(self, subject: str, why: str) -> dict[str, Any]:
        return self._call("POST", "/access/locks/lift", {"subject": subject, "why": why})

    def locks(self, past: bool) -> dict[str, Any]:
        """`items`, and `narrowed`: why only the caller's own are listed."""
        return self._call("GET", "/access/locks" + ("?past=yes" if past else ""))

    def who_can(self, **question: str) -> dict[str, Any]:
        """`ways` and `notes` for a verb and resource on a cluster, at a moment where one is given."""
        query = urlencode({name: value for name, value in question.items() if value})
        return self._call("GET", f"/access/who-can?{query}")

    def what_can(self, user: str, cluster: str) -> dict[str, Any]:
        """`rights`, `certificates`, `locked` and `notes` of a person."""
        query = urlencode({"cluster": cluster} if cluster else {})
        return self._call("GET", f"/access/what-can/{quote(user, safe='')}?{query}".rstrip("?"))

    def rotation(self, cluster: str) -> dict[str, Any]:
        """How far the rotation of the cluster's authority is."""
        return self._call("GET", f"/access/authorities/{quote(cluster, safe='')}/rotation")

    def rotate(self, cluster: str, stage: str, trusted: bool, force: bool) -> dict[str, Any]:
        """Take the stage after `stage`."""
        body = {"stage": stage, "trusted": trusted, "force": force}
        return self._call("POST", f"/access/authorities/{quote(cluster, safe='')}/rotation", body)

    def break_glass(self) -> dict[str, Any]:
        """`open`, and `waiting` for a review."""
        return self._call("GET", "/access/break-glass")

    def review(self, id: str, text: str) -> dict[str, Any]:
        return self._call("POST", f"/access/requests/{quote(id, safe='')}/review", {"text": text})

    def ledger(self, **filters: str) -> dict[str, Any]:
        query = urlencode({name: value for name, value in filters.items() if value})
        return self._call("GET", f"/access/ledger?{query}".rstrip("?"))

    # ------------------------------------------------------------ proposals

    def proposals(self, **filters: str) -> dict[str, Any]:
        """`items` and `total`; filters `author`, `waiting` (`yes`), `state`, `service`, `team`."""
        query = urlencode({name: value for name, value in filters.items() if value})
        return self._call("GET", f"/proposals?{query}".rstrip("?"))

    def proposal(self, number: int) -> dict[str, Any]:
        return self._call("GET", f"/proposals/{number}")

    def preview(self, change: Mapping[str, Any]) -> dict[str, Any]:
        """What a change would do: `service`, and `text`, or `add` and `remove`. Nothing is stored."""
        return self._call("POST", "/proposals/preview", change)

    def propose(self, change: Mapping[str, Any]) -> dict[str, Any]:
        """The same with `title`, `reason` and `submit`: the proposal that was made."""
        return self._call("POST", "/proposals", change)

    def proposal_step(self, number: int, word: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """`decide`, `submit`, `withdraw` or `retry`."""
        return self._call("POST", f"/proposals/{number}/{quote(word, safe='')}", body)

    # ------------------------------------------------------------ silences

    def silence(self, cluster: str, matchers: str, seconds: int, comment: str) -> dict[str, Any]:
        """Holds alerts back: the silence that was made."""
        body = {"cluster": cluster, "matchers": matchers, "seconds": seconds, "comment": comment}
        return self._call("POST", "/alerts/silences", body)

    def unsilence(self, cluster: str, id: str) -> dict[str, Any]:
        """Ends a silence now."""
        return self._call("DELETE", f"/alerts/silences/{quote(cluster, safe='')}/{quote(id, safe='')}")

    # ------------------------------------------------------------ plumbing

    def _signed(self, answer: Mapping[str, Any]) -> Signed:
        try:
            about = (str(answer.get(name, "")) for name in ("server", "server_authority", "server_note"))
            return Signed(Issued.from_dict(answer), *about)
        except (KeyError, TypeError, ValueError) as failure:
            raise self._unreadable() from failure

    def _items(self, path: str) -> list[dict[str, Any]]:
        items = self._call("GET", path).get("items")
        if not isinstance(items, list):
            raise self._unreadable()
        return items

    def _unreadable(self) -> Unavailable:
        return Unavailable(f"{self.server} answers what no pilothouse of this version would", "is that its address?")

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Accept": "application/json", "User-Agent": "pilothouse"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(  # noqa: S310  # http or https: `address` has seen to it
            f"{self.server}/api/v1{path}", data, headers, method=method
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                text = answer.read(MAX_ANSWER)
        except urllib.error.HTTPError as failure:
            raise self._refused(failure) from failure
        except urllib.error.URLError as failure:
            raise self._away(failure.reason) from failure
        except (OSError, ValueError) as failure:
            raise self._away(failure) from failure
        try:
            found = json.loads(text) if text else {}
        except ValueError as failure:
            raise self._unreadable() from failure
        if not isinstance(found, dict):
            raise self._unreadable()
        return found

    def _away(self, reason: object) -> Unavailable:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return Unavailable(
                f"the certificate of {self.server} is not trusted: {reason.verify_message}",
                "give its authority with --ca-file",
            )
        text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        return Unavailable(f"{self.server} does not answer: {text}", "is the portal up, and the address right?")

    def _refused(self, failure: urllib.error.HTTPError) -> PilothouseError:
        """The portal's own words, as the exception that they were."""
        try:
            body = json.loads(failure.read(65_536))
            detail, hint = str(body.get("detail") or body.get("title") or ""), str(body.get("hint") or "")
        except (ValueError, AttributeError, OSError):
            detail, hint = "", ""
        match failure.code:
            case 401:
                return Denied(detail or "you are not logged in", hint or "run `pilothouse access login`")
            case 403:
                return Denied(detail or "you may not do that", hint)
            case 409:
                return Conflict(detail or "it is in another state", hint)
            case 400 | 404 | 405 | 413 | 415 | 422:
                return Invalid(detail or f"the portal refused it (status {failure.code})", hint)
            case 429:
                return Unavailable(detail or "too many attempts", hint or "wait a few minutes")
            case 301 | 302 | 303 | 307 | 308:
                return Invalid(f"{self.server} leads elsewhere", "give the portal's own address with --server")
        return Unavailable(detail or f"the portal answers with status {failure.code}", hint)
