"""Proposals: every step, every refusal, nothing lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pilothouse.problems import Conflict, Denied, Invalid
from pilothouse.store import Store, proposals
from pilothouse.store.proposals import Draft, Requirement, State

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)
DRAFT = Draft(
    kind="egress",
    subject="payments/payments",
    team="payments",
    document="spec: 1\n",
    title="Reach the bank",
    reason="new gateway",
    base="abc",
    path="services/p.yaml",
    before="spec: 0\n",
    data={"x": 1},
)
LEDGER = Requirement("team:ledger", "both ends must agree")
SECOND = Requirement("second-person:payments", "high sensitivity")


def at(minutes: int) -> datetime:
    return NOW + timedelta(minutes=minutes)


def test_the_way_to_git(store: Store) -> None:
    made = proposals.create(store, DRAFT, "alice", NOW)
    assert (made.state, made.version, made.draft) == (State.DRAFT, 1, DRAFT)
    asked = proposals.submit(store, made.id, 1, [LEDGER, SECOND], "alice", at(1))
    assert (asked.state, asked.outstanding) == (State.SUBMITTED, (LEDGER, SECOND))
    assert proposals.awaiting(store) == (asked,)
    half = proposals.review(store, made.id, 2, "team:ledger", "erin", True, at(2), "fine")
    assert (half.state, half.outstanding) == (State.SUBMITTED, (SECOND,))
    agreed = proposals.review(store, made.id, 3, "second-person:payments", "carol", True, at(3))
    assert (agreed.state, agreed.outstanding) == (State.APPROVED, ())
    done = proposals.committed(store, made.id, 4, "c0ffee", "carol", at(4))
    assert (done.state, done.commit) == (State.COMMITTED, "c0ffee")
    assert [(step.step, step.actor, step.state) for step in proposals.history(store, made.id)] == [
        ("created", "alice", State.DRAFT),
        ("submitted", "alice", State.SUBMITTED),
        ("agreed", "erin", State.SUBMITTED),
        ("agreed", "carol", State.APPROVED),
        ("committed", "carol", State.COMMITTED),
    ]
    with pytest.raises(Conflict, match="cannot be withdrawn"):
        proposals.withdraw(store, made.id, 5, "alice", at(5))


def test_with_nobody_to_ask_it_is_approved_at_once(store: Store) -> None:
    made = proposals.create(store, DRAFT, "alice", NOW)
    assert proposals.submit(store, made.id, 1, [], "alice", NOW).state is State.APPROVED


def test_the_author_is_no_second_person(store: Store) -> None:
    made = proposals.create(store, DRAFT, "alice", NOW)
    proposals.submit(store, made.id, 1, [SECOND], "alice", NOW)
    with pytest.raises(Denied, match="another one than the author"):
        proposals.review(store, made.id, 2, SECOND.role, "alice", True, NOW)
    assert proposals.get(store, made.id).state is State.SUBMITTED


def test_only_those_who_are_asked_agree(store: Store) -> None:
    made = proposals.create(store, DRAFT, "alice", NOW)
    proposals.submit(store, made.id, 1, [LEDGER], "alice", NOW)
    with pytest.raises(Conflict, match="nobody waits for"):
        proposals.review(store, made.id, 2, "team:risk", "bob", True, NOW)


def test_a_refusal_keeps_everything_and_can_be_answered(store: Store) -> None:
    made = proposals.create(store, DRAFT, "alice", NOW)
    proposals.submit(store, made.id, 1, [LEDGER], "alice", NOW)
    refused = proposals.review(store, made.id, 2, LEDGER.role, "erin", False, at(1), "why port 1?")
    assert (refused.state, refused.reviews[0].comment) == (State.REJECTED, "why port 1?")
    better = replace(DRAFT, document="spec: 2\n")
    edited = proposals.edit(store, made.id, 3, better, "alice", at(2))
    assert (edited.state, edited.reviews, edited.required) == (State.DRAFT, (), ())
    again = proposals.submit(store, made.id, 4, [LEDGER], "alice", at(3))
    assert again.outstanding == (LEDGER,)
    assert [step.document for step in proposals.history(store, made.id)][-2:] == ["spec: 2\n", "spec: 2\n"]
    assert proposals.history(store, made.id)[0].document == "spec: 1\n"


def test_an_edit_voids_what_was_agreed(store: Store) -> None:
    made = proposals.create(store, DRAFT, "alice", NOW)
    proposals.submit(store, made.id, 1, [LEDGER, SECOND], "alice", NOW)
    proposals.review(store, made.id, 2, LEDGER.role, "erin", True, NOW)
    edited = proposals.edit(store, made.id, 3, DRAFT, "alice", NOW)
    assert edited.reviews == ()
    assert proposals.submit(store, made.id, 4, [LEDGER, SECOND], "alice", NOW).outstanding == (LEDGER, SECOND)


def test_a_failure_of_git_loses_nothing(store: Store) -> None:
    made = proposals.create(store, DRAFT, "alice", NOW)
    proposals.submit(store, made.id, 1, [], "alice", NOW)
    failed = proposals.failed(store, made.id, 2, "the disk is full", "alice", NOW)
    assert (failed.state, failed.error) == (State.FAILED, "the disk is full")
    assert proposals.retry(store, made.id, 3, "alice", NOW).error == ""
    assert proposals.committed(store, made.id, 4, "c0ffee", "alice", NOW).state is State.COMMITTED


def test_two_people_at_once(store: Store) -> None:
    made = proposals.create(store, DRAFT, "alice", NOW)
    proposals.edit(store, made.id, 1, DRAFT, "bob", NOW)
    with pytest.raises(Conflict, match=r"version 2, you saw 1"):
        proposals.edit(store, made.id, 1, DRAFT, "alice", NOW)


def test_an_approved_one_is_not_edited_in_place(store: Store) -> None:
    made = proposals.create(store, DRAFT, "alice", NOW)
    proposals.submit(store, made.id, 1, [], "alice", NOW)
    with pytest.raises(Conflict, match="is approved and cannot be edited"):
        proposals.edit(store, made.id, 2, DRAFT, "alice", NOW)
    assert proposals.withdraw(store, made.id, 2, "alice", NOW, "changed my mind").state is State.WITHDRAWN


def test_proposals_are_found(store: Store) -> None:
    first = proposals.create(store, DRAFT, "alice", NOW)
    second = proposals.create(store, DRAFT, "bob", at(1))
    proposals.submit(store, first.id, 1, [LEDGER], "alice", at(2))
    found, total = proposals.find(store)
    assert ([item.id for item in found], total) == ([first.id, second.id], 2)
    assert [item.id for item in proposals.find(store, states=[State.DRAFT])[0]] == [second.id]
    assert [item.id for item in proposals.find(store, author="alice", kind="egress")[0]] == [first.id]
    assert proposals.find(store, team="risk") == ((), 0)
    assert proposals.find(store, subject="payments/payments", limit=1, offset=1)[1] == 2
    with pytest.raises(Invalid, match="no proposal 99"):
        proposals.get(store, 99)
