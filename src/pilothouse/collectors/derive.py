"""The collectors of one cluster: metrics and logs."""

from __future__ import annotations

from collections.abc import Iterable

from pilothouse.artifacts.model import Derived
from pilothouse.collectors import logging, metrics
from pilothouse.inputs import Inputs
from pilothouse.promql.model import Query, Rule


def derive(inputs: Inputs, rules: Iterable[Rule], queries: Iterable[Query]) -> Derived:
    """`prometheus/` from the metrics part, `fluentd/` and `elasticsearch/` from the logging part."""
    parts = (metrics.derive(inputs, rules, queries), logging.derive(inputs))
    artifacts = parts[0].artifacts | parts[1].artifacts
    return Derived(artifacts, tuple(problem for part in parts for problem in part.problems))
