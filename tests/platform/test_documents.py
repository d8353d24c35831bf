"""Documents in, values out: each kind whole, and every mistake with its place and hint."""

from __future__ import annotations

import re
from datetime import date
from ipaddress import ip_network
from pathlib import Path

import pytest

from pilothouse.labels import LabelSelector
from pilothouse.platform.documents import MODELS, lay_over, parse, read
from pilothouse.platform.model import (
    Alert,
    AlertSeverity,
    ApiServerPeer,
    CidrPeer,
    DomainPeer,
    Enforcement,
    Exposure,
    Expression,
    InternetPeer,
    LogDrop,
    Platform,
    PodsPeer,
    PortRef,
    Protocol,
    ReplicasBelow,
    Scope,
    Sensitivity,
    ServicePeer,
    SqlLatencyAbove,
)
from pilothouse.problems import Problem
from pilothouse.source import Source

HEAD = "apiVersion: pilothouse.dev/v1\n"
SERVICE = (
    HEAD
    + """\
kind: Service
metadata: {name: payments, namespace: payments}
spec:
  team: payments
  podSelector: {matchLabels: {app: payments}}
"""
)


def service(lines: str = "") -> str:
    return SERVICE + "".join(f"  {line}\n" for line in lines.splitlines())


def read_one(text: str) -> Platform:
    platform, problems = parse([Source("a.yaml", text)])
    assert problems == ()
    return platform


def problems_of(text: str) -> list[Problem]:
    return list(parse([Source("a.yaml", text)])[1])


def only(text: str) -> Problem:
    (problem,) = problems_of(text)
    return problem


# ---------------------------------------------------------------- whole documents


def test_the_smallest_service_has_defaults() -> None:
    found = read_one(SERVICE).services["payments/payments"]
    assert found.pod_selector == LabelSelector.of(app="payments")
    assert found.service_account == "default"
    assert (found.exposure, found.sensitivity) == (Exposure.INTERNAL, Sensitivity.NORMAL)
    assert found.ingress is None
    assert found.egress == found.alerts == found.secrets == ()
    assert found.metrics is None
    assert found.logs is None
    assert str(found.place) == "a.yaml:3:18"


