"""The socket: one JSON object per line, one answer per line.

    {"op": "sign", "token": …, "csr": …, "profile": …, "cluster": …, "grant": …, "seconds": …, "team": …, "vault": …,
     "address": …}
    {"op": "authority", "cluster": …}      what the cluster's API servers are to trust
    {"op": "self-test", "cluster": …}
    {"op": "rotation", "token": …, "cluster": …}
    {"op": "rotate", "token": …, "cluster": …, "from": stage, "trusted": bool, "force": bool}
    {"op": "ping"}

An answer is `{"ok": true, …}`, or `{"ok": false, "kind": …, "message": …, "hint": …}` where the kind is
denied, invalid, conflict or unavailable.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pilothouse.access import certificates
from pilothouse.access.escapes import Report
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, Unavailable
from pilothouse.workflows.issuance import Ask, Issuance
from pilothouse.workflows.rotation import Rotations

MAX_LINE = 64 * 1024
IDLE_SECONDS = 10.0
KINDS: Mapping[type[PilothouseError], str] = {
    Denied: "denied",
    Invalid: "invalid",
    Conflict: "conflict",
    Unavailable: "unavailable",
}

Log = Callable[[Mapping[str, Any]], None]
Tested = Callable[[str], Report]


class Server(socketserver.ThreadingUnixStreamServer):
    """Listens on the socket's path, mode 0600 (or 0660 for a group that is given)."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        path: Path,
        issuance: Issuance,
        log: Log,
        group: int | None = None,
        tested: Tested | None = None,
        rotations: Rotations | None = None,
    ) -> None:
        """`tested` gives what the self-test of a cluster found."""
        self.issuance = issuance
        self.tested = tested
        self.rotations = rotations
        self.log = log
        self.path = path
        _remove_stale(path)
        before = os.umask(0o177)
        try:
            super().__init__(str(path), _Handler)
        except OSError as failure:
            raise Unavailable(
                f"cannot listen on {path}: {failure.strerror or failure}",
                "a socket's path has at most 107 characters: choose a shorter one with --socket",
            ) from failure
        finally:
            os.umask(before)
        if group is not None:
            os.chown(path, -1, group)
            path.chmod(0o660)

    def server_close(self) -> None:
        super().server_close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke off; what goes wrong inside a request is answered by the handler."""
        self.log({"event": "connection broken"})

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one line. Never raises: what cannot be answered is refused."""
        operation = ""
        try:
            message = _message(line)
            operation = str(message.get("op", ""))
            body = self._do(operation, message)
            self.log({"event": operation, "outcome": "ok"} | _named(body))
            return {"ok": True} | body
        except PilothouseError as failure:
            kind = next((name for type_, name in KINDS.items() if isinstance(failure, type_)), "unavailable")
            self.log({"event": operation, "outcome": kind, "message": failure.message})
            return {"ok": False, "kind": kind, "message": failure.message, "hint": failure.hint}
        except Exception as failure:  # a mistake of ours must not end the process that everyone signs through
            self.log({"event": operation, "outcome": "unexpected", "message": repr(failure)})
            return {"ok": False, "kind": "unavailable", "message": "the signer made a mistake", "hint": "see its log"}

    def _do(self, operation: str, message: Mapping[str, Any]) -> dict[str, Any]:
        match operation:
            case "sign":
                ask = Ask(
                    token=_text(message, "token"),
                    csr=_text(message, "csr"),
                    cluster=_text(message, "cluster"),
                    profile=_text(message, "profile"),
                    grant_id=_text(message, "grant"),
                    seconds=_number(message, "seconds"),
                    team=_text(message, "team"),
                    vault_token=_text(message, "vault"),
                    address=_text(message, "address"),
                )
                return {"issued": self.issuance.issue(ask).to_dict()}
            case "authority":
                trusted = self.issuance.authorities.trusted(_text(message, "cluster"))
                return {"authority": "".join(map(certificates.pem, trusted))}
            case "rotation" if self.rotations:
                found = self.rotations.see(_text(message, "token"), _text(message, "cluster"))
                return {"rotation": asdict(found)}
            case "rotate" if self.rotations:
                turned = self.rotations.rotate(
                    _text(message, "token"),
                    _text(message, "cluster"),
                    _text(message, "from"),
                    trusted=message.get("trusted") is True,
                    force=message.get("force") is True,
                )
                return {"rotation": asdict(turned)}
            case "self-test" if self.tested is not None:
                return {"report": asdict(self.tested(_text(message, "cluster")))}
            case "ping":
                return {}
        raise Invalid(f"unknown operation {operation[:40]!r}", "sign, authority, self-test, rotation, rotate or ping")


class _Handler(socketserver.StreamRequestHandler):
    timeout = IDLE_SECONDS
    server: Server

    def handle(self) -> None:
        while True:
            try:
                line = self.rfile.readline(MAX_LINE + 1)
            except (TimeoutError, ConnectionError):
                return
            if not line.endswith(b"\n"):
                return  # closed, or a line that is too long to be a request
            self.wfile.write(json.dumps(self.server.answer(line)).encode() + b"\n")


def _message(line: bytes) -> Mapping[str, Any]:
    try:
        message = json.loads(line)
    except ValueError as failure:
        raise Invalid("the request is no JSON") from failure
    if not isinstance(message, dict):
        raise Invalid("the request is no JSON object")
    return message


def _text(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name, "")
    if not isinstance(value, str):
        raise Invalid(f"`{name}` must be text")
    return value


def _number(message: Mapping[str, Any], name: str) -> int:
    value = message.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Invalid(f"`{name}` must be a whole number")
    return value


def _named(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the log says of a certificate: never the token or the request."""
    issued = body.get("issued") or {}
    return {name: issued[name] for name in ("cluster", "user", "profile", "serial") if name in issued}


def _remove_stale(path: Path) -> None:
    """A socket that nobody listens on is removed; one that somebody does is another signer's."""
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise Unavailable(f"{path} is no socket", "choose another path with --socket")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(1)
        probe.connect(str(path))
    except OSError:
        path.unlink(missing_ok=True)
        return
    finally:
        probe.close()
    raise Unavailable(f"another signer listens on {path}", "end it first")
