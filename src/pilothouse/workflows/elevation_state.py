"""What is written down about the binding of a request: to wake the worker, to wait for it, and to say how it stands.

The worker looks several times a second whether it was asked for something, so whoever waits here waits for the
cluster's API server, and not for a schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from pilothouse.access.grants import Grant, State, settle
from pilothouse.problems import Invalid, Unavailable
from pilothouse.store import Store, elevations, jobs
from pilothouse.store.elevations import Elevation
from pilothouse.store.elevations import State as Bound

JOB = "elevate"
BIND_SECONDS = 10.0
"""How long a claim waits for the binding. The signer's client waits for longer."""
UNBIND_SECONDS = 3.0
POLL = 0.05

Pause = Callable[[float], None]


def wake(store: Store, user: str, now: datetime) -> bool:
    """Have the worker look now. False where no worker has ever run, so that none knows the job."""
    try:
        jobs.request(store, JOB, user, now)
    except Invalid:
        return False
    return True


def wait_until_bound(store: Store, grant_id: str, cluster: str, pause: Pause) -> None:
    """Return once the worker has bound the request; `Unavailable` with the reason where it has not."""
    hint = f"nothing was signed, and the request can be claimed again: pilothouse access claim {grant_id}"
    for _ in range(int(BIND_SECONDS / POLL)):
        found = elevations.get(store, grant_id)
        if found is not None and found.state is Bound.BOUND:
            return
        if found is None or found.error or found.state is Bound.GONE:
            why = found.error if found and found.error else "it was given back meanwhile"
            raise Unavailable(f"{cluster} did not bind request {grant_id}: {why}", hint)
        pause(POLL)
    raise Unavailable(
        f"the worker did not bind request {grant_id} on {cluster} within {BIND_SECONDS:g} s: is it running?", hint
    )


def wait_until_gone(store: Store, grant_ids: Collection[str], pause: Pause) -> dict[str, Elevation]:
    """How the bindings stand once all are gone, or after a while: they are waited for together."""
    found = elevations.of(store, grant_ids)
    for _ in range(int(UNBIND_SECONDS / POLL)):
        if all(item.state is Bound.GONE or item.tries for item in found.values()):
            break
        pause(POLL)
        found = elevations.of(store, grant_ids)
    return found


@dataclass(frozen=True, slots=True)
class Shown:
    """`state` is "" where no binding is made for the request, else waiting, bound, failed or gone. `text` is a clause
    for people, "" where there is nothing to say."""

    state: str = ""
    text: str = ""


def shown(grant: Grant, found: Elevation | None, now: datetime) -> Shown:
    """How the binding of a request stands."""
    claimed = settle(grant, now).state is State.CLAIMED
    if found is None:
        if not claimed:
            return Shown()
        return Shown("", f"bindings stand on {grant.cluster}: the certificate's rights end with it, not before")
    if found.state is Bound.GONE:
        since = f" at {found.gone_at:%H:%M:%S} UTC" if found.gone_at and found.bound_at else ""
        if found.bound_at is None:
            return Shown("gone", f"no binding stands on {found.cluster}")
        why = f": {found.error}" if found.error else ""
        return Shown("gone", f"its binding on {found.cluster} was removed{since}{why}")
    if found.error:
        verb = "made" if claimed else "removed"
        return Shown(
            "failed", f"its binding on {found.cluster} could not be {verb}, which is tried again: {found.error}"
        )
    if not claimed:
        return Shown("waiting", f"its binding on {found.cluster} is about to be removed")
    if found.state is Bound.WANTED:
        return Shown("waiting", f"its binding on {found.cluster} is about to be made")
    return Shown("bound", f"bound on {found.cluster} since {found.bound_at:%H:%M:%S} UTC")
