"""`alerts/runbooks.md`: what to do about an alert, one section for each runbook that a rule names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pilothouse.inputs import Content
from pilothouse.links import Links
from pilothouse.problems import Place, Problem, error, nearest, warning

PATH = "alerts/runbooks.md"
_SECTION = re.compile(r"^## +(.+?) *#*$", re.MULTILINE)
_DROPPED = re.compile(r"[^\w\- ]")


@dataclass(frozen=True, slots=True)
class Runbook:
    """A section: `name` is what rules write, `text` its Markdown without the heading."""

    name: str
    title: str
    text: str


def name_of(title: str) -> str:
    """The name of the section with that heading, as GitHub and others make anchors of headings."""
    return _DROPPED.sub("", title.lower()).replace(" ", "-")


def read(content: Content) -> Mapping[str, Runbook]:
    """The runbooks by name, in the order of the file; empty where there is no such file."""
    source = content.get(PATH)
    text = source.text if source else ""
    heads = list(_SECTION.finditer(text))
    found: dict[str, Runbook] = {}
    for number, head in enumerate(heads, start=1):
        end = heads[number].start() if number < len(heads) else len(text)
        name = name_of(head[1])
        found.setdefault(name, Runbook(name, head[1], text[head.end() : end].strip()))
    return found


def check(content: Content, links: Links, named: Iterable[tuple[str, str, Place]]) -> list[Problem]:
    """What `named`, (alert, runbook, place), would lead to in the portal and is not there.

    Where runbooks are read elsewhere, nobody here knows what is there.
    """
    if not links.portal_shows_runbooks:
        return []
    if content.get(PATH) is None:
        hint = "restore the bundle's own file, or set `runbookUrl` in alerts/links.yaml"
        return [error("alerts/missing-content", f"there is no {PATH}", Place(PATH), hint)]
    known = read(content)
    return [
        warning(
            "alerts/no-runbook",
            f"{PATH} has no section `{runbook}`, where {alert} leads whoever is called",
            place,
            nearest(runbook, known) or "write the section, or name another one",
        )
        for alert, runbook, place in named
        if runbook not in known
    ]
