"""Table cases for the items 1 to 13: Kubernetes' NetworkPolicy, and what Kubernetes leaves to the network plugin.

https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

from policies.table_case import case

from policies import raw

A, B = {"matchLabels": {"app": "a"}}, {"matchLabels": {"app": "b"}}
DENY_X = raw.kubernetes("x/deny", policyTypes=["Ingress", "Egress"])


def peers(*peers: raw.Raw) -> list[raw.Raw]:
    return [{"from": list(peers)}]


def ports(*ports: raw.Raw) -> list[raw.Raw]:
    return [{"ports": list(ports)}]


def block(cidr: str, *excepts: str) -> raw.Raw:
    return {"ipBlock": {"cidr": cidr, **({"except": list(excepts)} if excepts else {})}}


def expressed(operator: str, *values: str) -> raw.Raw:
    return {"matchExpressions": [{"key": "app", "operator": operator, "values": list(values)}]}


KUBERNETES = [
    # ------------------------------------------------------------ 1: isolation
    case(1, "no policy: everything passes", [], "x/a > y/b tcp:1 allow\n203.0.113.9 > x/a udp:53 allow"),
    case(
        1,
        "isolation is per direction",
        [raw.kubernetes("x/in", A, policyTypes=["Ingress"])],
        "x/b > x/a tcp:80 deny\nx/a > x/b tcp:80 allow\nx/b > x/c tcp:80 allow",
    ),
    case(
        1,
        "both the source's egress and the destination's ingress must allow",
        [
            raw.kubernetes("x/out", A, policyTypes=["Egress"], egress=[{"to": [{"podSelector": B}]}]),
            raw.kubernetes("x/in", B, policyTypes=["Ingress"], ingress=ports({"port": 80})),
        ],
        "x/a > x/b tcp:80 allow\nx/a > x/b tcp:81 deny\nx/a > x/c tcp:80 deny\nx/c > x/b tcp:80 allow",
    ),
    case(
        1,
        "policies unite",
        [
            raw.kubernetes("x/one", A, ingress=ports({"port": 80})),
            raw.kubernetes("x/two", A, ingress=ports({"port": 81})),
        ],
        "x/b > x/a tcp:80 allow\nx/b > x/a tcp:81 allow\nx/b > x/a tcp:82 deny",
    ),
    # ------------------------------------------------------------ 2: policyTypes
    case(
        2,
        "policyTypes absent without egress rules: Ingress",
        [raw.kubernetes("x/p", A)],
        "x/b > x/a tcp:80 deny\nx/a > x/b tcp:80 allow",
    ),
    case(
        2,
        "policyTypes absent with an egress rule: both",
        [raw.kubernetes("x/p", A, egress=ports({"port": 80}))],
        "x/b > x/a tcp:80 deny\nx/a > x/b tcp:80 allow\nx/a > x/b tcp:81 deny",
    ),
    case(
        2,
        "policyTypes absent with an empty egress list: Ingress",
        [raw.kubernetes("x/p", A, egress=[])],
        "x/b > x/a tcp:80 deny\nx/a > x/b tcp:80 allow",
    ),
    case(
        2,
        "policyTypes Egress alone leaves ingress open, whatever ingress rules say",
        [raw.kubernetes("x/p", A, policyTypes=["Egress"], ingress=ports({"port": 80}))],
        "x/b > x/a tcp:81 allow\nx/a > x/b tcp:80 deny",
    ),
    # ------------------------------------------------------------ 3: empty lists
    case(
        3, "ingress absent denies", [raw.kubernetes("x/p", A)], "x/b > x/a tcp:80 deny\n203.0.113.9 > x/a tcp:80 deny"
    ),
    case(3, "ingress [] denies", [raw.kubernetes("x/p", A, ingress=[])], "x/b > x/a tcp:80 deny"),
    case(
        3,
        "ingress [{}] allows everything",
        [raw.kubernetes("x/p", A, ingress=[{}])],
        "x/b > x/a tcp:80 allow\n203.0.113.9 > x/a icmp:8/0 allow",
    ),
    case(
        3,
        "from absent and from [] are any peer, external ones too",
        [
            raw.kubernetes("x/p", A, ingress=ports({"port": 80})),
            raw.kubernetes("x/q", A, ingress=[{"from": [], "ports": [{"port": 81}]}]),
        ],
        "203.0.113.9 > x/a tcp:80 allow\n203.0.113.9 > x/a tcp:81 allow\n203.0.113.9 > x/a tcp:82 deny",
    ),
    # ------------------------------------------------------------ 4: peers
    case(
        4,
        "podSelector alone: the policy's own namespace",
        [raw.kubernetes("x/p", ingress=peers({"podSelector": A}))],
        "x/a > x/b tcp:80 allow\ny/a > x/b tcp:80 deny\nx/c > x/b tcp:80 deny",
    ),
    case(
        4,
        "namespaceSelector alone: every pod there",
        [raw.kubernetes("x/p", ingress=peers({"namespaceSelector": {"matchLabels": {"team": "b"}}}))],
        "y/a > x/b tcp:80 allow\ny/b > x/b tcp:80 allow\nx/a > x/b tcp:80 deny\nz/a > x/b tcp:80 deny",
    ),
    case(
        4,
        "both in one item: and",
        [raw.kubernetes("x/p", ingress=peers({"namespaceSelector": {"matchLabels": {"team": "b"}}, "podSelector": A}))],
        "y/a > x/b tcp:80 allow\ny/b > x/b tcp:80 deny\nx/a > x/b tcp:80 deny",
    ),
    case(
        4,
        "separate items: or",
        [
            raw.kubernetes(
                "x/p", ingress=peers({"namespaceSelector": {"matchLabels": {"team": "b"}}}, {"podSelector": A})
            )
        ],
        "y/a > x/b tcp:80 allow\ny/b > x/b tcp:80 allow\nx/a > x/b tcp:80 allow\nz/a > x/b tcp:80 deny",
    ),
    case(
        4,
        "an empty selector is all, of pods or of namespaces",
        [
            raw.kubernetes("x/p", A, ingress=peers({"podSelector": {}})),
            raw.kubernetes("x/q", B, ingress=peers({"namespaceSelector": {}})),
        ],
        "x/c > x/a tcp:80 allow\ny/a > x/a tcp:80 deny\ny/a > x/b tcp:80 allow\n203.0.113.9 > x/b tcp:80 deny",
    ),
    case(
        4,
        "expressions are ANDed; NotIn and DoesNotExist match a missing key",
        [
            raw.kubernetes(
                "x/p",
                B,
                ingress=peers(
                    {
                        "namespaceSelector": {},
                        "podSelector": {
                            "matchExpressions": [
                                {"key": "app", "operator": "NotIn", "values": ["b"]},
                                {"key": "role", "operator": "DoesNotExist"},
                            ]
                        },
                    }
                ),
            ),
            raw.kubernetes(
                "x/q",
                A,
                ingress=peers(
                    {
                        "namespaceSelector": {},
                        "podSelector": {
                            "matchExpressions": [
                                {"key": "app", "operator": "In", "values": ["a", "b"]},
                                {"key": "role", "operator": "Exists"},
                            ]
                        },
                    }
                ),
            ),
        ],
        "x/c > x/b tcp:80 allow\nx/a > x/b tcp:80 allow\ny/a > x/b tcp:80 deny\ny/b > x/b tcp:80 deny\n"
        "y/a > x/a tcp:80 allow\nx/b > x/a tcp:80 deny\nx/c > x/a tcp:80 deny",
    ),
    case(
        4,
        "In needs the label, NotIn does not; each alone",
        [
            raw.kubernetes("x/p", B, ingress=peers({"podSelector": expressed("In", "a", "q")})),
            raw.kubernetes("y/p", B, ingress=peers({"namespaceSelector": {}, "podSelector": expressed("NotIn", "a")})),
        ],
        "x/a > x/b tcp:80 allow\nx/c > x/b tcp:80 deny\nx/c > y/b tcp:80 allow\nx/b > y/b tcp:80 allow\n"
        "x/a > y/b tcp:80 deny",
    ),
    case(
        4,
        "a namespace by the name that the API server labels it with",
        [
            raw.kubernetes(
                "x/p", ingress=peers({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "y"}}})
            )
        ],
        "y/a > x/a tcp:80 allow\nz/a > x/a tcp:80 deny",
    ),
    # ------------------------------------------------------------ 5: ports
    case(
        5,
        "no ports: every port and every protocol",
        [raw.kubernetes("x/p", A, ingress=[{"ports": [], "from": [{"podSelector": {}}]}])],
        "x/b > x/a tcp:1 allow\nx/b > x/a icmp:8/0 allow\nx/b > x/a proto:47 allow\ny/b > x/a proto:47 deny",
    ),
    case(
        5,
        "an item without port: every port of its protocol; protocol absent is TCP",
        [
            raw.kubernetes("x/p", A, ingress=ports({"protocol": "UDP"})),
            raw.kubernetes("x/q", B, ingress=ports({})),
            raw.kubernetes("x/r", B, ingress=ports({"port": 53, "protocol": "SCTP"})),
        ],
        "x/c > x/a udp:9 allow\nx/c > x/a tcp:9 deny\nx/c > x/b tcp:9 allow\nx/c > x/b udp:9 deny\n"
        "x/c > x/b sctp:53 allow\nx/c > x/b sctp:54 deny",
    ),
    case(
        5,
        "endPort is inclusive",
        [raw.kubernetes("x/p", A, ingress=ports({"port": 80, "endPort": 82}))],
        "x/b > x/a tcp:79 deny\nx/b > x/a tcp:80 allow\nx/b > x/a tcp:82 allow\nx/b > x/a tcp:83 deny",
    ),
    case(
        5,
        "ports of an egress rule are the destination's",
        [raw.kubernetes("x/p", A, policyTypes=["Egress"], egress=ports({"port": 443}))],
        "x/a > y/b tcp:443 allow\nx/a > y/b tcp:443>444 deny\nx/a > 203.0.113.9 tcp:443 allow",
    ),
    # ------------------------------------------------------------ 6: named ports
    case(
        6,
        "a named port is each destination's own",
        [raw.kubernetes("x/p", ingress=ports({"port": "http"}))],
        "y/b > x/a tcp:80 allow\ny/b > x/a tcp:8080 deny\ny/b > x/b tcp:8080 allow\ny/b > x/b tcp:80 deny",
    ),
    case(
        6,
        "the protocol counts; unresolved is no match",
        [
            raw.kubernetes("y/p", ingress=ports({"port": "http"})),
            raw.kubernetes("x/p", A, ingress=ports({"port": "dns", "protocol": "UDP"})),
        ],
        "x/a > y/a udp:80 deny\nx/a > y/a tcp:80 deny\nx/a > y/b tcp:80 deny\nx/b > x/a udp:53 allow\n"
        "x/b > x/a tcp:53 deny",
    ),
    case(
        6,
        "in an egress rule it is still the destination's",
        [raw.kubernetes("y/p", policyTypes=["Egress"], egress=ports({"port": "http"}))],
        "y/a > x/a tcp:80 allow\ny/a > x/b tcp:8080 allow\ny/a > x/b tcp:80 deny\ny/a > 203.0.113.9 tcp:80 deny",
    ),
    # ------------------------------------------------------------ 7: ipBlock
    case(
        7,
        "the CIDR less every exception",
        [raw.kubernetes("x/p", ingress=peers(block("203.0.113.0/24", "203.0.113.0/28", "203.0.113.128/25")))],
        "203.0.113.15 > x/a tcp:80 deny\n203.0.113.16 > x/a tcp:80 allow\n203.0.113.127 > x/a tcp:80 allow\n"
        "203.0.113.128 > x/a tcp:80 deny\n203.0.112.255 > x/a tcp:80 deny\nx/b > x/a tcp:80 deny",
    ),
    case(
        7,
        "an exception takes nothing from a sibling",
        [raw.kubernetes("x/p", ingress=peers(block("203.0.113.0/24", "203.0.113.0/28"), block("203.0.113.8/29")))],
        "203.0.113.7 > x/a tcp:80 deny\n203.0.113.8 > x/a tcp:80 allow\n203.0.113.99 > x/a tcp:80 allow",
    ),
    case(
        7,
        "IPv4 ranges hold no IPv6 address and the other way round",
        [raw.kubernetes("x/p", ingress=peers(block("0.0.0.0/0")))],
        "y/a > x/a tcp:80 allow\ny/a%6 > x/a%6 tcp:80 deny\n2001:db8::1 > x/a%6 tcp:80 deny",
    ),
    case(
        7,
        "IPv6, and a pod with both families",
        [raw.kubernetes("x/p", ingress=peers(block("fd00::/16", "fd00::c0/124")))],
        "y/a%6 > x/a%6 tcp:80 allow\nfd00::c5 > x/a%6 tcp:80 deny\ny/a > x/a tcp:80 deny",
    ),
    case(
        7,
        "bits beyond the prefix do not count",
        [raw.kubernetes("x/p", ingress=peers(block("192.168.242.213/24")))],
        "192.168.242.1 > x/a tcp:80 allow\n192.168.243.1 > x/a tcp:80 deny",
    ),
    case(
        7,
        "Calico matches pods by their addresses too",
        [raw.kubernetes("x/p", ingress=peers(block("10.0.0.0/16", "10.0.1.0/24")))],
        "x/b > x/a tcp:80 allow\nz/a > x/a tcp:80 allow\ny/a > x/a tcp:80 deny",
    ),
    # ------------------------------------------------------------ 8: other protocols
    case(
        8,
        "a rule without ports covers ICMP and the rest, isolation drops them",
        [
            raw.kubernetes("x/p", A, ingress=peers({"podSelector": B})),
            raw.kubernetes("x/q", B, ingress=ports({"port": 80})),
        ],
        "x/b > x/a icmp:8/0 allow\nx/b > x/a proto:47 allow\nx/c > x/a icmp:8/0 deny\n"
        "x/a > x/b icmp:8/0 deny\n"
        "x/a > x/b tcp:80 allow\nx/a > x/b udp:80 deny",
    ),
    # ------------------------------------------------------------ 9: own node, itself
    case(
        9,
        "a pod and its own node, and a pod and itself, always reach each other",
        [DENY_X],
        "192.168.0.1 > x/a tcp:80 allow\nx/a > 192.168.0.1 tcp:80 allow\nfd00:ffff::1 > x/a%6 tcp:80 allow\n"
        "192.168.0.2 > x/a tcp:80 deny\nx/a > x/a tcp:80 allow\nx/b > x/a tcp:80 deny",
        own_traffic=True,
    ),
    case(
        9,
        "a node's addresses are also those of its host endpoints",
        [DENY_X, raw.host_endpoint("h", "192.168.9.9", profiles=["projectcalico-default-allow"])],
        "host:h=192.168.9.9 > x/a tcp:80 allow\nx/a > host:h=192.168.9.9 tcp:80 allow\n"
        "host:h=192.168.9.9 > x/b tcp:80 deny\nx/a > x/c tcp:80 deny\ny/b > x/a tcp:80 deny",
        own_traffic=True,
    ),
    case(
        9,
        "without that exemption the policies say no",
        [DENY_X],
        "192.168.0.1 > x/a tcp:80 deny\nx/a > x/a tcp:80 deny\nx/a > 192.168.0.1 tcp:80 deny",
    ),
    # ------------------------------------------------------------ 10: what is no endpoint
    case(
        10,
        "a pod on the host's network is neither selected nor matched",
        [raw.kubernetes("x/p", A, policyTypes=["Ingress", "Egress"], ingress=peers({"podSelector": A}))],
        "x/host > x/a tcp:80 deny\nx/b > x/host tcp:80 allow\nx/host > 203.0.113.9 tcp:80 allow",
    ),
    case(
        10,
        "its address is the node's",
        [raw.kubernetes("x/p", ingress=peers(block("192.168.0.1/32")))],
        "x/host > x/a tcp:80 allow\n192.168.0.1 > x/a tcp:80 allow\n192.168.0.2 > x/a tcp:80 deny",
    ),
    case(
        10,
        "a finished pod is neither selected nor matched",
        [raw.kubernetes("x/p", A, policyTypes=["Ingress", "Egress"], ingress=peers({"podSelector": A}))],
        "10.0.0.9 > x/a tcp:80 deny\nx/done > x/a tcp:80 deny\nx/b > x/done tcp:80 allow",
    ),
    case(
        10,
        "the address of a finished pod belongs to who has it now",
        [
            raw.pod("y/new", "10.0.0.9", {"app": "new"}),
            raw.kubernetes("x/p", B, ingress=peers({"podSelector": A})),
            raw.kubernetes("x/q", A, ingress=peers({"namespaceSelector": {"matchLabels": {"team": "b"}}})),
        ],
        "10.0.0.9 > x/b tcp:80 deny\n10.0.0.9 > x/a tcp:80 allow",
    ),
    # ------------------------------------------------------------ 11: services
    case(
        11,
        "policies see the backend's address and the targetPort",
        [
            raw.service("x/web", {"app": "a"}, 8000, "http"),
            raw.endpoint_slice("x/web-1", "web", "10.0.0.1", "80/TCP"),
            raw.kubernetes("x/p", A, ingress=ports({"port": 80})),
            raw.kubernetes("y/p", policyTypes=["Egress"], egress=ports({"port": 8000})),
        ],
        "x/b > x/a tcp:80 allow\nx/b > x/a tcp:8000 deny\ny/a > x/b tcp:8000 allow\ny/a > x/a tcp:80 deny",
    ),
    case(
        11,
        "backends of one service may differ",
        [
            raw.endpoint_slice("x/both-1", "both", "10.0.0.1 10.0.0.2", "80/TCP"),
            raw.kubernetes("x/p", A, ingress=[{}]),
            raw.kubernetes("x/q", B),
        ],
        "y/a > x/a tcp:80 allow\ny/a > x/b tcp:80 deny",
    ),
    # ------------------------------------------------------------ 12: source NAT
    case(
        12,
        "outside traffic through a node port may come from the node's address",
        [raw.kubernetes("x/p", ingress=peers(block("203.0.113.0/24")))],
        "203.0.113.9 > x/a tcp:80 allow\n192.168.0.2 > x/a tcp:80 deny",
    ),
    # ------------------------------------------------------------ 13: DNS
    case(
        13,
        "DNS: the pods by their labels, the node-local cache by its address",
        [
            raw.namespace("kube-system"),
            raw.pod("kube-system/dns", "10.0.9.9", {"k8s-app": "kube-dns"}, "dns=53/UDP dns-tcp=53/TCP"),
            raw.pod("kube-system/cache", "192.168.0.1", {"k8s-app": "node-local-dns"}, host_network=True),
            raw.kubernetes(
                "x/dns",
                policyTypes=["Egress"],
                egress=[
                    {
                        "to": [
                            {
                                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                                "podSelector": {
                                    "matchExpressions": [
                                        {"key": "k8s-app", "operator": "In", "values": ["kube-dns", "node-local-dns"]}
                                    ]
                                },
                            },
                            block("169.254.20.10/32"),
                        ],
                        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
                    }
                ],
            ),
        ],
        "x/a > 10.0.9.9 udp:53 allow\nx/a > 10.0.9.9 tcp:53 allow\nx/a > 10.0.9.9 udp:54 deny\n"
        "x/a > 169.254.20.10 udp:53 allow\nx/a > 192.168.0.1 udp:53 deny\nx/a > 203.0.113.53 udp:53 deny",
    ),
]
