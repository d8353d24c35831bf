"""The signer's socket from the portal's side: a connection is used again, and never one that has ended."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pilothouse.clients import signer
from pilothouse.clients.signer import SignerClient
from pilothouse.problems import Denied, Unavailable

WAIT = 10


class Signer:
    """Answers lines by a list of answers for each connection, then closes it; counts connections and lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections = 0
        self.lines: list[bytes] = []
        self.answer = b'{"ok": true, "authority": "pem"}\n'
        self.most = 1000
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            for _, line in zip(range(self.most), lines, strict=False):
                self.lines.append(line)
                connection.sendall(self.answer)
            connection.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """End every connection that is open, as a signer that is ended does."""
        while self._open:
            connection = self._open.pop()
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it ended by itself

    def close(self) -> None:
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self.drop()
        self._thread.join(WAIT)


@pytest.fixture
def served() -> Iterator[Signer]:
    with TemporaryDirectory(dir="/tmp") as folder:  # a socket's path is short
        made = Signer(Path(folder, "s"))
        yield made
        made.close()


def test_one_connection_serves_one_caller_after_another(served: Signer) -> None:
    client = SignerClient(served.path)
    assert [client.authority(f"c{n}") for n in range(5)] == ["pem"] * 5
    assert [json.loads(line)["cluster"] for line in served.lines] == [f"c{n}" for n in range(5)]
    assert served.connections == 1


def test_callers_at_once_have_one_each(served: Signer) -> None:
    client = SignerClient(served.path)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(client.authority, ["c"] * 200)) == ["pem"] * 200
    assert served.connections <= 8
    assert len(served.lines) == 200


def test_a_refusal_keeps_the_connection(served: Signer) -> None:
    client = SignerClient(served.path)
    served.answer = b'{"ok": false, "kind": "denied", "message": "no", "hint": "ask"}\n'
    for _ in range(3):
        with pytest.raises(Denied, match="no"):
            client.ping()
    assert served.connections == 1


def test_one_that_the_signer_ended_is_not_used(served: Signer) -> None:
    client = SignerClient(served.path)
    client.ping()
    served.drop()
    client.ping()
    assert (served.connections, len(served.lines)) == (2, 2)


def test_one_that_waited_for_long_is_not_used(served: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    client = SignerClient(served.path)
    client.ping()
    monkeypatch.setattr(signer, "KEEP_SECONDS", 0.0)
    client.ping()
    assert served.connections == 2


def test_a_child_does_not_talk_over_its_parent_s(served: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    client = SignerClient(served.path)
    client.ping()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    client.ping()
    assert served.connections == 2


@pytest.mark.parametrize("answer", [b"", b"{", b"no json\n", b"[]\n"])
def test_half_an_answer_is_no_answer_and_is_not_asked_again(served: Signer, answer: bytes) -> None:
    client = SignerClient(served.path)
    served.answer, served.most = answer, 1
    with pytest.raises(Unavailable):
        client.ping()
    assert len(served.lines) == 1


def test_a_signer_that_is_away(served: Signer) -> None:
    client = SignerClient(served.path)
    client.ping()
    served.close()
    with pytest.raises(Unavailable, match="does not answer"):
        client.ping()
