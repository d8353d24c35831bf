"""The content folder `secrets/vault`: where things lie in Vault, the role defaults and the policy templates.

Profiles (`secrets/profiles`) are AccessProfile documents and are read with the platform's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pilothouse.inputs import Content
from pilothouse.problems import NOWHERE, Place, Problem, error, nearest, one_of
from pilothouse.source import Node, load, validate

FOLDER = "secrets/vault"
STDOUT = "stdout"
"""Vault's own word for the standard output of its process."""
VARIABLES = {
    "settings": ("cluster",),
    "profile": ("cluster", "mount", "profile", "role"),
    "secret": ("cluster", "kv", "namespace", "path", "service"),
}
"""What may stand in braces: in the mounts of the settings, in a policy for a profile, in a policy for a secret."""

CAPABILITIES = ("create", "read", "update", "patch", "delete", "list", "deny")
"""What a policy of ours may give. `sudo` and `root` are left out on purpose."""


@dataclass(frozen=True, slots=True)
class PathRule:
    """One path of a Vault policy; `allowed_parameters` None means any parameter. A request without one of
    `required_parameters` is refused (https://developer.hashicorp.com/vault/docs/concepts/policies#required_parameters)."""

    path: str
    capabilities: tuple[str, ...]
    allowed_parameters: Mapping[str, tuple[str, ...]] | None = None
    place: Place = field(default=NOWHERE, compare=False, repr=False)
    required_parameters: tuple[str, ...] = ()
    denied_parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values that are refused although they are allowed; `*` at either end stands for anything."""


@dataclass(frozen=True, slots=True)
class PolicyTemplate:
    """The policies of one kind (`profile` or `secret`), with variables in braces in the paths."""

    name: str
    subject: str
    rules: tuple[PathRule, ...]


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The containers that fetch secrets in pods. `interval` and `budget` are seconds, `file_mode` as chmod takes it.

    `image` "" is the bundle's own of this version; `authority_config_map` names a ConfigMap in the service's
    namespace whose `ca.crt` signed Vault's certificate, "" where the system's authorities did.
    """

    image: str = ""
    interval: int = 30
    budget: int = 60
    file_mode: int = 0o444
    authority_config_map: str = ""
    memory: str = "64Mi"


@dataclass(frozen=True, slots=True)
class AuditDevice:
    """An audit device of a Vault (https://developer.hashicorp.com/vault/docs/audit): a file on Vault's machine, or the
    facility of its syslog. Devices on a socket are none: Vault waits for one that hangs."""

    path: str
    file: str = ""
    syslog: str = ""

    def body(self) -> dict[str, Any]:
        """What Vault is told to enable it."""
        if self.syslog:
            return {"type": "syslog", "options": {"facility": self.syslog, "tag": "vault"}}
        mode = {} if self.file == STDOUT else {"mode": "0600"}
        return {"type": "file", "options": {"file_path": self.file, **mode}}


@dataclass(frozen=True)
class VaultContent:
    """Everything of `secrets/vault`. `role` holds Vault's own field names; `role_node` finds their places."""

    accessors: Mapping[str, str]
    authority_mount: str
    max_lease_ttl: str
    workload_mount: str
    audience: str
    key_value_mount: str
    token_ttl: str
    token_max_ttl: str
    role: Mapping[str, Any]
    role_node: Node
    settings_node: Node
    policies: tuple[PolicyTemplate, ...]
    token_networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Cluster → the networks that tokens of its workloads may be used from, as Vault sees them; none: from any."""
    agent: AgentSettings = AgentSettings()
    engineer_networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Cluster → the networks from which its engineers' tokens may be used, as Vault sees them."""
    audit: Mapping[str, tuple[AuditDevice, ...]] = field(default_factory=dict)
    """Cluster → the audit devices of the Vault that it uses."""

    def policies_for(self, subject: str) -> tuple[PathRule, ...]:
        return tuple(rule for template in self.policies if template.subject == subject for rule in template.rules)


# ---------------------------------------------------------------- the documents


