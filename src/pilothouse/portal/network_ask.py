"""Can A reach B, and why: the deciding rule on both sides, what nearly decided otherwise, and what would change it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from flask import Blueprint, render_template, request

from pilothouse.access.permissions import Action, Decision
from pilothouse.policies.engine.decide import Outcome
from pilothouse.policies.explain.edits import Edit
from pilothouse.policies.explain.explanation import Met
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import live, may
from pilothouse.portal.network import Where, nothing, where
from pilothouse.problems import Invalid, Place
from pilothouse.workflows.network import Asked, Network, Start, starts

blueprint = Blueprint("network_ask", __name__, url_prefix="/network")
FIELDS = ("from", "to", "port")
MOST_SHOWN = 12
"""Pods or backends that get different answers are shown up to here."""
SUGGESTED = 400
"""Names that the fields suggest before anything is typed."""


@dataclass(frozen=True, slots=True)
class Way:
    """A proposal that the edit leads to, and whether this person may make it."""

    start: Start
    decision: Decision


@blueprint.get("/can")
def can() -> tuple[str, int] | str:
    """Whether one end reaches another, and why; the question is the address."""
    here = where()
    if here.network is None:
        return nothing(here)
    form = Form({name: request.args.get(name, "").strip()[:300] for name in FIELDS})
    asked: Asked | None = None
    if form["from"] or form["to"] or form["port"]:
        form.require(**{"from": "who opens the connection?", "to": "whom should it reach?"})
        if not form.errors:
            asked = _asked(form, here, here.network)
    page = render_template(
        "network/can.html",
        here=here,
        form=form,
        asked=asked,
        edits=_edits(asked),
        ends=here.network.ends(limit=SUGGESTED),
        ports=here.network.ports(form["to"]),
        most=MOST_SHOWN,
        left_out=here.network.problems,
        command=_command(form, here) if asked else "",
    )
    return page, 422 if form.errors else 200


def _asked(form: Form, here: Where, network: Network) -> Asked | None:
    edits = not network.is_large or request.args.get("edits") == "yes"
    try:
        return network.ask(form["from"], form["to"], form["port"], enforced=here.enforced, edits=edits)
    except Invalid as failure:
        form.error("", f"{failure.message} ({failure.hint})" if failure.hint else failure.message)
        return None


def _edits(asked: Asked | None) -> list[tuple[Edit, list[Way]]]:
    """The edits, the best first, each with the proposals that it leads to."""
    found = asked.found.edits if asked and asked.found else ()
    platform = live().platform
    return [(edit, [Way(item, may(Action.PROPOSE, item.service)) for item in starts(edit, platform)]) for edit in found]


def _command(form: Form, here: Where) -> str:
    words = [form["from"], form["to"], *([form["port"]] if form["port"] else [])]
    return here.command("explain" if form["port"] else "can", "PLATFORM", *words)


@blueprint.app_template_filter("tone")
def tone(outcome: Outcome) -> str:
    """The colour and shape of a verdict."""
    return {Outcome.ALLOW: "ok", Outcome.DENY: "bad"}.get(outcome, "warn")


@blueprint.app_template_filter("below_root")
def below_root(place: Place) -> str:
    """A place as people of the platform know it: below its folder, where it lies there."""
    return str(place).removeprefix(f"{live().root.as_posix()}/")


@blueprint.app_template_filter("by_tier")
def by_tier(chain: Iterable[Met]) -> list[tuple[str, list[Met]]]:
    """What a connection meets, tier by tier, in the order in which it is met."""
    return [(tier, list(items)) for tier, items in groupby(chain, key=lambda met: met.tier)]


# ---------------------------------------------------------------- while somebody types


@blueprint.get("/ends")
def ends() -> str:
    """What may be meant by what was typed so far, as options of a list."""
    here = where()
    text = next((request.args[name] for name in ("from", "to") if name in request.args), "")[:300]
    return render_template("network/_options.html", options=here.network.ends(text) if here.network else ())


@blueprint.get("/ports")
def ports() -> str:
    """The ports of what was typed as the destination, as options of a list."""
    here = where()
    text = request.args.get("to", "")[:300]
    return render_template("network/_options.html", options=here.network.ports(text) if here.network else ())
