"""Every file of the content folders is read: another value in it, and what is derived is another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from pilothouse import bundle, source
from pilothouse.artifacts.write import serialise_all
from pilothouse.files.content import bundle_content, example
from pilothouse.inputs import CONTENT_FOLDERS, Content, Inputs
from pilothouse.policies import guardrails
from pilothouse.problems import Problem
from pilothouse.source import Source
from pilothouse.workflows.rendering import inputs_for, open_platform

TODAY = date(2026, 11, 21)
PROFILES = "secrets/profiles/"
CHART = re.compile(r"helm/pilothouse/(?!values\.yaml$)")
"""Helm's own part of the chart, which it reads itself (tests/real); pilothouse reads the values."""
JUDGED = {"policies/guardrails.yaml", "alerts/runbooks.md"}
"""Nothing is rendered from these: declarations and rules are held against them."""
TOLD = {"title", "description", "summary", "why", "apiVersion", "kind"}
"""What people read, or what cannot be another."""

Outcome = tuple[dict[str, bytes], frozenset[Problem]]


def content_files() -> list[str]:
    return [path for path in bundle_content().sources if not path.endswith("README.md") and not CHART.match(path)]


@pytest.fixture(scope="module")
def prod() -> Inputs:
    return inputs_for(open_platform(example()), "prod", TODAY)[0]


@pytest.fixture(scope="module")
def usual(prod: Inputs) -> Outcome:
    return outcome(prod)


def outcome(inputs: Inputs) -> Outcome:
    derived = bundle.derive(inputs)
    return (
        dict(serialise_all(derived.artifacts)),
        frozenset((*derived.problems, *guardrails.check_guardrails(inputs))),
    )


def changes(path: str, text: str) -> Iterator[str]:
    """The text with one value changed: each in turn, those that only people read last."""
    if path.endswith(".md"):
        yield text.replace("\n## ", "\n## Another ", 1)
    elif path.endswith(".conf"):
        yield re.sub(r"^( +(?!#)\S+ .+)$", r"\1.other", text, count=1, flags=re.MULTILINE)
    else:
        (node,), _ = source.load(Source(path, text))
        for place in sorted(leaves(node.data), key=lambda found: found[-1] in TOLD):
            yield json.dumps(changed(node.data, place))


def leaves(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*place, key))
    else:
        yield place


def changed(value: Any, place: tuple[str | int, ...]) -> Any:
    if place:
        copy = dict(value) if isinstance(value, dict) else list(value)
        copy[place[0]] = changed(value[place[0]], place[1:])
        return copy
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 + 1
    return re.sub(r"\A[0-9]+", lambda number: str(int(number[0]) * 2), value) if value[:1].isdigit() else f"{value}x"


def laid_over(inputs: Inputs, path: str, text: str) -> Inputs:
    """The inputs with that file of a platform over the bundle's."""
    return replace(inputs, content=Content({**inputs.content.files, path: Source(path, text)}))


@pytest.mark.parametrize("path", [path for path in content_files() if not path.startswith(PROFILES)])
def test_another_value_in_a_file_of_content_is_another_outcome(path: str, prod: Inputs, usual: Outcome) -> None:
    """It suffices that some value of the file does so: others wait for a bigger cluster, or another declaration."""
    text = bundle_content().sources[path].text
    ours = prod if prod.content.files[path].origin == "bundle" else laid_over(prod, path, text)
    before = usual if ours is prod else outcome(ours)
    for other in changes(path, text):
        files, problems = outcome(laid_over(prod, path, other))
        if files != before[0] or (path in JUDGED and problems != before[1]):
            return
    pytest.fail(f"nothing in {path} makes a difference")


@pytest.mark.parametrize("path", [path for path in content_files() if path.startswith(PROFILES)])
def test_an_access_profile_that_is_narrowed_to_another_cluster_is_gone_here(path: str, usual: Outcome) -> None:
    (node,), _ = source.load(bundle_content().sources[path])
    narrowed = {**node.data, "spec": {**node.data["spec"], "clusters": ["dev"]}}
    files, _ = outcome(inputs_for(open_platform(example(), {path: json.dumps(narrowed)}), "prod", TODAY)[0])
    name = node.data["metadata"]["name"]
    if f"rbac/{name}.yaml" in usual[0]:
        assert f"rbac/{name}.yaml" not in files
    else:  # its role is the API server's own, and the worker binds it: it stands in the worker's rights alone
        fence = "rbac/worker/elevation.yaml"
        of_profile = f'pilothouse.dev/profile\\"] == \\"{name}\\"'.encode()
        assert of_profile in usual[0][fence]
        assert of_profile not in files[fence]


def test_every_content_folder_has_files_that_are_read() -> None:
    assert {path.partition("/")[0] for path in content_files()} == set(CONTENT_FOLDERS)
