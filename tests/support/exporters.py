"""Small HTTP servers on loopback: exporters that show what they are told to, and a webhook that remembers what came.

A pod's address may be any of 127.0.0.0/8, so exporters of many pods can listen at one port, each at its own address.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

Labels = tuple[tuple[str, str], ...]


def addresses(seed: int | None = None) -> Iterator[str]:
    """Loopback addresses of a network that no other run on this machine is likely to use."""
    chance = random.Random(seed)
    network = f"127.{chance.randint(20, 250)}.{chance.randint(1, 250)}"
    return (f"{network}.{number}" for number in range(1, 255))


class _Server:
    """An HTTP server in a thread, ended by `close`."""

    handler: ClassVar[type[BaseHTTPRequestHandler]]

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._http = ThreadingHTTPServer((host, port), self.handler)
        self._http.daemon_threads = True
        self._http.owner = self  # type: ignore[attr-defined]  # how the handler finds us
        self.host, self.port = host, int(self._http.server_address[1])
        self.url = f"http://{host}:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Tests do not print requests."""

    def answer(self, body: bytes, kind: str = "text/plain; version=0.0.4; charset=utf-8", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Metrics(_Quiet):
    def do_GET(self) -> None:
        exporter: Exporter = self.server.owner  # type: ignore[attr-defined]  # set by _Server
        exporter.scrapes += 1
        if exporter.broken:
            self.answer(b"broken on purpose\n", status=500)
        else:
            self.answer(exporter.text().encode())


class Exporter(_Server):
    """`gauges` and `counters` are values by (name, labels); a counter's value is its rate per second.

    Counters run with the clock, so that every server that scrapes them computes the same rate.
    """

    handler = _Metrics

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        gauges: Mapping[tuple[str, Labels], float] | None = None,
        counters: Mapping[tuple[str, Labels], float] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.gauges = dict(gauges or {})
        self.counters = dict(counters or {})
        self.broken = False
        self.scrapes = 0
        self._clock = clock
        self._began = clock() - 600
        super().__init__(host, port)

    def set(self, name: str, value: float, **labels: str) -> None:
        self.gauges[name, tuple(sorted(labels.items()))] = value

    def count(self, name: str, rate: float, **labels: str) -> None:
        self.counters[name, tuple(sorted(labels.items()))] = rate

    def text(self) -> str:
        """The exposition format: https://prometheus.io/docs/instrumenting/exposition_formats/"""
        passed = self._clock() - self._began
        lines = []
        for kind, values in (("gauge", self.gauges), ("counter", self.counters)):
            seen = set()
            for (name, labels), value in sorted(values.items()):
                if name not in seen:
                    seen.add(name)
                    lines.append(f"# TYPE {name} {kind}")
                inside = ",".join(f"{label}={json.dumps(text)}" for label, text in labels)
                lines.append(f"{name}{{{inside}}} {value if kind == 'gauge' else value * passed}")
        return "\n".join(lines) + "\n"


def service_metrics(exporter: Exporter, number: int) -> None:
    """What a service of the conventions exports; `number` makes each pod's figures its own."""
    for code in ("200", "404", "500"):
        exporter.count("http_requests_total", (number + 1) * {"200": 5.0, "404": 0.5, "500": 0.25}[code], code=code)
    for le, share in (("0.1", 0.5), ("0.25", 0.8), ("1", 0.95), ("+Inf", 1.0)):
        exporter.count("http_request_duration_seconds_bucket", (number + 1) * 5.0 * share, le=le)
        exporter.count("sql_query_duration_seconds_bucket", (number + 1) * 2.0 * share, le=le, query="insert_payment")
    exporter.count("sql_query_duration_seconds_count", (number + 1) * 2.0, query="insert_payment")
    exporter.set("refund_queue_age_seconds", 10.0 * number)
    exporter.set("process_resident_memory_bytes", 1e6 * (number + 1))


class _Hooked(_Quiet):
    def do_POST(self) -> None:
        hook: Hook = self.server.owner  # type: ignore[attr-defined]  # set by _Server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with hook.changed:
            hook.sent.append((self.path, body))
            hook.changed.notify_all()
        self.answer(b"{}", "application/json")


class Hook(_Server):
    """A webhook: `sent` are (path, body) in order. https://prometheus.io/docs/alerting/latest/configuration/#webhook_config"""

    handler = _Hooked

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.changed = threading.Condition()
        super().__init__()

    def wait(self, wanted: Callable[[str, Any], bool], seconds: float = 30.0) -> tuple[str, Any]:
        """The first notification that is wanted; `AssertionError` with all that came where none is in time."""
        with self.changed:
            self.changed.wait_for(lambda: any(wanted(*item) for item in self.sent), seconds)
            found = next((item for item in self.sent if wanted(*item)), None)
        seen = [(path, [alert["labels"] for alert in body["alerts"]]) for path, body in self.sent]
        assert found is not None, f"no such notification among {seen}"
        return found
