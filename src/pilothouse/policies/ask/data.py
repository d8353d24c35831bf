"""Answers as JSON can hold them."""

from __future__ import annotations

from typing import Any

from pilothouse.policies.ask.basis import Basis
from pilothouse.policies.ask.question import Answer, Pair
from pilothouse.policies.engine import Connections
from pilothouse.policies.engine.decide import Decision


def as_data(answer: Answer) -> dict[str, Any]:
    """The answer as JSON can hold it."""
    return {
        "verdict": answer.verdict.value,
        "profile": answer.profile.value,
        "source": {"kind": answer.source.kind.value, "name": answer.source.name},
        "destination": {"kind": answer.destination.kind.value, "name": answer.destination.name},
        "asked": str(answer.asked) if answer.asked is not None else None,
        "pairs": [_pair_data(pair) for pair in answer.pairs],
        "basis": [basis_data(item) for item in answer.basis],
        "unread": list(answer.unread),
    }


def _pair_data(pair: Pair) -> dict[str, Any]:
    def text(found: Connections) -> str | None:
        return str(found) if pair.packet is None and found else None

    said = pair.said
    data: dict[str, Any] = {
        "sources": list(pair.sources),
        "destinations": list(pair.destinations),
        "families": [f"IPv{version}" for version in pair.versions],
        "verdict": pair.outcome.value,
        "packet": str(pair.packet) if pair.packet is not None else None,
        "sent": str(pair.sent) if pair.sent is not None else None,
        "allowed": text(said.allowed),
        "conditional": text(said.conditional),
        "undefined": text(said.undefined),
        "egress": side_data(said.egress),
        "ingress": side_data(said.ingress),
        "basis": [basis_data(item) for item in said.basis],
    }
    return {key: value for key, value in data.items() if value is not None}


def basis_data(item: Basis) -> dict[str, str]:
    return {"sentence": item.sentence, "source": item.source}


def side_data(decision: Decision | None) -> dict[str, Any] | None:
    """What decides on one side; None where every connection was asked about."""
    if decision is None:
        return None
    data: dict[str, Any] = {"outcome": decision.outcome.value, "by": str(decision), "tier": decision.tier}
    if decision.rule is not None:
        data |= {"rule": decision.rule.index, "place": str(decision.rule.place)}
    return data
