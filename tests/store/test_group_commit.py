"""Several threads, one transaction: who is refused undoes nobody else, and nobody goes on before the rows are there."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from support.access_values import NOW

from pilothouse.access.ledger import Entry, Head
from pilothouse.problems import Conflict, Denied, PilothouseError, Unavailable
from pilothouse.store import Connection, Store, certificates, ledger
from pilothouse.store.certificates import Certificate
from pilothouse.store.group_commit import GroupCommit, Step
from pilothouse.store.ledger import Appending

WAIT = 20


def step(name: str, refused: PilothouseError | None = None) -> Step:
    """A certificate and an entry of that name; refused after both."""

    def record(connection: Connection, entries: Appending) -> None:
        row = Certificate("dev", name, "alice", "p", ("g",), "k", NOW, NOW + timedelta(hours=1))
        certificates.add(connection, row)
        entries.append(Entry("certificate.intent", "alice", name), NOW)
        if refused is not None:
            raise refused

    return record


class Together:
    """Steps that share one transaction for certain: a first one holds its own open until all others wait."""

    def __init__(self, store: Store, most: int = 64) -> None:
        self.heads: list[Head] = []
        self.store = store
        self.group = GroupCommit(store, self.heads.append, most)

    def run(self, *steps: Step) -> list[BaseException | None]:
        """What became of each, in order."""
        entered, go_on = threading.Event(), threading.Event()

        def first(_connection: Connection, _entries: Appending) -> None:
            entered.set()
            assert go_on.wait(WAIT)

        with ThreadPoolExecutor(len(steps) + 1) as pool:
            opened = pool.submit(self.group.write, first)
            assert entered.wait(WAIT)
            asked = []
            for number, wanted in enumerate(steps, 1):
                asked.append(pool.submit(self.group.write, wanted))
                while len(self.group._waiting) < number:
                    threading.Event().wait(0.001)
            go_on.set()
            opened.result(WAIT)
            return [future.exception(WAIT) for future in asked]

    @property
    def kept(self) -> list[str]:
        """The subjects of the ledger, in the order of its chain, which is whole."""
        problems, head = ledger.verify(self.store)
        assert problems == ()
        assert not self.heads or self.heads[-1] == head
        return [entry.entry.subject for entry in ledger.everything(self.store)]


def transactions(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each transaction that is begun."""
    begun: list[int] = []
    write = store.write

    def counted(*arguments: bool) -> object:
        begun.append(1)
        return write(*arguments)

    monkeypatch.setattr(store, "write", counted)
    return begun


