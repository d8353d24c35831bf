"""Reading never fails, leaves nothing out silently, and reads like lines as it reads the first of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.policies.flows import Format, jsontext, read
from pilothouse.policies.flows import layouts as fast

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES: dict[Format, tuple[str, ...]] = {
    Format.GOLDMANE: (
        "flow",
        "Key",
        "startTime",
        "sourceLabels",
        "bytesIn",
        "source_name",
        "policies",
        "items",
        "protocol",
    ),
    Format.CALICO: ("source_name_aggr", "dest_name_aggr", "source_type", "source_ip", "policies", "proto", "dest_port"),
    Format.HUBBLE: (
        "flow",
        "verdict",
        "l4",
        "IP",
        "source",
        "destination",
        "event_type",
        "lost_events",
        "is_reply",
        "time",
    ),
}


def goldmane(**changes: Any) -> dict[str, Any]:
    """protobuf's form; `changes` are of the key or of the flow, whichever has the name."""
    key = {
        "sourceName": "web-*",
        "sourceNamespace": "shop",
        "sourceType": "WorkloadEndpoint",
        "destName": "api-*",
        "destNamespace": "shop",
        "destType": "WorkloadEndpoint",
        "destPort": "80",
        "proto": "tcp",
        "reporter": "Src",
        "action": "Allow",
    }
    flow = {
        "startTime": "1764970845",
        "endTime": "1764970860",
        "sourceLabels": ["app=web"],
        "destLabels": ["app=api"],
        "packetsIn": "1",
        "packetsOut": "2",
        "bytesIn": "30",
        "bytesOut": "40",
        "numConnectionsStarted": "5",
        "numConnectionsCompleted": "6",
        "numConnectionsLive": "7",
    }
    for name, value in changes.items():
        (key if name in key else flow)[name] = value
    return {"id": "1", "flow": {"Key": key, **{name: value for name, value in flow.items() if value is not None}}}


def snake(**changes: Any) -> dict[str, Any]:
    """Go's form."""
    flow = goldmane()["flow"]
    made = {"Key": {under(name): value for name, value in flow["Key"].items()}}
    made |= {
        under(name): int(value) if isinstance(value, str) else value for name, value in flow.items() if name != "Key"
    }
    return {**made, **changes}