def test_a_service_with_everything() -> None:
    found = read_one(
        service("""\
description: Takes payments.
serviceAccountName: payer
exposure: edge
sensitivity: high
clusters: [dev, prod]
ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]
ingress:
  - {from: {service: edge/gateway}, ports: [http], reason: the door}
  - {from: {apiServer: true}}
egress:
  - {to: {service: ledger/ledger}, ports: [grpc, "8000-8100", "53/UDP", 6379]}
  - {to: {namespaceSelector: {matchLabels: {tier: data}}, podSelector: {matchLabels: {app: redis}}}}
  - {to: {podSelector: {matchExpressions: [{key: app, operator: In, values: [a, b]}]}}}
  - {to: {namespaceSelector: {}}}
  - {to: {cidr: 203.0.113.0/24}, ports: [443], reason: gateway, expires: 2027-01-31}
  - {to: {domain: api.card.example}, clusters: [prod]}
  - {to: {internet: true}}
metrics: {port: http, path: /m, seriesPerPod: 5, interval: 15s}
alerts:
  - {replicasBelow: 3, for: 5m, severity: page, clusters: [prod]}
  - {sqlLatencyAbove: {query: q, seconds: 1, quantile: 0.99}, severity: ticket}
  - {name: Stuck, expr: up == 0, severity: info, summary: S, runbook: https://wiki.example/x}
logs: {format: json, rate: 200KiB/s, retention: 7d, drop: [{key: level, equals: debug}], redact: [card]}
secrets: [{path: payments/db, mountPath: /secrets/db, clusters: [prod], keys: [user, password]}]""")
    ).services["payments/payments"]
    assert found.service_account == "payer"
    assert found.exposure is Exposure.EDGE
    assert found.clusters == {"dev", "prod"}
    assert [(p.name, p.number, p.protocol) for p in found.ports] == [
        ("http", 8080, Protocol.TCP),
        ("dns", 53, Protocol.UDP),
    ]
    assert found.ingress is not None
    assert found.ingress[0].peer == ServicePeer("edge", "gateway")
    assert found.ingress[0].reason == "the door"
    assert found.ingress[1].peer == ApiServerPeer()
    assert found.egress[0].ports == (
        PortRef(name="grpc"),
        PortRef(number=8000, end=8100),
        PortRef(number=53, protocol=Protocol.UDP),
        PortRef(number=6379),
    )
    assert found.egress[1].peer == PodsPeer(LabelSelector.of(app="redis"), LabelSelector.of(tier="data"))
    assert str(found.egress[2].peer) == "pods app in (a, b)"
    assert found.egress[3].peer == PodsPeer(LabelSelector(), LabelSelector())
    assert found.egress[4].peer == CidrPeer(ip_network("203.0.113.0/24"))
    assert found.egress[4].expires == date(2027, 1, 31)
    assert found.egress[5].peer == DomainPeer("api.card.example")
    assert found.egress[5].clusters == {"prod"}
    assert found.egress[6].peer == InternetPeer()
    assert str(found.egress[6].place).startswith("a.yaml:23:")
    assert found.metrics is not None
    assert (found.metrics.path, found.metrics.series_per_pod, found.metrics.interval) == ("/m", 5, 15)
    assert found.alerts == (
        Alert(ReplicasBelow(3), AlertSeverity.PAGE, 300, clusters=frozenset({"prod"})),
        Alert(SqlLatencyAbove("q", 1.0, 0.99), AlertSeverity.TICKET),
        Alert(Expression("Stuck", "up == 0"), AlertSeverity.INFO, 0, "S", "https://wiki.example/x"),
    )
    assert found.logs is not None
    assert (found.logs.rate, found.logs.retention_days) == (204800, 7)
    assert found.logs.drop == (LogDrop("level", "debug"),)
    assert found.secrets[0].mount_path == "/secrets/db"
    assert found.secrets[0].clusters == {"prod"}
    assert found.secrets[0].keys == ("user", "password")


def test_an_empty_ingress_is_nobody() -> None:
    assert read_one(service("ingress: []")).services["payments/payments"].ingress == ()


def test_a_team() -> None:
    found = read_one(
        HEAD
        + """\
kind: Team
metadata: {name: payments}
spec:
  title: Payments
  platform: true
  members: [{user: alice, name: Alice, email: alice@bank.example}, {user: bob}]
  groups: [payments]
  approvers: [alice]
  receivers:
    - {severity: page, pagerdutyKeyFile: /etc/key}
    - {severity: ticket, email: t@bank.example}
    - {severity: info, slackChannel: "#x"}
    - {severity: info, webhook: https://hooks.bank.example}
  onCall: {users: [alice, bob], start: 2026-01-05, handover: "08:30", timezone: Europe/Berlin}
"""
    ).teams["payments"]
    assert found.platform
    assert [member.user for member in found.members] == ["alice", "bob"]
    assert [r.severity.value for r in found.receivers] == ["page", "ticket", "info", "info"]
    assert found.receivers[0].pagerduty_key_file == "/etc/key"
    assert found.receivers[3].webhook == "https://hooks.bank.example"
    assert found.rotation is not None
    assert (found.rotation.start, found.rotation.handover) == (date(2026, 1, 5), (8, 30))
    assert found.rotation.timezone == "Europe/Berlin"


CLUSTER = (
    HEAD
    + """\
kind: Cluster
metadata: {name: prod}
spec:
  environment: prod
  podCIDRs: [10.40.0.0/16, "fd00:40::/48"]
  serviceCIDRs: [10.50.0.0/16]
  nodeCIDRs: [10.60.0.0/24]
"""
)


