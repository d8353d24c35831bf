"""Mistakes of access profiles and of workload secrets that a document by itself does not show.

`platform.documents` has seen to names, durations and required fields. Here it is about what the
rules would give: escalation as Kubernetes defines it
(https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping,
https://kubernetes.io/docs/concepts/security/rbac-good-practices/#privilege-escalation-risks).
"""

from __future__ import annotations

from collections.abc import Iterator

from pilothouse.access import break_glass, names
from pilothouse.inputs import Inputs
from pilothouse.labels import OWNED_BY, OWNER, ownership
from pilothouse.platform.model import AccessProfile, RbacRule, Scope, Service
from pilothouse.problems import Problem, Severity, error, nearest, one_of, warning

RBAC_GROUP = "rbac.authorization.k8s.io"
STRONG_ROLES = frozenset(("cluster-admin", "admin"))
"""Built-in roles that include to change RBAC; `admin` within a namespace."""

CLUSTER_SCOPED = frozenset(
    "nodes namespaces persistentvolumes componentstatuses clusterroles clusterrolebindings customresourcedefinitions "
    "storageclasses csidrivers csinodes volumeattachments priorityclasses ingressclasses runtimeclasses apiservices "
    "mutatingwebhookconfigurations validatingwebhookconfigurations validatingadmissionpolicies "
    "certificatesigningrequests flowschemas prioritylevelconfigurations tokenreviews".split()
)
"""Resources without a namespace (`kubectl api-resources --namespaced=false`)."""

MIN_SECONDS = 600
MAX_SECONDS = 16 * 3600
MAX_ELEVATED_SECONDS = 3600


def profiles(inputs: Inputs) -> Iterator[Problem]:
    """Every mistake of the profiles that hold on the cluster."""
    for profile in inputs.platform.profiles.values():
        if profile.holds_on(inputs.cluster.name):
            yield from _names(profile)
            yield from _lifetime(profile)
            yield from _approval(profile)
            yield from break_glass.problems(profile, inputs.platform)
            for rule in profile.rules:
                yield from _rule(profile, rule)
            yield from _cluster_role(profile, inputs)
            yield from _scope(profile, inputs)
            yield from _generation(profile, inputs)


def _names(profile: AccessProfile) -> Iterator[Problem]:
    if profile.name in names.RESERVED:
        yield error(
            "access/reserved-name",
            f"no profile may be called `{profile.name}`: its groups would look like those of elevated profiles",
            profile.place,
            "choose the word for what its holders do",
        )
    for group in (*profile.groups, *profile.approver_groups):
        if names.is_system(group):
            yield error(
                "access/system-group",
                f"profile {profile.name} names `{group}`, a group of Kubernetes itself",
                profile.place,
                "name a group of your directory",
            )
    if not profile.rules and not profile.cluster_role:
        yield error(
            "access/empty-profile",
            f"profile {profile.name} allows nothing",
            profile.place,
            "add `rules`, or name an existing role with `clusterRole`",
        )
    if profile.rules and profile.cluster_role:
        yield error(
            "access/rules-and-role",
            f"profile {profile.name} has `rules` and `clusterRole`, and only one of them can be bound",
            profile.place,
            "keep one of them; make a second profile for the other",
        )


def _lifetime(profile: AccessProfile) -> Iterator[Problem]:
    most = MAX_ELEVATED_SECONDS if profile.elevated else MAX_SECONDS
    kind = "an elevated" if profile.elevated else "a standing"
    if profile.max_lifetime > most:
        yield error(
            "access/lifetime",
            f"profile {profile.name} may last {profile.max_lifetime} s, {kind} one at most {most} s",
            profile.place,
            f"set `maxLifetime: {most // 60}m` or less: a certificate cannot be revoked, it can only end soon",
        )
    if profile.lifetime > profile.max_lifetime or profile.lifetime < MIN_SECONDS:
        yield error(
            "access/lifetime",
            f"profile {profile.name} lasts {profile.lifetime} s unless asked otherwise,"
            f" outside {MIN_SECONDS} s to {profile.max_lifetime} s",
            profile.place,
            "set `lifetime` between 10m and `maxLifetime`",
        )
    if profile.renewal and (profile.elevated or not MIN_SECONDS <= profile.renewal < profile.lifetime):
        yield error(
            "access/lifetime",
            f"profile {profile.name} is renewed every {profile.renewal} s, "
            + ("and is elevated" if profile.elevated else f"outside {MIN_SECONDS} s to its {profile.lifetime} s"),
            profile.place,
            "remove `renewal`: an elevated profile is asked for each time"
            if profile.elevated
            else "set `renewal` between 10m and `lifetime`",
        )


