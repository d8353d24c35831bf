"""Two leaves and a global run from the rendered files, scrape what is there, and say what one server would say."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import local_bank
from support.bed.kubernetes import IP_ANNOTATION, KubeApi, Kwok, start_kwok
from support.bed.process import free_port
from support.exporters import Exporter, addresses, service_metrics
from support.portal import make_app
from support.testbed import ROOT, run
from werkzeug.serving import make_server

from pilothouse import bundle
from pilothouse.artifacts.model import Artifacts, Document
from pilothouse.artifacts.write import serialise, serialise_all
from pilothouse.clients.prometheus import Prometheus
from pilothouse.collectors.metrics import rules as rule_files
from pilothouse.collectors.metrics.live import Sample
from pilothouse.collectors.metrics.model import Side
from pilothouse.files import tree
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Endpoint, Service
from pilothouse.problems import Invalid
from pilothouse.workflows import loaded, metrics, reloading

SHARDS = 2
SERVICES = ("payments/payments", "payments/settlement", "ledger/ledger", "accounts/accounts", "risk/fraud")
PODS = 3
RENAMED = {"cluster", "prometheus_shard", "prometheus_replica"}

Start = Callable[..., Any]


@dataclass
class World:
    """The cluster, what runs in it, and the servers that watch it."""

    api: KubeApi
    inputs: Inputs
    artifacts: Artifacts
    folder: Path
    exporters: dict[str, Exporter]
    nodes: tuple[str, ...]
    leaves: tuple[Prometheus, ...]
    top: Prometheus
    alone: Prometheus

    def until(self, expr: str, wanted: Callable[[tuple[Sample, ...]], bool], server: Prometheus | None = None) -> Any:
        """The first answer that is as wanted."""
        ends = time.monotonic() + 45
        while not wanted(found := (server or self.top).query(expr)):
            assert time.monotonic() < ends, f"{expr}: {found[:20]}"
            time.sleep(0.3)
        return found


def pod(world: KubeApi, namespace: str, name: str, node: str, ip: str, ports: dict[str, int], **labels: str) -> None:
    world.send(
        "POST",
        f"/api/v1/namespaces/{namespace}/pods",
        {
            "metadata": {"name": name, "labels": labels, "annotations": {IP_ANNOTATION: ip}},
            "spec": {
                "nodeName": node,
                "containers": [
                    {
                        "name": "main",
                        "image": "registry.example/main:1",
                        "ports": [{"name": key, "containerPort": port} for key, port in ports.items()],
                    }
                ],
            },
        },
    )


def of_service(service: Service) -> dict[str, int]:
    assert service.metrics is not None
    port = service.port(service.metrics.port)
    assert port is not None
    return {service.metrics.port: port.number}


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[str]:
    """The portal itself, served on loopback: `host:port`."""
    server = make_server("127.0.0.1", 0, make_app(tmp_path / "portal"), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()


@pytest.fixture
def world(tmp_path: Path, kube_api: Any, prometheus: Start, alertmanager: Start, portal: str) -> Iterator[World]:
    api: KubeApi = kube_api.fresh()
    kwok = start_kwok(api)
    exporters: dict[str, Exporter] = {}
    try:
        yield build(tmp_path, api, kwok, exporters, prometheus, alertmanager, portal)
    finally:
        for exporter in exporters.values():
            exporter.close()
        kwok.stop()


def build(
    tmp_path: Path,
    api: KubeApi,
    kwok: Kwok,
    exporters: dict[str, Exporter],
    prometheus: Start,
    alertmanager: Start,
    portal: str,
) -> World:
    ports = [free_port() for _ in range(SHARDS + 1)]
    leaves = tuple(Endpoint(f"http://127.0.0.1:{port}") for port in ports[:SHARDS])
    top = Endpoint(f"http://127.0.0.1:{ports[SHARDS]}")
    receiver = tmp_path / "alertmanager.yml"
    receiver.write_text("route: {receiver: all}\nreceivers: [{name: all}]\n")
    pager = alertmanager(receiver)
    inputs = local_bank.inputs(
        local_bank.write(
            tmp_path / "platform",
            shards=SHARDS,
            servers={
                "kubernetes": api.endpoint,
                "prometheus": top,
                "leaves": leaves,
                "alertmanagers": [pager.endpoint],
            },
            content={**short_windows(), "collectors/scrape/kwok.yaml": KWOK},
        )
    )
    nodes = kwok.nodes(6)
    populate(api, inputs, nodes, exporters, {"pilothouse": portal, "kwok": kwok_address(kwok)}, ports)
    artifacts = bundle.derive(inputs).artifacts
    folder = tmp_path / "servers"
    files = serialise_all(artifacts.under("prometheus/"))
    tree.write_tree(folder, {path.removeprefix("prometheus/"): content for path, content in files.items()})
    for number in range(SHARDS):
        prometheus(folder / f"leaf-{number}.yaml", port=ports[number])
    prometheus(folder / "global.yaml", port=ports[SHARDS])
    single = prometheus(unsharded(tmp_path / "single", inputs))
    return World(
        api,
        inputs,
        artifacts,
        folder,
        exporters,
        nodes,
        tuple(map(Prometheus, leaves)),
        Prometheus(top),
        Prometheus(single.endpoint),
    )


KWOK = {
    "job": "kwok",
    "title": "What plays the nodes",
    "discover": {"role": "pod", "namespaces": ["kube-system"], "selector": {"app": "kwok"}, "port": "web"},
    "podLabels": True,
    "metrics": ["kwok_"],
    **local_bank.QUICK,
}


def kwok_address(kwok: Kwok) -> str:
    (flag,) = [str(item) for item in kwok.server.arguments if str(item).startswith("--server-address=")]
    return flag.partition("=")[2]


def short_windows() -> dict[str, Any]:
    """The recording rules with windows of ten seconds, so that a rate is whole when a test looks at it."""
    root = ROOT / "collectors" / "recording"
    return {
        f"collectors/recording/{path.name}": yaml.safe_load(path.read_text().replace("[5m]", "[10s]"))
        for path in sorted(root.glob("*.yaml"))
    }


def populate(
    api: KubeApi,
    inputs: Inputs,
    nodes: tuple[str, ...],
    exporters: dict[str, Exporter],
    single: dict[str, str],
    ports: list[int],
) -> None:
    """Pods with exporters behind them, and the endpoint of the API server, which lies on loopback."""
    free = addresses()
    namespaces = {key.split("/")[0] for key in SERVICES} | {"monitoring", "pilothouse"}
    for name in sorted(namespaces):
        api.send("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    for at, key in enumerate(SERVICES):
        service = inputs.platform.services[key]
        for number in range(PODS):
            name = f"{service.name}-{number}"
            ip, port = next(free), of_service(service)
            exporter = Exporter(ip, next(iter(port.values())))
            service_metrics(exporter, PODS * at + number)
            exporters[f"{service.namespace}/{name}"] = exporter
            node = nodes[(at + number) % len(nodes)]
            pod(api, service.namespace, name, node, ip, port, **dict(service.pod_selector.match_labels))
    for number, node in enumerate(nodes):
        exporter = Exporter(next(free), 9100)
        exporter.set("node_memory_MemTotal_bytes", 64e9)
        exporter.set("node_memory_MemAvailable_bytes", 1e9 * (30 + number))
        for cpu in ("0", "1"):
            exporter.count("node_cpu_seconds_total", 0.5 + number / 20, cpu=cpu, mode="idle")
            exporter.count("node_cpu_seconds_total", 0.3, cpu=cpu, mode="user")
        exporters[node] = exporter
        labels = {"app.kubernetes.io/name": "node-exporter"}
        pod(api, "monitoring", f"node-exporter-{number}", node, exporter.host, {"metrics": 9100}, **labels)
    host, _, port_text = single["pilothouse"].partition(":")
    named = {"app.kubernetes.io/name": "pilothouse"}
    pod(api, "pilothouse", "portal-0", nodes[0], host, {"http": int(port_text)}, **named)
    host, _, port_text = single["kwok"].partition(":")
    pod(api, "kube-system", "kwok-0", nodes[1], host, {"web": int(port_text)}, app="kwok")
    for number, port_number in enumerate(ports):
        labels = {"app.kubernetes.io/name": "prometheus"}
        pod(api, "monitoring", f"prometheus-{number}", nodes[number], "127.0.0.1", {"web": port_number}, **labels)
    api.send("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", api_endpoint(api))


def api_endpoint(api: KubeApi) -> dict[str, Any]:
    """An EndpointSlice may not name a loopback address, but a name: here the address as one."""
    host, _, port = api.url.removeprefix("https://").partition(":")
    return {
        "metadata": {"name": "kubernetes-local", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "FQDN",
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": int(port), "protocol": "TCP"}],
    }


def unsharded(folder: Path, inputs: Inputs) -> Path:
    """One Prometheus that scrapes everything and evaluates each rule as it was written."""
    servers = replace(inputs.cluster.servers, leaves=(), alertmanagers=())
    one = replace(inputs, cluster=replace(inputs.cluster, shards=1, servers=servers))
    rendered: Any = bundle.derive(one).artifacts["prometheus/leaf-0.yaml"].data
    groups: dict[str, list[Any]] = {}
    for item in metrics.plan(inputs).placed:
        groups.setdefault(item.rule.group, []).append(item.rule)
    for document in rule_files.files("all", groups, 1.0):
        path = folder / document.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(serialise(document))
    config = folder / "one.yaml"
    config.write_text(yaml.safe_dump({**rendered, "rule_files": ["prometheus/rules/all/*.yaml"]}))
    return config


def series(samples: tuple[Sample, ...]) -> dict[tuple[tuple[str, str], ...], float]:
    """By labels, without those that only tell servers apart."""
    return {
        tuple(sorted((name, value) for name, value in item.labels.items() if name not in RENAMED)): item.value
        for item in samples
    }


def test_leaves_and_global_from_the_rendered_files(world: World, promtool: Path) -> None:
    everything_is_scraped(world)
    match_arrives_at_the_global(world)
    the_global_says_what_one_server_says(world)
    loaded_is_rendered(world)
    what_is_down_is_told_by_owner(world)
    a_broken_file_keeps_the_old_one(world)
    new_files_are_installed_or_undone(world, promtool)


def everything_is_scraped(world: World) -> None:
    """Each target by one leaf, those of one node by the same; pilothouse, the API server and kwok among them."""
    expected = len(SERVICES) * PODS + len(world.nodes)
    up = 'up{job!~"kubelet|cadvisor|prometheus|alertmanager"} == 1'
    world.until(f"count({up})", lambda found: bool(found) and found[0].value >= expected + 3, world.alone)
    alone = series(world.alone.query(up))
    split = [series(leaf.query(up)) for leaf in world.leaves]
    ends = time.monotonic() + 20
    while sum(map(len, split)) < len(alone) and time.monotonic() < ends:
        time.sleep(0.5)
        split = [series(leaf.query(up)) for leaf in world.leaves]
    assert sorted([*split[0], *split[1]]) == sorted(alone), "each target lies on exactly one leaf"
    assert all(split), "and no leaf is without any"
    jobs = {dict(labels)["job"] for labels in alone}
    assert {"pilothouse", "kube-apiserver", "kwok", "node-exporter", *SERVICES} <= jobs
    by_node = [{dict(labels).get("node") for labels in part} - {None, ""} for part in split]
    assert by_node[0].isdisjoint(by_node[1])
    assert by_node[0] | by_node[1] == set(world.nodes)
    assert world.alone.query("kwok_startup_time_seconds or process_start_time_seconds{job='kwok'}")
    assert world.alone.query('pilothouse_requests_total{job="pilothouse"}')
    assert world.alone.query('apiserver_request_total{job="kube-apiserver"}')


def match_arrives_at_the_global(world: World) -> None:
    """Every selector of `match[]` that finds series on a leaf finds as many on the global."""
    selectors = [item.selector for item in metrics.plan(world.inputs).matches]
    assert len(selectors) > 30
    arrived = 0
    for selector in selectors:
        count = f"count({selector})"
        held = sum(sample.value for leaf in world.leaves for sample in leaf.query(count))
        if held and "ALERTS" not in selector:
            here = lambda found, held=held: bool(found) and found[0].value >= held  # noqa: E731
            world.until(count, here)
            arrived += 1
    assert arrived >= 15, "only a few of the selectors find anything"


def the_global_says_what_one_server_says(world: World) -> None:
    """Each rule that needs the whole: same series, same values."""
    placed = [item for item in metrics.plan(world.inputs).placed if item.side is not Side.LEAF]
    compared: list[str] = []
    different: dict[str, Any] = {}
    time.sleep(12)  # a window of the rates, on servers that began at different moments
    for item in placed:
        rule = item.rule
        if rule.group in ("shards", "prometheus") or "prometheus" in rule.expr or "scrape_" in rule.expr:
            continue
        assert item.on_global is not None
        ours = series(world.top.query(rule.record or item.on_global.expr))
        theirs = series(world.alone.query(rule.record or rule.expr))
        if not theirs and not ours:
            continue
        moves = "apiserver_" in rule.expr  # as busy as it happens to be at each server's scrape
        if (ours.keys() != theirs.keys()) if moves else not same(ours, theirs):
            different[rule.name] = (ours, theirs)
        compared.append(rule.name)
    assert different == {}
    assert len(compared) >= 8, compared
    print(f"{len(compared)} rules of the global agree with one server: {', '.join(compared)}")


def same(ours: dict[Any, float], theirs: dict[Any, float]) -> bool:
    """Rates of counters that run with the clock agree but for the moments of the scrapes."""
    return ours.keys() == theirs.keys() and all(
        math.isclose(ours[key], theirs[key], rel_tol=0.1, abs_tol=1e-6) for key in theirs
    )


def loaded_is_rendered(world: World) -> None:
    for item in loaded.loaded_rules(world.inputs, world.artifacts):
        assert (item.reason, list(item.config), list(map(str, item.rules))) == ("", [], []), item.side
        assert item.version == "3.15.0"
        assert not item.reload_failed


def what_is_down_is_told_by_owner(world: World) -> None:
    world.exporters["payments/payments-1"].broken = True
    world.until('up{pod="payments-1"} == 0', lambda found: bool(found), world.alone)
    ends = time.monotonic() + 20
    while True:
        found = metrics.status(world.inputs.platform, world.inputs.cluster)
        mine = [item for item in found.down if item.owner == "payments"]
        if mine or time.monotonic() > ends:
            break
        time.sleep(0.3)
    (down,) = mine
    assert (down.job, down.pod) == ("payments/payments", "payments-1")
    assert "500" in down.error
    assert [server.reason for server in found.servers] == ["", "", ""]
    assert found.missing == ()
    assert found.failing == ()
    assert not found.is_well
    assert found.teams["payments"] > found.teams["risk"] > 0
    assert {"payments/payments", "ledger/ledger"} <= {item.service for item in found.biggest}
    world.exporters["payments/payments-1"].broken = False


def a_broken_file_keeps_the_old_one(world: World) -> None:
    leaf = world.leaves[0]
    before = leaf.config()
    path = world.folder / "leaf-0.yaml"
    good = path.read_text()
    path.write_text(good + "\nnonsense: true\n")
    with pytest.raises(Invalid, match="nonsense"):
        leaf.reload()
    assert leaf.runtime().reload_successful is False
    text = leaf.http.request("GET", "/metrics", "metrics", headers={"Accept": "text/plain"}).text
    assert "\nprometheus_config_last_reload_successful 0\n" in text
    assert leaf.config() == before
    (failed, *_) = loaded.loaded_rules(world.inputs, world.artifacts)
    assert failed.reload_failed
    path.write_text(good)
    leaf.reload()
    assert leaf.runtime().reload_successful is True


def new_files_are_installed_or_undone(world: World, promtool: Path) -> None:
    """A new rule is loaded by all three; a file that one refuses is taken back from those that took it."""
    rules = {"groups": [{"name": "new", "rules": [{"record": "new:up:count", "expr": "count(up)"}]}]}
    more = Artifacts.of([*world.artifacts, Document("prometheus/rules/leaf/new.yaml", rules)])

    def check(folder: Path) -> str:
        done = run(promtool, "check", "config", *sorted(folder.glob("*.yaml")))
        return done.stderr if done.returncode else ""

    found = reloading.install_prometheus(world.folder, world.inputs, more, check)
    assert found.is_well, found
    assert found.changed == ("rules/leaf/new.yaml",)
    world.until("new:up:count", bool, world.leaves[1])

    broken = Artifacts.of(
        Document(item.path, {**item.data, "nonsense": True}) if item.path == "prometheus/leaf-1.yaml" else item
        for item in world.artifacts
    )
    checked = reloading.install_prometheus(world.folder, world.inputs, broken, check)
    assert "nonsense" in checked.wrong
    assert checked.undone
    assert checked.servers == ()
    told = reloading.install_prometheus(world.folder, world.inputs, broken)
    assert [bool(item.refused) for item in told.servers] == [False, True, False]
    assert told.undone
    for item in loaded.loaded_rules(world.inputs, more):
        assert (item.reason, item.config, item.rules) == ("", (), ()), "as before the attempt"
    assert (world.folder / "rules" / "leaf" / "new.yaml").exists()
