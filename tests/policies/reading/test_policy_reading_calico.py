"""Calico's NetworkPolicy and GlobalNetworkPolicy, enforced and staged."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from support.policy_documents import complaint, documents, only, policy, underlined

from pilothouse.policies.rules import (
    ANY_ORDER,
    ANYONE,
    EVERYTHING,
    Action,
    Direction,
    Family,
    Icmp,
    Nets,
    Peer,
    PortMatch,
    Scope,
    Traffic,
)
from pilothouse.policies.selectors import ALL, parse
from pilothouse.problems import Severity

HEAD = """\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
"""
GLOBAL = """\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web}
"""
INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS


def spec(text: str, head: str = HEAD) -> str:
    return f"{head}spec: {text}\n"


def source(text: str, head: str = HEAD) -> str:
    return spec(f"{{ingress: [{{action: Allow, source: {text}}}]}}", head)


def rule(text: str, head: str = HEAD) -> str:
    return spec(f"{{ingress: [{{action: Allow, {text}}}]}}", head)


def test_a_whole_policy(tmp_path: Path) -> None:
    found = policy(
        tmp_path,
        """\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: default.web, labels: {team: shop}}
spec:
  order: 12.5
  selector: app == 'web'
  namespaceSelector: tier == "product"
  serviceAccountSelector: has(trusted)
  applyOnForward: true
  doNotTrack: true
  performanceHints: [AssumeNeededOnEveryNode]
  types: [Ingress]
  ingress:
    - action: Deny
      protocol: UDP
      notProtocol: 17
      ipVersion: 4
      source: {nets: [10.0.0.0/8], notNets: [10.1.0.0/16], notPorts: ["1:1024"]}
      destination: {ports: [53, "100:200", dns], selector: role == "dns"}
      metadata: {annotations: {why: because}}
    - action: Log
