"""Random worlds for the reference evaluator and the engine to agree on: every kind and feature mixed, all of it valid.

`worlds()` is the strategy that shrinks, `random_world(seed)` the same distribution from a seed, and `packets(world)`
what is worth asking of a world. What is valid is what the API server and Calico's own validation accept
(https://github.com/projectcalico/calico/blob/master/libcalico-go/lib/validator/v3/validator.go).
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from policies.cases_draw import Draw, drawn, seeded
from policies.cases_packets import packets
from policies.cases_policies import Names, policies
from policies.reference import World

from policies import raw

__all__ = ["packets", "random_world", "world_objects", "worlds"]

LABELS = {"app": ("a", "b", "ab"), "role": ("a", "b"), "zone": ("b", "abc")}
"""A small alphabet, so that selectors overlap and `contains` differs from `==`."""

POD_PORTS = ("http=80/TCP", "http=8080/TCP", "http=80/UDP", "dns=53/UDP", "dns=53/TCP", "web=81/TCP", "web=80/SCTP")


@st.composite
def worlds(draw: st.DrawFn) -> World:
    return World(world_objects(drawn(draw)))


def random_world(seed: int) -> World:
    return World(world_objects(seeded(seed)))


def world_objects(draw: Draw) -> list[dict[str, Any]]:
    """The manifests of a world, in no particular order."""
    spaces = ["blue", "red", "green", "grey"][: draw.whole(2, 4)]
    accounts = [f"{space}/{name}" for space in spaces for name in ("default", "robot")]
    objects: list[dict[str, Any]] = [
        *(raw.namespace(space, **_labels(draw, ("team", "env"))) for space in spaces),
        *(raw.account(each, **_labels(draw, ("team", "env"))) for each in accounts),
        raw.node("n1", "192.168.0.1", "fd00:ffff::1", zone="a"),
        raw.node("n2", "192.168.0.2", "fd00:ffff::2", zone="b"),
    ]
    pods = _pods(draw, spaces)
    services = _services(draw, spaces, pods)
    hosts = _hosts(draw)
    tiers = _tiers(draw)
    names = Names(
        spaces=spaces,
        tiers=["default", *(each["metadata"]["name"] for each in tiers)],
        services=[
            (each["metadata"]["namespace"], each["metadata"]["name"]) for each in services if each["kind"] == "Service"
        ],
        hosts=bool(hosts),
    )
    objects += [*pods, *services, *hosts, *tiers, *_sets(draw, spaces), *_profiles(draw, names, objects)]
    return draw.shuffled(objects + policies(draw, names))


def _labels(draw: Draw, keys: tuple[str, ...]) -> dict[str, str]:
    return {key: draw.one(("a", "b", "ab")) for key in keys if draw.chance(60)}


def _pods(draw: Draw, spaces: list[str]) -> list[dict[str, Any]]:
    """Addresses lie close together, so that ranges cut between them."""
    found = []
    for index in range(draw.whole(4, 8)):
        name = f"{draw.one(spaces)}/p{index}"
        labels = {key: draw.one(values) for key, values in LABELS.items() if draw.chance(65)}
        four, six = f"10.0.{index % 2}.{index + 1}", f"fd00::{index % 2}:{index + 1:x}"
        addresses = draw.one((four, four, f"{four} {six}", f"{six} {four}", six))
        node = draw.one(("n1", "n2"))
        account = draw.one(("default", "robot"))
        kind = draw.one(("running",) * 12 + ("host", "pending", "finished"))
        if kind == "host":
            addresses = "192.168.0.1 fd00:ffff::1" if node == "n1" else "192.168.0.2 fd00:ffff::2"
        found.append(
            raw.pod(
                name,
                "" if kind == "pending" else addresses,
                labels,
                " ".join(_pod_ports(draw)),
                "" if kind == "pending" else node,
                {"pending": "Pending", "finished": draw.one(("Succeeded", "Failed"))}.get(kind, "Running"),
                account,
                kind == "host",
            )
        )
    if draw.chance(20):  # a finished pod whose address another has by now
        other = next((each for each in found if _is_endpoint(each)), None)
        if other is not None:
            addresses = " ".join(each["ip"] for each in other["status"]["podIPs"])
            found.append(raw.pod(f"{draw.one(spaces)}/old", addresses, {"app": "a"}, phase="Succeeded"))
    return found


def _pod_ports(draw: Draw) -> list[str]:
    """A container's port names are unique."""
    chosen = draw.some(POD_PORTS, 0, 3)
    return list({each.split("=")[0]: each for each in chosen}.values())


def _is_endpoint(pod: dict[str, Any]) -> bool:
    return "podIPs" in pod["status"] and pod["status"]["phase"] == "Running" and not pod["spec"].get("hostNetwork")


