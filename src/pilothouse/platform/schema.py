"""JSON Schemas of the documents, from the models that parse them (draft 2020-12).

They serve editors: what a schema cannot say (a CIDR's host bits, two ends that must agree) stays with
`platform.documents` and `platform.checks`.
"""

from __future__ import annotations

from typing import Any

from pilothouse.labels import API_VERSION
from pilothouse.platform.documents import MODELS

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def json_schemas() -> dict[str, dict[str, Any]]:
    """By kind, plus `document`: any of them, for a folder that an editor should know as a whole."""
    found = {kind: _schema(kind) for kind in sorted(MODELS)}
    found["document"] = {
        "$schema": _DRAFT,
        "title": f"A document of {API_VERSION}",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {"apiVersion": {"const": API_VERSION}, "kind": {"enum": sorted(MODELS)}},
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": {"$ref": f"{file_name(kind)}"},
            }
            for kind in sorted(MODELS)
        ],
    }
    return found


def file_name(kind: str) -> str:
    """The file of a schema, such as `service.json`."""
    return f"{kind.lower()}.json"


def _schema(kind: str) -> dict[str, Any]:
    schema = MODELS[kind].model_json_schema(by_alias=True, mode="validation")
    return {"$schema": _DRAFT, **_tidy(schema), "title": kind}


def _tidy(value: Any) -> Any:
    """Without what only repeats: generated titles, and `null` beside an optional field's type.

    An optional field is left out, not written as null, so that the schema need not offer null.
    """
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _tidy(item) for key, item in value.items() if not (key == "title" and isinstance(item, str))}
    options = found.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        options = [option for option in options if option != {"type": "null"}]
        del found["anyOf"]
        if found.get("default", "") is None:
            del found["default"]
        found = {**options[0], **found} if len(options) == 1 else {"anyOf": options, **found}
    if found.get("type") == "string" and not isinstance(found.get("default", ""), str):
        del found["default"]  # it is the value that the text stands for (seconds, bytes), not the text
    return found