""",
    )
    assert (found.key, found.order, found.tier, found.labels) == (
        "GlobalNetworkPolicy web",
        12.5,
        "default",
        (("team", "shop"),),
    )
    assert (found.family, found.untracked, found.pre_dnat, found.forward) == (Family.CALICO, True, False, True)
    assert found.directions == {INGRESS}
    assert found.subjects == (
        Peer(Scope.NAMESPACES, "", parse("tier == 'product'"), parse("app == 'web' && has(pcsa.trusted)")),
    )
    deny, log = found.ingress
    assert deny.action is Action.DENY
    assert deny.peers == (Peer(nets=(Nets((ip_network("10.0.0.0/8"),)),), not_nets=(ip_network("10.1.0.0/16"),)),)
    assert deny.subject == Peer(Scope.CLUSTER, selector=parse("role == 'dns'"))
    assert deny.traffic == (
        Traffic(
            (17,),
            (17,),
            (PortMatch(53, 53), PortMatch(100, 200), PortMatch(name="dns")),
            not_source_ports=(PortMatch(1, 1024),),
            ip_version=4,
        ),
    )
    assert (log.action, log.peers, log.traffic, log.subject, log.index) == (
        Action.LOG,
        (ANYONE,),
        (EVERYTHING,),
        ANYONE,
        1,
    )
    assert (deny.place.line, log.path) == (14, ("spec", "ingress", 1))


def test_nothing_said_means_ingress_last_in_the_default_tier(tmp_path: Path) -> None:
    found = policy(tmp_path, spec("{}"))
    assert (found.order, found.tier, found.directions) == (ANY_ORDER, "default", {INGRESS})
    assert found.subjects == (Peer(Scope.NAMESPACE, "shop"),)
    assert policy(tmp_path, spec("{}", GLOBAL)).subjects == (Peer(Scope.CLUSTER),)


@pytest.mark.parametrize(
    ("text", "directions"),
    [
        ("{ingress: [{action: Allow}]}", {INGRESS}),
        ("{egress: [{action: Allow}]}", {EGRESS}),
        ("{ingress: [{action: Allow}], egress: [{action: Deny}]}", {INGRESS, EGRESS}),
        ("{types: [], egress: []}", {INGRESS}),
        ("{types: [Ingress], egress: [{action: Allow}]}", {INGRESS}),
        ("{types: [Egress, Ingress]}", {INGRESS, EGRESS}),
    ],
)
def test_directions_that_are_not_said(tmp_path: Path, text: str, directions: set[Direction]) -> None:
    """Checklist 19."""
    assert policy(tmp_path, spec(text)).directions == directions


def test_a_stored_policy_without_types_is_for_both_directions(tmp_path: Path) -> None:
    head = HEAD.replace("projectcalico.org/v3", "crd.projectcalico.org/v1").replace("name: web", "name: default.web")
    reading = documents(tmp_path, spec("{ingress: [{action: Allow}]}", head))
    assert (only(reading).code, only(reading).severity) == ("policies/types-missing", Severity.WARNING)
    assert (reading.policies.policies[0].name, reading.policies.policies[0].directions) == ("web", {INGRESS, EGRESS})
    reading = documents(tmp_path, spec("{types: [Ingress]}", head))
    assert (reading.problems, reading.policies.policies[0].directions) == ((), {INGRESS})


@pytest.mark.parametrize(
    ("text", "in_namespace", "everywhere"),
    [
        ("{}", ANYONE, ANYONE),
        ("{selector: ''}", ANYONE, ANYONE),
        ("{serviceAccounts: {}}", ANYONE, ANYONE),
        (
            "{selector: has(a)}",
            Peer(Scope.NAMESPACE, "shop", selector=parse("has(a)")),
            Peer(Scope.CLUSTER, selector=parse("has(a)")),
        ),
        ("{selector: all()}", Peer(Scope.NAMESPACE, "shop", selector=ALL), Peer(Scope.CLUSTER, selector=ALL)),
        (
            "{notSelector: has(a)}",
            Peer(Scope.NAMESPACE, "shop", not_selector=parse("has(a)")),
            Peer(Scope.ANY, not_selector=parse("has(a)")),
        ),
        (
            "{serviceAccounts: {names: [b, a]}}",
            Peer(Scope.NAMESPACE, "shop", selector=parse("projectcalico.org/serviceaccount in {'a', 'b'}")),
            Peer(Scope.CLUSTER, selector=parse("projectcalico.org/serviceaccount in {'a', 'b'}")),
        ),
        (
            "{selector: has(a), serviceAccounts: {names: [s], selector: has(b)}, namespaceSelector: has(c)}",
            *[
                Peer(
                    Scope.NAMESPACES,
                    "",
                    parse("has(c)"),
                    parse("has(pcsa.b) && projectcalico.org/serviceaccount in {'s'} && has(a)"),
                )
            ]
            * 2,
        ),
        ("{namespaceSelector: all()}", *[Peer(Scope.NAMESPACES, "", ALL)] * 2),
        (
            "{namespaceSelector: global(), selector: has(a)}",
            *[Peer(Scope.GLOBAL, selector=parse("has(a)"))] * 2,
        ),
        ("{namespaceSelector: ' global() '}", *[Peer(Scope.GLOBAL)] * 2),
        # A namespace's labels are looked for on the endpoint: what has none of them is found as well.
        (
            "{namespaceSelector: '!has(c)', selector: has(a)}",
            *[Peer(Scope.CLUSTER, selector=parse("!has(pcns.c) && has(a)"))] * 2,
        ),
        (
            "{namespaceSelector: 'has(c) || all()'}",
            *[Peer(Scope.NAMESPACES, "", ALL)] * 2,
        ),
        (
            "{namespaceSelector: '!all()'}",
            *[Peer(Scope.CLUSTER, selector=parse("!has(projectcalico.org/namespace)"))] * 2,
        ),
        (
            "{nets: [10.0.0.0/8, 11.0.0.0/8]}",
            *[Peer(nets=(Nets((ip_network("10.0.0.0/8"), ip_network("11.0.0.0/8"))),))] * 2,
        ),
    ],
)
def test_who_a_source_means(tmp_path: Path, text: str, in_namespace: Peer, everywhere: Peer) -> None:
    """Checklist 22 and 23, and updateprocessors/rules.go of https://github.com/projectcalico/calico."""
    assert policy(tmp_path, source(text)).ingress[0].peers == (in_namespace,)
    assert policy(tmp_path, source(text, GLOBAL)).ingress[0].peers == (everywhere,)


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        (
            "{serviceAccountSelector: all()}",
            Peer(Scope.CLUSTER, selector=parse("has(projectcalico.org/serviceaccount)")),
        ),
        (
            "{serviceAccountSelector: '!all()'}",
            Peer(Scope.CLUSTER, selector=parse("!has(projectcalico.org/serviceaccount)")),
        ),
        ("{namespaceSelector: all()}", Peer(Scope.NAMESPACES, "", ALL)),
        (
            "{namespaceSelector: \"n not in {'a'}\", selector: has(b)}",
            Peer(Scope.CLUSTER, selector=parse("pcns.n not in {'a'} && has(b)")),
        ),
    ],
)
def test_whom_a_global_policy_applies_to(tmp_path: Path, text: str, subject: Peer) -> None:
    assert policy(tmp_path, spec(text, GLOBAL)).subjects == (subject,)


