"""Which certificates and locks there were at a moment, by the ledger's entries alone.

The entries are folded in the order of the chain up to that moment; later ones count for nothing, so that the answer
about last night is the same whenever it is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pilothouse.access.ledger import Recorded

LONGEST = timedelta(days=8)
"""No certificate and no request lasts longer: entries of certificates before that are over."""
KINDS = ("certificate.", "elevation.", "lock.")


@dataclass(frozen=True, slots=True)
class Living:
    """A certificate that was alive; `approved_by` and `reason` are those of the request that it was claimed with."""

    cluster: str
    serial: str
    user: str
    profile: str
    groups: frozenset[str]
    issued_at: datetime
    not_after: datetime
    fingerprint: str = ""
    request: str = ""
    approved_by: str = ""
    reason: str = ""
    locked: bool = False


@dataclass
class _Fold:
    intents: dict[tuple[str, str], Living] = field(default_factory=dict)
    alive: dict[tuple[str, str], Living] = field(default_factory=dict)
    approved: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    locked: dict[tuple[str, str], datetime | None] = field(default_factory=dict)

    def take(self, recorded: Recorded) -> None:
        entry = recorded.entry
        key, data = (entry.cluster, entry.subject), entry.data
        match entry.kind:
            case "certificate.intent":
                self.intents[key] = Living(
                    entry.cluster,
                    entry.subject,
                    entry.actor,
                    str(data.get("profile", "")),
                    frozenset(map(str, data.get("groups") or ())),
                    recorded.at,
                    datetime.fromisoformat(str(data["not_after"])),
                    request=str(data.get("request") or ""),
                )
            case "certificate.issued":
                # Vault chooses the serial itself: the intent then stands under another one.
                intent = self.intents.pop((entry.cluster, str(data.get("intent") or entry.subject)), None)
                if intent is not None:
                    self.alive[key] = replace(
                        intent,
                        serial=entry.subject,
                        issued_at=recorded.at,
                        not_after=datetime.fromisoformat(str(data["not_after"])),
                        fingerprint=str(data.get("fingerprint", "")),
                    )
            case "certificate.failed":
                self.intents.pop(key, None)
            case "certificate.given-back":
                self.alive.pop(key, None)
            case "elevation.requested" | "break-glass.requested":
                ticket, reason = str(data.get("ticket", "")), str(data.get("reason", ""))
                self.reasons[entry.subject] = f"{ticket}: {reason}" if ticket else reason
            case "elevation.approved" | "break-glass.approved":
                self.approved[entry.subject] = "" if "why" in data else entry.actor
            case "lock.set":
                until = str(data.get("until") or "")
                self.locked[str(data.get("kind", "")), entry.subject] = datetime.fromisoformat(until) if until else None
            case "lock.lifted":
                self.locked.pop((str(data.get("kind", "")), entry.subject), None)


def living(entries: Iterable[Recorded], at: datetime) -> tuple[Living, ...]:
    """The certificates that were alive then, by user and cluster. Entries are in the order of the chain."""
    fold = _Fold()
    for recorded in entries:
        if recorded.at > at:
            break
        fold.take(recorded)
    held = {key for key, until in fold.locked.items() if until is None or at < until}
    found = [
        replace(
            item,
            approved_by=fold.approved.get(item.request, ""),
            reason=fold.reasons.get(item.request, ""),
            locked=("user", item.user) in held or ("certificate", item.serial) in held,
        )
        for item in fold.alive.values()
        if at < item.not_after
    ]
    return tuple(sorted(found, key=lambda item: (item.user, item.cluster, item.issued_at)))
