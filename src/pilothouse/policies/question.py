"""One question: may this reach that, at this port?

Answered on a snapshot, under the derived policies and those that the cluster already has from others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from pilothouse.inputs import Inputs
from pilothouse.policies import evaluate
from pilothouse.policies.derive import derive
from pilothouse.policies.reach import Reach
from pilothouse.policies.universe import Universe
from pilothouse.problems import Invalid, nearest


@dataclass(frozen=True, slots=True)
class Pair:
    """One source and one destination (a pod by `namespace/name`, or an address), and what decides on each side."""

    source: str
    destination: str
    allowed: bool
    egress: str
    ingress: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`verdict` is `allow`, `deny` or `mixed`: pods behind one service may differ."""

    verdict: str
    pairs: tuple[Pair, ...]
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _End:
    """A piece of the universe, and the address that was asked for, where it was one."""

    piece: int
    address: str = ""


def ask(inputs: Inputs, source: str, destination: str, protocol: str, port: int, *, preview: bool = False) -> Answer:
    """Whether `source` reaches `destination`: each a service or pod as `namespace/name`, or an IP address.

    With `preview`, staged and withheld policies count as if they were enforced. Raises `Invalid` where an end
    means nothing on the snapshot, or only pods that no policy can select.
    """
    derived = derive(inputs)
    ours = derived.as_if_enforced() if preview else derived.in_force()
    policies = (*ours, *evaluate.foreign(inputs.snapshot))
    addresses = [ip_network(text) for text in (source, destination) if _is_address(text)]
    universe = Universe(inputs.snapshot, (*evaluate.ranges(policies), *addresses))
    found = evaluate.evaluate(policies, universe)
    pairs = tuple(
        _pair(found.reach, one, other, protocol, port)
        for one in _ends(inputs, universe, source)
        for other in _ends(inputs, universe, destination)
    )
    allowed = {pair.allowed for pair in pairs}
    verdict = "mixed" if len(allowed) > 1 else "allow" if True in allowed else "deny"
    return Answer(verdict, pairs, tuple(f"{item.policy}: {item.reason}" for item in found.unsupported))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _ends(inputs: Inputs, universe: Universe, text: str) -> Iterator[_End]:
    if _is_address(text):
        pod = next((pod for pod in inputs.snapshot.pods if text in pod.ips and pod.is_endpoint), None)
        piece = universe.class_of(pod.key) if pod else None
        yield _End(universe.piece_of_address(text), text) if piece is None else _End(piece)
        return
    service = inputs.platform.services.get(text)
    pods = [pod.key for pod in inputs.snapshot.pods if pod.key == text]
    if service is not None and service.runs_on(inputs.cluster.name):
        pods = [pod.key for pod in inputs.snapshot.select(service.namespace, service.pod_selector)]
    pieces = sorted({piece for pod in pods if (piece := universe.class_of(pod)) is not None})
    if pods and not pieces:
        raise Invalid(
            f"no policy can select {text}: its pods are on the host's network, unscheduled or finished",
            "ask with the address of the node",
        )
    if not pieces:
        known = [*inputs.platform.services, *(pod.key for pod in inputs.snapshot.pods)]
        raise Invalid(
            f"`{text}` is no service or pod that runs on cluster {inputs.cluster.name}, and no IP address",
            nearest(text, known) or "write `namespace/name` or an address",
        )
    for piece in pieces:
        yield _End(piece)


def _pair(reach: Reach, source: _End, destination: _End, protocol: str, port: int) -> Pair:
    verdict = evaluate.decide(reach, source.piece, destination.piece, protocol, port)
    one, other = (end.address or reach.universe.name(end.piece) for end in (source, destination))
    return Pair(one, other, verdict.allowed, verdict.egress, verdict.ingress)


def as_data(answer: Answer) -> dict[str, Any]:
    """The answer as JSON can hold it."""
    return {
        "verdict": answer.verdict,
        "pairs": [
            {
                "source": pair.source,
                "destination": pair.destination,
                "allowed": pair.allowed,
                "egress": pair.egress,
                "ingress": pair.ingress,
            }
            for pair in answer.pairs
        ],
        "unsupported": list(answer.unsupported),
    }
