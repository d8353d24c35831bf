"""What is usual: of one person or workload, of a team's hours, and of everybody's networks and agents."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date

from pilothouse.access.unusual.model import Settings

KEPT_DAYS = 60
"""Of counts by the day the newest so many stand for what is usual."""
_KERNEL = ((-2, 0.25), (-1, 0.5), (0, 1.0), (1, 0.5), (2, 0.25))


@dataclass
class Hours:
    """How often something was done in each hour of the day (UTC), as a circle: 23 is beside 0."""

    counts: list[int] = field(default_factory=lambda: [0] * 24)

    @property
    def total(self) -> int:
        return sum(self.counts)

    def add(self, hour: int) -> None:
        self.counts[hour % 24] += 1

    def share(self, hour: int) -> float:
        """The share of that hour, its neighbours taken in: 0 to 1."""
        weight = sum(part for _, part in _KERNEL)
        near = sum(self.counts[(hour + step) % 24] * part for step, part in _KERNEL)
        return near / (weight * self.total) if self.total else 0.0

    def __str__(self) -> str:
        busy = [hour for hour, count in enumerate(self.counts) if count * 24 >= self.total > 0]
        return f"mostly at {', '.join(f'{hour:02}' for hour in busy)} h UTC" if busy else "at no hour yet"


@dataclass
class Baseline:
    """Of one of them. `seen` is what was learned by rule, `waiting` the days on which something new was seen."""

    first: date
    seen: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    waiting: dict[tuple[str, str], set[date]] = field(default_factory=lambda: defaultdict(set))
    paged: set[tuple[str, str]] = field(default_factory=set)
    reported: set[tuple[str, str]] = field(default_factory=set)
    hours: Hours = field(default_factory=Hours)
    issued: list[int] = field(default_factory=list)
    denied: list[int] = field(default_factory=list)
    days: int = 0

    def is_learning(self, day: date, settings: Settings) -> bool:
        return (day - self.first).days < settings.learning_days

    def count_day(self, issued: int, denied: int) -> None:
        """One more day that was as usual."""
        self.days += 1
        for kept, value in ((self.issued, issued), (self.denied, denied)):
            kept.append(value)
            del kept[:-KEPT_DAYS]


def p95(values: list[int]) -> int:
    """The value that 95 in 100 do not exceed (nearest rank); 0 of none."""
    if not values:
        return 0
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


@dataclass
class World:
    """Everybody's baselines. `common` counts who uses a network or agent; `team_hours` are a team's together."""

    people: dict[str, Baseline] = field(default_factory=dict)
    common: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    team_hours: dict[str, Hours] = field(default_factory=lambda: defaultdict(Hours))

    def of(self, who: str, day: date) -> Baseline:
        return self.people.setdefault(who, Baseline(day))

    def learn(self, who: str, rule: str, value: str) -> None:
        mine = self.people[who]
        mine.seen[rule][value] += 1
        mine.waiting.pop((rule, value), None)
        if rule in ("new-network", "new-agent"):
            self.common[rule, value].add(who)
