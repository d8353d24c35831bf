"""Requests that were open past the end of a certificate, a request, an account, or past a lock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.audit_logs import BEGIN, DECIMAL, PRINT, event, node, stamp
from workflows.test_audit_workflow import CERTIFICATE, Place

from pilothouse.access import locks
from pilothouse.store import certificates as rows
from pilothouse.store import locks as lock_rows
from pilothouse.store import schema, users
from pilothouse.store.certificates import Certificate, State

HOUR = 60
DAY = 16 * HOUR
EXEC = {"resource": "pods", "subresource": "exec", "namespace": "payments", "name": "api-0", "apiVersion": "v1"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    made.now = BEGIN + timedelta(days=2)
    yield made
    made.store.close()


def stream(begun: float, until: float | None, **more: Any) -> list[dict[str, Any]]:
    """The lines of a request that is open from minute `begun` on; the cluster goes on talking for a while after it."""
    more = {"verb": "watch", "auditID": f"open-{begun}"} | more
    lines = [event(begun, stage="ResponseStarted", **more)]
    if until is not None:
        lines.append(event(begun, stageTimestamp=stamp(until), **more))
    return lines


def talk(since: float, until: float) -> list[dict[str, Any]]:
    return [node(minute) for minute in range(int(since), int(until) + 1, 10)]


def late(place: Place) -> str:
    return place.found().get("open-past-end", "")


def give_back(place: Place, minutes: float) -> None:
    with place.store.write() as connection:
        rows.end(connection, "vaulted", DECIMAL, State.GIVEN_BACK, BEGIN + timedelta(minutes=minutes))


def test_what_is_closed_in_time_is_no_finding(place: Place) -> None:
    place.issue()
    place.read(*talk(0, DAY + 60), *stream(10, 70), *stream(20, DAY + 0.05))
    assert late(place) == ""


def test_a_watch_that_outlives_its_certificate(place: Place) -> None:
    place.issue()
    place.read(*talk(0, DAY + 60), *stream(DAY - 10, DAY + 30))
    message = late(place)
    assert message.startswith("a watch of alice on vaulted, watch of pods payments/")
    assert f"was opened at 2026-11-21 23:50:00 UTC with the certificate {DECIMAL} and stayed open" in message
    assert "after the certificate ended at 2026-11-22 00:00:00 UTC, until 2026-11-22 00:30:00 UTC" in message


def test_the_gravest_of_several_stands_for_all_of_them(place: Place) -> None:
    place.issue()
    shell = stream(DAY - 5, None, objectRef=EXEC, verb="create")
    place.read(*talk(0, DAY + 60), *stream(DAY - 10, DAY + 30), *stream(DAY - 8, DAY + 40), *shell)
    message = late(place)
    assert "a shell of alice on vaulted, create of pods/exec payments/api-0" in message
    assert message.endswith(f"and the log shows no end of it: audit open-{DAY - 5}; 2 more like it")
    # It is closed: the finding stays the same but for the end.
    place.read(*stream(DAY - 5, DAY + 50, objectRef=EXEC, verb="create"))
    assert "until 2026-11-22 00:50:00 UTC" in late(place)


def test_how_to_close_it_is_said(place: Place) -> None:
    from pilothouse.files.audit_settings import AuditSettings
    from pilothouse.workflows import audit

    place.issue()
    place.read(*talk(0, DAY + 60), *stream(DAY - 5, None, objectRef=EXEC, verb="get"))
    (found,) = audit.certain_findings(place.store, place.opened, "vaulted", AuditSettings(), place.now)
    assert "kubectl delete pod -n payments api-0" in found.problem.hint
    assert f"access audit expected {found.id}" in found.problem.hint


def test_what_is_open_still_is_said_once_the_log_goes_far_enough(place: Place) -> None:
    place.issue()
    place.read(*talk(0, DAY), *stream(DAY - 10, None))
    assert late(place) == ""
    place.read(*talk(DAY, DAY + 10))
    assert "the log shows no end of it" in late(place)


def test_beyond_a_hole_in_the_log_nothing_is_known(place: Place) -> None:
    place.issue()
    place.read(*talk(0, DAY - 5), *stream(DAY - 10, None), *talk(DAY + 60, DAY + 90))
    assert late(place) == ""


def test_a_request_that_is_answered_at_once_is_not_open(place: Place) -> None:
    place.issue()
    place.read(*talk(0, DAY + 60), event(DAY - 0.01, stageTimestamp=stamp(DAY + 1)))
    assert late(place) == ""


def test_past_the_give_back(place: Place) -> None:
    place.issue()
    give_back(place, 10)
    place.read(*talk(0, 60), *stream(5, 9), *stream(6, 30))
    assert "after the certificate was given back at 2026-11-21 08:10:00 UTC, until 2026-11-21 08:30:00" in late(place)
    assert "more like it" not in late(place)


def test_past_the_end_of_a_request(place: Place) -> None:
    """The binding is gone before the certificate ends."""
    place.issue(replace(CERTIFICATE, grant_id="g-x7k2m9qa", profile="cluster-admin", groups=("ph:elev:g-x7k2m9qa",)))
    with place.store.write() as connection:
        connection.execute(
            schema.grants.insert().values(
                id="g-x7k2m9qa", user="alice", profile="cluster-admin", cluster="vaulted", reason="drain", seconds=3600,
                requested_at=BEGIN, state="given-back", ended_at=BEGIN + timedelta(minutes=30),
            )
        )  # fmt: skip
    place.read(*talk(0, 120), *stream(5, None, objectRef=EXEC, verb="get"))
    assert "of request g-x7k2m9qa and stayed open after the request was over at 2026-11-21 08:30:00 UTC" in late(place)


def _next(since: float, serial: str, print_: str, groups: tuple[str, ...] = CERTIFICATE.groups) -> Certificate:
    asked = BEGIN + timedelta(minutes=since)
    return replace(
        CERTIFICATE,
        serial=serial,
        fingerprint=print_,
        asked_at=asked,
        not_after=asked + timedelta(hours=1),
        groups=groups,
        key_sha256=print_,
    )


@pytest.mark.parametrize(("groups", "is_found"), [(CERTIFICATE.groups, False), (("ph:reader",), True)])
def test_who_held_the_next_certificate_was_never_shut_out(
    place: Place, groups: tuple[str, ...], is_found: bool
) -> None:
    """Certificates of an hour that are renewed: a shell may last as long as the login."""
    place.issue(_next(0, DECIMAL, PRINT), PRINT)
    place.issue(_next(50, "2", "11" * 32, groups), "11" * 32)
    place.read(*talk(0, 180), *stream(5, 100))
    assert bool(late(place)) is is_found
    place.read(*stream(6, 130))
    assert bool(late(place)) is True


def _lock(place: Place, kind: locks.Kind, minutes: float) -> datetime:
    found = rows.get(place.store, DECIMAL, "vaulted")
    assert found is not None
    at = BEGIN + timedelta(minutes=minutes)
    subject = "alice" if kind is locks.Kind.USER else DECIMAL
    target = locks.Target(kind, subject, "alice", "vaulted", found.fingerprint)
    lock_rows.put(place.store, locks.lock("l-1", target, "pat", "laptop stolen", at))
    return at


@pytest.mark.parametrize("kind", list(locks.Kind))
def test_past_a_lock(place: Place, kind: locks.Kind) -> None:
    place.issue()
    _lock(place, kind, 10)
    place.read(*talk(0, 60), *stream(5, 8))
    assert late(place) == ""
    place.read(*stream(6, None, objectRef=EXEC, verb="create"))
    assert "locked at 2026-11-21 08:10:00 UTC, and the log shows no end of it" in late(place)


def test_past_the_end_of_an_account(place: Place) -> None:
    users.add(place.store, "alice", "correct horse battery", BEGIN)
    users.set_disabled(place.store, "alice", True, BEGIN + timedelta(minutes=10))
    place.issue()
    place.read(*talk(0, 60), *stream(5, 8), *stream(6, 20))
    assert "after the account was closed" in late(place)


def test_what_was_called_expected_is_no_finding(place: Place) -> None:
    from pilothouse.files.audit_settings import AuditSettings
    from pilothouse.workflows import audit

    place.issue()
    place.read(*talk(0, DAY + 60), *stream(DAY - 10, None))
    found = audit.certain_findings(place.store, place.opened, "vaulted", AuditSettings(), place.now)
    (one,) = found
    audit.expect(place.store, one.id, "pat", "the API server was restarted", place.now, lambda: found)
    place.read(*stream(DAY - 10, DAY + 30))
    assert late(place) == ""
