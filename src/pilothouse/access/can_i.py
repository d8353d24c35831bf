"""May this identity do that? Kubernetes' RBAC evaluated over manifests, with the binding and rule that say yes.

Semantics of https://kubernetes.io/docs/reference/access-authn-authz/rbac/ as the API server applies
them: rules only ever allow; a RoleBinding may refer to a ClusterRole and holds in its own namespace; an
aggregated ClusterRole is the union of those that its selectors match; `system:masters` passes by all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pilothouse.labels import LabelSelector
from pilothouse.problems import Invalid, nearest

Manifest = Mapping[str, Any]

AUTHENTICATED = "system:authenticated"
MASTERS = "system:masters"


@dataclass(frozen=True, slots=True)
class Identity:
    """As the API server sees it; every authenticated one is a member of `system:authenticated`."""

    user: str
    groups: frozenset[str] = frozenset()

    @property
    def all_groups(self) -> frozenset[str]:
        return self.groups | {AUTHENTICATED}


@dataclass(frozen=True, slots=True)
class Question:
    """`resource` is the plural, with `/subresource`; or `url` is a path, and resource and group are empty.

    `namespace` "" asks about all namespaces, or about a resource that has none.
    """

    verb: str
    resource: str = ""
    group: str = ""
    namespace: str = ""
    name: str = ""
    url: str = ""

    def __str__(self) -> str:
        if self.url:
            return f"{self.verb} {self.url}"
        what = self.resource + (f".{self.group}" if self.group else "") + (f" {self.name}" if self.name else "")
        return f"{self.verb} {what}" + (f" in {self.namespace}" if self.namespace else "")


@dataclass(frozen=True, slots=True)
class Grantor:
    """Why it is allowed: the binding, the role that it refers to, and the rule of it."""

    binding: str
    role: str
    rule: Manifest
    subject: str


@dataclass(frozen=True, slots=True)
class Decision:
    """`by` are all that allow it; `missing` are roles that this identity is bound to and that were not given.

    While a role is missing, a no is not certain.
    """

    allowed: bool
    why: str
    by: tuple[Grantor, ...] = ()
    missing: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.allowed


def can_i(identity: Identity, question: Question, manifests: Iterable[Manifest]) -> Decision:
    """The answer under these Roles, ClusterRoles and bindings; other kinds are passed over."""
    if MASTERS in identity.groups:
        return Decision(True, f"{MASTERS} passes by RBAC")
    objects = tuple(manifests)
    roles = _roles(objects)
    found: list[Grantor] = []
    missing: dict[str, None] = {}
    for binding in objects:
        subject = _bound(binding, identity)
        if subject is None:
            continue
        reached, lacking = _reaches(binding, question, roles)
        missing |= dict.fromkeys(lacking)
        if reached is not None:
            found.append(replace(reached, subject=subject))
    if found:
        return Decision(True, f"{found[0].binding} binds {found[0].role} to {found[0].subject}", tuple(found))
    why = "no binding of this identity allows it"
    if missing:
        why += f"; not certain, since {', '.join(missing)} was not given"
    return Decision(False, why, (), tuple(missing))


def _reaches(binding: Manifest, question: Question, roles: Roles) -> tuple[Grantor | None, tuple[str, ...]]:
    """(how this binding allows it, without a subject; the role that was not given)."""
    namespace = _metadata(binding).get("namespace", "") if binding.get("kind") == "RoleBinding" else ""
    if binding.get("kind") == "RoleBinding" and (question.url or namespace != question.namespace):
        return None, ()
    reference = binding.get("roleRef") or {}
    kind, name = str(reference.get("kind", "")), str(reference.get("name", ""))
    role = roles.get((kind, namespace if kind == "Role" else "", name))
    if role is None:
        return None, (f"{kind} {name}",)
    rule = next((item for item in _rules(role, roles) if allows(item, question)), None)
    return (Grantor(_shown(binding), f"{kind} {name}", rule, "") if rule is not None else None), ()


def _shown(binding: Manifest) -> str:
    namespace = _metadata(binding).get("namespace", "") if binding.get("kind") == "RoleBinding" else ""
    return f"{binding['kind']} {namespace + '/' if namespace else ''}{_metadata(binding).get('name', '')}"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a binding names: `kind` is User, Group or ServiceAccount (its name then is `namespace/name`)."""

    kind: str
    name: str

    def is_held_by(self, identity: Identity) -> bool:
        if self.kind == "Group":
            return self.name in identity.all_groups
        if self.kind == "ServiceAccount":
            return identity.user == f"system:serviceaccount:{self.name.replace('/', ':', 1)}"
        return self.kind == "User" and self.name == identity.user