def _ttl(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*[smh]", value):
        raise ValueError(f"{value!r} is no duration of Vault | write a number and s, m or h, such as 20m")
    return value


def _mount(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.{}-]+(/[A-Za-z0-9_.{}-]+)*", value) or ".." in value:
        raise ValueError(f"{value!r} is no mount path | write plain segments, such as pki-{{cluster}}")
    return value


def _image(value: str) -> str:
    if value and not re.fullmatch(
        r"[a-z0-9][a-z0-9._/:-]*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|@sha256:[0-9a-f]{64})", value
    ):
        raise ValueError(f"{value!r} is no image of a fixed version | write name:tag or name@sha256:…")
    if value.endswith(":latest"):
        raise ValueError("`latest` is whatever was pushed last | name a version or a digest")
    return value


def _file_mode(value: str) -> str:
    if not re.fullmatch(r"0[4][04][04]", value):
        raise ValueError(f"{value!r} is no mode that only reads | write 0444, 0440 or 0400")
    return value


def _network(value: str) -> str:
    try:
        found = ip_network(value)
        # As Vault gives it back: one address stands without its mask.
        return str(found.network_address) if found.prefixlen == found.max_prefixlen else str(found)
    except ValueError as failure:
        raise ValueError(f"{value!r} is no network | write a CIDR, such as 10.40.0.0/16") from failure


def _audit_file(value: str) -> str:
    if value != STDOUT and not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", value):
        raise ValueError(f"{value!r} is no file for an audit log | write its whole path on Vault's machine, or stdout")
    return value


Ttl = Annotated[str, AfterValidator(_ttl)]
Networks = dict[str, list[Annotated[str, AfterValidator(_network)]]]
Mount = Annotated[str, AfterValidator(_mount)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Engineers(_Strict):
    accessors: dict[str, Annotated[str, Field(pattern=r"^auth_[a-z0-9]+_[0-9a-f]+$")]] = {}
    token_networks: Networks = Field(default_factory=dict, alias="tokenNetworks")


class _Device(_Strict):
    path: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=63)]
    file: Annotated[str, AfterValidator(_audit_file)] | None = None
    syslog: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]*$")] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> _Device:
        if bool(self.file) == bool(self.syslog):
            raise ValueError("an audit device writes to one place | give either `file` or `syslog` (a facility: AUTH)")
        return self


class _Audit(_Strict):
    devices: dict[str, list[_Device]] = {}


class _Authority(_Strict):
    mount: Mount
    max_lease_ttl: Ttl = Field(alias="maxLeaseTtl")


