"""Alert routing: who gets this, when, and why. The tree as a picture, the same answer as a table, and the person."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from flask import Blueprint, abort, redirect, render_template, request
from markupsafe import Markup
from werkzeug.wrappers import Response

from pilothouse import alerts
from pilothouse.alerts.routing.intervals import zone
from pilothouse.alerts.when import parse_moment
from pilothouse.platform.model import Platform
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import NavItem, Portal, live, me, now
from pilothouse.portal.listing import Query, page_of
from pilothouse.portal.pictures import route_tree
from pilothouse.portal.state import Live
from pilothouse.problems import Invalid, Problems, has_errors
from pilothouse.promql.model import Rule
from pilothouse.source import Source
from pilothouse.workflows import routing

blueprint = Blueprint("routing", __name__, url_prefix="/alerts")
NAV = (NavItem("Alert routing", "routing.index", 15, "Answers"),)

PRESETS = (("now", "now"), ("03:00 on Sunday", "sunday 03:00"), ("tomorrow 09:00", "tomorrow 09:00"))
FIELDS = ("labels", "at", "timezone", "config", "release")
PASTED = "alertmanager.yml"


@dataclass(frozen=True)
class Asked:
    """A cluster's tree with every alert that is declared for it; kept as long as the platform is."""

    tree: routing.Tree
    rules: tuple[Rule, ...]
    declared: tuple[routing.DeclaredAlert, ...]


def asked(cluster: str) -> Asked:
    return asked_of(live(), cluster)


def asked_of(found: Live, cluster: str) -> Asked:
    def make() -> Asked:
        inputs = found.inputs(cluster)
        tree, rules = routing.tree_of(inputs), alerts.rules(inputs)
        return Asked(tree, rules, routing.declared_alerts(tree, rules))

    return found.derived(f"routing:{cluster}", make)


def start(state: Portal) -> None:
    state.current.warmers.append(asked_of)


def chosen_cluster() -> str:
    """The cluster of the address, else the last that is a production one, else the first; "" where none is declared."""
    found = live().platform.clusters
    name = request.args.get("cluster", "")
    if name:
        if name not in found:
            abort(404, f"no cluster {name} is declared")
        return name
    return live().main_cluster


@blueprint.get("/")
def index() -> tuple[str, int] | Response:
    """Labels and a time in the address, the answer of the derived tree below."""
    cluster = chosen_cluster()
    if "preset" in request.args:  # a button beside the field, so that nothing typed is lost
        return redirect(_with(at=request.args["preset"][:40]), 303)
    form = Form({name: request.args.get(name, "")[:20_000] for name in ("labels", "at", "timezone")})
    if not cluster:
        return render_template("routing/nothing.html"), 200
    found = asked(cluster)
    labels, moment = _question(form)
    answer = None
    if not form.errors:
        try:
            answer = routing.explain_route(found.tree, labels, moment, live().platform, found.rules)
        except Invalid as failure:
            form.error("", f"{failure.message} ({failure.hint})" if failure.hint else failure.message)
    return _page(form, answer, moment, found.tree.problems, cluster=cluster, declared=found.declared)


@blueprint.get("/config")
def config() -> tuple[str, int]:
    """The form for any alertmanager.yml."""
    form = Form({"at": "now", "timezone": "UTC"})
    return _page(form, None, now(), (), pasted=True)


@blueprint.post("/config")
def look_at_config() -> tuple[str, int]:
    """Any alertmanager.yml, pasted or as a file; what was typed stays in the form, whatever is wrong with it."""
    form = Form.posted(FIELDS, limit=1_000_000)
    upload = request.files.get("file")
    if upload is not None and upload.filename:
        try:
            form.values["config"] = upload.read().decode("utf-8")
        except UnicodeDecodeError:
            form.error("config", f"{upload.filename} is no text in UTF-8")
    form.require(config="paste a configuration, or choose a file")
    labels, moment = _question(form)
    answer: routing.Answer | None = None
    problems: Problems = ()
    if not form.errors:
        tree = routing.tree_of_config(Source(PASTED, form["config"]), form["release"])
        problems = tree.problems
        if tree.routing is None:
            form.error("config", "there is no routing tree in it: see the problems below")
        else:
            answer = routing.explain_route(tree, labels, moment, config=PASTED)
            if has_errors(problems):
                form.error("config", "Alertmanager would refuse it: see the problems below")
    return _page(form, answer, moment, problems, pasted=True)


def _question(form: Form) -> tuple[dict[str, str], datetime]:
    """The labels and the moment that the form asks for; what cannot be read is marked in it."""
    labels: dict[str, str] = {}
    moment = now()
    try:
        labels = routing.parse_labels(form["labels"])
    except Invalid as failure:
        form.error("labels", failure.with_hint)
    timezone = form["timezone"] or "UTC"
    form.values["timezone"], form.values["at"] = timezone, form["at"] or "now"
    try:
        moment = parse_moment(form["at"], now(), timezone)
    except Invalid as failure:
        known = True
        try:
            zone(timezone)
        except ValueError:
            known = False
        form.error("at" if known else "timezone", failure.with_hint)
    return labels, moment