def test_the_smallest_cluster_has_defaults() -> None:
    found = read_one(CLUSTER).clusters["prod"]
    assert found.pod_cidrs == (ip_network("10.40.0.0/16"), ip_network("fd00:40::/48"))
    assert found.enforcement is Enforcement.STAGED
    assert found.authority.mount == "pki-prod"
    assert (found.calico_api, found.policy_kinds) == ("", "kubernetes")
    assert found.servers.vault is None
    assert found.api_server_port == 6443


def test_a_cluster_with_everything() -> None:
    found = read_one(
        CLUSTER
        + """\
  versions: {kubernetes: "1.30"}
  calico: {apiVersion: projectcalico.org/v3, policyKinds: calico}
  prometheus: {shards: 3}
  enforcement: {default: enforced, namespaces: {web: off, api: staged}}
  maxSeverity: ticket
  apiServer: {addresses: [10.60.0.10, "fd00:60::10"], port: 443}
  nodeLocalDNS: [169.254.20.10]
  servers:
    vault: {url: https://vault.example:8200, tokenFile: /t, caFile: /c}
    alertmanagers: [{url: http://a.example}, {url: http://b.example}]
  authority: {backend: vault, mount: pki/prod, commonName: Prod}
  logging: {dataNodes: 5, heap: 8GiB, coordinatingNodes: 0, outage: 2h}
  domainAddresses: {api.card.example: ["2001:db8::1", 203.0.113.9, 203.0.113.0/29]}
  apply: auto
"""
    ).clusters["prod"]
    assert found.versions.kubernetes == "1.30"
    assert (found.calico_api, found.policy_kinds) == ("projectcalico.org/v3", "calico")
    assert found.shards == 3
    assert found.enforcement_of("web") is Enforcement.OFF
    assert found.enforcement_of("other") is Enforcement.ENFORCED
    assert found.max_severity is AlertSeverity.TICKET
    assert found.api_server == (ip_network("10.60.0.10/32"), ip_network("fd00:60::10/128"))
    assert found.servers.vault is not None
    assert found.servers.vault.token_file == "/t"
    assert [a.url for a in found.servers.alertmanagers] == ["http://a.example", "http://b.example"]
    assert (found.authority.backend, found.authority.mount) == ("vault", "pki/prod")
    assert (found.logging.heap_bytes, found.logging.outage_seconds) == (8 * 1024**3, 7200)
    assert [str(n) for n in found.domain_addresses["api.card.example"]] == [
        "203.0.113.0/29",
        "203.0.113.9/32",
        "2001:db8::1/128",
    ]
    assert found.apply == "auto"


def profile(lines: str, rules: str = "rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]") -> str:
    text = HEAD + "kind: AccessProfile\nmetadata: {name: p}\nspec:\n  title: T\n  description: D\n  groups: [g]\n"
    return text + "".join(f"  {line}\n" for line in (*lines.splitlines(), rules) if line)


def test_lifetimes_of_profiles_have_defaults() -> None:
    standard = read_one(profile("")).profiles["p"]
    assert (standard.lifetime, standard.max_lifetime, standard.elevated) == (57600, 57600, False)
    elevated = read_one(profile("elevated: true\napproval: true\napproverGroups: [leads]")).profiles["p"]
    assert (elevated.lifetime, elevated.max_lifetime) == (1800, 3600)
    assert elevated.approver_groups == ("leads",)
    short = read_one(profile("maxLifetime: 8h")).profiles["p"]
    assert (short.lifetime, short.max_lifetime) == (8 * 3600, 8 * 3600)
    renewed = read_one(profile("renewal: 1h\nlifetime: 12h")).profiles["p"]
    assert (renewed.leaf, renewed.longest_leaf, renewed.lifetime, renewed.max_lifetime) == (3600, 3600, 43200, 43200)
    assert (short.leaf, short.longest_leaf) == (8 * 3600, 8 * 3600)


