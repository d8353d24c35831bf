"""The last good answer with its age: nobody waits for a server that hangs."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from pilothouse.problems import Unavailable
from pilothouse.workflows.latest import Latest

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


class Asked:
    """Answers one after the other; an exception is raised. `gate` lets it hang."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.count = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self) -> object:
        self.count += 1
        self.gate.wait(30)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def latest(ask: Asked, keep: float = 60.0, patience: float = 10.0) -> Latest[object]:
    return Latest(ask, lambda: NOW, keep, patience)


def test_an_answer_is_kept_for_a_while() -> None:
    ask = Asked("one", "two")
    watch = latest(ask)
    assert (watch.get().value, watch.get().value) == ("one", "one")
    assert watch.get().at == NOW
    assert ask.count == 1
    watch.forget()
    assert watch.get(wait=True).value == "two"


def test_what_was_last_heard_stays_with_the_reason() -> None:
    watch = latest(Asked("good", Unavailable("it is away", "start it")))
    watch.get()
    watch.forget()
    seen = watch.get(wait=True)
    assert (seen.value, seen.at, seen.reason, seen.hint) == ("good", NOW, "it is away", "start it")


def test_a_server_that_hangs_is_not_waited_for_and_asked_once() -> None:
    ask = Asked("late")
    ask.gate.clear()
    watch = latest(ask, patience=0.01)
    for _ in range(5):
        seen = watch.get()
        assert (seen.value, seen.reason) == (None, "it was asked and has not answered yet")
    assert ask.count == 1
    ask.gate.set()
    ends = threading.Event()
    for _ in range(500):
        if watch.get().value == "late":
            break
        ends.wait(0.01)
    assert watch.get().value == "late"


def test_an_older_answer_is_given_at_once_while_a_new_one_is_asked_for() -> None:
    ask = Asked("old", "new")
    watch = latest(ask, keep=0.0)
    assert watch.get().value == "old"
    ask.gate.clear()
    assert watch.get().value == "old"
    ask.gate.set()
    assert watch.get(wait=True).value == "new"


def test_a_mistake_of_ours_is_shown_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
    watch = latest(Asked(RuntimeError("oops")))
    assert "a mistake of ours: RuntimeError('oops')" in watch.get(wait=True).reason
