"""The `Platform` document, which names a platform and may lay it over others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pilothouse.platform.schemas.base import NamedModel, Strict


class PlatformSpec(Strict):
    extends: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="Other platform folders, relative to this file; documents of this folder win by kind and name",
    )


class PlatformDocument(Strict):
    """The platform itself. Optional; at most one per folder."""

    api_version: Literal["pilothouse.dev/v1"]
    kind: Literal["Platform"]
    metadata: NamedModel
    spec: PlatformSpec = Field(default_factory=PlatformSpec)
