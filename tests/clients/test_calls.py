"""What every call has in common: how it is counted, and when it is made again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pilothouse.clients.calls import ONCE, REGISTRY, Retry, measured
from pilothouse.clients.http import TryLater
from pilothouse.problems import Conflict, Denied, Invalid, Unavailable


def counted(server: str, outcome: str) -> float:
    labels = {"server": server, "operation": "ask", "outcome": outcome}
    return REGISTRY.get_sample_value("pilothouse_client_calls_total", labels) or 0.0


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (Unavailable("x"), "unavailable"),
        (TryLater("x"), "unavailable"),
        (Denied("x"), "denied"),
        (Conflict("x"), "conflict"),
        (Invalid("x"), "invalid"),
        (KeyError("x"), "mistake"),
    ],
)
def test_a_failure_is_counted_by_its_kind(failure: Exception, outcome: str) -> None:
    before = counted("counting", outcome)
    with pytest.raises(type(failure)), measured("counting", "ask"):
        raise failure
    assert counted("counting", outcome) == before + 1


def test_a_success_is_counted_and_timed() -> None:
    with measured("succeeding", "ask"):
        pass
    assert counted("succeeding", "ok") == 1
    labels = {"server": "succeeding", "operation": "ask"}
    assert REGISTRY.get_sample_value("pilothouse_client_seconds_count", labels) == 1


def failing(times: int, failure: Exception) -> tuple[Callable[[], int], list[int]]:
    """A call that fails so often and then returns its number."""
    made: list[int] = []

    def call() -> int:
        made.append(len(made) + 1)
        if len(made) <= times:
            raise failure
        return len(made)

    return call, made


def test_what_is_unavailable_is_tried_again_with_growing_pauses() -> None:
    pauses: list[float] = []
    retry = Retry(attempts=4, first=1.0, longest=3.0, sleep=pauses.append, chance=lambda: 0.0)
    call, made = failing(3, Unavailable("down"))
    assert retry.run(call, "retried", "ask") == 4
    assert pauses == [1.0, 2.0, 3.0]
    assert len(made) == 4
    repeated = REGISTRY.get_sample_value("pilothouse_client_retries_total", {"server": "retried", "operation": "ask"})
    assert repeated == 3


def test_pauses_are_shortened_at_random_by_up_to_a_half() -> None:
    pauses: list[float] = []
    call, _ = failing(1, Unavailable("down"))
    Retry(first=1.0, sleep=pauses.append, chance=lambda: 1.0).run(call, "x", "ask")
    assert pauses == [0.5]


def test_the_last_failure_is_raised() -> None:
    call, made = failing(9, Unavailable("down"))
    with pytest.raises(Unavailable):
        Retry(attempts=3, sleep=lambda _: None).run(call, "x", "ask")
    assert len(made) == 3


@pytest.mark.parametrize("failure", [Denied("no"), Invalid("wrong"), Conflict("taken"), KeyError("ours")])
def test_nothing_else_is_tried_again(failure: Exception) -> None:
    call, made = failing(1, failure)
    with pytest.raises(type(failure)):
        Retry(attempts=5, sleep=lambda _: None).run(call, "x", "ask")
    assert len(made) == 1


def test_the_servers_own_word_on_when_is_respected_within_the_budget() -> None:
    pauses: list[float] = []
    call, _ = failing(1, TryLater("busy", retry_after=7.0))
    Retry(first=0.1, sleep=pauses.append).run(call, "x", "ask")
    assert pauses == [7.0]
    call, made = failing(1, TryLater("busy", retry_after=7.0))
    with pytest.raises(TryLater):
        Retry(first=0.1, budget=5.0, sleep=pauses.append).run(call, "x", "ask")
    assert (pauses, len(made)) == ([7.0], 1)


def test_once_is_once() -> None:
    call, made = failing(1, Unavailable("down"))
    with pytest.raises(Unavailable):
        ONCE.run(call, "x", "ask")
    assert len(made) == 1
