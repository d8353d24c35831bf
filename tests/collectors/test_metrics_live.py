"""What running Prometheus servers show, held against what is rendered and who owns it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pilothouse.collectors.metrics import health
from pilothouse.collectors.metrics.health import Biggest, Health, ServerHealth
from pilothouse.collectors.metrics.live import LoadedGroup, LoadedRule, Sample, Target, Targets
from pilothouse.collectors.metrics.loaded import config_differences, normal, rule_differences

DOCUMENT = {
    "groups": [
        {
            "name": "g",
            "interval": "30s",
            "rules": [
                {"record": "job:up:sum", "expr": 'sum(up{job="a",env!="x"}) by (job)'},
                {
                    "alert": "Down",
                    "expr": "up == 0",
                    "for": "5m",
                    "keep_firing_for": "1m",
                    "labels": {"team": "pay"},
                    "annotations": {"summary": "s"},
                },
            ],
        }
    ]
}
RECORD = LoadedRule("job:up:sum", False, 'sum by (job) (up{env!="x",job="a"})')
ALERT = LoadedRule("Down", True, "up == 0", {"team": "pay"}, {"summary": "s"}, 300.0, 60.0)


def loaded(*rules: LoadedRule, name: str = "g") -> LoadedGroup:
    return LoadedGroup(name, "/etc/rules/g.yaml", 30.0, None, 0.0, rules)


def test_the_same_rules_however_they_are_laid_out() -> None:
    assert rule_differences([DOCUMENT], [loaded(RECORD, ALERT)]) == ()


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([loaded(RECORD)], "g/Down{team=\"pay\"} is rendered and not loaded"),
        ([loaded(RECORD, ALERT, name="h")], "g/Down{team=\"pay\"} is rendered and not loaded"),
        ([loaded(RECORD, ALERT, replace(ALERT, name="More"))], "g/More{team=\"pay\"} is loaded and not rendered"),
        ([loaded(RECORD, ALERT, ALERT)], "g/Down{team=\"pay\"} is loaded and not rendered"),
        (
            [loaded(RECORD, replace(ALERT, expr="up == 1"))],
            'g/Down{team="pay"}: loaded up == 1 for 300s keep 60s, rendered up == 0 for 300s keep 60s',
        ),
        (
            [loaded(RECORD, replace(ALERT, for_seconds=60.0))],
            'g/Down{team="pay"}: loaded up == 0 for 60s keep 60s, rendered up == 0 for 300s keep 60s',
        ),
        (
            [loaded(RECORD, replace(ALERT, annotations={"summary": "t"}))],
            'g/Down{team="pay"}: loaded other annotations, rendered these annotations',
        ),
    ],
)  # fmt: skip
def test_rules_that_differ(groups: list[LoadedGroup], expected: str) -> None:
    found = {str(item): item for item in rule_differences([DOCUMENT], groups)}
    assert expected in found
    assert found[expected].teams == ("pay",)


def test_an_expression_that_we_cannot_read_is_compared_as_text() -> None:
    assert normal("sum(\n  up ) by (") == "sum( up ) by ("


RENDERED = {
    "global": {"scrape_interval": "30s", "external_labels": {"cluster": "dev"}},
    "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["am:9093"]}]}]},
    "scrape_configs": [{"job_name": "a", "sample_limit": 5, "static_configs": [{"targets": ["x:1"]}]}],
}


def test_configuration_that_differs_job_by_job() -> None:
    shown = {
        "global": {"scrape_interval": "30s", "scrape_timeout": "10s", "external_labels": {"cluster": "dev"}},
        "alerting": {"alertmanagers": [{"scheme": "http", "static_configs": [{"targets": ["am:9093"]}]}]},
        "scrape_configs": [
            {"job_name": "a", "sample_limit": 5, "scheme": "http", "static_configs": [{"targets": ["x:1"]}]}
        ],
    }
    assert config_differences(RENDERED, shown) == ()
    shown["global"]["external_labels"] = {"cluster": "prod"}  # type: ignore[index]  # a dictionary of several kinds
    shown["scrape_configs"] = [{**shown["scrape_configs"][0], "sample_limit": 9}, {"job_name": "b"}]  # type: ignore[index]
    assert config_differences(RENDERED, shown) == (
        "global external_labels.cluster: loaded prod, rendered dev",
        "job a sample_limit: loaded 9, rendered 5",
        "the job b is loaded and not rendered",
    )
    assert config_differences(RENDERED, {**shown, "scrape_configs": []})[-1] == "the job a is not loaded"


# ---------------------------------------------------------------- by owner


def test_targets_that_are_down_belong_to_somebody() -> None:
    samples = [
        Sample({"job": "pay/api", "instance": "a:1", "pod": "api-1", "team": "pay"}, 0),
        Sample({"job": "kubelet", "instance": "n:1"}, 0),
    ]
    target = Target("pay/api", {"job": "pay/api", "instance": "a:1"}, "http://a:1", "down", "connection refused")
    first, second = health.down(samples, {"pay/api": Targets((target,))}, "leaf-0", "infra")
    assert (first.owner, first.job, first.error) == ("infra", "kubelet", "")
    assert (second.owner, second.pod, second.error, second.server) == ("pay", "api-1", "connection refused", "leaf-0")


def test_the_error_of_a_federation_is_shown_without_its_selectors() -> None:
    said = (
        'Get "http://leaf-0:9090/federate?match%5B%5D=%7Ba%3D%22x%22%7D&match%5B%5D=up": dial tcp: connection refused'
    )
    labels = {"job": "federate", "instance": "leaf-0:9090"}
    target = Target("federate", labels, "http://leaf-0:9090/federate?match%5B%5D=up", "down", said)
    (found,) = health.down([Sample(labels, 0)], {"federate": Targets((target,))}, "global", "infra")
    assert found.error == 'Get "http://leaf-0:9090/federate": dial tcp: connection refused'


def test_rules_that_fail() -> None:
    bad = replace(ALERT, health="err", error="many-to-many")
    nobodys = replace(RECORD, health="err", error="limit")
    found = health.failing([loaded(RECORD, bad, nobodys)], "global", "infra")
    assert [(item.owner, item.rule, item.error) for item in found] == [
        ("pay", "Down", "many-to-many"),
        ("infra", "job:up:sum", "limit"),
    ]


def test_the_most_series_over_all_leaves() -> None:
    one = {"team": "pay", "namespace": "pay", "service": "api", "job": "pay/api"}
    samples = [Sample(one, 100), Sample(one, 50), Sample({"namespace": "kube-system", "job": "kubelet"}, 120)]
    found, teams = health.biggest(samples, "infra")
    assert found == (Biggest("pay", "pay/api", "pay/api", 150), Biggest("infra", "kubelet", "", 120))
    assert teams == {"pay": 150, "infra": 120}


def test_well_is_only_what_is_known_to_be_well() -> None:
    good = ServerHealth("leaf-0", "http://x")
    assert Health((good,)).is_well
    assert not Health((replace(good, reason="away"),)).is_well
    assert not Health((replace(good, reload_failed=True),)).is_well
    assert not Health((good,), missing=("leaf-1",)).is_well
