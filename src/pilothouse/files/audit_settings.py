"""`DATA/audit.yaml`: which audit logs the worker reads on, and who applies what is declared."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pilothouse.access.audit.model import Kind
from pilothouse.files.settings import read_settings
from pilothouse.platform import scalars

DEFAULT_GAP = timedelta(minutes=15)
"""A cluster talks to itself every few seconds: an API server's log that is silent for that long has lost lines."""
NEVER = timedelta(days=36500)
"""Vault may have nothing to do for a night."""


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError(f"{value} is no absolute path")
    return value


def _duration(value: str) -> str:
    scalars.duration(value)
    return value


class LogSettings(BaseModel):
    """A log that is read on. `name` tells several of one cluster apart: each API server writes its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    cluster: Annotated[str, Field(min_length=1)]
    kind: Kind
    path: Annotated[Path, AfterValidator(_absolute)]
    name: Annotated[str, Field(max_length=100)] = ""
    gap: Annotated[str, AfterValidator(_duration)] = ""

    @property
    def silence(self) -> timedelta:
        """The silence that is no hole."""
        return timedelta(seconds=scalars.duration(self.gap)) if self.gap else silence(self.kind)


class AuditSettings(BaseModel):
    """`appliers` are, by cluster, the user names under which an API server knows who applies roles and bindings.

    The account that binds requests is not among them: the Cluster document names it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    sources: tuple[LogSettings, ...] = ()
    appliers: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    learning_days: Annotated[int, Field(alias="learningDays", ge=1, le=60)] = 14
    page_at: Annotated[int, Field(alias="pageAt", ge=1, le=1000)] = 50


def silence(kind: Kind) -> timedelta:
    return DEFAULT_GAP if kind is Kind.KUBERNETES else NEVER


def from_file(path: Path) -> AuditSettings:
    """The settings; those of a file that says nothing where there is none. `Invalid` for a mistake in it."""
    return read_settings(path, AuditSettings) or AuditSettings()
