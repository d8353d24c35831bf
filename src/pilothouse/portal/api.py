"""`/api/v1`: what the pages show, for programs. Bodies are pydantic models; the OpenAPI document is made from them.

Errors are `application/problem+json` (https://www.rfc-editor.org/rfc/rfc9457). The token is that of a
session, in `Authorization: Bearer`; a browser's cookie is good for reading too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar

from flask import Blueprint, Response, abort, jsonify, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import models_json_schema

from pilothouse import __version__
from pilothouse.access.permissions import Action
from pilothouse.platform.model import Edge, Service
from pilothouse.portal import auth
from pilothouse.portal.frame import address, live, may, me, now, public, session, store, without_csrf
from pilothouse.portal.listing import Page, Query, page_of
from pilothouse.problems import Invalid, Problem, Severity
from pilothouse.store import events, sessions

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")
Body = TypeVar("Body", bound=BaseModel)
Item = TypeVar("Item")


class In(BaseModel):
    """A body that is sent: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", str_max_length=200_000)


class SessionIn(In):
    user: str = Field(max_length=200)
    password: str = Field(max_length=200)


class SessionOut(BaseModel):
    token: str = Field(description="For `Authorization: Bearer`; shown once.")
    user: str
    expires_at: datetime


class MeOut(BaseModel):
    user: str
    name: str
    email: str
    groups: list[str]
    teams: list[str]
    approves: list[str] = Field(description="Teams for which this person approves.")
    platform: bool


class EdgeOut(BaseModel):
    peer: str
    ports: list[str]
    clusters: list[str] = Field(description="Empty means all of them.")
    reason: str
    expires: date | None


class ServiceOut(BaseModel):
    namespace: str
    name: str
    team: str
    description: str
    exposure: str
    sensitivity: str
    clusters: list[str]
    ports: list[str]
    ingress: list[EdgeOut] | None = Field(description="Null where the service does not list who may come.")
    egress: list[EdgeOut]
    secrets: list[str]
    source: str = Field(description="File and line of the document.")


class TeamOut(BaseModel):
    name: str
    title: str
    members: list[str]
    groups: list[str]
    approvers: list[str]
    platform: bool
    services: int


class ClusterOut(BaseModel):
    name: str
    environment: str
    kubernetes: str
    enforcement: str
    max_severity: str


class ProblemOut(BaseModel):
    code: str
    severity: str
    message: str
    hint: str
    path: str
    line: int
    column: int
    teams: list[str]
    cluster: str


class JobOut(BaseModel):
    name: str
    title: str
    schedule: str
    state: str
    message: str
    started_at: datetime | None
    finished_at: datetime | None
    next_run_at: datetime | None
    failures: int = Field(description="Failed runs since the last one that did not fail.")
    failing_since: datetime | None = Field(description="The end of the first of them.")
    holder: str = Field(description="The worker that runs it, or ran it last.")


class ServiceList(BaseModel):
    items: list[ServiceOut]
    total: int
    page: int
    pages: int


class TeamList(BaseModel):
    items: list[TeamOut]


class ClusterList(BaseModel):
    items: list[ClusterOut]


class JobList(BaseModel):
    items: list[JobOut]


class ProblemList(BaseModel):
    items: list[ProblemOut]
    waiting: list[str] = Field(description="Clusters that are still being checked.")
    failed: dict[str, str] = Field(description="Clusters that could not be checked, and why.")
    reason: str = Field(description="Set when the folder's present state could not be loaded.")


class ErrorOut(BaseModel):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    hint: str = ""
    errors: list[dict[str, Any]] = Field(default_factory=list)


@dataclass(frozen=True)
class Operation:
    """One operation for the OpenAPI document."""

    method: str
    path: str
    summary: str
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    status: int = 200
    query: tuple[tuple[str, str], ...] = ()
    public: bool = False


_operations: dict[tuple[str, str], Operation] = {}


def describe(
    method: str,
    path: str,
    summary: str,
    *,
    body: type[BaseModel] | None = None,
    answer: type[BaseModel] | None = None,
    status: int = 200,
    query: tuple[tuple[str, str], ...] = (),
    public: bool = False,
) -> None:
    """Put an operation into the OpenAPI document; `path` with `{names}`, `query` as (name, meaning)."""
    _operations[path, method] = Operation(method, path, summary, body, answer, status, query, public)


def body_of(model: type[Body]) -> Body:
    """The request's JSON body. `Invalid` when it is none, with every mistake named."""
    if not request.is_json:
        abort(415, "send the body as application/json")
    data = request.get_json(silent=True)
    if data is None:
        raise Invalid("the body is not valid JSON")
    try:
        return model.model_validate(data)
    except ValidationError as failure:
        # `input` is left out: it may be a password.
        found = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in failure.errors())
        raise Invalid(f"the body cannot be used: {found}") from None


