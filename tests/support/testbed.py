"""The real programs of `tests/real`, and what they are shown: the rendered clusters of examples/bank."""

from __future__ import annotations

import importlib.util
import subprocess
from datetime import date
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from support import policy_kinds

from pilothouse import bundle
from pilothouse.artifacts.model import Derived
from pilothouse.artifacts.write import serialise
from pilothouse.inputs import Inputs

ROOT = Path(__file__).parents[2]
REAL = ROOT / "tests" / "real"
BANK = ROOT / "examples" / "bank"
TODAY = date(2026, 11, 21)
CLUSTERS = ("dev", "prod", "test", "uat")

Done = subprocess.CompletedProcess[str]


@cache
def obtain() -> ModuleType:
    """`tests/real/servers/obtain.py`, which is a script and no part of a package."""
    spec = importlib.util.spec_from_file_location("obtain", REAL / "servers" / "obtain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program(name: str) -> Path:
    """The path of a program of servers/programs.yaml; one that is not here is a failure, never a skip."""
    found: Path | None = obtain().find(name)
    if found is None:
        pytest.fail(f"{name} is not here: run `make test-real`, or python tests/real/servers/obtain.py {name}", False)
    return found


def run(path: Path, *arguments: object, stdin: str | None = None) -> Done:
    """Runs a program to its end; what it says is text."""
    return subprocess.run(
        [str(path), *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=120, check=False
    )


def accepted(done: Done) -> str:
    """What it printed; fails with all of it when it ended with anything but 0."""
    assert done.returncode == 0, (
        f"{done.args} ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    )
    return done.stdout + done.stderr


@cache
def policy_schemas() -> Path:
    """The folder with the closed schemas of the policy kinds that are not Kubernetes' own."""
    from support.bed.process import own_folder

    return policy_kinds.folder(policy_kinds.KINDS, own_folder("schemas"), obtain().schemas.LAYOUT)


def kubeconform(manifests: str) -> Done:
    """Strict, and a kind without a schema is a failure; other policy kinds than Kubernetes' have schemas of our own."""
    layout = obtain().schemas.LAYOUT
    places = (program("kubernetes-schemas"), policy_schemas())
    locations = [item for place in places for item in ("-schema-location", f"{place}/{layout}")]
    return run(program("kubeconform"), "-strict", "-summary", *locations, "-", stdin=manifests)


@cache
def bank(cluster: str) -> Inputs:
    """The inputs of one cluster of examples/bank."""
    from pilothouse.workflows.rendering import inputs_for, open_platform

    return inputs_for(open_platform(BANK), cluster, TODAY)[0]


@cache
def derived(cluster: str) -> Derived:
    """Everything that is derived for one cluster of examples/bank."""
    return bundle.derive(bank(cluster))


def written(what: Derived, prefix: str, into: Path) -> Path:
    """The documents below `prefix`, as files; the folder of that prefix."""
    for document in what.artifacts.under(prefix):
        path = into / document.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(serialise(document))
    return into / prefix