def test_a_profile_that_binds_a_cluster_role_in_namespaces() -> None:
    found = read_one(profile("scope: namespaces\nnamespaces: [a]\nclusters: [dev]", "clusterRole: view")).profiles["p"]
    assert (found.scope, found.namespaces, found.cluster_role) == (Scope.NAMESPACES, ("a",), "view")
    assert found.holds_on("dev")
    assert not found.holds_on("prod")


def test_an_elevated_profile_may_say_why_nobody_approves() -> None:
    found = read_one(profile("elevated: true\nwithoutApproval: broken\nticket: 'PLAT-[0-9]+'")).profiles["p"]
    assert found.ticket == "PLAT-[0-9]+"
    found = read_one(profile("elevated: true\nwithoutApproval: break glass, reviewed afterwards")).profiles["p"]
    assert found.without_approval == "break glass, reviewed afterwards"


@pytest.mark.parametrize(
    ("lines", "rules", "says"),
    [
        ("lifetime: 20h", None, "does not fit"),
        ("lifetime: 5m", None, "does not fit"),
        ("maxLifetime: 24h", None, "at most 16h"),
        ("renewal: 5m", None, "a renewal of 5m does not fit"),
        ("renewal: 1h\nlifetime: 1h", None, "does not fit"),
        ("renewal: 1h\nlifetime: 8h\nmaxLifetime: 10h", None, "the lifetime is that of the login"),
        ("elevated: true\napproval: true\napproverGroups: [l]\nrenewal: 10m", None, "never renewed"),
        ("elevated: true\napproval: true\napproverGroups: [l]\nmaxLifetime: 2h", None, "30m to 60m"),
        ("elevated: true", None, "another person's approval"),
        ("elevated: true\nwithoutApproval: glass\nticket: 'PLAT-[0-9'", None, "no regular expression"),
        ("ticket: PLAT", None, "only a request for an elevated profile"),
        ("approval: true", None, "nobody can approve"),
        ("scope: namespaces", None, "go together"),
        ("namespaces: [a]", None, "go together"),
        ("", "", "has rules or binds"),
        ("clusterRole: view", None, "has rules or binds"),
        ("", "clusterRole: system:masters", "Kubernetes itself"),
        ("", "rules: [{nonResourceURLs: [/m], verbs: [get]}]", "not in a namespace"),
        ("", "rules: [{resources: [pods], verbs: [get]}]", "needs their API groups"),
        ("", "rules: [{verbs: [get]}]", "resources or about URLs"),
        ("scope: cluster", "rules: [{apiGroups: [''], nonResourceURLs: [/m], verbs: [get]}]", "no API groups"),
    ],
)
def test_profiles_that_do_not_fit(lines: str, rules: str | None, says: str) -> None:
    problem = only(profile(lines) if rules is None else profile(lines, rules))
    assert problem.code == "platform/bad-value"
    assert says in problem.message
    assert problem.hint


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("lines", "code", "place", "says"),
    [
        ("egres: []", "unknown-field", "7:3", "did you mean `egress`?"),
        ("exposure: edeg", "bad-value", "7:13", "did you mean `edge`?"),
        ("egress: [{to: {servce: a/b}}]", "unknown-field", "7:18", "did you mean `service`?"),
        ("egress: [{}]", "missing-field", "7:12", "add `to`"),
        ("egress: [{to: {}}]", "bad-value", "7:17", "exactly one of service"),
        ("egress: [{to: {service: a/b, cidr: 10.0.0.0/8}}]", "bad-value", "7:17", "exactly one of"),
        ("egress: [{to: {podSelector: {}, cidr: 10.0.0.0/8}}]", "bad-value", "7:17", "exactly one of"),
        (
            "egress: [{to: {podSelector: {}, namespaceSelector: {}, cidr: 10.0.0.0/8}}]",
            "bad-value",
            "7:17",
            "exactly one of",
        ),
        ("egress: [{to: {cidr: 10.0.0.1/8}}]", "bad-value", "7:24", "the network is 10.0.0.0/8"),
        ("egress: [{to: {internet: false}}]", "bad-value", "7:28", "leave the field out"),
        ("ingress: [{from: {internet: true}}]", "bad-value", "7:20", "exposure: edge"),
        ("ingress: [{from: {domain: a.example}}]", "bad-value", "7:20", "exposure: edge"),
        ("ports: [{name: http, containerPort: 80000}]", "bad-value", "7:39", "1 to 65535"),
        ("alerts: [{severity: page}]", "bad-value", "7:12", "exactly one of replicasBelow, sqlLatencyAbove, expr"),
        ("alerts: [{expr: up, severity: page}]", "bad-value", "7:12", "add `name:`"),
        ("alerts: [{replicasBelow: 1, name: X, severity: page}]", "bad-value", "7:12", "remove `name`"),
        ("alerts: [{expr: up, name: a-b, severity: page}]", "bad-value", "7:12", "RefundQueueStuck"),
        ("metrics: {port: http, interval: 10m}", "bad-value", "7:35", "5m"),
        ("logs: {retention: 99999d}", "bad-value", "7:21", "export"),
        ("clusters: [Prod]", "bad-value", "7:14", "for example prod"),
    ],
)
def test_mistakes_in_a_service(lines: str, code: str, place: str, says: str) -> None:
    problem = only(service(lines))
    assert problem.code == f"platform/{code}"
    assert str(problem.place) == f"a.yaml:{place}"
    assert says in problem.hint


