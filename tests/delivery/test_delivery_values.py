"""The values of a cluster's installation follow from the chart's defaults and from what is declared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.builders import bundle_content, cluster, inputs, service

from pilothouse import delivery
from pilothouse.artifacts.model import Derived
from pilothouse.artifacts.write import serialise
from pilothouse.delivery.values import schema
from pilothouse.inputs import Content, Inputs
from pilothouse.platform.model import Endpoint, Servers

VALUES = "helm/pilothouse/values.yaml"
SIZES = "helm/sizes.yaml"


def values(derived: Derived) -> dict[str, Any]:
    assert derived.problems == ()
    found: dict[str, Any] = derived.artifacts["helm/values.yaml"].data
    return found


def changed(path: str, old: str, new: str, **fields: Any) -> Inputs:
    text = bundle_content().files[path].text
    assert old in text
    return inputs([service("a/api")], content=bundle_content({path: text.replace(old, new, 1)}), **fields)


def codes(derived: Derived) -> list[str]:
    return [problem.code for problem in derived.problems]


def test_what_the_cluster_says_lies_over_the_defaults() -> None:
    on = cluster(
        "prod",
        apply="auto",
        api_server_port=7443,
        servers=Servers(
            kubernetes=Endpoint("https://api.example:7443"),
            vault=Endpoint("https://vault.example:8200"),
            prometheus=Endpoint("http://prometheus.example"),
            alertmanagers=(Endpoint("https://am.example:9093"),),
        ),
    )
    found = values(delivery.derive(inputs([service("a/api")], on=on)))
    assert found["cluster"] == "prod"
    assert found["persistence"]["size"] == "10Gi"
    assert found["rbac"] == {"apply": True}
    assert found["networkPolicy"]["egressPorts"] == [80, 443, 6443, 7443, 8200, 9093]
    assert found["servers"]["vault"] == "https://vault.example:8200"
    assert found["servers"]["grafana"] == ""
    assert found["servers"]["alertmanagers"] == ["https://am.example:9093"]
    assert found["image"]["repository"] == "pilothouse"


@pytest.mark.parametrize(("services", "memory"), [(1, "256Mi"), (100, "256Mi"), (101, "512Mi"), (501, "1Gi")])
def test_resources_follow_the_number_of_services(services: int, memory: str) -> None:
    found = values(delivery.derive(inputs([service(f"a/s{n}") for n in range(services)])))
    assert found["portal"]["resources"]["requests"]["memory"] == memory
    assert "cpu" not in found["portal"]["resources"]["limits"]


def test_content_is_what_is_derived() -> None:
    assert values(delivery.derive(changed(VALUES, "size: 10Gi", "size: 40Gi")))["persistence"]["size"] == "40Gi"
    found = values(delivery.derive(changed(SIZES, "requests: {cpu: 100m,", "requests: {cpu: 123m,")))
    assert found["portal"]["resources"]["requests"]["cpu"] == "123m"


@pytest.mark.parametrize(
    ("path", "old", "new", "code", "line"),
    [
        (VALUES, "pullPolicy:", "pulPolicy:", "delivery/unknown-field", True),
        (VALUES, '  tag: ""', "  tag: latest", "delivery/bad-value", True),
        (VALUES, "port: 8420", "port: 0", "delivery/bad-value", True),
        (VALUES, "size: 10Gi", "size: plenty", "delivery/bad-value", True),
        (VALUES, "credentials: []", "credentials: [{secret: a}]", "delivery/missing-field", True),
        (VALUES, "enabled: true", "enabled: [", "source/yaml-syntax", True),
        (SIZES, "services: 100", "services: 900", "delivery/bad-value", True),
        (SIZES, "  - name: large\n", "  - name: large\n    services: 9000\n", "delivery/bad-value", True),
        (SIZES, "    services: 500\n", "", "delivery/bad-value", True),
        (SIZES, "name: small", "nam: small", "delivery/unknown-field", True),
    ],
)
def test_mistakes_in_the_content_are_problems(path: str, old: str, new: str, code: str, line: bool) -> None:
    derived = delivery.derive(changed(path, old, new))
    assert code in codes(derived)
    assert len(derived.artifacts) == 0
    assert all((problem.place.line > 0) is line and problem.place.path == path for problem in derived.problems)


@pytest.mark.parametrize("path", [VALUES, SIZES])
def test_missing_and_empty_content(path: str) -> None:
    assert codes(delivery.derive(inputs([], content=bundle_content({path: "# nothing\n"})))) == [
        "delivery/missing-content"
    ]
    files = {name: source for name, source in bundle_content().files.items() if name != path}
    assert codes(delivery.derive(inputs([], content=Content(files)))) == ["delivery/missing-content"]


def test_the_charts_schema_is_that_of_the_values(root: Path) -> None:
    file = root / "helm" / "pilothouse" / "values.schema.json"
    wanted = json.dumps(schema(), indent=2) + "\n"
    assert file.read_text(encoding="utf-8") == wanted, (
        "write it anew: python -c 'from pilothouse.delivery.values import schema; import json; "
        "print(json.dumps(schema(), indent=2))' > helm/pilothouse/values.schema.json"
    )
    closed = [name for name, item in schema()["$defs"].items() if item.get("additionalProperties") is not False]
    assert closed == []


def test_the_charts_versions_are_those_of_the_package(root: Path) -> None:
    from pilothouse import __version__

    chart = (root / "helm" / "pilothouse" / "Chart.yaml").read_text(encoding="utf-8")
    assert f'appVersion: "{__version__}"' in chart
    assert f"version: {__version__}" in chart


def test_same_inputs_same_bytes() -> None:
    first, second = (delivery.derive(inputs([service("a/api")])).artifacts["helm/values.yaml"] for _ in range(2))
    assert serialise(first) == serialise(second)
