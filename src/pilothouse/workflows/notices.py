"""Telling people so that nobody is forgotten: what is to be told is kept first, and tried until it was delivered.

Whoever tells tries at once. What does not go is tried again by the worker, at pauses that grow from half a minute to an
hour, for a day; after that it is given up, which is a finding. Every recipient of a mail is one notice, so that an
address that is refused keeps nobody else from being told, and nobody sees who else was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import groupby

from pilothouse.problems import PilothouseError, Problem, Unavailable, error, warning
from pilothouse.store import Store, notices
from pilothouse.store.notices import Notice
from pilothouse.workflows.access import Message, Notifier

MAIL = "mail"
MOST = 50
"""Attempts in one run: a server that hangs takes 5 s of each."""
LATE = timedelta(minutes=10)
"""What has waited for so long is a finding."""

Channels = Mapping[str, Notifier]
"""How each kind of notice is delivered; a channel raises `Unavailable` where it could not."""


class Outbox:
    """A `workflows.access.Notifier` that keeps what it is told. `at_once` is how the first attempt is started."""

    def __init__(
        self,
        store: Store,
        channels: Channels,
        clock: Callable[[], datetime],
        at_once: Callable[[Callable[[], object]], None],
    ) -> None:
        self._store = store
        self._channels = channels
        self._clock = clock
        self._at_once = at_once

    def tell(self, message: Message) -> None:
        """`Unavailable` where there is nobody to tell, or where it could not even be kept."""
        now = self._clock()
        wanted = [
            Notice(channel, to, message.subject, message.text, now, now)
            for channel in self._channels
            for to in (_each(message.to) if channel == MAIL else (message.to,))
        ]
        if not wanted:
            raise Unavailable("no mail address is known of those who should be told")
        notices.keep(self._store, wanted)
        self._at_once(lambda: deliver(self._store, self._channels, self._clock))


def _each(to: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return ((address,) for address in dict.fromkeys(to))


def in_a_thread(work: Callable[[], object]) -> None:
    """So that no page waits for a mail server. What it cannot write down is there for the next one to try."""

    def run() -> None:
        try:
            work()
        except Unavailable:
            return  # the database is away: the notices are in it, and the worker tries them

    threading.Thread(target=run, name="notices", daemon=True).start()


def deliver(store: Store, channels: Channels, clock: Callable[[], datetime], most: int = MOST) -> tuple[int, int]:
    """Try what is due: (delivered, failed)."""
    went = missed = 0
    for _ in range(most):
        notice = notices.claim(store, clock())
        if notice is None:
            break
        try:
            channel = channels.get(notice.channel)
            if channel is None:
                raise Unavailable(f"no {notice.channel} is set in notify.yaml any more")
            channel.tell(Message(notice.to, notice.subject, notice.text))
        except Exception as failure:
            # Not only what a channel says: a mistake of ours about one notice must not keep it from being counted, nor
            # the others from being tried. Its own words may quote a password, so they are not kept.
            ours = f"a mistake of ours: {type(failure).__name__}"
            why = failure.message if isinstance(failure, PilothouseError) else ours
            notices.failed(store, notice, why, clock())
            missed += 1
        else:
            notices.delivered(store, notice)
            went += 1
    return went, missed


def findings(store: Store, now: datetime) -> tuple[Problem, ...]:
    """What could not be delivered for a while, and what was given up: one finding for each channel and reason."""
    late = [item for item in notices.undelivered(store) if item.given_up_at or now - item.made_at >= LATE]
    late.sort(key=_alike)
    found = []
    for (given_up, channel, why), group in groupby(late, _alike):
        items = list(group)
        number = f"{len(items)} notice{'s' if len(items) > 1 else ''} by {channel}"
        first = min(items, key=lambda item: item.made_at)
        about = f"the first of {first.made_at:%Y-%m-%d %H:%M} UTC: {first.subject}"
        if given_up:
            text = f"{number} could not be delivered within a day, and no more is tried: {why}"
            found.append(error("worker/notice-given-up", text, hint=f"tell them yourself ({about})"))
        else:
            text = f"{number} cannot be delivered: {why}"
            found.append(warning("worker/notice-waits", text, hint=f"it is tried again; see notify.yaml ({about})"))
    return tuple(found)


def _alike(notice: Notice) -> tuple[bool, str, str]:
    return notice.given_up_at is not None, notice.channel, notice.error
