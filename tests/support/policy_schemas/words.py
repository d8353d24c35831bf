"""What closed schemas are made of, in the form that the API server takes: types everywhere, no references.

Such a schema is called structural
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/). What several fields
must be together is said by `anyOf` and `not`, which every validator understands; only what these cannot say (the order
of two numbers, what is a CIDR) is a rule in CEL, which the API server alone runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

ADDRESS_LENGTH = 43
"""Of the longest IPv6 network as text."""


@dataclass(frozen=True)
class Kind:
    """One kind of one group. `schema` is that of the whole object: `spec`, and `status` where the kind has one."""

    group: str
    version: str
    name: str
    namespaced: bool
    schema: Schema

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"

    @property
    def plural(self) -> str:
        lower = self.name.lower()
        return f"{lower[:-1]}ies" if lower.endswith("y") else f"{lower}s"


def text(pattern: str = "", least: int = 0, most: int = 0) -> Schema:
    bounds = {"pattern": pattern, "minLength": least, "maxLength": most}
    return {"type": "string", **{name: value for name, value in bounds.items() if value}}


def one_of(*values: str, default: str = "") -> Schema:
    return {"type": "string", "enum": list(values), **({"default": default} if default else {})}


def number(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


PORT = number(1, 65535)
PORT_NAME = "([0-9]+-)*[0-9]*[a-z](-?[a-z0-9])*"
"""With a letter, and no hyphen at an end or beside another."""
PORT_NAME_LENGTH = 15
FLAG: Schema = {"type": "boolean"}
DECIMAL: Schema = {"type": "number"}


def number_or_text(low: int, high: int, pattern: str, most: int) -> Schema:
    """A whole number between the two, or a text of that form."""
    return {
        "x-kubernetes-int-or-string": True,
        "minimum": low,
        "maximum": high,
        "pattern": pattern,
        "maxLength": most,
    }


def items(of: Schema, least: int = 0, most: int = 0, unique: bool = False) -> Schema:
    bounds = {"minItems": least, "maxItems": most}
    made: Schema = {"type": "array", "items": of, **{name: value for name, value in bounds.items() if value}}
    return {**made, "x-kubernetes-list-type": "set"} if unique else made


def mapping(of: Schema) -> Schema:
    return {"type": "object", "additionalProperties": of}


def fields(
    optional: Mapping[str, Schema], required: Mapping[str, Schema] | None = None, *rules: Schema, **more: Any
) -> Schema:
    """An object with these fields and no others. `rules` must all hold; `more` are further words of the schema."""
    made: Schema = {"type": "object", "properties": {**optional, **(required or {})}, **more}
    if required:
        made["required"] = sorted(required)
    if rules:
        made["allOf"] = list(rules)
    return made


def exactly_one(choices: Mapping[str, Schema]) -> Schema:
    return fields(choices, minProperties=1, maxProperties=1)


def checked(schema: Schema, *rules: tuple[str, str]) -> Schema:
    """With rules in CEL, each with what it says of the value that breaks it."""
    return {**schema, "x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


# ---------------------------------------------------------------- conditions, for `fields(…, *rules)`


def has(*path: str) -> Schema:
    """The field at that path is there."""
    first, *rest = path
    return {"required": [first], **({"properties": {first: has(*rest)}} if rest else {})}


def filled(*path: str) -> Schema:
    """The list, text or object at that path is there and not empty."""
    first, *rest = path
    inner = (
        filled(*rest) if rest else {"minItems": 1, "minLength": 1, "minProperties": 1}
    )  # each counts for its own type alone
    return {"required": [first], "properties": {first: inner}}


def is_any(name: str, *values: Any) -> Schema:
    """That field is there and has one of these values."""
    return {"required": [name], "properties": {name: {"enum": list(values)}}}


def never(*conditions: Schema) -> Schema:
    """Not all of them at once."""
    return {"not": {"allOf": list(conditions)}}


def needs(when: Schema, *one_of: Schema) -> Schema:
    """Where `when` holds, one of the others does too."""
    return {"anyOf": [{"not": when}, *one_of]}


# ---------------------------------------------------------------- what both families share


def of_format(*formats: str) -> Schema:
    """A text of one of these formats: `cidr`, `ipv4`, `ipv6`. What knows no `cidr` goes by the letters alone."""
    return {**text("^[0-9a-fA-F.:/]+$", most=ADDRESS_LENGTH), "anyOf": [{"format": name} for name in formats]}


LABEL_SELECTOR = fields(
    {
        "matchLabels": mapping(text()),
        "matchExpressions": items(
            fields(
                {"values": items(text())},
                {"key": text(least=1), "operator": one_of("In", "NotIn", "Exists", "DoesNotExist")},
                needs(is_any("operator", "In", "NotIn"), filled("values")),
                never(is_any("operator", "Exists", "DoesNotExist"), filled("values")),
            )
        ),
    }
)
CONDITIONS = fields(
    {
        "conditions": items(
            fields(
                {"observedGeneration": {"type": "integer", "minimum": 0}},
                {
                    "type": text(least=1, most=316),
                    "status": one_of("True", "False", "Unknown"),
                    "reason": text(least=1, most=1024),
                    "message": text(most=32768),
                    "lastTransitionTime": {"type": "string", "format": "date-time"},
                },
            )
        )
    }
)
