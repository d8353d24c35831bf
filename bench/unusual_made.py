"""Makes the life of a company at its clusters: people and workloads over some weeks, noisy as they are, with attacks.

Seeded: the same numbers make the same days. What is normal is not tame: shifts and time zones, nights on call, travel,
new laptops, holidays, changes of team, releases that read a new secret, scripts that ask for much that is refused.
Attacks carry a label; some are loud, and some hide among what is usual.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from pilothouse.access.unusual import Act, Activity

START = date(2026, 9, 1)
OFFICES = ("203.0.113.10", "198.51.100.20", "192.0.2.30")
PROFILES = ("developer", "reader", "on-call")
AGENTS = (
    "kubectl/v1.34.1 (linux/amd64) kubernetes/aaaa",
    "kubectl/v1.33.0 (darwin/arm64) kubernetes/bbbb",
    "kubectl/v1.34.1 (windows/amd64) kubernetes/cccc",
    "k9s/v0.50 (linux/amd64) kubernetes/dddd",
    "Helm/3.22.0",
    "python-requests/2.32",
)


@dataclass(frozen=True)
class Attack:
    """On that day somebody did what `kind` says, as or by `who`."""

    kind: str
    who: str
    day: date


@dataclass
class Corpus:
    users: int
    workloads: int
    days: int
    activities: list[Activity] = field(default_factory=list)
    attacks: list[Attack] = field(default_factory=list)


@dataclass
class _Person:
    name: str
    team: str
    start: int
    """Hour of the day (UTC) at which they begin; of night workers it is late."""
    home: str
    office: str
    agents: list[str]
    profiles: list[str]
    joined: int
    holidays: tuple[int, int]
    sloppiness: float
    scripts: bool


def make(users: int, workloads: int, days: int, seed: int) -> Corpus:
    rng = random.Random(seed)
    made = Corpus(users, workloads, days)
    people = [_person(rng, number, days) for number in range(users)]
    for person in people:
        made.activities += _life(rng, person, days)
    services = {f"prod:ns-{n % 20}/svc-{n}": _workload(rng, n) for n in range(workloads)}
    for name, (paths, used) in services.items():
        made.activities += _service(rng, name, paths, used, days)
    _attack_people(rng, made, people, days)
    _attack_workloads(rng, made, services, days)
    made.activities.sort(key=lambda item: (item.at, item.who, item.act.value, item.subject))
    return made


def _at(day: int, hour: float) -> datetime:
    begin = datetime.combine(START, time(), UTC) + timedelta(days=day)
    return begin + timedelta(seconds=round(hour * 3600))


def _address(rng: random.Random) -> str:
    return f"{rng.choice((5, 31, 77, 88, 91))}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def _person(rng: random.Random, number: int, days: int) -> _Person:
    first = rng.randrange(days)
    return _Person(
        name=f"user-{number:03}",
        team=f"team-{number % 25}",
        start=rng.choice((6, 7, 7, 8, 8, 9, 13, 15, 22)),
        home=_address(rng),
        office=OFFICES[number % len(OFFICES)],
        agents=rng.sample(AGENTS[:4], rng.choice((1, 1, 2))) + ([AGENTS[4]] if rng.random() < 0.3 else []),
        profiles=["developer"] + (["reader"] if rng.random() < 0.3 else []),
        joined=0 if rng.random() < 0.85 else rng.randrange(days - 20),
        holidays=(first, first + rng.choice((0, 5, 12))),
        sloppiness=rng.choice((0.5, 1, 2, 6)),
        scripts=rng.random() < 0.1,
    )


def _life(rng: random.Random, person: _Person, days: int) -> Iterator[Activity]:
    for day in range(person.joined, days):
        if person.holidays[0] <= day < person.holidays[1]:
            continue
        weekend = (START + timedelta(days=day)).weekday() >= 5
        if weekend and rng.random() > 0.06:
            continue
        if not weekend and rng.random() < 0.1:
            continue
        if rng.random() < 0.004:
            person.agents[0] = rng.choice(AGENTS[:4])  # a new laptop
        if rng.random() < 0.002:
            person.home = _address(rng)  # moved, or another provider
        if rng.random() < 0.003:
            person.team = f"team-{rng.randrange(25)}"
            person.profiles = [*person.profiles, rng.choice(PROFILES)]
        travels = rng.random() < 0.02
        where = _address(rng) if travels else person.home if rng.random() < 0.5 else person.office
        if rng.random() < 0.15:  # the provider gives another address of the same net, or of one beside it
            where = where.rsplit(".", 1)[0] + f".{rng.randrange(1, 255)}"
        shift = rng.choice((-5, -3, 3, 6)) if travels else 0
        yield from _working_day(rng, person, day, where, person.start + shift, rng.random() < 0.03)
        if (day // 7 + int(person.name[-3:])) % 9 == 0 and rng.random() < 0.2:
            yield from _night(rng, person, day)


def _working_day(
    rng: random.Random, person: _Person, day: int, where: str, begin: float, late: bool
) -> Iterator[Activity]:
    begin += rng.gauss(0, 0.7)
    yield Activity(_at(day, begin), person.name, Act.LOGIN, where, team=person.team)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3)) + (rng.randrange(4) if person.scripts else 0)):
        profile = person.profiles[0] if rng.random() < 0.8 else rng.choice(person.profiles)
        yield Activity(_at(day, begin + 0.1), person.name, Act.ISSUED, where, subject=profile, team=person.team)
    hours = [begin + 0.2 + step for step in range(8) if rng.random() < 0.7]
    if late:
        hours.append(begin + rng.uniform(10, 15))
    for hour in hours:
        count = rng.randrange(5, 200)
        denied = min(count, int(rng.expovariate(1 / person.sloppiness)))
        if person.scripts and rng.random() < 0.02:
            denied += rng.randrange(30)
        agent = rng.choice(person.agents)
        yield Activity(
            _at(day, hour), person.name, Act.USED, where, agent, team=person.team, count=count, denied=denied
        )
    if rng.random() < 0.01:
        claimed = where
        if rng.random() < 0.02:  # claimed on the train, used at the desk
            where = person.office
        yield Activity(
            _at(day, begin + 4), person.name, Act.USED, where, person.agents[0], team=person.team, claimed_from=claimed
        )


def _night(rng: random.Random, person: _Person, day: int) -> Iterator[Activity]:
    """On call: woken at any hour, at home."""
    hour = rng.uniform(0, 24)
    yield Activity(_at(day, hour), person.name, Act.LOGIN, person.home, team=person.team, expected_hour=True)
    yield Activity(
        _at(day, hour + 0.1),
        person.name,
        Act.USED,
        person.home,
        person.agents[0],
        team=person.team,
        count=40,
        denied=rng.randrange(4),
        expected_hour=True,
    )


# ---------------------------------------------------------------- workloads


def _workload(rng: random.Random, number: int) -> tuple[list[str], int]:
    """(paths that it may read, how many of them it does read)."""
    paths = [f"kv-prod/data/ns-{number % 20}/{name}" for name in ("db", "queue", "tls", "old", "backup", "admin", "x")]
    return paths, rng.choice((1, 2, 3))


def _service(rng: random.Random, name: str, paths: list[str], used: int, days: int) -> Iterator[Activity]:
    for day in range(days):
        if rng.random() < 0.01 and used < len(paths):
            used += 1  # a release reads one more
        for _ in range(rng.choice((1, 1, 2, 6))):
            hour = rng.uniform(0, 23.9)
            for path in paths[:used]:
                if rng.random() < 0.9:
                    yield Activity(_at(day, hour), name, Act.SECRET, "pods", subject=path, workload=True)


# ---------------------------------------------------------------- attacks


def _attack_people(rng: random.Random, made: Corpus, people: list[_Person], days: int) -> None:
    long_there = [person for person in people if person.joined == 0]
    victims = rng.sample(long_there, min(len(long_there), 48))
    kinds = ("stolen session", "stolen certificate", "elevation used elsewhere", "probing", "insider collects")
    for number, person in enumerate(victims):
        kind = kinds[number % len(kinds)]
        day = rng.randrange(max(25, days // 2), days)
        made.activities += _ATTACKS[kind](rng, person, day)
        made.attacks.append(Attack(kind, person.name, START + timedelta(days=day)))


def _used(person: _Person, day: int, hour: float, where: str, agent: str, count: int, denied: int) -> Activity:
    return Activity(
        _at(day, hour % 24), person.name, Act.USED, where, agent, team=person.team, count=count, denied=denied
    )


def _stolen_session(rng: random.Random, person: _Person, day: int) -> Iterator[Activity]:
    """Somebody else has the login: asks for several certificates, at their own hours."""
    where, hour = _address(rng), rng.uniform(0, 24)
    agent = rng.choice(AGENTS)
    yield Activity(_at(day, hour % 24), person.name, Act.LOGIN, where, team=person.team)
    for number in range(rng.randrange(2, 14)):
        profile = PROFILES[number % len(PROFILES)]
        yield Activity(_at(day, hour % 24), person.name, Act.ISSUED, where, subject=profile, team=person.team)
    yield _used(person, day, hour, where, agent, 300, rng.randrange(60))


def _stolen_certificate(rng: random.Random, person: _Person, day: int) -> Iterator[Activity]:
    """The kubeconfig was copied: used from elsewhere, with another program, looking around."""
    yield _used(person, day, rng.uniform(0, 24), _address(rng), rng.choice(AGENTS), 400, rng.randrange(10, 120))


def _elevation(rng: random.Random, person: _Person, day: int) -> Iterator[Activity]:
    yield Activity(
        _at(day, (person.start + rng.uniform(0, 9)) % 24),
        person.name,
        Act.USED,
        _address(rng),
        rng.choice(AGENTS),
        team=person.team,
        count=80,
        claimed_from=person.office,
    )


def _probing(rng: random.Random, person: _Person, day: int) -> Iterator[Activity]:
    """From the person's own machine: much is tried and refused, by a tool of its own."""
    yield _used(person, day, rng.uniform(0, 24), person.home, "kubeletctl/1.9", 900, rng.randrange(150, 800))


