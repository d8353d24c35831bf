"""Standard alerts on made-up series: promtool evaluates the rendered rules of prod and says what fires.

The rules of the leaves and of the global run in one Prometheus here. Its clock begins in 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from support.testbed import accepted, derived, run, written

DAY = 86400
AUTHORITY = "pilothouse_authority_expires_timestamp_seconds"


def fires(promtool: Path, folder: Path, series: Mapping[str, str], query: str, when: Mapping[str, list[str]]) -> None:
    """Holds when `query` over the firing alerts finds, at each time of `when`, series with exactly those labels."""
    rules = written(derived("prod"), "prometheus", folder) / "rules"
    test = {
        "rule_files": [str(path) for side in ("leaf", "global") for path in sorted((rules / side).glob("*.yaml"))],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": query,
                        "eval_time": moment,
                        "exp_samples": [{"labels": labels, "value": 1} for labels in expected],
                    }
                    for moment, expected in when.items()
                ],
            }
        ],
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(test), encoding="utf-8")
    accepted(run(promtool, "test", "rules", path))


def test_authorities_of_several_clusters_are_told_apart(promtool: Path, tmp_path: Path) -> None:
    """Two portals export each of them; the cluster of the alert is the one whose Prometheus raised it."""
    ends = {"dev": 30 * DAY, "prod": 3 * DAY, "uat": 1000 * DAY}
    series = {
        f'{AUTHORITY}{{cluster="{name}",job="pilothouse",instance="{portal}",node="{portal}"}}': f"{end}x130"
        for name, end in ends.items()
        for portal in ("a", "b")
    }
    query = (
        "count by (alertname, authority, cluster, severity, team)"
        ' (ALERTS{alertname=~"Authority.+",alertstate="firing"})'
    )
    common = 'cluster="prod",team="platform"'
    expected = [
        f'{{alertname="AuthorityExpiresNow",authority="prod",severity="page",{common}}}',
        f'{{alertname="AuthorityExpiresSoon",authority="dev",severity="ticket",{common}}}',
        f'{{alertname="AuthorityExpiresSoon",authority="prod",severity="ticket",{common}}}',
    ]
    fires(promtool, tmp_path, series, query, {"10m": [], "2h": expected})


def test_a_missing_leaf_is_known_at_once_and_until_rates_are_whole(promtool: Path, tmp_path: Path) -> None:
    series = {
        'up{job="federate",instance="leaf-0"}': "1x40",
        'up{job="federate",instance="leaf-1"}': "1x40",
        'up{job="federate",instance="leaf-2"}': "1x9 0x9 1x20",
    }
    query = 'count by (alertname, severity) (ALERTS{alertname=~"PrometheusLea.+",alertstate="firing"})'
    guard = '{alertname="PrometheusLeavesMissing",severity="info"}'
    down = '{alertname="PrometheusLeafDown",severity="page"}'
    fires(
        promtool,
        tmp_path,
        series,
        query,
        {"9m": [], "10m": [guard], "15m": [guard, down], "22m": [guard], "27m": []},
    )


def test_the_leaf_of_kube_state_metrics_is_known_to_be_away_before_what_it_scrapes(
    promtool: Path, tmp_path: Path
) -> None:
    """So that what the leaf takes along is held back from its first moment to its last (`leaf-away`)."""
    series = {
        'up{job="federate",instance="leaf-0"}': "1x9 0x19 1x20",
        'up{job="federate",instance="leaf-1"}': "1x60",
        'up{job="kube-state-metrics",instance="ksm"}': "1x9 stale _x20 1x20",
    }
    query = (
        'count by (alertname, severity) (ALERTS{alertname=~"PrometheusLea.+|KubeStateMetricsDown",alertstate="firing"})'
    )
    guard = '{alertname="PrometheusLeavesMissing",severity="info"}'
    down = '{alertname="PrometheusLeafDown",severity="page"}'
    taken = '{alertname="KubeStateMetricsDown",severity="page"}'
    fires(
        promtool,
        tmp_path,
        series,
        query,
        {"10m": [guard], "13m": [guard, down], "20m": [guard, down, taken], "30m": [guard, taken], "32m": [guard]},
    )


@pytest.mark.parametrize(("share", "expected"), [(0.75, False), (0.9, True)])
def test_a_service_near_its_sample_limit_is_told_in_time(
    share: float, expected: bool, promtool: Path, tmp_path: Path
) -> None:
    jobs = derived("prod").artifacts["prometheus/leaf-0.yaml"].data["scrape_configs"]
    (limit,) = [job["sample_limit"] for job in jobs if job["job_name"] == "payments/payments"]
    labels = 'namespace="payments",service="payments",team="payments",pod="payments-1"'
    series = {
        f'scrape_samples_post_metric_relabeling{{job="payments/payments",instance="a",{labels}}}': f"{share * limit}x40"
    }
    query = (
        "count by (cluster, namespace, pod, service, severity, team)"
        ' (ALERTS{alertname="SampleLimitNear",alertstate="firing"})'
    )
    found = [f'{{cluster="prod",severity="ticket",{labels}}}'] if expected else []
    fires(promtool, tmp_path, series, query, {"10m": [], "30m": found})
