"""Each rule speaks when it should, and no weak sign pages by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pilothouse.access.unusual import Act, Activity, Alert, Expected, Settings, judge
from pilothouse.access.unusual.baseline import Hours, p95
from pilothouse.access.unusual.model import POINTS, agent, network

START = datetime(2026, 9, 1, tzinfo=UTC)
HOME = "203.0.113.7"
KUBECTL = "kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9"


def at(day: int, hour: float = 9) -> datetime:
    return START + timedelta(days=day, hours=hour)


def used(day: int, hour: float = 10, who: str = "alice", **fields: object) -> Activity:
    activity = Activity(at(day, hour), who, Act.USED, HOME, KUBECTL, team="payments", count=50)
    return replace(activity, **fields)  # type: ignore[arg-type]


def usual(days: int = 30, who: str = "alice") -> list[Activity]:
    """Days from nine to noon, from one place."""
    return [
        item
        for day in range(days)
        for item in (
            Activity(at(day, 9), who, Act.LOGIN, HOME, team="payments"),
            Activity(at(day, 9.1), who, Act.ISSUED, HOME, subject="developer", team="payments"),
            used(day, 10, who),
            used(day, 11, who),
        )
    ]


def judged(
    *more: Activity, base: Iterable[Activity] | None = None, expected: Iterable[Expected] = (), **settings: int
) -> list[Alert]:
    everything = sorted([*(usual() if base is None else base), *more], key=lambda item: item.at)
    return list(judge(everything, expected, Settings(**settings)))


def rules(alerts: list[Alert]) -> list[str]:
    return [signal.rule for alert in alerts for signal in alert.signals]


def test_the_usual_is_not_unusual() -> None:
    assert judged() == []


def test_a_new_network_alone_goes_to_a_digest() -> None:
    (alert,) = judged(used(25, address="198.51.100.9"))
    assert (alert.who, alert.day, alert.paged) == ("alice", at(25).date(), False)
    (signal,) = alert.signals
    assert (signal.rule, signal.points, signal.value) == ("new-network", 25, "198.51.100.0/24")
    assert "203.0.113.0/24" in signal.baseline
    assert "10:00 UTC" in signal.evidence


def test_no_rule_pages_by_itself() -> None:
    assert max(POINTS.values()) < Settings().page_at


def test_several_signs_in_a_day_page_once() -> None:
    stolen = used(25, 3, address="198.51.100.9", agent="curl/8", denied=40)
    (alert,) = judged(stolen, replace(stolen, at=at(25, 3.5)))
    assert alert.paged
    assert sorted(rules([alert])) == ["denied-spike", "new-agent", "new-network", "rare-hour"]
    assert alert.score == 95


def test_nothing_is_said_while_somebody_is_new() -> None:
    stolen = used(25, 3, address="198.51.100.9", agent="curl/8", denied=40)
    assert judged(stolen, learning_days=40) == []
    assert judged(used(20, who="newcomer", address="198.51.100.9")) == []


def test_what_was_paged_is_never_learned_by_itself() -> None:
    stolen = used(20, 3, address="198.51.100.9", agent="curl/8", denied=40)
    again = [replace(stolen, at=at(day, 3), denied=0) for day in range(21, 30)]
    later = replace(stolen, at=at(29, 10), agent="wget/1", denied=60)
    first, *rest = judged(stolen, *again, later)
    assert first.paged
    assert [alert.day for alert in rest] == [at(29).date()]  # nothing new in between; and then something is
    assert "new-network" in rules(rest)


def test_what_somebody_called_expected_is_usual_from_then_on() -> None:
    away = used(25, address="198.51.100.9")
    assert judged(away, expected=[Expected("alice", "new-network", "198.51.100.0/24")]) == []
    assert len(judged(away, expected=[Expected("bob", "new-network", "198.51.100.0/24")])) == 1


def test_what_paged_nobody_is_learned_after_some_days() -> None:
    moved = [used(day, address="198.51.100.9") for day in range(20, 30)]
    (first,) = judged(*moved)
    assert first.day == at(20).date()
    settled = judged(*moved, used(29, agent="curl/8"))
    assert rules(settled) == ["new-network", "new-agent"]  # the agent's day no longer counts the network


def test_what_many_colleagues_use_counts_half() -> None:
    others = [used(day, 12, f"user-{number}", address="198.51.100.9") for day in range(20) for number in range(6)]
    (alert,) = judged(used(25, address="198.51.100.9"), *others)
    assert alert.signals[0].points == 12
    assert "6 others have it" in alert.signals[0].evidence


def test_another_version_of_the_same_program_is_nothing_new() -> None:
    assert judged(used(25, agent="kubectl/v1.35.0 (linux/amd64) kubernetes/ffff")) == []
    assert agent("k9s") == "k9s"


def test_hours_are_a_circle() -> None:
    hours = Hours()
    for _ in range(40):
        hours.add(23)
    assert hours.share(0) > 0.1
    assert hours.share(1) > 0.05
    assert hours.share(12) == 0
    assert Hours().share(3) == 0


def test_a_rare_hour_on_call_is_no_wonder() -> None:
    assert rules(judged(used(25, 3))) == ["rare-hour"]
    assert judged(used(25, 3, expected_hour=True)) == []


def test_with_few_hours_of_their_own_those_of_the_team_count() -> None:
    seldom = [used(day, 10, "carol") for day in (0, 7, 14)]
    (alert,) = judged(*seldom, used(27, 3, "carol"))
    assert "team payments's" in alert.signals[0].baseline
    alone = [replace(item, team="") for item in (*seldom, used(27, 3, "carol"))]
    assert judged(*alone, base=[]) == []


def test_a_burst_of_certificates() -> None:
    many = [Activity(at(25, 10), "alice", Act.ISSUED, HOME, subject="developer", team="payments") for _ in range(6)]
    (alert,) = judged(*many)
    assert rules([alert]) == ["issuance-burst"]
    assert "7 certificates in a day" in alert.signals[0].evidence
    assert judged(*many[:4]) == []


def test_elevation_that_is_used_elsewhere_needs_no_baseline() -> None:
    (alert,) = judged(used(0, address="198.51.100.9", claimed_from=HOME), base=[])
    assert rules([alert]) == ["elevation-elsewhere"]
    assert judged(used(0, address="203.0.113.99", claimed_from=HOME), base=[]) == []


def secret(day: int, path: str, address: str = "pods") -> Activity:
    return Activity(at(day, 4), "prod:payments/api", Act.SECRET, address, subject=path, workload=True)


def test_a_workload_that_reads_what_it_never_read() -> None:
    base = [secret(day, "payments/db") for day in range(30)]
    (one,) = judged(secret(25, "payments/old"), base=base)
    assert (one.paged, one.workload, one.score) == (False, True, 40)
    (two,) = judged(secret(25, "payments/old"), secret(25, "payments/tls"), base=base)
    assert (two.paged, two.score) == (True, 60)
    assert (two.signals[0].value, *two.signals[0].also) == ("payments/old", "payments/tls")
    (away,) = judged(secret(25, "payments/old", "198.51.100.9"), base=base)
    assert away.paged
    assert sorted(rules([away])) == ["new-secret", "workload-network"]


def test_the_same_days_give_the_same_alerts() -> None:
    stolen = used(25, 3, address="198.51.100.9", agent="curl/8")
    assert judged(stolen) == judged(stolen)


def test_networks() -> None:
    assert network("2001:db8:1:2::3") == "2001:db8:1::/48"
    assert network("::ffff:203.0.113.7") == "203.0.113.0/24"
    assert network("pods") == "pods"
    assert (p95([]), p95([3]), p95(list(range(1, 101)))) == (0, 3, 95)
