"""The network as policies make it: who reaches whom, whether one may reach another and why, and what enforcing a
namespace would cut."""

from __future__ import annotations

import shlex

from flask import Blueprint, abort, render_template, request
from markupsafe import Markup

from pilothouse.policies.compare import picture
from pilothouse.policies.compare.map import Map, Only, as_rows
from pilothouse.policies.explain.edits import Edit
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import NavItem, live
from pilothouse.portal.routing import chosen_cluster
from pilothouse.problems import Invalid, PilothouseError
from pilothouse.workflows import network
from pilothouse.workflows.network import Adoption, Asked, Network, Start

blueprint = Blueprint("network", __name__, url_prefix="/network")
NAV = (NavItem("Network", "network.index", 17, "Answers"),)
FIELDS = ("from", "to", "port")
MOST_ROWS = 500
"""More links than this are counted: the picture, a filter or the command line shows the rest."""
MOST_ENDS = 400
"""So many ends a field suggests."""
PLATFORM = "PLATFORM"
"""Stands for the folder in commands."""


class NotKnown(Exception):
    """Nothing can be asked: the page that says why."""

    def __init__(self, page: str) -> None:
        super().__init__(page)
        self.page = page


@blueprint.errorhandler(NotKnown)
def not_known(failure: NotKnown) -> str:
    return failure.page


def _network() -> Network:
    """The network of the cluster that was asked for. A platform from which nothing can be derived is a reason on the
    page."""
    cluster = chosen_cluster()
    if not cluster:
        raise NotKnown(render_template("network/nothing.html"))
    try:
        found = live().network(cluster)
        found.site()
    except PilothouseError as failure:
        raise NotKnown(_why(failure)) from None
    return found


def _why(failure: PilothouseError, key: str = "") -> str:
    return render_template("network/nothing.html", reason=failure.message, hint=failure.hint, key=key)


def adoption_of(here: Network) -> Adoption:
    """What enforcing would end; made once for each platform that was loaded."""
    root = live().root
    return live().derived(
        f"network-adoption:{here.cluster}", lambda: here.adoption(network.observed(root, here.cluster))
    )


def _enforced() -> bool:
    return request.args.get("enforced") == "yes"


def _command(*words: str, here: Network, enforced: bool = False, service: str = "") -> str:
    """The command that says the same as the page."""
    options = ["--cluster", here.cluster]
    options += ["--service", service] if service else []
    options += ["--preview"] if enforced else []
    return shlex.join(["pilothouse", "policies", *words, *options])


# ---------------------------------------------------------------- maps


@blueprint.get("/")
def index() -> str:
    """The map of a cluster."""
    here, enforced = _network(), _enforced()
    return _map_page(here.map(enforced=enforced), here, enforced, "")


@blueprint.get("/service/<namespace>/<name>")
def service(namespace: str, name: str) -> str:
    """Who reaches one service and whom it reaches, by what policies allow, beside what is declared."""
    key = f"{namespace}/{name}"
    if key not in live().platform.services:
        abort(404, f"no service {key} is declared")
    here, enforced = _network(), _enforced()
    try:
        found = here.map(Only(service=key), enforced=enforced)
    except Invalid as failure:
        return _why(failure, key)
    return _map_page(found, here, enforced, key)


def _map_page(found: Map, here: Network, enforced: bool, key: str) -> str:
    rows = as_rows(found)
    return render_template(
        "network/map.html",
        drawing=Markup(picture.draw(found, alone=False)),  # noqa: S704  # our own drawing, which escapes every text
        rows=rows[:MOST_ROWS],
        more=max(0, len(rows) - MOST_ROWS),
        beside=here.beside(key, enforced=enforced) if key else None,
        unread=here.problems,
        cluster=here.cluster,
        clusters=tuple(live().platform.clusters),
        enforced=enforced,
        key=key,
        command=_command("map", PLATFORM, here=here, enforced=enforced, service=key),
    )


# ---------------------------------------------------------------- can A reach B


@blueprint.get("/can")
def can() -> tuple[str, int]:
    """Whether one end reaches another, and why; the question is the address."""
    here, enforced = _network(), _enforced()
    form = Form({name: request.args.get(name, "").strip()[:300] for name in FIELDS})
    # Looking for an edit takes seconds on a large cluster: there it waits to be asked for.
    edits = request.args.get("edits") == "yes" or not here.is_large
    asked: Asked | None = None
    if form["from"] or form["to"]:
        form.require(**{"from": "who opens the connection?", "to": "whom should it reach?"})
        if not form.errors:
            asked = _asked(form, here, enforced, edits)
    words = ["explain" if form["port"] else "can", PLATFORM, *(form[name] for name in FIELDS if form[name])]
    found = asked.found if asked else None
    page = render_template(
        "network/can.html",
        form=form,
        answer=asked.answer if asked else None,
        found=found,
        searched=edits,
        root=f"{live().root}/",
        starts=[_starts(edit) for edit in found.edits] if found else [],
        ends=here.ends(limit=MOST_ENDS),
        ports=here.ports(form["to"]),
        cluster=here.cluster,
        clusters=tuple(live().platform.clusters),
        enforced=enforced,
        command=_command(*words, here=here, enforced=enforced) if asked else "",
    )
    return page, 422 if form.errors else 200


def _asked(form: Form, here: Network, enforced: bool, edits: bool) -> Asked | None:
    try:
        return here.ask(form["from"], form["to"], form["port"], enforced=enforced, edits=edits)
    except Invalid as failure:
        form.error("", f"{failure.message} ({failure.hint})" if failure.hint else failure.message)
        return None


def _starts(edit: Edit) -> tuple[Start, ...]:
    return network.starts(edit, live().platform)


# ---------------------------------------------------------------- adoption


@blueprint.get("/adoption")
def adopting() -> str:
    """How far each namespace is governed, and what enforcing it would cut."""
    here = _network()
    if not here.modes:
        return render_template("network/nothing.html", reason="policies/baseline.yaml cannot be read", hint="")
    found = adoption_of(here)
    return render_template(
        "network/adoption.html",
        rows=found.rows,
        candidates=found.candidates,
        observed=found.observed,
        cluster=here.cluster,
        clusters=tuple(live().platform.clusters),
        command=_command("adoption", PLATFORM, here=here)
        + "".join(f" --flows {shlex.quote(f'{PLATFORM}/{name}')}" for name in found.observed.files),
    )