def test_a_service_account_selector_narrows_a_namespaced_policy(tmp_path: Path) -> None:
    found = policy(tmp_path, spec("{selector: has(a), serviceAccountSelector: b == 'c'}"))
    assert found.subjects == (Peer(Scope.NAMESPACE, "shop", selector=parse("has(a) && pcsa.b == 'c'")),)


def test_services(tmp_path: Path) -> None:
    found = policy(tmp_path, spec("{egress: [{action: Allow, destination: {services: {name: dns}}}]}"))
    assert found.egress[0].peers == (Peer(services=("shop", "dns")),)
    text = source("{services: {name: dns, namespace: kube-system}}", GLOBAL)
    assert policy(tmp_path, text).ingress[0].peers == (Peer(services=("kube-system", "dns")),)


@pytest.mark.parametrize(
    ("text", "traffic"),
    [
        ("protocol: TCP", Traffic((6,))),
        ("protocol: '6'", Traffic((6,))),
        ("protocol: 255", Traffic((255,))),
        ("notProtocol: UDPLite", Traffic(not_protocols=(136,))),
        ("protocol: ICMP, icmp: {type: 8, code: 0}", Traffic((1,), icmp=Icmp(8, 0))),
        ("protocol: ICMPv6, notICMP: {type: 0}", Traffic((58,), not_icmp=Icmp(0))),
        ("protocol: ICMP, icmp: {}", Traffic((1,))),
        ("ipVersion: 6", Traffic(ip_version=6)),
        ("source: {notNets: [10.0.0.0/8]}", Traffic(ip_version=4)),
        ("protocol: SCTP, source: {ports: ['7']}", Traffic((132,), source_ports=(PortMatch(7, 7),))),
        (
            "protocol: TCP, http: {methods: [GET, PUT], paths: [{exact: /a}, {prefix: /b}]}",
            Traffic((6,), http="GET,PUT /a,/b*"),
        ),
        ("http: {paths: [{prefix: /}]}", Traffic(http="/*")),
        ("http: {}", Traffic(http="any request")),
    ],
)
def test_what_traffic_a_rule_means(tmp_path: Path, text: str, traffic: Traffic) -> None:
    assert policy(tmp_path, rule(text)).ingress[0].traffic == (traffic,)


