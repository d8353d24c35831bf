"""The rotation of a cluster's authority, as stages: each is one run of a command, and each can be waited in.

    at rest ──▶ made ──▶ trusted ──▶ signing ──▶ at rest
                 new key    both in      the new     the old one
                 beside     the bundle   one signs   is withdrawn

API servers trust a bundle of certificates. The new authority goes into it before it signs, and the old one leaves it
after what it signed has ended, so that nobody is locked out at any moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    AT_REST = "at-rest"
    MADE = "made"
    TRUSTED = "trusted"
    SIGNING = "signing"


FOLLOWS = {
    Stage.AT_REST: Stage.MADE,
    Stage.MADE: Stage.TRUSTED,
    Stage.TRUSTED: Stage.SIGNING,
    Stage.SIGNING: Stage.AT_REST,
}


@dataclass(frozen=True, slots=True)
class Authority:
    """The public side of an authority: its SHA-256 fingerprint, name and end (ISO 8601)."""

    fingerprint: str
    name: str
    not_after: str


@dataclass(frozen=True, slots=True)
class Step:
    """What one run does, and what somebody has to do by hand before the next one."""

    to: Stage
    does: str
    by_hand: str


STEPS = (
    Step(
        Stage.MADE,
        "makes a new key and authority beside the old one; nobody is given it yet",
        "nothing",
    ),
    Step(
        Stage.TRUSTED,
        "puts both authorities into the cluster's bundle; the old one goes on signing",
        "give the bundle to every API server of the cluster as --client-ca-file (they read it again by themselves)",
    ),
    Step(
        Stage.SIGNING,
        "lets the new authority sign; what the old one signed stays good",
        "wait until the last certificate of the old one has ended: 16 h at most",
    ),
    Step(
        Stage.AT_REST,
        "withdraws the old authority: it leaves the bundle, and its key is destroyed",
        "give the bundle to every API server once more; until then they go on trusting the old one",
    ),
)


@dataclass(frozen=True, slots=True)
class Rotation:
    """How far the rotation of a cluster is. `other` is the authority that does not sign: the new one before
    `signing`, the old one in it; None at rest. `alive` are living certificates of the old one, in `signing`."""

    cluster: str
    stage: Stage
    signs: Authority
    other: Authority | None = None
    alive: int = 0
    last_ends: str = ""
    backend: str = "embedded"
    """Where the keys are: with the signer, or in Vault, where somebody takes the stages who may set Vault up."""

    @property
    def next(self) -> Step:
        """What the next run does."""
        return next(step for step in STEPS if step.to is FOLLOWS[self.stage])

    @property
    def done(self) -> Step | None:
        """What the last run did, None at rest."""
        return (
            next((step for step in STEPS if step.to is self.stage), None) if self.stage is not Stage.AT_REST else None
        )
