"""What is kept of a line of an audit log. Names and networks only: no request's content, no secret."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """Which program wrote a log."""

    VAULT = "vault"
    KUBERNETES = "kubernetes"


@dataclass(frozen=True, slots=True)
class VaultRecord:
    """A request that Vault answered or refused.

    `path` is whole, with its mount; `user` the name at the login (alias), or `namespace/account` of a workload, which
    `workload` says. `serial` (decimal) and `fingerprint` (SHA-256 in hex) are those of a certificate that was signed;
    `hidden` says that the log holds them only as an HMAC.
    """

    request_id: str
    type: str
    at: datetime
    operation: str
    path: str
    mount: str
    user: str = ""
    entity: str = ""
    workload: bool = False
    address: str = ""
    error: str = ""
    common_name: str = ""
    serial: str = ""
    fingerprint: str = ""
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """A request to the API server. `at` is when it came, `ended` when that stage was reached.

    `fingerprint` is that of the client certificate (SHA-256 in hex), "" where the server names none: before
    Kubernetes 1.32, or where the client had no certificate. `resource` is `resource.group/subresource`, as RBAC has it.
    """

    audit_id: str
    stage: str
    at: datetime
    ended: datetime
    user: str
    groups: tuple[str, ...]
    verb: str
    resource: str = ""
    namespace: str = ""
    name: str = ""
    address: str = ""
    agent: str = ""
    code: int = 0
    fingerprint: str = ""
    uri: str = ""

    @property
    def key(self) -> str:
        """What makes it this event and no other.

        A client may choose the auditID itself by a header, so that alone would let one request hide behind another.
        """
        moment = self.at.isoformat(timespec="microseconds")
        said = "\0".join((self.audit_id, self.stage, moment, self.user, self.fingerprint, self.verb, self.uri))
        return hashlib.sha256(said.encode()).hexdigest()


Record = VaultRecord | ClusterRecord


@dataclass(frozen=True, slots=True)
class Span:
    """A time that a log covers without a hole."""

    since: datetime
    until: datetime
