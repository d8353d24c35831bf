"""Table cases for the items 20 to 23: Calico's selectors, the labels they see, where they look, and negations.

https://docs.tigera.io/calico/latest/reference/resources/networkpolicy#selectors and #entityrule.
"""

from __future__ import annotations

from policies.raw import rule
from policies.table_calico import IN, OUT, only
from policies.table_case import case

from policies import raw


def by(selector: str, name: str = "x/default.p") -> raw.Raw:
    return only(name, {"selector": selector})


NOT_FRONT = "y/b > x/b tcp:80 allow\nx/a > x/b tcp:80 allow\ny/a > x/b tcp:80 deny"

SELECTORS = [
    # ------------------------------------------------------------ 20: selectors
    case(20, "==", [by("app == 'a'")], "x/a > x/b tcp:80 allow\nx/c > x/b tcp:80 deny"),
    case(20, "!= matches a missing label", [by('app != "a"')], "x/c > x/b tcp:80 allow\nx/a > x/b tcp:80 deny"),
    case(20, "a!='x' without spaces", [by("app!='a'")], "x/c > x/b tcp:80 allow\nx/a > x/b tcp:80 deny"),
    case(20, "in", [by("app in { 'a', 'q' }")], "x/a > x/b tcp:80 allow\nx/c > x/b tcp:80 deny"),
    case(
        20, "not in matches a missing label", [by("app not in {'a'}")], "x/c > x/b tcp:80 allow\nx/a > x/b tcp:80 deny"
    ),
    case(20, "not in matches another value", [only("default.p", {"selector": "role not in {'front'}"})], NOT_FRONT),
    case(
        20,
        "has and its negation",
        [by("has(app)"), by("! has(app)", "y/default.p")],
        "x/a > x/b tcp:80 allow\nx/c > x/b tcp:80 deny\ny/a > y/b tcp:80 deny",
    ),
    case(20, "chained negations", [by("!!has(app)")], "x/a > x/b tcp:80 allow\nx/c > x/b tcp:80 deny"),
    case(
        20,
        "contains, starts with, ends with",
        [only("default.p", {"selector": "role contains 'ron' || role starts with 'bac' && role ends with 'ck'"})],
        "y/a > x/b tcp:80 allow\ny/b > x/b tcp:80 allow\nx/a > x/b tcp:80 deny",
    ),
    case(
        20,
        "startswith and endswith as one word; a missing label matches neither",
        [only("default.p", {"selector": "role startswith 'f' || role endswith 'ck' || role contains ''"})],
        "y/a > x/b tcp:80 allow\ny/b > x/b tcp:80 allow\nx/a > x/b tcp:80 deny",
    ),
    case(
        20,
        "each of contains, starts with and ends with needs its part in its place",
        [
            only("default.p", {"selector": "role contains 'x' || role starts with 'ack' || role ends with 'bac'"}),
            raw.calico("y/default.q", "role contains 'ac'", types=IN, ingress=[rule("Deny")]),
        ],
        "y/a > x/b tcp:80 deny\ny/b > x/b tcp:80 deny\nx/a > x/b tcp:80 deny\nx/a > y/b tcp:80 deny\n"
        "x/a > y/a tcp:80 allow",
    ),
    case(
        20,
        "! before && before ||",
        [only("default.p", {"selector": "!has(role) && app == 'a' || role == 'back'"})],
        "x/a > x/b tcp:80 allow\nz/a > x/b tcp:80 allow\ny/b > x/b tcp:80 allow\ny/a > x/b tcp:80 deny\n"
        "x/c > x/b tcp:80 deny",
    ),
    case(
        20,
        "parentheses",
        [only("default.p", {"selector": "!(has(role) && (app == 'a' || app == 'b'))"})],
        "x/a > x/b tcp:80 allow\nx/c > x/b tcp:80 allow\ny/b > x/b tcp:80 deny\ny/a > x/b tcp:80 deny",
    ),
    case(
        20,
        "a policy's empty selector is all(); a rule's all() is known things only, no selector anything",
        [
            raw.calico(
                "x/default.p",
                order=1,
                ingress=[rule("Allow", {"selector": "all()"}, protocol="TCP"), rule("Allow", protocol="UDP")],
            ),
        ],
        "x/c > x/a tcp:80 allow\ny/a > x/a tcp:80 deny\n203.0.113.9 > x/a tcp:80 deny\n203.0.113.9 > x/a udp:80 allow",
    ),
    # ------------------------------------------------------------ 21: labels
    case(
        21,
        "an endpoint's own: namespace, orchestrator, service account",
        [
            only(
                "default.p",
                {"selector": "projectcalico.org/namespace == 'y' && projectcalico.org/serviceaccount == 'robot'"},
            ),
            raw.calico(
                "default.q", "projectcalico.org/orchestrator == 'k8s' && projectcalico.org/namespace == 'z'", types=IN
            ),
            raw.host_endpoint("h", "192.168.0.1", profiles=["projectcalico-default-allow"]),
        ],
        "y/a > x/b tcp:80 allow\ny/b > x/b tcp:80 deny\nx/a > x/b tcp:80 deny\nx/a > z/a tcp:80 deny\n"
        "x/a > host:h=192.168.0.1 tcp:80 allow",
    ),
    case(
        21,
        "inherited ones: pcns. of the namespace, pcsa. of the service account",
        [
            only("default.p", {"selector": "pcns.team == 'b' && pcsa.role == 'bot'"}),
            raw.calico(
                "default.q", "pcns.projectcalico.org/name == 'x' && pcsa.projectcalico.org/name == 'robot'", types=IN
            ),
        ],
        "y/a > x/b tcp:80 allow\ny/b > x/b tcp:80 deny\nx/b > x/a tcp:80 deny\nx/b > x/c tcp:80 allow",
    ),
    case(
        21,
        "a pod cannot pretend to inherit one",
        [
            raw.pod("y/liar", "10.0.1.9", {"pcns.team": "a", "pcsa.role": "bot"}),
            only("default.p", {"selector": "pcns.team == 'a' || pcsa.role == 'bot'"}),
        ],
        "10.0.1.9 > x/b tcp:80 deny\nx/c > x/b tcp:80 allow\ny/a > x/b tcp:80 allow",
    ),
    case(
        21,
        "a host endpoint inherits the labels of its profiles",
        [
            raw.profile("edge", {"place": "edge"}, ingress=[rule("Allow")], egress=[rule("Allow")]),
            raw.host_endpoint("h", "192.168.0.2", node="n2", profiles=["edge"]),
            only("default.p", {"selector": "place == 'edge'"}),
        ],
        "host:h=192.168.0.2 > x/b tcp:80 allow\nx/a > x/b tcp:80 deny\nx/a > host:h=192.168.0.2 tcp:80 allow",
    ),
    case(
        21,
        "projectcalico.org/name in a namespaceSelector and in a serviceAccountSelector",
        [
            only("x/default.p", {"namespaceSelector": "projectcalico.org/name in {'y', 'z'}"}),
            raw.calico("x/default.q", serviceAccountSelector="projectcalico.org/name == 'robot'", types=OUT),
            raw.calico("default.r", namespaceSelector="projectcalico.org/name == 'z'", types=OUT),
        ],
        "y/a > x/b tcp:80 allow\nz/a > x/b tcp:80 deny\nx/c > x/b tcp:80 deny\nx/a > x/c tcp:80 deny\n"
        "x/c > x/a tcp:80 allow",
    ),
    # ------------------------------------------------------------ 22: scope
    case(
        22,
        "a NetworkPolicy's selector looks in its own namespace",
        [by("app == 'a'")],
        "x/a > x/b tcp:80 allow\ny/a > x/b tcp:80 deny",
    ),
    case(
        22,
        "so do its serviceAccounts",
        [only("x/default.p", {"serviceAccounts": {"names": ["robot"]}})],
        "x/a > x/b tcp:80 allow\ny/a > x/b tcp:80 deny\nx/c > x/b tcp:80 deny",
    ),
    case(
        22,
        "so does its notSelector, which alone already limits the rule to known things there",
        [only("x/default.p", {"notSelector": "app == 'a'"})],
        "x/c > x/b tcp:80 allow\nx/a > x/b tcp:80 deny\ny/b > x/b tcp:80 deny\n203.0.113.9 > x/b tcp:80 deny",
    ),
    case(
        22,
        "a GlobalNetworkPolicy's looks everywhere, at host endpoints and network sets too",
        [
            raw.host_endpoint("h", "192.168.0.2", {"app": "a"}, profiles=["projectcalico-default-allow"]),
            raw.network_set("y/s", ["203.0.113.0/24"], {"app": "a"}),
            raw.network_set("g", ["198.51.100.0/24"], {"app": "a"}),
            only("default.p", {"selector": "app == 'a'"}),
        ],
        "y/a > x/b tcp:80 allow\n203.0.113.9 > x/b tcp:80 allow\n198.51.100.9 > x/b tcp:80 allow\n"
        "host:h=192.168.0.2 > x/b tcp:80 allow\n192.0.2.1 > x/b tcp:80 deny\ny/b > x/b tcp:80 deny",
    ),
    case(
        22,
        "namespaceSelector alone: what is in those namespaces; with a selector, both",
        [
            raw.network_set("y/s", ["203.0.113.0/24"]),
            only("x/default.p", {"namespaceSelector": "team == 'b'"}),
            raw.calico(
                "x/default.q",
                "app == 'a'",
                types=IN,
                ingress=[rule("Allow", {"namespaceSelector": "team == 'b'", "selector": "app == 'b'"})],
            ),
        ],
        "y/a > x/b tcp:80 allow\n203.0.113.9 > x/b tcp:80 allow\nx/a > x/b tcp:80 deny\n"
        "z/a > x/b tcp:80 deny\ny/b > x/a tcp:80 allow\ny/a > x/a tcp:80 deny\nx/b > x/a tcp:80 deny",
    ),
    case(
        22,
        "namespaceSelector all() is everything in any namespace, global() what is in none",
        [
            raw.host_endpoint("h", "192.168.0.2", profiles=["projectcalico-default-allow"]),
            raw.network_set("y/s", ["203.0.113.0/24"]),
            raw.network_set("g", ["198.51.100.0/24"]),
            only("x/default.p", {"namespaceSelector": "all()"}),
            raw.calico(
                "x/default.q", "app == 'a'", types=IN, ingress=[rule("Allow", {"namespaceSelector": "global()"})]
            ),
        ],
        "y/a > x/b tcp:80 allow\n203.0.113.9 > x/b tcp:80 allow\n198.51.100.9 > x/b tcp:80 deny\n"
        "host:h=192.168.0.2 > x/b tcp:80 deny\n"
        "y/a > x/a tcp:80 deny\n203.0.113.9 > x/a tcp:80 deny\n198.51.100.9 > x/a tcp:80 allow\n"
        "host:h=192.168.0.2 > x/a tcp:80 allow\n192.0.2.1 > x/a tcp:80 deny",
    ),
    case(
        22,
        "no selector: any address",
        [only("x/default.p", {"ports": ["1000:2000"]}, protocol="TCP")],
        "203.0.113.9 > x/b tcp:1000>80 allow\ny/a > x/b tcp:2000>80 allow\ny/a > x/b tcp:2001>80 deny",
    ),
    case(
        22,
        "a rule's own side narrows its policy's endpoints",
        [
            raw.calico(
                "x/default.p",
                types=IN,
                ingress=[
                    rule("Allow", destination={"selector": "app == 'a'"}),
                    rule("Allow", destination={"nets": ["10.0.0.2/32"]}, protocol="UDP"),
                ],
            )
        ],
        "y/a > x/a tcp:80 allow\ny/a > x/b tcp:80 deny\ny/a > x/b udp:80 allow\ny/a > x/c udp:80 deny",
    ),
    # ------------------------------------------------------------ 23: negations
    case(
        23,
        "selector: !has(x) is known things without x",
        [only("default.p", {"selector": "!has(app)"})],
        "x/c > x/b tcp:80 allow\nx/a > x/b tcp:80 deny\n203.0.113.9 > x/b tcp:80 deny",
    ),
    case(
        23,
        "notSelector: has(x) is everything on earth but those with x",
        [only("default.p", {"notSelector": "has(app)"})],
        "x/c > x/b tcp:80 allow\nx/a > x/b tcp:80 deny\n203.0.113.9 > x/b tcp:80 allow",
    ),
    case(
        23,
        "a positive field and its negative are ANDed",
        [
            only(
                "default.p",
                {
                    "nets": ["10.0.0.0/16"],
                    "notNets": ["10.0.1.0/24"],
                    "selector": "has(app)",
                    "notSelector": "app == 'b'",
                },
            ),
            raw.calico(
                "default.q",
                "app == 'a'",
                types=IN,
                ingress=[rule("Allow", destination={"ports": ["10:20"], "notPorts": [15]}, protocol="TCP")],
            ),
        ],
        "x/a > x/b tcp:80 allow\nz/a > x/b tcp:80 allow\ny/a > x/b tcp:80 deny\nx/c > x/b tcp:80 deny\n"
        "x/c > x/a tcp:10 allow\nx/c > x/a tcp:15 deny\nx/c > x/a tcp:20 allow\nx/c > x/a tcp:21 deny",
    ),
    case(
        23,
        "a list of CIDRs of one family, even a negative one, is no match for the other family",
        [raw.calico("x/default.p", "app == 'a'", types=IN, ingress=[rule("Allow", {"notNets": ["10.0.1.0/24"]})])],
        "z/a > x/a tcp:80 allow\ny/a > x/a tcp:80 deny\ny/a%6 > x/a%6 tcp:80 deny\n2001:db8::1 > x/a%6 tcp:80 deny",
    ),
]