def _approval(profile: AccessProfile) -> Iterator[Problem]:
    if profile.approval and not profile.approver_groups and not profile.break_glass:
        yield error(
            "access/no-approvers",
            f"profile {profile.name} wants an approval that nobody may give",
            profile.place,
            "name the directory groups of those who decide in `approverGroups`",
        )
    if profile.approval and not profile.elevated:
        yield error(
            "access/approval-not-elevated",
            f"profile {profile.name} wants approval but is not elevated",
            profile.place,
            "set `elevated: true`: only elevated profiles are requested, approved and claimed",
        )


# ---------------------------------------------------------------- rules


def _rule(profile: AccessProfile, rule: RbacRule) -> Iterator[Problem]:
    verbs, resources, groups = set(rule.verbs), set(rule.resources), set(rule.api_groups)
    any_group = "*" in groups
    for verb in sorted(verbs & {"escalate", "impersonate"}):
        yield error(
            "access/escalation",
            f"profile {profile.name} gives `{verb}`, with which its holders can become anyone",
            profile.place,
            "remove the verb; what a holder needs to do belongs into the rules themselves",
        )
    if "bind" in verbs and not rule.resource_names:
        yield error(
            "access/escalation",
            f"profile {profile.name} gives `bind` on every role, cluster-admin among them",
            profile.place,
            "name the roles that may be bound in `resourceNames`",
        )
    writes = bool(verbs & {"*", "create", "update", "patch"})
    if writes and (RBAC_GROUP in groups or any_group) and not profile.elevated:
        yield error(
            "access/escalation",
            f"profile {profile.name} changes roles or bindings without being elevated",
            profile.place,
            "make it an elevated profile, or leave RBAC to pilothouse",
        )
    if "create" in verbs and "serviceaccounts/token" in resources and not profile.elevated:
        yield error(
            "access/escalation",
            f"profile {profile.name} makes tokens of ServiceAccounts, and with them can do what any of them may",
            profile.place,
            "remove `serviceaccounts/token`, or make the profile an elevated one",
        )
    if ("*" in verbs or "*" in resources) and not profile.elevated:
        yield error(
            "access/wildcard",
            f"profile {profile.name} gives `*`, which includes Secrets and whatever is invented later",
            profile.place,
            "write out verbs and resources, or make the profile an elevated one",
        )
    elif "secrets" in resources and verbs & {"get", "list", "watch"} and not profile.elevated:
        yield warning(
            "access/reads-secrets",
            f"profile {profile.name} reads Secrets all day",
            profile.place,
            "give that to an elevated profile; services get theirs from Vault",
        )
    if rule.non_resource_urls and profile.scope is not Scope.CLUSTER:
        yield error(
            "access/needs-cluster-scope",
            f"profile {profile.name} allows URLs, which a binding within a namespace cannot give",
            profile.place,
            "set `scope: cluster`, or remove `nonResourceURLs`",
        )
    if profile.scope is not Scope.CLUSTER:
        for resource in sorted(resources & CLUSTER_SCOPED):
            yield warning(
                "access/needs-cluster-scope",
                f"profile {profile.name} allows `{resource}`, which lie in no namespace: the rule has no effect",
                profile.place,
                "set `scope: cluster`, or remove the resource",
            )


def _cluster_role(profile: AccessProfile, inputs: Inputs) -> Iterator[Problem]:
    role = profile.cluster_role
    if not role:
        return
    if names.is_system(role):
        yield error(
            "access/system-role",
            f"profile {profile.name} binds `{role}`, a role of Kubernetes' own components",
            profile.place,
            "bind a role that was made for people",
        )
        return
    if role in STRONG_ROLES and not profile.elevated:
        yield error(
            "access/standing-admin",
            f"profile {profile.name} binds `{role}` without being elevated",
            profile.place,
            "make it `elevated: true` with `approval`, or bind a smaller role",
        )
    known = {
        manifest.name
        for manifest in inputs.snapshot.rbac
        if manifest.kind == "ClusterRole" and manifest.labels.get(OWNED_BY) != OWNER
    }
    if known and role not in known:
        yield warning(
            "access/unknown-cluster-role",
            f"profile {profile.name} binds ClusterRole `{role}`, which cluster {inputs.cluster.name} does not have",
            profile.place,
            nearest(role, known) or "make the role first, or write the rules out",
            cluster=inputs.cluster.name,
        )


