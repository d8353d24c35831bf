"""`/api/v1/access`: the access pages for programs; the command line uses nothing else."""

from __future__ import annotations

from datetime import datetime

from flask import Blueprint, Response, abort, request
from pydantic import BaseModel, Field

from pilothouse.access import grants as machine
from pilothouse.access.certificates import Issued
from pilothouse.access.grants import Grant
from pilothouse.portal.access_desk import desk, issued, signer_of, token
from pilothouse.portal.api import In, answer, body_of, describe
from pilothouse.portal.frame import is_private, live, me, now, portal, store
from pilothouse.problems import Invalid
from pilothouse.store import certificates as certificate_rows
from pilothouse.store import ledger
from pilothouse.workflows import access
from pilothouse.workflows import contexts as of_person
from pilothouse.workflows.elevation_state import Shown

blueprint = Blueprint("api_access", __name__, url_prefix="/api/v1/access")
BASE = "/api/v1/access"
MAX_SECONDS = 7 * 24 * 3600


class StatementOut(BaseModel):
    text: str
    weight: str = Field(description="read, change or power")


class ProfileOut(BaseModel):
    name: str
    title: str
    description: str
    elevated: bool
    approval: bool
    lifetime: int = Field(description="Seconds, where nothing is asked for.")
    max_lifetime: int
    renewal: int = Field(description="Seconds of one certificate where the login renews them for `lifetime`, else 0.")
    mine: bool = Field(description="Whether the caller may have it.")
    why: str
    ask: list[str] = Field(description="Users or groups who could help where it is no.")
    may: list[StatementOut]
    terms: str
    clusters: dict[str, str] = Field(description="Where it holds for the caller, by cluster.")


class ProfileList(BaseModel):
    items: list[ProfileOut]


class CertificateIn(In):
    profile: str = Field(max_length=100)
    cluster: str = Field(max_length=63)
    csr: str = Field(max_length=20_000, description="PKCS 10 in PEM; only its public key is used.")
    seconds: int = Field(default=0, ge=0, le=MAX_SECONDS, description="0 for as long as the profile gives by itself.")
    team: str = Field(default="", max_length=63, description="One of the caller's teams; left out: all of them.")
    vault_token: str = Field(
        default="",
        max_length=1_000,
        repr=False,
        description="The caller's own token at the cluster's Vault, where that signs. It is used once and not kept.",
    )


class VaultOut(BaseModel):
    cluster: str
    url: str
    mount: str = Field(description="The LDAP auth mount.")
    ca_file: str = Field(description="Where the authority of Vault's certificate lies on a machine that is set up.")


class VaultList(BaseModel):
    items: list[VaultOut]


class ContextOut(BaseModel):
    cluster: str
    profile: str
    team: str = Field(description="Where Vault signs: the team that a certificate is for.")
    server: str = Field(description="Address of the cluster's API server, or empty.")
    server_authority: str = Field(
        description="What the API server's own certificate is checked against (PEM), or empty."
    )
    server_note: str = Field(description="Why that is empty, where it is declared and cannot be read.")


class ContextList(BaseModel):
    items: list[ContextOut]


class ClaimIn(In):
    csr: str = Field(max_length=20_000, description="PKCS 10 in PEM; only its public key is used.")
    vault_token: str = Field(
        default="",
        max_length=1_000,
        repr=False,
        description="The caller's own token at the cluster's Vault, where that signs. It is used once and not kept.",
    )


class IssuedOut(BaseModel):
    cluster: str
    user: str
    profile: str
    groups: list[str]
    serial: str
    fingerprint: str
    not_after: datetime
    pem: str
    authority: str = Field(description="The cluster's authority in PEM.")
    grant_id: str
    renewed_until: datetime | None = Field(
        default=None, description="Until when this login gets the next ones, where the profile is a renewed one."
    )
    server: str = Field(description="Address of the cluster's API server, or empty.")
    server_authority: str = Field(
        description="What the API server's own certificate is checked against (PEM), or empty."
    )
    server_note: str = Field(description="Why that is empty, where it is declared and cannot be read.")


class CertificateOut(BaseModel):
    cluster: str
    serial: str
    profile: str
    groups: list[str]
    state: str
    asked_at: datetime
    not_after: datetime
    fingerprint: str
    alive: bool


class CertificateList(BaseModel):
    items: list[CertificateOut]


class RequestIn(In):
    profile: str = Field(max_length=100)
    cluster: str = Field(max_length=63)
    reason: str = Field(max_length=2_000)
    ticket: str = Field(default="", max_length=200, description="Its number, where there is one or the profile asks.")
    seconds: int = Field(default=0, ge=0, le=MAX_SECONDS)


class DecisionIn(In):
    comment: str = Field(default="", max_length=2_000)


