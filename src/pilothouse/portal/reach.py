"""Who can do something, and what somebody can do: pages with the question in the address, so that it can be sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Blueprint, render_template, request

from pilothouse.access import can_i, words
from pilothouse.access.can_i import Grantor
from pilothouse.access.history import Living
from pilothouse.access.permissions import Action
from pilothouse.platform.model import AccessProfile, Scope
from pilothouse.portal.forms import Form
from pilothouse.portal.frame import live, may, me, now, store
from pilothouse.problems import Denied, PilothouseError, Unavailable
from pilothouse.workflows import reach
from pilothouse.workflows.rendering import Opened

blueprint = Blueprint("reach", __name__, url_prefix="/access")
VERBS = "get list watch create update patch delete deletecollection impersonate bind escalate".split()
EXAMPLES = (
    ("read Secrets", "get", "secrets"),
    ("open a shell in pods", "create", "pods/exec"),
    ("delete workloads", "delete", "deployments"),
    ("change roles", "patch", "clusterroles"),
)
_WHO = ("verb", "resource", "name", "namespace", "cluster", "at")


@blueprint.app_template_filter("rule")
def rule(by: Grantor) -> str:
    """The rule that allows it, in one line."""
    return words.rule_text(by.rule) if by.rule else f"{by.role}, whose rules are not known"


@blueprint.get("/who-can")
def who_can() -> str | tuple[str, int]:
    """Who could do that: through which profile, binding, certificate and approval."""
    form = Form({name: request.args.get(name, "").strip()[:300] for name in _WHO})
    found, status = None, 200
    if form["verb"] or form["resource"]:
        form.require(
            verb="say what is done, such as delete", resource="say to what, such as pods", cluster="which one?"
        )
        if not form.errors:
            try:
                found = _asked(form)
            except PilothouseError as failure:
                form.error("at" if "moment" in failure.message else "", failure.with_hint)
        if form.errors:
            status = 422 if may(Action.READ_AUDIT) else 403
    page = render_template(
        "access/who_can.html",
        form=form,
        found=found,
        held=_unique(item for way in found.ways for item in way.certificates) if found else (),
        clusters=tuple(live().platform.clusters),
        verbs=VERBS,
        resources=can_i.known_resources(),
        command=_command(form),
        allowed=may(Action.READ_AUDIT),
        examples=_examples(form["cluster"] or live().main_cluster) if may(Action.READ_AUDIT) else (),
    )
    return (page, status) if status != 200 else page


def _asked(form: Form) -> reach.WhoCan:
    question = can_i.question(form["verb"], form["resource"], form["namespace"], form["name"])
    at = reach.moment_of(form["at"]) if form["at"] else None
    return reach.who_can(store(), opened(), me(), question, form["cluster"], now(), at)


def _examples(cluster: str) -> list[tuple[str, dict[str, str]]]:
    """Questions to begin with, as (words, query)."""
    return [(text, {"verb": verb, "resource": what, "cluster": cluster}) for text, verb, what in EXAMPLES if cluster]


def opened() -> Opened:
    """The platform with its content. `Unavailable` where none was ever read."""
    found = live().opened
    if not isinstance(found, Opened):
        raise Unavailable("nothing is declared yet", "write a Cluster, a Team and a Service document")
    return found


def _command(form: Form) -> str:
    """The same for the command line."""
    parts = ["pilothouse access who-can", form["verb"] or "delete", form["resource"] or "pods", form["name"]]
    parts += [f"-n {form['namespace']}" if form["namespace"] else "", f"-c {form['cluster'] or 'CLUSTER'}"]
    parts += [f"--at {form['at']}" if form["at"] else ""]
    return " ".join(part for part in parts if part)


@blueprint.get("/what-can")
def what_can() -> str | tuple[str, int]:
    """What somebody can do; oneself where nobody is named."""
    form = Form({name: request.args.get(name, "").strip()[:300] for name in ("user", "cluster")})
    form.values["user"] = form["user"] or me().user
    found, said, status = None, "", 200
    try:
        found = reach.what_can(store(), opened(), me(), form["user"], now(), form["cluster"])
    except Unavailable as failure:
        said = failure.with_hint
    except PilothouseError as failure:
        form.error("", failure.with_hint)
        status = 403 if isinstance(failure, Denied) else 422
    everybody = bool(may(Action.READ_AUDIT))
    page = render_template(
        "access/what_can.html",
        form=form,
        said=said,
        found=found,
        clusters=("", *live().platform.clusters),
        people=[item.user for item in reach.known_people(store(), live().platform, now())] if everybody else [],
        everybody=everybody,
    )
    return (page, status) if status != 200 else page


@blueprint.app_template_global("questions_of")
def questions_of(profile: AccessProfile) -> list[dict[str, str]]:
    """What the profile lets one do, each as the query of a question: who can do that as well?"""
    places = [name for name in live().clusters if profile.holds_on(name)]
    if not places:
        return []
    where = {"cluster": places[-1]}
    if profile.scope is Scope.TEAM_NAMESPACES:  # its bindings hold in namespaces, so the question names one
        namespace = _a_namespace(places[-1])
        if not namespace:
            return []
        where["namespace"] = namespace
    asked = [
        {"verb": rule.verbs[0], "resource": _shown(rule.resources[0], rule.api_groups)} | where
        for rule in profile.rules
        if rule.resources and rule.verbs and "*" not in (rule.verbs[0], rule.resources[0], *rule.api_groups)
    ]
    return asked[:4]


def _a_namespace(cluster: str) -> str:
    """One of the person's own teams where there is one, else of any."""
    platform = live().platform
    for team in (*sorted(me().teams), *platform.teams):
        for namespace in platform.namespaces_of(team, cluster):
            return namespace
    return ""


def _shown(resource: str, groups: tuple[str, ...]) -> str:
    head, slash, tail = resource.partition("/")
    return f"{head}.{groups[0]}{slash}{tail}" if groups and groups[0] else resource


@blueprint.app_template_test("declared_profile")
def is_declared(name: str) -> bool:
    """Whether there is a page of that profile."""
    return name in live().platform.profiles


def _unique(items: Iterable[Living]) -> tuple[Living, ...]:
    """Each certificate once, however many ways lead through it."""
    found: Mapping[Any, Living] = {(item.cluster, item.serial): item for item in items}
    return tuple(found.values())
