"""The clusters' authorities: until when each lasts, and how far its rotation is. Read only; a command turns it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, abort, render_template

from pilothouse.access.permissions import Action
from pilothouse.access.rotation import FOLLOWS, STEPS, Stage
from pilothouse.portal import authorities
from pilothouse.portal.access_desk import token
from pilothouse.portal.api_rotation import rotating_signer
from pilothouse.portal.frame import live, may, portal
from pilothouse.problems import PilothouseError

blueprint = Blueprint("rotations", __name__, url_prefix="/access/authorities")


@dataclass(frozen=True, slots=True)
class Seen:
    """An authority as the list shows it; `ends` is None where none was made yet, or Vault has it."""

    cluster: str
    backend: str
    name: str
    ends: datetime | None


def _seen() -> tuple[Seen, ...]:
    known = live().platform.clusters
    ends = dict(authorities.expiries(portal().settings.data / authorities.FOLDER, known))
    return tuple(
        Seen(name, item.authority.backend, item.authority.common_name, _moment(ends.get(name)))
        for name, item in known.items()
    )


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None


@blueprint.get("")
def index() -> str:
    """Every cluster's authority."""
    return render_template("access/authorities.html", found=_seen(), decision=may(Action.ADMINISTER))


@blueprint.get("/<cluster>/rotation")
def show(cluster: str) -> str:
    """One cluster's: the stages of a rotation, where it is, and the command for the next step."""
    found = next((item for item in _seen() if item.cluster == cluster), None)
    if found is None:
        abort(404, f"there is no cluster {cluster}")
    decision = may(Action.ADMINISTER)
    rotation: Mapping[str, Any] | None = None
    failure: PilothouseError | None = None
    if decision:
        try:
            rotation = rotating_signer().rotation(token(), cluster)
        except PilothouseError as error:
            failure = error
    stage = Stage(rotation["stage"]) if rotation else None
    following = FOLLOWS[stage] if stage else None
    flag = " --trusted" if following is Stage.SIGNING else ""
    flag += " --platform PLATFORM --token-file FILE" if found.backend != "embedded" else ""
    return render_template(
        "access/rotation.html",
        authority=found,
        rotation=rotation,
        stage=stage,
        steps=STEPS,
        following=following,
        last_ends=datetime.fromisoformat(rotation["last_ends"]) if rotation and rotation["last_ends"] else None,
        failure=failure,
        decision=decision,
        command=f"pilothouse access ca rotate --cluster {cluster}{flag}",
    )
