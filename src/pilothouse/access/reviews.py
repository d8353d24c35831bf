"""What an authorization webhook answers an API server: denied for what is locked, no opinion on all else.

The API server sends a SubjectAccessReview before each request
(https://kubernetes.io/docs/reference/access-authn-authz/webhook/). `allowed` is never true here: what a
certificate may do is RBAC's decision alone. From Kubernetes 1.32 on the review names the certificate in
`extra["authentication.kubernetes.io/credential-id"]` as `X509SHA256=<hex of the SHA-256 of its DER>`
(https://kubernetes.io/docs/reference/access-authn-authz/authentication/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pilothouse.access.locks import Held, Lock, fingerprint_in
from pilothouse.labels import GROUP_PREFIX
from pilothouse.problems import Invalid

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
VERSIONS = ("authorization.k8s.io/v1", "authorization.k8s.io/v1beta1")
KIND = "SubjectAccessReview"


@dataclass(frozen=True, slots=True)
class Review:
    """Who asks, as the API server found out; what they ask for is nothing to us."""

    version: str
    user: str
    groups: frozenset[str]
    credentials: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether a group of ours is among the groups: then the identity comes from a certificate of ours."""
        return any(group.startswith(GROUP_PREFIX) for group in self.groups)


def read(body: Any) -> Review:
    """From the JSON of a request; `Invalid` where it is no SubjectAccessReview that can be understood."""
    data = _mapping(body, "the review")
    version = data.get("apiVersion")
    if data.get("kind") != KIND or version not in VERSIONS:
        raise Invalid(f"that is no {KIND} of {VERSIONS[0]}")
    spec = _mapping(data.get("spec"), "`spec`")
    user = spec.get("user", "")
    if not isinstance(user, str):
        raise Invalid("`spec.user` is no text")
    # v1beta1 calls it `group`: https://kubernetes.io/docs/reference/access-authn-authz/webhook/#request-payloads
    groups = _texts(spec.get("groups" if version == VERSIONS[0] else "group"), "the groups")
    extra = _mapping(spec.get("extra") or {}, "`spec.extra`")
    # Keys arrive as the API server has them, in lower case; another case would be another header of a proxy.
    credentials = _texts(extra.get(CREDENTIAL_ID), "the credential ids")
    return Review(str(version), user, frozenset(groups), credentials)


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Invalid(f"{what} is no object")
    return value


def _texts(value: Any, what: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Invalid(f"{what} are no list of texts")
    return tuple(value)


def decide(review: Review, held: Held, now: datetime) -> Lock | None:
    """The lock that refuses it, None for no opinion.

    A locked certificate is refused whatever it says; a locked person only with a group of ours, so that an account
    of the same name from elsewhere is nobody's business here.
    """
    for credential in review.credentials:
        found = held.certificates.get(fingerprint_in(credential))
        if found is not None and found.holds(now):
            return found
    if review.is_ours:
        found = held.users.get(review.user)
        if found is not None and found.holds(now):
            return found
    return None


def answer(review: Review, refused_by: Lock | None) -> dict[str, Any]:
    """The review with its status, as the API server wants it back."""
    status: dict[str, Any] = {"allowed": False}
    if refused_by is not None:
        status |= {"denied": True, "reason": f"pilothouse: {refused_by.sentence}; ask the platform team"}
    return {"apiVersion": review.version, "kind": KIND, "status": status}
