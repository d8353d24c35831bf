"""`DATA/webhook.yaml`, by which `pilothouse serve` starts the webhook beside the portal:

host: 0.0.0.0
port: 8443
certFile: /etc/pilothouse/webhook.crt
keyFile: /etc/pilothouse/webhook.key
clientCaFile: /etc/pilothouse/api-servers-ca.crt
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pilothouse.problems import Invalid
from pilothouse.source import Source, load

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
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as failure:
        raise Invalid(f"{path} cannot be read: {failure}") from failure
    nodes, problems = load(Source(str(path), text))
    if problems:
        raise Invalid(f"{problems[0].place}: {problems[0].message}", problems[0].hint)
    try:
        return Settings.model_validate(nodes[0].data if nodes else {})
    except ValidationError as failure:
        first = failure.errors(include_input=False)[0]
        raise Invalid(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from failure
