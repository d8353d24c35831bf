"""Each format of observed flows: small samples, written by hand from the formats' own references."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from pilothouse.policies import flows
from pilothouse.policies.flows import EndKind, Flow, FlowEnd, Format, Observed, PolicyHit, Reading, detect
from pilothouse.policies.rules import Direction


def read(lines: Iterable[str | bytes], form: Format | None, shown: str) -> Reading:
    return flows.read([line if isinstance(line, bytes) else line.encode() for line in lines], form, shown)


WEB = FlowEnd(EndKind.WORKLOAD, "shop", "web-7d98456675-*", (("app", "web"), ("pod-template-hash", "7d98456675")))
API = FlowEnd(EndKind.WORKLOAD, "stock", "api-6cfdddccbb-*", (("app", "api"),))

KEY: dict[str, Any] = {
    "sourceName": "web-7d98456675-*",
    "sourceNamespace": "shop",
    "sourceType": "WorkloadEndpoint",
    "destName": "api-6cfdddccbb-*",
    "destNamespace": "stock",
    "destType": "WorkloadEndpoint",
    "destPort": "8080",
    "destServiceName": "api",
    "destServiceNamespace": "stock",
    "destServicePortName": "http",
    "destServicePort": "80",
    "proto": "tcp",
    "reporter": "Src",
    "action": "Allow",
    "policies": {
        "enforcedPolicies": [{"kind": "Profile", "name": "kns.shop", "action": "Allow"}],
        "pendingPolicies": [
            {
                "kind": "EndOfTier",
                "tier": "default",
                "action": "Deny",
                "ruleIndex": "-1",
                "trigger": {
                    "kind": "StagedNetworkPolicy",
                    "namespace": "shop",
                    "name": "default.web",
                    "tier": "default",
                },
            }
        ],
    },
}
GOLDMANE: dict[str, Any] = {
    "Key": KEY,
    "startTime": "1764970845",
    "endTime": "1764970860",
    "sourceLabels": ["app=web", "pod-template-hash=7d98456675"],
    "destLabels": ["app=api"],
    "packetsIn": "11",
    "packetsOut": "14",
    "bytesIn": "957",
    "bytesOut": "1226",
    "numConnectionsStarted": "2",
    "numConnectionsLive": "3",
}
FLOW_LOG: dict[str, Any] = {
    "start_time": 1764970845,
    "end_time": 1764971145,
    "source_ip": None,
    "source_name": "-",
    "source_name_aggr": "web-7d98456675-*",
    "source_namespace": "shop",
    "source_port": None,
    "source_type": "wep",
    "source_labels": {"labels": ["pod-template-hash=7d98456675", "app=web"]},
    "dest_ip": None,
    "dest_name": "-",
    "dest_name_aggr": "api-6cfdddccbb-*",
    "dest_namespace": "stock",
    "dest_port": 8080,
    "dest_type": "wep",
    "dest_labels": {"labels": ["app=api"]},
    "dest_service_namespace": "stock",
    "dest_service_name": "api",
    "proto": "tcp",
    "action": "allow",
    "reporter": "src",
    "policies": {
        "all_policies": [
            "0|default|shop/default.staged:web|deny|2",
            "1|default|shop/knp.default.web|allow|0",
            "2|__PROFILE__|__PROFILE__.kns.shop|allow|0",
        ]
    },
    "bytes_in": 900,
    "bytes_out": 100,
    "num_flows": 41,
    "num_flows_started": 37,
    "num_flows_completed": 39,
    "packets_in": 37,
    "packets_out": 3,
    "http_requests_allowed_in": 0,
}
HUBBLE: dict[str, Any] = {
    "time": "2026-11-20T06:00:34.567800123Z",
    "verdict": "FORWARDED",
    "IP": {"source": "10.0.1.4", "destination": "10.0.2.9", "ipVersion": "IPv4"},
    "l4": {"TCP": {"source_port": 31793, "destination_port": 8080, "flags": {"SYN": True}}},
    "source": {
        "ID": 12,
        "identity": 4711,
        "namespace": "shop",
        "labels": ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop", "k8s:io.cilium.k8s.policy.cluster=prod"],
        "pod_name": "web-7d98456675-x2b4k",
        "workloads": [{"name": "web", "kind": "Deployment"}],
    },
    "destination": {"namespace": "stock", "labels": ["k8s:app=api"], "pod_name": "api-0"},
    "Type": "L3_L4",
    "node_name": "node-1",
    "event_type": {"type": 5},
    "destination_service": {"name": "api", "namespace": "stock"},
    "traffic_direction": "EGRESS",
    "is_reply": False,
    "egress_allowed_by": [{"name": "web-to-api", "namespace": "shop", "kind": "CiliumNetworkPolicy"}],
    "Summary": "TCP Flags: SYN",
}


def lines(*records: Any) -> list[bytes]:
    return [json.dumps(record, separators=(",", ":")).encode() for record in records]


def reading(*records: Any) -> Reading:
    found = read(lines(*records), None, "flows.json")
    assert found.problems == ()
    return found


def only(*records: Any) -> Flow:
    (flow,) = reading(*records).flows
    return flow


def snake(value: Any) -> Any:
    """As Go's encoding/json prints the messages: their own names, numbers as numbers."""
    numbers = {
        "WorkloadEndpoint": 1,
        "Src": 1,
        "Allow": 1,
        "Deny": 2,
        "Profile": 9,
        "EndOfTier": 10,
        "StagedNetworkPolicy": 3,
    }
    if isinstance(value, dict):
        return {
            key if key == "Key" else "".join(f"_{c.lower()}" if c.isupper() else c for c in key): snake(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [snake(item) for item in value]
    text = str(value)
    return int(text) if text.removeprefix("-").isdigit() else numbers.get(text, value)


# ---------------------------------------------------------------- Goldmane

EXPECTED = Flow(
    WEB,
    API,
    6,
    8080,
    "stock/api",
    3,
    2183,
    25,
    1764970845.0,
    1764970860.0,
    Observed.ALLOW,
    Direction.EGRESS,
    (PolicyHit("Profile", "kns.shop", action="allow"),),
    (PolicyHit("EndOfTier", "default.web", "shop", "default", "deny"),),
)


@pytest.mark.parametrize(
    "record",
    [
        GOLDMANE,
        {"id": "7", "flow": GOLDMANE},
        {"meta": {"totalPages": "1"}, "flows": [{"id": "7", "flow": GOLDMANE}]},
        snake(GOLDMANE),
    ],
    ids=["Flow", "FlowResult", "FlowListResult", "Go"],
)
def test_goldmane_in_its_spellings(record: dict[str, Any]) -> None:
    assert detect(lines(record)[0]) is Format.GOLDMANE
    assert only(record) == EXPECTED


@pytest.mark.parametrize(
    "text", [json.dumps({"id": "7", "flow": GOLDMANE}, indent=2), json.dumps([GOLDMANE], indent=4)]
)
def test_documents_over_many_lines_as_grpcurl_and_jq_print_them(text: str) -> None:
    found = read([*text.splitlines(), "", *text.splitlines()], None, "flows.json")
    assert found.problems == ()
    assert found.records == 2
    assert [(flow.count, flow.bytes) for flow in found.flows] == [(4, 4366)]


def whisker(**changes: Any) -> dict[str, Any]:
    return {
        "start_time": "2026-11-20T06:00:00Z",
        "end_time": "2026-11-20T06:00:15Z",
        "action": "Deny",
        "source_name": "PUBLIC NETWORK",
        "source_namespace": "-",
        "source_labels": "",
        "dest_name": "web-7d98456675-*",
        "dest_namespace": "shop",
        "dest_labels": "app=web | pod-template-hash=7d98456675",
        "protocol": "tcp",
        "dest_port": 443,
        "reporter": "Dst",
        "policies": {
            "enforced": [
                {
                    "kind": "NetworkPolicy",
                    "name": "web",
                    "namespace": "shop",
                    "tier": "default",
                    "action": "Deny",
                    "policy_index": 0,
                    "rule_index": 1,
                    "trigger": None,
                }
            ],
            "pending": None,
        },
        "packets_in": 3,
        "packets_out": 0,
        "bytes_in": 180,
        "bytes_out": 0,
        **changes,
    }


def test_whisker_counts_the_windows_in_which_a_flow_was_seen() -> None:
    later = whisker(start_time="2026-11-20T06:00:15Z", end_time="2026-11-20T06:00:30Z")
    for found in (reading(whisker(), later), reading({"total": {"totalPages": 1}, "items": [whisker(), later]})):
        (flow,) = found.flows
        assert found.form is Format.GOLDMANE
        assert (flow.source, flow.destination) == (FlowEnd(EndKind.PUBLIC), WEB)
        assert (flow.protocol, flow.port, flow.action) == (6, 443, Observed.DENY)
        assert (flow.count, flow.bytes, flow.packets) == (2, 360, 6)
        assert (flow.first_seen, flow.last_seen) == (1795154400.0, 1795154430.0)
        assert flow.enforced == (PolicyHit("NetworkPolicy", "web", "shop", "default", "deny", 1),)


def test_whisker_as_an_event_stream() -> None:
    stream = [
        b"event: message",
        b"data: " + lines(whisker())[0],
        b"",
        b": keep-alive",
        b"data:" + lines(whisker())[0],
        b"",
    ]
    found = read(stream, None, "stream")
    assert found.problems == ()
    assert [flow.count for flow in found.flows] == [2]


@pytest.mark.parametrize(
    ("name", "namespace", "kind", "end"),
    [
        ("node-1", "-", "HostEndpoint", FlowEnd(EndKind.HOST, name="node-1")),
        ("partners", "", "NetworkSet", FlowEnd(EndKind.NETWORK_SET, name="partners")),
        ("databases", "shop", 3, FlowEnd(EndKind.NETWORK_SET, "shop", "databases")),
        ("pub", "-", "Network", FlowEnd(EndKind.PUBLIC)),
        ("pvt", "", "Network", FlowEnd(EndKind.PRIVATE)),
        ("pvt", "", None, FlowEnd(EndKind.PRIVATE)),
        ("db-0", "shop", "WorkloadEndpoint", FlowEnd(EndKind.POD, "shop", "db-0")),
        ("db-0", "shop", None, FlowEnd(EndKind.POD, "shop", "db-0")),
        ("something", "", None, FlowEnd(EndKind.UNKNOWN, name="something")),
    ],
)
def test_every_sort_of_end(name: str, namespace: str, kind: Any, end: FlowEnd) -> None:
    record = {
        **GOLDMANE,
        "destLabels": [],
        "Key": {**KEY, "destName": name, "destNamespace": namespace, "destType": kind},
    }
    assert only(record).destination == end


def test_icmp_has_no_port() -> None:
    flow = only({**GOLDMANE, "Key": {**KEY, "proto": "icmp6", "destPort": "0"}})
    assert (flow.protocol, flow.port) == (58, None)


# ---------------------------------------------------------------- flow logs


def test_a_flow_log_entry() -> None:
    assert detect(lines(FLOW_LOG)[0]) is Format.CALICO
    assert only(FLOW_LOG) == Flow(
        WEB,
        API,
        6,
        8080,
        "stock/api",
        41,
        1000,
        40,
        1764970845.0,
        1764971145.0,
        Observed.ALLOW,
        Direction.EGRESS,
        (
            PolicyHit("NetworkPolicy", "web", "shop", "default", "allow", 0),
            PolicyHit("Profile", "kns.shop", action="allow", rule=0),
        ),
        (PolicyHit("StagedNetworkPolicy", "web", "shop", "default", "deny", 2),),
    )


def test_a_flow_log_entry_with_pods_and_addresses_that_were_not_aggregated() -> None:
    flow = only(
        {
            **FLOW_LOG,
            "source_name": "web-7d98456675-x2b4k",
            "dest_type": "net",
            "dest_namespace": "-",
            "dest_name_aggr": "pub",
            "dest_ip": "2001:DB8::9",
            "dest_labels": None,
            "policies": {
                "all_policies": [],
                "enforced_policies": ["0|net|net.deny-all|deny|-1"],
                "pending_policies": [],
            },
        }
    )
    assert (flow.source.kind, flow.source.name) == (EndKind.POD, "web-7d98456675-x2b4k")
    assert flow.destination == FlowEnd(EndKind.ADDRESS, address="2001:db8::9")
    assert flow.enforced == (PolicyHit("EndOfTier", "net.deny-all", "", "net", "deny"),)
    assert flow.pending == ()


def test_entries_as_elasticsearch_answers_them() -> None:
    answer = {"hits": {"total": 2, "hits": [{"_index": "flows", "_source": FLOW_LOG}, {"_source": FLOW_LOG}]}}
    assert reading(answer).records == 2


# ---------------------------------------------------------------- Hubble


@pytest.mark.parametrize("record", [HUBBLE, {"flow": HUBBLE, "node_name": "node-1", "time": HUBBLE["time"]}])
def test_a_hubble_event(record: dict[str, Any]) -> None:
    assert detect(lines(record)[0]) is Format.HUBBLE
    flow = only(record)
    assert flow.source == FlowEnd(EndKind.POD, "shop", "web-7d98456675-x2b4k", (("app", "web"),))
    assert flow.destination == FlowEnd(EndKind.POD, "stock", "api-0", (("app", "api"),))
    assert (flow.protocol, flow.port, flow.service, flow.action) == (6, 8080, "stock/api", Observed.ALLOW)
    assert (flow.count, flow.bytes, flow.packets, flow.reporter) == (1, 0, 0, Direction.EGRESS)
    assert flow.last_seen == pytest.approx(1795154434.5678, abs=0.001)
    assert flow.enforced == (PolicyHit("CiliumNetworkPolicy", "web-to-api", "shop", action="allow"),)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_reply": True}, "reply"),
        ({"is_reply": None, "event_type": {"type": 4, "sub_type": 11}}, "perhaps a reply"),
        ({"Type": "L7", "l7": {"type": "REQUEST", "http": {"method": "GET"}}}, "layer 7"),
        ({"Type": "SOCK"}, "socket event"),
        ({"verdict": "TRACED"}, "no verdict yet"),
        (
            {"verdict": "DROPPED", "drop_reason_desc": "STALE_OR_UNROUTABLE_IP"},
            "dropped for another reason than policy",
        ),
        ({"l4": {}}, "not IP, or no protocol known"),
    ],
)
def test_events_that_are_none_to_count_are_counted_by_reason(changes: dict[str, Any], reason: str) -> None:
    found = reading({"flow": HUBBLE}, {"flow": {**HUBBLE, **changes}})
    assert found.ignored == {reason: 1}
    assert found.count == 1


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        ({"verdict": "DROPPED", "drop_reason_desc": "POLICY_DENIED", "is_reply": None}, Observed.DENY),
        ({"verdict": "DROPPED", "drop_reason": 181}, Observed.DENY),
        ({"verdict": "DROPPED"}, Observed.DENY),
        ({"verdict": "AUDIT"}, Observed.ALLOW),
        ({"verdict": "REDIRECTED"}, Observed.ALLOW),
    ],
)
def test_verdicts(changes: dict[str, Any], action: Observed) -> None:
    assert only({**HUBBLE, **changes}).action is action


