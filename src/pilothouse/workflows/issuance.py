"""Issuance: who asks is checked, the intent is recorded durably, then it is signed, verified and recorded again.

It runs in the signer's process. Nothing that the portal says about a person is believed: session, groups,
profile, request and approver are read from the store and the declarations each time. Where any of them
cannot be read, or the ledger cannot be written, nothing is signed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509

from pilothouse.access import certificates, grants, names
from pilothouse.access import vault as vault_names
from pilothouse.access.certificates import Issued, Template
from pilothouse.access.csr import Request, parse
from pilothouse.access.elevation import group_of
from pilothouse.access.grants import Grant, State
from pilothouse.access.ledger import Entry, Head
from pilothouse.access.permissions import Action, Decision, Person, may
from pilothouse.access.words import duration
from pilothouse.platform.model import AccessProfile, Cluster, Platform, Scope
from pilothouse.problems import Denied, Invalid, PilothouseError, Unavailable, nearest, one_of
from pilothouse.store import Connection, Store, elevations, sessions
from pilothouse.store import certificates as certificate_rows
from pilothouse.store import grants as grant_rows
from pilothouse.store import locks as lock_rows
from pilothouse.store.group_commit import GroupCommit
from pilothouse.store.ledger import Appending
from pilothouse.store.sessions import Session
from pilothouse.store.users import MACHINE
from pilothouse.workflows import elevation_state
from pilothouse.workflows.people import LookUp, People

MIN_SECONDS = 600
LEAST_LEFT = 60
"""A login that ends within so many seconds gets no further certificate."""
SKEW = timedelta(seconds=60)
"""How far the clock of another server (an authority, a portal on another machine) may be ahead of ours."""


@dataclass(frozen=True, slots=True)
class Voucher:
    """What Vault wants to see: the signing request itself, the role to sign under, and the engineer's own token.

    Without a role it is for the `request` that was claimed, which has one of its own. The embedded authorities need
    none of it. It shows in no text.
    """

    csr: str = field(default="", repr=False)
    role: str = ""
    token: str = field(default="", repr=False)
    request: str = ""


class Authorities(Protocol):
    """Who signs: the embedded authorities, or Vault. May raise any of our exceptions."""

    def certificate(self, cluster: str) -> x509.Certificate:
        """The cluster's authority."""
        ...

    def trusted(self, cluster: str) -> tuple[x509.Certificate, ...]:
        """What the cluster's API servers are to trust: more than that one while it is being rotated."""
        ...

    def sign(self, cluster: str, template: Template, voucher: Voucher) -> x509.Certificate:
        """The leaf, signed by that cluster's authority."""
        ...


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for: a profile on a cluster, or the claim of a request that was approved.

    `seconds` 0 means as long as the profile gives by itself. `token` is that of the engineer's session, `vault_token`
    their own at the cluster's Vault, which is used for this request and kept nowhere. `team` narrows a profile that
    holds in teams' namespaces to one of them. `address` is from where it was asked, as the portal says: it is recorded
    and decides nothing.
    """

    token: str = field(repr=False)
    csr: str = field(repr=False)
    cluster: str = ""
    profile: str = ""
    grant_id: str = ""
    seconds: int = 0
    team: str = ""
    vault_token: str = field(default="", repr=False)
    address: str = ""

    @property
    def origin(self) -> str:
        """The address as it can be recorded; "" where it is none."""
        return self.address if len(self.address) <= 64 and self.address.isprintable() else ""


@dataclass(frozen=True, slots=True)
class Issuance:
    """`platform` gives the declarations as they are now; `exported` is told the head of the ledger after each
    transaction, of which several issuances may share one; `look_up` asks the directory, where one is set."""

    store: Store
    platform: Callable[[], Platform]
    authorities: Authorities
    clock: Callable[[], datetime]
    serial: Callable[[], int]
    exported: Callable[[Head], None]
    pause: Callable[[float], None] = time.sleep
    """Between two looks at whether the worker has bound a request."""
    look_up: LookUp | None = None
    _together: GroupCommit = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_together", GroupCommit(self.store, self.exported))

    @property
    def _people(self) -> People:
        return People(self.store, self.look_up)

    def issue(self, ask: Ask) -> Issued:
        """The certificate. Raises `Denied`, `Invalid`, `Conflict` or `Unavailable`; then nothing was handed out."""
        now = self.clock().replace(microsecond=0)  # X.509 knows whole seconds
        platform = self.platform()
        asking = self._people.asking(ask.token, now)
        grant = self._grant(ask.grant_id) if ask.grant_id else None
        by_name = grant is not None and _is_break_glass(platform, grant)
        person = self._people.asker(platform, asking, by_name)
        request = parse(ask.csr)
        if grant:
            profile = self._claimable(platform, person, grant, now)
            cluster, seconds = grant.cluster, grant.seconds
        else:
            profile = _profile(platform, ask.profile)
            cluster, seconds = ask.cluster, ask.seconds or profile.leaf
            _require(may(person, Action.REQUEST, profile, platform))
            _check_seconds(profile, seconds)
        lasts = profile.lifetime if self._people.asks_again(asking) else profile.renewal
        renewed_until = _renewed_until(profile, asking.session, lasts)
        if renewed_until:
            seconds = _within(profile, renewed_until, seconds, now, lasts)
        _check_cluster(platform, profile, cluster)
        by_vault = platform.clusters[cluster].authority.backend == "vault"
        teams = _teams(platform, person, profile, cluster, ask.team)
        if by_vault:
            _check_vault(profile, platform.clusters[cluster], teams, ask)
        binds = bool(ask.grant_id) and platform.clusters[cluster].binds_requests
        template = Template(
            user=person.user,
            groups=(group_of(ask.grant_id),) if binds else names.groups_for(profile, teams),
            public_key=request.public_key,
            serial=self.serial(),
            now=now,
            not_after=now + timedelta(seconds=seconds),
        )
        certificates.check(template)
        authority = self.authorities.certificate(cluster)
        bound_for = teams if binds else None
        self._record_intent(template, profile, cluster, request, ask, bound_for, person.machine)
        try:
            if binds:
                # Before the signature: a cluster that does not bind costs the person nothing but another claim.
                elevation_state.wake(self.store, person.user, self.clock())
                elevation_state.wait_until_bound(self.store, ask.grant_id, cluster, self.pause)
            role = vault_names.role_name(profile, teams[0] if teams else "") if by_vault and not binds else ""
            voucher = Voucher(ask.csr, role, ask.vault_token, ask.grant_id)
            leaf = self.authorities.sign(cluster, template, voucher)
            latest = template.not_after + (SKEW if by_vault else timedelta())
            differences = certificates.verify_issued(leaf, replace(template, not_after=latest), authority)
            if differences:
                raise Unavailable(
                    f"the authority of {cluster} signed something else: {differences[0].message}",
                    "nothing was handed out; tell the platform team",
                )
        except PilothouseError as failure:
            self._record_failure(template, cluster, ask.grant_id, failure.message, now)
            if binds:  # what was bound, or will be by a request that is on its way, is taken back
                elevation_state.wake(self.store, person.user, self.clock())
            raise
        issued = Issued(
            cluster=cluster,
            user=person.user,
            profile=profile.name,
            groups=template.groups,
            serial=str(leaf.serial_number),
            fingerprint=certificates.fingerprint(leaf),
            not_after=leaf.not_valid_after_utc,
            pem=certificates.pem(leaf),
            authority=certificates.pem(authority),
            grant_id=ask.grant_id,
            renewed_until=renewed_until,
        )
        self._record_issued(issued, str(template.serial), now)
        return issued

    # ------------------------------------------------------------ elevated profiles

    def _grant(self, id: str) -> Grant:
        grant = grant_rows.get(self.store, id)
        if grant is None:
            raise Invalid(f"there is no request `{id}`", "see `pilothouse access status`")
        return grant

    def _claimable(self, platform: Platform, person: Person, grant: Grant, now: datetime) -> AccessProfile:
        """The profile of the request, after everything that was true at the approval was checked again."""
        _require(may(person, Action.CLAIM, grant, platform))
        _check_clocks(grant, now)
        profile = platform.profiles[grant.profile]
        if grant.break_glass != bool(profile.break_glass):
            raise Denied(f"{profile.name} was changed since it was asked for", "make a new request")
        grants.check_seconds(profile, grant.seconds)
        grants.claim(grant, "", now)  # raises where it is not approved, or lapsed
        if profile.approval:
            if not grant.decided_by:
                raise Denied(f"request {grant.id} was approved by nobody, and {profile.name} wants that now")
            approver = self._people.approver(platform, grant.decided_by, now, grant.break_glass)
            decision = may(approver, Action.APPROVE_ELEVATION, grant, platform)
            if not decision:
                raise Denied(
                    f"the approval of {approver.user} does not count any more: {decision.why}",
                    "make a new request",
                )
        return profile

    # ------------------------------------------------------------ the records

    def _record_intent(
        self,
        template: Template,
        profile: AccessProfile,
        cluster: str,
        request: Request,
        ask: Ask,
        bound_for: tuple[str, ...] | None,
        machine: bool = False,
    ) -> None:
        """`bound_for` are the teams for which the worker is to bind the request; None where bindings stand."""
        serial, grant_id, session = str(template.serial), ask.grant_id, sessions.hashed(ask.token)

        def record(connection: Connection, entries: Appending) -> None:
            # Here and not earlier: what was locked before the intent is never signed.
            lock_rows.refuse(connection, template.user, session, request.spki_sha256, template.now)
            if certificate_rows.is_of_another_user(connection, request.spki_sha256, template.user):
                raise Denied(
                    "this key was used for another user before",
                    "make a new key: `pilothouse access cert` makes one each time",
                )
            if grant_id:
                # Decided again under the lock: of two claims at once one gets the certificate.
                claimed = grants.claim(grant_rows.locked(connection, grant_id), serial, template.now)
                grant_rows.save(connection, claimed)
                if bound_for is not None:
                    elevations.want(connection, grant_id, cluster, serial, bound_for)
                if claimed.break_glass:
                    broken = {"profile": profile.name, "serial": serial, "agreed": claimed.decided_by}
                    entry = Entry("break-glass.claimed", template.user, grant_id, cluster, broken)
                    entries.append(entry, template.now)
            certificate_rows.add(
                connection,
                certificate_rows.Certificate(
                    cluster=cluster,
                    serial=serial,
                    user=template.user,
                    profile=profile.name,
                    groups=template.groups,
                    key_sha256=request.spki_sha256,
                    asked_at=template.now,
                    not_after=template.not_after,
                    grant_id=grant_id,
                    session=session,
                    address=ask.origin,
                ),
            )
            data: dict[str, object] = {
                "groups": list(template.groups),
                "key": request.spki_sha256,
                "not_after": template.not_after.isoformat(),
                "profile": profile.name,
                "request": grant_id,
            }
            if machine:
                data["machine"] = True
            if ask.origin:
                data["address"] = ask.origin
            entries.append(Entry("certificate.intent", template.user, serial, cluster, data), template.now)

        self._together.write(record)

    def _record_failure(self, template: Template, cluster: str, grant_id: str, why: str, now: datetime) -> None:
        serial = str(template.serial)

        def record(connection: Connection, entries: Appending) -> None:
            certificate_rows.end(connection, cluster, serial, certificate_rows.State.FAILED, now)
            if grant_id:
                grant = grant_rows.locked(connection, grant_id)
                if grant.state is State.CLAIMED and grant.serial == serial:  # not given back meanwhile
                    reopened = replace(
                        grant, state=State.APPROVED, claimed_at=None, serial="", deadline=now + grants.CLAIM_WITHIN
                    )
                    grant_rows.save(connection, reopened)
            entries.append(Entry("certificate.failed", template.user, serial, cluster, {"why": why}), now)

        self._together.write(record)

    def _record_issued(self, issued: Issued, intent: str, now: datetime) -> None:
        """Vault chooses serials itself: `intent` is the one under which the intent was recorded."""
        data = {
            "fingerprint": issued.fingerprint,
            "not_after": issued.not_after.isoformat(),
            "profile": issued.profile,
            "request": issued.grant_id,
        } | ({"intent": intent} if intent != issued.serial else {})
        entry = Entry("certificate.issued", issued.user, issued.serial, issued.cluster, data)

        def record(connection: Connection, entries: Appending) -> None:
            certificate_rows.issued(
                connection, issued.cluster, intent, issued.fingerprint, issued.not_after, issued.pem, issued.serial
            )
            entries.append(entry, now)

        self._together.write(record)


def _profile(platform: Platform, name: str) -> AccessProfile:
    profile = platform.profiles.get(name)
    if profile is None:
        raise Invalid(f"there is no profile `{name}`", nearest(name, platform.profiles) or one_of(platform.profiles))
    return profile


def _is_break_glass(platform: Platform, grant: Grant) -> bool:
    profile = platform.profiles.get(grant.profile)
    return grant.break_glass and profile is not None and bool(profile.break_glass)


def _check_cluster(platform: Platform, profile: AccessProfile, cluster: str) -> None:
    declared = platform.clusters.get(cluster)
    if declared is None:
        raise Invalid(
            f"there is no cluster `{cluster}`", nearest(cluster, platform.clusters) or one_of(platform.clusters)
        )
    if not profile.holds_on(cluster):
        raise Denied(f"profile {profile.name} does not hold on cluster {cluster}", one_of(profile.clusters))


def _check_seconds(profile: AccessProfile, seconds: int) -> None:
    if not MIN_SECONDS <= seconds <= profile.longest_leaf:
        renewed = ", and is renewed without a question" if profile.renewal else ""
        raise Invalid(
            f"a certificate of {profile.name} lasts {duration(MIN_SECONDS)} to"
            f" {duration(profile.longest_leaf)}{renewed},"
            f" not {duration(max(seconds, 0))}",
            f"leave the duration out for {duration(profile.leaf)}",
        )


def _renewed_until(profile: AccessProfile, session: Session, lasts: int) -> datetime | None:
    """Until when a login keeps getting certificates of a profile with `renewal`; None for any other.

    `lasts` is for how many seconds the login counts: what `renewal` promises of a group that was taken away is held
    by another login where nobody can be asked for the groups of now.
    """
    if not profile.renewal or session.kind == MACHINE:
        return None  # a machine asks again each time, as long as its token is good
    return min(session.expires_at, session.created_at + timedelta(seconds=lasts)).replace(microsecond=0)


def _within(profile: AccessProfile, end: datetime, seconds: int, now: datetime, lasts: int) -> int:
    """No certificate of a profile with `renewal` outlives the login that it was got by."""
    left = int((end - now).total_seconds())
    if left < LEAST_LEFT:
        again = "" if lasts == profile.lifetime else ": no directory says which groups you are in now"
        raise Denied(
            f"{profile.name} lasts {duration(lasts)} from the login, and that is over{again}",
            "log in again: `pilothouse access login`" if not again else "log in again as you did",
        )
    return min(seconds, left)


def _teams(platform: Platform, person: Person, profile: AccessProfile, cluster: str, wanted: str) -> tuple[str, ...]:
    """The teams in whose namespaces the certificate will hold; none where the profile holds otherwise."""
    if profile.scope is not Scope.TEAM_NAMESPACES:
        if wanted:
            raise Invalid(f"{profile.name} does not hold in the namespaces of teams", "leave the team out")
        return ()
    teams = tuple(team for team in sorted(person.teams) if platform.namespaces_of(team, cluster))
    if not teams:
        raise Denied(f"none of your teams has a service on cluster {cluster}, so {profile.name} would hold nowhere")
    if wanted and wanted not in teams:
        raise Denied(f"team {wanted} is none of yours with a service on cluster {cluster}", one_of(teams))
    return (wanted,) if wanted else teams


def _check_clocks(grant: Grant, now: datetime) -> None:
    """A request from the future was written by a clock that is not ours: for how long it holds is not known then."""
    latest = max(moment for moment in (grant.requested_at, grant.decided_at) if moment is not None)
    if latest - now > SKEW:
        raise Unavailable(
            f"the clock of the signer is {int((latest - now).total_seconds())} s behind the one by which request"
            f" {grant.id} was written",
            "set the clocks of portal and signer by one time server, then claim again",
        )


def _check_vault(profile: AccessProfile, cluster: Cluster, teams: tuple[str, ...], ask: Ask) -> None:
    """What Vault cannot sign is said before anything is recorded."""
    if profile.elevated:
        check_elevation(profile, cluster)
    elif len(teams) > 1:
        raise Invalid(
            f"Vault signs one group at a time on cluster {cluster.name}: for which of your teams?",
            f"pilothouse access cert {profile.name} --cluster {cluster.name} --team {teams[0]}; {one_of(teams)}",
        )
    if not ask.vault_token:
        again = f"claim {ask.grant_id}" if ask.grant_id else f"cert {profile.name} --cluster {cluster.name}"
        raise Denied(
            f"Vault signs for cluster {cluster.name}, and no login there came with the request",
            f"pilothouse access login && pilothouse access {again}",
        )


def check_elevation(profile: AccessProfile, cluster: Cluster) -> None:
    """`Invalid` where nobody could sign for a request: an elevated profile has no role in Vault that stands, and the
    worker, which writes one for each request, has no login there."""
    if cluster.authority.backend != "vault" or (cluster.binds_requests and cluster.elevation.vault_secret_file):
        return
    raise Invalid(
        f"{profile.name} cannot be had on cluster {cluster.name}: Vault signs there, and the worker writes no roles for"
        " requests",
        "the platform team sets `elevation` with `account` and `vaultSecretFile` in the Cluster document",
    )


def _require(decision: Decision) -> None:
    if not decision:
        ask = f"ask {', '.join(decision.whom_to_ask)}" if decision.whom_to_ask else ""
        raise Denied(decision.why, ask)
