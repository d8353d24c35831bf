"""Rows are added many at once, and read as each of them would be alone."""

from __future__ import annotations

import random
from importlib import import_module
from typing import Any

import pytest

from pilothouse.policies.flows import Format, read

MODULE = import_module("pilothouse.policies.flows.read")  # its name is that of the function, too
HEADER = (
    "source,destination,protocol,port,count,bytes,packets,first_seen,last_seen,action,reporter,service,source_labels"
)
CELLS: tuple[tuple[str, ...], ...] = (
    ("shop/web-1", "shop/web-2", "10.0.0.1", "public", "host n1", " shop/web-1 ", "", "nobody"),
    ("shop/api-1", "shop/api-*", "2001:db8::1", "network-set shop/bank"),
    ("TCP", "tcp", "17", "ICMP", "", "x"),
    ("80", "443", "", "0", "70000", " 80"),
    ("1", "25", "", "0", "-1", "1_000", "\u0663", "9" * 19, " 7"),
    ("1500", "", "12.5"),
    ("3", ""),
    ("1795000000", "", "0", "2026-11-20T06:00:00Z", "1795000000000", "noon"),
    ("1795000900", "1795000900.5", "", "0"),
    ("allow", "deny", "", "maybe"),
    ("source", "dst", "", "-"),
    ("", "shop/api", "-"),
    ("app=web;tier=front", "", "app=web", "odd"),
)
"""What stands in each column: first what every program would write."""


def line(chance: random.Random, odd: float) -> bytes:
    cells = [chance.choice(each) if chance.random() < odd else each[0] for each in CELLS]
    if chance.random() > odd:
        cells[0], cells[1] = chance.choice(CELLS[0][:4]), chance.choice(CELLS[1][:2])
    if chance.random() < odd:
        place = chance.randrange(len(cells))
        cells[place] = chance.choice((f'"{cells[place]}"', '"', 'a"b', '""', '"a,b"'))
    if chance.random() < odd / 4:
        cells.pop()
    raw = ",".join(cells).encode()
    if chance.random() < odd / 4:
        raw = chance.choice((b"\xff" + raw, b"", b"  ", raw[: len(raw) // 2]))
    return raw + (chance.choice((b"\n", b"\r\n")) if chance.random() < 0.5 else b"")


def alone(lines: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(MODULE, "_BATCH", 1)
        return read(lines, None, "flows.csv")


@pytest.mark.parametrize("odd", [0.0, 0.01, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_many_at_once_are_read_as_each_alone(seed: int, odd: float, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(f"{seed} {odd}")
    lines = [HEADER.encode(), *(line(chance, odd) for _ in range(1500))]
    found = read(lines, None, "flows.csv")
    assert found == alone(lines, monkeypatch)
    assert found.lines == 1501
    assert found.records + found.broken + sum(not each.strip() for each in lines) == 1500
    assert bool(found.broken) == (odd > 0)
    assert found.records > 300


def test_a_row_that_is_left_out_takes_no_other_with_it() -> None:
    rows = [f"shop/a-{number},shop/b,TCP,80".encode() for number in range(3000)]
    rows[1234], rows[2999] = b"shop/a,shop/b,TCP,x", b'"shop/a,shop/b,TCP,80'
    found = read([b"source,destination,protocol,port", *rows], None, "flows.csv")
    assert (found.records, found.broken, len(found.flows)) == (2998, 2, 2998)
    assert sorted(problem.message.split(":")[0] for problem in found.problems) == [
        "line 1,236 is left out",
        "line 3,001 is left out",
    ]


def test_a_field_in_quotes_ends_on_its_line() -> None:
    rows = [
        b"source,destination,protocol,port",
        b'shop/a,shop/b,TCP,"80',
        b'",shop/b,TCP,80',
        b'shop/a,"shop/b",TCP,80',
    ]
    found = read(rows, Format.CSV, "flows.csv")
    assert (found.records, found.broken) == (1, 2)


def test_numbers_are_ascii_and_of_a_sane_length() -> None:
    rows = [f"a/b,c/d,TCP,80,{value}".encode() for value in ("7", "\u0663", "1_0", "+1", "9" * 30, "")]
    found = read([b"source,destination,protocol,port,count", *rows], None, "flows.csv")
    assert (found.count, found.records, found.broken) == (8, 2, 4)
