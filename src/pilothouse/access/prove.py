"""An independent look at what was derived for Vault: can a role or a policy give more than its profile says?

It reads the rendered bodies as Vault reads them, absent fields taken for Vault's own defaults, and
knows nothing of how they were made. The settings that let a PKI role sign what it should not are those of
https://developer.hashicorp.com/vault/api-docs/secret/pki#create-update-role; paths of policies match as in
https://developer.hashicorp.com/vault/docs/concepts/policies#policy-syntax (`*` at the end, `+` for one segment).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pilothouse.access.content import PathRule, VaultContent, seconds
from pilothouse.access.names import is_system
from pilothouse.access.pki_fields import MUST
from pilothouse.access.vault import PkiRole, Policy
from pilothouse.problems import NOWHERE, Place, Problem, error


def role(item: PkiRole, content: VaultContent) -> Iterable[Problem]:
    """What is wrong with a PKI role, each with the place of the field in `secrets/vault/pki-role.yaml`."""
    for field, (default, is_safe, consequence) in MUST.items():
        value = item.body.get(field, default)
        if not is_safe(value):
            stated = field in item.body
            yield error(
                "access/unsafe-pki-role",
                f"`{field}: {_show(value)}`{'' if stated else ' (the default of Vault)'} in a PKI role: {consequence}",
                content.role_node.at("spec", field) if stated else content.role_node.at("spec"),
                f"set `{field}: {_show(_safe_value(field))}`",
            )
    yield from _identity(item, content)


def _identity(item: PkiRole, content: VaultContent) -> Iterable[Problem]:
    place = content.role_node.at("spec")
    if item.body.get("organization") != [item.group]:
        yield error(
            "access/unsafe-pki-role",
            f"the role {item.name} signs the groups {_show(item.body.get('organization'))}, not only {item.group}",
            place,
            "leave `organization` to pilothouse",
        )
    for group in item.body.get("organization") or ():
        if is_system(str(group)):
            yield error(
                "access/system-group",
                f"the role {item.name} signs Kubernetes' own group `{group}`",
                place,
                "remove it: such a group passes by RBAC",
            )
    if seconds(str(item.body.get("max_ttl", "9999h"))) > item.profile.longest_leaf:
        yield error(
            "access/unsafe-pki-role",
            f"the role {item.name} signs for longer than its profile's {item.profile.longest_leaf} s",
            place,
            "leave `max_ttl` to pilothouse",
        )
    domains = list(item.body.get("allowed_domains") or ())
    if any(not (str(d).startswith("{{identity.entity.aliases.auth_") and str(d).endswith(".name}}")) for d in domains):
        yield error(
            "access/unsafe-pki-role",
            f"the role {item.name} signs the names {_show(domains)}, not only the engineer's own",
            place,
            "leave `allowed_domains` to pilothouse",
        )


def _safe_value(field: str) -> Any:
    """A value that the check of the field accepts."""
    _, is_safe, _ = MUST[field]
    options: tuple[Any, ...] = (True, False, [], "ec", 256, ["hostname"], ["DigitalSignature"], "5m")
    return next(value for value in options if is_safe(value))


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(str(item) for item in value)}]"
    return str(value)


# ---------------------------------------------------------------- policies


def matches(pattern: str, path: str) -> bool:
    """Whether a policy's path covers a request's path: `*` at the end is a prefix, `+` is one segment."""
    if pattern.endswith("*"):
        pattern, open_end = pattern[:-1], True
    else:
        open_end = False
    wanted, given = pattern.split("/"), path.split("/")
    if len(given) < len(wanted) or (len(given) > len(wanted) and not open_end):
        return False
    for index, (want, have) in enumerate(zip(wanted, given, strict=False)):
        if open_end and index == len(wanted) - 1:
            return have.startswith(want)
        if want not in ("+", have):
            return False
    return True


_TEAM = re.compile(r"\{\{identity\.groups\.names\.ph_[a-z0-9-]+_([a-z0-9-]+)\.metadata\.team\}\}")


def filled(pattern: str) -> str:
    """A policy's path as it is for a member of the team that its template names; any other template may become
    anything."""
    found = _TEAM.sub(r"\1", pattern)
    return f"{found.partition('{{')[0]}*" if "{{" in found else found


def _reaches(policy: Policy, path: str) -> Place | None:
    """The place of the first rule that gives anything on that path."""
    for item in policy.rules:
        if _gives(item) and matches(filled(item.path), path):
            return item.place
    return None


def _gives(rule: PathRule) -> bool:
    return bool(rule.capabilities) and "deny" not in rule.capabilities


_REVOKE_SELF = "auth/token/revoke-self"
_ELSEWHERE = (
    "sys/policies/acl/anything",
    "sys/mounts/anything",
    "sys/auth/anything",
    "sys/raw/anything",
    "sys/audit/anything",
    "auth/token/create",
    "auth/token/create-orphan",
    "identity/entity",
    "identity/entity-alias",
)


def engineer_policy(
    policy: Policy, mount: str, role_name: str, mounts: Iterable[str], roles: Iterable[str]
) -> Iterable[Problem]:
    """What a policy for one profile gives beyond having a key signed under its own role.

    `mounts` are the PKI mounts of all clusters and `roles` all role names of them.
    """
    forbidden = {
        f"{name}/{verb}/{other}": why
        for name in mounts
        for other in roles
        for verb, why in (
            ("issue", "Vault would make the private key"),
            ("sign-verbatim", "the CSR would choose user and groups"),
            ("sign-self-issued", "an authority of the caller's own could be signed"),
            ("roles", "the role itself could be changed"),
            ("issuer", "the authority could be chosen or changed"),
            ("config", "the mount could be changed"),
            ("revoke", "certificates of others could be revoked"),
        )
    }
    forbidden |= {
        f"{name}/{path}": why
        for name in mounts
        for path, why in (
            ("sign-verbatim", "the CSR would choose user and groups"),
            (f"issuer/default/sign/{role_name}", "the authority could be chosen"),
            ("issuer/default/sign-verbatim", "the CSR would choose user and groups"),
            ("root/sign-intermediate", "an authority of the caller's own could be signed"),
            ("root/generate/exported", "an authority whose key is known could be made"),
            ("keys/generate/exported", "a key that is known could be made"),
            ("root", "the authority could be deleted"),
        )
    }
    forbidden |= {
        f"{name}/sign/{other}": f"a certificate of {name}, role {other} could be signed"
        for name in mounts
        for other in roles
        if (name, other) != (mount, role_name)
    }
    forbidden |= dict.fromkeys(_ELSEWHERE, "it lies outside the PKI mount")
    seen = set()
    for path, why in forbidden.items():
        place = _reaches(policy, path)
        if place is not None and (place, why) not in seen:
            seen.add((place, why))
            yield error(
                "access/unsafe-vault-policy",
                f"the policy {policy.name} reaches `{path}`: {why}",
                place,
                f"give `update` on `{{mount}}/sign/{{role}}` only, that is `{mount}/sign/{role_name}`",
            )
    yield from _parameters(policy, f"{mount}/sign/{role_name}")


_SIGN_PARAMETERS = frozenset(("csr", "common_name", "ttl", "exclude_cn_from_sans"))


def _parameters(policy: Policy, sign: str) -> Iterable[Problem]:
    found = [item for item in policy.rules if matches(filled(item.path), sign)]
    if not found:
        yield error(
            "access/unsafe-vault-policy",
            f"the policy {policy.name} does not reach `{sign}`: nothing could be signed",
            policy.rules[0].place if policy.rules else NOWHERE,
            "add `{mount}/sign/{role}` with `capabilities: [update]`",
        )
    for item in found:
        given = None if item.allowed_parameters is None else set(item.allowed_parameters)
        if given is None or given - _SIGN_PARAMETERS:
            what = "any parameter" if given is None else ", ".join(sorted(given - _SIGN_PARAMETERS))
            yield error(
                "access/unsafe-vault-policy",
                f"the policy {policy.name} lets a request set {what} when it signs",
                item.place,
                "allow csr, common_name, ttl and exclude_cn_from_sans only: `not_after` passes by max_ttl",
            )
        if _gives(item) and "exclude_cn_from_sans" not in item.required_parameters:
            yield error(
                "access/unsafe-vault-policy",
                f"the policy {policy.name} lets a request leave exclude_cn_from_sans out: the name would become an"
                " alternative name too",
                item.place,
                "add `requiredParameters: [csr, common_name, exclude_cn_from_sans]`",
            )
        if _gives(item) and "" not in item.denied_parameters.get("exclude_cn_from_sans", ()):
            yield error(
                "access/unsafe-vault-policy",
                f"the policy {policy.name} lets a request give exclude_cn_from_sans without a value, which passes by a"
                " list of allowed ones: the name would become an alternative name too",
                item.place,
                'add `deniedParameters: {exclude_cn_from_sans: [""]}`',
            )


class SecretPaths:
    """The API paths of all secrets of a cluster, by the service that declares each; answers what a rule reaches.

    A rule without `*` and `+` matches one path, which is looked up; any other is held against every path that begins
    with its literal part. What is proved is the same as when each rule is held against each path.
    """

    def __init__(self, owners: Mapping[str, str], key_value: str) -> None:
        """`owners` are the secrets' paths by the service that declares each."""
        self.key_value = key_value
        self.paths = [(f"{key_value}/{part}/{path}", path) for path in owners for part in ("data", "metadata")]
        self.owners = owners
        self.index = {full: number for number, (full, _) in enumerate(self.paths)}
        self.sorted = sorted(self.index)

    def reached(self, pattern: str, own: Collection[str]) -> int | None:
        """The number of the first path that the pattern covers and that is not one of `own` secrets."""
        literal = pattern.removesuffix("*").partition("+")[0]
        if literal == pattern:
            number = self.index.get(pattern)
            return number if number is not None and self.paths[number][1] not in own else None
        start = bisect_left(self.sorted, literal)
        end = bisect_right(self.sorted, literal, start, key=lambda full: full[: len(literal)])
        for number in sorted(self.index[full] for full in self.sorted[start:end]):
            full, path = self.paths[number]
            if path not in own and matches(pattern, full):
                return number
        return None


