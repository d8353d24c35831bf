"""What a Cluster document says of access: who signs its certificates, who binds requests, who is asked about locks."""

from __future__ import annotations

from dataclasses import dataclass, field

from pilothouse.problems import NOWHERE, Place


@dataclass(frozen=True, slots=True)
class LockWebhook:
    """The authorization webhook that tells the API server what is locked, as that server reaches it.

    `failure_policy` is what happens while it does not answer: `NoOpinion` (RBAC alone decides) or `Deny`.
    """

    url: str
    failure_policy: str = "NoOpinion"


@dataclass(frozen=True, slots=True)
class Authority:
    """The cluster's own certificate authority: `backend` embedded or vault; one Vault `mount` per cluster."""

    backend: str = "embedded"
    mount: str = ""
    common_name: str = ""
    login: str = "ldap"
    """Vault's LDAP auth mount, at which engineers log in."""
    self_test_token_file: str = ""
    """A file with a token such as engineers have, on the signer's machine, for its self-test at the live mount."""
    webhook: LockWebhook | None = None


@dataclass(frozen=True, slots=True)
class Elevation:
    """Who binds each request for an elevated profile: `account` is the user that the cluster's API server sees when the
    worker's token asks, such as `system:serviceaccount:pilothouse:pilothouse`. "": nobody does, bindings stand."""

    account: str = ""
    vault_secret_file: str = ""
    """Where Vault signs: the file on the worker's machine with what it logs in with there, to write the roles of
    requests."""
    place: Place = field(default=NOWHERE, compare=False, repr=False)
