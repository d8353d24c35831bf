"""`python -m pilothouse.webhook --data DIR`: the webhook as `DATA/webhook.yaml` sets it, until it is told to stop."""

from __future__ import annotations

import ipaddress
import os
import signal
import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType

import click
import structlog

from pilothouse import logs
from pilothouse.problems import Invalid
from pilothouse.store import Store, address, locks
from pilothouse.webhook import settings
from pilothouse.webhook.memory import EVERY, Memory
from pilothouse.webhook.server import Server, Tls

log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    return datetime.now(UTC)


def build(store: Store, found: settings.Settings) -> Server:
    """The server with its memory, read once where the store answers; `Invalid` or `Unavailable` where it cannot be."""
    memory = Memory(partial(locks.held, store), partial(locks.used, store), utc_now, time.monotonic)
    memory.refresh()
    return Server(found.host, found.port, Tls(found.certificate, found.key, found.client_ca), memory)


def run(store: Store, found: settings.Settings) -> None:
    """Answer until a signal comes. The store's tables are those of the portal, which migrates them."""
    logs.configure("webhook")
    server = build(store, found)
    stop = threading.Event()

    def ended(_signal: int = 0, _frame: FrameType | None = None) -> None:
        # shutdown() waits for serve_forever(), which runs in this very thread when a signal comes.
        threading.Thread(target=server.shutdown, daemon=True).start()

    def keep_certificate() -> None:
        while not stop.wait(60 * EVERY):
            server.renew_certificate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ended)
    for work in (partial(server.memory.keep_up, stop), keep_certificate):
        threading.Thread(target=work, daemon=True).start()
    if not found.client_ca and not _is_loopback(found.host):
        log.warning("anyone who reaches this address may ask who is locked", hint="set an authority for API servers")
    log.info("ready", host=found.host, port=server.server_address[1])
    with server:
        server.serve_forever(poll_interval=0.2)
    stop.set()
    store.close()
    log.info("stopped")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The portal's data folder.")
def main(data: Path) -> None:
    """Tell API servers what is locked."""
    os.umask(0o077)
    with logs.ending("webhook"):
        found = settings.read(data / settings.FILE)
        if found is None:
            raise Invalid(f"there is no {data / settings.FILE}", "it names certificate, key and port")
        run(address.opened(data), found)


if __name__ == "__main__":
    main()