class _Agent(_Strict):
    image: Annotated[str, AfterValidator(_image)] = ""
    interval: Annotated[int, Field(ge=5, le=3600)] = 30
    budget: Annotated[int, Field(ge=5, le=600)] = 60
    file_mode: Annotated[str, AfterValidator(_file_mode), Field(alias="fileMode")] = "0444"
    authority_config_map: Annotated[
        str, Field(alias="authorityConfigMap", pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$", max_length=253)
    ] = ""
    memory: Annotated[str, Field(pattern=r"^[1-9][0-9]*(Mi|Gi)$")] = "64Mi"


class _Workloads(_Strict):
    mount: Mount
    audience: Annotated[str, Field(min_length=1)]
    key_value_mount: Mount = Field(alias="keyValueMount")
    token_ttl: Ttl = Field(alias="tokenTtl")
    token_max_ttl: Ttl = Field(alias="tokenMaxTtl")
    token_networks: Networks = Field(default_factory=dict, alias="tokenNetworks")
    agent: _Agent = _Agent()


class _SettingsSpec(_Strict):
    engineers: _Engineers = _Engineers()
    authority: _Authority
    workloads: _Workloads
    audit: _Audit = _Audit()


class _Settings(_Strict):
    api_version: Literal["pilothouse.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["VaultSettings"]
    spec: _SettingsSpec


class _Role(_Strict):
    api_version: Literal["pilothouse.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["VaultPkiRole"]
    spec: dict[str, bool | int | str | list[str]]


class _Metadata(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]


class _PathSpec(_Strict):
    capabilities: Annotated[list[str], Field(min_length=1)]
    allowed_parameters: dict[str, list[str]] | None = Field(default=None, alias="allowedParameters")
    required_parameters: list[str] = Field(default=[], alias="requiredParameters")
    denied_parameters: dict[str, list[str]] = Field(default={}, alias="deniedParameters")


class _PolicySpec(_Strict):
    subject: Literal["profile", "secret"] = Field(alias="for")
    paths: Annotated[dict[str, _PathSpec], Field(min_length=1)]


class _Policy(_Strict):
    api_version: Literal["pilothouse.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["VaultPolicy"]
    metadata: _Metadata
    spec: _PolicySpec


# ---------------------------------------------------------------- reading


def read(content: Content) -> tuple[VaultContent | None, list[Problem]]:
    """The folder's values, or None where a file is missing or cannot be used; every mistake as a problem."""
    problems: list[Problem] = []
    settings, settings_node = _document(content, "settings.yaml", _Settings, problems)
    role, role_node = _document(content, "pki-role.yaml", _Role, problems)
    templates: list[PolicyTemplate] = []
    for path, _ in content.under(f"{FOLDER}/policies"):
        policy, node = _document(content, path.removeprefix(f"{FOLDER}/"), _Policy, problems)
        if policy and node:
            templates.append(_template(policy, node, problems))
    for subject in ("profile", "secret"):
        if not problems and not any(template.subject == subject for template in templates):
            problems.append(_missing(f"policies/ with `for: {subject}`"))
    if settings and settings_node:
        for part, value in (
            (("authority", "mount"), settings.spec.authority.mount),
            (("workloads", "mount"), settings.spec.workloads.mount),
            (("workloads", "keyValueMount"), settings.spec.workloads.key_value_mount),
        ):
            place = settings_node.at("spec", *part)
            found = unknown_variables(value, "settings", place)
            problems.extend(found)
            if not found and "{cluster}" not in value:
                problems.append(
                    error(
                        "access/shared-mount",
                        f"`{value}` would be one mount for every cluster",
                        place,
                        "put `{cluster}` into it: what holds on one cluster must not hold on another",
                    )
                )
    if problems or not (settings and role and settings_node and role_node):
        return None, problems
    spec = settings.spec
    return VaultContent(
        accessors=dict(sorted(spec.engineers.accessors.items())),
        authority_mount=spec.authority.mount,
        max_lease_ttl=spec.authority.max_lease_ttl,
        workload_mount=spec.workloads.mount,
        audience=spec.workloads.audience,
        key_value_mount=spec.workloads.key_value_mount,
        token_ttl=spec.workloads.token_ttl,
        token_max_ttl=spec.workloads.token_max_ttl,
        role=role.spec,
        role_node=role_node,
        settings_node=settings_node,
        policies=tuple(templates),
        token_networks={name: tuple(found) for name, found in sorted(spec.workloads.token_networks.items())},
        agent=_agent(spec.workloads.agent),
        engineer_networks={name: tuple(found) for name, found in sorted(spec.engineers.token_networks.items())},
        audit={
            name: tuple(AuditDevice(item.path, item.file or "", item.syslog or "") for item in devices)
            for name, devices in sorted(spec.audit.devices.items())
        },
    ), []


def _agent(found: _Agent) -> AgentSettings:
    return AgentSettings(
        found.image, found.interval, found.budget, int(found.file_mode, 8), found.authority_config_map, found.memory
    )


def _document(content: Content, name: str, model: Any, problems: list[Problem]) -> tuple[Any | None, Node | None]:
    source = content.get(f"{FOLDER}/{name}")
    if source is None:
        problems.append(_missing(name))
        return None, None
    nodes, found = load(source)
    problems.extend(found)
    if len(nodes) != 1:
        if not found:
            problems.append(
                error("access/vault-content", f"{len(nodes)} documents stand here, one is wanted", source.place())
            )
        return None, None
    value, complaints = validate(nodes[0], model, "access")
    problems.extend(complaints)
    return value, nodes[0]


def _missing(name: str) -> Problem:
    return error(
        "access/vault-content",
        f"`{FOLDER}/{name}` is missing",
        Place(FOLDER),
        "bring the file of the bundle back, or remove the empty one that is laid over it",
    )


def _template(policy: _Policy, node: Node, problems: list[Problem]) -> PolicyTemplate:
    rules = []
    for path, spec in policy.spec.paths.items():
        place = node.key_at("spec", "paths", path)
        problems.extend(unknown_variables(path, policy.spec.subject, place))
        for index, capability in enumerate(spec.capabilities):
            if capability not in CAPABILITIES:
                problems.append(
                    error(
                        "access/vault-capability",
                        f"a policy may not give `{capability}`",
                        node.at("spec", "paths", path, "capabilities", index),
                        nearest(capability, CAPABILITIES) or one_of(CAPABILITIES),
                    )
                )
        allowed = spec.allowed_parameters
        rules.append(
            PathRule(
                path,
                tuple(spec.capabilities),
                None if allowed is None else {key: tuple(values) for key, values in allowed.items()},
                place,
                tuple(spec.required_parameters),
                {key: tuple(values) for key, values in spec.denied_parameters.items()},
            )
        )
    return PolicyTemplate(policy.metadata.name, policy.spec.subject, tuple(rules))


def unknown_variables(text: str, subject: str, place: Place) -> list[Problem]:
    """A problem for each `{name}` that is not a variable there, and for braces that do not close."""
    try:
        found = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError:
        return [error("access/unknown-variable", f"the braces of `{text}` do not pair up", place, "write `{name}`")]
    known = VARIABLES[subject]
    return [
        error(
            "access/unknown-variable",
            f"`{{{name}}}` is no variable here",
            place,
            nearest(name, known) or one_of(known),
        )
        for name in found
        if name not in known
    ]


def seconds(ttl: str) -> int:
    """`16h` as Vault writes it, in seconds."""
    return int(ttl[:-1]) * {"s": 1, "m": 60, "h": 3600}[ttl[-1]]