@pytest.mark.parametrize(
    ("text", "code", "under"),
    [
        (spec("{orders: 1}"), "unknown-field", "orders"),
        (spec("{applyOnForward: true}"), "unknown-field", "applyOnForward"),
        (spec("{order: '10'}"), "bad-value", "'10'"),
        (spec("{order: true}"), "bad-value", "true"),
        (spec("{order: .inf}"), "bad-value", ".inf"),
        (spec(f"{{order: {'9' * 400}}}"), "bad-value", None),
        (spec("{tier: A tier}"), "bad-value", "A tier"),
        (spec("{types: [ingress]}"), "bad-value", "ingress"),
        (spec("{types: [Ingress, Ingress]}"), "bad-value", "[Ingress, Ingress]"),
        (spec("{performanceHints: [Faster]}"), "bad-value", "Faster"),
        (spec("{selector: [a]}"), "bad-value", "[a]"),
        (spec("{selector: app = 'web'}"), "selector-syntax", "="),
        (spec("{selector: \"app == 'web' &&\"}"), "selector-syntax", '"'),
        (spec("{selector: global()}"), "global-selector", "global()"),
        (spec("{selector: has(a) || global()}"), "selector-syntax", "global()"),
        (spec("{namespaceSelector: global()}", GLOBAL), "global-selector", "global()"),
        (spec("{serviceAccountSelector: global()}"), "global-selector", "global()"),
        (source("{selector: global()}"), "global-selector", "global()"),
        (source("{notSelector: 'x ==='}"), "selector-syntax", "="),
        (source("{namespaceSelector: global() && has(a)}"), "selector-syntax", "global()"),
        (source("{serviceAccounts: {names: [Not a name]}}"), "bad-value", "Not a name"),
        (source("{serviceAccounts: {name: a}}"), "unknown-field", "name"),
        (source("{serviceAccounts: [a]}"), "bad-value", "[a]"),
        (source("{domains: [a.example]}"), "enterprise-field", "domains"),
        (source("{net: []}"), "unknown-field", "net"),
        (source("{nets: 10.0.0.0/8}"), "bad-value", "10.0.0.0/8"),
        (source("{nets: [10.0.0.0]}"), "bad-cidr", "10.0.0.0"),
        (source("{nets: [10.0.0.0/8, '2001:db8::/32']}"), "mixed-families", None),
        (rule("ipVersion: 6, source: {nets: [10.0.0.0/8]}"), "mixed-families", "6"),
        (rule("ipVersion: 5"), "bad-value", "5"),
        (rule("ipVersion: '4'"), "bad-value", "'4'"),
        (rule("ipVersion: 6, protocol: ICMP"), "mixed-families", "6"),
        (rule("ipVersion: 4, notProtocol: 58"), "mixed-families", "4"),
        (rule("protocol: tcp"), "bad-protocol", "tcp"),
        (rule("protocol: 0"), "bad-protocol", "0"),
        (rule("protocol: 256"), "bad-protocol", "256"),
        (rule("protocol: 6.0"), "bad-protocol", "6.0"),
        (rule("notProtocol: any"), "bad-protocol", "any"),
        (rule("protocol: TCP, icmp: {type: 1}"), "bad-icmp", "{type: 1}"),
        (rule("icmp: {type: 1}"), "bad-icmp", "{type: 1}"),
        (rule("protocol: ICMP, icmp: {code: 1}"), "bad-icmp", "1"),
        (rule("protocol: ICMP, icmp: {type: 255}"), "bad-icmp", "255"),
        (rule("protocol: ICMP, icmp: {type: '8'}"), "bad-icmp", "'8'"),
        (rule("protocol: ICMP, notICMP: {type: 8, code: 256}"), "bad-icmp", "256"),
        (rule("destination: {ports: [80]}"), "port-protocol", "[80]"),
        (rule("protocol: ICMP, source: {notPorts: [80]}"), "port-protocol", "[80]"),
        (rule("protocol: TCP, destination: {ports: [0]}"), "bad-port", "0"),
        (rule("protocol: TCP, destination: {ports: ['0:9']}"), "bad-port", "'0:9'"),
        (rule("protocol: TCP, destination: {ports: ['9:8']}"), "bad-port", "'9:8'"),
        (rule("protocol: TCP, destination: {ports: ['1:2:3']}"), "bad-port", "'1:2:3'"),
        (rule("protocol: TCP, destination: {ports: ['99999999999999999999']}"), "bad-port", "'99999999999999999999'"),
        (rule("protocol: TCP, destination: {ports: 80}"), "bad-value", "80"),
        (rule("protocol: UDP, http: {methods: [GET]}"), "http-match", "{methods: [GET]}"),
        (rule("http: {methods: [GET, GET]}"), "http-match", "[GET, GET]"),
        (rule("http: {paths: [{exact: /a, prefix: /b}]}"), "http-match", "{exact: /a, prefix: /b}"),
        (rule("http: {paths: [{}]}"), "http-match", "{}"),
        (rule("http: {paths: [{exact: a}]}"), "http-match", "{exact: a}"),
        (rule("http: {paths: [{exact: /a?b}]}"), "http-match", "{exact: /a?b}"),
        (rule("http: {method: GET}"), "unknown-field", "method"),
        (rule("metadata: {annotation: {}}"), "unknown-field", "annotation"),
        (spec("{egress: [{action: Allow, http: {}}]}"), "http-match", "{}"),
        (spec("{ingress: [{action: Deny, http: {}}]}"), "http-match", "{}"),
        (spec("{ingress: [{action: Alow}]}"), "unknown-action", "Alow"),
        (spec("{ingress: [{action: allow}]}"), "unknown-action", "allow"),
        (spec("{ingress: [{action: 1}]}"), "unknown-action", "1"),
        (spec("{ingress: [{protocol: TCP}]}"), "missing-field", "{protocol: TCP}"),
        (spec("{ingress: [Allow]}"), "bad-value", "Allow"),
        (spec("{ingress: [{action: Allow, sorce: {}}]}"), "unknown-field", "sorce"),
        (source("{services: {name: a}, selector: has(b)}"), "peer-conflict", "has(b)"),
        (source("{services: {name: a}, nets: [10.0.0.0/8]}"), "peer-conflict", "[10.0.0.0/8]"),
        (source("{services: {name: a}, serviceAccounts: {names: [b]}}"), "peer-conflict", "{names: [b]}"),
        (source("{services: {}}"), "missing-field", "{}"),
        (source("{services: {name: A}}"), "bad-value", "A"),
        (source("{services: {name: a, namespace: B}}"), "bad-value", "B"),
        (source("{services: {name: a}}", GLOBAL), "missing-field", "{name: a}"),
        (rule("destination: {services: {name: a}}"), "peer-conflict", "{name: a}"),
        (
            spec("{egress: [{action: Allow, protocol: TCP, destination: {services: {name: a}, ports: [1]}}]}"),
            "peer-conflict",
            "[1]",
        ),
        (spec("{preDNAT: true, doNotTrack: true, applyOnForward: true}", GLOBAL), "host-options", "true"),
        (spec("{preDNAT: true}", GLOBAL), "host-options", "true"),
        (spec("{doNotTrack: true, applyOnForward: false}", GLOBAL), "host-options", "true"),
        (spec("{doNotTrack: yes}", GLOBAL), "bad-value", "yes"),
        (
            spec("{preDNAT: true, applyOnForward: true, types: [Egress]}", GLOBAL),
            "host-options",
            "[Egress]",
        ),
        (
            spec("{preDNAT: true, applyOnForward: true, types: [Ingress], egress: [{action: Deny}]}", GLOBAL),
            "host-options",
            "[{action: Deny}]",
        ),
    ],
)
def test_what_calico_refuses_is_left_out(tmp_path: Path, text: str, code: str, under: str | None) -> None:
    reading = documents(tmp_path, text)
    problem = only(reading)
    assert (problem.code, problem.severity) == (f"policies/{code}", Severity.ERROR)
    assert under is None or underlined(problem.place) == under
    assert reading.policies.policies == ()
    assert problem.hint.endswith("until then it is left out")


