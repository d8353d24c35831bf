"""`/api/v1/network`: whether one end reaches another and why, maps, and what enforcing would cut, for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, abort, request, url_for
from pydantic import BaseModel, Field

from pilothouse.policies.ask import as_data as answer_data
from pilothouse.policies.compare import adopting, beside
from pilothouse.policies.compare.map import Only
from pilothouse.policies.compare.map import as_data as map_data
from pilothouse.policies.explain import as_data as explanation_data
from pilothouse.policies.explain.edits import Edit
from pilothouse.policies.flows import promotion
from pilothouse.portal.api import answer, describe
from pilothouse.portal.frame import live
from pilothouse.portal.network import adoption_of
from pilothouse.problems import Invalid
from pilothouse.workflows.network import Network, starts

blueprint = Blueprint("api_network", __name__, url_prefix="/api/v1/network")
BASE = "/api/v1/network"
LONGEST = 300


class EndOut(BaseModel):
    kind: str
    name: str


class PartyOut(EndOut):
    team: str = ""


class BasisOut(BaseModel):
    sentence: str
    source: str = Field(description="Where the rule is written down, or empty.")


class DecidedOut(BaseModel):
    outcome: str
    by: str = Field(description="What decides, in words.")
    tier: str
    rule: int | None = None
    place: str | None = None


class PairOut(BaseModel):
    sources: list[str]
    destinations: list[str]
    families: list[str]
    verdict: str
    packet: str | None = Field(default=None, description="What arrives, after a Service translated it.")
    sent: str | None = None
    allowed: str | None = Field(default=None, description="Of a question without a port: at what.")
    conditional: str | None = None
    undefined: str | None = None
    egress: DecidedOut | None = None
    ingress: DecidedOut | None = None
    basis: list[BasisOut]


class AnswerOut(BaseModel):
    cluster: str
    verdict: str = Field(description="allow, deny, conditional, mixed or undefined")
    profile: str
    source: EndOut
    destination: EndOut
    asked: str | None = Field(description="The port; null where none was named.")
    pairs: list[PairOut] = Field(description="What gets one answer, each source with each destination.")
    basis: list[BasisOut]
    unread: list[str] = Field(description="Policies that were left out, and why.")


class MetOut(BaseModel):
    tier: str
    tierOrder: float | None  # noqa: N815 - as the command line writes it
    policy: str | None
    order: float | None
    rule: int | None
    did: str
    place: str | None
    decides: bool


class DeclaredOut(BaseModel):
    edge: str
    place: str | None


class ReasonOut(BaseModel):
    kind: str
    sentence: str


class NearOut(BaseModel):
    rule: str
    place: str | None
    reasons: list[ReasonOut]


class SideOut(BaseModel):
    direction: str
    end: str
    outcome: str
    by: str
    chain: list[MetOut] = Field(description="What the connection meets, in order.")
    declared: list[DeclaredOut]
    near: list[NearOut] = Field(description="Rules that nearly decided otherwise, and what they lack.")


class StoryOut(BaseModel):
    pair: str
    verdict: str
    sides: list[SideOut]


class ChangeOut(BaseModel):
    title: str
    place: str | None
    text: str = Field(description="The edit as a difference.")
    manifest: dict[str, Any] | None = Field(description="The whole policy afterwards; null for a declaration.")
    command: str | None


class StartOut(BaseModel):
    service: str
    teams: list[str] = Field(description="Teams of other ends, which are asked.")
    page: str = Field(description="The page that writes the proposal.")
    command: str = Field(description="The same on the command line, or empty.")


class EditOut(BaseModel):
    changes: list[ChangeOut]
    others: list[str] = Field(description="What else it changes.")
    size: int
    more: bool = Field(description="Whether it changes more than `others` names.")
    remarks: list[str]
    proposals: list[StartOut] = Field(description="The proposals that make it; none where manifests change.")


class ExplanationOut(AnswerOut):
    stories: list[StoryOut]
    wanted: str = Field(description="What the edits lead to.")
    edits: list[EditOut] = Field(description="The smallest first.")
    noEdit: str | None = Field(description="Why there is none.")  # noqa: N815


class MemberOut(PartyOut):
    namespace: str = ""
    pods: int = 0
    egress: str = Field(default="", description="isolated, partly or open; empty for addresses and groups.")
    ingress: str = ""


class GroupOut(BaseModel):
    name: str
    members: list[str]


class LinkOut(BaseModel):
    source: PartyOut
    destination: PartyOut
    ports: str
    verdict: str
    some: bool = Field(description="Whether it holds for some of their pods only.")


class DifferenceOut(BaseModel):
    what: str
    before: str
    after: str
    source: PartyOut
    destination: PartyOut
    ports: str
    some: bool
    inForce: bool  # noqa: N815
    example: str


class BesideOut(BaseModel):
    same: bool
    more: list[DifferenceOut] = Field(description="Allowed and not declared.")
    less: list[DifferenceOut] = Field(description="Declared and not allowed.")


class MapOut(BaseModel):
    cluster: str
    title: str
    parties: list[MemberOut]
    groups: list[GroupOut]
    connections: list[LinkOut]
    declared: BesideOut | None = Field(description="Of one declared service: where the declarations say otherwise.")


class UndeclaredOut(BaseModel):
    pod: str
    workload: str
    services: list[str] = Field(description="Kubernetes Services that lead to it.")


class UnreachedOut(BaseModel):
    service: str
    port: str
    pods: list[str]


class RefusedOut(BaseModel):
    source: str
    destination: str
    ports: list[str]
    teams: list[str]
    place: str


class LapsedOut(BaseModel):
    service: str
    peer: str
    ports: str
    expires: str
    place: str


class IsolationOut(BaseModel):
    namespace: str
    direction: str
    begins: bool
    pods: list[str]


class AmountOut(BaseModel):
    flows: int
    count: int
    bytes: int
    last_seen: float | None = Field(description="Seconds since 1970.")


class DeniedOut(AmountOut):
    source: str
    destination: str
    port: str
    rule: str


class SeenOut(BaseModel):
    days: int = Field(description="Calendar days within which flows of its pods were seen.")
    seen: AmountOut
    denied: AmountOut
    most_denied: list[DeniedOut]
    ready: bool
    waiting: list[str] = Field(description="Why it is not ready.")
    line: str = Field(description="The field of the Cluster document that enforces it, or empty.")


class AdoptingOut(BaseModel):
    namespace: str
    mode: str
    declared: str
    pods: int
    undeclared: list[UndeclaredOut] = Field(description="Pods that no Service document selects.")
    unreached: list[UnreachedOut] = Field(description="Ports of Kubernetes Services that nobody could reach then.")
    refused: list[RefusedOut] = Field(description="Declared at one end, and not let in at the other.")
    lapsed: list[LapsedOut]
    ends: list[DifferenceOut] = Field(description="Every connection that ends then.")
    isolation: list[IsolationOut]
    flows: SeenOut | None = Field(description="What observed flows say; null where its services are not known.")


class AdoptionOut(BaseModel):
    cluster: str
    items: list[AdoptingOut]
    files: list[str] = Field(description="The observed flows that were read.")
    reason: str = Field(description="Why there are none, or not all; or empty.")


def _network() -> Network:
    name = request.args.get("cluster", "")
    if name not in live().platform.clusters:
        abort(404, f"no cluster {name!r} is declared: name one with `cluster`")
    return live().network(name)


def _flag(name: str, usual: bool = False) -> bool:
    value = request.args.get(name, "")
    if value not in ("", "yes", "no"):
        raise Invalid(f"{value!r} is no value of `{name}`", "yes or no")
    return value == "yes" if value else usual


def _words(*names: str) -> Mapping[str, str]:
    found = {name: request.args.get(name, "").strip() for name in names}
    for name, value in found.items():
        if len(value) > LONGEST:
            raise Invalid(f"`{name}` is too long", f"at most {LONGEST} characters")
    return found


def _question(*needed: str) -> Mapping[str, str]:
    words = _words("from", "to", "port")
    missing = [name for name in needed if not words[name]]
    if missing:
        raise Invalid(f"the question lacks {' and '.join(f'`{name}`' for name in missing)}", "add it to the address")
    return words


CLUSTER = ("cluster", "name of the cluster")
ENFORCED = ("enforced", "`yes`: as if every governed namespace were enforced")
QUESTION = (
    CLUSTER,
    ("from", "who opens the connection: `namespace/name`, `pod:`, `workload:`, `host:`, an address, `internet`"),
    ("to", "whom it should reach; `svc:namespace/name` too"),
    ("port", "such as 8080, 53/UDP, a port's name, icmp"),
    ENFORCED,
)

describe("get", f"{BASE}/can", "Whether one end reaches another, or at what.", answer=AnswerOut, query=QUESTION)


@blueprint.get("/can")
def can() -> Response:
    here, words = _network(), _question("from", "to")
    asked = here.ask(words["from"], words["to"], words["port"], enforced=_flag("enforced"), edits=False)
    return answer(AnswerOut(cluster=here.cluster, **answer_data(asked.answer)))


describe(
    "get",
    f"{BASE}/explain",
    "Why one end reaches another at a port or does not, and the smallest edit that changes it.",
    answer=ExplanationOut,
    query=(*QUESTION, ("edits", "`no`: without edits, which take longest to find")),
)


@blueprint.get("/explain")
def explain() -> Response:
    here, words = _network(), _question("from", "to", "port")
    edits = _flag("edits", True)
    asked = here.ask(words["from"], words["to"], words["port"], enforced=_flag("enforced"), edits=edits)
    assert asked.found is not None  # a port was named
    data = explanation_data(asked.found)
    for item, edit in zip(data["edits"], asked.found.edits, strict=True):
        item["proposals"] = _proposals(edit)
    return answer(ExplanationOut(cluster=here.cluster, **data))


def _proposals(edit: Edit) -> list[StartOut]:
    return [
        StartOut(
            service=start.service.key,
            teams=list(start.teams),
            page=url_for("egress.new", _external=True, **start.query),
            command=start.command,
        )
        for start in starts(edit, live().platform)
    ]


describe(
    "get",
    f"{BASE}/map",
    "Who reaches whom: services, workloads, hosts and addresses.",
    answer=MapOut,
    query=(
        CLUSTER,
        ("service", "only connections of a service or workload, `namespace/name`"),
        ("namespace", "only connections of a namespace"),
        ("team", "only connections of a team"),
        ENFORCED,
    ),
)


@blueprint.get("/map")
def draw() -> Response:
    here, enforced = _network(), _flag("enforced")
    only = Only(**_words("service", "namespace", "team"))
    found = here.map(only, enforced=enforced)
    differs = here.beside(only.service, enforced=enforced) if only.service in live().platform.services else None
    declared = BesideOut(**beside.as_data(differs)) if differs is not None else None
    return answer(MapOut(cluster=here.cluster, declared=declared, **map_data(found)))


describe(
    "get",
    f"{BASE}/adoption",
    "Every governed namespace, and what ends once it is enforced.",
    answer=AdoptionOut,
    query=(CLUSTER,),
)


@blueprint.get("/adoption")
def adoption() -> Response:
    here = _network()
    found = adoption_of(here)
    seen = {item["namespace"]: item for item in promotion.as_data(found.candidates.values())}
    items = [
        AdoptingOut(**item, flows=SeenOut(**seen[item["namespace"]]) if item["namespace"] in seen else None)
        for item in adopting.as_data(found.rows)
    ]
    return answer(
        AdoptionOut(cluster=here.cluster, items=items, files=list(found.observed.files), reason=found.observed.reason)
    )
