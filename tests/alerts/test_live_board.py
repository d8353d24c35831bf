"""Boards of several Alertmanagers, and what holds an alert back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from support.builders import platform, team

from pilothouse.alerts.live import Held, LiveAlert, Silence, SilenceState, Taken, View, board, equal_value
from pilothouse.alerts.routing.model import Matcher, MatchOp
from pilothouse.workflows.firing import firing

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
PAY = Matcher("team", MatchOp.EQUAL, "pay")


def alert(name: str, **changes: object) -> LiveAlert:
    labels = {"alertname": name, "team": "pay", "severity": "page"}
    given = {"fingerprint": name, "labels": labels, "starts_at": NOW, "taken": (Taken("pay-page", {}),), **changes}
    return LiveAlert(**given)  # type: ignore[arg-type]  # fields by name


def silence(id: str, server: str = "a", state: SilenceState = SilenceState.ACTIVE) -> Silence:
    return Silence((PAY,), NOW, NOW + timedelta(hours=1), "ann", "work", state, ((server, id),))


def test_muted_only_where_every_group_is() -> None:
    held, told = Taken("x", {}, ("night",)), Taken("y", {})
    assert alert("A", taken=(held,)).held is Held.MUTED
    assert alert("A", taken=(held, told)).held is Held.NO
    assert alert("A", taken=(held, told)).muted_by == ("night",)
    assert alert("A", taken=()).held is Held.NO
    assert alert("A", taken=(held,), silenced_by=("1",)).held is Held.SILENCED
    assert alert("A", inhibited_by=("1",)).held is Held.INHIBITED


def test_the_copy_that_is_told_counts_and_the_earlier_start() -> None:
    earlier = NOW - timedelta(hours=1)
    one = View("a", (alert("A", inhibited_by=("x",), known_to=("a",)),))
    other = View("b", (alert("A", starts_at=earlier, known_to=("b",)),))
    for views in ((one, other), (other, one)):
        (found,) = board(views).alerts
        assert found.held is Held.NO
        assert found.starts_at == earlier
        assert sorted(found.known_to) == ["a", "b"]


def test_silences_of_servers_that_do_not_gossip_are_one_for_people() -> None:
    made = board((View("a", (), (silence("1", "a"),)), View("b", (), (silence("2", "b"),))))
    (found,) = made.silences
    assert found.ids == (("a", "1"), ("b", "2"))
    assert made.silence("2") == made.silence("1") == found
    assert made.silence("3") is None


def test_an_end_that_one_server_knows_of_holds_for_all() -> None:
    over, still = silence("1", "b", SilenceState.EXPIRED), silence("1", "a")
    for views in ((View("a", (), (still,)), View("b", (), (over,))), (View("b", (), (over,)), View("a", (), (still,)))):
        (found,) = board(views).silences
        assert found.state is SilenceState.EXPIRED
        assert {server for server, _ in found.ids} == {"a", "b"}


def test_only_active_silences_hold_back() -> None:
    made = board((View("a", (), (silence("1", state=SilenceState.EXPIRED), silence("2", state=SilenceState.PENDING))),))
    assert made.holding({"team": "pay"}) == ()
    active = board((View("a", (), (silence("1"),)),))
    assert [item.id for item in active.holding({"team": "pay"})] == ["1"]
    assert active.holding({"team": "risk"}) == ()


def test_why_in_words_names_the_silence_and_the_inhibitor() -> None:
    views = View("a", (alert("A", silenced_by=("1",)), alert("B", inhibited_by=("A",)), alert("C")), (silence("1"),))
    made = board((views,))
    found = {item.alert.name: item for item in firing(made, platform((), [team("pay")]), NOW)}
    assert found["A"].why == "silenced by ann until Sat 2026-11-21 04:00 UTC: work"
    assert found["B"].why == "inhibited by A"
    assert found["C"].why == ""
    assert found["C"].oncall is not None
    assert found["C"].person == ""
    assert [item.name for item in made.alerts] == ["C", "A", "B"], "what is told stands first"


def test_only_an_equal_matcher_names_a_team() -> None:
    assert equal_value((PAY,), "team") == "pay"
    assert equal_value((Matcher("team", MatchOp.REGEX, "pay"),), "team") == ""
    assert equal_value((Matcher("team", MatchOp.NOT_EQUAL, "pay"),), "team") == ""
