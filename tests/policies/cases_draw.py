"""One way to choose at random, whether hypothesis chooses or a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

Thing = TypeVar("Thing")


class Draw:
    """`whole(first, last)` gives a whole number from first to last, both included; small ones are the simple ones."""

    def __init__(self, whole: Callable[[int, int], int]) -> None:
        self.whole = whole

    def chance(self, percent: int) -> bool:
        return self.whole(0, 99) >= 100 - percent

    def one(self, things: Sequence[Thing]) -> Thing:
        return things[self.whole(0, len(things) - 1)]

    def some(self, things: Sequence[Thing], least: int, most: int) -> list[Thing]:
        """Different ones, in the order they have."""
        left = list(range(len(things)))
        taken = [left.pop(self.whole(0, len(left) - 1)) for _ in range(min(self.whole(least, most), len(left)))]
        return [things[index] for index in sorted(taken)]

    def shuffled(self, things: Sequence[Thing]) -> list[Thing]:
        left = list(things)
        return [left.pop(self.whole(0, len(left) - 1)) for _ in range(len(left))]


def seeded(seed: int) -> Draw:
    return Draw(random.Random(seed).randint)


def drawn(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Draw:
    """Within a composite strategy of hypothesis."""
    return Draw(lambda first, last: int(draw(st.integers(first, last))))