def workload_policy(policy: Policy, own: Collection[str], secrets: SecretPaths) -> Iterable[Problem]:
    """What a workload's policy gives beyond reading its own secrets, whose paths are `own`."""
    yield from _beyond(policy, own, secrets)
    for item in policy.rules:
        ends_itself = item.path == _REVOKE_SELF and set(item.capabilities) == {"update"}
        if set(item.capabilities) - {"read", "deny"} and not ends_itself:
            yield error(
                "access/unsafe-vault-policy",
                f"the policy {policy.name} gives more than to read: {', '.join(item.capabilities)}",
                item.place,
                "a workload reads its secrets; people and pipelines write them",
            )
            break
    for path in sorted(own):
        full = f"{secrets.key_value}/data/{path}"
        if _reaches(policy, full) is None:
            yield error(
                "access/unsafe-vault-policy",
                f"the policy {policy.name} does not reach `{full}`, which the service declares",
                policy.rules[0].place if policy.rules else NOWHERE,
                "add `{kv}/data/{path}` with `capabilities: [read]`",
            )


def _beyond(policy: Policy, own: Collection[str], secrets: SecretPaths) -> Iterable[Problem]:
    """The first path that the policy reaches and should not, if any."""
    found = [
        number for item in policy.rules if _gives(item) and (number := secrets.reached(item.path, own)) is not None
    ]
    if found:
        path, secret = secrets.paths[min(found)]
        reached = [(path, f"it is a secret of {secrets.owners[secret]}")]
    else:
        reached = [(path, "it lies outside the key-value mount") for path in _ELSEWHERE]
    for path, why in reached:
        place = _reaches(policy, path)
        if place is not None:
            yield error(
                "access/unsafe-vault-policy",
                f"the policy {policy.name} reaches `{path}`: {why}",
                place,
                "give `read` on `{kv}/data/{path}` only",
            )
            break
