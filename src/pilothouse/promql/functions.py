"""What the placer and the checks must know about functions and aggregations.

https://prometheus.io/docs/prometheus/latest/querying/functions/ and …/querying/operators/#aggregation-operators
"""

from __future__ import annotations

_OVER_TIME = """absent avg count first last mad max min present quantile stddev stdvar sum ts_of_first ts_of_last
ts_of_max ts_of_min"""
_OTHERS = """abs absent acos acosh asin asinh atan atanh ceil changes clamp clamp_max clamp_min cos cosh day_of_month
day_of_week day_of_year days_in_month deg delta deriv double_exponential_smoothing end exp floor histogram_avg
histogram_count histogram_fraction histogram_quantile histogram_quantiles histogram_stddev histogram_stdvar
histogram_sum hour idelta increase info irate label_join label_replace ln log10 log2 minute month pi predict_linear rad
range rate resets round scalar sgn sin sinh sort sort_by_label sort_by_label_desc sort_desc sqrt start step tan tanh
time timestamp vector year"""

KNOWN = frozenset(_OTHERS.split()) | {f"{name}_over_time" for name in _OVER_TIME.split()}

SINCE: dict[str, tuple[int, int]] = {
    "histogram_count": (2, 40),
    "histogram_fraction": (2, 40),
    "histogram_sum": (2, 40),
    "limitk": (2, 54),
    "limit_ratio": (2, 54),
    "double_exponential_smoothing": (3, 0),
    "info": (3, 0),
}
"""The first version of Prometheus that has it; what is not named here is in 2.40 already."""

_EXPERIMENTAL = """double_exponential_smoothing end histogram_quantiles info limit_ratio limitk mad_over_time range
sort_by_label sort_by_label_desc start step ts_of_first_over_time ts_of_last_over_time ts_of_max_over_time
ts_of_min_over_time"""
EXPERIMENTAL = frozenset(_EXPERIMENTAL.split())
"""These need `--enable-feature=promql-experimental-functions`."""

ABSENT = frozenset(("absent", "absent_over_time"))
"""True where nothing is found: on a shard that never had the series they say nothing about the others."""

CONSTANT = frozenset(("time", "pi", "vector", "scalar"))

MERGED_BY = {"sum": "sum", "count": "sum", "min": "min", "max": "max", "group": "group"}
"""Aggregations that decompose over shards, and what merges the parts: a count of all is the sum of the counts."""

KEEPS_SERIES = frozenset(("topk", "bottomk", "limitk", "limit_ratio"))
"""Aggregations that return some of the series they read, with all their labels."""