def _subjects(binding: Manifest) -> Iterator[Subject]:
    for subject in binding.get("subjects") or ():
        kind, name = str(subject.get("kind", "")), str(subject.get("name", ""))
        if kind == "ServiceAccount":
            name = f"{subject.get('namespace') or _metadata(binding).get('namespace', '')}/{name}"
        yield Subject(kind, name)


Ways = tuple[tuple[Subject, Grantor], ...]


def who_can(question: Question, manifests: Iterable[Manifest]) -> tuple[Ways, tuple[str, ...]]:
    """((subject, how it may) for every subject of every binding that allows it; roles that were not given)."""
    objects = tuple(manifests)
    roles = _roles(objects)
    found: list[tuple[Subject, Grantor]] = []
    missing: dict[str, None] = {}
    for binding in objects:
        if binding.get("kind") not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        reached, lacking = _reaches(binding, question, roles)
        missing |= dict.fromkeys(lacking)
        if reached is not None:
            for item in _subjects(binding):
                found.append((item, replace(reached, subject=f"{item.kind.lower()} {item.name}")))
    return tuple(found), tuple(missing)


def rules_of(identity: Identity, manifests: Iterable[Manifest]) -> tuple[tuple[str, Grantor], ...]:
    """(namespace, grantor) for every rule of every binding of this identity; "" is all of the namespaces."""
    objects = tuple(manifests)
    roles = _roles(objects)
    found: list[tuple[str, Grantor]] = []
    for binding in objects:
        subject = _bound(binding, identity)
        if subject is None:
            continue
        namespace = _metadata(binding).get("namespace", "") if binding.get("kind") == "RoleBinding" else ""
        reference = binding.get("roleRef") or {}
        kind, name = str(reference.get("kind", "")), str(reference.get("name", ""))
        role = roles.get((kind, namespace if kind == "Role" else "", name))
        rules = tuple(_rules(role, roles)) if role is not None else ()
        # A role that was not given is shown without its rules: the binding is there all the same.
        found += [(namespace, Grantor(_shown(binding), f"{kind} {name}", rule, subject)) for rule in rules or ({},)]
    return tuple(found)


def _metadata(manifest: Manifest) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = manifest.get("metadata") or {}
    return metadata


Roles = dict[tuple[str, str, str], Manifest]


def _roles(manifests: Iterable[Manifest]) -> Roles:
    return {
        (
            manifest["kind"],
            _metadata(manifest).get("namespace", "") if manifest["kind"] == "Role" else "",
            _metadata(manifest).get("name", ""),
        ): manifest
        for manifest in manifests
        if manifest.get("kind") in ("Role", "ClusterRole")
    }


def _rules(role: Manifest, roles: Roles, seen: frozenset[str] = frozenset()) -> Iterator[Manifest]:
    """The rules of a role, those of the ClusterRoles that it aggregates included.

    The controller writes them into the role itself; where it has not run (a plain manifest), they are looked up.
    """
    yield from role.get("rules") or ()
    name = str(_metadata(role).get("name", ""))
    for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
        wanted = LabelSelector.from_dict(selector)
        for (kind, _, other), part in roles.items():
            labels = _metadata(part).get("labels") or {}
            if kind == "ClusterRole" and other != name and other not in seen and wanted.matches(labels):
                yield from _rules(part, roles, seen | {name})


def _bound(binding: Manifest, identity: Identity) -> str | None:
    """The subject of the binding that this identity is, in words."""
    if binding.get("kind") not in ("RoleBinding", "ClusterRoleBinding"):
        return None
    for subject in binding.get("subjects") or ():
        kind, name = subject.get("kind"), subject.get("name", "")
        if kind == "Group" and name in identity.all_groups:
            return f"group {name}"
        if kind == "User" and name == identity.user:
            return f"user {name}"
        if kind == "ServiceAccount":
            namespace = subject.get("namespace") or _metadata(binding).get("namespace", "")
            if identity.user == f"system:serviceaccount:{namespace}:{name}":
                return f"ServiceAccount {namespace}/{name}"
    return None


