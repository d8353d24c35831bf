"""A proxy on loopback in front of a real server, which can be told to misbehave:

    with faults(server.url) as proxy, proxy.cut_after(bytes=100):
        ...  # the client sees 100 bytes of the answer, then the end

Faults hold for connections that are made, and answers that are sent, while the `with` block runs. It speaks TCP and
looks into HTTP only where it answers itself.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

PIECE = 4096


@dataclass(frozen=True)
class Fault:
    """What is done to a connection; everything off is a plain proxy."""

    delay: float = 0.0
    """Seconds before the first byte of an answer."""
    cut_after: int | None = None
    """Bytes of an answer before the connection ends in the middle of it."""
    refuse: bool = False
    """Connections are reset at once."""
    answer: bytes | None = None
    """Sent instead of the server's answer."""
    rate: float = 0.0
    """Bytes a second of an answer; 0 is as fast as it comes."""


class Proxy:
    """`url` is the server's address with the proxy's port."""

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = urlunsplit(parts._replace(netloc=f"127.0.0.1:{self.port}"))
        self._fault = Fault()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.connections = 0
        self.requests = 0
        """Pieces that clients sent: of HTTP without pipelining, requests (or parts of a large one)."""
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    # ------------------------------------------------------------ faults

    @contextmanager
    def fault(self, fault: Fault) -> Iterator[Self]:
        before, self._fault = self._fault, fault
        self.drop()  # connections that a client keeps would not notice
        try:
            yield self
        finally:
            self._fault = before
            self.drop()

    def delay(self, seconds: float) -> contextlib.AbstractContextManager[Self]:
        return self.fault(replace(self._fault, delay=seconds))

    def cut_after(self, bytes: int) -> contextlib.AbstractContextManager[Self]:
        return self.fault(replace(self._fault, cut_after=bytes))

    def refuse(self) -> contextlib.AbstractContextManager[Self]:
        return self.fault(replace(self._fault, refuse=True))

    def throttle(self, bytes_per_second: float) -> contextlib.AbstractContextManager[Self]:
        return self.fault(replace(self._fault, rate=bytes_per_second))

    def answer(
        self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> contextlib.AbstractContextManager[Self]:
        """Every request gets this answer (HTTP)."""
        lines = [f"HTTP/1.1 {status} Fault", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
        return self.fault(replace(self._fault, answer="\r\n".join([*lines, "", ""]).encode() + body))

    def drop(self) -> None:
        """End every connection that is open."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            # A thread that waits in `accept` holds the socket open: this wakes it.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, what: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------ connections

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._closed:
                client.close()
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        fault = self._fault
        if fault.refuse:
            # With no time to linger the end is a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            client.close()
            return
        if fault.answer is not None:
            with contextlib.suppress(OSError), client:
                self._read_request(client)
                self.requests += 1
                time.sleep(fault.delay)
                client.sendall(fault.answer)
            return
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self._open |= {client, server}
        onward = threading.Thread(target=self._forward, args=(client, server, Fault(), True), daemon=True)
        onward.start()
        self._forward(server, client, fault, False)
        onward.join(10)
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _forward(self, source: socket.socket, sink: socket.socket, fault: Fault, counts: bool) -> None:
        sent, first = 0, True
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE if not fault.rate else max(1, int(fault.rate / 10))):
                if counts:
                    self.requests += 1
                if first and fault.delay:
                    time.sleep(fault.delay)
                first = False
                if fault.cut_after is not None and sent + len(piece) >= fault.cut_after:
                    sink.sendall(piece[: fault.cut_after - sent])
                    source.shutdown(socket.SHUT_RDWR)
                    break
                sink.sendall(piece)
                sent += len(piece)
                if fault.rate:
                    time.sleep(len(piece) / fault.rate)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    @staticmethod
    def _read_request(client: socket.socket) -> None:
        """The head and, where its length is given, the body: a client that still sends would miss the answer."""
        client.settimeout(5)
        data = b""
        while b"\r\n\r\n" not in data:
            piece = client.recv(PIECE)
            if not piece:
                return
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        while len(body) < length:
            piece = client.recv(PIECE)
            if not piece:
                return
            body += piece
