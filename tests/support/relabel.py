"""Prometheus' relabelling, for tests: what becomes of a target's or a series' labels.

https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any


def relabel(labels: Mapping[str, str], rules: Iterable[Mapping[str, Any]]) -> dict[str, str] | None:
    """The labels after all rules, or None where one of them drops it."""
    found = dict(labels)
    for rule in rules:
        value = rule.get("separator", ";").join(found.get(name, "") for name in rule.get("source_labels", ()))
        pattern = re.compile(rule.get("regex", "(.*)"), re.DOTALL)
        matched = pattern.fullmatch(value)
        match rule.get("action", "replace"):
            case "keep" if not matched:
                return None
            case "drop" if matched:
                return None
            case "hashmod":
                number = int.from_bytes(hashlib.md5(value.encode()).digest()[8:], "big")
                found[rule["target_label"]] = str(number % rule["modulus"])
            case "replace" if matched:
                found[rule["target_label"]] = _expanded(rule.get("replacement", "$1"), matched)
            case "labeldrop":
                found = {name: value for name, value in found.items() if not pattern.fullmatch(name)}
        found = {name: value for name, value in found.items() if value}
    return found


def _expanded(text: str, matched: re.Match[str]) -> str:
    return re.sub(r"\$(\d)|\$\$", lambda found: matched[int(found[1])] or "" if found[1] else "$", text)


def target(labels: Mapping[str, str] | None) -> dict[str, str] | None:
    """What a target keeps once it is scraped: no label with two underscores in front."""
    if labels is None:
        return None
    return {name: value for name, value in labels.items() if not name.startswith("__") or name == "__address__"}