def test_a_selector_must_select_something() -> None:
    problem = only(SERVICE.replace("{matchLabels: {app: payments}}", "{}"))
    assert "every pod" in problem.message


@pytest.mark.parametrize(
    ("requirement", "says"),
    [("{key: a, operator: In}", "needs values"), ("{key: a, operator: Exists, values: [x]}", "takes no values")],
)
def test_requirements_must_fit_their_operator(requirement: str, says: str) -> None:
    problem = only(SERVICE.replace("matchLabels: {app: payments}", f"matchExpressions: [{requirement}]"))
    assert says in problem.message


def test_an_unquoted_label_says_how_to_write_it() -> None:
    problem = only(SERVICE.replace("{app: payments}", "{app: payments, canary: true}"))
    assert problem.hint == "quote it"


def test_several_mistakes_come_at_once() -> None:
    text = service("egres: []\nexposure: edeg\negress: [{to: {cidr: 10.0.0.1/8}}]") + "---\nkind: [\n"
    assert [p.code for p in problems_of(text)] == [
        "platform/unknown-field",
        "platform/bad-value",
        "platform/bad-value",
        "source/yaml-syntax",
    ]


@pytest.mark.parametrize(
    ("receiver", "says"),
    [
        ("{severity: page}", "exactly one of email, webhook, slackChannel, pagerdutyKeyFile"),
        ("{severity: page, slackChannel: general}", '"#channel"'),
        ("{severity: page, webhook: 'https://u:p@x.example'}", "name a file"),
    ],
)
def test_mistakes_in_a_receiver(receiver: str, says: str) -> None:
    problem = only(HEAD + f"kind: Team\nmetadata: {{name: t}}\nspec: {{receivers: [{receiver}]}}\n")
    assert says in problem.hint


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("just text", "not-a-document", "apiVersion: pilothouse.dev/v1"),
        ("- a\n- b", "not-a-document", "apiVersion: pilothouse.dev/v1"),
        ("kind: Team", "not-a-document", "apiVersion: pilothouse.dev/v1"),
        ("apiVersion: pilothouse.dev/v1", "not-a-document", "`kind:`"),
        (HEAD + "kind: Servise", "unknown-kind", "did you mean `Service`?"),
        (HEAD + "kind: 5", "not-a-document", "`kind:`"),
        ("apiVersion: pilothouse.dev/v2\nkind: Team", "unknown-api-version", "a release of pilothouse"),
        ("apiVersion: pilothouse.dev1\nkind: Team", "unknown-api-version", "pilothouse.dev/v1"),
        ("apiVersion: example.com/v1\nkind: Team", "unknown-api-version", "write `apiVersion"),
        ("apiVersion: apps/v1\nkind: Deployment", "unknown-api-version", "snapshots/"),
    ],
)
def test_what_is_no_document_of_ours(text: str, code: str, says: str) -> None:
    platform, (problem,) = parse([Source("a.yaml", text)])
    assert problem.code == f"platform/{code}"
    assert says in problem.hint
    assert platform.unreadable == {"a.yaml"}


