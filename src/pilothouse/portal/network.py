"""The network as policies make it: who reaches whom, whether one may reach another and why, and what enforcing a
namespace would cut."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, abort, render_template, request
from markupsafe import Markup

from pilothouse.policies import adoption
from pilothouse.policies import site as sites
from pilothouse.policies.adoption import NamespaceMode
from pilothouse.policies.ask import Answer, ask, parse
from pilothouse.policies.compare import picture
from pilothouse.policies.compare.diff import Diff, diff
from pilothouse.policies.compare.groups import Change
from pilothouse.policies.compare.map import Map, Only, as_rows, draw_up
from pilothouse.policies.content import read
from pilothouse.policies.explain import Explanation, explain
from pilothouse.policies.site import Site
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import NavItem, live
from pilothouse.portal.routing import chosen_cluster
from pilothouse.problems import Invalid

blueprint = Blueprint("network", __name__, url_prefix="/network")
NAV = (NavItem("Network", "network.index", 17, "Answers"),)
FIELDS = ("from", "to", "port")
MOST_ROWS = 500
"""More links than this are counted: the picture, a filter or the command line shows the rest."""
MOST_CUT = 40


@dataclass(frozen=True)
class Sites:
    """One cluster, as its policies hold now and as if every governed namespace were enforced."""

    now: Site
    enforced: Site

    def chosen(self, enforced: bool) -> Site:
        return self.enforced if enforced else self.now


def sites_of(cluster: str) -> Sites:
    """Made once for each platform that was loaded, evaluator included."""

    def make() -> Sites:
        inputs = live().inputs(cluster)
        return Sites(sites.of_platform(inputs), sites.of_platform(inputs, as_if_enforced=True))

    return live().derived(f"network:{cluster}", make)


def _enforced() -> bool:
    return request.args.get("enforced") == "yes"


@blueprint.get("/")
def index() -> tuple[str, int] | str:
    """The map of a cluster."""
    cluster = chosen_cluster()
    if not cluster:
        return render_template("network/nothing.html")
    enforced = _enforced()
    found = live().derived(
        f"network-map:{cluster}:{enforced}",
        lambda: draw_up(sites_of(cluster).chosen(enforced), f"cluster {cluster}"),
    )
    return _map_page(found, cluster, enforced, "")


@blueprint.get("/service/<namespace>/<name>")
def service(namespace: str, name: str) -> str:
    """Who reaches one service and whom it reaches, by what policies allow."""
    key, cluster = f"{namespace}/{name}", chosen_cluster()
    if key not in live().platform.services:
        abort(404, f"no service {key} is declared")
    enforced = _enforced()
    try:
        found = draw_up(sites_of(cluster).chosen(enforced), f"{key} on {cluster}", Only(service=key))
    except Invalid as failure:
        return render_template("network/nothing.html", reason=failure.message, hint=failure.hint, key=key)
    return _map_page(found, cluster, enforced, key)


def _map_page(found: Map, cluster: str, enforced: bool, key: str) -> str:
    rows = list(as_rows(found))
    command = f"pilothouse policies map PLATFORM --cluster {cluster}"
    command += f" --service {key}" if key else ""
    return render_template(
        "network/map.html",
        drawing=Markup(picture.draw(found, alone=False)),  # noqa: S704  # our own drawing, which escapes every text
        rows=rows[:MOST_ROWS],
        more=max(0, len(rows) - MOST_ROWS),
        links=len(found.links),
        cluster=cluster,
        clusters=tuple(live().platform.clusters),
        enforced=enforced,
        key=key,
        command=command + (" --preview" if enforced else ""),
    )


# ---------------------------------------------------------------- can A reach B


@blueprint.get("/can")
def can() -> tuple[str, int] | str:
    """Whether one end reaches another, and why; the question is the address."""
    cluster = chosen_cluster()
    if not cluster:
        return render_template("network/nothing.html")
    form = Form({name: request.args.get(name, "").strip()[:300] for name in FIELDS})
    enforced = _enforced()
    answer: Answer | None = None
    found: Explanation | None = None
    if form["from"] or form["to"]:
        form.require(**{"from": "who opens the connection?", "to": "whom should it reach?"})
        if not form.errors:
            answer, found = _asked(form, cluster, enforced)
    words = ["pilothouse", "policies", "explain" if form["port"] else "can", "PLATFORM", form["from"], form["to"]]
    words += [form["port"]] if form["port"] else []
    command = shlex.join([word for word in words if word]) + f" --cluster {cluster}"
    page = render_template(
        "network/can.html",
        form=form,
        answer=answer,
        found=found,
        ends=_known_ends(cluster),
        other_team=_other_team(form, cluster, answer),
        cluster=cluster,
        clusters=tuple(live().platform.clusters),
        enforced=enforced,
        command=command + (" --preview" if enforced else "") if form["to"] else "",
    )
    return page, 422 if form.errors else 200


def _asked(form: Form, cluster: str, enforced: bool) -> tuple[Answer | None, Explanation | None]:
    site = sites_of(cluster).chosen(enforced)
    try:
        packet = parse(form["port"]) if form["port"] else None
        if packet is None:
            return ask(site, form["from"], form["to"]), None
        found = explain(site, form["from"], form["to"], packet)
    except Invalid as failure:
        form.error("", f"{failure.message} ({failure.hint})" if failure.hint else failure.message)
        return None, None
    return found.answer, found


def _known_ends(cluster: str) -> tuple[str, ...]:
    """What the fields suggest: the declared services of the cluster."""
    return tuple(item.key for item in live().platform.services_on(cluster))


def _other_team(form: Form, cluster: str, answer: Answer | None) -> str:
    """The team to ask where the other end's own list holds the connection back."""
    services = live().platform.services
    source, target = services.get(form["from"]), services.get(form["to"])
    if answer is None or answer.verdict == "allow" or source is None or target is None or target.ingress is None:
        return ""
    listed = {edge.service for edge in live().edges(cluster).of(target.key) if edge.direction == "ingress"}
    callers = {
        key for edge in live().edges(cluster).of(target.key) if edge.direction == "ingress" for key in edge.others
    }
    return target.team if listed and source.key not in callers and source.team != target.team else ""