def answer(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A model as the JSON response."""
    response = Response(model.model_dump_json(), status, content_type="application/json")
    response.headers.update(headers or {})
    return response


def problem(status: int, title: str, detail: str, hint: str = "") -> Response:
    """An error in the form of RFC 9457."""
    body = ErrorOut(title=title, status=status, detail=detail, hint=hint)
    return Response(body.model_dump_json(exclude={"errors"}), status, content_type="application/problem+json")


# ---------------------------------------------------------------- sessions

describe(
    "post",
    "/api/v1/session",
    "Log in: a token for the command line.",
    body=SessionIn,
    answer=SessionOut,
    status=201,
    public=True,
)
describe("delete", "/api/v1/session", "Log out: the token is worth nothing afterwards.", status=204)


@blueprint.post("/session")
@public
@without_csrf
def log_in() -> Response:
    given = body_of(SessionIn)
    user = auth.authenticate(given.user.strip(), given.password)
    if user is None:
        return problem(401, "Log in first", "the name or the password is wrong")
    token, row = sessions.start(store(), user, now(), kind="token", address=address(), agent=request.user_agent.string)
    events.record(store(), events.Event(now(), "login", user.name, "", "logged in on the command line", address()))
    return answer(SessionOut(token=token, user=user.name, expires_at=row.expires_at), 201)


@blueprint.delete("/session")
def log_out() -> Response:
    sessions.revoke(store(), session().id, now())
    events.record(store(), events.Event(now(), "logout", me().user, "", "logged out", address()))
    return Response(status=204)


describe("get", "/api/v1/me", "Who the token belongs to.", answer=MeOut)


@blueprint.get("/me")
def who() -> Response:
    person = me()
    return answer(
        MeOut(
            user=person.user,
            name=person.name,
            email=person.email,
            groups=sorted(person.groups),
            teams=sorted(person.teams),
            approves=list(auth.approved_teams(person, live().platform)),
            platform=bool(may(Action.ADMINISTER)),
        )
    )


# ---------------------------------------------------------------- the platform

_SORTS: Mapping[str, Callable[[Service], Any]] = {
    "name": lambda item: item.key,
    "team": lambda item: (item.team, item.key),
}

describe(
    "get",
    "/api/v1/services",
    "Declared services, searched and paged.",
    answer=ServiceList,
    query=(
        ("q", "words that must occur"),
        ("team", "name of a team"),
        ("namespace", "a namespace"),
        ("cluster", "a cluster it runs on"),
        ("sort", "name, team; `-` before it for descending"),
        ("page", "from 1"),
    ),
)


@blueprint.get("/services")
def services() -> Response:
    query = Query.of_request(_SORTS, "name", ("team", "namespace", "cluster"), per_page=200)
    page: Page[Service] = page_of(
        live().platform.services.values(),
        query,
        _SORTS,
        lambda item: f"{item.key} {item.team} {item.description}",
        lambda item: (
            query.filters.get("team", item.team) == item.team
            and query.filters.get("namespace", item.namespace) == item.namespace
            and ("cluster" not in query.filters or item.runs_on(query.filters["cluster"]))
        ),
    )
    return answer(
        ServiceList(
            items=[_service(item) for item in page.items], total=page.total, page=page.query.page, pages=page.pages
        )
    )


describe("get", "/api/v1/services/{namespace}/{name}", "One declared service.", answer=ServiceOut)


@blueprint.get("/services/<namespace>/<name>")
def service(namespace: str, name: str) -> Response:
    found = live().platform.services.get(f"{namespace}/{name}")
    if found is None:
        abort(404, f"no service {namespace}/{name} is declared")
    return answer(_service(found))


def _service(item: Service) -> ServiceOut:
    return ServiceOut(
        namespace=item.namespace,
        name=item.name,
        team=item.team,
        description=item.description,
        exposure=item.exposure.value,
        sensitivity=item.sensitivity.value,
        clusters=sorted(item.clusters),
        ports=[f"{port.name}={port.number}/{port.protocol}" for port in item.ports],
        ingress=None if item.ingress is None else [_edge(edge) for edge in item.ingress],
        egress=[_edge(edge) for edge in item.egress],
        secrets=[secret.path for secret in item.secrets],
        source=str(item.place),
    )


def _edge(edge: Edge) -> EdgeOut:
    return EdgeOut(
        peer=str(edge.peer),
        ports=[str(port) for port in edge.ports],
        clusters=sorted(edge.clusters),
        reason=edge.reason,
        expires=edge.expires,
    )


describe("get", "/api/v1/teams", "Teams.", answer=TeamList)


@blueprint.get("/teams")
def teams() -> Response:
    platform = live().platform
    counts: dict[str, int] = {}
    for item in platform.services.values():
        counts[item.team] = counts.get(item.team, 0) + 1
    return answer(
        TeamList(
            items=[
                TeamOut(
                    name=team.name,
                    title=team.title,
                    members=[member.user for member in team.members],
                    groups=list(team.groups),
                    approvers=list(team.approvers),
                    platform=team.platform,
                    services=counts.get(team.name, 0),
                )
                for team in platform.teams.values()
            ]
        )
    )


describe("get", "/api/v1/clusters", "Clusters.", answer=ClusterList)


@blueprint.get("/clusters")
def clusters() -> Response:
    return answer(
        ClusterList(
            items=[
                ClusterOut(
                    name=item.name,
                    environment=item.environment,
                    kubernetes=item.versions.kubernetes,
                    enforcement=item.enforcement.value,
                    max_severity=item.max_severity.value,
                )
                for item in live().platform.clusters.values()
            ]
        )
    )


describe(
    "get", "/api/v1/problems", "What every check found.", answer=ProblemList,
    query=(("severity", "error, warning or info"), ("cluster", "a cluster"), ("team", "a team")),
)  # fmt: skip


@blueprint.get("/problems")
def problems() -> Response:
    from pilothouse.portal.problems import known_problems

    severity = request.args.get("severity", "")
    if severity and severity not in [item.value for item in Severity]:
        raise Invalid(f"{severity!r} is no severity", "error, warning or info")
    known = known_problems()
    cluster, team = request.args.get("cluster", ""), request.args.get("team", "")
    return answer(
        ProblemList(
            items=[
                problem_of(item)
                for item in known.problems
                if (not severity or item.severity.value == severity)
                and (not cluster or item.cluster in ("", cluster))
                and (not team or team in item.teams)
            ],
            waiting=list(known.waiting),
            failed=dict(known.failed),
            reason=live().reason,
        )
    )


def problem_of(item: Problem) -> ProblemOut:
    """A problem as every answer of the API shows it."""
    return ProblemOut(
        code=item.code,
        severity=item.severity.value,
        message=item.message,
        hint=item.hint,
        path=item.place.path,
        line=item.place.line,
        column=item.place.column,
        teams=list(item.teams),
        cluster=item.cluster,
    )


describe("get", "/api/v1/jobs", "The worker's jobs: last result, failures in a row, and next run.", answer=JobList)


@blueprint.get("/jobs")
def jobs() -> Response:
    from pilothouse.store import jobs as rows

    return answer(
        JobList(
            items=[
                JobOut(
                    name=item.name,
                    title=item.title,
                    schedule=item.schedule,
                    state=item.state.value,
                    message=item.message,
                    started_at=item.started_at,
                    finished_at=item.finished_at,
                    next_run_at=item.next_run_at,
                    failures=item.failures,
                    failing_since=item.failing_since,
                    holder=item.holder,
                )
                for item in rows.everything(store())
            ]
        )
    )


@blueprint.route("/<path:rest>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
@public
@without_csrf
def nothing(rest: str) -> Response:
    """An unknown address below the API answers in the API's form, whoever asks."""
    abort(404, f"there is no /api/v1/{rest}")


# ---------------------------------------------------------------- OpenAPI

describe("get", "/api/v1/openapi.json", "This document.", public=True)


@blueprint.get("/openapi.json")
@public
def openapi() -> Response:
    return jsonify(document())


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document of every operation described: https://spec.openapis.org/oas/v3.1.1.html"""
    operations = [_operations[key] for key in sorted(_operations)]
    models: set[type[BaseModel]] = {
        ErrorOut,
        *(o.body for o in operations if o.body),
        *(o.answer for o in operations if o.answer),
    }
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schema = models_json_schema(
        [(model, "validation" if issubclass(model, In) else "serialization") for model in ordered],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for item in operations:
        paths.setdefault(item.path, {})[item.method] = _operation(item)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pilothouse",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schema.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(item: Operation) -> dict[str, Any]:
    names = [part[1:-1] for part in item.path.split("/") if part.startswith("{")]
    failure = {"description": "Error", "content": {"application/problem+json": {"schema": _ref(ErrorOut)}}}
    result: dict[str, Any] = {
        "operationId": f"{item.method}_"
        + "_".join(part.strip("{}") for part in item.path.split("/")[3:]).replace(".", "_"),
        "summary": item.summary,
        "responses": {
            str(item.status): {"description": "Done"}
            | ({"content": {"application/json": {"schema": _ref(item.answer)}}} if item.answer else {}),
            "default": failure,
        },
    }
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}} for name, text in item.query
    ]
    if parameters:
        result["parameters"] = parameters
    if item.body:
        result["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(item.body)}}}
    if item.public:
        result["security"] = []
    return result


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
