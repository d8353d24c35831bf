"""Table cases for the items 14 to 19: Calico's tiers, orders, actions, profiles and types.

https://docs.tigera.io/calico/latest/reference/resources/ (networkpolicy, globalnetworkpolicy, tier, profile).
"""

from __future__ import annotations

from policies.raw import rule
from policies.table_case import case

from policies import raw

IN = ["Ingress"]
OUT = ["Egress"]
ALL_PODS: raw.Raw = {"namespaces": {}}
A_IN_PROD = {"namespaceSelector": {"matchLabels": {"env": "prod"}}, "podSelector": {"matchLabels": {"app": "a"}}}
NAMED = {"namedPort": "http"}
SPAN = {"portRange": {"protocol": "UDP", "start": 53, "end": 54}}
X_PODS = {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "x"}}}


def only(name: str, source: raw.Raw, order: float = 1, **rest: raw.Raw) -> raw.Raw:
    """A policy whose one ingress rule allows `source` to x/b."""
    return raw.calico(name, "app == 'b'", order=order, types=IN, ingress=[rule("Allow", source, **rest)])


TIERS = [
    # ------------------------------------------------------------ 14: order of tiers
    case(
        14,
        "tiers by ascending order; no order comes last",
        [
            raw.tier("last"),
            raw.tier("first", 5),
            raw.tier("second", 50),
            raw.calico("last.p", "all()", tier="last", types=IN, ingress=[rule("Allow")]),
            raw.calico("second.p", "app == 'a'", tier="second", types=IN, ingress=[rule("Deny")]),
            raw.calico(
                "first.p", "app == 'a'", tier="first", types=IN, ingress=[rule("Allow", protocol="UDP"), rule("Pass")]
            ),
        ],
        "x/b > x/a udp:1 allow\nx/b > x/a tcp:1 deny\nx/a > x/b tcp:1 allow",
    ),
    case(
        14,
        "equal orders go by name",
        [
            raw.tier("b", 5),
            raw.tier("a", 5),
            raw.calico("b.p", "all()", tier="b", types=IN, ingress=[rule("Allow")]),
            raw.calico("a.p", "all()", tier="a", types=IN, ingress=[rule("Deny")]),
        ],
        "x/b > x/a tcp:1 deny",
    ),
    case(
        14,
        "the default tier stands at 1,000,000",
        [
            raw.tier("before", 999999),
            raw.tier("after", 1000001),
            raw.calico("default.p", "all()", types=IN, ingress=[rule("Deny", protocol="TCP"), rule("Pass")]),
            raw.calico(
                "before.p",
                "all()",
                tier="before",
                types=IN,
                ingress=[rule("Allow", {"ports": [1]}, protocol="TCP"), rule("Pass")],
            ),
            raw.calico("after.p", "all()", tier="after", types=IN, ingress=[rule("Allow", protocol="UDP")]),
        ],
        "x/b > x/a tcp:1>9 allow\nx/b > x/a tcp:2>9 deny\nx/b > x/a udp:9 allow\nx/b > x/a sctp:9 deny",
    ),
    case(
        14,
        "AdminNetworkPolicy comes before a NetworkPolicy, the baseline after it and only where none applies",
        [
            raw.admin(
                "deny-22",
                10,
                ALL_PODS,
                ingress=[
                    {"action": "Deny", "from": [ALL_PODS], "ports": [{"portNumber": {"protocol": "TCP", "port": 22}}]}
                ],
            ),
            raw.baseline_admin(ALL_PODS, ingress=[{"action": "Deny", "from": [X_PODS]}]),
            raw.kubernetes("x/p", {"matchLabels": {"app": "a"}}, ingress=[{}]),
        ],
        "x/b > x/a tcp:22 deny\nx/b > x/a tcp:23 allow\nx/b > x/c tcp:23 deny\ny/a > x/c tcp:23 allow\n"
        "y/a > x/c tcp:22 deny",
    ),
    case(
        14,
        "admin policies by priority; Allow beats a NetworkPolicy, Pass leaves it to that",
        [
            raw.admin("late", 20, X_PODS, ingress=[{"action": "Deny", "from": [ALL_PODS]}]),
            raw.admin(
                "early",
                10,
                X_PODS,
                ingress=[
                    {
                        "action": "Allow",
                        "from": [ALL_PODS],
                        "ports": [{"portRange": {"protocol": "TCP", "start": 80, "end": 82}}],
                    },
                    {"action": "Pass", "from": [ALL_PODS], "ports": [{"portNumber": {"protocol": "UDP", "port": 53}}]},
                ],
            ),
            raw.kubernetes("x/p", {"matchLabels": {"app": "a"}}),
        ],
        "x/b > x/a tcp:80 allow\nx/b > x/a tcp:82 allow\nx/b > x/a tcp:83 deny\nx/b > x/a udp:53 deny\n"
        "x/b > x/c udp:53 allow\n"
        "203.0.113.9 > x/c tcp:83 allow",
    ),
    case(
        14,
        "ClusterNetworkPolicy: both tiers, Accept, networks, named ports",
        [
            raw.cluster(
                "guard",
                "Admin",
                5,
                X_PODS,
                egress=[
                    {
                        "action": "Accept",
                        "to": [{"networks": ["10.0.0.0/24"]}],
                        "protocols": [{"tcp": {"destinationPort": {"number": 80}}}],
                    },
                    {
                        "action": "Deny",
                        "to": [{"networks": ["10.0.0.0/16", "203.0.113.0/24"]}],
                        "protocols": [{"udp": {"destinationPort": {"range": {"start": 1, "end": 52}}}}],
                    },
                ],
                ingress=[{"action": "Accept", "from": [ALL_PODS], "protocols": [{"destinationNamedPort": "http"}]}],
            ),
            raw.cluster(
                "base",
                "Baseline",
                5,
                X_PODS,
                ingress=[
                    {
                        "action": "Deny",
                        "from": [{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "b"}}}}],
                    }
                ],
            ),
            raw.kubernetes("x/p", {"matchLabels": {"app": "a"}}, policyTypes=["Ingress", "Egress"]),
        ],
        "x/a > x/b tcp:80 allow\nx/a > x/b tcp:81 deny\nx/b > y/a udp:52 deny\nx/b > y/a udp:53 allow\n"
        "y/b > x/a tcp:80 allow\n"
        "y/b > x/b tcp:8080 allow\ny/b > x/b tcp:80 deny\ny/a > x/b tcp:80 allow\ny/a > x/a tcp:81 deny",
    ),
    case(
        14,
        "an admin rule's peers are pods and no network set; nodes by their addresses",
        [
            raw.network_set("y/outside", ["203.0.113.0/24"], {"app": "a"}),
            raw.cluster(
                "guard",
                "Admin",
                5,
                X_PODS,
                ingress=[{"action": "Deny", "from": [{"namespaces": {"matchLabels": {"team": "b"}}}]}],
                egress=[{"action": "Deny", "to": [{"nodes": {"matchLabels": {"zone": "west"}}}]}],
            ),
        ],
        "y/a > x/a tcp:80 deny\n203.0.113.9 > x/a tcp:80 allow\nx/a > 192.168.0.2 tcp:80 deny\n"
        "x/a > 192.168.0.1 tcp:80 allow",
    ),
    case(
        14,
        "an admin subject is pods of namespaces, both selected, and never a host endpoint",
        [
            raw.host_endpoint("h", "192.168.0.1", profiles=["projectcalico-default-allow"]),
            raw.admin(
                "all", 1, ALL_PODS, ingress=[{"action": "Deny", "from": [{"pods": A_IN_PROD}], "ports": [NAMED]}]
            ),
            raw.admin(
                "some", 2, {"pods": A_IN_PROD}, ingress=[{"action": "Deny", "from": [ALL_PODS], "ports": [SPAN]}]
            ),
        ],
        "z/a > x/a tcp:80 deny\nz/a > x/b tcp:8080 deny\nz/a > x/b tcp:80 allow\ny/a > x/b tcp:8080 allow\n"
        "x/b > x/a tcp:80 allow\nx/b > x/a udp:53 deny\nx/b > x/a udp:54 deny\nx/b > x/a udp:52 allow\n"
        "x/b > x/a udp:55 allow\nx/b > x/a tcp:53 allow\nx/b > y/a udp:53 allow\nx/a > x/b udp:53 allow\n"
        "x/a > host:h=192.168.0.1 udp:53 allow\n203.0.113.9 > x/a udp:53 allow",
    ),
    # ------------------------------------------------------------ 15: order of policies
    case(
        15,
        "policies by ascending order; no order comes last",
        [
            raw.calico("x/default.late", "app == 'a'", types=IN, ingress=[rule("Deny")]),
            raw.calico("x/default.soon", "app == 'a'", order=2.5, types=IN, ingress=[rule("Allow", protocol="TCP")]),
            raw.calico(
                "default.now",
                "app == 'a'",
                order=-1,
                types=IN,
                ingress=[rule("Deny", protocol="TCP", destination={"ports": [22]})],
            ),
        ],
        "x/b > x/a tcp:80 allow\nx/b > x/a tcp:22 deny\nx/b > x/a udp:80 deny",
    ),
    case(
        15,
        "equal orders go by name",
        [
            raw.calico("default.b", "app == 'a'", order=7, types=IN, ingress=[rule("Allow")]),
            raw.calico("default.a", "app == 'a'", order=7, types=IN, ingress=[rule("Deny")]),
            raw.calico("default.d", "app == 'b'", types=IN, ingress=[rule("Allow")]),
            raw.calico("default.c", "app == 'b'", types=IN, ingress=[rule("Deny")]),
        ],
        "x/b > x/a tcp:80 deny\nx/a > x/b tcp:80 deny",
    ),
    case(
        15,
        "a NetworkPolicy of Kubernetes stands at order 1000 and only allows",
        [
            raw.kubernetes("x/p", ingress=[{"from": [{"podSelector": {}}]}]),
            raw.calico(
                "default.before", "app == 'a'", order=999, types=IN, ingress=[rule("Deny", {"selector": "app == 'b'"})]
            ),
            raw.calico(
                "default.after", "all()", order=1001, types=IN, ingress=[rule("Allow", protocol="UDP"), rule("Deny")]
            ),
        ],
        "x/b > x/a tcp:80 deny\nx/c > x/a tcp:80 allow\ny/a > x/a udp:80 allow\ny/a > x/a tcp:80 deny",
    ),
    case(
        15,
        "at order 1000 it is called knp.default.<name>",
        [
            raw.kubernetes("x/p", ingress=[{}]),
            raw.calico("default.p", "app == 'a'", order=1000, types=IN, ingress=[rule("Deny")]),
        ],
        "x/c > x/a tcp:80 deny\nx/c > x/b tcp:80 allow",
    ),
    # ------------------------------------------------------------ 16: actions
    case(
        16,
        "first match wins, within a policy and on to the next",
        [
            raw.calico(
                "x/default.p",
                "app == 'b'",
                order=1,
                types=IN,
                ingress=[
                    rule("Deny", protocol="TCP", destination={"ports": [22]}),
                    rule("Allow", protocol="TCP"),
                    rule("Deny", protocol="TCP"),
                ],
            ),
            raw.calico(
                "x/default.q", "app == 'b'", order=2, types=IN, ingress=[rule("Allow", {"selector": "app == 'a'"})]
            ),
        ],
        "x/a > x/b tcp:22 deny\nx/c > x/b tcp:80 allow\nx/a > x/b udp:80 allow\nx/c > x/b udp:80 deny",
    ),
    case(
        16,
        "Log continues",
        [
            raw.calico(
                "x/default.p", "app == 'b'", types=IN, ingress=[rule("Log"), rule("Allow", protocol="TCP"), rule("Log")]
            )
        ],
        "x/a > x/b tcp:80 allow\nx/a > x/b udp:80 deny",
    ),
    case(
        16,
        "Pass goes to the next tier that has a policy on the endpoint in this direction",
        [
            raw.tier("one", 1),
            raw.tier("two", 2),
            raw.tier("three", 3),
            raw.calico(
                "one.p", "all()", tier="one", order=1, types=IN, ingress=[rule("Pass", protocol="TCP"), rule("Allow")]
            ),
            raw.calico("one.q", "all()", tier="one", order=2, types=IN, ingress=[rule("Deny")]),
            raw.calico(
                "two.p",
                "app == 'a'",
                tier="two",
                types=IN,
                ingress=[rule("Allow", destination={"ports": [80]}, protocol="TCP")],
            ),
            raw.calico("two.q", "app == 'b'", tier="two", types=OUT, egress=[rule("Allow")]),
            raw.calico("three.p", "app == 'b'", tier="three", types=IN, ingress=[rule("Deny")]),
        ],
        "x/c > x/a tcp:80 allow\nx/c > x/a tcp:81 deny\nx/c > x/a udp:81 allow\nx/c > x/b tcp:80 deny\n"
        "x/a > x/c tcp:80 allow",
    ),
    case(
        16,
        "Pass out of the last tier goes to the profiles",
        [raw.calico("x/default.p", types=IN, ingress=[rule("Pass", protocol="TCP")])],
        "x/c > x/a tcp:80 allow\nx/c > x/a udp:80 deny",
    ),
    # ------------------------------------------------------------ 17: default action
    case(
        17,
        "without a match the tier denies, only where a policy of it applies in that direction",
        [
            raw.tier("t", 1),
            raw.calico("t.p", "app == 'a'", tier="t", types=IN, ingress=[rule("Allow", {"selector": "app == 'b'"})]),
        ],
        "x/b > x/a tcp:80 allow\nx/c > x/a tcp:80 deny\nx/c > x/b tcp:80 allow\nx/a > x/c tcp:80 allow",
    ),
    case(
        17,
        "unless its default action is Pass",
        [
            raw.tier("t", 1, "Pass"),
            raw.calico("t.p", "all()", tier="t", types=IN, ingress=[rule("Deny", {"selector": "app == 'b'"})]),
        ],
        "x/b > x/a tcp:80 deny\nx/c > x/a tcp:80 allow",
    ),
    case(
        17,
        "a staged policy never brings the default action",
        [
            raw.calico("x/default.p", "app == 'a'", staged=True, types=IN, ingress=[rule("Deny", protocol="TCP")]),
            raw.staged_kubernetes("x/q", {"matchLabels": {"app": "b"}}),
            raw.calico("default.r", "app == 'b'", staged=True, types=OUT),
        ],
        "x/c > x/a tcp:80 allow\nx/c > x/a udp:80 allow\nx/c > x/b tcp:80 allow\nx/b > x/c tcp:80 allow",
    ),
    case(
        17,
        "in preview it counts as enforced",
        [
            raw.calico("x/default.p", "app == 'a'", staged=True, types=IN, ingress=[rule("Allow", protocol="TCP")]),
            raw.staged_kubernetes("x/q", {"matchLabels": {"app": "b"}}, stagedAction="Set"),
            raw.calico("default.r", "app == 'b'", staged=True, types=OUT, egress=[rule("Allow", protocol="UDP")]),
        ],
        "x/c > x/a tcp:80 allow\nx/c > x/a udp:80 deny\nx/c > x/b tcp:80 deny\nx/b > x/c tcp:80 deny\n"
        "x/b > x/c udp:80 allow",
        preview=True,
    ),
    case(
        17,
        "in preview Set replaces the policy of its name and Delete removes it",
        [
            raw.calico("x/default.p", "app == 'a'", types=IN, ingress=[rule("Deny")]),
            raw.calico(
                "x/default.p",
                "app == 'a'",
                staged=True,
                stagedAction="Set",
                types=IN,
                ingress=[rule("Allow", protocol="TCP")],
            ),
            raw.kubernetes("x/q", {"matchLabels": {"app": "b"}}),
            raw.staged_kubernetes("x/q", stagedAction="Delete"),
            raw.calico("default.r", "!has(app)", types=IN),
            raw.calico("default.r", staged=True, stagedAction="Delete"),
        ],
        "x/b > x/a tcp:80 allow\nx/b > x/a udp:80 deny\nx/a > x/b tcp:80 allow\nx/a > x/c tcp:80 allow",
        preview=True,
    ),
    # ------------------------------------------------------------ 18: profiles
    case(
        18,
        "a namespace's profile may say otherwise",
        [raw.profile("kns.x", {"pcns.team": "a"}, ingress=[rule("Allow", protocol="TCP")], egress=[rule("Allow")])],
        "y/a > x/a tcp:80 allow\ny/a > x/a udp:80 deny\nx/a > y/a udp:80 allow",
    ),
    case(
        18,
        "a Pass inside a profile denies",
        [
            raw.profile(
                "kns.x", ingress=[rule("Log"), rule("Pass", protocol="TCP"), rule("Allow")], egress=[rule("Allow")]
            ),
            raw.profile("ksa.x.robot", ingress=[rule("Allow")]),
        ],
        "y/a > x/a tcp:80 deny\ny/a > x/a udp:80 allow",
    ),
    case(
        18,
        "what one profile does not match goes to the next; what none allows is denied",
        [
            raw.profile("kns.x", egress=[rule("Allow")]),
            raw.profile("ksa.x.robot", ingress=[rule("Allow", protocol="TCP")]),
        ],
        "y/a > x/a tcp:80 allow\ny/a > x/a udp:80 deny\ny/a > x/b tcp:80 deny",
    ),
    case(
        18,
        "host endpoints have the profiles they name, and without one deny",
        [
            raw.host_endpoint("open", "192.168.0.2", node="n2", profiles=["projectcalico-default-allow"]),
            raw.host_endpoint("shut", "192.168.0.1"),
        ],
        "x/a > host:open=192.168.0.2 tcp:80 allow\nx/a > host:shut=192.168.0.1 tcp:80 deny\n"
        "host:shut=192.168.0.1 > x/b tcp:80 deny",
    ),
    # ------------------------------------------------------------ 19: types
    case(
        19,
        "no rules: Ingress",
        [raw.calico("x/default.p", "app == 'a'")],
        "x/b > x/a tcp:80 deny\nx/a > x/b tcp:80 allow",
    ),
    case(
        19,
        "ingress rules only: Ingress; egress rules only: Egress; both: both",
        [
            raw.calico("x/default.i", "app == 'a'", ingress=[rule("Allow", protocol="UDP")]),
            raw.calico("x/default.e", "app == 'b'", egress=[rule("Allow", protocol="UDP")]),
            raw.calico(
                "y/default.b",
                "app == 'a'",
                ingress=[rule("Allow", protocol="UDP")],
                egress=[rule("Allow", protocol="UDP")],
            ),
        ],
        "x/c > x/a tcp:80 deny\nx/a > x/c tcp:80 allow\nx/c > x/b tcp:80 allow\nx/b > x/c tcp:80 deny\n"
        "y/b > y/a tcp:80 deny\ny/a > y/b tcp:80 deny",
    ),
    case(
        19,
        "types given hold, whatever rules there are",
        [raw.calico("default.p", "app == 'a'", types=["Ingress", "Egress"], ingress=[rule("Allow")])],
        "x/b > x/a tcp:80 allow\nx/a > x/b tcp:80 deny",
    ),
]