# ---------------------------------------------------------------- adoption


@dataclass(frozen=True, slots=True)
class Adopted:
    """One governed namespace, and what of its traffic ends once it is enforced."""

    mode: NamespaceMode
    cut: tuple[Change, ...]
    more: int


@blueprint.get("/adoption")
def adopting() -> str:
    """How far each namespace is governed, and what enforcing it would cut."""
    cluster = chosen_cluster()
    if not cluster:
        return render_template("network/nothing.html")
    inputs = live().inputs(cluster)
    baseline = read(inputs.content).baseline
    if baseline is None:
        return render_template("network/nothing.html", reason="policies/baseline.yaml cannot be read", hint="")
    found = live().derived(f"network-adoption:{cluster}", lambda: _difference(cluster))
    cut: dict[str, list[Change]] = {}
    for change in found.changes:
        if change.what == "vanishes":
            for space in change.spaces:
                cut.setdefault(space, []).append(change)
    rows = [
        Adopted(mode, tuple(cut.get(name, ())[:MOST_CUT]), max(0, len(cut.get(name, ())) - MOST_CUT))
        for name, mode in _modes(cluster).items()
        if mode.mode.governs
    ]
    return render_template(
        "network/adoption.html",
        rows=rows,
        isolation=[item for item in found.isolation if item.begins],
        cluster=cluster,
        clusters=tuple(live().platform.clusters),
        command=f"pilothouse policies adoption PLATFORM --cluster {cluster}",
    )


def _difference(cluster: str) -> Diff:
    both = sites_of(cluster)
    return diff(both.now, both.enforced)


def _modes(cluster: str) -> Mapping[str, NamespaceMode]:
    inputs = live().inputs(cluster)
    baseline = read(inputs.content).baseline
    return {} if baseline is None else adoption.modes(inputs, baseline)
