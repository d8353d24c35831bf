"""Made clusters full of policies are valid at every size, and the same for the same seed."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pilothouse.files import snapshot as snapshot_files
from pilothouse.policies.flows import Format
from pilothouse.policies.flows import read as read_flows
from pilothouse.policies.reading import read
from pilothouse.policies.rules import Action, Family

Bench = Callable[[str], ModuleType]


@pytest.fixture
def bench(root: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """`bench("policies_made")` is that module."""
    monkeypatch.syspath_prepend(str(root / "bench"))
    return importlib.import_module


def objects(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["items"]
    return found


@pytest.mark.parametrize("pods", [5, 50, 333, 1000])
def test_a_cluster_is_valid_at_every_size(bench: Bench, tmp_path: Path, pods: int) -> None:
    made = bench("policies_made")
    size = made.cluster(tmp_path / "cluster.json", pods)
    snapshot, problems = snapshot_files.read(tmp_path / "cluster.json")
    assert problems == ()
    assert snapshot.others == {}
    products = [pod for pod in snapshot.pods if snapshot.namespace_labels[pod.namespace].get("tier") == "product"]
    assert len(products) == size.pods == pods
    assert all(pod.is_endpoint and pod.ips for pod in products)
    reading = read(snapshot.policies)
    assert reading.problems == ()
    assert reading.unknown == {}
    assert len(reading.policies.policies) == size.policies >= pods // 2
    own = [service for service in snapshot.services if snapshot.namespace_labels[service.namespace].get("tier")]
    assert len(own) == size.services == pods // 5
    assert len({pod.namespace for pod in products}) == size.namespaces


def test_the_mix_is_that_of_a_cluster(bench: Bench, tmp_path: Path) -> None:
    bench("policies_made").cluster(tmp_path / "cluster.json", 5000)
    snapshot, _ = snapshot_files.read(tmp_path / "cluster.json")
    found = read(snapshot.policies).policies
    families = Counter(policy.family for policy in found.policies)
    assert families[Family.KUBERNETES] > 4 * families[Family.CALICO] > 1000
    assert {policy.tier for policy in found.policies} == {"security", "platform", "default"}
    rules = [rule for policy in found.policies for rule in (*policy.ingress, *policy.egress)]
    assert {rule.action for rule in rules} == set(Action)
    peers = [peer for rule in rules for peer in rule.peers]
    assert any(peer.services for peer in peers)
    assert any(peer.not_selector for peer in peers)
    assert any(nets.excluded for peer in peers for nets in peer.nets or ())
    ports = [port for rule in rules for traffic in rule.traffic for port in traffic.destination_ports or ()]
    assert any(port.name for port in ports)
    assert any(port.first < port.last for port in ports)
    assert any(policy.staged for policy in found.policies)
    assert found.sets
    callers = sorted(len(rule.peers) for policy in found.policies for rule in policy.ingress)
    assert callers[len(callers) // 2] < 3 < 10 < callers[-1] <= 25
    six = sum(len(pod.ips) == 2 for pod in snapshot.pods if not pod.host_network)
    assert 0.1 < six / len(snapshot.pods) < 0.3


def test_the_pods_weigh_as_much_as_real_ones(bench: Bench, tmp_path: Path) -> None:
    bench("policies_made").cluster(tmp_path / "cluster.json", 50)
    pods = [item for item in objects(tmp_path / "cluster.json") if item["kind"] == "Pod"]
    sizes = [len(json.dumps(pod, separators=(",", ":"))) for pod in pods]
    assert 2200 < sum(sizes) / len(sizes) < 2700


def test_without_calico_everything_is_for_the_peer(bench: Bench, tmp_path: Path) -> None:
    made = bench("policies_made")
    size = made.cluster(tmp_path / "cluster.json", 40, replicas=2, crowd=20, dual_stack=0.0, kubernetes_only=True)
    found = objects(tmp_path / "cluster.json")
    assert not any("projectcalico" in item["apiVersion"] for item in found)
    pods = [item for item in found if item["kind"] == "Pod"]
    assert not any(pod["spec"].get("hostNetwork") for pod in pods)
    assert all(len(pod["status"]["podIPs"]) == 1 for pod in pods)
    assert sum(item["kind"] == "NetworkPolicy" for item in found) == size.policies == 2 * (20 + 2)


def test_the_same_seed_makes_the_same_cluster_and_flows(bench: Bench, tmp_path: Path) -> None:
    made, flows = bench("policies_made"), bench("policies_flows")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        made.cluster(tmp_path / f"{name}.json", 100, seed)
        flows.write(tmp_path / f"{name}.json", tmp_path / f"{name}.csv", 100, 200, seed)
    for suffix in ("json", "csv"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
        assert (tmp_path / f"a.{suffix}").read_bytes() != (tmp_path / f"c.{suffix}").read_bytes()


def test_flows_are_between_pods_that_there_are(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "cluster.json"
    bench("policies_made").cluster(path, 100)
    bench("policies_flows").write(path, tmp_path / "flows.csv", 100, 300)
    reading = read_flows((tmp_path / "flows.csv").read_bytes().splitlines(keepends=True), None, "flows.csv")
    assert reading.problems == ()
    assert reading.records == 300
    assert reading.count == 300
    pods = {pod.key for pod in snapshot_files.read(path)[0].pods}
    ends = {end.shown for flow in reading.flows for end in (flow.source, flow.destination)}
    assert {end for end in ends if "/" in end} <= pods
    assert any("/" not in end for end in ends)


def test_flows_as_goldmane_prints_them_are_the_same_ones(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "cluster.json"
    bench("policies_made").cluster(path, 100)
    counted = []
    for name, form in (("flows.csv", Format.CSV), ("flows.json", Format.GOLDMANE)):
        bench("policies_flows").write(path, tmp_path / name, 100, 300)
        reading = read_flows((tmp_path / name).read_bytes().splitlines(), None, name)
        assert (reading.form, reading.problems) == (form, ())
        ports: dict[tuple[int, int | None], int] = {}
        for flow in reading.flows:
            ports[flow.protocol, flow.port] = ports.get((flow.protocol, flow.port), 0) + flow.count
        counted.append(ports)
        assert reading.count == 300
    assert counted[0] == counted[1]


@pytest.mark.parametrize(("pods", "replicas"), [(0, 5), (4, 5), (5, 0)])
def test_nothing_cannot_be_made(bench: Bench, tmp_path: Path, pods: int, replicas: int) -> None:
    with pytest.raises(ValueError, match="at least the pods of one service"):
        bench("policies_made").cluster(tmp_path / "cluster.json", pods, replicas=replicas)


# ---------------------------------------------------------------- the peer


THEIRS = (
    "0.0.0.0-203.0.113.15 => a/x : All connections"
    "203.0.113.16-203.0.113.31 => a/x : {protocols:TCP,dst_ports:443}\n"
    "a/x => a/y : {protocols:TCP,dst_ports:80-81,9000},{protocols:UDP}\n"
    "a/x => a/y : {protocols:TCP,dst_ports:82}\n"
    "\n"
    "a/y => b/z : {protocols:TCP, UDP,dst_ports:53}\n"
)


def test_what_the_peer_prints_is_read(bench: Bench) -> None:
    peer = bench("policies_peer")
    assert peer.read(THEIRS, ["10.0.0.1", "203.0.113.20", "203.0.113.40"]) == {
        ("10.0.0.1", "a/x"): peer.EVERYTHING,
        ("203.0.113.20", "a/x"): (("TCP", 443, 443),),
        ("a/x", "a/y"): (("TCP", 80, 82), ("TCP", 9000, 9000), ("UDP", 0, 65535)),
        ("a/y", "b/z"): (("TCP", 53, 53), ("UDP", 53, 53)),
    }


@pytest.mark.parametrize(
    "line",
    [
        "a/x -> a/y : All connections",
        "a/x => a/y : All but {protocols:TCP}",
        "a/x => a/y : {protocols:TCP,src_ports:1}",
        "elsewhere => a/y : All connections",
    ],
)
def test_a_form_of_the_peer_that_is_not_known_ends_the_benchmark(bench: Bench, line: str) -> None:
    with pytest.raises(SystemExit, match="not understood"):
        bench("policies_peer").read(line, [])


def test_differences_have_a_reason_or_are_named(bench: Bench) -> None:
    peer = bench("policies_peer")
    https, dns = (("TCP", 443, 443),), (("UDP", 53, 53),)
    theirs = {("a/x", "a/y"): https, ("a/x", "a/z"): https}
    ours = {("a/x", "a/y"): https, ("a/x", "b/z"): dns, ("a/x", "a/z"): dns}
    without = {("a/x", "a/y"): https, ("a/x", "a/z"): dns}
    found = peer.compare(theirs, ours, without)
    assert found.compared == 3
    assert found.blocks == ["a/x to b/z: nothing by it, 53/UDP by us"]
    assert found.unexplained == ["a/x to a/z: 443/TCP by it, 53/UDP by us"]


def test_what_we_write_is_read_as_the_peer_is(bench: Bench, tmp_path: Path) -> None:
    made, measured, peer = (bench(name) for name in ("policies_made", "policies_measured", "policies_peer"))
    path = tmp_path / "cluster.json"
    made.cluster(path, 20, replicas=2, crowd=20, dual_stack=0.0, kubernetes_only=True)
    measured.write_pairs(path, tmp_path / "ours", blocks_match_pods=True)
    found = peer.written((tmp_path / "ours").read_text())
    scraped = {pair[1] for pair, ports in found.items() if pair[0] == "monitoring/prometheus-0" and "/" in pair[1]}
    products = {pod.key for pod in snapshot_files.read(path)[0].pods if pod.service_account not in ("prometheus",)}
    assert scraped == products
    assert all(source != destination for source, destination in found)
    assert peer.EVERYTHING in found.values()