def _insider(rng: random.Random, person: _Person, day: int) -> Iterator[Activity]:
    """The person themselves takes every profile there is, late."""
    hour = person.start + 11 + rng.uniform(0, 6)
    for number in range(rng.randrange(8, 20)):
        profile = ("developer", "reader", "on-call", "auditor")[number % 4]
        yield Activity(_at(day, hour % 24), person.name, Act.ISSUED, person.home, subject=profile, team=person.team)
    yield _used(person, day, hour, person.home, person.agents[0], 700, rng.randrange(30))


_ATTACKS = {
    "stolen session": _stolen_session,
    "stolen certificate": _stolen_certificate,
    "elevation used elsewhere": _elevation,
    "probing": _probing,
    "insider collects": _insider,
}


def _attack_workloads(rng: random.Random, made: Corpus, services: dict[str, tuple[list[str], int]], days: int) -> None:
    """Reads of secrets that the workload may read and never did: by itself, or with its token from elsewhere."""
    names = rng.sample(sorted(services), min(len(services), 24))
    for number, name in enumerate(names):
        paths, used = services[name]
        day = rng.randrange(max(25, days // 2), days)
        elsewhere = number % 2 == 0
        where = _address(rng) if elsewhere else "pods"
        unread = paths[used + 1 :][: rng.randrange(1, 5)] or [paths[-1]]
        for path in unread:
            made.activities.append(Activity(_at(day, 3.5), name, Act.SECRET, where, subject=path, workload=True))
        kind = "workload's token used elsewhere" if elsewhere else "workload reads what it never read"
        made.attacks.append(Attack(kind, name, START + timedelta(days=day)))
