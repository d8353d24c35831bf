"""Commands to a running stack, over a Unix socket: one line of JSON there, one back.

The socket lies in a short path (its length is limited), and the stack's folder says where.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

NAME = "socket"
MOST = 65536
SECONDS = 300.0


class Refused(Exception):
    """What the stack answers instead."""


@dataclass
class Asked:
    """A command that waits for its answer."""

    words: tuple[str, ...]
    answer: queue.Queue[tuple[bool, str]] = field(default_factory=queue.Queue)


class Listener:
    """Puts commands into a queue; whoever reads it, the main thread, carries them out."""

    def __init__(self, folder: Path, where: Path) -> None:
        self.asked: queue.Queue[Asked] = queue.Queue()
        self._path = where / "stack.socket"
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(self._path))
        self._path.chmod(0o600)
        self._socket.listen(8)
        (folder / NAME).write_text(str(self._path), encoding="utf-8")
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:
            try:
                words = json.loads(stream.readline(MOST))
                asked = Asked(tuple(str(word) for word in words))
            except (ValueError, TypeError):
                return
            self.asked.put(asked)
            ok, text = asked.answer.get()
            stream.write(json.dumps({"ok": ok, "text": text}).encode() + b"\n")

    def carry_out(self, do: Callable[[tuple[str, ...]], str], seconds: float) -> None:
        """The next command, if one comes within so many seconds."""
        try:
            asked = self.asked.get(timeout=seconds)
        except queue.Empty:
            return
        try:
            asked.answer.put((True, do(asked.words)))
        except Exception as failure:  # told to whoever asked; the stack goes on
            asked.answer.put((False, str(failure)))

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)


def ask(folder: Path, *words: str) -> str:
    """The answer of the stack that runs in that folder. `Refused` where it refuses, or none runs."""
    try:
        path = (folder / NAME).read_text(encoding="utf-8")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(SECONDS)
            connection.connect(path)
            with connection.makefile("rwb") as stream:
                stream.write(json.dumps(words).encode() + b"\n")
                stream.flush()
                answer = json.loads(stream.readline())
    except FileNotFoundError as failure:
        raise Refused(f"no stack runs in {folder}: start one with `make stack`") from failure
    except (OSError, ValueError) as failure:
        raise Refused(f"the stack of {folder} does not answer: {failure}") from failure
    if not answer["ok"]:
        raise Refused(str(answer["text"]))
    return str(answer["text"])