class RequestOut(BaseModel):
    id: str
    user: str
    profile: str
    cluster: str
    reason: str
    ticket: str
    seconds: int
    state: str
    requested_at: datetime
    deadline: datetime | None
    decided_by: str
    comment: str
    expires_at: datetime | None
    serial: str
    break_glass: bool = Field(description="Whether two named people open it, and a third reviews it afterwards.")
    reviewed_by: str
    review: str
    untold: str = Field(default="", description="Why nobody could be told, where that is so.")
    binding: str = Field(
        default="", description="waiting, bound, failed or gone, where the worker binds the request on its cluster."
    )
    binding_text: str = Field(default="", description="The same as a clause for people.")


class RequestList(BaseModel):
    mine: list[RequestOut]
    waiting: list[RequestOut] = Field(description="Requests that wait for the caller's decision.")


class GivenBackOut(BaseModel):
    id: str
    meaning: str
    binding: str = Field(default="", description="gone or stands, where the worker binds the request on its cluster.")


class AuthorityOut(BaseModel):
    cluster: str
    pem: str


class EntryOut(BaseModel):
    sequence: int
    at: datetime
    kind: str
    actor: str
    subject: str
    cluster: str
    data: dict[str, object]
    hash: str


class EntryList(BaseModel):
    items: list[EntryOut]
    total: int
    narrowed: str = Field(description="Why only the caller's own entries are listed, where that is so.")


# ---------------------------------------------------------------- profiles and certificates

describe("get", f"{BASE}/profiles", "Profiles: who may have them and what they may do.", answer=ProfileList)


@blueprint.get("/profiles")
def profiles() -> Response:
    return answer(
        ProfileList(
            items=[
                ProfileOut(
                    name=offer.profile.name,
                    title=offer.profile.title,
                    description=offer.profile.description,
                    elevated=offer.profile.elevated,
                    approval=offer.profile.approval,
                    lifetime=offer.profile.lifetime,
                    max_lifetime=offer.profile.max_lifetime,
                    renewal=offer.profile.renewal,
                    mine=offer.is_mine,
                    why=offer.decision.why,
                    ask=list(offer.decision.whom_to_ask),
                    may=[StatementOut(text=item.text, weight=item.weight.value) for item in offer.may_do],
                    terms=offer.terms,
                    clusters=dict(offer.places),
                )
                for offer in access.profiles_of(live().platform, me())
            ]
        )
    )


describe(
    "get",
    f"{BASE}/contexts",
    "The standing profiles of the caller on each cluster, with what a kubeconfig needs.",
    answer=ContextList,
)


@blueprint.get("/contexts")
def contexts() -> Response:
    found = [
        ContextOut(
            cluster=item.cluster,
            profile=item.profile,
            team=item.team,
            server=item.api_server.url,
            server_authority=item.api_server.authority,
            server_note=item.api_server.note,
        )
        for item in of_person.contexts(live().platform, me())
    ]
    return answer(ContextList(items=found))


describe(
    "post",
    f"{BASE}/certificates",
    "A certificate for a standing profile.",
    body=CertificateIn,
    answer=IssuedOut,
    status=201,
)


def _check_way(vault_token: str) -> None:
    if vault_token and not is_private():
        raise Invalid("a token of Vault came over a connection that is not encrypted", "use the portal's https address")


@blueprint.post("/certificates")
def certificate() -> Response:
    given = body_of(CertificateIn)
    _check_way(given.vault_token)
    return _issued(
        access.certificate(
            desk(),
            token(),
            given.profile,
            given.cluster,
            given.csr,
            given.seconds,
            given.team,
            given.vault_token,
        )
    )


describe("get", f"{BASE}/vaults", "The Vaults at which engineers log in, by cluster.", answer=VaultList)


@blueprint.get("/vaults")
def vaults() -> Response:
    places = access.vaults(live().platform)
    return answer(
        VaultList(items=[VaultOut(cluster=p.cluster, url=p.url, mount=p.mount, ca_file=p.ca_file) for p in places])
    )


describe("get", f"{BASE}/certificates", "One's own certificates, the living ones first.", answer=CertificateList)


@blueprint.get("/certificates")
def certificates() -> Response:
    rows = access.mine(store(), me(), now()).certificates
    return answer(CertificateList(items=[_certificate(row) for row in rows]))


def _certificate(row: certificate_rows.Certificate) -> CertificateOut:
    return CertificateOut(
        cluster=row.cluster,
        serial=row.serial,
        profile=row.profile,
        groups=list(row.groups),
        state=row.state.value,
        asked_at=row.asked_at,
        not_after=row.not_after,
        fingerprint=row.fingerprint,
        alive=row.is_alive(now()),
    )


def _issued(result: Issued) -> Response:
    issued(result)
    to = access.api_server(live().platform, result.cluster)
    return answer(IssuedOut(**result.to_dict(), server=to.url, server_authority=to.authority, server_note=to.note), 201)


describe(
    "get", f"{BASE}/authorities/{{cluster}}", "The public certificate of a cluster's authority.", answer=AuthorityOut
)


