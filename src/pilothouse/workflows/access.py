"""What a person does about access: the same functions for pages, API and command line.

Decisions are those of `access.permissions`; every step is an entry of the ledger, written in the
transaction that takes it. Certificates come from the signer alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from pilothouse.access import break_glass, grants, words
from pilothouse.access.certificates import Issued
from pilothouse.access.grants import Grant, State
from pilothouse.access.ledger import Entry, Recorded
from pilothouse.access.permissions import Action, Certificate, Decision, Person, may
from pilothouse.access.words import Statement
from pilothouse.files.authorities import read_authorities
from pilothouse.platform.model import AccessProfile, Platform
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, nearest, one_of
from pilothouse.store import Store, elevations, ledger, users
from pilothouse.store import certificates as certificate_rows
from pilothouse.store import grants as grant_rows
from pilothouse.store import locks as lock_rows
from pilothouse.workflows import elevation_state
from pilothouse.workflows.elevation_state import Shown
from pilothouse.workflows.issuance import check_elevation


class Signer(Protocol):
    """The signer's process, as `clients.signer.SignerClient` reaches it."""

    def sign(
        self,
        token: str,
        csr: str,
        *,
        profile: str = "",
        cluster: str = "",
        grant_id: str = "",
        seconds: int = 0,
        team: str = "",
        vault_token: str = "",
        address: str = "",
    ) -> Issued: ...

    def authority(self, cluster: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody is told. Holds no secret: whoever reads it can do nothing with it."""

    to: tuple[str, ...]
    subject: str
    text: str


class Notifier(Protocol):
    """Tells people by mail or webhook; raises `Unavailable` where it could not."""

    def tell(self, message: Message) -> None: ...


class Nobody:
    """Where neither mail nor webhook is set: the home page alone shows what waits."""

    def tell(self, message: Message) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Desk:
    """What the use cases work with. `new_id` makes the id of a request, `address` is the portal's for links, `caller`
    the network address of who asks."""

    store: Store
    signer: Signer
    notifier: Notifier
    new_id: Callable[[], str]
    address: str = ""
    pause: Callable[[float], None] = time.sleep
    """Between two looks at whether the worker has removed a binding."""
    caller: str = ""


# ---------------------------------------------------------------- what may I have


@dataclass(frozen=True, slots=True)
class Offer:
    """A profile as one person sees it. `places` says, by cluster, where it holds for them."""

    profile: AccessProfile
    decision: Decision
    may_do: tuple[Statement, ...]
    terms: str
    places: tuple[tuple[str, str], ...]

    @property
    def is_mine(self) -> bool:
        return self.decision.allowed


def profiles_of(platform: Platform, person: Person) -> tuple[Offer, ...]:
    """Every profile, those that the person may have first; standing before elevated."""
    offers = []
    for profile in platform.profiles.values():
        action = Action.ELEVATE if profile.elevated else Action.REQUEST
        places = tuple(
            (cluster, words.where(profile, platform, cluster, sorted(person.teams)))
            for cluster in platform.clusters
            if profile.holds_on(cluster)
        )
        offers.append(
            Offer(profile, may(person, action, profile, platform), words.may_do(profile), words.terms(profile), places)
        )
    return tuple(sorted(offers, key=lambda offer: (not offer.is_mine, offer.profile.elevated, offer.profile.name)))


def profile_named(platform: Platform, name: str) -> AccessProfile:
    profile = platform.profiles.get(name)
    if profile is None:
        raise Invalid(f"there is no profile `{name}`", nearest(name, platform.profiles) or one_of(platform.profiles))
    return profile


# ---------------------------------------------------------------- certificates


def certificate(
    desk: Desk,
    token: str,
    profile: str,
    cluster: str,
    csr: str,
    seconds: int = 0,
    team: str = "",
    vault_token: str = "",
) -> Issued:
    """A certificate for a standing profile; the signer decides. Where Vault signs, with the engineer's own token."""
    return desk.signer.sign(
        token,
        csr,
        profile=profile,
        cluster=cluster,
        seconds=seconds,
        team=team,
        vault_token=vault_token,
        address=desk.caller,
    )


@dataclass(frozen=True, slots=True)
class VaultPlace:
    """Where engineers log in for a cluster whose authority is Vault. `ca_file` is a path on whose machine it is
    used."""

    cluster: str
    url: str
    mount: str
    ca_file: str = ""


def vaults(platform: Platform) -> tuple[VaultPlace, ...]:
    """The clusters for which Vault signs, by name; those that declare no Vault are left out."""
    return tuple(
        VaultPlace(cluster.name, cluster.servers.vault.url, cluster.authority.login, cluster.servers.vault.ca_file)
        for _, cluster in sorted(platform.clusters.items())
        if cluster.authority.backend == "vault" and cluster.servers.vault is not None
    )


@dataclass(frozen=True, slots=True)
class ApiServer:
    """What a kubeconfig says of a cluster's API server. `authority` are the certificates (PEM) that its own one is
    checked against, "" where none are declared or, as `note` says, none can be read."""

    url: str = ""
    authority: str = ""
    note: str = ""


def api_server(platform: Platform, cluster: str) -> ApiServer:
    """As the Cluster document declares it, with what lies in its `caFile` on this machine. A certificate is good
    without that, so a file that cannot be used is a note."""
    declared = platform.clusters.get(cluster)
    endpoint = declared.servers.kubernetes if declared else None
    if endpoint is None:
        return ApiServer()
    if not endpoint.ca_file:
        return ApiServer(endpoint.url)
    try:
        return ApiServer(endpoint.url, read_authorities(endpoint.ca_file))
    except PilothouseError as failure:
        return ApiServer(
            endpoint.url, note=f"the authority of {cluster}'s API server is not known to the portal: {failure.message}"
        )


def claim(desk: Desk, platform: Platform, token: str, grant_id: str, csr: str, vault_token: str = "") -> Issued:
    """The certificate of an approved request; the signer decides, once. Who approved it is told, and everybody of that
    of a break-glass. `vault_token` is the caller's own at the cluster's Vault, where that signs."""
    found = desk.signer.sign(token, csr, grant_id=grant_id, vault_token=vault_token, address=desk.caller)
    grant = grant_rows.get(desk.store, grant_id)
    if grant and grant.break_glass:
        tell_everybody(desk, platform, grant, "claimed")
    elif grant:
        _tell_of(desk, platform, grant, found.user, "claimed")
    return found


@dataclass(frozen=True, slots=True)
class Mine:
    """A person's certificates (living ones first) and requests, deadlines taken into account."""

    certificates: tuple[certificate_rows.Certificate, ...]
    grants: tuple[Grant, ...]


def on_cluster(store: Store, requests: Iterable[Grant], now: datetime) -> dict[str, Shown]:
    """How the bindings of these requests stand on their clusters, by the request's id."""
    listed = tuple(requests)
    found = elevations.of(store, (grant.id for grant in listed))
    return {grant.id: elevation_state.shown(grant, found.get(grant.id), now) for grant in listed}


def mine(store: Store, person: Person, now: datetime) -> Mine:
    rows = certificate_rows.of_user(store, person.user)
    alive = [row for row in rows if row.is_alive(now)]
    ended = [row for row in rows if not row.is_alive(now)]
    requests = tuple(grants.settle(grant, now) for grant in grant_rows.find(store, person.user))
    return Mine((*alive, *ended[:20]), requests)


# ---------------------------------------------------------------- elevation


@dataclass(frozen=True, slots=True)
class Told:
    """A grant after a step, and why somebody could not be told about it ("" where all were)."""

    grant: Grant
    untold: str = ""


def request(
    desk: Desk,
    platform: Platform,
    person: Person,
    profile_name: str,
    cluster: str,
    reason: str,
    seconds: int,
    now: datetime,
    ticket: str = "",
) -> Told:
    """Ask for an elevated profile; its approvers are told."""
    profile = profile_named(platform, profile_name)
    _require(may(person, Action.ELEVATE, profile, platform))
    lock_rows.require_unlocked(desk.store, (person.user,), now)
    if cluster not in platform.clusters:
        raise Invalid(f"there is no cluster `{cluster}`", one_of(platform.clusters))
    check_elevation(profile, platform.clusters[cluster])  # nobody should agree to what can then not be signed
    lasts = seconds or profile.lifetime
    grant = grants.request(desk.new_id(), person.user, profile, cluster, reason, lasts, now, ticket)
    grant_rows.add(desk.store, grant)
    if grant.break_glass:
        return Told(grant, tell_everybody(desk, platform, grant, "asked for"))
    if grant.state is not State.REQUESTED:
        return Told(grant)
    text = "\n".join(
        (
            f"{person.shown} asks for {profile.name} on {cluster} for {words.duration(grant.seconds)}.",
            f"Reason: {grant.what_for}",
            f"It would let them {'; '.join(item.text for item in words.may_do(profile))}.",
            f"Decide: {desk.address}/access/requests/{grant.id}"
            if desk.address
            else f"Decide: pilothouse access approve {grant.id}",
        )
    )
    approvers = addresses(desk.store, profile.approver_groups, but=person.user)
    return Told(grant, _tell(desk, Message(approvers, f"{person.shown} asks for {profile.name} on {cluster}", text)))


def approve(desk: Desk, platform: Platform, person: Person, id: str, comment: str, now: datetime) -> Told:
    """Agree to a request; who asked is told."""
    return _decide(desk, platform, person, id, comment, now, grants.approve, "approved")


def deny(desk: Desk, platform: Platform, person: Person, id: str, comment: str, now: datetime) -> Told:
    """Deny a request; who asked is told."""
    return _decide(desk, platform, person, id, comment, now, grants.deny, "denied")


def _decide(
    desk: Desk,
    platform: Platform,
    person: Person,
    id: str,
    comment: str,
    now: datetime,
    step: Callable[[Grant, str, str, datetime], Grant],
    word: str,
) -> Told:
    lock_rows.require_unlocked(desk.store, (person.user,), now)

    def checked(grant: Grant) -> Grant:
        _require(may(person, Action.APPROVE_ELEVATION, grant, platform))
        return step(grant, person.user, comment, now)

    grant = grant_rows.change(desk.store, id, checked, person.user, f"elevation.{word}", now)
    if grant.break_glass:
        return Told(grant, tell_everybody(desk, platform, grant, word))
    to = addresses_of(desk.store, platform, grant.user)
    then = f"Claim it within the hour: pilothouse access claim {grant.id}" if word == "approved" else ""
    text = "\n".join(
        line
        for line in (f"{person.shown} {word} your request for {grant.profile} on {grant.cluster}.", comment, then)
        if line
    )
    return Told(grant, _tell(desk, Message(to, f"Your request for {grant.profile} was {word}", text)))


def waiting_for(store: Store, platform: Platform, person: Person, now: datetime) -> tuple[Grant, ...]:
    """The requests that this person may decide on, the oldest first."""
    return tuple(
        grant
        for grant in reversed(grant_rows.find(store, only_open=True))
        if grant.state_at(now) is State.REQUESTED and may(person, Action.APPROVE_ELEVATION, grant, platform)
    )


@dataclass(frozen=True, slots=True)
class GivenBack:
    """What was given back, and what that means, in a sentence. `binding` is `gone` or `stands` where the worker binds
    the request, else ""."""

    id: str
    meaning: str
    binding: str = ""


def give_back(desk: Desk, platform: Platform, person: Person, id: str, now: datetime) -> GivenBack:
    """End a request or a certificate (by its serial) early."""
    grant = grant_rows.get(desk.store, id)
    if grant is not None:
        _require(may(person, Action.GIVE_BACK, grant, platform))
        (outcome,) = _outcomes(desk, (_end_request(desk, platform, person, grant, now),), person, now)
        return outcome
    found = certificate_rows.get(desk.store, id)
    if found is None:
        raise Invalid(f"there is no request or certificate `{id}`", "see `pilothouse access status`")
    _require(may(person, Action.GIVE_BACK, Certificate(found.user, found.profile), platform))
    if not found.is_alive(now):
        raise Conflict(f"certificate {id} has ended already")
    if found.grant_id and elevations.get(desk.store, found.grant_id) is not None:
        # Its binding is what gives it rights.
        return replace(give_back(desk, platform, person, found.grant_id, now), id=id)
    _end_certificate(desk.store, found.cluster, found.serial, person.user, now)
    return GivenBack(id, _meaning(found))


def give_back_all(
    desk: Desk, platform: Platform, person: Person, ids: Iterable[str], now: datetime
) -> tuple[GivenBack, ...]:
    """End several requests, and wait for all their bindings together. One that ended by itself is left out.

    Whether the person may is the caller's to ask: whoever may lock ends what is locked."""
    ended = []
    for id in ids:
        grant = grant_rows.get(desk.store, id)
        if grant is None:
            continue
        try:
            ended.append(_end_request(desk, platform, person, grant, now))
        except Conflict:
            continue
    return _outcomes(desk, ended, person, now)


def _end_request(desk: Desk, platform: Platform, person: Person, grant: Grant, now: datetime) -> Grant:
    ended = grant_rows.change(
        desk.store, grant.id, lambda found: grants.give_back(found, now), person.user, "elevation.given-back", now
    )
    if ended.break_glass:
        tell_everybody(desk, platform, ended, f"ended by {person.shown}")
    else:
        _tell_of(desk, platform, ended, person.user, str(ended.state).replace("-", " "))
    if ended.state is not State.WITHDRAWN:
        _end_certificate(desk.store, ended.cluster, ended.serial, person.user, now)
    return ended


def _outcomes(desk: Desk, ended: Sequence[Grant], person: Person, now: datetime) -> tuple[GivenBack, ...]:
    """What it means that these were ended. The worker is woken, and waited for a little: whoever gives back wants to
    know that it is over."""
    bound = tuple(elevations.of(desk.store, (grant.id for grant in ended if grant.state is not State.WITHDRAWN)))
    woken = bool(bound) and elevation_state.wake(desk.store, person.user, now)
    stand = elevation_state.wait_until_gone(desk.store, bound, desk.pause) if woken else {}
    return tuple(_outcome(desk.store, grant, grant.id in bound, stand.get(grant.id)) for grant in ended)


def _outcome(store: Store, grant: Grant, binds: bool, found: elevations.Elevation | None) -> GivenBack:
    if grant.state is State.WITHDRAWN:
        return GivenBack(grant.id, "The request was withdrawn.")
    if not binds:
        return GivenBack(grant.id, _meaning(certificate_rows.get(store, grant.serial, grant.cluster)))
    return _unbound(grant, found)


def _end_certificate(store: Store, cluster: str, serial: str, actor: str, now: datetime) -> None:
    with store.write() as connection:
        certificate_rows.end(connection, cluster, serial, certificate_rows.State.GIVEN_BACK, now)
        ledger.append(connection, Entry("certificate.given-back", actor, serial, cluster), now)


def _unbound(grant: Grant, found: elevations.Elevation | None) -> GivenBack:
    if found is not None and found.state is elevations.State.GONE:
        said = f"It is given back: its certificate has no rights on {grant.cluster} any more."
        return GivenBack(grant.id, said, "gone")
    why = found.error if found and found.error else "the worker has not answered yet"
    said = (
        f"It is recorded as given back, and its binding on {grant.cluster} still stands: {why}. The worker removes it"
        " as soon as it can; until then a copy of the key has its rights."
    )
    return GivenBack(grant.id, said, "stands")


def _meaning(found: certificate_rows.Certificate | None) -> str:
    end = f" would be accepted until {found.not_after:%Y-%m-%d %H:%M} UTC" if found else ""
    return (
        "It is recorded as given back. Delete the key, which `pilothouse access give-back` does where it lies:"
        f" Kubernetes knows no revocation, and without the webhook of locks a copy of the key{end}."
    )


# ---------------------------------------------------------------- the ledger


EVERYTHING = ledger.Filter()


@dataclass(frozen=True, slots=True)
class Entries:
    """`narrowed` is the reason why only the person's own entries are listed, "" where all are."""

    items: tuple[Recorded, ...]
    total: int
    narrowed: str = ""


def entries(
    store: Store,
    platform: Platform,
    person: Person,
    wanted: ledger.Filter = EVERYTHING,
    limit: int = 50,
    offset: int = 0,
) -> Entries:
    """The ledger's entries, the newest first; a person's own where they may not see the others'."""
    decision = may(person, Action.READ_AUDIT, None, platform)
    if not decision:
        wanted = replace(wanted, actor=person.user)
    items, total = ledger.find(store, wanted, limit, offset)
    return Entries(items, total, "" if decision else decision.why)


# ---------------------------------------------------------------- telling people


def addresses(store: Store, groups: Iterable[str], but: str = "") -> tuple[str, ...]:
    """The mail addresses of the accounts in any of these groups."""
    wanted = frozenset(groups)
    return tuple(
        user.email
        for user in users.everyone(store)
        if user.email and not user.disabled and user.name != but and wanted & user.groups
    )


def addresses_of(store: Store, platform: Platform, name: str) -> tuple[str, ...]:
    """The mail addresses of one person: of the account, else as the teams have it."""
    account = users.get(store, name)
    if account and account.email:
        return (account.email,)
    members = (member for team in platform.teams.values() for member in team.members)
    return tuple(sorted({member.email for member in members if member.user == name and member.email}))


def tell_everybody(desk: Desk, platform: Platform, grant: Grant, what: str) -> str:
    """A step of a break-glass, told to everybody concerned; why somebody could not be told, "" where all were."""
    subject, text = break_glass.told(grant, what, desk.address)
    users_ = break_glass.concerned(platform, grant.profile)
    to = (address for user in users_ for address in addresses_of(desk.store, platform, user))
    return _tell(desk, Message(tuple(dict.fromkeys(to)), subject, text))


def _tell_of(desk: Desk, platform: Platform, grant: Grant, actor: str, what: str) -> None:
    """A step of an elevation, told to whoever it concerns beside the one who took it."""
    subject, text = grants.told(grant, actor, what)
    users_ = dict.fromkeys(name for name in (grant.user, grant.decided_by) if name and name != actor)
    to = dict.fromkeys(address for name in users_ for address in addresses_of(desk.store, platform, name))
    if to:
        _tell(desk, Message(tuple(to), subject, text))


def _tell(desk: Desk, message: Message) -> str:
    """A step that was taken stays taken, even where nobody could be told: the reason is shown instead."""
    try:
        desk.notifier.tell(message)
    except PilothouseError as failure:
        return failure.message
    return ""


def _require(decision: Decision) -> None:
    if not decision:
        raise Denied(decision.why, f"ask {', '.join(decision.whom_to_ask)}" if decision.whom_to_ask else "")
