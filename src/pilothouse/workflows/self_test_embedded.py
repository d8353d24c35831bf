"""The self-test of an embedded authority: hostile requests, to the running signer and to the code that serves.

`through` sends them with an engineer's session through any door that signs: the signer's socket. What is signed
there is recorded like any certificate, for 10 minutes, and its private key is thrown away.

`by_itself` is what the signer does before it serves a cluster: the same requests and more, to the same issuance, on
a store in memory with people and requests made for it, and with an authority whose key is thrown away, so that
nothing it signs is worth anything. It also looks at the cluster's own authority.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pilothouse.access import certificates, grants, names
from pilothouse.access.certificates import Issued, Template
from pilothouse.access.escapes import LEAVING, Attempt, Outcome, Report
from pilothouse.access.grants import Grant
from pilothouse.platform.authority import Authority, Elevation
from pilothouse.platform.model import AccessProfile, Cluster, Platform, RbacRule, Scope
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, Unavailable
from pilothouse.store import Store, sessions
from pilothouse.store import grants as grant_rows
from pilothouse.store.schema import metadata
from pilothouse.store.users import User
from pilothouse.workflows.issuance import MIN_SECONDS, Ask, Issuance, Voucher
from pilothouse.workflows.self_test import hostile_requests, request

USER, OTHER, APPROVER = "pilothouse-self-test", "pilothouse-self-test-2", "pilothouse-self-test-3"
GROUP, APPROVERS = "pilothouse-self-test", "pilothouse-self-test-approvers"


class Door(Protocol):
    """`clients.signer.SignerClient`, or an issuance in this process."""

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
    ) -> Issued: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, for what, and with which key; `fields` are an ordinary request's."""

    door: Door
    token: str
    cluster: str
    profile: AccessProfile
    team: str
    key: ec.EllipticCurvePrivateKey

    def sign(self, csr: str = "", token: str | None = None, **fields: Any) -> Issued:
        given: dict[str, Any] = {
            "profile": self.profile.name,
            "cluster": self.cluster,
            "seconds": MIN_SECONDS,
            "team": self.team,
        }
        return self.door.sign(self.token if token is None else token, csr or request(self.key), **(given | fields))


def through(door: Door, platform: Platform, cluster: str, token: str) -> Report:
    """Hostile requests through the running signer, with an engineer's session."""
    key = ec.generate_private_key(ec.SECP256R1())
    why = "no standing profile holds there"
    for profile in platform.profiles.values():
        if profile.elevated or not profile.holds_on(cluster):
            continue
        try:
            issued = door.sign(token, request(key), profile=profile.name, cluster=cluster, seconds=MIN_SECONDS)
        except PilothouseError as failure:
            why = failure.message
            continue
        found = names.GroupName.parse(issued.groups[0]) if issued.groups else None
        caller = Caller(door, token, cluster, profile, found.team if found else "", key)
        return Report(cluster, "embedded", tuple(_hostile(caller, platform)))
    return Report(cluster, "embedded", untested=f"the session gets no certificate there: {why}")


def by_itself(
    authority: x509.Certificate, platform: Platform, cluster: str, others: Mapping[str, x509.Certificate], now: datetime
) -> Report:
    """What the signer tries before it serves a cluster. `others` are the authorities of the other clusters."""
    now = now.replace(microsecond=0)
    with _Scratch(platform, cluster, now) as scratch:
        caller = scratch.caller()
        try:
            caller.sign()
        except PilothouseError as failure:
            return Report(cluster, "embedded", untested=f"an ordinary request is not signed: {failure.message}")
        attempts = [*_hostile(caller, scratch.platform), *scratch.attempts(caller)]
    attempts += [*_declared(platform, cluster, now), *_authority(authority, cluster, others)]
    return Report(cluster, "embedded", tuple(attempts))


# ---------------------------------------------------------------- with a session


def _hostile(caller: Caller, platform: Platform) -> Iterator[Attempt]:
    for what, csr in hostile_requests(caller.key, "alice"):
        yield _clean(caller, what, csr)
    for what, csr in _broken(caller.key):
        yield _refused("csr", what, caller.sign, csr=csr)
    for what, key in (
        ("P-384", ec.generate_private_key(ec.SECP384R1())),
        ("RSA of 1024 bits", rsa.generate_private_key(65537, 1024)),  # noqa: S505  # it has to be refused
    ):
        yield _refused("key", what, caller.sign, csr=request(key))
    for seconds in (caller.profile.max_lifetime + 1, 10**9, 1, -1):
        yield _refused("ttl", f"{seconds} s", caller.sign, seconds=seconds)
    other_case = caller.token.swapcase()
    for what, token in (("none", ""), ("invented", "x" * 43), ("cut", caller.token[:-1]), ("case", other_case)):
        yield _refused("session", what, caller.sign, token=token)
    for profile in platform.profiles.values():
        if profile.elevated:
            yield _refused("profile", f"{profile.name} without a request", caller.sign, profile=profile.name, team="")
    for name in ("", "system:masters", *LEAVING):
        yield _refused("profile", repr(name), caller.sign, profile=name)
    for name in ("", caller.cluster.upper(), f" {caller.cluster}", f"{caller.cluster}/x", *LEAVING):
        yield _refused("cluster", repr(name), caller.sign, cluster=name)
    for name in ("pilothouse-no-such-team", "system:masters", f"{caller.team}x", "*"):
        yield _refused("team", name, caller.sign, team=name)
    for name in ("g-no-such-request", "' OR 1=1 --", "../x"):
        yield _refused("request", repr(name), caller.sign, grant_id=name)


