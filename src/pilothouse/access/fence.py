"""The worker's rights to bind requests on a cluster, and the admission policy that holds it to bindings of that form.

The rights: to look at and delete bindings, to create them where an elevated profile holds, and to `bind` exactly the
roles of the elevated profiles. `bind` lets an account refer to a role whose rules it does not have itself
(https://kubernetes.io/docs/reference/access-authn-authz/rbac/#restrictions-on-role-binding-creation-or-update);
`escalate` is never given.

RBAC cannot say to whom a role is bound. The policy can
(https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/, v1 since Kubernetes 1.30): of the
worker's account it admits no binding but one of a request, with that request's group as its only subject, a role that
the profile of its label has there, and an end that is near. CEL has no clock; a new object's `creationTimestamp` is
the API server's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pilothouse.access import names
from pilothouse.access.elevation import (
    API_GROUP,
    API_VERSION,
    EXPIRES_ANNOTATION,
    OWNER,
    PREFIX,
    REQUEST_LABEL,
    all_places,
)
from pilothouse.access.fence_state import sealed
from pilothouse.artifacts.model import Document, Format
from pilothouse.inputs import Inputs
from pilothouse.labels import CLUSTER_LABEL, OWNED_BY, ownership
from pilothouse.platform.model import AccessProfile, Cluster, Platform, Scope, Versions
from pilothouse.problems import Problem, error, warning

NAME = "pilothouse:elevation"
POLICY = "pilothouse-elevation"
ADMISSION_GROUP = "admissionregistration.k8s.io"
SINCE = (1, 30)
"""The first version of Kubernetes that serves the policy as v1."""
GRACE = 60
"""Seconds by which the worker's clock may be ahead of the API server's."""
_MOMENT = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"
_ACCOUNT = "system:serviceaccount:"
Manifest = dict[str, Any]


def documents(platform: Platform, cluster: Cluster) -> Iterator[Document]:
    """`rbac/worker/elevation.yaml`, where the cluster's document says who binds."""
    if not cluster.binds_requests:
        return
    comment = "The worker's right to bind requests for elevated profiles, and the fence around it."
    made = (*(policy(platform, cluster) if has_policies(cluster) else ()), *rights(platform, cluster))
    yield Document("rbac/worker/elevation.yaml", tuple(map(sealed, made)), Format.MANIFESTS, comment)


def has_policies(cluster: Cluster) -> bool:
    """Whether the declared version of Kubernetes serves admission policies."""
    return Versions.number(cluster.versions.kubernetes) >= SINCE


def elevated(platform: Platform, cluster: Cluster) -> tuple[AccessProfile, ...]:
    """The profiles whose requests are bound there."""
    return tuple(item for item in platform.profiles.values() if item.elevated and item.holds_on(cluster.name))


def problems(inputs: Inputs) -> Iterator[Problem]:
    """What keeps the declared elevation from working, or from being fenced."""
    cluster = inputs.cluster
    if not cluster.binds_requests:
        return
    account, place = cluster.elevation.account, cluster.elevation.place
    if names.is_system(account) and not _is_service_account(account):
        yield error(
            "access/elevation-account",
            f"the worker's account on cluster {cluster.name} is `{account}`, a user of Kubernetes itself",
            place,
            f"name the account of its token, such as `{_ACCOUNT}pilothouse:pilothouse`",
            cluster=cluster.name,
        )
    endpoint = cluster.servers.kubernetes
    if endpoint is None or not endpoint.token_file:
        yield error(
            "access/elevation-account",
            f"the worker is to bind requests on cluster {cluster.name}, whose document names no token for it",
            place,
            "set `servers.kubernetes` with `url`, `tokenFile` and `caFile`, or leave `elevation` out",
            cluster=cluster.name,
        )
    if not has_policies(cluster):
        yield warning(
            "access/no-admission-policy",
            f"cluster {cluster.name} has Kubernetes {cluster.versions.kubernetes}, which has no admission policies of"
            " version v1: RBAC alone bounds what the worker may bind",
            place,
            "upgrade to 1.30 or later; until then keep the worker's token as you keep an administrator's",
            cluster=cluster.name,
        )


