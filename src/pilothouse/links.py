"""Where alerts and dashboards lead people: `alerts/links.yaml`, the one place that names the portal's address.

Whoever writes a link reads it here, so that a platform folder's own file changes all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pilothouse.inputs import Content
from pilothouse.problems import Place, Problem, Problems, error
from pilothouse.source import load, validate

PATH = "alerts/links.yaml"
RUNBOOK = "{runbook}"
"""In `runbookUrl`: the runbook's name."""
PORTAL_RUNBOOKS = f"/runbooks/{RUNBOOK}"


@dataclass(frozen=True, slots=True)
class Links:
    """`portal` has no slash at its end. `runbooks` is the address of a runbook with `{runbook}` in it."""

    portal: str
    runbooks: str

    def runbook(self, name: str) -> str:
        """The address of a runbook by its name."""
        return self.runbooks.replace(RUNBOOK, name)

    @property
    def portal_shows_runbooks(self) -> bool:
        """Whether runbooks are read in the portal, so that the sections of `alerts/runbooks.md` must be there."""
        return self.runbooks == self.portal + PORTAL_RUNBOOKS


class _Links(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True, strict=True)

    portal_url: str = Field(alias="portalUrl")
    runbook_url: str = Field("", alias="runbookUrl")

    @field_validator("portal_url", "runbook_url")
    @classmethod
    def _web(cls, text: str) -> str:
        if not text.startswith(("https://", "http://")):
            raise ValueError("must start with https:// or http:// | write the address as people open it")
        return text

    @field_validator("runbook_url")
    @classmethod
    def _names_the_runbook(cls, text: str) -> str:
        if RUNBOOK not in text:
            raise ValueError(f"must hold {RUNBOOK} | write for example https://wiki.example/runbooks#{RUNBOOK}")
        return text


def read(content: Content) -> tuple[Links | None, Problems]:
    """The links, or None and why there are none. Every reader reports the same problems, so each is told once."""
    source = content.get(PATH)
    if source is None:
        return None, (_missing(f"there is no {PATH}", Place(PATH)),)
    nodes, problems = load(source)
    if not nodes:
        return None, tuple(problems) or (_missing(f"{PATH} is empty", source.place()),)
    parsed, found = validate(nodes[0], _Links, "alerts")
    if parsed is None:
        return None, (*problems, *found)
    portal = parsed.portal_url.rstrip("/")
    return Links(portal, parsed.runbook_url or portal + PORTAL_RUNBOOKS), tuple(problems)


def _missing(message: str, place: Place) -> Problem:
    return error(
        "alerts/missing-content", message, place, "restore the bundle's own file, or write one with `portalUrl`"
    )