def test_a_duplicate_names_both_places() -> None:
    platform, (problem,) = parse([Source("a.yaml", SERVICE), Source("b.yaml", SERVICE)])
    assert problem.code == "platform/duplicate-document"
    assert str(problem.place) == "b.yaml:3:18"
    assert [str(place) for place in problem.related] == ["a.yaml:3:18"]
    assert str(platform.services["payments/payments"].place) == "a.yaml:3:18"


def test_the_same_name_of_another_kind_or_namespace_is_no_duplicate() -> None:
    other = SERVICE.replace("namespace: payments", "namespace: other")
    team = HEAD + "kind: Team\nmetadata: {name: payments}\nspec: {}\n"
    assert parse([Source("a.yaml", f"{SERVICE}---\n{other}---\n{team}")])[1] == ()


def test_a_broken_document_is_remembered() -> None:
    platform, _ = parse([Source("a.yaml", service("egres: []"))])
    assert platform.services == {}
    assert platform.unreadable == {"Service payments/payments"}


def test_a_broken_document_without_a_name_stands_for_its_file() -> None:
    for metadata in ("metadata: 5", "metadata: {}", "metadata: {name: x}"):
        platform, problems = parse([Source("a.yaml", HEAD + f"kind: Service\n{metadata}\nspec: {{}}\n")])
        assert problems
        assert platform.unreadable == {"a.yaml"}


def test_one_platform_document() -> None:
    one = HEAD + "kind: Platform\nmetadata: {name: bank}\nspec: {extends: [../common]}\n"
    documents = read([Source("platform.yaml", one)])
    assert documents.platform.name == "bank"
    assert [(e.folder, str(e.place)) for e in documents.extends] == [("../common", "platform.yaml:4:18")]
    again = read([Source("platform.yaml", one), Source("z.yaml", one.replace("bank", "other"))])
    assert [(p.code, p.message) for p in again.problems] == [
        ("platform/duplicate-document", "a second Platform document, `other`")
    ]
    assert str(again.problems[0].related[0]) == "platform.yaml:3:18"


def test_layers_win_by_kind_and_name() -> None:
    lower = read_one(f"{SERVICE}---\n{CLUSTER}")
    upper = read_one(service("exposure: edge"))
    both = lay_over(lower, upper)
    assert both.services["payments/payments"].exposure is Exposure.EDGE
    assert list(both.clusters) == ["prod"]


def test_values_are_sorted_by_key_and_independent_of_the_order_of_files() -> None:
    texts = [Source(f"{name}.yaml", SERVICE.replace("name: payments", f"name: {name}")) for name in ("b", "a", "c")]
    one, other = parse(texts)[0], parse(reversed(texts))[0]
    assert list(one.services) == ["payments/a", "payments/b", "payments/c"]
    assert one == other


# ---------------------------------------------------------------- the reference


def test_the_examples_of_the_reference_are_valid(root: Path) -> None:
    text = (root / "docs" / "declarations.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(apiVersion.*?)```", text, re.DOTALL)
    assert len(examples) == len(MODELS)
    for example in examples:
        assert problems_of(example) == []


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_the_reference_names_every_field(root: Path, kind: str) -> None:
    text = (root / "docs" / "declarations.md").read_text(encoding="utf-8")
    schema = MODELS[kind].model_json_schema(by_alias=True)
    models = [schema, *schema.get("$defs", {}).values()]
    names = {name for model in models for name in model.get("properties", {})}
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()
