"""Table cases for the items 24 to 30: what Calico's rules match beside selectors, network sets, host endpoints.

https://docs.tigera.io/calico/latest/reference/resources/ (networkpolicy, networkset, hostendpoint) and
https://docs.tigera.io/calico/latest/reference/host-endpoints/.
"""

from __future__ import annotations

from policies.raw import rule
from policies.table_calico import IN, OUT, only
from policies.table_case import case

from policies import raw

WEB = [
    raw.service("x/web", {"app": "a"}, 8000, "http"),
    raw.endpoint_slice("x/web-1", "web", "10.0.0.1 10.0.1.1", "80/TCP", "53/UDP"),
    raw.endpoint_slice("x/web-2", "web", "10.0.2.1", "81/TCP", ready=False),
    raw.endpoint_slice("x/web-3", "web", "fd00::a1", "80/TCP"),
    raw.endpoint_slice("y/web-1", "web", "10.0.1.2", "80/TCP"),
]


def allows(*rules: raw.Raw) -> list[raw.Raw]:
    return [raw.calico("x/default.p", "app == 'b'", types=IN, ingress=list(rules))]


MATCHES = [
    # ------------------------------------------------------------ 24: ports, protocols, ICMP
    case(
        24,
        "numbers, ranges and names of ports",
        [
            raw.calico(
                "x/default.p",
                types=IN,
                ingress=[rule("Allow", destination={"ports": [22, "30:32", "http"]}, protocol="TCP")],
            )
        ],
        "y/a > x/b tcp:22 allow\ny/a > x/b tcp:30 allow\ny/a > x/b tcp:32 allow\ny/a > x/b tcp:33 deny\n"
        "y/a > x/b tcp:8080 allow\n"
        "y/a > x/a tcp:80 allow\ny/a > x/a tcp:8080 deny\ny/a > x/a udp:22 deny",
    ),
    case(
        24,
        "a named port and a selector must hold for the same thing",
        [
            raw.network_set("x/s", ["10.0.0.1/32"], {"kind": "set"}),
            raw.calico(
                "y/default.p",
                types=OUT,
                egress=[
                    rule(
                        "Allow",
                        destination={"selector": "app == 'b'", "namespaceSelector": "all()", "ports": ["http"]},
                        protocol="TCP",
                    )
                ],
            ),
        ],
        "y/a > x/b tcp:8080 allow\ny/a > x/a tcp:80 deny\ny/a > x/b tcp:80 deny",
    ),
    case(
        24,
        "a named port without a selector is anybody's, in whatever namespace",
        [raw.calico("y/default.p", types=OUT, egress=[rule("Allow", destination={"ports": ["http"]}, protocol="TCP")])],
        "y/a > x/b tcp:8080 allow\ny/a > x/a tcp:80 allow\ny/a > x/b tcp:80 deny\ny/a > z/a tcp:80 deny",
    ),
    case(
        24,
        "notPorts, of numbers and of names",
        allows(rule("Allow", destination={"notPorts": ["1:100", "http"]}, protocol="TCP")),
        "x/a > x/b tcp:100 deny\nx/a > x/b tcp:101 allow\nx/a > x/b tcp:8080 deny\nx/a > x/b udp:101 deny",
    ),
    case(
        24,
        "source ports",
        allows(
            rule("Allow", {"ports": [4000], "selector": "app == 'a'"}, protocol="UDP"),
            rule("Allow", {"notPorts": ["1:65000"]}, protocol="TCP"),
        ),
        "x/a > x/b udp:4000>9 allow\nx/a > x/b udp:4001>9 deny\nx/c > x/b udp:4000>9 deny\n"
        "x/c > x/b tcp:65000>9 deny\nx/c > x/b tcp:65001>9 allow",
    ),
    case(
        24,
        "a source port by its name is the source's",
        allows(rule("Allow", {"ports": ["dns"]}, protocol="UDP")),
        "x/a > x/b udp:53>9 allow\nx/a > x/b udp:54>9 deny\ny/a > x/b udp:53>9 deny",
    ),
    case(
        24,
        "an ICMP type, and its code",
        allows(
            rule("Allow", protocol="ICMP", icmp={"type": 8}),
            rule("Allow", protocol="ICMP", icmp={"type": 3, "code": 4}),
        ),
        "x/a > x/b icmp:8/0 allow\nx/a > x/b icmp:8/1 allow\nx/a > x/b icmp:3/4 allow\n"
        "x/a > x/b icmp:3/3 deny\nx/a > x/b tcp:8 deny",
    ),
    case(
        24,
        "notICMP",
        allows(rule("Allow", protocol="ICMP", notICMP={"type": 8, "code": 0})),
        "x/a > x/b icmp:8/0 deny\nx/a > x/b icmp:8/1 allow\nx/a > x/b icmp:0/0 allow\nx/a > x/b tcp:8 deny",
    ),
    case(
        24,
        "ICMPv6 is a protocol of its own",
        [
            raw.calico(
                "x/default.p", "app == 'a'", types=IN, ingress=[rule("Allow", protocol="ICMPv6", icmp={"type": 128})]
            )
        ],
        "y/a%6 > x/a%6 icmp6:128/0 allow\ny/a%6 > x/a%6 icmp6:129/0 deny\ny/a > x/a icmp:128/0 deny",
    ),
    case(
        24,
        "protocols by number, and notProtocol",
        allows(rule("Allow", protocol=47), rule("Allow", {"selector": "app == 'a'"}, notProtocol="TCP", ipVersion=4)),
        "x/c > x/b proto:47 allow\nx/c > x/b proto:48 deny\nx/a > x/b proto:48 allow\n"
        "x/a > x/b tcp:80 deny\nx/a > x/b udp:80 allow",
    ),
    case(
        24,
        "ipVersion",
        [raw.calico("x/default.p", "app == 'a'", types=IN, ingress=[rule("Allow", ipVersion=6)])],
        "y/a%6 > x/a%6 tcp:80 allow\ny/a > x/a tcp:80 deny",
    ),
    # ------------------------------------------------------------ 25: services
    case(
        25,
        "a destination service: its slices' addresses, protocols and ports, ready or not",
        [
            *WEB,
            raw.calico(
                "x/default.p",
                "app == 'b'",
                types=OUT,
                egress=[rule("Allow", destination={"services": {"name": "web"}})],
            ),
        ],
        "x/b > x/a tcp:80 allow\nx/b > x/a udp:53 allow\nx/b > x/a tcp:53 deny\nx/b > x/a tcp:81 deny\n"
        "x/b > y/a tcp:80 allow\n"
        "x/b > z/a tcp:81 allow\nx/b > z/a tcp:80 deny\nx/b > y/b tcp:80 deny\nx/b > x/a icmp:8/0 deny",
    ),
    case(
        25,
        "its namespace defaults to the policy's; a global policy names it",
        [
            *WEB,
            raw.calico(
                "default.p",
                "role == 'front'",
                types=OUT,
                egress=[rule("Allow", destination={"services": {"name": "web", "namespace": "x"}}, protocol="TCP")],
            ),
            raw.calico(
                "y/default.q",
                "role == 'back'",
                types=OUT,
                egress=[rule("Allow", destination={"services": {"name": "web"}})],
            ),
        ],
        "y/a > x/a tcp:80 allow\ny/a > x/a udp:53 deny\ny/a > y/b tcp:80 deny\ny/b > x/a tcp:80 deny\n"
        "y/a%6 > x/a%6 tcp:80 allow",
    ),
    case(
        25,
        "a source service: its addresses alone, and ports may stand beside it",
        [*WEB, *allows(rule("Allow", {"services": {"name": "web"}, "notPorts": [7]}, protocol="TCP"))],
        "x/a > x/b tcp:9 allow\nx/a > x/b tcp:7>9 deny\nz/a > x/b tcp:9 allow\ny/b > x/b tcp:9 deny\n"
        "x/c > x/b tcp:9 deny",
    ),
    # ------------------------------------------------------------ 26: service accounts
    case(
        26,
        "names and selector are ANDed",
        [only("default.p", {"serviceAccounts": {"names": ["robot", "human"], "selector": "role == 'bot'"}})],
        "x/a > x/b tcp:80 allow\ny/a > x/b tcp:80 allow\ny/b > x/b tcp:80 deny\nx/c > x/b tcp:80 deny",
    ),
    case(
        26,
        "beside a selector and a namespaceSelector all must hold",
        [
            only(
                "x/default.p",
                {
                    "serviceAccounts": {"selector": "has(role)"},
                    "namespaceSelector": "team == 'b'",
                    "selector": "app == 'b'",
                },
            )
        ],
        "y/b > x/b tcp:80 allow\ny/a > x/b tcp:80 deny\nx/a > x/b tcp:80 deny",
    ),
    # ------------------------------------------------------------ 27: http
    case(
        27,
        "an http match allows some requests",
        allows(
            rule(
                "Allow",
                {"selector": "app == 'a'"},
                protocol="TCP",
                http={"methods": ["GET"], "paths": [{"prefix": "/open"}]},
            )
        ),
        "x/a > x/b tcp:80 conditional\nx/c > x/b tcp:80 deny\nx/a > x/b udp:80 deny",
    ),
    case(
        27,
        "what follows judges the other requests",
        allows(
            rule("Allow", protocol="TCP", http={"methods": ["GET"]}),
            rule("Deny", {"selector": "app == 'a'"}),
            rule("Allow"),
        ),
        "x/a > x/b tcp:80 conditional\nx/c > x/b tcp:80 allow\nx/a > x/b udp:80 deny\nx/c > x/b udp:80 allow",
    ),
    case(
        27,
        "a denied egress is denied whatever the request",
        [
            *allows(rule("Allow", protocol="TCP", http={"methods": ["GET"]})),
            raw.calico("x/default.q", "app == 'a'", types=OUT),
        ],
        "x/a > x/b tcp:80 deny\nx/c > x/b tcp:80 conditional",
    ),
    # ------------------------------------------------------------ 28: domains
    case(
        28,
        "without domains: a set of the addresses that a name had",
        [
            raw.network_set("mirror", ["203.0.113.10/32", "2001:db8::10/128"], {"external": "mirror.example"}),
            raw.calico(
                "x/default.p",
                types=OUT,
                egress=[
                    rule(
                        "Allow",
                        destination={
                            "namespaceSelector": "global()",
                            "selector": "external == 'mirror.example'",
                            "ports": [443],
                        },
                        protocol="TCP",
                    )
                ],
            ),
        ],
        "x/a > 203.0.113.10 tcp:443 allow\nx/a > 203.0.113.11 tcp:443 deny\n"
        "x/a > 203.0.113.10 tcp:80 deny\nx/a%6 > 2001:db8::10 tcp:443 allow",
    ),
    # ------------------------------------------------------------ 29: network sets
    case(
        29,
        "a NetworkSet is found in its namespace only, a GlobalNetworkSet through global() only",
        [
            raw.network_set("x/own", ["198.51.100.0/28"], {"app": "ext"}),
            raw.network_set("y/other", ["198.51.100.16/28"], {"app": "ext"}),
            raw.network_set("every", ["198.51.100.32/28"], {"app": "ext"}, api=raw.CALICO_STORED),
            *allows(
                rule("Allow", {"selector": "app == 'ext'"}, protocol="TCP"),
                rule("Allow", {"selector": "app == 'ext'", "namespaceSelector": "global()"}, protocol="UDP"),
            ),
        ],
        "198.51.100.15 > x/b tcp:80 allow\n198.51.100.16 > x/b tcp:80 deny\n198.51.100.32 > x/b tcp:80 deny\n"
        "198.51.100.15 > x/b udp:80 deny\n198.51.100.32 > x/b udp:80 allow\n198.51.100.48 > x/b udp:80 deny",
    ),
    case(
        29,
        "a set matches every address in its ranges, a pod's too",
        [
            raw.network_set("x/own", ["10.0.1.0/24"], {"app": "ext"}),
            *allows(rule("Allow", {"selector": "app == 'ext'"})),
        ],
        "y/a > x/b tcp:80 allow\n10.0.1.200 > x/b tcp:80 allow\nx/a > x/b tcp:80 deny",
    ),
    case(
        29,
        "a NetworkSet inherits its namespace's labels; Kubernetes' selectors find no set",
        [
            raw.network_set("y/s", ["203.0.113.0/24"], {"app": "a"}),
            only("default.p", {"selector": "pcns.team == 'b' && app == 'a'"}),
            raw.kubernetes("x/q", {"matchLabels": {"app": "a"}}, ingress=[{"from": [{"namespaceSelector": {}}]}]),
        ],
        "203.0.113.9 > x/b tcp:80 allow\ny/a > x/b tcp:80 allow\ny/a > x/a tcp:80 allow\n203.0.113.9 > x/a tcp:80 deny",
    ),
    # ------------------------------------------------------------ 30: host endpoints
    case(
        30,
        "a host endpoint's traffic is denied but for the failsafe ports",
        [raw.host_endpoint("h", "192.168.0.1 fd00:ffff::1", {"kind": "host"})],
        "203.0.113.9 > host:h=192.168.0.1 tcp:22 allow\n203.0.113.9 > host:h=192.168.0.1 tcp:6443 allow\n"
        "203.0.113.9 > host:h=192.168.0.1 udp:68 allow\n"
        "203.0.113.9 > host:h=192.168.0.1 udp:22 deny\n203.0.113.9 > host:h=192.168.0.1 tcp:80 deny\n"
        "host:h=192.168.0.1 > 203.0.113.9 udp:53 allow\n"
        "host:h=192.168.0.1 > 203.0.113.9 tcp:22 deny\n2001:db8::1 > host:h=fd00:ffff::1 tcp:22 allow",
    ),
    case(
        30,
        "failsafe comes before any policy",
        [
            raw.host_endpoint("h", "192.168.0.1", {"kind": "host"}),
            raw.calico(
                "default.p",
                "kind == 'host'",
                types=["Ingress", "Egress"],
                ingress=[rule("Deny")],
                egress=[rule("Allow")],
            ),
        ],
        "203.0.113.9 > host:h=192.168.0.1 tcp:22 allow\n203.0.113.9 > host:h=192.168.0.1 tcp:23 deny\n"
        "host:h=192.168.0.1 > 203.0.113.9 tcp:23 allow",
    ),
    case(
        30,
        "a global policy selects host endpoints, a namespace's never; their named ports count",
        [
            raw.host_endpoint(
                "h", "192.168.0.1", {"app": "b"}, ports=[{"name": "metrics", "port": 9100, "protocol": "TCP"}]
            ),
            raw.calico(
                "default.p",
                "app == 'b'",
                types=IN,
                ingress=[rule("Allow", destination={"ports": ["metrics"]}, protocol="TCP")],
            ),
            raw.calico("x/default.q", "app == 'b'", types=IN, ingress=[rule("Allow")]),
        ],
        "x/a > host:h=192.168.0.1 tcp:9100 allow\nx/a > host:h=192.168.0.1 tcp:9101 deny\nx/a > x/b tcp:9100 allow",
    ),
    case(
        30,
        "forwarded traffic passes a host endpoint unless a policy with applyOnForward applies there",
        [
            raw.host_endpoint("h", "192.168.0.1", {"app": "edge"}),
            raw.calico(
                "default.f",
                "app == 'edge'",
                applyOnForward=True,
                types=[*IN, "Egress"],
                ingress=[rule("Allow", protocol="TCP", destination={"ports": [80]})],
                egress=[rule("Deny", protocol="TCP", destination={"ports": [22]}), rule("Allow")],
            ),
            raw.calico("default.g", "app == 'edge'", types=["Egress"], egress=[rule("Deny")]),
        ],
        "x/a > 203.0.113.9 tcp:22 deny\nx/a > 203.0.113.9 tcp:23 allow\n203.0.113.9 > x/a tcp:80 allow\n"
        "203.0.113.9 > x/a tcp:81 deny\nx/b > 203.0.113.9 tcp:22 allow\nx/a > x/b tcp:22 allow\n"
        "x/a > x/c tcp:22 allow",
    ),
    case(
        30,
        "an endpoint for all interfaces sees what goes to pods of other nodes, and not what stays",
        [
            raw.host_endpoint("h", "192.168.0.1", {"app": "edge"}, interfaceName="*"),
            raw.calico(
                "default.f",
                "app == 'edge'",
                applyOnForward=True,
                types=["Egress"],
                egress=[rule("Deny", protocol="TCP")],
            ),
        ],
        "x/a > x/b tcp:22 deny\nx/a > x/c tcp:22 allow\nx/b > x/a tcp:22 allow\nx/a > 203.0.113.9 tcp:22 deny",
    ),
    case(
        30,
        "untracked and pre-DNAT policies concern host endpoints alone",
        [
            raw.host_endpoint("h", "192.168.0.1", profiles=["projectcalico-default-allow"]),
            raw.calico(
                "default.u",
                "all()",
                doNotTrack=True,
                applyOnForward=True,
                types=IN,
                ingress=[rule("Deny", protocol="UDP")],
            ),
            raw.calico(
                "default.d",
                "all()",
                preDNAT=True,
                applyOnForward=True,
                types=IN,
                ingress=[rule("Deny", destination={"ports": [80]}, protocol="TCP")],
            ),
        ],
        "x/a > x/b udp:9 allow\nx/a > x/b tcp:80 allow\nx/a > host:h=192.168.0.1 udp:9 deny\n"
        "x/a > host:h=192.168.0.1 tcp:80 deny\nx/a > host:h=192.168.0.1 tcp:81 allow",
    ),
    case(
        30,
        "what they allow skips the later ones; what they do not match goes on, without a default action",
        [
            raw.host_endpoint("h", "192.168.0.1"),
            raw.calico(
                "default.u",
                "all()",
                doNotTrack=True,
                applyOnForward=True,
                types=IN,
                ingress=[rule("Allow", protocol="UDP")],
            ),
            raw.calico(
                "default.d",
                "all()",
                preDNAT=True,
                applyOnForward=True,
                types=IN,
                ingress=[rule("Deny", protocol="UDP"), rule("Allow", destination={"ports": [80]}, protocol="TCP")],
            ),
            raw.calico(
                "default.n",
                "!has(projectcalico.org/namespace)",
                types=IN,
                ingress=[rule("Deny", destination={"ports": [80]}, protocol="TCP"), rule("Allow", protocol="TCP")],
            ),
        ],
        "x/a > host:h=192.168.0.1 udp:9 allow\nx/a > host:h=192.168.0.1 tcp:80 allow\n"
        "x/a > host:h=192.168.0.1 tcp:81 allow\nx/a > host:h=192.168.0.1 sctp:81 deny",
    ),
    case(
        30,
        "all interfaces at once have no untracked policy",
        [
            raw.host_endpoint("h", "192.168.0.1", interfaceName="*", profiles=["projectcalico-default-allow"]),
            raw.calico(
                "default.u",
                "all()",
                doNotTrack=True,
                applyOnForward=True,
                types=IN,
                ingress=[rule("Deny", protocol="UDP")],
            ),
        ],
        "x/a > host:h=192.168.0.1 udp:9 allow",
    ),
]
