"""What is derived for the agents and for Elasticsearch."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.builders import bundle_content, cluster, inputs, pod, service

from pilothouse.artifacts.model import Derived
from pilothouse.artifacts.write import serialise
from pilothouse.collectors import logging
from pilothouse.collectors.logging import daemonset
from pilothouse.inputs import Content, Inputs
from pilothouse.inventory.model import Owner
from pilothouse.labels import OWNED_BY, LabelSelector, Requirement, ownership
from pilothouse.platform.model import Endpoint, LogDrop, Logs, Servers
from pilothouse.source import Source

PAYMENTS = service(
    "payments/payments", logs=Logs("json", 200 * 1024, 30, (LogDrop("level", "debug"),), ("Card_Number",))
)
LEDGER = service("payments/ledger", logs=Logs("logfmt", 1024, 90, (LogDrop("message", "ok"), LogDrop("a.b", "x"))))
PLAIN = service("edge/gateway")


def text(derived: Derived, path: str) -> str:
    return str(derived.artifacts[path].data)


def codes(derived: Derived) -> list[str]:
    return [problem.code for problem in derived.problems]


def changed(path: str, old: str, new: str) -> Inputs:
    content = bundle_content()
    source = content.files[path].text
    assert old in source
    return inputs([PAYMENTS], content=bundle_content({path: source.replace(old, new)}))


def test_the_recipe_loses_nothing() -> None:
    body = text(logging.derive(inputs([PAYMENTS])), "fluentd/fluent.conf")
    for line in (
        "write_operation create",
        "id_key _hash",
        'unrecoverable_error_types ["out_of_memory_error"]',
        "request_timeout 30s",
        "reload_connections false",
        "reconnect_on_error true",
        "bulk_message_request_threshold -1",
        "retry_forever true",
        "retry_max_interval 60s",
        "retry_tag ph.retry",
        "overflow_action block",
        "<secondary>",
        "<label @ERROR>",
        "index_name pilothouse-logs-${retention}",
    ):
        assert line in body
    assert "remove_keys _hash" not in body


def test_rejected_records_meet_no_filter_again() -> None:
    root, _ = logging.parse(_source(logging.derive(inputs([PAYMENTS])), "fluentd/fluent.conf"))
    ship = next(item for item in root.all("label") if item.argument == "@SHIP")
    assert ship.all("filter") == ()
    assert [match.argument for match in ship.all("match")] == ["**"]


def _source(derived: Derived, path: str) -> Source:
    return Source(path, text(derived, path))


def test_a_record_is_routed_by_its_pods_labels() -> None:
    wide = service("payments/other", pod_selector=LabelSelector.of(app="payments", tier="x"))
    odd = service(
        "payments/odd",
        pod_selector=LabelSelector(
            (),
            (
                Requirement("a", "In", ("1", "2")),
                Requirement("b", "NotIn", ("3",)),
                Requirement("c", "Exists"),
                Requirement("d", "DoesNotExist"),
            ),
        ),
    )
    routes = text(logging.derive(inputs([PAYMENTS, LEDGER, wide, odd, PLAIN])), "fluentd/routes.conf")
    assert "<filter kubernetes.var.log.containers.**_payments_**>" in routes
    assert 'when "payments" then "json.30d.d2.r1.payments.payments.payments"' in routes
    assert 'l["app"] == "payments" && l["tier"] == "x"' in routes
    assert '["1", "2"].include?(l["a"]) && !["3"].include?(l["b"]) && l.key?("c") && !l.key?("d")' in routes
    # Narrower selectors are tried before a single label.
    payments = routes[routes.index("**_payments_**") :]
    assert payments.index('l["tier"]') < payments.index('case l["app"]')
    # A pod whose labels are unknown may be any of the namespace: all their keys are masked.
    assert '"text.7d.d0.r1.payments._._"' in routes
    assert '"text.7d.d0.r0.edge._._"' in routes


def test_treatments_are_shared_by_value() -> None:
    many = [service(f"payments/s{n}", logs=Logs("json", redact=("card_number",))) for n in range(50)]
    derived = logging.derive(inputs(many))
    treatments = text(derived, "fluentd/treatments.conf")
    assert treatments.count("@clean = lambda") == 2  # the keys of everybody, and those with card_number
    assert treatments.count("JSON.parse") == 1
    assert len(text(derived, "fluentd/routes.conf")) < 50 * 120


def test_2000_services_fit() -> None:
    many = [
        service(f"n{n % 100}/s{n}", logs=Logs("json", redact=(f"key_{n % 40}",), drop=(LogDrop("level", f"l{n % 7}"),)))
        for n in range(2000)
    ]
    derived = logging.derive(inputs(many))
    assert "logging/config-too-large" not in codes(derived)
    total = sum(len(text(derived, f"fluentd/{name}.conf")) for name in ("fluent", "routes", "limits", "treatments"))
    assert total < 600_000


def test_drop_rules_look_into_the_fields() -> None:
    treatments = text(logging.derive(inputs([PAYMENTS, LEDGER])), "fluentd/treatments.conf")
    assert r"key '$[\'data\'][\'level\']'" in treatments
    assert r"pattern '/\\Adebug\\z/'" in treatments
    assert r"key '$[\'data\'][\'a.b\']'" in treatments
    assert r"key '$[\'data\'][\'a\'][\'b\']'" in treatments
    assert "key message" in treatments


def test_a_text_cannot_become_code() -> None:
    nasty = service(
        "payments/x",
        pod_selector=LabelSelector.of(app='"; exit; "#{`id`}'),
        logs=Logs("json", drop=(LogDrop("level", "a/b#{x}\n(.*)"),), redact=('a"]#{`id`}',)),
    )
    derived = logging.derive(inputs([nasty]))
    routes, treatments = text(derived, "fluentd/routes.conf"), text(derived, "fluentd/treatments.conf")
    assert r'\\"; exit; \\"\\#{`id`}' in routes
    assert r"a\\x2fb\\x23\\{x\\}\\x0a\\(\\.\\*\\)" in treatments
    assert r"\\#{`id`}" in treatments
    root, problems = logging.parse(_source(derived, "fluentd/treatments.conf"))
    assert problems == ()
    assert not any(param.ruby for item in root.walk() for param in item.params)


@pytest.mark.parametrize(
    ("owner", "pattern"),
    [
        (Owner("Deployment", "pay"), "pay-[a-z0-9]+-[a-z0-9]{5}"),
        (Owner("StatefulSet", "pay"), "pay-[0-9]+"),
        (Owner("DaemonSet", "pay"), "pay-[a-z0-9]{5}"),
        (Owner("CronJob", "pay"), "pay-[0-9]+-[a-z0-9]{5}"),
        (None, "payments-.+"),
    ],
)
def test_rates_hold_per_service_and_node(owner: Owner | None, pattern: str) -> None:
    pods = [
        pod(f"payments/payments-{n}", {"app": "payments"}, owner=owner, node="a" if n < 2 else "b") for n in range(3)
    ]
    limits = text(logging.derive(inputs([PAYMENTS], pods=pods)), "fluentd/limits.conf")
    assert f'"podname": "/\\\\A(?:{pattern})/"' in limits
    # 200 KiB/s for 5 s and two pods on the fullest node, in lines of 220 bytes.
    assert f"limit {200 * 1024 * 5 * 2 // 220}" in limits


def test_the_output_goes_where_the_cluster_says() -> None:
    on = cluster(servers=Servers(elasticsearch=Endpoint("https://logs.example/es", ca_file="/etc/ca.crt")))
    derived = logging.derive(inputs([PAYMENTS], on=on))
    body = text(derived, "fluentd/fluent.conf")
    for line in ("host logs.example", "port 443", "scheme https", "path /es", "ssl_verify true", "ca_file /etc/ca.crt"):
        assert line in body
    daemon = list(derived.artifacts["fluentd/agents.yaml"].data)[-1]
    assert {"name": "ca", "mountPath": "/etc/ca.crt", "readOnly": True} in daemon["spec"]["template"]["spec"][
        "containers"
    ][0]["volumeMounts"]


def test_manifests_are_ours_and_hold_the_configuration() -> None:
    derived = logging.derive(inputs([PAYMENTS]))
    manifests = list(derived.artifacts["fluentd/agents.yaml"].data)
    assert [item["kind"] for item in manifests] == [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "DaemonSet",
    ]
    for item in manifests:
        assert ownership("dev").items() <= item["metadata"]["labels"].items()
    assert manifests[3]["data"]["fluent.conf"] == text(derived, "fluentd/fluent.conf")
    container = manifests[4]["spec"]["template"]["spec"]["containers"][0]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert [item["name"] for item in container["env"]][-1] == "ELASTICSEARCH_PASSWORD"


def test_a_changed_configuration_restarts_the_agents() -> None:
    def checksum(derived: Derived) -> str:
        daemon = list(derived.artifacts["fluentd/agents.yaml"].data)[-1]
        return str(daemon["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    before = logging.derive(inputs([PAYMENTS]))
    assert checksum(before) == checksum(logging.derive(inputs([PAYMENTS])))
    assert checksum(before) != checksum(logging.derive(inputs([PAYMENTS, LEDGER])))


def test_configuration_is_spread_over_config_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemonset, "CONFIG_BYTES", 5_000)
    derived = logging.derive(inputs([PAYMENTS]))
    manifests = list(derived.artifacts["fluentd/agents.yaml"].data)
    names = [item["metadata"]["name"] for item in manifests if item["kind"] == "ConfigMap"]
    assert names == ["fluentd-config", "fluentd-config-2"]
    monkeypatch.setattr(daemonset, "CONFIG_BYTES", 1_000)
    derived = logging.derive(inputs([PAYMENTS]))
    assert "logging/config-too-large" in codes(derived)
    assert "fluentd/agents.yaml" not in derived.artifacts


def test_same_inputs_same_bytes() -> None:
    first, second = (logging.derive(inputs([PAYMENTS, LEDGER, PLAIN])) for _ in range(2))
    assert [serialise(document) for document in first.artifacts] == [
        serialise(document) for document in second.artifacts
    ]


# ---------------------------------------------------------------- Elasticsearch


def test_one_template_per_retention_class() -> None:
    derived = logging.derive(inputs([PAYMENTS]))
    template = derived.artifacts["elasticsearch/index-templates/pilothouse-logs-30d.json"].data
    assert template["index_patterns"] == ["pilothouse-logs-30d"]
    assert template["data_stream"] == {}
    components = derived.artifacts.under("elasticsearch/component-templates/").documents
    for name in template["composed_of"]:
        assert f"elasticsearch/component-templates/{name}.json" in components
    # Lifecycle settings alone in a component of their own.
    lifecycle = derived.artifacts["elasticsearch/component-templates/pilothouse-logs-30d-lifecycle.json"].data
    assert lifecycle["template"] == {"settings": {"index": {"lifecycle": {"name": "pilothouse-logs-30d"}}}}
    assert "lifecycle" not in json.dumps(template["template"])
    assert template["_meta"][OWNED_BY] == "pilothouse"


def test_lifecycle_keeps_records_at_least_their_days() -> None:
    derived = logging.derive(inputs([PAYMENTS]))
    for days, age in ((3, "24h"), (30, "168h"), (365, "168h")):
        phases = derived.artifacts[f"elasticsearch/lifecycle/pilothouse-logs-{days}d.json"].data["policy"]["phases"]
        assert phases["delete"] == {"min_age": f"{days}d", "actions": {"delete": {}}}
        assert phases["hot"]["actions"]["rollover"] == {"max_primary_shard_size": "50gb", "max_age": age}
        assert ("warm" in phases) == (days > 30)


def test_an_alias_where_there_are_no_data_streams() -> None:
    derived = logging.derive(changed("collectors/elasticsearch/retention.yaml", "write: data-stream", "write: alias"))
    template = derived.artifacts["elasticsearch/index-templates/pilothouse-logs-30d.json"].data
    assert template["index_patterns"] == ["pilothouse-logs-30d-*"]
    assert "data_stream" not in template
    first = derived.artifacts["elasticsearch/first-indices/pilothouse-logs-30d-000001.json"].data
    assert first == {"aliases": {"pilothouse-logs-30d": {"is_write_index": True}}}
    lifecycle = derived.artifacts["elasticsearch/component-templates/pilothouse-logs-30d-lifecycle.json"].data
    assert lifecycle["template"]["settings"]["index"]["lifecycle"]["rollover_alias"] == "pilothouse-logs-30d"


def test_a_busy_class_gets_primaries_and_shrinks_later() -> None:
    busy = replace(PAYMENTS, logs=Logs("json", 100 * 1024**2, 90))
    on = cluster(logging=replace(cluster().logging, data_nodes=3))
    derived = logging.derive(inputs([busy], on=on))
    template = derived.artifacts["elasticsearch/index-templates/pilothouse-logs-90d.json"].data
    assert template["template"]["settings"]["index"]["number_of_shards"] == 3
    warm = derived.artifacts["elasticsearch/lifecycle/pilothouse-logs-90d.json"].data["policy"]["phases"]["warm"]
    assert warm["actions"]["shrink"] == {"number_of_shards": 1}


# ---------------------------------------------------------------- content


@pytest.mark.parametrize(
    ("path", "old", "new", "artifact", "shown"),
    [
        ("fluentd/pipeline.yaml", "refreshInterval: 10s", "refreshInterval: 7s", "fluentd/fluent.conf", "7s"),
        (
            "fluentd/pipeline.yaml",
            "redact: [password,",
            "redact: [pin, password,",
            "fluentd/treatments.conf",
            '"pin" =>',
        ),
        ("fluentd/sizing.yaml", "retryMaxInterval: 60s", "retryMaxInterval: 45s", "fluentd/fluent.conf", "45s"),
        ("fluentd/filters/10-probes.conf", "kube-probe", "my-probe", "fluentd/treatments.conf", "my-probe"),
        ("fluentd/pipeline.yaml", "level: [level,", "level: [sev, level,", "fluentd/treatments.conf", '["sev", '),
    ],
)
def test_content_is_what_is_derived(path: str, old: str, new: str, artifact: str, shown: str) -> None:
    before = text(logging.derive(inputs([PAYMENTS])), artifact)
    after = text(logging.derive(changed(f"collectors/{path}", old, new)), artifact)
    assert shown not in before
    assert shown in after


@pytest.mark.parametrize(
    ("path", "old", "new", "artifact", "shown"),
    [
        ("fluentd/daemonset.yaml", "cpu: 100m", "cpu: 150m", "fluentd/agents.yaml", "150m"),
        ("fluentd/daemonset.yaml", "priorityClassName: system-node-critical", "", "fluentd/agents.yaml", "Exists"),
        ("fluentd/daemonset.yaml", "credentials: fluentd-elasticsearch", "", "fluentd/agents.yaml", "K8S_NODE"),
        (
            "elasticsearch/settings.json",
            '"best_compression"',
            '"default"',
            "elasticsearch/component-templates/pilothouse-logs-settings.json",
            "default",
        ),
        (
            "elasticsearch/mappings.json",
            '"dynamic": false',
            '"dynamic": "strict"',
            "elasticsearch/component-templates/pilothouse-logs-mappings.json",
            "strict",
        ),
    ],
)
def test_content_is_what_is_derived_as_data(path: str, old: str, new: str, artifact: str, shown: str) -> None:
    before = serialise(logging.derive(inputs([PAYMENTS])).artifacts[artifact])
    after = serialise(logging.derive(changed(f"collectors/{path}", old, new)).artifacts[artifact])
    assert before != after
    assert shown.encode() in after


@pytest.mark.parametrize(
    ("path", "old", "new", "code"),
    [
        ("fluentd/pipeline.yaml", "rotateWait", "rotatWait", "logging/unknown-field"),
        ("fluentd/pipeline.yaml", "mask:", "masked:", "logging/missing-field"),
        ("fluentd/pipeline.yaml", "retention: 7d", "retention: 400d", "logging/retention-too-long"),
        ("fluentd/pipeline.yaml", "rate: 50KiB", "rate: 50 lines", "logging/bad-value"),
        ("fluentd/pipeline.yaml", "retention: 30d", "retention: 30", "logging/bad-value"),
        ("fluentd/pipeline.yaml", "rate: 50KiB", "rate: [1]", "logging/bad-value"),
        ("fluentd/pipeline.yaml", "period: 5s", "period: 5", "logging/bad-value"),
        ("fluentd/sizing.yaml", "hardPercent: 10", "hardPercent: 4", "logging/bad-value"),
        ("fluentd/sizing.yaml", "requestTimeout: 30s", "requestTimeout: 5s", "logging/bad-value"),
        ("fluentd/daemonset.yaml", ":v1.16-debian-elasticsearch8-1", ":latest", "logging/bad-value"),
        ("fluentd/daemonset.yaml", ":v1.16-debian-elasticsearch8-1", "", "logging/bad-value"),
        ("fluentd/filters/10-probes.conf", "</filter>", "</filte>", "logging/syntax"),
        ("fluentd/filters/10-probes.conf", "<filter ph.**>", "<filter **>", "logging/filter-piece"),
        ("fluentd/filters/10-probes.conf", "# Access", "a b\n# Access", "logging/filter-piece"),
        ("elasticsearch/retention.yaml", "days: 7,", "days: 2,", "logging/bad-value"),
        ("elasticsearch/retention.yaml", "warmAfterDays: 14", "warmAfterDays: 90", "logging/bad-value"),
        (
            "elasticsearch/mappings.json",
            '"dynamic": false,',
            '"dynamic": false, "dynamic": true,',
            "source/duplicate-key",
        ),
    ],
)
def test_mistakes_in_the_content_are_problems(path: str, old: str, new: str, code: str) -> None:
    derived = logging.derive(changed(f"collectors/{path}", old, new))
    assert code in codes(derived)
    assert len(derived.artifacts) == 0
    assert all(problem.place.path == f"collectors/{path}" and problem.place.line for problem in derived.problems)


@pytest.mark.parametrize(
    "path", ["fluentd/pipeline.yaml", "elasticsearch/retention.yaml", "elasticsearch/settings.json"]
)
def test_missing_and_empty_content_are_problems(path: str) -> None:
    content = bundle_content({f"collectors/{path}": "# nothing\n"})
    assert codes(logging.derive(inputs([PAYMENTS], content=content))) == ["logging/missing-content"]
    without = Content({name: source for name, source in content.files.items() if name != f"collectors/{path}"})
    assert codes(logging.derive(inputs([PAYMENTS], content=without))) == ["logging/missing-content"]


def test_settings_must_be_an_object() -> None:
    content = bundle_content({"collectors/elasticsearch/settings.json": "[1]"})
    assert codes(logging.derive(inputs([PAYMENTS], content=content))) == ["logging/bad-value"]


# ---------------------------------------------------------------- what services ask for


def test_what_a_service_cannot_have() -> None:
    asks = [
        service("a/long", logs=Logs(retention_days=3000)),
        service("a/text", logs=Logs("text", drop=(LogDrop("level", "debug"), LogDrop("stream", "stderr")))),
        service("a/odd", logs=Logs("json", drop=(LogDrop("a']['b", "x"),))),
    ]
    derived = logging.derive(inputs(asks))
    assert sorted(codes(derived)) == [
        "logging/drop-without-key",
        "logging/no-nodes",
        "logging/retention-too-long",
        "logging/unusable-key",
    ]
    assert "a']['b" not in text(derived, "fluentd/treatments.conf")
    assert ".365d." in text(derived, "fluentd/routes.conf")


def test_explanation_of_a_service() -> None:
    given = inputs([PAYMENTS, PLAIN])
    steps = {step.name: step for step in logging.explain(given, "payments/payments")}
    assert list(steps) == ["read", "identify", "route", "parse", "drop", "filter", "redact", "ship", "keep"]
    assert "`level` is `debug`" in steps["drop"].what
    assert steps["keep"].what == "30 days, 1 more copy"
    redactions = [step.what for step in logging.explain(given, "payments/payments") if step.name == "redact"]
    assert redactions[0] == "card_number become [redacted]"
    plain = {step.name: step for step in logging.explain(given, "edge/gateway")}
    assert plain["parse"].what == "the line is the message"
    assert "default" in plain["read"].why
    assert logging.explain(given, "no/such") == ()
    broken = inputs([PLAIN], content=bundle_content({"collectors/fluentd/sizing.yaml": "a: 1\n"}))
    assert logging.explain(broken, "edge/gateway") == ()


def test_every_record_says_how_long_its_line_was_and_whose_it_is() -> None:
    body = text(logging.derive(inputs([PAYMENTS])), "fluentd/fluent.conf")
    where = body.index("<filter ph.**>")
    length = body.index("""bytes '${record["message"].to_s.bytesize}'""", where)
    # Before anything is parsed or masked.
    assert where < length < body.index("@include treatments.conf")
