"""How the records of each service are treated: format, drop rules, redaction, retention class, rate.

A treatment is made of aspects that are shared by value, so that 2,000 services need as many
elements as there are different lists of drop rules and keys, not 2,000 of each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from pilothouse.collectors.logging.content import Settings, too_long
from pilothouse.inputs import Inputs
from pilothouse.platform.model import LogDrop, Logs, Service
from pilothouse.problems import Problem, error, warning

TEXT_KEYS = ("message", "stream")
"""The keys that a record of format `text` has."""

_UNUSABLE = re.compile(r"""['"\[\]\\\s]|\A\Z""")


@dataclass(frozen=True, slots=True)
class Treated:
    """A service and what happens to its records. `rate` is bytes per second of one pod."""

    service: Service
    format: str
    drop: tuple[LogDrop, ...]
    redact: tuple[str, ...]
    retention: str
    rate: int


@dataclass(frozen=True)
class Treatments:
    """Every service of the cluster, and the fallback of each namespace for pods that no service selects."""

    services: tuple[Treated, ...]
    drops: tuple[tuple[LogDrop, ...], ...]
    redactions: tuple[tuple[str, ...], ...]
    fallback_redactions: tuple[tuple[str, tuple[str, ...]], ...]
    """Per namespace: every key that one of its services redacts. A pod whose labels are not
    known could be any of them."""

    @cached_property
    def drop_ids(self) -> Mapping[tuple[LogDrop, ...], str]:
        """A short name for each list of drop rules, as it stands in tags."""
        return {drops: f"d{index}" for index, drops in enumerate(self.drops)}

    @cached_property
    def redaction_ids(self) -> Mapping[tuple[str, ...], str]:
        return {names: f"r{index}" for index, names in enumerate(self.redactions)}

    def route(self, item: Treated) -> str:
        """The tag of its records, after `ph.`: format.class.dropping.redaction.namespace.service.team."""
        service = item.service
        return ".".join(
            (
                item.format,
                item.retention,
                self.drop_ids[item.drop],
                self.redaction_ids[item.redact],
                service.namespace,
                part(service.name),
                part(service.team),
            )
        )


def part(name: str) -> str:
    """A name as one part of a tag: a dot would begin the next part."""
    return name.replace(".", "_")


def treat(inputs: Inputs, settings: Settings) -> tuple[Treatments, list[Problem]]:
    """The treatments of the cluster's services, and what of their `logs` cannot be done."""
    problems: list[Problem] = []
    defaults = settings.pipeline.defaults
    declared = Logs(defaults.format, defaults.rate, defaults.retention)
    everywhere = settings.pipeline.redact
    treated: list[Treated] = []
    for service in inputs.platform.services_on(inputs.cluster.name):
        logs = service.logs or declared
        retention = settings.retention.class_for(logs.retention_days)
        if retention is None:
            problems.append(too_long(service.key, logs.retention_days, settings.retention, logs.place))
            retention = settings.retention.classes[-1]
        for drop in logs.drop:
            if _UNUSABLE.search(drop.key):
                problems.append(
                    error(
                        "logging/unusable-key",
                        f"{service.key} drops records by the key {drop.key!r}, which Fluentd cannot look up",
                        logs.place,
                        "name a key without quotes, brackets and backslashes",
                        teams=(service.team,),
                    )
                )
            if logs.format == "text" and drop.key not in TEXT_KEYS:
                problems.append(
                    warning(
                        "logging/drop-without-key",
                        f"{service.key} drops records by `{drop.key}`, and a record of format text has only "
                        f"{' and '.join(f'`{key}`' for key in TEXT_KEYS)}",
                        logs.place,
                        "declare `format: json` or `format: logfmt`, or drop by one of those keys",
                        teams=(service.team,),
                    )
                )
        treated.append(
            Treated(
                service,
                logs.format,
                _usable(logs.drop),
                keys(everywhere, logs.redact),
                retention.name,
                logs.rate,
            )
        )
    fallback: dict[str, set[str]] = {}
    for item in treated:
        fallback.setdefault(item.service.namespace, set()).update(item.redact)
    fallbacks = tuple((name, keys((), fallback[name])) for name in sorted(fallback))
    drops = ((), *sorted({item.drop for item in treated if item.drop}, key=_drop_key))
    base = keys(everywhere, ())
    others = {item.redact for item in treated} | {redact for _, redact in fallbacks}
    return (
        Treatments(tuple(treated), drops, (base, *sorted(others - {base})), fallbacks),
        problems,
    )


def _usable(drops: Iterable[LogDrop]) -> tuple[LogDrop, ...]:
    return tuple(
        sorted({drop for drop in drops if not _UNUSABLE.search(drop.key)}, key=lambda drop: (drop.key, drop.equals))
    )


def _drop_key(drops: tuple[LogDrop, ...]) -> list[tuple[str, str]]:
    return [(drop.key, drop.equals) for drop in drops]


def keys(everywhere: Iterable[str], own: Iterable[str]) -> tuple[str, ...]:
    """The keys to mask, each once: they are compared without regard to case."""
    return tuple(sorted({key.lower() for key in (*everywhere, *own)}))