def _is_service_account(account: str) -> bool:
    return account.startswith(_ACCOUNT) and account.count(":") == 3 and not account.endswith(":")


# ---------------------------------------------------------------- the rights


def rights(platform: Platform, cluster: Cluster) -> Iterator[Manifest]:
    """The worker's roles, and their bindings to its account."""
    found = elevated(platform, cluster)
    everywhere = [item for item in found if item.scope is Scope.CLUSTER]
    own = [NAME, *([f"{NAME}:cluster"] if everywhere else [])]
    own += [f"{NAME}:{item.name}" for item in found if item.scope is not Scope.CLUSTER]
    yield _role(
        cluster,
        NAME,
        [
            _rule(("clusterrolebindings", "rolebindings"), "get", "list", "delete"),
            # To see that its fence stands, and that its rights are what was rendered (`fence_state`).
            _rule(("clusterroles",), "get") | {"resourceNames": own},
            *(_policies_seen() if has_policies(cluster) else ()),
        ],
    )
    yield _bound(cluster, NAME)
    if everywhere:
        # Apart, so that an account that binds in namespaces alone may create nothing wider.
        yield _role(cluster, f"{NAME}:cluster", _creating("clusterrolebindings", everywhere))
        yield _bound(cluster, f"{NAME}:cluster")
    for profile in found:
        if profile.scope is Scope.CLUSTER:
            continue
        name = f"{NAME}:{profile.name}"
        yield _role(cluster, name, _creating("rolebindings", [profile]))
        for namespace in all_places(profile, platform, cluster.name):
            yield _bound(cluster, name, namespace)


def _creating(resource: str, profiles: list[AccessProfile]) -> list[Manifest]:
    roles = sorted({names.role(item) for item in profiles})
    return [_rule((resource,), "create"), _rule(("clusterroles",), "bind") | {"resourceNames": roles}]


def _policies_seen() -> Iterator[Manifest]:
    yield {
        "apiGroups": [ADMISSION_GROUP],
        "resources": ["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        "resourceNames": [POLICY],
        "verbs": ["get"],
    }


def _rule(resources: tuple[str, ...], *verbs: str) -> Manifest:
    return {"apiGroups": [API_GROUP], "resources": list(resources), "verbs": list(verbs)}


def _role(cluster: Cluster, name: str, rules: list[Manifest]) -> Manifest:
    return {"apiVersion": API_VERSION, "kind": "ClusterRole", "metadata": _metadata(cluster, name), "rules": rules}


def _bound(cluster: Cluster, role: str, namespace: str = "") -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": _metadata(cluster, role, namespace),
        "subjects": [_subject(cluster.elevation.account)],
        "roleRef": {"apiGroup": API_GROUP, "kind": "ClusterRole", "name": role},
    }


def _subject(account: str) -> Manifest:
    if _is_service_account(account):
        _, _, namespace, name = account.split(":")
        return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return {"kind": "User", "name": account, "apiGroup": API_GROUP}


def _metadata(cluster: Cluster, name: str, namespace: str = "") -> Manifest:
    found: Manifest = {"name": name}
    if namespace:
        found["namespace"] = namespace
    return found | {"labels": ownership(cluster.name)}


# ---------------------------------------------------------------- the fence


def policy(platform: Platform, cluster: Cluster) -> Iterator[Manifest]:
    """The admission policy and its binding. Every default of the API server is written out."""
    yield {
        "apiVersion": f"{ADMISSION_GROUP}/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": _metadata(cluster, POLICY),
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "namespaceSelector": {},
                "objectSelector": {},
                "resourceRules": [
                    {
                        "apiGroups": [API_GROUP],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE", "DELETE"],
                        "resources": ["clusterrolebindings", "rolebindings"],
                        "scope": "*",
                    }
                ],
            },
            "matchConditions": [
                {"name": "worker", "expression": f"request.userInfo.username == {_text(cluster.elevation.account)}"}
            ],
            "validations": [
                {"expression": expression, "message": message, "reason": "Forbidden"}
                for expression, message in _validations(platform, cluster)
            ],
        },
    }
    yield {
        "apiVersion": f"{ADMISSION_GROUP}/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": _metadata(cluster, POLICY),
        "spec": {"policyName": POLICY, "validationActions": ["Deny"]},
    }