def test_those_who_wait_share_one_transaction_and_one_head(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    together = Together(store)
    begun = transactions(store, monkeypatch)
    assert together.run(*(step(f"s{n}") for n in range(10))) == [None] * 10
    assert len(begun) == 2  # the one that held the others up, and theirs
    assert [head.sequence for head in together.heads] == [10]
    assert together.kept == [f"s{n}" for n in range(10)]


def test_no_transaction_takes_more_than_it_may_and_the_first_come_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Together(store, most=4)
    begun = transactions(store, monkeypatch)
    assert together.run(*(step(f"s{n}") for n in range(10))) == [None] * 10
    assert len(begun) == 1 + 3
    assert [head.sequence for head in together.heads] == [4, 8, 10]
    assert together.kept == [f"s{n}" for n in range(10)]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_who_is_refused_undoes_nobody_else(store: Store, place: int) -> None:
    together = Together(store)
    steps = [step("a"), step("b")]
    steps.insert(place, step("no", Denied("not you", "ask somebody")))
    found = together.run(*steps)
    refused = found.pop(place)
    assert isinstance(refused, Denied)
    assert (refused.message, refused.hint) == ("not you", "ask somebody")
    assert found == [None, None]
    assert together.kept == ["a", "b"]
    assert certificates.get(store, "no") is None
    assert certificates.get(store, "b") is not None


def test_what_the_database_refuses_is_refused_to_its_own_caller(store: Store) -> None:
    together = Together(store)
    found = together.run(step("a"), step("a"), step("b"))
    assert [type(item) for item in found] == [type(None), Conflict, type(None)]
    assert together.kept == ["a", "b"]


def test_a_mistake_of_one_is_not_the_others(store: Store) -> None:
    def broken(_connection: Connection, _entries: Appending) -> None:
        raise ZeroDivisionError

    together = Together(store)
    assert [type(item) for item in together.run(step("a"), broken, step("b"))] == [
        type(None),
        ZeroDivisionError,
        type(None),
    ]
    assert together.kept == ["a", "b"]


def test_where_all_are_refused_nothing_is_told(store: Store) -> None:
    together = Together(store)
    found = together.run(*(step(f"s{n}", Denied(f"no {n}")) for n in range(3)))
    assert [str(item) for item in found] == ["no 0", "no 1", "no 2"]
    assert (together.heads, together.kept) == ([], [])


@pytest.mark.parametrize("others", [(), (step("no", Denied("not you")),)])
def test_a_database_that_fails_is_everybody_s_failure(store: Store, others: tuple[Step, ...]) -> None:
    def away(_connection: Connection, _entries: Appending) -> None:
        raise Unavailable("the disk is full", "free some space")

    together = Together(store)
    found = together.run(step("a"), *others, away, step("b"))
    assert len({id(item) for item in found}) == len(found)  # each thread raises one of its own
    left = [item for item in found if not isinstance(item, Denied)]
    assert len(left) == 3
    assert all(isinstance(item, Unavailable) and item.hint == "free some space" for item in left)
    assert (together.heads, together.kept) == ([], [])
    assert together.run(step("c")) == [None]  # and it goes on where it answers again


def test_a_head_that_cannot_be_kept_lets_nobody_go_on(store: Store) -> None:
    def exported(_head: Head) -> None:
        raise Unavailable("the head cannot be kept")

    together = Together(store)
    together.group = GroupCommit(store, exported)
    found = together.run(step("a"), step("b"))
    assert [str(item) for item in found] == ["the head cannot be kept"] * 2
    together.heads.clear()
    assert together.kept == ["a", "b"]  # recorded, and nothing was done after it


def test_nobody_goes_on_before_their_rows_are_there(store: Store) -> None:
    """Many at once, some refused: each looks for its own rows in a transaction of its own as soon as it may go on."""
    heads: list[Head] = []
    group = GroupCommit(store, heads.append, 8)
    missing: list[str] = []

    def engineer(number: int) -> int:
        refused = 0
        for turn in range(10):
            name = f"e{number}-{turn}"
            wanted = step(name, Denied("no") if (number + turn) % 7 == 0 else None)
            try:
                group.write(wanted)
            except Denied:
                refused += 1
                if certificates.get(store, name) is not None:
                    missing.append(f"{name} was refused and stands")
            else:
                if certificates.get(store, name) is None:
                    missing.append(f"{name} went on before it stood")
        return refused

    with ThreadPoolExecutor(12) as pool:
        refused = sum(pool.map(engineer, range(12)))
    assert missing == []
    assert refused == sum((number + turn) % 7 == 0 for number in range(12) for turn in range(10))
    problems, head = ledger.verify(store)
    assert problems == ()
    assert head.sequence == 120 - refused
    assert [item.sequence for item in heads] == sorted({item.sequence for item in heads})
    assert heads[-1] == head


def test_entries_that_are_taken_back_leave_no_gap(store: Store) -> None:
    with store.write() as connection:
        entries = Appending(connection)
        assert entries.write() is None
        entries.append(Entry("a", "alice"), NOW)
        mark = entries.mark()
        entries.append(Entry("b", "alice"), NOW)
        entries.back_to(mark)
        entries.append(Entry("c", "alice"), NOW)
        head = entries.write()
    assert head == ledger.head(store)
    assert [item.entry.kind for item in ledger.everything(store)] == ["a", "c"]
    assert ledger.verify(store) == ((), head)
