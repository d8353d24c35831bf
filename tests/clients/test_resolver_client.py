"""The system's resolver, many names at once: its time limit, its threads, its failures in words."""

from __future__ import annotations

import socket
import threading
from ipaddress import IPv6Address, ip_address

import pytest

from pilothouse.clients import calls, resolver
from pilothouse.clients.resolver import SystemResolver
from pilothouse.policies.domains import Address, Answer


def test_the_system_knows_this_machine() -> None:
    found = resolver.system("localhost")
    assert found
    assert all(item.is_loopback for item in found)
    assert len(found) == len(set(found))


def test_a_name_that_cannot_be_is_answered_with_a_failure() -> None:
    """`invalid` is never delegated (https://www.rfc-editor.org/rfc/rfc6761#section-6.4)."""
    found = SystemResolver().resolve(["nobody.invalid", "a" * 64 + ".invalid"])
    assert [answer.addresses for answer in found.values()] == [(), ()]
    assert all(answer.failure for answer in found.values())


def test_each_name_is_asked_for_once_and_as_an_absolute_one() -> None:
    asked: list[str] = []

    def look_up(name: str) -> tuple[Address, ...]:
        asked.append(name)
        return (ip_address("192.0.2.1"),)

    found = SystemResolver(look_up=look_up).resolve(["b.example", "a.example", "b.example", "c.example."])
    assert list(found) == ["b.example", "a.example", "c.example."]
    assert set(found.values()) == {Answer((ip_address("192.0.2.1"),))}
    assert sorted(asked) == ["a.example.", "b.example.", "c.example."]
    assert SystemResolver(look_up=look_up).resolve([]) == {}


def test_failures_are_told_in_words_that_stay_and_are_counted() -> None:
    failures: dict[str, Exception] = {
        "none.example.": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        "away.example.": socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        "odd.example.": socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"),
    }

    def look_up(name: str) -> tuple[Address, ...]:
        raise failures[name]

    labels = ("dns", "resolve", "unavailable")
    before = calls.CALLS.labels(*labels)._value.get()
    found = SystemResolver(look_up=look_up).resolve([name.rstrip(".") for name in failures])
    assert [answer.failure for answer in found.values()] == [
        "DNS knows no address of it",
        "its name servers did not answer",
        f"[Errno {socket.EAI_FAIL}] Non-recoverable failure",
    ]
    assert calls.CALLS.labels(*labels)._value.get() == before + 3


def test_a_mistake_is_raised_and_costs_no_thread() -> None:
    def look_up(name: str) -> tuple[Address, ...]:
        if name == "bad.example.":
            raise ZeroDivisionError(name)
        return (ip_address("192.0.2.1"),)

    found = SystemResolver(threads=1, look_up=look_up)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            found.resolve(["bad.example"])
    assert found.resolve(["good.example"])["good.example"].failure == ""


def test_names_that_hang_cost_their_own_answers_and_a_bounded_number_of_threads() -> None:
    go_on = threading.Event()
    inside, most = set(), []
    lock = threading.Lock()

    def look_up(name: str) -> tuple[Address, ...]:
        with lock:
            inside.add(threading.get_ident())
            most.append(len(inside))
        if name.startswith("hangs"):
            assert go_on.wait(60)
        with lock:
            inside.discard(threading.get_ident())
        return (ip_address("192.0.2.1"),)

    found = SystemResolver(seconds=0.3, threads=3, look_up=look_up)
    first = found.resolve(["hangs-1.example", "hangs-2.example", *(f"n{n}.example" for n in range(20))])
    late = {name for name, answer in first.items() if answer.failure}
    assert late == {"hangs-1.example", "hangs-2.example"}
    assert first["hangs-1.example"].failure == "no answer within 0.3 s"
    stuck = found.resolve([f"hangs-{n}.example" for n in range(3, 8)])
    assert all(answer.failure == "no answer within 0.3 s" for answer in stuck.values())
    assert max(most) <= 3
    go_on.set()
    patient = SystemResolver(seconds=30, threads=3, look_up=look_up)
    assert patient.resolve(["hangs-9.example"])["hangs-9.example"].failure == ""


def test_an_address_with_a_scope_is_one_without(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(socket.AF_INET6, 1, 6, "", ("fe80::1%2", 0, 0, 2)), (socket.AF_INET, 1, 6, "", ("192.0.2.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)
    assert resolver.system("x.example") == (IPv6Address("fe80::1"), ip_address("192.0.2.1"))
