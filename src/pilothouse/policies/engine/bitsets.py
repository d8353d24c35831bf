"""Sets of small numbers as Python integers: a union of thousands of members costs a microsecond."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

_FEW = 16


def bits(value: int) -> Iterator[int]:
    """The members of a set, ascending."""
    if value.bit_length() <= 64 or value.bit_count() <= _FEW:
        while value:
            low = value & -value
            yield low.bit_length() - 1
            value ^= low
        return
    # Word by word: taking the lowest bit off a long integer again and again copies all of it each time.
    words = array("Q", value.to_bytes((value.bit_length() + 63) // 64 * 8, "little"))
    for index, word in enumerate(words):
        base = index * 64 - 1
        while word:
            low = word & -word
            yield base + low.bit_length()
            word ^= low


def of(numbers: Iterable[int]) -> int:
    """The set of these members."""
    found = bytearray()
    for number in numbers:
        byte = number >> 3
        if byte >= len(found):
            found.extend(bytes(byte + 1 - len(found)))
        found[byte] |= 1 << (number & 7)
    return int.from_bytes(found, "little")


def grouped(pairs: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    """Key → the set of the numbers that came with it."""
    lists: dict[Key, list[int]] = {}
    for key, number in pairs:
        lists.setdefault(key, []).append(number)
    return {key: of(numbers) for key, numbers in lists.items()}


def cut(sets: Iterable[int]) -> list[int]:
    """The smallest disjoint sets of which each of these is a union."""
    found: list[int] = []
    for one in dict.fromkeys(sets):
        rest, fresh = one, []
        for known in found:
            common = known & one
            if common and common != known:
                fresh.append(known ^ common)
                fresh.append(common)
            else:
                fresh.append(known)
            rest &= ~common
        found = [*fresh, rest] if rest else fresh
    return found
