"""The rules, day by day: what is new in a day is held against the baseline, then what is as usual is learned.

What was in a page is never learned by itself; only somebody who calls it expected lets it in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import groupby

from pilothouse.access.unusual.baseline import Baseline, Hours, World, p95
from pilothouse.access.unusual.model import POINTS, Act, Activity, Alert, Expected, Settings, Signal, agent, network

STANDARD = Settings()
Values = dict[tuple[str, str], Activity]
"""(rule, value) → the first activity of the day that showed it."""


def judge(
    activities: Iterable[Activity], expected: Iterable[Expected] = (), settings: Settings = STANDARD
) -> Iterator[Alert]:
    """The alerts, in the order of their days, at most one for each of them and day. `activities` in order of time."""
    world = World()
    allowed = {(item.who, item.rule, item.value) for item in expected}
    for day, of_day in groupby(activities, key=lambda item: item.at.date()):
        by_who: dict[str, list[Activity]] = defaultdict(list)
        for activity in of_day:
            by_who[activity.who].append(activity)
        for who, theirs in sorted(by_who.items()):
            alert = _day(world, who, day, theirs, allowed, settings)
            if alert is not None:
                yield alert


def _day(
    world: World,
    who: str,
    day: date,
    theirs: Sequence[Activity],
    allowed: set[tuple[str, str, str]],
    settings: Settings,
) -> Alert | None:
    mine = world.of(who, day)
    values = _values(theirs)
    found: dict[tuple[str, str], Signal] = {}
    for signal in _signals(world, mine, who, day, theirs, values, settings):
        if (who, signal.rule, signal.value) not in allowed:
            found[signal.rule, signal.value] = signal
    signals = _once_each(found.values())
    score = sum(signal.points for signal in signals)
    fresh = [key for key in found if key not in mine.reported]
    paged = score >= settings.page_at and any(key not in mine.paged for key in found)
    mine.reported.update(found)
    if score >= settings.page_at:
        mine.paged.update(found)
    else:
        _learn(world, mine, who, day, theirs, values, set(found), settings)
    if not signals or not (fresh or paged):
        return None
    return Alert(who, day, score, paged, signals, theirs[0].workload)


def _values(theirs: Sequence[Activity]) -> Values:
    """What of the day can be new."""
    found: Values = {}
    for item in theirs:
        if item.address:
            found.setdefault(("workload-network" if item.workload else "new-network", network(item.address)), item)
        if item.agent and not item.workload:
            found.setdefault(("new-agent", agent(item.agent)), item)
        if item.act is Act.ISSUED and item.subject:
            found.setdefault(("new-profile", item.subject), item)
        if item.act is Act.SECRET and item.subject:
            found.setdefault(("new-secret", item.subject), item)
        if not item.workload and not item.expected_hour:
            found.setdefault(("rare-hour", f"{item.at:%H}"), item)
    return found


# ---------------------------------------------------------------- what speaks


def _signals(
    world: World,
    mine: Baseline,
    who: str,
    day: date,
    theirs: Sequence[Activity],
    values: Values,
    settings: Settings,
) -> Iterator[Signal]:
    yield from _elsewhere(theirs)
    if mine.is_learning(day, settings):
        return
    for (rule, value), item in values.items():
        if rule == "rare-hour":
            yield from _hour(world, mine, day, value, item, settings)
        elif value not in mine.seen[rule]:
            yield _new(world, mine, who, rule, value, item, settings)
    yield from _counts(mine, theirs, settings)


def _new(world: World, mine: Baseline, who: str, rule: str, value: str, item: Activity, settings: Settings) -> Signal:
    others = len(world.common[rule, value] - {who}) if (rule, value) in world.common else 0
    points = POINTS[rule] // 2 if others >= settings.common else POINTS[rule]
    known = ", ".join(name for name, _ in mine.seen[rule].most_common(4)) or "none"
    more = len(mine.seen[rule]) - 4
    shared = f"; {others} others have it" if others else ""
    return Signal(
        rule,
        points,
        value,
        f"{value}, first at {item.at:%H:%M} UTC{shared}",
        f"{mine.days} usual days since {mine.first}: {known}{f' and {more} more' if more > 0 else ''}",
    )


def _hour(world: World, mine: Baseline, day: date, value: str, item: Activity, settings: Settings) -> Iterator[Signal]:
    """Their own hours where there are enough, else those of their team, else nothing is said."""
    own = mine.hours.total >= settings.least_hours and (day - mine.first).days >= 14
    hours: Hours = mine.hours if own else world.team_hours[item.team] if item.team else Hours()
    if hours.total < settings.least_hours or value in mine.seen["rare-hour"]:
        return
    share = hours.share(int(value))
    if share < settings.rare:
        whose = "their own" if own else f"team {item.team}'s"
        yield Signal(
            "rare-hour",
            POINTS["rare-hour"],
            value,
            f"{item.act.value} at {item.at:%H:%M} UTC",
            f"{share:.1%} of {whose} {hours.total} active hours lie about then; {hours}",
        )


def _counts(mine: Baseline, theirs: Sequence[Activity], settings: Settings) -> Iterator[Signal]:
    issued, denied = _issued(theirs), _denied(theirs)
    most = max(settings.least_issued, 3 * p95(mine.issued))
    if issued > most:
        usual = f"95 of 100 days have at most {p95(mine.issued)}; more than {most} counts"
        yield Signal("issuance-burst", POINTS["issuance-burst"], "", f"{issued} certificates in a day", usual)
    most = max(settings.least_denied, 3 * p95(mine.denied))
    if denied > most:
        usual = f"95 of 100 days have at most {p95(mine.denied)}; more than {most} counts"
        yield Signal("denied-spike", POINTS["denied-spike"], "", f"{denied} requests refused in a day", usual)


def _elsewhere(theirs: Sequence[Activity]) -> Iterator[Signal]:
    for item in theirs:
        if item.claimed_from and item.address and network(item.address) != network(item.claimed_from):
            yield Signal(
                "elevation-elsewhere",
                POINTS["elevation-elsewhere"],
                network(item.address),
                f"used from {network(item.address)} at {item.at:%H:%M} UTC",
                f"claimed from {network(item.claimed_from)}",
            )


def _issued(theirs: Sequence[Activity]) -> int:
    return sum(item.count for item in theirs if item.act is Act.ISSUED)


def _denied(theirs: Sequence[Activity]) -> int:
    return sum(item.denied for item in theirs)


def _once_each(signals: Iterable[Signal]) -> tuple[Signal, ...]:
    """One for each rule, the strongest; several secrets that are new count together: half again for each more."""
    by_rule: dict[str, list[Signal]] = defaultdict(list)
    for signal in signals:
        by_rule[signal.rule].append(signal)
    found = []
    for rule, same in by_rule.items():
        best = max(same, key=lambda item: item.points)
        if len(same) > 1:
            points = min(100, best.points * (len(same) + 1) // 2) if rule == "new-secret" else best.points
            evidence = "; ".join(item.evidence for item in same[:5])
            more = f" and {len(same) - 5} more" if len(same) > 5 else ""
            also = tuple(item.value for item in same if item is not best)
            best = Signal(rule, points, best.value, evidence + more, best.baseline, also)
        found.append(best)
    return tuple(sorted(found, key=lambda item: (-item.points, item.rule)))


# ---------------------------------------------------------------- what is learned


def _learn(
    world: World,
    mine: Baseline,
    who: str,
    day: date,
    theirs: Sequence[Activity],
    values: Values,
    spoken: set[tuple[str, str]],
    settings: Settings,
) -> None:
    """What nobody wondered about; and what was new, once it has come on enough days and was in no page."""
    for (rule, value), item in values.items():
        if (rule, value) in mine.paged:
            continue
        if (rule, value) in spoken:
            mine.waiting[rule, value].add(day)
            if len(mine.waiting[rule, value]) < settings.settle_days:
                continue
        if rule == "rare-hour":
            mine.hours.add(int(value))
            if item.team:
                world.team_hours[item.team].add(int(value))
            if (rule, value) in spoken:
                world.learn(who, rule, value)
        else:
            world.learn(who, rule, value)
    if ("issuance-burst", "") not in spoken and ("denied-spike", "") not in spoken:
        mine.count_day(_issued(theirs), _denied(theirs))