def _clean(caller: Caller, tried: str, csr: str) -> Attempt:
    """What a signing request asks for: signed, with only the key of it."""
    try:
        issued = caller.sign(csr=csr)
        leaf = x509.load_pem_x509_certificate(issued.pem.encode())
        authority = x509.load_pem_x509_certificate(issued.authority.encode())
    except (Denied, Invalid, Conflict) as refused:
        return Attempt("csr", tried, Outcome.REFUSED, refused.message)
    except (PilothouseError, ValueError) as failure:
        return Attempt("csr", tried, Outcome.UNTRIED, str(failure))
    begin = leaf.not_valid_before_utc + certificates.BACKDATE
    latest = begin + timedelta(seconds=MIN_SECONDS + 60)
    groups = names.groups_for(caller.profile, (caller.team,) if caller.team else ())
    wanted = Template(issued.user, groups, caller.key.public_key(), 1, begin, latest)
    excess = [problem.message for problem in certificates.verify_issued(leaf, wanted, authority)]
    if excess:
        return Attempt("csr", tried, Outcome.OPEN, "; ".join(excess), issued.serial)
    return Attempt("csr", tried, Outcome.HARMLESS, "signed, with nothing of it in the certificate", issued.serial)


def _broken(key: ec.EllipticCurvePrivateKey) -> Iterator[tuple[str, str]]:
    whole = request(key)
    lines = whole.splitlines()
    middle = lines[2]
    turned = middle[:10] + ("A" if middle[10] != "A" else "B") + middle[11:]
    yield "not signed by its own key", "\n".join([*lines[:2], turned, *lines[3:]])
    yield "two requests", whole + whole
    yield "nothing", "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"
    yield "larger than any", whole + " " * 10_000


def _refused(escape: str, tried: str, call: Callable[..., Issued], **fields: Any) -> Attempt:
    try:
        issued = call(**fields)
    except (Denied, Invalid, Conflict) as refused:
        return Attempt(escape, tried, Outcome.REFUSED, refused.message)
    except PilothouseError as failure:
        return Attempt(escape, tried, Outcome.UNTRIED, failure.message)
    return Attempt(escape, tried, Outcome.OPEN, f"signed for {issued.user}: {', '.join(issued.groups)}", issued.serial)


# ---------------------------------------------------------------- on a store of its own


class _Throwaway:
    """`workflows.issuance.Authorities` with a key that nobody keeps; it signs by the code that signs in earnest."""

    def __init__(self, now: datetime) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = certificates.create_authority("pilothouse self-test", self._key, 1, now)

    def certificate(self, cluster: str) -> x509.Certificate:
        return self._certificate

    def trusted(self, cluster: str) -> tuple[x509.Certificate, ...]:
        return (self._certificate,)

    def sign(self, cluster: str, template: Template, voucher: Voucher) -> x509.Certificate:
        return certificates.sign(template, self._certificate, self._key)


