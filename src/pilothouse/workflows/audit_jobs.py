"""The worker's part: read every configured audit log on, judge, and tell the platform team."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from typing import Any

from pilothouse.access.audit.model import Kind
from pilothouse.files import audit_logs
from pilothouse.files.audit_logs import Position
from pilothouse.files.audit_settings import AuditSettings, LogSettings, from_file
from pilothouse.problems import PilothouseError, Problem, error
from pilothouse.store import audit as rows
from pilothouse.store import findings, settings, unusual
from pilothouse.store.jobs import JobState
from pilothouse.workflows import audit
from pilothouse.workflows import unusual as scoring
from pilothouse.workflows.audit import Imported, Mounts, Reader
from pilothouse.workflows.upkeep import Upkeep

READING = "audit-log"
DIGEST = "unusual-digest"
STEP = 8 * 1024 * 1024
"""Of bytes after which it is kept how far a log was read."""
LONGEST = timedelta(seconds=10)
"""Of reading one log in one run; the rest is for the next one, after what is there was judged."""


def read(upkeep: Upkeep) -> tuple[JobState, str]:
    """Read the logs of `audit.yaml` on and judge what they certainly show. A log that cannot be read is a finding."""
    configured = from_file(upkeep.data / "audit.yaml")
    opened = upkeep.opened()
    mounts = Mounts.of(opened)
    unread: list[Problem] = []
    added = broken = behind = 0
    for source in configured.sources:
        try:
            opened.clusters((source.cluster,))
            result, is_whole = _read_on(upkeep, mounts, source)
        except PilothouseError as failure:
            message = f"the audit log {source.path} of {source.cluster} is not read"
            unread.append(error("access/audit-unread", message, hint=failure.with_hint, cluster=source.cluster))
            continue
        added, broken = added + result.added, broken + result.broken
        behind += not is_whole
    findings.replace(upkeep.store, READING, "", unread, upkeep.clock())
    found, fresh = audit.record_findings(upkeep.store, opened, configured, upkeep.clock())
    if fresh:
        _tell(upkeep, f"{len(fresh)} findings in audit logs", "\n\n".join(f"{i.message}\n{i.hint}" for i in fresh))
    state = JobState.PROBLEMS if found or unread else JobState.OK
    lines = f", {broken} lines that cannot be read" if broken else ""
    rest = f", {behind} logs with more to read" if behind else ""
    return state, f"{added} new records{lines}, {len(found)} findings, {len(unread)} logs not read{rest}"


def _read_on(upkeep: Upkeep, mounts: Mounts, source: LogSettings) -> tuple[Imported, bool]:
    """(what came of it, whether the log was read to its end). What is judged must not wait for a log of days."""
    key = f"audit-position:{sha256(str(source.path).encode()).hexdigest()}"
    kept: dict[str, Any] = settings.get(upkeep.store, key, {})
    position = Position(int(kept.get("inode", 0)), int(kept.get("offset", 0)), str(kept.get("head", "")))
    cluster = source.cluster if source.kind is Kind.KUBERNETES else ""
    result = Imported(str(source.path), source.kind, cluster)
    reader = Reader(upkeep.store, mounts, result, source.silence, source.name)

    def keep() -> None:
        # First the records, then how far they go: what is read twice after a crash changes nothing.
        reader.flush()
        value = {"inode": position.inode, "offset": position.offset, "head": position.head}
        settings.put(upkeep.store, key, value, upkeep.clock())

    began, unkept = upkeep.clock(), 0
    for line, after in audit_logs.since(source.path, position):
        reader.take(line)
        position, unkept = after, unkept + len(line.data)
        if unkept > STEP:
            keep()
            unkept = 0
            if upkeep.clock() - began > LONGEST:
                return result, False
    keep()
    return result, True


def score(upkeep: Upkeep) -> tuple[JobState, str]:
    """Judge what is unusual; page at a sum, and tell the rest once a day. Old lines and days go."""
    configured: AuditSettings = from_file(upkeep.data / "audit.yaml")
    now = upkeep.clock()
    judged = scoring.run(upkeep.store, upkeep.opened().loaded.platform, configured, now)
    for page in judged.pages:
        _tell(upkeep, f"Unusual activity of {page.alert.who}", _text(page))
    _digest(upkeep)
    rows.purge(upkeep.store, now)
    unusual.purge(upkeep.store, now)
    state = JobState.PROBLEMS if judged.problems else JobState.OK
    return state, f"{judged.days} unusual days in {scoring.WINDOW.days}, {len(judged.pages)} new pages"


def _digest(upkeep: Upkeep) -> None:
    """Yesterday's unusual days that paged nobody, in one message."""
    now = upkeep.clock()
    today = now.date().isoformat()
    if settings.get(upkeep.store, DIGEST) == today:
        return
    settings.put(upkeep.store, DIGEST, today, now)
    yesterday = now.date() - timedelta(days=1)
    since = now - timedelta(days=2)
    of_it = [item for item in unusual.find(upkeep.store, since=since) if item.alert.day == yesterday]
    quiet = [item for item in of_it if not item.alert.paged and item.expected is None]
    if quiet:
        _tell(upkeep, f"Unusual activity of {yesterday}: {len(quiet)}", "\n\n".join(_text(item) for item in quiet))


def _text(kept: unusual.Kept) -> str:
    lines = [f"{kept.alert.who}, {kept.alert.day}, {kept.alert.score} points ({kept.id})"]
    lines += [f"  {item.points:3} {item.rule}: {item.evidence}; {item.baseline}" for item in kept.alert.signals]
    return "\n".join(lines)


def _tell(upkeep: Upkeep, subject: str, text: str) -> None:
    team = upkeep.opened().loaded.platform.platform_team
    if team is not None:
        upkeep.tell(tuple(member.user for member in team.members), subject, text[:20_000])