def _services(draw: Draw, spaces: list[str], pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Services and the slices that the controller would write, or one that somebody wrote by hand."""
    found: list[dict[str, Any]] = []
    for index in range(draw.whole(0, 2)):
        space = draw.one(spaces)
        target: int | str = draw.one((80, 8080, "http", "dns"))
        protocol = draw.one(("TCP", "TCP", "UDP"))
        selector = {"app": draw.one(LABELS["app"])}
        found.append(raw.service(f"{space}/s{index}", selector, 8000, target, protocol))
        by_slice: dict[tuple[bool, int], list[str]] = {}
        for pod in pods:
            labels = pod["metadata"].get("labels") or {}
            if pod["metadata"]["namespace"] != space or labels.get("app") != selector["app"]:
                continue
            if pod["status"]["phase"] != "Running" or "podIPs" not in pod["status"]:
                continue
            number = target if isinstance(target, int) else _number(pod, target, protocol)
            if number is not None:
                for each in pod["status"]["podIPs"]:
                    by_slice.setdefault((":" in each["ip"], number), []).append(each["ip"])
        if draw.chance(20):
            by_slice.setdefault((False, 80), []).append("203.0.113.7")
        for part, ((_, number), addresses) in enumerate(by_slice.items()):
            name = f"{space}/s{index}-{part}"
            ports = (f"{number}/{protocol}",)
            found.append(raw.endpoint_slice(name, f"s{index}", " ".join(addresses), *ports, ready=draw.chance(80)))
    return found


def _number(pod: dict[str, Any], name: str, protocol: str) -> int | None:
    for port in pod["spec"]["containers"][0].get("ports", []):
        if port["name"] == name and port["protocol"] == protocol:
            return int(port["containerPort"])
    return None


def _hosts(draw: Draw) -> list[dict[str, Any]]:
    if not draw.chance(45):
        return []
    labels = {key: draw.one(values) for key, values in LABELS.items() if draw.chance(65)}
    profiles = draw.one(([], ["projectcalico-default-allow"], ["custom"], ["custom", "projectcalico-default-allow"]))
    spec: dict[str, Any] = {"interfaceName": draw.one(("eth0", "*")), "profiles": profiles}
    if draw.chance(50):
        spec["ports"] = [{"name": draw.one(("http", "dns")), "port": draw.one((80, 9100)), "protocol": "TCP"}]
    return [raw.host_endpoint("h1", "192.168.0.1 fd00:ffff::1", labels, **spec)]


def _tiers(draw: Draw) -> list[dict[str, Any]]:
    return [
        raw.tier(
            name,
            draw.one((None, 5, 5, 50.5, 999_999, 1_000_001, 20_000_000)),
            draw.one((None, "Deny", "Pass")),
            draw.one((raw.CALICO, raw.CALICO_STORED)),
        )
        for name in draw.some(("alpha", "net", "omega"), 0, 3)
    ]


def _sets(draw: Draw, spaces: list[str]) -> list[dict[str, Any]]:
    nets = (
        "10.0.0.0/30",
        "10.0.1.0/24",
        "10.0.0.2/32",
        "203.0.113.0/24",
        "198.51.100.0/25",
        "fd00::/112",
        "2001:db8::/64",
    )
    return [
        raw.network_set(
            draw.one((f"{draw.one(spaces)}/set{index}", f"set{index}")),
            draw.some(nets, 1, 3),
            {key: draw.one(values) for key, values in LABELS.items() if draw.chance(65)},
            draw.one((raw.CALICO, raw.CALICO_STORED)),
        )
        for index in range(draw.whole(0, 2))
    ]


def _profiles(draw: Draw, names: Names, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A namespace's profile with rules of its own has the labels that Calico gives it; and one for host endpoints."""
    found = []
    if names.hosts:
        rules = [raw.rule(draw.one(("Allow", "Deny", "Pass")), protocol=draw.one(("TCP", "UDP")))]
        found.append(raw.profile("custom", {"role": "a"} if draw.chance(50) else {}, ingress=rules, egress=rules))
    if draw.chance(20):
        space = draw.one(names.spaces)
        [labels] = [
            each["metadata"]["labels"]
            for each in objects
            if each["kind"] == "Namespace" and each["metadata"]["name"] == space
        ]
        inherited = {f"pcns.{key}": value for key, value in labels.items()} | {"pcns.projectcalico.org/name": space}
        actions = [raw.rule(draw.one(("Allow", "Deny", "Log", "Pass")), protocol="TCP"), raw.rule("Allow")]
        found.append(raw.profile(f"kns.{space}", inherited, ingress=actions, egress=draw.some(actions, 1, 2)))
    return found