class _Scratch:
    """An issuance on a database in memory, with a standing and an elevated profile and people who hold them."""

    def __init__(self, platform: Platform, cluster: str, now: datetime) -> None:
        rules = (RbacRule(("",), ("pods",), ("get",)),)
        self._standing = AccessProfile(
            "self-test", "Self-test", "", (GROUP,), rules, Scope.CLUSTER, lifetime=MIN_SECONDS, max_lifetime=3600
        )
        self._elevated = replace(
            self._standing,
            name="self-test-elevated",
            groups=(GROUP, APPROVERS),
            elevated=True,
            approval=True,
            approver_groups=(APPROVERS,),
        )
        # No worker looks into the store of the test, so nothing is bound for it: its claims would wait in vain.
        declared = replace(platform.clusters[cluster], authority=Authority("embedded"), elevation=Elevation())
        self._cluster: Cluster = declared
        self.platform = Platform(
            clusters={cluster: declared}, profiles={item.name: item for item in (self._standing, self._elevated)}
        )
        self._now = now
        self._store = Store("sqlite://")
        serials = count(1)
        self._issuance = Issuance(
            self._store, lambda: self.platform, _Throwaway(now), lambda: now, lambda: next(serials), lambda _head: None
        )

    def __enter__(self) -> _Scratch:
        with self._store.write() as connection:
            metadata.create_all(connection)
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def sign(self, token: str, csr: str, **fields: Any) -> Issued:
        try:
            return self._issuance.issue(Ask(token, csr, **fields))
        except PilothouseError:
            raise
        except Exception as failure:  # the signer answers so too, and a mistake is no refusal
            raise Unavailable(f"the issuance made a mistake: {failure!r}") from failure

    def caller(self, name: str = USER, *groups: str) -> Caller:
        token = self._session(name, *(groups or (GROUP,)))
        return Caller(self, token, self._cluster.name, self._standing, "", ec.generate_private_key(ec.SECP256R1()))

    def _session(self, name: str, *groups: str) -> str:
        return sessions.start(self._store, User(name, groups=frozenset(groups)), self._now, kind="token")[0]

    def attempts(self, caller: Caller) -> Iterator[Attempt]:
        """What needs people and requests of its own."""
        other = self.caller(OTHER)
        yield _refused("key-reuse", "the key of another user", other.sign, csr=request(caller.key))
        for name in ("system:admin", "SYSTEM:masters", "x,system:masters", "kube\nadmin", ""):
            yield _refused("system", f"a user {name!r}", self.caller(name).sign)
        nobody = self.caller("nobody-of-the-self-test", "other")
        yield _refused("profile", "a profile of others", nobody.sign)
        ended = sessions.start(self._store, User(USER, groups=frozenset((GROUP,))), self._now - timedelta(days=2))[0]
        yield _refused("session", "ended", caller.sign, token=ended)
        yield from self._requests(caller, other)

    def _requests(self, caller: Caller, other: Caller) -> Iterator[Attempt]:
        """A request by hand in the database, as somebody who can write it would put it there."""
        soon = self._now + timedelta(minutes=10)
        approved: dict[str, Any] = {"state": grants.State.APPROVED, "deadline": soon, "decided_at": self._now}
        for what, who, fields in (
            ("not decided on", USER, {"deadline": soon}),
            ("approved by nobody", USER, approved),
            ("approved by who asked", USER, approved | {"decided_by": USER}),
            ("approved by a stranger", USER, approved | {"decided_by": "nobody-of-the-self-test"}),
            ("lapsed", USER, approved | {"decided_by": OTHER, "deadline": self._now - timedelta(seconds=1)}),
            ("for longer than the profile", USER, approved | {"decided_by": OTHER, "seconds": 10**6}),
            ("of somebody else", OTHER, approved | {"decided_by": USER}),
        ):
            id = f"g-{what.replace(' ', '-')}"
            values = {"seconds": MIN_SECONDS, **fields}
            seconds = values.pop("seconds")
            cluster = self._cluster.name
            grant = Grant(id, who, self._elevated.name, cluster, "a self-test", seconds, self._now, **values)
            with self._store.write() as connection:
                grant_rows.put(connection, grant)
            yield _refused("request", what, caller.sign, grant_id=id, profile="", team="")
        yield self._twice(caller, approved)

    def _twice(self, caller: Caller, approved: Mapping[str, Any]) -> Attempt:
        """A good request: claimed, and claimed again."""
        self._session(APPROVER, APPROVERS)
        grant = Grant(
            "g-good", USER, self._elevated.name, self._cluster.name, "a self-test", MIN_SECONDS, self._now, **approved
        )
        with self._store.write() as connection:
            grant_rows.put(connection, replace(grant, decided_by=APPROVER))
        try:
            caller.sign(grant_id="g-good", profile="", team="")
        except PilothouseError as failure:
            return Attempt("request", "claimed twice", Outcome.UNTRIED, f"nor once: {failure.message}")
        return _refused("request", "claimed twice", caller.sign, grant_id="g-good", profile="", team="")


# ---------------------------------------------------------------- what is declared, and the authority itself


def _declared(platform: Platform, cluster: str, now: datetime) -> Iterator[Attempt]:
    """The groups that each declared profile would have signed."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    for profile in platform.profiles.values():
        if not profile.holds_on(cluster):
            continue
        found = names.groups_for(profile, tuple(platform.teams) or ("team",))
        template = Template(USER, found, key, 1, now, now + timedelta(hours=1))
        try:
            certificates.check(template)
        except Invalid as refused:
            yield Attempt("system", f"the groups of {profile.name}", Outcome.REFUSED, refused.message)
        else:
            yield Attempt("system", f"the groups of {profile.name}", Outcome.HARMLESS, "they are groups of ours")


def _authority(authority: x509.Certificate, cluster: str, others: Mapping[str, x509.Certificate]) -> Iterator[Attempt]:
    for what, wrong in (
        ("another authority below it", not _signs_leaves_only(authority)),
        *(
            (f"the key of {name}", authority.public_key() == other.public_key())
            for name, other in others.items()
            if name != cluster
        ),
    ):
        how = "it allows that" if wrong else "it does not allow that"
        yield Attempt("authority", what, Outcome.OPEN if wrong else Outcome.REFUSED, how)


def _signs_leaves_only(authority: x509.Certificate) -> bool:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and constraints.path_length == 0