def test_the_caret_stands_within_the_selector(tmp_path: Path) -> None:
    for written in ("app == 'web' && tier = 'x'", "\"app == 'web' && tier = 'x'\""):
        place = only(documents(tmp_path, f"{HEAD}spec:\n  selector: {written}\n")).place
        assert (place.line, place.excerpt[place.column - 1 :].rstrip('"')) == (5, "= 'x'")


def test_where_the_text_is_folded_the_caret_stands_at_its_beginning(tmp_path: Path) -> None:
    place = only(documents(tmp_path, f"{HEAD}spec:\n  selector: >-\n    app ==\n    = 'web'\n")).place
    assert (place.line, place.column) == (5, 13)
    place = only(documents(tmp_path, f"{HEAD}spec:\n  selector: \"app == '\\x41' &&& has(b)\"\n")).place
    assert (place.line, place.column) == (5, 13)


def test_a_selector_of_ten_megabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    from pilothouse.policies.reading import from_data

    long = " || ".join(["has(a)"] * 1_000_000)
    data = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "x"},
        "spec": {"selector": long},
    }
    problem = only(from_data(data))
    assert problem.code == "policies/selector-too-long"
    assert len(problem.message) < 200


def test_a_selector_that_only_new_versions_refuse_is_a_warning(tmp_path: Path) -> None:
    long = " || ".join(f"has(label-{number})" for number in range(100))
    reading = documents(tmp_path, source(f"{{selector: {long}}}"))
    assert (only(reading).code, only(reading).severity) == ("policies/selector-too-long", Severity.WARNING)
    assert reading.policies.policies[0].ingress[0].peers[0].selector == parse(long)


