"""The `AccessProfile` document: which certificate maps to which RBAC."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pilothouse.platform.model import AccessProfile, RbacRule, Scope
from pilothouse.platform.schemas.base import Clusters, Group, Name, NamedModel, Seconds, Strict, User
from pilothouse.source import Node

MINUTE, HOUR = 60, 3600
STANDARD_MAX = 16 * HOUR
ELEVATED_RANGE = (30 * MINUTE, 60 * MINUTE)
SHORTEST = 10 * MINUTE
"""Kubernetes' own minimum for the lifetime of a certificate
(https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/certificate-signing-request-v1/)."""


class RuleModel(Strict):
    """A Kubernetes PolicyRule: resources, or non-resource URLs."""

    api_groups: list[str] = Field(default_factory=list)
    resources: list[str] = Field(default_factory=list)
    verbs: list[str] = Field(min_length=1)
    resource_names: list[str] = Field(default_factory=list)
    non_resource_urls: list[str] = Field(default_factory=list, alias="nonResourceURLs")

    @model_validator(mode="after")
    def _one_subject(self) -> RuleModel:
        if bool(self.resources) == bool(self.non_resource_urls):
            raise ValueError("a rule is about resources or about URLs | give either `resources` or `nonResourceURLs`")
        if self.resources and not self.api_groups:
            raise ValueError('a rule about resources needs their API groups | add apiGroups, [""] for the core group')
        if self.non_resource_urls and (self.api_groups or self.resource_names):
            raise ValueError("a rule about URLs has no API groups or resource names | remove them")
        return self

    def value(self) -> RbacRule:
        return RbacRule(
            tuple(self.api_groups),
            tuple(self.resources),
            tuple(self.verbs),
            tuple(self.resource_names),
            tuple(self.non_resource_urls),
        )


class BreakGlassModel(Strict):
    """People who open the profile together when directory or approvers are gone."""

    people: list[User] = Field(min_length=2, description="Users; any two of them open it together")

    @field_validator("people")
    @classmethod
    def _different(cls, people: list[str]) -> list[str]:
        if len(set(people)) < len(people):
            raise ValueError("somebody is named twice | name two different people or more")
        return people


class ProfileSpec(Strict):
    title: str = Field(min_length=1)
    description: str = Field(min_length=1, description="What it may do, in words; shown to whoever asks")
    groups: list[Group] = Field(default_factory=list, description="Directory groups that may ask")
    scope: Literal["cluster", "team-namespaces", "namespaces"] = Field(
        default="team-namespaces", description="Where the rules hold"
    )
    namespaces: list[Name] = Field(default_factory=list, description="With scope: namespaces")
    rules: list[RuleModel] = Field(default_factory=list)
    cluster_role: str | None = Field(default=None, description="An existing ClusterRole to bind instead of rules")
    lifetime: Seconds | None = Field(
        default=None, description="Given when nothing is said; left out: 16h, elevated 30m"
    )
    max_lifetime: Seconds | None = Field(default=None, description="The most; left out: 16h, elevated 60m")
    renewal: Seconds | None = Field(
        default=None,
        description="How long one certificate lasts; then lifetime is that of the login, which renews it silently",
    )
    elevated: bool = Field(default=False, description="Asked for each time, with a reason")
    approval: bool = Field(default=False, description="Another person must approve")
    without_approval: str = Field(default="", description="Why an elevated profile needs no approval")
    ticket: str = Field(
        default="",
        max_length=200,
        description="Each request names a ticket that looks like this regular expression, such as PLAT-[0-9]+",
    )
    approver_groups: list[Group] = Field(default_factory=list, description="Directory groups that may approve")
    break_glass: BreakGlassModel | None = Field(
        default=None, description="Named people who open it together, instead of groups"
    )
    clusters: Clusters
    generation: int | None = Field(
        default=None,
        ge=1,
        le=999_999,
        description="Part of the groups of its certificates; raised by one and applied, it ends all of them at once",
    )

    @field_validator("cluster_role")
    @classmethod
    def _not_a_system_role(cls, name: str | None) -> str | None:
        if name is not None and (not name or name.startswith("system:")):
            raise ValueError(f"{name!r} is a role of Kubernetes itself | name a role of your own, or write `rules`")
        return name

    @field_validator("ticket")
    @classmethod
    def _an_expression(cls, text: str) -> str:
        try:
            re.compile(text)
        except (re.error, OverflowError) as failure:
            raise ValueError(f"{text!r} is no regular expression: {failure} | such as PLAT-[0-9]+") from failure
        return text

    @model_validator(mode="after")
    def _fits(self) -> ProfileSpec:
        if bool(self.rules) == bool(self.cluster_role):
            raise ValueError("a profile has rules or binds a ClusterRole | give either `rules` or `clusterRole`")
        if (self.scope == "namespaces") != bool(self.namespaces):
            raise ValueError("`namespaces` and `scope: namespaces` go together | give both or neither")
        if self.scope != "cluster" and any(rule.non_resource_urls for rule in self.rules):
            raise ValueError(
                "URLs are not in a namespace | use scope: cluster, or remove the rule with nonResourceURLs"
            )
        if self.ticket and not self.elevated:
            raise ValueError("only a request for an elevated profile names a ticket | remove `ticket`")
        self._lifetimes()
        if self.break_glass is not None:
            self._opened_by_two()
            return self
        if not self.groups:
            raise ValueError("nobody may ask for this profile | name directory groups in `groups`")
        if self.elevated and not self.approval and not self.without_approval.strip():
            raise ValueError(
                "an elevated profile needs another person's approval"
                " | set approval: true with approverGroups, or say why not in `withoutApproval`"
            )
        if self.approval and not self.approver_groups:
            raise ValueError("nobody can approve this profile | name the directory groups in `approverGroups`")
        return self

    def _opened_by_two(self) -> None:
        if not self.elevated:
            raise ValueError("a break-glass profile is an elevated one | set `elevated: true`")
        if self.groups or self.approver_groups or self.without_approval:
            raise ValueError(
                "a break-glass profile is for the people it names"
                " | remove `groups`, `approverGroups` and `withoutApproval`"
            )
        if self.scope == "team-namespaces":
            raise ValueError(
                "teams' namespaces may follow from directory groups"
                " | a break-glass profile has scope: cluster, or scope: namespaces"
            )

    def _lifetimes(self) -> None:
        low, high = ELEVATED_RANGE if self.elevated else (SHORTEST, STANDARD_MAX)
        most = high if self.max_lifetime is None else self.max_lifetime
        given = self.effective_lifetime
        if not low <= most <= high:
            kind = "an elevated profile lasts 30m to 60m" if self.elevated else "a standard profile lasts at most 16h"
            raise ValueError(f"{kind} | set maxLifetime between {low // MINUTE}m and {high // MINUTE}m")
        if not SHORTEST <= given <= most:
            raise ValueError(
                f"the lifetime of {given // MINUTE}m does not fit"
                f" | set lifetime between 10m and maxLifetime, {most // MINUTE}m"
            )

        if self.renewal is not None:
            self._renewed(self.renewal, given)

    def _renewed(self, renewal: int, lifetime: int) -> None:
        if self.elevated:
            raise ValueError("an elevated profile is never renewed | remove `renewal`")
        if self.max_lifetime not in (None, lifetime):
            raise ValueError(
                "with `renewal` the lifetime is that of the login, and nothing longer can be asked for"
                " | remove maxLifetime"
            )
        if not SHORTEST <= renewal < lifetime:
            raise ValueError(
                f"a renewal of {renewal // MINUTE}m does not fit"
                f" | set it between 10m and the lifetime, {lifetime // MINUTE}m"
            )

    @property
    def effective_max(self) -> int:
        if self.renewal is not None:
            return self.effective_lifetime
        return self.max_lifetime or (ELEVATED_RANGE[1] if self.elevated else STANDARD_MAX)

    @property
    def effective_lifetime(self) -> int:
        if self.lifetime is not None:
            return self.lifetime
        most = self.max_lifetime or (ELEVATED_RANGE[1] if self.elevated else STANDARD_MAX)
        return min(most, ELEVATED_RANGE[0] if self.elevated else STANDARD_MAX)


class ProfileDocument(Strict):
    """What a person may ask for, and what the certificate then allows."""

    api_version: Literal["pilothouse.dev/v1"]
    kind: Literal["AccessProfile"]
    metadata: NamedModel
    spec: ProfileSpec

    def value(self, node: Node) -> AccessProfile:
        spec = self.spec
        return AccessProfile(
            name=self.metadata.name,
            title=spec.title,
            description=spec.description,
            groups=tuple(spec.groups),
            rules=tuple(rule.value() for rule in spec.rules),
            scope=Scope(spec.scope),
            namespaces=tuple(spec.namespaces),
            cluster_role=spec.cluster_role or "",
            lifetime=spec.effective_lifetime,
            max_lifetime=spec.effective_max,
            renewal=spec.renewal or 0,
            elevated=spec.elevated,
            approval=spec.approval or spec.break_glass is not None,
            approver_groups=tuple(spec.approver_groups),
            without_approval=spec.without_approval,
            ticket=spec.ticket,
            break_glass=tuple(spec.break_glass.people) if spec.break_glass else (),
            clusters=frozenset(spec.clusters),
            generation=spec.generation or 0,
            place=node.at("metadata", "name"),
        )
