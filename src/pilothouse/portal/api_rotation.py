"""`/api/v1/access/authorities/<cluster>/rotation`: handed to the signer, which decides and has the keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response
from pydantic import BaseModel, Field

from pilothouse.access.rotation import FOLLOWS, STEPS, Stage
from pilothouse.clients.signer import SignerClient
from pilothouse.portal.access_desk import signer_of, token
from pilothouse.portal.api import In, answer, body_of, describe
from pilothouse.portal.api_access import BASE
from pilothouse.portal.frame import portal
from pilothouse.problems import Unavailable

blueprint = Blueprint("api_rotation", __name__, url_prefix=BASE)
PATH = f"{BASE}/authorities/{{cluster}}/rotation"


class AuthorityOfRotation(BaseModel):
    fingerprint: str
    name: str
    not_after: str


class StepOut(BaseModel):
    to: str
    does: str
    by_hand: str
    next: bool = Field(description="Whether the next run takes it.")


class RotationOut(BaseModel):
    cluster: str
    stage: str
    signs: AuthorityOfRotation
    other: AuthorityOfRotation | None = Field(description="The new one before `signing`, the old one in it.")
    alive: int = Field(description="Living certificates of the old one, in `signing`.")
    last_ends: str
    backend: str = Field(description="embedded or vault: where the keys are.")
    steps: list[StepOut]


class RotateIn(In):
    stage: str = Field(max_length=20, description="The stage that was seen: a request sent twice takes one step.")
    trusted: bool = Field(default=False, description="Every API server has the bundle with both.")
    force: bool = Field(default=False, description="Withdraw although certificates of the old one are alive.")


def rotating_signer() -> SignerClient:
    """The signer's own process, which alone has the keys. `Unavailable` where this portal has none."""
    found = signer_of(portal())
    if not isinstance(found, SignerClient):
        raise Unavailable("this portal has no signer's process, so no authority can be rotated")
    return found


def _out(found: Mapping[str, Any]) -> Response:
    after = FOLLOWS[Stage(found["stage"])]
    steps = [StepOut(to=s.to.value, does=s.does, by_hand=s.by_hand, next=s.to is after) for s in STEPS]
    return answer(RotationOut(**found, steps=steps))


describe("get", PATH, "How far the rotation of a cluster's authority is, and what follows.", answer=RotationOut)


@blueprint.get("/authorities/<cluster>/rotation")
def seen(cluster: str) -> Response:
    return _out(rotating_signer().rotation(token(), cluster))


describe(
    "post",
    PATH,
    "Take the next stage of a rotation. Where Vault signs it is recorded, and `pilothouse access ca rotate` takes it.",
    body=RotateIn,
    answer=RotationOut,
)


@blueprint.post("/authorities/<cluster>/rotation")
def rotate(cluster: str) -> Response:
    given = body_of(RotateIn)
    return _out(rotating_signer().rotate(token(), cluster, given.stage, given.trusted, given.force))
