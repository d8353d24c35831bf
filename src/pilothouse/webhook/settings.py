"""`DATA/webhook.yaml`, by which `pilothouse serve` starts the webhook beside the portal:

host: 0.0.0.0
port: 8443
certFile: /etc/pilothouse/webhook.crt
keyFile: /etc/pilothouse/webhook.key
clientCaFile: /etc/pilothouse/api-servers-ca.crt
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pilothouse.files.settings import read_settings

FILE = "webhook.yaml"
PORT = 8443


class Settings(BaseModel):
    """Where it listens, and with what."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=PORT, ge=0, le=65535)
    certificate: Path = Field(alias="certFile")
    key: Path = Field(alias="keyFile")
    client_ca: Path | None = Field(default=None, alias="clientCaFile")


def read(path: Path) -> Settings | None:
    """The settings, or None where there is no such file. `Invalid` for a mistake in it."""
    return read_settings(path, Settings)