def _page(
    form: Form,
    answer: routing.Answer | None,
    moment: datetime,
    problems: Problems,
    cluster: str = "",
    declared: tuple[routing.DeclaredAlert, ...] = (),
    pasted: bool = False,
) -> tuple[str, int]:
    platform = live().platform
    picture = ""
    labelled = answer is not None and bool(answer.explanation.labels)
    if answer is not None:
        opened = frozenset("" if key == "root" else key for key in request.args.getlist("open"))
        picture = route_tree.draw(
            answer.explanation,
            fold_href=(lambda key: f"#{route_tree.anchor(key)}") if pasted else _opener,
            opened=opened,
            overview=not answer.explanation.labels and not pasted,
        )
    from pilothouse.portal import firing

    now_held: firing.HeldNow | None = None
    if answer is not None and labelled and form["at"] == "now" and not pasted:
        now_held, _ = firing.held_now(cluster, answer.explanation.routing, answer.explanation.labels)
    page = render_template(
        "routing/index.html",
        **(firing.panel_of(cluster) if cluster and not labelled else {}),
        now_held=now_held,
        held_lines=firing.held_lines,
        form=form,
        answer=answer,
        moment=moment,
        problems=problems,
        cluster=cluster,
        clusters=live().clusters,
        suggestions=_suggestions(declared),
        declared=len(declared),
        pasted=pasted,
        picture=Markup(picture),  # noqa: S704  # made by `route_tree`, which escapes every text
        anchor=route_tree.anchor,
        matchers_of=route_tree.matchers_of,
        presets=PRESETS,
        zones=_zones(platform),
        with_values=_with,
        teams=[routing.oncall(platform, name, moment) for name in platform.teams]
        if answer is not None and not pasted
        else [],
        command=_command(form, cluster, pasted),
        state_text=routing.state_text,
        timers_text=routing.timers_text,
        person_text=routing.person_text,
        labels_text=routing.labels_text,
        permanent=_with(at=moment.strftime("%Y-%m-%dT%H:%MZ"), timezone=""),
    )
    return page, 422 if form.errors else 200


def _suggestions(declared: tuple[routing.DeclaredAlert, ...], most: int = 6) -> list[routing.DeclaredAlert]:
    """A few alerts to begin with: the loudest of the reader's own teams, of services first."""
    mine = me().teams
    ranked = sorted(
        (item for item in declared if item.severity != "info"),
        key=lambda item: (item.team not in mine, not item.rule.service, item.severity != "page", item.rule.service),
    )
    return ranked[:most]


def _zones(platform: Platform) -> list[str]:
    return ["UTC", *sorted({t.rotation.timezone for t in platform.teams.values() if t.rotation} - {"UTC"})]


def _with(**changes: str) -> str:
    """This page with some parameters changed; "" removes one."""
    values = {name: request.args.get(name, "") for name in ("cluster", "labels", "at", "timezone")} | changes
    kept = [(name, value) for name, value in values.items() if value]
    return f"/alerts/?{urlencode(kept)}" if kept else "/alerts/"


def _opener(key: str) -> str:
    opened = {*request.args.getlist("open"), key or "root"}
    address = _with()
    return f"{address}{'&' if '?' in address else '?'}{urlencode([('open', item) for item in sorted(opened)])}"


def _command(form: Form, cluster: str, pasted: bool) -> str:
    """The command-line twin."""
    words = ["pilothouse", "alerts", "route"]
    words += ["--config", PASTED] if pasted else [str(live().root), "--cluster", cluster]
    if form["at"] not in ("", "now"):
        words += ["--at", form["at"]]
        if form["timezone"] not in ("", "UTC"):
            words += ["--timezone", form["timezone"]]
    if pasted and form["release"]:
        words += ["--alertmanager", form["release"]]
    line = shlex.join(words)
    try:
        return f"{line} {routing.labels_text(routing.parse_labels(form['labels']))}".rstrip()
    except Invalid:
        return line


# ---------------------------------------------------------------- what is declared

_KEYS = {
    "team": lambda item: (item.team, item.rule.alert),
    "alert": lambda item: (item.rule.alert, item.team),
    "severity": lambda item: (("page", "ticket", "info").index(item.severity), item.team, item.rule.alert),
    "service": lambda item: (item.rule.service, item.rule.alert),
}


@blueprint.get("/declared")
def declared_list() -> str:
    """Every alert that can fire on a cluster, to pick from."""
    cluster = chosen_cluster()
    if not cluster:
        return render_template("routing/nothing.html")
    query = Query.of_request(_KEYS, "team", ("team", "severity", "cluster"))
    wanted = query.filters
    page = page_of(
        asked(cluster).declared,
        query,
        _KEYS,
        lambda item: f"{item.rule.alert} {item.rule.service} {item.team} {item.summary}",
        lambda item: (
            wanted.get("team", item.team) == item.team and wanted.get("severity", item.severity) == item.severity
        ),
    )
    return render_template(
        "routing/declared.html",
        page=page,
        cluster=cluster,
        clusters=live().clusters,
        teams=list(live().platform.teams),
        labels_text=routing.labels_text,
        root=live().root,
    )
