"""Random policies, tiers, sets, profiles and host endpoints: of every kind, valid, and with whatever a field allows.

One seed, one list of objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from random import Random
from typing import Any

from support.policy_kinds import KINDS, Kind

NAMESPACE = "shop"
TIERS = ("default", "platform", "security")

Data = dict[str, Any]

_KEYS = ("app", "tier", "team.example/role", "projectcalico.org/name")
_VALUES = ("web", "db", "a.b_c-d", "")
_WITH_PORTS: tuple[str | int, ...] = ("TCP", "UDP", "SCTP", 6, 17, 132)
_WITHOUT: tuple[str | int, ...] = ("UDPLite", 47, 255)
_SELECTORS = (
    "all()",
    "app == 'web'",
    'app != "db" && has(tier)',
    "!has(old) || tier in {'a', 'b'}",
    "tier not in { 'x' }",
    "role starts with 'pay' || role contains 'ment' || role ends with 's'",
    "(a == 'b' && (c == 'd' || !(e == 'f')))",
)


def objects(seed: int, count: int) -> list[Data]:
    """That many valid objects, of each kind in turn; Kubernetes' own NetworkPolicy is one of them."""
    made = _Made(Random(seed))
    return [made.of(index) for index in range(count)]


class _Made:
    def __init__(self, random: Random) -> None:
        self.random = random

    def of(self, index: int) -> Data:
        choices: tuple[Kind | None, ...] = (*KINDS, None)
        kind = choices[index % len(choices)]
        if kind is None:
            return {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": f"random-{index}", "namespace": NAMESPACE},
                "spec": self.kubernetes(),
            }
        name = "default" if kind.name == "BaselineAdminNetworkPolicy" else f"random-{index}"
        return {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {"name": name, **({"namespace": NAMESPACE} if kind.namespaced else {})},
            "spec": self.spec(kind.name),
        }

    def spec(self, name: str) -> Data:
        match name:
            case "NetworkPolicy" | "StagedNetworkPolicy" | "GlobalNetworkPolicy" | "StagedGlobalNetworkPolicy":
                return self.staged(name, self.calico(namespaced="Global" not in name))
            case "StagedKubernetesNetworkPolicy":
                return self.staged(name, self.kubernetes())
            case "Tier":
                return self.some(order=lambda: self.random.randrange(1, 900), defaultAction=self.pick("Pass", "Deny"))
            case "NetworkSet" | "GlobalNetworkSet":
                return self.some(nets=lambda: self.unique(lambda: self.net(self.random.choice((4, 6)), loose=True)))
            case "Profile":
                return self.some(
                    ingress=lambda: self.several(lambda: self.rule("ingress", namespaced=False)),
                    egress=lambda: self.several(lambda: self.rule("egress", namespaced=False)),
                    labelsToApply=lambda: {"pcns.team": "shop"},
                )
            case "HostEndpoint":
                return self.host_endpoint()
            case _:
                return self.sig_network(name)

    # ------------------------------------------------------------ chance

    def pick(self, *values: Any) -> Callable[[], Any]:
        return lambda: self.random.choice(values)

    def some(self, **fields: Callable[[], Any]) -> Data:
        """Each field with a chance of one half."""
        return {name: value() for name, value in fields.items() if self.random.random() < 0.5}

    def several(self, one: Callable[[], Any], least: int = 0, most: int = 3) -> list[Any]:
        return [one() for _ in range(self.random.randint(least, most))]

    def unique(self, one: Callable[[], str], least: int = 0, most: int = 3) -> list[str]:
        return sorted(set(self.several(one, least, most)))

    def types(self) -> list[str]:
        return list(self.random.choice((("Ingress",), ("Egress",), ("Ingress", "Egress"), ("Egress", "Ingress"))))

    def staged(self, name: str, spec: Data) -> Data:
        """One that deletes says nothing else than its tier."""
        if "Staged" not in name:
            return spec
        action = self.some(stagedAction=self.pick("Set", "Set", "Learn", "Ignore", "Delete"))
        if action.get("stagedAction") == "Delete":
            return action | ({"tier": spec["tier"]} if "tier" in spec else {})
        return action | spec

    # ------------------------------------------------------------ addresses, ports, labels

    def net(self, version: int, loose: bool = False) -> str:
        """A network; `loose` ones may have bits beyond their prefix, or none."""
        bits = 32 if version == 4 else 128
        length = self.random.choice((0, 8, 13, 24, bits))
        address = self.random.getrandbits(bits)
        if loose and self.random.random() < 0.5:
            single = IPv4Address(address) if version == 4 else IPv6Address(address)
            return str(single) if length == bits else f"{single}/{length}"
        family = IPv4Network if version == 4 else IPv6Network
        return str(family((address >> (bits - length) << (bits - length), length)))

    def port_range(self) -> tuple[int, int]:
        first, last = sorted(self.random.sample(range(1, 65536), 2))
        return first, last

    def calico_port(self) -> int | str:
        first, last = self.port_range()
        return self.random.choice((first, f"{first}:{last}", f"{first}:{first}", "http", "1-a"))

    def label_selector(self) -> Data:
        def expression() -> Data:
            key = self.random.choice(_KEYS)
            if self.random.random() < 0.5:
                return {"key": key, "operator": self.random.choice(("Exists", "DoesNotExist"))}
            values = self.several(self.pick(*_VALUES), 1)
            return {"key": key, "operator": self.random.choice(("In", "NotIn")), "values": values}

        return self.some(
            matchLabels=lambda: {self.random.choice(_KEYS): self.random.choice(_VALUES)},
            matchExpressions=lambda: self.several(expression),
        )

    # ------------------------------------------------------------ Calico

    def calico(self, namespaced: bool) -> Data:
        spec = self.some(
            tier=self.pick(*TIERS),
            order=self.pick(0, 1, 100.5, -3, 1e9),
            selector=self.pick("", *_SELECTORS),
            serviceAccountSelector=self.pick(*_SELECTORS),
            types=self.types,
            ingress=lambda: self.several(lambda: self.rule("ingress", namespaced)),
            egress=lambda: self.several(lambda: self.rule("egress", namespaced)),
            performanceHints=lambda: ["AssumeNeededOnEveryNode"],
        )
        if not namespaced:
            spec |= self.some(namespaceSelector=self.pick(*_SELECTORS))
            spec |= self.host_options(spec)
        return spec

    def host_options(self, spec: Data) -> Data:
        option = self.random.choice(("", "applyOnForward", "doNotTrack", "preDNAT"))
        if option == "preDNAT":
            spec.pop("egress", None)
            spec["types"] = ["Ingress"]
        return {option: True, "applyOnForward": True} if option else {}

    def rule(self, direction: str, namespaced: bool) -> Data:
        version = self.random.choice((4, 6))
        rule: Data = {"action": self.random.choice(("Allow", "Deny", "Log", "Pass"))}
        rule |= self.some(ipVersion=lambda: version, metadata=lambda: {"annotations": {"why": "chance"}})
        kind = self.random.choice(("ports", "icmp", "other", "any"))
        if kind == "icmp":
            rule["protocol"] = self.random.choice(("ICMP", 1) if version == 4 else ("ICMPv6", 58))
            rule |= self.some(icmp=self.icmp, notICMP=self.icmp)
        elif kind != "any":
            rule["protocol"] = self.random.choice(_WITH_PORTS if kind == "ports" else _WITHOUT)
        rule |= self.some(notProtocol=self.pick("SCTP", 47)) if kind == "any" else {}
        mine, theirs = ("destination", "source") if direction == "ingress" else ("source", "destination")
        by_service = self.random.random() < 0.2
        if by_service:
            rule[theirs] = {"services": {"name": "api", **({} if namespaced else {"namespace": "data"})}}
            rule[theirs] |= self.ports(kind) if theirs == "source" else {}
        rule |= self.some(**{mine: lambda: self.entity(kind, version)})
        if not by_service:
            rule |= self.some(**{theirs: lambda: self.entity(kind, version)})
        if direction == "ingress" and rule["action"] == "Allow" and rule.get("protocol", "TCP") in ("TCP", 6):
            rule |= self.some(http=self.http)
        return rule

    def ports(self, kind: str) -> Data:
        if kind != "ports":
            return {}
        return self.some(ports=lambda: self.several(self.calico_port), notPorts=lambda: self.several(self.calico_port))

    def entity(self, kind: str, version: int) -> Data:
        return self.ports(kind) | self.some(
            nets=lambda: self.unique(lambda: self.net(version)),
            notNets=lambda: self.unique(lambda: self.net(version)),
            selector=self.pick(*_SELECTORS),
            notSelector=self.pick(*_SELECTORS),
            namespaceSelector=self.pick("global()", *_SELECTORS),
            serviceAccounts=lambda: self.some(names=lambda: ["web", "db"], selector=self.pick(*_SELECTORS)),
        )

    def icmp(self) -> Data:
        return {"type": self.random.randint(0, 254), **self.some(code=lambda: self.random.randint(0, 255))}

    def http(self) -> Data:
        def path() -> Data:
            return {self.random.choice(("exact", "prefix")): self.random.choice(("/", "/api/v1"))}

        return self.some(methods=lambda: self.unique(self.pick("GET", "PUT")), paths=lambda: self.several(path))

    def host_endpoint(self) -> Data:
        def port(name: str) -> Data:
            protocol = self.random.choice(_WITH_PORTS)
            return {"name": name, "protocol": protocol, "port": self.random.randint(1, 65535)}

        found = {"node": "node-1"} | self.some(
            expectedIPs=lambda: ["10.0.0.1", "fd00::1"],
            profiles=lambda: ["kns.shop", "mine"],
            ports=lambda: [port("ssh"), port("dns")],
        )
        if "expectedIPs" not in found or self.random.random() < 0.5:
            found["interfaceName"] = self.random.choice(("*", "eth0", "bond0.12"))
        return found

    # ------------------------------------------------------------ Kubernetes

    def kubernetes(self) -> Data:
        return {"podSelector": self.label_selector()} | self.some(
            policyTypes=self.types,
            ingress=lambda: self.several(lambda: self.kubernetes_rule("from")),
            egress=lambda: self.several(lambda: self.kubernetes_rule("to")),
        )

    def kubernetes_rule(self, end: str) -> Data:
        return self.some(
            **{end: lambda: self.several(self.kubernetes_peer), "ports": lambda: self.several(self.kubernetes_port)}
        )

    def kubernetes_peer(self) -> Data:
        if self.random.random() < 0.4:
            length = self.random.randint(4, 20)
            block: Data = {"cidr": f"10.0.0.0/{length}"}
            inner = [f"10.0.0.0/{length + 1}", f"10.0.0.0/{length + 4}"]
            return {"ipBlock": block | self.some(**{"except": lambda: inner})}
        found = self.some(podSelector=self.label_selector, namespaceSelector=self.label_selector)
        return found or {"podSelector": {}}

    def kubernetes_port(self) -> Data:
        first, last = self.port_range()
        found = self.some(protocol=self.pick("TCP", "UDP", "SCTP"), port=self.pick(first, "http"))
        return found | (self.some(endPort=self.pick(first, last)) if found.get("port") == first else {})

    # ------------------------------------------------------------ SIG Network

    def sig_network(self, name: str) -> Data:
        newer = name == "ClusterNetworkPolicy"
        allow = "Accept" if newer else "Allow"
        actions = (allow, "Deny") if name.startswith("Baseline") else (allow, "Deny", "Pass")
        spec: Data = {"subject": self.pods()} | self.some(
            ingress=lambda: self.several(lambda: self.sig_rule("from", actions, newer, domains=False)),
            egress=lambda: self.several(lambda: self.sig_rule("to", actions, newer, not name.startswith("Baseline"))),
        )
        if not name.startswith("Baseline"):
            spec["priority"] = self.random.randint(0, 1000)
        return spec | ({"tier": self.random.choice(("Admin", "Baseline"))} if newer else {})

    def pods(self) -> Data:
        pods = {"namespaceSelector": self.label_selector(), "podSelector": self.label_selector()}
        return self.random.choice(({"namespaces": self.label_selector()}, {"pods": pods}))

    def sig_rule(self, end: str, actions: Sequence[str], newer: bool, domains: bool) -> Data:
        action = self.random.choice(actions)
        outside = end == "to" and self.random.random() < 0.4
        rule: Data = {"action": action, end: self.several(self.pods, 1)}
        if outside:
            rule[end].append(self.outside(domains and action == actions[0]))
        port = self.protocol if newer else self.sig_port
        field = "protocols" if newer else "ports"
        return rule | self.some(**{"name": self.pick("x"), field: lambda: self.several(lambda: port(not outside), 1)})

    def outside(self, domains: bool) -> Data:
        networks = [str(IPv4Network((self.random.getrandbits(8) << 24, 8))), "2001:db8::/32"]
        choices: list[Data] = [{"networks": networks}, {"nodes": self.label_selector()}]
        return self.random.choice([*choices, *([{"domainNames": ["*.bank.example"]}] if domains else [])])

    def sig_port(self, named: bool) -> Data:
        first, last = self.port_range()
        protocol = self.random.choice(("TCP", "UDP", "SCTP"))
        ranged = {"start": first, "end": last} | self.some(protocol=lambda: protocol)
        choices: list[Data] = [{"portNumber": {"protocol": protocol, "port": first}}, {"portRange": ranged}]
        return self.random.choice([*choices, *([{"namedPort": "http"}] if named else [])])

    def protocol(self, named: bool) -> Data:
        first, last = self.port_range()
        protocol = self.random.choice(("tcp", "udp", "sctp"))
        port = self.random.choice(({"number": first}, {"range": {"start": first, "end": last}}))
        found: list[Data] = [{protocol: {"destinationPort": port}}]
        return self.random.choice([*found, *([{"destinationNamedPort": "http"}] if named else [])])
