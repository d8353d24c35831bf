"""The client against a stand-in and the real Alertmanager: where they disagree, the stand-in is wrong."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.alertmanager_fake import FakeAlertmanager

from pilothouse.alerts.live import Board, Held, Silence, SilenceState
from pilothouse.alerts.routing.model import Matcher, MatchOp
from pilothouse.alerts.routing.parse import parse
from pilothouse.clients.alertmanager import Alertmanager, Alertmanagers, moment
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Invalid, PilothouseError, Unavailable
from pilothouse.source import Source

CONFIG = """
route:
  receiver: all
  group_by: [alertname]
  group_wait: 100ms
  routes:
    - {matchers: ['team="pay"'], receiver: pay, continue: true}
    - {matchers: ['severity="page"'], receiver: pager}
inhibit_rules:
  - {source_matchers: ['severity="page"'], target_matchers: ['severity="ticket"'], equal: [team]}
receivers: [{name: all}, {name: pay}, {name: pager}]
"""
PAGE = {"alertname": "Slow", "team": "pay", "severity": "page"}
TICKET = {"alertname": "Full", "team": "pay", "severity": "ticket", "pod": "a"}
OTHER = {"alertname": "Full", "team": "risk", "severity": "ticket"}


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "fake":
        fake = FakeAlertmanager(CONFIG)
        yield fake
        fake.close()
    else:
        file = tmp_path / "alertmanager.yml"
        file.write_text(CONFIG, encoding="utf-8")
        yield request.getfixturevalue("alertmanager")(file)


def fire(server: Any, *alerts: dict[str, str]) -> None:
    body = json.dumps([{"labels": labels, "annotations": {"summary": "so"}} for labels in alerts]).encode()
    asked = urllib.request.Request(f"{server.url}/api/v2/alerts", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(asked, timeout=5).close()


def until(client: Alertmanagers, wanted: Callable[[Board], bool]) -> Board:
    ends = time.monotonic() + 10
    while not wanted(found := client.board()):
        assert time.monotonic() < ends, found
        time.sleep(0.1)
    return found


def silence(*matchers: Matcher, seconds: float = 3600, starts: float = 0) -> Silence:
    now = datetime.now(UTC)
    begin, end = now + timedelta(seconds=starts), now + timedelta(seconds=seconds)
    return Silence(matchers, begin, end, "ann", "work on it")


def by_labels(board: Board) -> dict[tuple[str, str], Any]:
    return {(item.name, item.team): item for item in board.alerts}


def test_status_shows_a_configuration_that_reads_as_ours(server: Any) -> None:
    found = Alertmanager(server.endpoint).status()
    assert found.version == "0.31.1"
    assert found.peers == 0
    assert abs(found.started_at - datetime.now(UTC)) < timedelta(minutes=10)
    (loaded, _), (ours, _) = parse(Source("loaded", found.config)), parse(Source("ours", CONFIG))
    assert loaded is not None
    assert loaded == ours


def test_alerts_with_receivers_and_inhibition(server: Any) -> None:
    fire(server, PAGE, TICKET, OTHER)
    board = until(Alertmanagers([server.endpoint]), lambda found: len(found.alerts) == 3)
    found = by_labels(board)
    assert found["Slow", "pay"].receivers == ("pager", "pay")
    assert found["Full", "pay"].receivers == ("pay",)
    assert found["Full", "risk"].receivers == ("all",)
    assert found["Full", "pay"].held is Held.INHIBITED
    assert found["Full", "pay"].inhibited_by == (found["Slow", "pay"].fingerprint,)
    assert found["Full", "risk"].held is Held.NO
    assert found["Full", "pay"].annotations == {"summary": "so"}
    assert found["Full", "pay"].labels == TICKET
    assert [item.name for item in board.alerts] == ["Slow", "Full", "Full"], "what is told stands first"
    assert board.alerts[-1].held is Held.INHIBITED
    assert board.servers == (server.url,)
    assert not board.reasons


def test_a_silence_from_its_making_to_its_end(server: Any) -> None:
    client = Alertmanagers([server.endpoint])
    fire(server, TICKET, OTHER)
    until(client, lambda found: len(found.alerts) == 2)
    wanted = silence(Matcher("team", MatchOp.EQUAL, "pay"), Matcher("pod", MatchOp.REGEX, "a|b"))
    ((url, id),) = client.silence(wanted)
    assert url == server.url
    board = until(client, lambda found: any(item.silenced_by for item in found.alerts))
    found = by_labels(board)
    assert found["Full", "pay"].silenced_by == (id,)
    assert found["Full", "risk"].silenced_by == ()
    made = board.silence(id)
    assert made is not None
    assert (made.state, made.created_by, made.comment) == (SilenceState.ACTIVE, "ann", "work on it")
    assert set(made.matchers) == set(wanted.matchers)
    assert abs(made.ends_at - wanted.ends_at) < timedelta(seconds=1)
    assert board.holding(TICKET) == (made,)
    assert client.expire(made) == (server.url,)
    board = until(client, lambda found: not any(item.silenced_by for item in found.alerts))
    ended = board.silence(id)
    assert ended is not None
    assert ended.state is SilenceState.EXPIRED


def test_a_silence_of_the_future_is_pending_and_holds_nothing(server: Any) -> None:
    client = Alertmanagers([server.endpoint])
    fire(server, TICKET)
    ((_, id),) = client.silence(silence(Matcher("team", MatchOp.EQUAL, "pay"), seconds=7200, starts=3600))
    board = until(client, lambda found: bool(found.alerts))
    made = board.silence(id)
    assert made is not None
    assert made.state is SilenceState.PENDING
    assert board.holding(TICKET) == ()
    assert board.alerts[0].held is Held.NO


@pytest.mark.parametrize("op", list(MatchOp))
def test_matchers_of_every_kind_come_back_as_they_went(server: Any, op: MatchOp) -> None:
    client = Alertmanagers([server.endpoint])
    wanted = silence(Matcher("alertname", MatchOp.EQUAL, 'a "quoted" \\ ü'), Matcher("pod", op, "x.+"))
    ((_, id),) = client.silence(wanted)
    made = client.board().silence(id)
    assert made is not None
    assert set(made.matchers) == set(wanted.matchers)


@pytest.mark.parametrize(
    "wanted", [silence(Matcher("team", MatchOp.EQUAL, "")), silence(Matcher("team", MatchOp.EQUAL, "a"), seconds=-60)]
)
def test_a_silence_that_is_refused(server: Any, wanted: Silence) -> None:
    with pytest.raises(Invalid, match="400"):
        Alertmanagers([server.endpoint]).silence(wanted)


def test_ending_a_silence_that_nobody_knows(server: Any) -> None:
    with pytest.raises(Invalid):
        Alertmanager(server.endpoint).expire("00000000-0000-0000-0000-000000000000")


# ---------------------------------------------------------------- several


def test_two_that_do_not_gossip_make_one_board_and_each_gets_the_silence() -> None:
    one, other = FakeAlertmanager(CONFIG), FakeAlertmanager(CONFIG)
    try:
        one.fire(PAGE, TICKET)
        other.fire(PAGE, OTHER)
        client = Alertmanagers([one.endpoint, other.endpoint])
        board = client.board()
        assert sorted((item.name, item.team, len(item.known_to)) for item in board.alerts) == [
            ("Full", "pay", 1),
            ("Full", "risk", 1),
            ("Slow", "pay", 2),
        ]
        made = client.silence(silence(Matcher("team", MatchOp.EQUAL, "pay")))
        assert [url for url, _ in made] == [one.url, other.url]
        (shown,) = client.board().silences
        assert sorted(shown.ids) == sorted(made)
        assert sorted(client.expire(shown)) == sorted([one.url, other.url])
    finally:
        one.close()
        other.close()


def test_held_back_by_one_alone_is_told() -> None:
    one, other = FakeAlertmanager(CONFIG), FakeAlertmanager(CONFIG)
    try:
        one.fire(TICKET)
        other.fire(TICKET)
        Alertmanager(one.endpoint).silence(silence(Matcher("team", MatchOp.EQUAL, "pay")))
        (alert,) = Alertmanagers([one.endpoint, other.endpoint]).board().alerts
        assert alert.held is Held.NO
    finally:
        one.close()
        other.close()


def test_one_that_hangs_is_a_reason_and_the_others_answer() -> None:
    one, slow = FakeAlertmanager(CONFIG), FakeAlertmanager(CONFIG)
    try:
        one.fire(PAGE)
        slow.hangs = 30
        board = Alertmanagers([slow.endpoint, one.endpoint], seconds=0.5).board()
        assert [item.name for item in board.alerts] == ["Slow"]
        assert list(board.reasons) == [slow.url]
        assert slow.url in board.reasons[slow.url]
        slow.hangs, one.hangs = 30, 30
        with pytest.raises(Unavailable):
            Alertmanagers([slow.endpoint, one.endpoint], seconds=0.5).board()
    finally:
        one.close()
        slow.close()


def test_none_declared_and_none_there() -> None:
    with pytest.raises(Unavailable, match="no Alertmanager is declared"):
        Alertmanagers([]).board()
    with pytest.raises(Unavailable) as caught:
        Alertmanagers([Endpoint("http://127.0.0.1:9")]).board()
    assert "http://127.0.0.1:9" in caught.value.message
    assert caught.value.hint


def test_what_is_no_alertmanager_is_said_so() -> None:
    fake = FakeAlertmanager(CONFIG)
    try:
        with pytest.raises(PilothouseError):
            Alertmanagers([Endpoint(f"{fake.url}/login")]).board()
        fake.answer = lambda *_: (200, {"hello": "world"})  # type: ignore[method-assign]  # a server of something else
        with pytest.raises(Unavailable, match="answers what no alertmanager would"):
            Alertmanagers([fake.endpoint]).board()
    finally:
        fake.close()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-21T08:55:35.184147877Z", 35.184147),
        ("2026-11-21T08:55:35Z", 35.0),
        ("2026-11-21T09:55:35.1+01:00", 35.1),
    ],
)
def test_moments_as_go_writes_them(text: str, seconds: float) -> None:
    found = moment(text)
    assert (found.hour, found.minute) == (8, 55)
    assert found.second + found.microsecond / 1e6 == pytest.approx(seconds)