@blueprint.get("/authorities/<cluster>")
def authority(cluster: str) -> Response:
    if cluster not in live().platform.clusters:
        abort(404, f"there is no cluster {cluster}")
    return answer(AuthorityOut(cluster=cluster, pem=signer_of(portal()).authority(cluster)))


# ---------------------------------------------------------------- requests

describe("post", f"{BASE}/requests", "Ask for an elevated profile.", body=RequestIn, answer=RequestOut, status=201)


@blueprint.post("/requests")
def ask() -> Response:
    given = body_of(RequestIn)
    what = given.profile, given.cluster, given.reason, given.seconds, now(), given.ticket
    told = access.request(desk(), live().platform, me(), *what)
    return answer(request_out(told.grant, told.untold), 201)


describe("get", f"{BASE}/requests", "One's own requests, and those that wait for one's decision.", answer=RequestList)


@blueprint.get("/requests")
def requests() -> Response:
    platform = live().platform
    return answer(
        RequestList(
            mine=_requests(access.mine(store(), me(), now()).grants),
            waiting=_requests(access.waiting_for(store(), platform, me(), now())),
        )
    )


for _word in ("approve", "deny"):
    describe(
        "post",
        f"{BASE}/requests/{{id}}/{_word}",
        f"{_word.capitalize()} a request.",
        body=DecisionIn,
        answer=RequestOut,
    )


@blueprint.post("/requests/<id>/<any(approve, deny):word>")
def decide(id: str, word: str) -> Response:
    given = body_of(DecisionIn)
    step = access.approve if word == "approve" else access.deny
    told = step(desk(), live().platform, me(), id, given.comment, now())
    return answer(request_out(told.grant, told.untold))


describe(
    "post",
    f"{BASE}/requests/{{id}}/claim",
    "The certificate of an approved request; the clock starts.",
    body=ClaimIn,
    answer=IssuedOut,
    status=201,
)


@blueprint.post("/requests/<id>/claim")
def claim(id: str) -> Response:
    given = body_of(ClaimIn)
    _check_way(given.vault_token)
    return _issued(access.claim(desk(), live().platform, token(), id, given.csr, given.vault_token))


describe(
    "post", f"{BASE}/give-back/{{id}}", "End a request or a certificate (by its serial) early.", answer=GivenBackOut
)


@blueprint.post("/give-back/<id>")
def give_back(id: str) -> Response:
    ended = access.give_back(desk(), live().platform, me(), id, now())
    return answer(GivenBackOut(id=ended.id, meaning=ended.meaning, binding=ended.binding))


def _requests(grants: tuple[Grant, ...]) -> list[RequestOut]:
    bindings = access.on_cluster(store(), grants, now())
    return [request_out(grant, binding=bindings[grant.id]) for grant in grants]


def request_out(grant: Grant, untold: str = "", binding: Shown | None = None) -> RequestOut:
    grant = machine.settle(grant, now())
    binding = binding or access.on_cluster(store(), [grant], now())[grant.id]
    return RequestOut(
        id=grant.id,
        user=grant.user,
        profile=grant.profile,
        cluster=grant.cluster,
        reason=grant.reason,
        ticket=grant.ticket,
        seconds=grant.seconds,
        state=grant.state.value,
        requested_at=grant.requested_at,
        deadline=grant.deadline,
        decided_by=grant.decided_by,
        comment=grant.comment,
        expires_at=grant.expires_at,
        serial=grant.serial,
        break_glass=grant.break_glass,
        reviewed_by=grant.reviewed_by,
        review=grant.review,
        untold=untold,
        binding=binding.state,
        binding_text=binding.text,
    )


# ---------------------------------------------------------------- the ledger

describe(
    "get",
    f"{BASE}/ledger",
    "Entries of the ledger, the newest first; one's own, or all where one may read them.",
    answer=EntryList,
    query=(
        ("actor", "who did it"),
        ("kind", "beginning of the kind, such as certificate or elevation.approved"),
        ("subject", "serial of a certificate, or id of a request"),
        ("cluster", "a cluster"),
        ("q", "text that occurs in the entry"),
        ("page", "from 1, 100 on each"),
    ),
)


@blueprint.get("/ledger")
def entries() -> Response:
    given = request.args
    page = given.get("page", "1")
    number = min(max(1, int(page)), 100_000) if page.isdecimal() and len(page) < 7 else 1
    wanted = ledger.Filter(
        given.get("actor", ""),
        given.get("kind", ""),
        given.get("subject", ""),
        given.get("cluster", ""),
        given.get("q", ""),
    )
    found = access.entries(store(), live().platform, me(), wanted, 100, (number - 1) * 100)
    items = [
        EntryOut(
            sequence=item.sequence,
            at=item.at,
            kind=item.entry.kind,
            actor=item.entry.actor,
            subject=item.entry.subject,
            cluster=item.entry.cluster,
            data=dict(item.entry.data),
            hash=item.hash,
        )
        for item in found.items
    ]
    return answer(EntryList(items=items, total=found.total, narrowed=found.narrowed))
