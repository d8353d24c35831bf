"""The JSON Schemas: in step with the models, and saying what the models say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pilothouse.files.schemas import schema_files, write_schemas
from pilothouse.platform.schema import file_name, json_schemas
from pilothouse.problems import Unavailable

SCHEMAS = json_schemas()


def test_the_files_are_in_step(root: Path) -> None:
    folder = root / "docs" / "schema"
    assert sorted(path.name for path in folder.glob("*.json")) == sorted(schema_files())
    for name, text in schema_files().items():
        assert (folder / name).read_text(encoding="utf-8") == text, "run `pilothouse platform schema --out docs/schema`"


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_each_is_a_valid_schema(kind: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[kind])
    assert file_name(kind) == f"{kind.lower()}.json"


def mistakes(kind: str, document: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMAS[kind]).iter_errors(document)]


def service(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "pilothouse.dev/v1",
        "kind": "Service",
        "metadata": {"name": "x", "namespace": "a"},
        "spec": {"team": "a", "podSelector": {"matchLabels": {"app": "x"}}, **spec},
    }


@pytest.mark.parametrize(
    ("spec", "valid"),
    [
        ({}, True),
        ({"egress": [{"to": {"service": "a/b"}, "ports": ["http", 80, "53/UDP", "1-2"]}]}, True),
        ({"egress": [{"to": {"podSelector": {}, "namespaceSelector": {}}}]}, True),
        ({"egress": [{"to": {"service": "a/b", "cidr": "10.0.0.0/8"}}]}, False),
        ({"egress": [{"to": {}}]}, False),
        ({"egres": []}, False),
        ({"alerts": [{"replicasBelow": 3, "for": "5m", "severity": "page"}]}, True),
        ({"alerts": [{"replicasBelow": 3, "expr": "up", "severity": "page"}]}, False),
        ({"alerts": [{"replicasBelow": 3, "for": "5 minutes", "severity": "page"}]}, False),
        ({"logs": {"rate": "200KiB/s", "retention": "30d"}}, True),
        ({"logs": {"rate": 200}}, False),
    ],
)
def test_a_schema_knows_what_the_model_knows(spec: dict[str, Any], valid: bool) -> None:
    assert (mistakes("Service", service(**spec)) == []) == valid


def test_the_example_is_valid(root: Path) -> None:
    checked = 0
    for path in sorted((root / "examples" / "bank").rglob("*.yaml")):
        if "snapshots" in path.parts:
            continue
        for document in yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader):
            if isinstance(document, dict) and document.get("kind") in SCHEMAS:
                assert mistakes(document["kind"], json.loads(json.dumps(document, default=str))) == [], path
                checked += 1
    assert checked > 20


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be written"):
        write_schemas(tmp_path / "file" / "schema")


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    assert len(write_schemas(tmp_path)) == len(SCHEMAS)
    (tmp_path / "team.json").write_text("{}")
    assert [path.name for path in write_schemas(tmp_path)] == ["team.json"]
