"""What people are to be told is kept until it was delivered: to each of them, by each channel, for a day."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from support.stores import migrated

from pilothouse.problems import Unavailable
from pilothouse.store import Store, notices
from pilothouse.workflows.access import Message
from pilothouse.workflows.notices import MAIL, Outbox, deliver, findings, in_a_thread

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
MESSAGE = Message(("pat@bank.example", "olga@bank.example"), "alice asks", "Reason: repair")


@dataclass
class Channel:
    """A server that takes mail, or not: `refused` are addresses that it never takes."""

    up: bool = True
    refused: frozenset[str] = frozenset()
    broken: Exception | None = None
    got: list[Message] = field(default_factory=list)
    tried: int = 0

    def tell(self, message: Message) -> None:
        self.tried += 1
        if self.broken:
            raise self.broken
        if not self.up:
            raise Unavailable("the mail server does not answer")
        if self.refused & set(message.to):
            raise Unavailable("the mail server did not take it: status 550")
        self.got.append(message)


@dataclass
class Site:
    store: Store
    mail: Channel = field(default_factory=Channel)
    webhook: Channel = field(default_factory=Channel)
    moment: datetime = NOW

    def now(self) -> datetime:
        return self.moment

    @property
    def channels(self) -> dict[str, Channel]:
        return {MAIL: self.mail, "webhook": self.webhook}

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.store, self.channels, self.now, lambda work: work())

    def later(self, **time: float) -> tuple[int, int]:
        """The worker looks, so much later."""
        self.moment += timedelta(**time)
        return deliver(self.store, self.channels, self.now)

    @property
    def codes(self) -> list[str]:
        return [item.code for item in findings(self.store, self.moment)]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    def serve(where: Path | str) -> Iterator[Site]:
        store = Store(where)
        store.migrate()
        yield Site(store)
        store.close()

    if request.param == "sqlite":
        yield from serve(tmp_path / "data")
        return
    with migrated(request.getfixturevalue("postgresql")) as url:
        yield from serve(url)


def test_each_is_told_at_once_and_nobody_sees_the_others(site: Site) -> None:
    site.outbox.tell(MESSAGE)
    assert [message.to for message in site.mail.got] == [("pat@bank.example",), ("olga@bank.example",)]
    assert {(message.subject, message.text) for message in site.mail.got} == {(MESSAGE.subject, MESSAGE.text)}
    assert [message.to for message in site.webhook.got] == [MESSAGE.to]
    assert site.later(days=2) == (0, 0)
    assert (notices.undelivered(site.store), site.codes) == ((), [])


def test_a_server_that_was_away_for_hours_is_told_when_it_is_back(site: Site) -> None:
    site.mail.up = False
    site.outbox.tell(MESSAGE)
    assert len(site.webhook.got) == 1  # what works is not kept from it
    assert site.codes == []
    assert site.later(seconds=29) == (0, 0)
    assert site.later(seconds=1) == (0, 2)
    for _ in range(8):
        site.later(hours=1)
    assert site.codes == ["worker/notice-waits"]
    site.mail.up = True
    assert site.later(hours=1) == (2, 0)
    assert {message.to[0] for message in site.mail.got} == set(MESSAGE.to)
    assert len(site.webhook.got) == 1
    assert site.codes == []


def test_one_address_that_is_refused_keeps_nobody_else_from_it(site: Site) -> None:
    site.mail.refused = frozenset({"pat@bank.example"})
    site.outbox.tell(MESSAGE)
    site.later(minutes=10)
    assert [message.to for message in site.mail.got] == [("olga@bank.example",)]
    (waits,) = findings(site.store, site.moment)
    assert (waits.code, "1 notice by mail" in waits.message, "550" in waits.message) == (
        "worker/notice-waits",
        True,
        True,
    )


def test_pauses_grow_and_after_a_day_it_is_given_up_and_says_so(site: Site) -> None:
    site.mail.up = False
    site.outbox.tell(Message(("pat@bank.example",), "alice asks", ""))
    tried = [site.moment]
    while site.moment < NOW + timedelta(hours=30):
        if site.later(seconds=15)[1]:
            tried.append(site.moment)
    pauses = [after - before for before, after in pairwise(tried)]
    assert pauses[:3] == [timedelta(seconds=30), timedelta(seconds=60), timedelta(seconds=120)]
    assert max(pauses) == timedelta(hours=1)
    assert timedelta(hours=24) <= tried[-1] - NOW <= timedelta(hours=25)
    (given_up,) = findings(site.store, site.moment)
    assert given_up.code == "worker/notice-given-up"
    assert "alice asks" in given_up.hint
    site.mail.up = True
    assert site.later(hours=1) == (0, 0)
    assert notices.purge(site.store, site.moment) == 0
    assert notices.purge(site.store, site.moment + timedelta(days=7)) == 1
    assert site.codes == []


def test_a_worker_that_was_killed_in_the_middle_leaves_it_to_the_next(site: Site) -> None:
    Outbox(site.store, {MAIL: site.mail}, site.now, lambda _work: None).tell(MESSAGE)
    assert notices.claim(site.store, site.moment) is not None  # and then it is killed
    assert site.later() == (1, 0)  # the other one
    assert site.later(seconds=59) == (0, 0)
    assert site.later(seconds=1) == (1, 0)
    assert {message.to[0] for message in site.mail.got} == set(MESSAGE.to)


def test_a_mistake_of_ours_about_one_is_a_finding_and_keeps_no_other_from_it(site: Site) -> None:
    site.mail.broken = ValueError("the password is hidden")
    site.outbox.tell(MESSAGE)
    assert len(site.webhook.got) == 1
    site.later(minutes=10)
    (waits,) = findings(site.store, site.moment)
    assert (waits.code, "2 notices by mail" in waits.message, "ValueError" in waits.message) == (
        "worker/notice-waits",
        True,
        True,
    )
    assert "hidden" not in waits.message + waits.hint
    site.mail.broken = None
    assert site.later(hours=1) == (2, 0)


def test_an_attempt_that_ends_after_its_claim_changes_nothing_of_the_next_one(site: Site) -> None:
    Outbox(site.store, {MAIL: site.mail}, site.now, lambda _work: None).tell(Message(("pat@bank.example",), "s", "t"))
    slow = notices.claim(site.store, NOW)
    other = notices.claim(site.store, NOW + timedelta(seconds=61))
    assert slow is not None
    assert other is not None
    notices.failed(site.store, slow, "it took too long", NOW + timedelta(seconds=62))
    assert notices.claim(site.store, NOW + timedelta(seconds=100)) is None  # the other one still tries
    assert notices.undelivered(site.store) == ()
    notices.delivered(site.store, other)
    notices.failed(site.store, slow, "it took too long", NOW + timedelta(seconds=103))
    assert notices.claim(site.store, NOW + timedelta(days=1)) is None


def test_workers_at_the_same_time_tell_nobody_twice(site: Site) -> None:
    many = Message(tuple(f"user{n}@bank.example" for n in range(40)), "s", "t")
    Outbox(site.store, {MAIL: site.mail}, site.now, lambda _work: None).tell(many)
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: deliver(site.store, site.channels, site.now), range(6)))
    assert sum(went for went, _ in done) == 40
    assert sorted(message.to[0] for message in site.mail.got) == sorted(many.to)


def test_a_channel_that_is_set_no_more_is_not_forgotten_silently(site: Site) -> None:
    site.mail.up = False
    site.outbox.tell(MESSAGE)
    assert deliver(site.store, {}, lambda: site.moment + timedelta(minutes=1)) == (0, 2)
    assert {item.error for item in notices.undelivered(site.store)} == {"no mail is set in notify.yaml any more"}


def test_a_nul_in_a_reason_keeps_nobody_from_it(site: Site) -> None:
    site.outbox.tell(Message(("pat@bank.example",), "a\0b", "c\0d"))
    assert [(message.subject, message.text) for message in site.mail.got] == [("a\ufffdb", "c\ufffdd")]


def test_nobody_to_tell(site: Site) -> None:
    with pytest.raises(Unavailable, match="no mail address"):
        Outbox(site.store, {MAIL: site.mail}, site.now, lambda work: None).tell(Message((), "s", "t"))
    site.outbox.tell(Message((), "s", "t"))
    assert [message.to for message in site.webhook.got] == [()]


def test_in_a_thread_and_with_a_database_that_goes_away() -> None:
    ran = threading.Event()

    def work() -> None:
        ran.set()
        raise Unavailable("the database is away")

    in_a_thread(work)
    assert ran.wait(10)


def test_of_many_a_run_tries_some(site: Site) -> None:
    many = Message(tuple(f"user{n}@bank.example" for n in range(7)), "s", "t")
    Outbox(site.store, {MAIL: site.mail}, site.now, lambda _work: None).tell(many)
    runs = [deliver(site.store, site.channels, site.now, 3) for _ in range(3)]
    assert runs == [(3, 0), (3, 0), (1, 0)]
