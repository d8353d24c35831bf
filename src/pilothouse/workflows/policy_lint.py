"""Lint of the policies in a folder, a file or a snapshot: what is wrong with them, and what they likely do not mean."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pilothouse.files import snapshot as snapshot_files
from pilothouse.inventory.model import Snapshot
from pilothouse.policies.lint import CHECKS, lint
from pilothouse.policies.reading import read
from pilothouse.problems import Invalid, Problems, nearest, one_of, ordered


@dataclass(frozen=True, slots=True)
class Linted:
    """`policies` counts those that were read, staged ones too; `unknown` by kind the objects that were not."""

    problems: Problems = ()
    policies: int = 0
    unknown: Mapping[str, int] = field(default_factory=dict)


def lint_path(path: Path, only: Collection[str] = (), *, preview: bool = False) -> Linted:
    """Everything about the policies at that path, manifests or a snapshot; raises `Invalid` for what is neither."""
    snapshot, problems = snapshot_files.read(path)
    found = lint_snapshot(snapshot, only, preview=preview)
    return Linted(ordered((*problems, *found.problems)), found.policies, found.unknown)


def lint_snapshot(snapshot: Snapshot, only: Collection[str] = (), *, preview: bool = False) -> Linted:
    """`only`: the checks to run, by code or without its `policies/`; what reading complains of is always told.

    `preview` takes every staged policy as enforced. Raises `Invalid` for a check that there is not.
    """
    codes = [code_of(name) for name in only]
    reading = read(snapshot.policies)
    policies = reading.policies.preview() if preview else reading.policies
    problems = ordered((*reading.problems, *lint(snapshot, policies, codes)))
    return Linted(problems, len(reading.policies.policies), reading.unknown)


def code_of(name: str) -> str:
    """The code of a check, given with or without `policies/`."""
    known = {check.code for check in CHECKS}
    code = name if "/" in name else f"policies/{name}"
    if code not in known:
        raise Invalid(f"no check is called `{name}`", nearest(code, known) or one_of(known))
    return code
