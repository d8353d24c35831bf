"""Policy manifests as people write them, read from YAML so that every place is real."""

from __future__ import annotations

from pathlib import Path

from pilothouse.files import snapshot
from pilothouse.policies.reading import Reading, read
from pilothouse.policies.rules import Policy
from pilothouse.problems import Place, Problem, Severity


def documents(folder: Path, text: str) -> Reading:
    """Every document of the text, as a folder of manifests would be read."""
    file = folder / "policies.yaml"
    file.write_text(text, encoding="utf-8")
    found, problems = snapshot.read(file)
    assert [problem for problem in problems if not problem.code.startswith("inventory/duplicate")] == []
    return read(found.policies)


def policy(folder: Path, text: str) -> Policy:
    """The one policy of the text, which has nothing wrong with it."""
    reading = documents(folder, text)
    assert reading.problems == ()
    assert len(reading.policies.policies) == 1
    return reading.policies.policies[0]


def underlined(place: Place) -> str:
    """What the caret stands under."""
    return place.excerpt[place.column - 1 : place.column - 1 + place.width]


def complaint(reading: Reading) -> tuple[str, Severity, str]:
    """The one problem: its code, how bad it is, and what the caret stands under."""
    problem = only(reading)
    return problem.code, problem.severity, underlined(problem.place)


def only(reading: Reading) -> Problem:
    assert len(reading.problems) == 1, [f"{item.place} {item.code} {item.message}" for item in reading.problems]
    return reading.problems[0]
