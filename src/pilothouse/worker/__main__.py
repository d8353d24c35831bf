"""`python -m pilothouse.worker --data DIR --platform DIR`: the worker, until it is told to stop."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import structlog

from pilothouse import logs
from pilothouse.clients import notify
from pilothouse.problems import PilothouseError
from pilothouse.store import Store
from pilothouse.worker.scheduler import Worker, until_signalled
from pilothouse.workflows.access import Message, addresses_of
from pilothouse.workflows.upkeep import Upkeep

log = structlog.get_logger(__name__)


def build(data: Path, platform: Path) -> Worker:
    """The worker with everything it needs."""
    store = Store(data)
    store.migrate()
    channel = notify.from_file(data / "notify.yaml", time.sleep)

    def tell(users: tuple[str, ...], subject: str, text: str) -> None:
        declared = context.opened().loaded.platform
        to = tuple(address for user in users for address in addresses_of(store, declared, user))
        try:
            if to and channel is not None:
                channel.tell(Message(to, subject, text))
        except PilothouseError as failure:
            log.warning("not told", subject=subject, reason=failure.message)

    context = Upkeep(store, platform, store.folder or data, lambda: datetime.now(UTC), tell)
    return Worker(context)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The portal's data folder.")
@click.option("--platform", type=click.Path(path_type=Path), required=True, help="The folder of documents.")
def main(data: Path, platform: Path) -> None:
    """Reload, render, compare, expire, verify and remind, on a schedule."""
    os.umask(0o077)
    logs.configure("worker")
    try:
        until_signalled(build(data, platform))
    except PilothouseError as failure:
        click.echo(f"pilothouse worker: {failure.message}", err=True)
        if failure.hint:
            click.echo(f"  → {failure.hint}", err=True)
        raise SystemExit(2) from failure


if __name__ == "__main__":
    main()
