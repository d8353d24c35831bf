"""What a log certainly shows: each is an error by itself, with no score and no baseline.

The store finds the candidates, one for each certificate, request or object; what they mean is decided here. A message
holds nothing that grows while the log is read on, so that a finding stays the same finding.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from pilothouse.access import elevation
from pilothouse.access.audit.model import ClusterRecord, Kind, Span, VaultRecord
from pilothouse.access.names import SYSTEM_PREFIX, is_system
from pilothouse.labels import GROUP_PREFIX
from pilothouse.problems import Problem, error, warning

SKEW = timedelta(seconds=5)
"""How far the clocks of the API server and ours may be apart before a use counts as one after the end."""
SETTLE = timedelta(seconds=20)
"""A signature this young may not have reached our ledger yet."""
_AUTHENTICATED = "system:authenticated"
_CONTROL_PLANE = ("system:kube-controller-manager", "system:kube-scheduler", "system:apiserver", "system:kube-proxy")
_NODES = "system:nodes"
_MASTERS = "system:masters"
_ACCOUNTS = "system:serviceaccount:"
_BINDINGS = ("rolebindings", "clusterrolebindings")
_RBAC = ("roles", "rolebindings", "clusterroles", "clusterrolebindings")
_WRITES = ("create", "update", "patch", "delete", "deletecollection")
_NAMED = re.compile(r"access audit expected (a-[0-9a-f]{10}) ")
_SIGNING = ("sign", "issue", "sign-verbatim", "sign-intermediate", "sign-self-issued", "generate", "root", "issuer")


@dataclass(frozen=True, slots=True)
class Found:
    """A finding with the id by which somebody may call it expected, and whose doing it is, "" where that is unknown."""

    id: str
    problem: Problem
    who: str = ""


@dataclass(frozen=True, slots=True)
class Ours:
    """A certificate that we issued, and when it stopped being good (`why`: given back, or its account was closed)."""

    user: str
    serial: str
    ended_at: datetime
    why: str


def id_of(*parts: str) -> str:
    """A short name for what the parts say together."""
    return f"a-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:10]}"


# ---------------------------------------------------------------- which records matter


def is_of_use(record: ClusterRecord) -> bool:
    """Whether a record of the API server is kept: our people, Kubernetes' own names on a certificate, and RBAC of ours.

    The rest is the cluster talking to itself, which is nearly all of a log.
    """
    return is_ours(record) or bears_system_name(record) or changes_ours(record)


def is_ours(record: ClusterRecord) -> bool:
    return any(group.startswith(GROUP_PREFIX) for group in record.groups)


def bears_system_name(record: ClusterRecord) -> bool:
    """Whether a client certificate gave one of Kubernetes' own names, and not to a part of the cluster itself."""
    names = [name for name in (record.user, *record.groups) if is_system(name) and name != _AUTHENTICATED]
    if not names:
        return False
    if is_ours(record):
        return not record.user.startswith(_ACCOUNTS)
    if not record.fingerprint:
        return False
    if record.user.startswith("system:node:") and _NODES in record.groups and _MASTERS not in record.groups:
        return False
    return not (record.user in _CONTROL_PLANE and _MASTERS not in record.groups)


def changes_ours(record: ClusterRecord) -> bool:
    """Whether it changed a role or binding that bears a name of ours; `deletecollection` has no name and may have."""
    base, _, group = record.resource.partition("/")[0].partition(".")
    return (
        group == "rbac.authorization.k8s.io"
        and base in _RBAC
        and record.verb in _WRITES
        and record.stage == "ResponseComplete"
        and 200 <= record.code < 300
        and (record.name.startswith(GROUP_PREFIX) or record.verb == "deletecollection")
        and "dryRun=All" not in record.uri
    )


def signs(record: VaultRecord, mounts: Iterable[str]) -> bool:
    """Whether Vault signed, or made, a certificate of one of these mounts, and said so."""
    below = record.path.removeprefix(f"{record.mount}/").split("/")
    if below[0] == "issuer" and len(below) > 2:
        below = below[2:]
    return (
        record.type == "response"
        and not record.error
        and record.mount in mounts
        and below[0] in _SIGNING
        and bool(record.serial or record.fingerprint or record.hidden)
    )


# ---------------------------------------------------------------- what they mean


def unknown(cluster: str, uses: Iterable[ClusterRecord]) -> Iterator[Found]:
    """Certificates with groups of ours that we have no record of; one use of each is given, the first."""
    for use in uses:
        ours = ", ".join(group for group in use.groups if group.startswith(GROUP_PREFIX))
        yield found(
            "access/unknown-certificate",
            cluster,
            use.fingerprint,
            f"{use.user} used a certificate on {cluster} that was never issued here:"
            f" SHA-256 {use.fingerprint[:16]}, groups {ours}, first in audit {use.audit_id}",
            "the authority's key may be in other hands: remove it from the API server's client CAs, then see"
            f" `pilothouse access audit show {use.audit_id}`",
            who=use.user,
        )


def past_portal(cluster: str, signatures: Iterable[VaultRecord]) -> Iterator[Found]:
    """Certificates that Vault signed and that we have no record of."""
    for item in signatures:
        what = f"serial {item.serial}" if item.serial else f"request {item.request_id}"
        yield found(
            "access/signed-past-portal",
            cluster,
            item.request_id,
            f"{item.user or 'somebody'} had Vault sign {item.common_name or 'a certificate'} for {cluster}"
            f" at {item.path}, past the portal: {what}, from {item.address or 'an unknown address'}",
            "end their login and lock them, then ask; Vault cannot withdraw a certificate that an API server accepts."
            f" See `pilothouse access audit show {item.request_id}`",
            who=item.user,
        )


