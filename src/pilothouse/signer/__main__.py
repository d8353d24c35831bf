"""`python -m pilothouse.signer --data DIR --platform DIR`: the signer, until it is told to stop."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click

from pilothouse import logs
from pilothouse.clients import directory
from pilothouse.files.platform import load
from pilothouse.problems import Invalid, Unavailable
from pilothouse.signer.authorities import ByBackend, VaultAuthorities
from pilothouse.signer.declared import Declared
from pilothouse.signer.guard import Guarded
from pilothouse.signer.keys import EmbeddedAuthorities
from pilothouse.signer.server import Server
from pilothouse.store import address, local
from pilothouse.store.address import Named
from pilothouse.workflows.issuance import Issuance
from pilothouse.workflows.people import People
from pilothouse.workflows.rotation import Rotations

PLATFORM_KEY = "serve.platform"
"""Where the portal keeps the folder that it was started with."""
_WORTH_SHOWING = ("unavailable", "unexpected")


def utc_now() -> datetime:
    return datetime.now(UTC)


def new_serial() -> int:
    """127 random bits, never 0: unique in practice, and 16 octets at most."""
    return secrets.randbits(127) | 1 << 126


def log(fields: Mapping[str, Any]) -> None:
    """One line of JSON on stderr; what comes from outside stays escaped. On a terminal only what went wrong."""
    if fields.get("event") == "ping" or (sys.stderr.isatty() and fields.get("outcome") not in _WORTH_SHOWING):
        return
    line = {"timestamp": utc_now().isoformat(timespec="milliseconds"), "process": "signer"} | dict(fields)
    sys.stderr.write(json.dumps(line) + "\n")  # at once: `print` writes the end of a line by itself, and threads meet
    sys.stderr.flush()


def build(
    data: Path,
    platform: Path | None,
    keys: Path | None,
    socket: Path | None,
    group: int | None,
    database: Named = address.FOLDER_S,
) -> Server:
    """The server with everything it needs; raises where the folder, the keys or the socket cannot be used."""
    store = address.opened(data, database)
    store.migrate()
    kept = str(local.get(store, data, PLATFORM_KEY, ""))  # "" where it is the data folder's own
    root = platform or (Path(kept) if kept else data / "platform")
    if platform is None and not root.is_dir():
        raise Invalid("no platform is named", "give --platform FOLDER")
    declared = Declared(root, time.monotonic)
    published = data / "authorities"
    embedded = EmbeddedAuthorities(keys or data / "signer", published, declared, utc_now, new_serial)
    vaults = VaultAuthorities(published, declared, time.monotonic)
    authorities = ByBackend(declared, embedded, vaults)
    guarded = Guarded(authorities, declared, lambda: load(root).content, utc_now, time.monotonic, log)
    people = directory.from_file(data / "directory.yaml")
    look_up = people.look_up if people else None
    issuance = Issuance(store, declared, guarded, utc_now, new_serial, embedded.keep_head, look_up=look_up)
    known = People(store, look_up)
    rotations = Rotations(store, declared, embedded, utc_now, embedded.keep_head, known, vaults.held)
    server = Server(socket or data / "signer.sock", issuance, log, group, guarded.report, rotations)
    for name, cluster in declared().clusters.items():
        if cluster.authority.backend == "embedded":
            embedded.certificate(name)
    guarded.test_all()
    guarded.keep_testing()
    return server


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The portal's data folder.")
@click.option(
    "--platform",
    type=click.Path(path_type=Path),
    default=None,
    help="The folder of documents (default: the one that the portal was started with).",
)
@click.option(
    "--keys", type=click.Path(path_type=Path), default=None, help="Folder of the keys (default: DATA/signer)."
)
@click.option("--socket", type=click.Path(path_type=Path), default=None, help="Socket (default: DATA/signer.sock).")
@click.option("--socket-group", default="", help="Group that may connect, where the portal is another user.")
@click.option("--database", default="", help="Address of the database (default: the one that DATA names).")
@click.option("--database-file", default="", help="File that holds the address of the database, password and all.")
@click.option("--stop-with-stdin", is_flag=True, help="End when stdin closes, so that no parent leaves it behind.")
def main(
    data: Path,
    platform: Path | None,
    keys: Path | None,
    socket: Path | None,
    socket_group: str,
    database: str,
    database_file: str,
    stop_with_stdin: bool,
) -> None:
    """Own the keys of the embedded authorities and sign what session, profile and approval allow."""
    os.umask(0o077)
    with logs.ending("signer"):
        named = address.named(database, database_file)
        server = build(data, platform, keys, socket, _group(socket_group), named)

    def stop(_signal: int = 0, _frame: FrameType | None = None) -> None:
        # shutdown() waits for serve_forever(), which runs in this very thread when a signal comes.
        threading.Thread(target=server.shutdown, daemon=True).start()

    def wait_for_parent() -> None:
        sys.stdin.buffer.read()
        stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if stop_with_stdin:
        threading.Thread(target=wait_for_parent, daemon=True).start()
    log({"event": "ready", "socket": str(server.path)})
    with server:
        server.serve_forever(poll_interval=0.2)
    log({"event": "stopped"})


def _group(name: str) -> int | None:
    if not name:
        return None
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as failure:
        raise Unavailable(f"there is no group {name}") from failure


if __name__ == "__main__":
    main()
