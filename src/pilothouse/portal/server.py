"""The web process: gunicorn with threads, one process, so that the platform is in memory once.

Started by `pilothouse serve` as `python -m pilothouse.portal.server JSON`; the socket is open already and
handed over by its number, so that a port in use is found before anything starts.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from pilothouse import logs
from pilothouse.portal.app import Settings, create_app, utc_now
from pilothouse.problems import Invalid, PilothouseError, Unavailable
from pilothouse.store import Store, address, settings

SECRET = "secret.key"  # noqa: S105  # the name of a file, not a secret
FORM_KEY = "portal.form-key"


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the web process is told. `socket` is the number of an open, listening socket."""

    data: str
    platform: str
    socket: int
    tls_cert: str = ""
    tls_key: str = ""
    trusted_proxies: tuple[str, ...] = ()
    threads: int = 16

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ServerOptions:
        data = json.loads(text)
        return cls(**{**data, "trusted_proxies": tuple(data["trusted_proxies"])})


def secret_key(data: Path) -> bytes:
    """The key that signs form tokens: made on first use, mode 0600, in the data folder."""
    path = data / SECRET
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) < 32:
            raise Invalid(f"{path} is damaged", "remove it: a new one is made, and open forms expire") from None
        return key
    except OSError as failure:
        raise Unavailable(f"cannot write {path}: {failure.strerror}", "check the owner of the data folder") from failure
    with os.fdopen(handle, "wb") as stream:
        key = os.urandom(48)
        stream.write(key)
    return key


def form_key(store: Store, data: Path) -> bytes:
    """The same, in the database where several portals share one: a form that one of them made is sent to another."""
    if store.is_sqlite:
        return secret_key(data)
    store.migrate()
    return bytes.fromhex(str(settings.once(store, FORM_KEY, lambda: os.urandom(48).hex(), utc_now())))


def make_app(options: ServerOptions) -> Flask:
    data = Path(options.data)
    store = address.opened(data)
    return create_app(
        Settings(
            data=data,
            platform=Path(options.platform),
            secret_key=form_key(store, data),
            clock=utc_now,
            tls=bool(options.tls_cert),
            trusted_proxies=options.trusted_proxies,
        ),
        store=store,
    )


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn, configured by us alone: no file, no environment, no command line."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        super().__init__()

    def load_config(self) -> None:
        values: dict[str, Any] = {
            "bind": f"fd://{self.options.socket}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": self.options.threads,
            "timeout": 120,
            "graceful_timeout": 10,
            "keepalive": 5,
            "loglevel": "warning",
            "control_socket_disable": True,
            # Headers of proxies are read by our own middleware, which knows whom to trust.
            "forwarded_allow_ips": "",
            "limit_request_fields": 60,
            "post_worker_init": _warm,
        }
        if self.options.tls_cert:
            values |= {"certfile": self.options.tls_cert, "keyfile": self.options.tls_key}
        for name, value in values.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return make_app(self.options)


def _warm(worker: Any) -> None:
    """Load the platform before the first visitor asks for it."""
    worker.app.wsgi().extensions["pilothouse"].current.get()


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal ends it."""
    options = ServerOptions.from_json((arguments or sys.argv[1:])[0])
    logs.configure("portal")
    try:
        Server(options).run()
    except PilothouseError as failure:
        print(f"pilothouse: {failure.message}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
