"""What the models of all kinds share: strictness, names as documents write them, the scalar types."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from pilothouse.labels import LabelSelector, Requirement
from pilothouse.platform import scalars
from pilothouse.platform.model import Network, PortRef


class Strict(BaseModel):
    """Unknown fields are refused, nothing is converted, and names are in camelCase."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel, arbitrary_types_allowed=True)


def _read(reader: Callable[[Any], Any], schema: dict[str, Any]) -> tuple[BeforeValidator, WithJsonSchema]:
    return BeforeValidator(reader), WithJsonSchema(schema)


_LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


Name = Annotated[str, *_read(scalars.dns_label, _text("A DNS-1123 label", pattern=_LABEL_PATTERN, maxLength=63))]
Subdomain = Annotated[str, *_read(scalars.dns_subdomain, _text("A DNS-1123 subdomain", maxLength=253))]
Seconds = Annotated[
    int,
    *_read(
        scalars.duration,
        _text(
            "A duration such as 90s, 5m, 16h, 30d or 1h30m",
            pattern=r"^(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?$",
            minLength=2,
        ),
    ),
]
Days = Annotated[int, *_read(scalars.days, _text("A duration of whole days, such as 30d or 4w"))]
Rate = Annotated[
    int, *_read(scalars.rate, _text("Bytes per second, such as 200KiB/s", pattern=r"^\d+(\.\d+)?\s*[kKMGT]?i?B/s$"))
]
Size = Annotated[int, *_read(scalars.size, _text("A size such as 4GiB", pattern=r"^\d+(\.\d+)?\s*[kKMGT]?i?B$"))]
Day = Annotated[date, *_read(scalars.day, _text("A date such as 2027-01-31", format="date"))]
Clock = Annotated[
    tuple[int, int], *_read(scalars.clock, _text("A time of day such as 09:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$"))
]
Timezone = Annotated[
    str, *_read(scalars.timezone, _text("A name of the IANA time zone database, such as Europe/Berlin"))
]
Cidr = Annotated[Network, *_read(scalars.network, _text("An IPv4 or IPv6 range in CIDR notation, without host bits"))]
Address = Annotated[
    Network, *_read(scalars.address_or_network, _text("An IPv4 or IPv6 address, or a range in CIDR notation"))
]
Domain = Annotated[str, *_read(scalars.domain, _text("A DNS name of at least two labels"))]
Url = Annotated[str, *_read(scalars.url, _text("An http or https address, without credentials", format="uri"))]
AbsolutePath = Annotated[str, *_read(scalars.absolute_path, _text("A path from the root", pattern="^/"))]
HttpPath = Annotated[str, *_read(scalars.http_path, _text("The path of a request", pattern="^/"))]
VaultPath = Annotated[str, *_read(scalars.vault_path, _text("A path below Vault's key-value mount"))]
SecretKey = Annotated[str, *_read(scalars.secret_key, _text("A key of the secret, which becomes a file's name"))]
Email = Annotated[str, *_read(scalars.email, _text("A mail address", format="email"))]
User = Annotated[str, *_read(scalars.user, _text("The directory's name of an account"))]
Group = Annotated[str, *_read(scalars.group, _text("The name of a directory group"))]
Version = Annotated[
    str, *_read(scalars.version, _text('A version, quoted, such as "1.34"', pattern=r"^v?\d+(\.\d+){1,3}$"))
]
PortName = Annotated[str, *_read(scalars.port_name, _text("A port's name, as Kubernetes allows it", maxLength=15))]
PortNumber = Annotated[int, *_read(scalars.port_number, {"type": "integer", "minimum": 1, "maximum": 65535})]
ServiceKey = Annotated[
    tuple[str, str],
    *_read(scalars.service_key, _text("A declared service, as namespace/name", pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")),
]
EdgePort = Annotated[
    PortRef,
    *_read(
        scalars.port_ref,
        {
            "description": "A port's name or number, or a range such as 8000-8100; then /UDP or /SCTP if it is not TCP",
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string", "pattern": r"^([a-z0-9-]{1,15}|\d+-\d+)(/(TCP|UDP|SCTP))?$"},
            ],
        },
    ),
]
_LabelKey = Annotated[str, *_read(scalars.label_key, _text("The key of a label"))]
_LabelValue = Annotated[str, *_read(scalars.label_value, _text("The value of a label", maxLength=63))]
Yes = Annotated[bool, *_read(scalars.yes, {"const": True})]
Clusters = Annotated[
    list[Name],
    Field(default_factory=list, description="The clusters that this holds on; left out or empty: all of them"),
]


class RequirementModel(Strict):
    """One entry of `matchExpressions`."""

    key: _LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[_LabelValue] = Field(default_factory=list)

    @model_validator(mode="after")
    def _values_fit(self) -> RequirementModel:
        if self.operator in ("In", "NotIn") and not self.values:
            raise ValueError(f"{self.operator} needs values | add `values: [...]`")
        if self.operator in ("Exists", "DoesNotExist") and self.values:
            raise ValueError(f"{self.operator} takes no values | remove `values`, or use In or NotIn")
        return self


class SelectorModel(Strict):
    """A Kubernetes LabelSelector; an empty one selects everything."""

    match_labels: dict[_LabelKey, _LabelValue] = Field(default_factory=dict)
    match_expressions: list[RequirementModel] = Field(default_factory=list)

    def value(self) -> LabelSelector:
        return LabelSelector(
            tuple(sorted(self.match_labels.items())),
            tuple(Requirement(item.key, item.operator, tuple(item.values)) for item in self.match_expressions),
        )


class NamedModel(Strict):
    """`metadata` of a document that has no namespace."""

    name: Name


def one_required(*names: str) -> dict[str, Any]:
    """The JSON Schema of `exactly_one`."""
    return {"oneOf": [{"required": [name]} for name in names]}


def exactly_one(model: BaseModel, names: tuple[str, ...], what: str) -> str:
    """The one of the fields that is given; `ValueError` when none or several are."""
    given = [name for name in names if name in model.model_fields_set]
    if len(given) == 1:
        return given[0]
    aliases = {name: type(model).model_fields[name].alias or name for name in names}
    known = ", ".join(aliases.values())
    if not given:
        raise ValueError(f"{what} is missing | give exactly one of {known}")
    both = " and ".join(f"`{aliases[name]}`" for name in given)
    raise ValueError(f"{what} must be one thing, and this gives {both} | keep exactly one of {known}")