def test_a_connection_is_its_policy_verdict_and_not_its_packets() -> None:
    packet = {**HUBBLE, "event_type": {"type": 4, "sub_type": 3}}
    assert only(packet, packet, HUBBLE, packet).count == 1
    assert only(packet, packet).count == 2


def test_addresses_and_nodes_in_hubble() -> None:
    outside = {"identity": 2, "labels": ["reserved:world"]}
    assert only({**HUBBLE, "destination": outside}).destination == FlowEnd(EndKind.ADDRESS, address="10.0.2.9")
    node = {"identity": 6, "labels": ["reserved:remote-node"]}
    assert only({**HUBBLE, "destination": node}).destination == FlowEnd(EndKind.HOST, address="10.0.2.9")


def test_lost_events_are_said() -> None:
    lost = {"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "12", "cpu": 5}}
    found = read(lines({"flow": HUBBLE}, lost, {"node_status": {"node_names": ["node-1"]}}), None, "flows.json")
    assert found.lost == 12
    assert [problem.code for problem in found.problems] == ["policies/flow-lost"]
    assert found.ignored == {"lost events, no flow": 1, "node status, no flow": 1}


# ---------------------------------------------------------------- CSV


def test_csv_in_any_order_of_columns() -> None:
    text = (
        "last_seen,port,protocol,destination,source,count,bytes,action,source_labels,service\n"
        '2026-11-20T06:00:00Z,8080,TCP,stock/api-0,"shop/web-7d98456675-*",12,3400,allow,'
        '"app=web; pod-template-hash=7d98456675",stock/api\n'
        "1795154460,8080,6,stock/api-0,shop/web-7d98456675-*,3,,allow,,stock/api\n"
        ",,icmp,203.0.113.9,public,,,deny,,\n"
    )
    found = read(text.splitlines(), None, "flows.csv")
    assert (found.form, found.problems, found.lines, found.records) == (Format.CSV, (), 4, 3)
    ping, web = found.flows
    assert (ping.source, ping.destination) == (FlowEnd(EndKind.PUBLIC), FlowEnd(EndKind.ADDRESS, address="203.0.113.9"))
    assert (ping.protocol, ping.port, ping.count, ping.action) == (1, None, 1, Observed.DENY)
    assert (web.source, web.destination) == (WEB, FlowEnd(EndKind.POD, "stock", "api-0"))
    assert (web.count, web.bytes, web.service) == (15, 3400, "stock/api")
    assert (web.first_seen, web.last_seen) == (None, 1795154460.0)


@pytest.mark.parametrize(
    ("written", "end"),
    [
        ("shop/web", FlowEnd(EndKind.POD, "shop", "web")),
        ("private", FlowEnd(EndKind.PRIVATE)),
        ("2001:db8::0:1", FlowEnd(EndKind.ADDRESS, address="2001:db8::1")),
        ("host node-1", FlowEnd(EndKind.HOST, name="node-1")),
        ("network-set shop/databases", FlowEnd(EndKind.NETWORK_SET, "shop", "databases")),
        ("network-set partners", FlowEnd(EndKind.NETWORK_SET, name="partners")),
    ],
)
def test_ends_in_csv(written: str, end: FlowEnd) -> None:
    found = read(["source,destination,protocol,port", f"{written},shop/web,TCP,80"], None, "flows.csv")
    assert [flow.source for flow in found.flows] == [end]


def test_a_missing_column_is_an_error_and_a_strange_one_a_warning() -> None:
    found = read(["source,destination,protocol,prot,hits", "a/b,c/d,TCP,80,1"], None, "flows.csv")
    assert [
        (problem.code, problem.severity.value, problem.hint)
        for problem in found.problems
        if "missing" in problem.message
    ] == [("policies/flow-column", "error", "did you mean `prot`?")]
    assert sum("is not read" in problem.message for problem in found.problems) == 2
    assert found.flows == ()


def test_a_column_named_twice_is_an_error() -> None:
    found = read(["source,destination,protocol,port,port", "a/b,c/d,TCP,80,81"], Format.CSV, "flows.csv")
    assert [problem.message for problem in found.problems] == ["the column `port` stands there twice"]


def test_a_broken_row_is_left_out_and_named() -> None:
    rows = [
        "source,destination,protocol,port",
        "a/b,c/d,TCP",
        '"a/b,c/d,TCP,80',
        "a/b,c/d,TCP,99999",
        "a,c/d,TCP,1",
        "a/b,c/d,TCP,80",
    ]
    found = read(rows, None, "flows.csv")
    assert (found.records, found.broken) == (1, 4)
    assert sorted((problem.place.line, problem.code) for problem in found.problems) == [
        (2, "policies/flow-syntax"),
        (3, "policies/flow-syntax"),
        (4, "policies/flow-value"),
        (5, "policies/flow-value"),
    ]


# ---------------------------------------------------------------- telling them


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("", None),
        ("Nov 20 06:00:34: shop/web:31793 -> stock/api:8080 FORWARDED", None),
        ("{}", None),
        ('{"apiVersion": "v1", "kind": "List"}', None),
        ("a,b,c", None),
        ("Source, destination ,port", Format.CSV),
        ('\ufeff{"flow":{"time":"2026-11-20T06:00:34Z","verdict"  : "DROPPED"', Format.HUBBLE),
    ],
)
def test_detect(text: str, form: Format | None) -> None:
    assert detect(text) is form
    assert detect(text.encode()) is form


def test_an_unknown_format_is_an_error() -> None:
    found = read(["hello", "world"], None, "notes.txt")
    assert [problem.code for problem in found.problems] == ["policies/flow-format"]
    assert found.form is None


@pytest.mark.parametrize("form", [None, *Format])
def test_nothing_is_a_warning(form: Format | None) -> None:
    found = read(["", "\n"], form, "empty")
    assert [problem.code for problem in found.problems] == ["policies/flow-empty"]
