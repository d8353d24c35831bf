"""The Ruby of the rendered filters, run by Ruby: routes, parsing, lifting and redaction of records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.builders import inputs, service
from support.testbed import CLUSTERS, REAL, accepted, derived, run

from pilothouse.artifacts.model import Derived
from pilothouse.collectors import logging
from pilothouse.collectors.logging.config import Element
from pilothouse.labels import LabelSelector, Requirement
from pilothouse.platform.model import Logs
from pilothouse.source import Source

SERVICES = [
    service("pay/api", logs=Logs("json", redact=("card_number", "iban"))),
    service("pay/batch", logs=Logs("logfmt", redact=("iban",))),
    service("pay/narrow", pod_selector=LabelSelector.of(app="api", tier="back")),
    service(
        "pay/odd",
        pod_selector=LabelSelector(
            (("app", 'o"d#{1}d'),), (Requirement("x", "NotIn", ("1",)), Requirement("gone", "DoesNotExist"))
        ),
    ),
]


def read(what: Derived, name: str) -> Element:
    root, problems = logging.parse(Source(name, str(what.artifacts[f"fluentd/{name}"].data)))
    assert problems == ()
    return root


def filters(root: Element, *arguments: str) -> list[dict[str, Any]]:
    """The record_modifier filters for these patterns, in the order of the file."""
    return [
        {"prepare": item.get("prepare_value") or None, "values": {p.key: p.value for p in item.all("record")[0].params}}
        for item in root.all("filter")
        if item.get("@type") == "record_modifier" and set(arguments) & set(item.argument.split())
    ]


def treated(ruby: Path, chain: list[dict[str, Any]], *records: dict[str, Any], tag: str = "") -> list[dict[str, Any]]:
    given = {"filters": chain, "records": [{"tag_parts": tag.split("."), "record": record} for record in records]}
    answer: list[dict[str, Any]] = json.loads(accepted(run(ruby, REAL / "fluentd_filters.rb", stdin=json.dumps(given))))
    return answer


def routed(ruby: Path, what: Derived, namespace: str, *labels: dict[str, str] | None) -> list[str]:
    chain = filters(read(what, "routes.conf"), f"kubernetes.var.log.containers.**_{namespace}_**")
    records = [{"kubernetes": {"labels": item}} if item is not None else {} for item in labels]
    return [record["route"] for record in treated(ruby, chain, *records)]


def test_routes(ruby: Path) -> None:
    what = logging.derive(inputs(SERVICES))
    found = routed(
        ruby,
        what,
        "pay",
        {"app": "api"},
        {"app": "api", "tier": "back"},
        {"app": 'o"d#{1}d'},
        {"app": 'o"d#{1}d', "x": "1"},
        {"app": 'o"d#{1}d', "gone": ""},
        {"app": "other"},
        {},
        None,
    )
    names = [route.split(".")[4:6] for route in found]
    assert names == [["pay", name] for name in ("api", "narrow", "odd", "_", "_", "_", "_", "_")]
    # Whatever it is, an unknown pod is treated as if it had every key of its namespace.
    unknown = found[-1].split(".")[3]
    root = read(what, "treatments.conf")
    assert '"card_number" => true' in filters(root, f"ph.*.*.*.{unknown}.**")[0]["prepare"]


def test_routes_of_the_bank(ruby: Path) -> None:
    for cluster in CLUSTERS:
        found = routed(ruby, derived(cluster), "payments", {"app": "payments"}, {"app": "nobody"})
        assert found[0].endswith(".payments.payments.payments")
        assert found[1].endswith(".payments._._")


def chain_of(what: Derived, form: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """All filters that a record of that format and redaction passes."""
    root = read(what, "treatments.conf")
    wanted = [f"ph.{form}.**"]
    for item in root.all("filter"):
        prepare = item.get("prepare_value")
        if "@keys" in prepare and prepare.count("=> true") == 9 + len(keys) and all(f'"{k}"' in prepare for k in keys):
            wanted.append(item.argument)
    assert len(wanted) == 2
    return filters(root, *wanted)


@pytest.fixture(scope="module")
def json_chain() -> list[dict[str, Any]]:
    return chain_of(logging.derive(inputs(SERVICES[:1])), "json", ("card_number", "iban"))


def test_json_lines(ruby: Path, json_chain: list[dict[str, Any]]) -> None:
    lines = [
        '{"msg": "paid", "severity": "warn", "amount": 3}',
        "Starting up",
        "[1, 2]",
        "42",
        '{"broken": ',
        '{"message": null, "msg": 7}',
    ]
    found = treated(ruby, json_chain, *({"message": line} for line in lines))
    assert (found[0]["message"], found[0]["level"], found[0]["data"]["amount"]) == ("paid", "warn", 3)
    # What is no JSON object stays a text, and is not lost.
    assert [(item["message"], item["data"]) for item in found[1:5]] == [(line, {}) for line in lines[1:5]]
    assert found[5]["message"] == "7"


def test_redaction_at_any_depth(ruby: Path, json_chain: list[dict[str, Any]]) -> None:
    record = {
        "message": "ok",
        "card_number": "4111111111111111",
        "nested": {"list": [{"Card_Number": 4111111111111111, "kept": 1}], "password": {"deep": "4111"}},
        "text": 'sent {\\"card_number\\": \\"4111111111111111\\"}',
        "kept": "card_numbers are fine: 12",
    }
    line = json.dumps(record)
    found = treated(ruby, json_chain, {"message": line})[0]
    assert "4111" not in json.dumps(found)
    assert found["data"]["nested"]["list"][0] == {"Card_Number": "[redacted]", "kept": 1}
    assert found["data"]["nested"]["password"] == "[redacted]"
    assert found["data"]["kept"] == "card_numbers are fine: 12"


@pytest.mark.parametrize(
    "line",
    [
        "card_number=SECRET rest",
        "card_number: 'SECRET words' rest",
        'card_number="SECRET \\" words" rest',
        '{"card_number":"SECRET", rest',
        '{"card_number":SECRET, rest',
        '{\\"card_number\\":\\"SECRET\\", rest',
        "CARD_NUMBER = SECRET; rest",
        "card_number: 4111 1111 1111 1111 rest",
        "Authorization: Bearer SECRET rest",
        "authorization=basic SECRET, rest",
        "?token=SECRET&rest",
    ],
)
def test_redaction_in_text(ruby: Path, json_chain: list[dict[str, Any]], line: str) -> None:
    found = treated(ruby, json_chain, {"message": line})[0]["message"]
    assert "SECRET" not in found
    assert "4111" not in found
    assert "1111" not in found
    assert "[redacted]" in found
    assert found.endswith("rest")


leaf = st.one_of(st.none(), st.booleans(), st.integers(-(10**6), 10**6), st.text(max_size=8))
key = st.sampled_from(["card_number", "CARD_NUMBER", "iban", "a", "b", "message", "level"])
trees = st.recursive(
    leaf, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(key, inner, max_size=4)), max_leaves=12
)


def secrets_in(value: Any) -> bool:
    """Whether a value under a redacted key is anything but the mask."""
    if isinstance(value, dict):
        return any(
            (name.lower() in ("card_number", "iban") and item != "[redacted]") or secrets_in(item)
            for name, item in value.items()
        )
    return isinstance(value, list) and any(map(secrets_in, value))


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(key, trees, max_size=5), min_size=20, max_size=40))
def test_no_redacted_key_survives(ruby: Path, json_chain: list[dict[str, Any]], records: list[dict[str, Any]]) -> None:
    found = treated(ruby, json_chain, *({"message": json.dumps(record)} for record in records))
    assert not any(secrets_in(item["data"]) for item in found)


def test_logfmt_lines(ruby: Path) -> None:
    chain = chain_of(logging.derive(inputs(SERVICES[1:2])), "logfmt", ("iban",))
    found = treated(
        ruby,
        chain,
        {"message": 'level=info msg="two \\"words\\"" iban=DE00 n=3 empty= url=http://a/b?c=d'},
        {"message": "no fields here"},
    )
    assert found[0]["data"] == {
        "level": "info",
        "msg": 'two "words"',
        "iban": "[redacted]",
        "n": "3",
        "empty": "",
        "url": "http://a/b?c=d",
    }
    assert (found[0]["message"], found[0]["level"]) == ('two "words"', "info")
    assert (found[1]["message"], found[1]["data"]) == ("no fields here", {})


def test_identity_of_a_record(ruby: Path) -> None:
    root = read(logging.derive(inputs(SERVICES)), "fluent.conf")
    treat = next(item for item in root.all("label") if item.argument == "@TREAT")
    chain = filters(treat, "ph.**")
    found = treated(ruby, chain, {}, tag="ph.json.30d.d0.r1.pay.api.pay")[0]
    assert found == {"bytes": 0, "cluster": "dev", "retention": "30d", "service": "pay/api", "team": "pay"}