def _validations(platform: Platform, cluster: Cluster) -> Iterator[tuple[str, str]]:
    """(what must hold, what is said where it does not). Nothing but a name is asked of what is deleted: to take rights
    away is always right."""
    yield "request.operation != 'UPDATE'", "pilothouse's worker creates and deletes bindings, and changes none"
    name = f"(request.operation == 'DELETE' ? oldObject : object).metadata.name.startsWith({_text(PREFIX)})"
    yield name, f"pilothouse's worker touches no binding but those of requests, {PREFIX}<request>"
    marks = {OWNED_BY: OWNER, CLUSTER_LABEL: cluster.name}
    yield (
        _made(
            "has(object.metadata.labels)",
            *(_is("labels", key, value) for key, value in marks.items()),
            f"{_text(REQUEST_LABEL)} in object.metadata.labels",
            f"object.metadata.name == {_text(PREFIX)} + object.metadata.labels[{_text(REQUEST_LABEL)}]",
        ),
        "a request's binding carries our labels, and is called like its request",
    )
    yield (
        _made(
            "has(object.subjects)",
            "object.subjects.size() == 1",
            "object.subjects[0].kind == 'Group'",
            "object.subjects[0].name == object.metadata.name",
            f"object.subjects[0].name.matches({_text(f'^{PREFIX}{names.REQUEST.pattern}$')})",
        ),
        "a request's binding has one subject, the group of that request",
    )
    profiles = elevated(platform, cluster)
    yield (
        _made(_any(_allows(item, platform, cluster) for item in profiles)),
        "a request's binding refers to the role of its elevated profile, where that profile holds",
    )
    end = f"timestamp(object.metadata.annotations[{_text(EXPIRES_ANNOTATION)}])"
    left = f"({end} - timestamp(object.metadata.creationTimestamp))"
    yield (
        _made(
            "has(object.metadata.annotations)",
            f"{_text(EXPIRES_ANNOTATION)} in object.metadata.annotations",
            # What is no moment would be an error of the expression; that is refused too, and said less well.
            f"object.metadata.annotations[{_text(EXPIRES_ANNOTATION)}].matches({_text(_MOMENT)})",
            f"{left} > duration('0s')",
            _any(
                f"{_is('labels', names.PROFILE_LABEL, item.name)} && {left} <= duration('{item.max_lifetime + GRACE}s')"
                for item in profiles
            ),
        ),
        f"a request's binding says in {EXPIRES_ANNOTATION} when it ends, no later than its profile lasts",
    )


def _allows(profile: AccessProfile, platform: Platform, cluster: Cluster) -> str:
    if profile.scope is Scope.CLUSTER:
        where = "request.resource.resource == 'clusterrolebindings'"
    else:
        listed = ", ".join(_text(item) for item in all_places(profile, platform, cluster.name))
        where = f"request.resource.resource == 'rolebindings' && object.metadata.namespace in [{listed}]"
    return (
        f"{_is('labels', names.PROFILE_LABEL, profile.name)} && object.roleRef.kind == 'ClusterRole'"
        f" && object.roleRef.name == {_text(names.role(profile))} && {where}"
    )


def _made(*conditions: str) -> str:
    return f"request.operation != 'CREATE' || ({' && '.join(conditions)})"


def _any(conditions: Iterator[str] | Any) -> str:
    found = [f"({item})" for item in conditions]
    return f"({' || '.join(found)})" if found else "false"


def _is(field: str, key: str, value: str) -> str:
    return f"({_text(key)} in object.metadata.{field} && object.metadata.{field}[{_text(key)}] == {_text(value)})"


def _text(value: str) -> str:
    """A string of CEL (https://github.com/google/cel-spec/blob/master/doc/langdef.md#string-and-bytes-values)."""
    return json.dumps(value)