def _generation(profile: AccessProfile, inputs: Inputs) -> Iterator[Problem]:
    """It never goes down: certificates of an earlier generation may be alive, and would be good again."""
    live = max(
        (
            group.generation
            for manifest in inputs.snapshot.rbac
            if manifest.kind in ("RoleBinding", "ClusterRoleBinding")
            and ownership(inputs.cluster.name).items() <= manifest.labels.items()
            and (group := names.GroupName.parse(manifest.name)) is not None
            and group.profile == profile.name
        ),
        default=0,
    )
    if profile.generation < live:
        yield error(
            "access/generation-lowered",
            f"profile {profile.name} is of generation {profile.generation or 'none'}, and {inputs.cluster.name} has"
            f" bindings of generation {live}",
            profile.place,
            f"write `generation: {live}` or a higher one: certificates that it ended would be good again",
            cluster=inputs.cluster.name,
        )
    if profile.generation and profile.elevated and inputs.cluster.binds_requests:
        yield warning(
            "access/generation-without-effect",
            f"elevated profile {profile.name} has a generation, and {inputs.cluster.name} binds each request by itself",
            profile.place,
            "leave it out: a request is ended by `access give-back`, or by locking the person",
            cluster=inputs.cluster.name,
        )


def _scope(profile: AccessProfile, inputs: Inputs) -> Iterator[Problem]:
    if profile.scope is Scope.NAMESPACES:
        if not profile.namespaces:
            yield error(
                "access/no-namespaces",
                f"profile {profile.name} holds in no namespace",
                profile.place,
                "list `namespaces`, or choose another `scope`",
            )
        known = set(inputs.snapshot.namespace_labels) | {
            service.namespace for service in inputs.platform.services_on(inputs.cluster.name)
        }
        for namespace in profile.namespaces:
            if namespace not in known:
                yield warning(
                    "access/unknown-namespace",
                    f"profile {profile.name} holds in namespace `{namespace}`,"
                    f" which cluster {inputs.cluster.name} does not have",
                    profile.place,
                    nearest(namespace, known) or one_of(known),
                    cluster=inputs.cluster.name,
                )
    elif profile.namespaces:
        yield error(
            "access/no-namespaces",
            f"profile {profile.name} lists namespaces but its scope is `{profile.scope}`",
            profile.place,
            "set `scope: namespaces`, or remove the list",
        )


# ---------------------------------------------------------------- workload secrets


def secrets(inputs: Inputs) -> Iterator[Problem]:
    """Mistakes of the services' `secrets:` on the cluster."""
    cluster = inputs.cluster.name
    running = inputs.platform.services_on(cluster)
    owners = {service.namespace: service.team for service in running}
    accounts: dict[tuple[str, str], Service] = {}
    for service in running:
        mine = [secret for secret in service.secrets if secret.holds_on(cluster)]
        if not mine:
            continue
        if service.service_account == "default":
            yield error(
                "access/default-account",
                f"service {service.key} reads secrets as ServiceAccount `default`, which every pod there may use",
                mine[0].place,
                f"set `serviceAccountName: {service.name}` in the Service and in its pods",
                teams=(service.team,),
            )
        for secret in mine:
            first, slash, _ = secret.path.partition("/")
            if slash and first != service.namespace and owners.get(first, service.team) != service.team:
                yield warning(
                    "access/foreign-secret",
                    f"service {service.key} reads `{secret.path}`, which belongs to team {owners[first]}",
                    secret.place,
                    f"keep it below `{service.namespace}/`, or agree with team {owners[first]}",
                    teams=(service.team, owners[first]),
                )
    for service in running:
        if service.service_account == "default":
            continue
        key = (service.namespace, service.service_account)
        other = accounts.setdefault(key, service)
        if other is not service and (_has_secret(service, cluster) or _has_secret(other, cluster)):
            yield Problem(
                "access/shared-account",
                f"services {other.key} and {service.key} share ServiceAccount `{service.service_account}`:"
                " each can read the secrets of the other",
                service.place,
                Severity.WARNING,
                "give each service an account of its own",
                related=(other.place,),
                teams=tuple(sorted({service.team, other.team})),
            )


def _has_secret(service: Service, cluster: str) -> bool:
    return any(secret.holds_on(cluster) for secret in service.secrets)