def under(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def flow_log(**changes: Any) -> dict[str, Any]:
    return {
        "start_time": 1764970845,
        "end_time": 1764971145,
        "source_name": "-",
        "source_name_aggr": "web-*",
        "source_namespace": "shop",
        "source_type": "wep",
        "source_labels": {"labels": ["app=web", "tier=front", "env=prod"]},
        "dest_name": "-",
        "dest_name_aggr": "api-*",
        "dest_namespace": "shop",
        "dest_port": 80,
        "dest_type": "wep",
        "dest_labels": {"labels": ["app=api", "tier=back"]},
        "proto": "tcp",
        "action": "allow",
        "reporter": "src",
        "policies": {"all_policies": ["0|__PROFILE__|__PROFILE__.kns.shop|allow|0"]},
        "bytes_in": 30,
        "bytes_out": 40,
        "num_flows": 7,
        "num_flows_started": 5,
        "num_flows_completed": 6,
        "packets_in": 1,
        "packets_out": 2,
        "http_requests_allowed_in": 0,
        "process_id": "21842",
        "tcp_mean_mss": 1460,
        **changes,
    }


def whisker(**changes: Any) -> dict[str, Any]:
    return {
        "start_time": "2026-11-20T06:00:00Z",
        "end_time": "2026-11-20T06:00:15Z",
        "action": "Allow",
        "source_name": "web-*",
        "source_namespace": "shop",
        "source_labels": "app=web",
        "dest_name": "api-*",
        "dest_namespace": "shop",
        "dest_labels": "app=api",
        "protocol": "tcp",
        "dest_port": 80,
        "reporter": "Dst",
        "policies": {"enforced": None, "pending": None},
        "packets_in": 1,
        "packets_out": 2,
        "bytes_in": 30,
        "bytes_out": 40,
        **changes,
    }


MAKERS: list[Callable[..., dict[str, Any]]] = [goldmane, snake, flow_log, whisker]


def line(record: Any, spaced: bool = False) -> bytes:
    return json.dumps(record, separators=(", ", ": ") if spaced else (",", ":")).encode()


# ---------------------------------------------------------------- lines that are alike


def plainly(lines: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is read when every line is parsed in full."""
    with monkeypatch.context() as patch:
        patch.setattr(fast.Learnt, "learn", lambda *_: None)
        return read(lines, None, "flows.json")


def numbers(maker: Callable[..., dict[str, Any]], chance: random.Random) -> dict[str, Any]:
    """Other counts and times than a record's own, now and then left out or odd."""
    record = maker()
    flow = record.get("flow", record)
    found: dict[str, Any] = {}
    for name, value in flow.items():
        if name in ("Key", "dest_port") or not (isinstance(value, int) or str(value).isdigit()):
            continue
        drawn: Any = value if "ime" in name and chance.random() < 0.7 else chance.choice((0, 3, 77, 1999, 10**9))
        found[name] = str(drawn) if isinstance(value, str) else drawn
        if chance.random() < 0.02:
            found[name] = chance.choice((None, "x", 1.5, -1, 10**19, True, [], "007"))
    return found


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
@pytest.mark.parametrize("spaced", [False, True])
def test_lines_that_are_alike_are_read_as_a_full_parse_reads_them(
    maker: Callable[..., dict[str, Any]], spaced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(f"{maker.__name__} {spaced}")
    lines = []
    for _ in range(400):
        record = maker(**numbers(maker, chance))
        text = line(record, spaced)
        if chance.random() < 0.05:
            text = text[: chance.randrange(len(text))]  # broken off
        if chance.random() < 0.05:
            text = text.replace(b'"shop"', chance.choice((b'"sh\\u006fp"', b'"market"')), 1)
        lines.append(text + chance.choice((b"", b"\n", b"\r\n")))
    lines.insert(0, line(maker(), spaced))
    assert read(lines, None, "flows.json") == plainly(lines, monkeypatch)


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_lines_of_a_kind_are_parsed_once(maker: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    parses = []
    whole = jsontext.parsed
    monkeypatch.setattr(jsontext, "parsed", lambda text: parses.append(text) or whole(text))
    assert read([line(maker())] * 50, None, "flows.json").records == 50
    assert len(parses) == 1


def test_labels_in_another_order_are_the_same_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(7)
    records = []
    for _ in range(60):
        labels = ["app=web", "tier=front", "env=prod"]
        chance.shuffle(labels)
        records.append(flow_log(source_labels={"labels": labels}))
    lines = [line(record) for record in (*records, flow_log(source_labels={"labels": ["env=prod", "app=web"]}))]
    found = read(lines, None, "flows.json")
    assert found == plainly(lines, monkeypatch)
    assert found.flows[0].source.labels == (("app", "web"), ("env", "prod"))


def test_a_member_that_stands_twice_is_never_read_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = line(goldmane()).replace(b'"bytesOut":"40"', b'"bytesOut":"40","bytesIn":"5"')
    lines = [twice, twice.replace(b'"5","numC', b'"6","numC')] * 3
    assert read(lines, None, "flows.json") == plainly(lines, monkeypatch)


def test_what_was_learnt_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_MOST", 4)
    lines = [
        line(goldmane(sourceName=f"web-{number % 9}-*", startTime=str(1764970000 + number))) for number in range(90)
    ]
    found = read(lines, None, "flows.json")
    assert found == plainly(lines, monkeypatch)
    assert [flow.count for flow in found.flows] == [50] * 9


# ---------------------------------------------------------------- what is broken


def test_broken_lines_are_counted_and_the_first_named() -> None:
    lines = [line(goldmane()), *[b'{"id":"1","flow":{"Key"'] * 8, line(goldmane(proto="quic")), line([1]), b"\xff{}"]
    found = read(lines, Format.GOLDMANE, "flows.json")
    assert (found.records, found.broken, found.lines) == (1, 11, 12)
    syntax = [problem for problem in found.problems if problem.code == "policies/flow-syntax"]
    assert [problem.place.line for problem in syntax] == [0, 2, 3, 4, 5, 6]
    assert syntax[0].message == "4 more lines are left out for like reasons"
    values = [problem.message for problem in found.problems if problem.code == "policies/flow-value"]
    assert values == [
        "line 10 is left out: `proto` is no IP protocol",
        "line 11 is left out: it holds something that is no JSON object",
    ]


def test_a_caret_shows_where_a_short_line_is_broken() -> None:
    (problem,) = (one for one in read([line(snake()), b'{"Key": oops}'], None, "f").problems)
    assert (problem.place.line, problem.place.column, problem.place.excerpt) == (2, 9, '{"Key": oops}')


def test_a_document_that_never_ends_costs_only_itself() -> None:
    lines = [b"{", b'  "flow": {', line(goldmane()), b"{", b'  "flow": {']
    found = read(lines, Format.GOLDMANE, "flows.json")
    assert found.records == 1
    assert [(problem.place.line, problem.code) for problem in found.problems] == [
        (1, "policies/flow-syntax"),
        (4, "policies/flow-syntax"),
    ]


def test_a_document_that_is_too_large_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("pilothouse.policies.flows.read"), "MAX_DOCUMENT", 100)
    lines = [*json.dumps(goldmane(), indent=2).encode().splitlines(), line(goldmane())]
    found = read(lines, Format.GOLDMANE, "flows.json")
    assert found.records == 1
    assert "the document that begins here is larger than 100 bytes" in found.problems[0].message


@pytest.mark.parametrize("name", ["web\x1b[31m", "web\ud800", "w" * 600, ["web"], {"a": 1}, 7, True])
def test_a_name_that_is_none_is_a_problem(name: Any) -> None:
    found = read([line(goldmane(sourceName=name))], Format.GOLDMANE, "flows.json")
    assert [problem.code for problem in found.problems if problem.place.line] == ["policies/flow-value"]
    assert all(problem.message.isprintable() for problem in found.problems)


def test_all_set_aside_says_why() -> None:
    event = {"verdict": "FORWARDED", "is_reply": True, "l4": {"UDP": {}}, "IP": {}}
    (problem,) = read([line(event)], None, "flows.json").problems
    assert problem.message == "flows.json holds no flow: 1 records were set aside (reply)"


@pytest.mark.parametrize("form", [None, *Format])
@given(
    lines=st.lists(
        st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
        max_size=6,
    )
)
@settings(max_examples=60)
def test_no_bytes_make_it_fail(form: Format | None, lines: list[bytes]) -> None:
    found = read(lines, form, "flows")
    assert found.records == 0 or found.form is not None
    assert found.records or found.problems


@pytest.mark.parametrize("form", list(NAMES))
@given(data=st.data())
@settings(max_examples=120)
def test_no_json_makes_it_fail(form: Format, data: st.DataObject) -> None:
    """Real records with any part replaced by anything."""
    base = {Format.GOLDMANE: goldmane, Format.CALICO: flow_log, Format.HUBBLE: dict}[form]()
    record = data.draw(st.dictionaries(st.sampled_from(NAMES[form]), VALUES, max_size=4))
    whole: Any = {**base, **record}
    holder = whole
    for _ in range(data.draw(st.integers(0, 2))):
        inner = [name for name, value in holder.items() if isinstance(value, dict) and value]
        if not inner:
            break
        name = data.draw(st.sampled_from(inner))
        holder[name] = holder = dict(holder[name])
        holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(VALUES)
    text = json.dumps(whole)
    found = read([text.encode()] * 2, form, "flows")
    assert found.lines == 2
    assert found.records + found.broken + sum(found.ignored.values()) >= (0 if "items" in whole else 2)


@given(rows=st.lists(st.lists(st.text(max_size=12), min_size=3, max_size=6), max_size=5))
@settings(max_examples=60)
def test_no_row_makes_it_fail(rows: list[list[str]]) -> None:
    text = ["source,destination,protocol,port,count", *(",".join(row) for row in rows)]
    found = read([line.encode("utf-8", "surrogatepass") for line in text], None, "flows.csv")
    assert found.form is Format.CSV
    assert found.records + found.broken <= len(rows)


def test_deep_nesting_and_long_numbers_are_syntax() -> None:
    lines = [b'{"Key":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"Key":' + b"9" * 5000 + b"}"]
    found = read(lines, Format.GOLDMANE, "flows")
    assert [problem.code for problem in found.problems if problem.place.line] == ["policies/flow-syntax"] * 2
