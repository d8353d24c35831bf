"""The webhook's own HTTPS server: reviews, probes and numbers.

    POST /authorize/<cluster>   a SubjectAccessReview, with a client certificate where an authority for those is set
    GET  /livez /readyz /metrics

What cannot be answered is an HTTP error, never an opinion: the API server then applies its `failurePolicy`.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pilothouse.access import reviews
from pilothouse.problems import Invalid, Unavailable
from pilothouse.webhook.memory import Memory

MAX_BODY = 256 * 1024
IDLE_SECONDS = 120.0
"""Longer than Go's client keeps an idle connection (90 s), so that it is the one that closes."""
HANDSHAKE_SECONDS = 5.0
MOST_CONNECTIONS = 512
_PATH = re.compile(r"/authorize(?:/([a-z0-9][a-z0-9-]{0,62}))?\Z")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tls:
    """`client_ca` is the authority of the API servers' client certificates; None asks for none."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """`Invalid` where a file cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load(context)
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_OPTIONAL  # probes have none; a review without one is refused
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ssl.SSLError) as failure:
                raise Invalid(f"{self.client_ca} holds no authority that can be used: {failure}") from failure
        return context

    def load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as failure:
            raise Invalid(
                f"cannot use {self.certificate} with {self.key}: {failure}",
                "both are PEM files that exist, and the key is that certificate's",
            ) from failure

    def stamp(self) -> tuple[int, ...]:
        return tuple(path.stat().st_mtime_ns for path in (self.certificate, self.key))


class Numbers:
    """What /metrics says. One registry for each server."""

    def __init__(self, memory: Memory) -> None:
        self.registry = CollectorRegistry()
        self.reviews = Counter(
            "pilothouse_webhook_reviews_total",
            "Reviews by answer: denied, no_opinion, or error where there was none.",
            ["answer"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "pilothouse_webhook_seconds",
            "Time from a review's arrival to its answer.",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1),
            registry=self.registry,
        )
        locked = Gauge("pilothouse_webhook_locked", "People and certificates that are refused.", registry=self.registry)
        locked.set_function(lambda: len(memory.held() or ()))
        age = Gauge("pilothouse_webhook_age_seconds", "Since the locks were last read.", registry=self.registry)
        age.set_function(memory.age)


class Server(ThreadingHTTPServer):
    """Listens at once; `serve_forever` answers. A handshake is done in the connection's own thread."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, tls: Tls, memory: Memory) -> None:
        self.memory = memory
        self.numbers = Numbers(memory)
        self.tls = tls
        self._context = tls.context()
        self._stamp = tls.stamp()
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except OSError as failure:
            raise Unavailable(
                f"cannot listen on {host}, port {port}: {failure.strerror or failure}", "choose another with --port"
            ) from failure

    @property
    def needs_client(self) -> bool:
        return self.tls.client_ca is not None

    def renew_certificate(self) -> bool:
        """Take a renewed certificate up for connections that come from now on."""
        try:
            stamp = self.tls.stamp()
            if stamp == self._stamp:
                return False
            self.tls.load(self._context)
        except (OSError, Invalid) as failure:
            log.warning("certificate not renewed", reason=str(failure))
            return False
        self._stamp = stamp
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(HANDSHAKE_SECONDS)
        with self._context.wrap_socket(request, server_side=True) as connection:
            connection.settimeout(IDLE_SECONDS)
            _Handler(connection, client_address, self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A handshake or a connection that broke off; what goes wrong inside a review is answered by the handler."""
        log.info("connection broken", address=str(client_address[0]))


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "pilothouse"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = 16 * 1024  # head and body in one record; handle_one_request flushes

    def do_GET(self) -> None:
        memory, path = self.server.memory, self.path.partition("?")[0]
        if path == "/livez":
            self._send(HTTPStatus.OK, b"ok\n", "text/plain")
        elif path == "/readyz":
            reason = memory.reason
            text = f"{reason}\n" if reason else "ok\n"
            self._send(HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK, text.encode(), "text/plain")
        elif path == "/metrics":
            self._send(HTTPStatus.OK, generate_latest(self.server.numbers.registry), CONTENT_TYPE_LATEST)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")

    def do_POST(self) -> None:
        started = time.perf_counter()
        numbers = self.server.numbers
        answer, word = self._review()
        numbers.reviews.labels(word).inc()
        if answer is not None:
            self._send(HTTPStatus.OK, json.dumps(answer).encode(), "application/json")
        numbers.seconds.observe(time.perf_counter() - started)

    def _review(self) -> tuple[dict[str, Any] | None, str]:
        """(the answer, the word for it); where there is none, the error was sent."""
        matched = _PATH.match(self.path.partition("?")[0])  # the API server adds its timeout
        length = self.headers.get("Content-Length", "")
        held = self.server.memory.held()
        if matched is None:
            self._refuse(HTTPStatus.NOT_FOUND, "reviews are sent to /authorize/<cluster>")
        elif self.server.needs_client and not self.connection.getpeercert():
            self._refuse(HTTPStatus.FORBIDDEN, "a client certificate is needed")
        elif not length.isdecimal() or int(length) > MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a review has a length of at most {MAX_BODY}")
        elif held is None:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "the locks were not read yet")
        else:
            try:
                review = reviews.read(json.loads(self.rfile.read(int(length))))
            except (ValueError, RecursionError):
                self._refuse(HTTPStatus.BAD_REQUEST, "that is no JSON")
            except Invalid as failure:
                self._refuse(HTTPStatus.BAD_REQUEST, failure.message)
            else:
                lock = reviews.decide(review, held, self.server.memory.clock())
                if lock is not None:
                    self.server.memory.use(lock, matched[1] or "")
                return reviews.answer(review, lock), "denied" if lock else "no_opinion"
        return None, "error"

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True  # its body, if any, was not read
        self._send(status, f"{reason}\n".encode(), "text/plain")

    def _send(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Not one line for each review: the numbers count them."""
