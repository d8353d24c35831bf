"""`python -m pilothouse.worker --data DIR --platform DIR`: the worker, until it is told to stop.

Its database is the one of the data folder, in it or as it names it (`store.address`).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import click
import structlog

from pilothouse import logs
from pilothouse.clients import notify
from pilothouse.clients.resolver import SystemResolver
from pilothouse.problems import PilothouseError
from pilothouse.store import address
from pilothouse.worker.scheduler import Worker, until_signalled
from pilothouse.workflows.access import Message, addresses_of
from pilothouse.workflows.notices import Outbox
from pilothouse.workflows.upkeep import Upkeep

log = structlog.get_logger(__name__)


def clock() -> datetime:
    return datetime.now(UTC)


def build(data: Path, platform: Path) -> Worker:
    """The worker with everything it needs."""
    store = address.opened(data)
    store.migrate()
    channels = notify.channels(data / "notify.yaml")
    outbox = Outbox(store, channels, clock, lambda _work: None)  # the job delivers

    def tell(users: tuple[str, ...], subject: str, text: str) -> None:
        declared = context.opened().loaded.platform
        to = tuple(address for user in users for address in addresses_of(store, declared, user))
        try:
            if channels and to:
                outbox.tell(Message(to, subject, text))
        except PilothouseError as failure:
            log.warning("not told", subject=subject, reason=failure.message)

    context = Upkeep(store, platform, data.absolute(), clock, tell, resolver=SystemResolver(), channels=channels)
    return Worker(context)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The portal's data folder.")
@click.option("--platform", type=click.Path(path_type=Path), required=True, help="The folder of documents.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address of the metrics.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), default=None, help="Serve /metrics there.")
def main(data: Path, platform: Path, metrics_host: str, metrics_port: int | None) -> None:
    """Reload, render, compare, expire, verify and remind, on a schedule."""
    os.umask(0o077)
    logs.configure("worker")
    with logs.ending("worker"):
        worker = build(data, platform)
        if metrics_port is not None:
            worker.metrics.serve(metrics_host, metrics_port)
        until_signalled(worker)


if __name__ == "__main__":
    main()