def test_host_bits_are_cut_off_with_a_warning(tmp_path: Path) -> None:
    reading = documents(tmp_path, source("{nets: [10.0.0.1/8]}"))
    assert complaint(reading) == ("policies/host-bits", Severity.WARNING, "10.0.0.1/8")
    assert reading.policies.policies[0].ingress[0].peers[0].nets == (Nets((ip_network("10.0.0.0/8"),)),)


@pytest.mark.parametrize(
    ("kind", "namespace"), [("StagedNetworkPolicy", ", namespace: shop"), ("StagedGlobalNetworkPolicy", "")]
)
def test_staged(tmp_path: Path, kind: str, namespace: str) -> None:
    head = f"apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: web{namespace}}}\n"
    found = policy(tmp_path, spec("{selector: has(a), egress: [{action: Deny}]}", head))
    assert (found.kind, found.staged, found.staged_action, found.directions) == (kind, True, "Set", {EGRESS})
    found = policy(tmp_path, spec("{stagedAction: Delete, tier: default}", head))
    assert (found.staged_action, found.directions) == ("Delete", frozenset())
    reading = documents(tmp_path, spec("{stagedAction: Delete, selector: has(a)}", head))
    assert complaint(reading) == ("policies/staged-action", Severity.ERROR, "has(a)")
    reading = documents(tmp_path, spec("{stagedAction: Ignore}", head))
    assert complaint(reading) == ("policies/staged-action", Severity.WARNING, "Ignore")
    reading = documents(tmp_path, spec("{stagedAction: set}", head))
    assert complaint(reading) == ("policies/bad-value", Severity.ERROR, "set")


def test_what_repeats_is_read_once_and_complained_of_each_time(tmp_path: Path) -> None:
    good = "{action: Allow, source: {selector: has(a)}}"
    bad = "{action: Allow, source: {selector: has(}}"
    found = policy(tmp_path, spec(f"{{ingress: [{good}, {good}], egress: [{good}]}}"))
    assert found.ingress[0].peers[0] is found.ingress[1].peers[0]
    assert found.egress[0].subject == found.ingress[0].peers[0]
    assert len(documents(tmp_path, spec(f"{{ingress: [{bad}, {bad}]}}")).problems) == 2
