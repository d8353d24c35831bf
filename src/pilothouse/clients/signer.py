"""The signer's socket, from the portal's side."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilothouse.access.certificates import Issued
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, Unavailable

MAX_ANSWER = 256 * 1024
_KINDS: Mapping[str, type[PilothouseError]] = {"denied": Denied, "invalid": Invalid, "conflict": Conflict}


KEEP_SECONDS = 5.0
"""For so long a connection waits for another call; the signer closes one that waited for 10 s."""
KEEP_MOST = 32


class SignerClient:
    """Safe to share between threads and across a fork: a call has a connection for itself and leaves it to the next."""

    def __init__(self, path: Path, timeout: float = 15.0) -> None:
        self.path = path
        self._timeout = timeout
        self._kept: deque[tuple[int, float, socket.socket]] = deque()

    def sign(
        self,
        token: str,
        csr: str,
        *,
        profile: str = "",
        cluster: str = "",
        grant_id: str = "",
        seconds: int = 0,
        team: str = "",
        vault_token: str = "",
        address: str = "",
    ) -> Issued:
        """A certificate for a profile on a cluster, or for a request that was approved.

        `vault_token` is the engineer's own at the cluster's Vault, where that signs; `address` is from where they ask,
        which is recorded and decides nothing.

        Raises what the signer answers (`Denied`, `Invalid`, `Conflict`), or `Unavailable`.
        """
        answer = self._ask(
            {
                "op": "sign",
                "token": token,
                "csr": csr,
                "profile": profile,
                "cluster": cluster,
                "grant": grant_id,
                "seconds": seconds,
                "team": team,
                "vault": vault_token,
                "address": address,
            }
        )
        try:
            return Issued.from_dict(answer["issued"])
        except (KeyError, TypeError, ValueError) as failure:
            raise Unavailable("the signer's answer cannot be read") from failure

    def authority(self, cluster: str) -> str:
        """The certificate of the cluster's authority in PEM."""
        return str(self._ask({"op": "authority", "cluster": cluster}).get("authority", ""))

    def tested(self, cluster: str) -> Mapping[str, Any]:
        """What the signer found when it last tried the escapes at that cluster's authority: `untested` and
        `attempts`, as `access.escapes.Report` has them."""
        return dict(self._ask({"op": "self-test", "cluster": cluster}).get("report") or {})

    def rotation(self, token: str, cluster: str) -> dict[str, Any]:
        """How far the rotation of the cluster's authority is, as `access.rotation.Rotation` has it."""
        return self._rotation({"op": "rotation", "token": token, "cluster": cluster})

    def rotate(self, token: str, cluster: str, begun: str, trusted: bool, force: bool) -> dict[str, Any]:
        """Take the stage after `begun`."""
        asked = {"op": "rotate", "token": token, "cluster": cluster, "from": begun, "trusted": trusted, "force": force}
        return self._rotation(asked)

    def _rotation(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        found = self._ask(asked).get("rotation")
        if not isinstance(found, dict):
            raise Unavailable("the signer's answer cannot be read")
        return found

    def ping(self) -> None:
        """`Unavailable` unless the signer answers."""
        self._ask({"op": "ping"})

    def _ask(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            answer = json.loads(self._exchange(json.dumps(message).encode() + b"\n"))
        except (OSError, ValueError) as failure:
            raise Unavailable(
                f"the signer does not answer on {self.path}",
                "no certificate can be signed; see whether `python -m pilothouse.signer` runs",
            ) from failure
        if not isinstance(answer, dict):
            raise Unavailable("the signer's answer cannot be read")
        if not answer.get("ok"):
            kind = _KINDS.get(str(answer.get("kind")), Unavailable)
            raise kind(str(answer.get("message", "the signer refused")), str(answer.get("hint", "")))
        return answer

    def _exchange(self, line: bytes) -> bytes:
        """The answer to one line. It is never sent twice: a signature that was asked for may have been made."""
        connection = self._connection()
        try:
            connection.sendall(line)
            answer = bytearray()
            while not answer.endswith(b"\n") and len(answer) < MAX_ANSWER:
                part = connection.recv(64 * 1024)
                if not part:
                    break
                answer += part
        except BaseException:
            connection.close()
            raise
        if answer.endswith(b"\n") and len(self._kept) < KEEP_MOST:
            self._kept.append((os.getpid(), time.monotonic(), connection))
        else:
            connection.close()
        return bytes(answer)

    def _connection(self) -> socket.socket:
        """One that waits and is still good, else a new one."""
        while True:
            try:
                pid, since, kept = self._kept.pop()
            except IndexError:
                break
            fresh = pid == os.getpid() and time.monotonic() - since < KEEP_SECONDS
            # Something to read before anything was asked is the end of it: the signer went away.
            if fresh and not _is_readable(kept):
                return kept
            kept.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._timeout)
            connection.connect(str(self.path))
        except BaseException:
            connection.close()
            raise
        return connection


def _is_readable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
