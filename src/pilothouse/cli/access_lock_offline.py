"""`pilothouse access lock --data DIR`: a lock while the portal is down, in its data folder itself."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilothouse.cli.access_audit import who
from pilothouse.cli.serve import PLATFORM_KEY
from pilothouse.problems import Invalid, PilothouseError

if TYPE_CHECKING:
    from pilothouse.platform.model import Platform
    from pilothouse.store import Store
    from pilothouse.store.address import Named
    from pilothouse.workflows.access import Notifier


def lock(
    data: Path, database: Named, platform: Path | None, subject: str, reason: str, seconds: int, anyway: bool
) -> dict[str, Any]:
    """The lock, as the portal's API answers it, and `notes` on what could not be known here."""
    from pilothouse.store import address
    from pilothouse.workflows import locks_offline

    if not database and not address.exists(data):
        raise Invalid(f"{data} is no data folder of pilothouse", "name the portal's own with --data")
    notes: list[str] = []
    store = address.opened(data, database)
    try:
        declared = _platform(store, data, platform, notes)
        step = locks_offline.lock(
            store,
            declared,
            who(),
            subject,
            reason,
            seconds,
            datetime.now(UTC),
            notifier=_notifier(store, data, notes),
            new_id=lambda: f"g-{secrets.token_hex(4)}",
            anyway=anyway,
        )
    finally:
        store.close()
    item = step.lock
    return {
        "id": item.id,
        "kind": item.target.kind.value,
        "subject": item.target.subject,
        "user": item.target.user,
        "cluster": item.target.cluster,
        "fingerprint": item.target.fingerprint,
        "by": item.by,
        "reason": item.reason,
        "at": item.at.isoformat(),
        "until": item.until.isoformat() if item.until else None,
        "holds": True,
        "sessions": step.sessions,
        "requests": [f"{found.id}: {found.meaning}" for found in step.requests],
        "unheld": list(step.unheld),
        "untold": step.untold,
        "notes": notes,
    }


def _platform(store: Store, data: Path, given: Path | None, notes: list[str]) -> Platform:
    """The documents, as far as they can be read: a lock does not wait for them."""
    from pilothouse.platform.model import Platform
    from pilothouse.store import local
    from pilothouse.workflows.rendering import open_platform

    kept = str(local.get(store, data, PLATFORM_KEY, ""))
    root = given or (Path(kept) if kept else data / "platform")
    try:
        return open_platform(root).loaded.platform
    except PilothouseError as failure:
        notes.append(f"the documents in {root} cannot be read ({failure.message}): only accounts are known by name")
        return Platform()


def _notifier(store: Store, data: Path, notes: list[str]) -> Notifier:
    """Kept for the worker to deliver, as the portal's are; an attempt is made at once."""
    from pilothouse.clients import notify
    from pilothouse.workflows.access import Nobody
    from pilothouse.workflows.notices import Outbox

    try:
        channels = notify.channels(data / "notify.yaml")
    except PilothouseError as failure:
        notes.append(f"nobody is told: {failure.message}")
        return Nobody()
    if not channels:
        return Nobody()
    return Outbox(store, channels, lambda: datetime.now(UTC), lambda work: _at_once(work, notes))


def _at_once(work: Any, notes: list[str]) -> None:
    try:
        work()
    except PilothouseError as failure:
        notes.append(f"not told yet, the worker tries again: {failure.message}")


def say(notes: list[str]) -> None:
    for note in notes:
        click.echo(f"Note: {note}.")