def hidden_serials(cluster: str, mounts: Iterable[str]) -> Iterator[Found]:
    for mount in mounts:
        problem = warning(
            "access/vault-audit-hides-serials",
            f"Vault's audit log hides the serials that {mount} signs, so signatures past the portal cannot be told",
            hint=f"run `pilothouse access vault apply {cluster}`, which sets what the log shows in the clear",
            cluster=cluster,
        )
        yield Found(id_of(problem.code, cluster, mount), problem)


def used_late(cluster: str, uses: Iterable[tuple[ClusterRecord, Ours]]) -> Iterator[Found]:
    """Certificates that were used after their end; one use of each is given, the first after it."""
    for use, ours in uses:
        yield found(
            "access/used-after-end",
            cluster,
            f"{ours.serial}\0{ours.why}",
            f"the certificate {ours.serial} of {ours.user} was used on {cluster} after {ours.why}"
            f" at {ours.ended_at:%Y-%m-%d %H:%M:%S} UTC, first in audit {use.audit_id}",
            "a copy of the key is about, or the account was closed too late: remove the binding of its group,"
            f" then see `pilothouse access audit show {ours.serial}`",
            who=ours.user,
        )


def system_names(cluster: str, uses: Iterable[ClusterRecord]) -> Iterator[Found]:
    """Kubernetes' own names on client certificates of the API server's log, once for each certificate."""
    for use in uses:
        names = sorted({name for name in (use.user, *use.groups) if is_system(name)} - {_AUTHENTICATED})
        yield found(
            "access/system-name-used",
            cluster,
            use.fingerprint or use.user,
            f"{use.user} came to {cluster} with {', '.join(names)} in a client certificate"
            f" ({use.fingerprint[:16] or 'no fingerprint'}), first in audit {use.audit_id}",
            "nothing of ours bears such a name, and `system:masters` passes every check: find out whose it is",
            who=use.user,
        )


def system_signatures(cluster: str, signatures: Iterable[VaultRecord]) -> Iterator[Found]:
    for item in signatures:
        if item.common_name.strip().lower().startswith(SYSTEM_PREFIX):
            yield found(
                "access/system-name-used",
                cluster,
                item.request_id,
                f"{item.user or 'somebody'} had Vault sign {item.common_name} for {cluster} at {item.path}",
                "no role of ours allows such a name: remove the role, and the mount from the API server's client CAs",
                who=item.user,
            )


def outside_changes(
    cluster: str, changes: Iterable[ClusterRecord], appliers: frozenset[str], binder: str = ""
) -> Iterator[Found]:
    """Changes of our roles and bindings by anybody but who applies them; `changes` is one each of user and object.

    `binder` is the account that binds requests on the cluster, as its document names it: it makes and deletes bindings
    of requests, and nothing else of ours is its to change.
    """
    for item in changes:
        if item.user in appliers or (item.user == binder and _binds_request(item)):
            continue
        where = f"{item.namespace}/" if item.namespace else ""
        what = f"{item.resource.partition('.')[0]} {where}{item.name or '(all)'}"
        yield found(
            "access/binding-changed-outside",
            cluster,
            f"{item.user}\0{item.verb}\0{what}",
            f"{item.user} did {item.verb} of {what} on {cluster}, past pilothouse, first in audit {item.audit_id}",
            f"apply again: `pilothouse apply {cluster}`. If {item.user} is who applies what is declared,"
            " name it among `appliers` in audit.yaml",
            who=item.user,
        )


def _binds_request(record: ClusterRecord) -> bool:
    kind = record.resource.partition(".")[0]
    return kind in _BINDINGS and record.verb in ("create", "delete") and record.name.startswith(elevation.PREFIX)


def gap(cluster: str, kind: Kind, source: str, holes: Iterable[Span]) -> Iterator[Found]:
    name = "the API server" if kind is Kind.KUBERNETES else "Vault"
    for hole in holes:
        since, until = (f"{moment:%Y-%m-%d %H:%M:%S}" for moment in (hole.since, hole.until))
        yield found(
            "access/audit-gap",
            cluster,
            f"{kind}\0{source}\0{since}",
            f"the audit log of {name} of {cluster}{f' ({source})' if source else ''} is silent"
            f" from {since} to {until} UTC",
            "import the file that holds that time; where there is none, somebody may have stopped the log",
        )


def unseen(cluster: str, serials: Iterable[tuple[str, str, datetime]]) -> Iterator[Found]:
    """Certificates (serial, user, when) that Vault signed for us in a time that its log covers, and does not show."""
    for serial, user, at in serials:
        yield found(
            "access/audit-gap",
            cluster,
            f"unseen\0{serial}",
            f"Vault's audit log of {cluster} does not show the certificate {serial} of {user},"
            f" signed at {at:%Y-%m-%d %H:%M:%S} UTC",
            "lines are missing: import every file of that time, or somebody has removed them",
            who=user,
        )


def found(code: str, cluster: str, subject: str, message: str, hint: str, who: str = "") -> Found:
    """An error on that cluster. `subject` is what it is about, for its id, which the hint names."""
    id = id_of(code, cluster, subject)
    closing = f"; if it was meant: `pilothouse access audit expected {id} --reason …`"
    return Found(id, error(code, message, hint=hint + closing, cluster=cluster), who)


def id_in(problem: Problem) -> str:
    """The id that the hint of a finding names, "" where it names none."""
    named = _NAMED.search(problem.hint)
    return named.group(1) if named else ""