def allows(rule: Manifest, question: Question) -> bool:
    """Whether one PolicyRule allows it
    (https://github.com/kubernetes/kubernetes/blob/master/pkg/apis/rbac/v1/evaluation_helpers.go)."""
    verbs = rule.get("verbs") or ()
    if "*" not in verbs and question.verb not in verbs:
        return False
    if question.url:
        return any(_url_matches(pattern, question.url) for pattern in rule.get("nonResourceURLs") or ())
    groups = rule.get("apiGroups") or ()
    if "*" not in groups and question.group not in groups:
        return False
    if not any(_resource_matches(pattern, question.resource) for pattern in rule.get("resources") or ()):
        return False
    only = rule.get("resourceNames") or ()
    return not only or question.name in only


def _url_matches(pattern: str, url: str) -> bool:
    return pattern in ("*", url) or (pattern.endswith("*") and url.startswith(pattern[:-1]))


def _resource_matches(pattern: str, resource: str) -> bool:
    if pattern in ("*", resource):
        return True
    _, slash, sub = resource.partition("/")
    return bool(slash) and pattern == f"*/{sub}"


# ---------------------------------------------------------------- what people type

_CORE = (
    "pods services endpoints events configmaps secrets serviceaccounts nodes namespaces persistentvolumes "
    "persistentvolumeclaims replicationcontrollers resourcequotas limitranges bindings podtemplates componentstatuses"
)
_GROUPS: Mapping[str, str] = {
    **dict.fromkeys(_CORE.split(), ""),
    **dict.fromkeys("deployments replicasets statefulsets daemonsets controllerrevisions".split(), "apps"),
    **dict.fromkeys("jobs cronjobs".split(), "batch"),
    "horizontalpodautoscalers": "autoscaling",
    "poddisruptionbudgets": "policy",
    **dict.fromkeys("networkpolicies ingresses ingressclasses".split(), "networking.k8s.io"),
    "endpointslices": "discovery.k8s.io",
    **dict.fromkeys("roles rolebindings clusterroles clusterrolebindings".split(), "rbac.authorization.k8s.io"),
    **dict.fromkeys("storageclasses volumeattachments csidrivers csinodes".split(), "storage.k8s.io"),
    "customresourcedefinitions": "apiextensions.k8s.io",
    "leases": "coordination.k8s.io",
    "certificatesigningrequests": "certificates.k8s.io",
    "priorityclasses": "scheduling.k8s.io",
}
_SHORT: Mapping[str, str] = {
    "po": "pods",
    "svc": "services",
    "ep": "endpoints",
    "ev": "events",
    "cm": "configmaps",
    "sa": "serviceaccounts",
    "no": "nodes",
    "ns": "namespaces",
    "pv": "persistentvolumes",
    "pvc": "persistentvolumeclaims",
    "rc": "replicationcontrollers",
    "quota": "resourcequotas",
    "deploy": "deployments",
    "rs": "replicasets",
    "sts": "statefulsets",
    "ds": "daemonsets",
    "cj": "cronjobs",
    "hpa": "horizontalpodautoscalers",
    "pdb": "poddisruptionbudgets",
    "netpol": "networkpolicies",
    "ing": "ingresses",
    "sc": "storageclasses",
    "crd": "customresourcedefinitions",
}


def question(verb: str, what: str, namespace: str = "", name: str = "") -> Question:
    """From what people type: `pods`, `po/web-1`, `pods/log`, `deployments.apps`, `deploy/scale`, `/healthz`.

    A known resource is completed with its group, short and singular forms with their plural; `Invalid`
    for an unknown one without a group, since RBAC cannot be asked about it.
    """
    if what.startswith("/"):
        return Question(verb, url=what)
    head, slash, tail = what.partition("/")
    resource, dot, group = head.partition(".")
    resource = _plural(resource.lower())
    if not dot:
        if resource not in _GROUPS:
            hint = nearest(head, known_resources()) or f"write it with its group: {head}.example.org"
            raise Invalid(f"the group of `{resource}` is not known", hint)
        group = _GROUPS[resource]
    if slash and tail in _SUBRESOURCES:
        return Question(verb, f"{resource}/{tail}", group, namespace, name)
    return Question(verb, resource, group, namespace, name or tail)


_SUBRESOURCES = frozenset(
    "log exec attach portforward proxy status scale eviction binding ephemeralcontainers token finalize approval "
    "resize".split()
)


def _plural(word: str) -> str:
    word = _SHORT.get(word, word)
    if word in _GROUPS:
        return word
    for plural in (f"{word}s", f"{word}es", f"{word[:-1]}ies" if word.endswith("y") else ""):
        if plural in _GROUPS:
            return plural
    return word


def known_resources() -> tuple[str, ...]:
    """The resources whose group is known, for hints."""
    return tuple(sorted(_GROUPS))
