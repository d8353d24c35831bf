"""The `Team` document."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from pilothouse.platform.model import AlertSeverity, Member, Receiver, Rotation, Team
from pilothouse.platform.schemas.base import (
    AbsolutePath,
    Clock,
    Day,
    Email,
    Group,
    NamedModel,
    Strict,
    Timezone,
    Url,
    User,
    exactly_one,
    one_required,
)
from pilothouse.problems import Place
from pilothouse.source import Node


class MemberModel(Strict):
    user: User = Field(description="The directory's name of the account")
    name: str = ""
    email: Email | None = None


class ReceiverModel(Strict):
    """Where alerts of one severity go: exactly one channel."""

    model_config = ConfigDict(json_schema_extra=one_required("email", "webhook", "slackChannel", "pagerdutyKeyFile"))

    severity: Literal["page", "ticket", "info"]
    email: Email | None = None
    webhook: Url | None = Field(default=None, description="An address that takes Alertmanager's webhook format")
    slack_channel: str | None = Field(default=None, description="With `#` in front, quoted")
    pagerduty_key_file: AbsolutePath | None = Field(
        default=None, description="On Alertmanager's machine: the file that holds the integration key"
    )

    @field_validator("slack_channel")
    @classmethod
    def _is_channel(cls, channel: str | None) -> str | None:
        if channel is not None and not channel.startswith(("#", "@")):
            raise ValueError(f'{channel!r} is no channel | write "#channel" or "@person", in quotes')
        return channel

    @model_validator(mode="after")
    def _one_channel(self) -> ReceiverModel:
        exactly_one(self, ("email", "webhook", "slack_channel", "pagerduty_key_file"), "the channel of a receiver")
        return self

    def value(self, place: Place) -> Receiver:
        return Receiver(
            AlertSeverity(self.severity),
            self.email or "",
            self.webhook or "",
            self.slack_channel or "",
            self.pagerduty_key_file or "",
            place,
        )


class OnCallModel(Strict):
    """A weekly rotation: the next user takes over every seven days."""

    users: list[User] = Field(min_length=1, description="In the order of the weeks")
    start: Day = Field(description="The day of the first handover")
    handover: Clock = Field(default=(9, 0), description="The time of day at which the next one takes over")
    timezone: Timezone = "UTC"


class TeamSpec(Strict):
    title: str = ""
    platform: bool = Field(default=False, description="The infrastructure team; exactly one team is it")
    members: list[MemberModel] = Field(default_factory=list)
    groups: list[Group] = Field(default_factory=list, description="Directory groups whose members belong to the team")
    approvers: list[User] = Field(default_factory=list, description="Members who may approve")
    receivers: list[ReceiverModel] = Field(default_factory=list, description="Where its alerts end, by severity")
    on_call: OnCallModel | None = None


class TeamDocument(Strict):
    """A team: its people, who of them approves, and where its alerts end."""

    api_version: Literal["pilothouse.dev/v1"]
    kind: Literal["Team"]
    metadata: NamedModel
    spec: TeamSpec

    def value(self, node: Node) -> Team:
        spec = self.spec
        rotation = spec.on_call
        return Team(
            name=self.metadata.name,
            title=spec.title,
            members=tuple(Member(item.user, item.name, item.email or "") for item in spec.members),
            groups=tuple(spec.groups),
            approvers=tuple(spec.approvers),
            receivers=tuple(
                item.value(node.at("spec", "receivers", index)) for index, item in enumerate(spec.receivers)
            ),
            rotation=Rotation(
                tuple(rotation.users), rotation.start, rotation.handover, rotation.timezone, node.at("spec", "onCall")
            )
            if rotation
            else None,
            platform=spec.platform,
            place=node.at("metadata", "name"),
        )
