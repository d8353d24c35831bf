"""Which namespaces could be enforced: what is declared in them, and what traffic says of that.

Enforcing a namespace puts its own policies in force: the egress of its pods and the ingress of its pods. A flow counts
against the namespace whose side would deny it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilothouse.inputs import Inputs
from pilothouse.platform.edit import flow as written
from pilothouse.platform.model import Cluster, Enforcement
from pilothouse.policies.adoption import Mode, NamespaceMode
from pilothouse.policies.derive import derive
from pilothouse.policies.engine.decide import Outcome, decide
from pilothouse.policies.flows.ends import Ends
from pilothouse.policies.flows.model import Flow, Observed
from pilothouse.policies.flows.replay import Amount, added, amount_data, port_text
from pilothouse.policies.flows.verdicts import Verdicts, packet
from pilothouse.policies.parties import Parties
from pilothouse.policies.site import of_platform
from pilothouse.reports import plural

TOP = 5
_DAY = 86_400
_UNITS = (("d", _DAY), ("h", 3600), ("m", 60), ("s", 1))


@dataclass(frozen=True, slots=True)
class Denied:
    """Connections between two parties that a namespace would deny; `rule` is the first that decides."""

    source: str
    destination: str
    port: str
    rule: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class Candidate:
    """One governed namespace. `days` are the calendar days (UTC) within which flows of its pods were seen; `denied` the
    most frequent ones of what it would deny, `total` all of that. `line` is the field of the Cluster document that
    enforces it, "" where it says so already."""

    namespace: str
    mode: Mode
    declared: Enforcement
    undeclared: tuple[str, ...]
    days: int
    seen: Amount
    total: Amount
    denied: tuple[Denied, ...]
    waiting: tuple[str, ...]
    """Why it is not ready; nothing where it is."""
    line: str

    @property
    def ready(self) -> bool:
        return not self.waiting

    @property
    def verdict(self) -> str:
        """In a few words."""
        if self.mode is Mode.ENFORCED:
            would = f"{plural(self.total.count, 'connection')} that went through would be denied"
            return f"enforced; {would}" if self.total.flows else "enforced"
        return "ready" if self.ready else "; ".join(self.waiting)


def candidates(
    inputs: Inputs, readings: Iterable[Sequence[Flow]], days: int = 7, least: int = 0
) -> tuple[Candidate, ...]:
    """Every governed namespace, sorted. `readings` are flows of one window each; `days` is how many must be covered,
    `least` how many connections must have been seen.

    Flows that were denied already do not count: enforcing changes nothing for them.
    """
    derived = derive(inputs)
    engine = of_platform(inputs, derived, as_if_enforced=True).engine
    parties = Parties(inputs, engine.universe)
    found = {name: _Namespace(parties) for name, item in derived.modes.items() if item.mode.governs}
    verdicts = Verdicts(engine, engine, Ends(engine.universe))
    for reading in readings:
        for item in found.values():
            item.begin()
        for flow in reading:
            if flow.action is not Observed.DENY:
                _count(flow, verdicts, found)
    asked = (days, least)
    return tuple(item.candidate(inputs.cluster, derived.modes[name], *asked) for name, item in sorted(found.items()))


def _count(flow: Flow, verdicts: Verdicts, found: Mapping[str, _Namespace]) -> None:
    for name in {flow.source.namespace, flow.destination.namespace}:
        if name in found:
            found[name].saw(flow)
    universe = verdicts.now.universe
    told: set[str] = set()
    for pair in verdicts.of(flow).pairs:
        if verdicts.outcome(pair) is not Outcome.DENY:
            continue
        for end, decision in zip(pair, decide(verdicts.now, pair[0], pair[1], packet(pair)), strict=False):
            name = universe.pieces[end].namespace if universe.is_endpoint(end) else ""
            if decision.outcome is Outcome.DENY and name in found and name not in told:
                told.add(name)
                found[name].denies(flow, pair[0], pair[1], f"{decision.direction}: {decision}")


class _Namespace:
    def __init__(self, parties: Parties) -> None:
        self.parties = parties
        self.seen: list[Flow] = []
        self.windows: list[tuple[float, float]] = []
        self.fresh = True
        self.denied: dict[tuple[str, str, str], tuple[str, list[Flow]]] = {}

    def begin(self) -> None:
        """Another window."""
        self.fresh = True

    def saw(self, flow: Flow) -> None:
        self.seen.append(flow)
        times = [moment for moment in (flow.first_seen, flow.last_seen) if moment is not None]
        if not times:
            return
        if self.fresh:
            self.windows.append((min(times), max(times)))
            self.fresh = False
        else:
            first, last = self.windows[-1]
            self.windows[-1] = (min(first, *times), max(last, *times))

    def denies(self, flow: Flow, source: int, destination: int, rule: str) -> None:
        key = (self.parties.name(source), self.parties.name(destination), port_text(flow.protocol, flow.port))
        self.denied.setdefault(key, (rule, []))[1].append(flow)

    def days(self) -> int:
        return len({day for first, last in self.windows for day in range(int(first // _DAY), int(last // _DAY) + 1)})

    def candidate(self, cluster: Cluster, mode: NamespaceMode, days: int, least: int) -> Candidate:
        denied = [Denied(*key, rule, added(flows)) for key, (rule, flows) in self.denied.items()]
        denied.sort(key=lambda item: (-item.amount.count, item.source, item.destination, item.port))
        total = added(flow for _, flows in self.denied.values() for flow in flows)
        covered, seen = self.days(), added(self.seen)
        waiting = []
        if mode.undeclared:
            waiting.append(f"{plural(len(mode.undeclared), 'pod')} nobody declares")
        if covered < days:
            waiting.append(f"flows of {plural(covered, 'day')}, {days} are asked for")
        if seen.count < least:
            waiting.append(f"{plural(seen.count, 'connection')} seen, {least:,} are asked for")
        if total.flows:
            waiting.append(f"{plural(total.count, 'connection')} would be denied")
        return Candidate(
            mode.namespace,
            mode.mode,
            mode.declared,
            mode.undeclared,
            covered,
            seen,
            total,
            tuple(denied[:TOP]),
            tuple(waiting),
            enforcing(cluster, mode.namespace),
        )


def enforcing(cluster: Cluster, namespace: str) -> str:
    """The field `enforcement` of a Cluster document with that namespace enforced; "" where it is declared so."""
    if cluster.enforcement_of(namespace) is Enforcement.ENFORCED:
        return ""
    named = {**{name: mode.value for name, mode in cluster.namespace_enforcement.items()}, namespace: "enforced"}
    data: dict[str, Any] = {"default": cluster.enforcement.value, "namespaces": dict(sorted(named.items()))}
    if cluster.staged_for:
        data["stagedFor"] = _duration(cluster.staged_for)
    return f"enforcement: {written(data)}"


def _duration(seconds: int) -> str:
    """In the largest unit of which it is a whole number."""
    unit, size = next((unit, size) for unit, size in _UNITS if seconds % size == 0)
    return f"{seconds // size}{unit}"


def as_data(found: Iterable[Candidate]) -> list[dict[str, Any]]:
    """Namespaces as JSON can hold them."""
    return [
        {
            "namespace": item.namespace,
            "mode": item.mode.value,
            "declared": item.declared.value,
            "undeclared": list(item.undeclared),
            "days": item.days,
            "seen": amount_data(item.seen),
            "denied": amount_data(item.total),
            "most_denied": [
                {
                    "source": each.source,
                    "destination": each.destination,
                    "port": each.port,
                    "rule": each.rule,
                    **amount_data(each.amount),
                }
                for each in item.denied
            ],
            "ready": item.ready,
            "waiting": list(item.waiting),
            "line": item.line,
        }
        for item in found
    ]
