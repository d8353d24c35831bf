"""The stack's servers: started as many at once as helps, connected with each other, ended together."""

from __future__ import annotations

import os
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stack import bank, load, people, workloads
from stack.delivery import Delivery
from stack.machine import Failed, claim_network, consecutive, port_free, resident
from stack.shell import Shell
from support import policy_kinds
from support.bed import directory, elasticsearch, kubernetes, monitoring, process, vault
from support.bed.process import Server
from support.bed.web import request
from support.exporters import Exporter

from pilothouse.files.content import example
from pilothouse.platform.model import Platform
from pilothouse.store import Store
from pilothouse.workflows.rendering import open_platform

PORTAL_PORT = 8420
RENDERED = "rendered"
SNAPSHOT = (
    "namespaces,nodes,pods,services,endpointslices,serviceaccounts,networkpolicies,ingresses,"
    "roles,rolebindings,clusterroles,clusterrolebindings,"
    "networkpolicies.projectcalico.org,globalnetworkpolicies.projectcalico.org,stagednetworkpolicies.projectcalico.org,"
    "networksets.projectcalico.org,globalnetworksets.projectcalico.org"
)
"""As docs/snapshots.md says."""


@dataclass
class Stack:
    """`folder` holds platform, data folder and kubeconfig; `say` is told what is being done."""

    folder: Path
    say: Callable[[str], None]
    port: int = 0
    """The portal's; 0 takes 8420 or any other."""
    seconds: float = 0.0
    """How long the start took."""
    servers: dict[str, Server] = field(default_factory=dict)
    """By the name that people use."""
    exporters: dict[str, list[Exporter]] = field(default_factory=dict)
    people: tuple[people.Person, ...] = ()
    broken: set[str] = field(default_factory=set)
    _at_end: list[Callable[[], None]] = field(default_factory=list)

    kube: kubernetes.KubeApi = field(init=False)
    vault: vault.Vault = field(init=False)
    slapd: directory.Slapd = field(init=False)
    elasticsearch: elasticsearch.Elasticsearch = field(init=False)
    pager: load.Pager = field(init=False)
    cluster: workloads.Cluster = field(init=False)
    controller: workloads.Controller = field(init=False)
    logs: load.Logs = field(init=False)
    addresses: bank.Addresses = field(init=False)
    declared: Platform = field(init=False)
    branch: directory.Subtree = field(init=False)
    pods: str = field(init=False)
    shell: Shell = field(init=False)

    # ------------------------------------------------------------ places

    @property
    def platform(self) -> Path:
        return self.folder / "platform"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def rendered(self) -> Path:
        return self.data / RENDERED / bank.CLUSTER

    @property
    def kubeconfig(self) -> Path:
        """An administrator's."""
        return self.folder / "admin.kubeconfig"

    # ------------------------------------------------------------ start

    def start(self) -> None:
        """All of it; raises what went wrong, and leaves ending what runs to the caller."""
        began = time.monotonic()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o700)
        process.LOGS = self.folder / "logs"
        self.declared = open_platform(example()).loaded.platform
        self.people = people.invent(self.declared)
        store = self._background(lambda: elasticsearch.start(heap="400m", security=True))
        self.say("starting Elasticsearch, the API server, kwok, Vault and the directory")
        self.kube = kubernetes.start()
        self.servers |= {"etcd": self.kube.etcd, "kube-apiserver": self.kube.api}
        shutil.copy(self.kube.admin_kubeconfig, self.kubeconfig)
        self.kubeconfig.chmod(0o600)
        kwok = kubernetes.start_kwok(self.kube)
        self.servers["kwok"] = kwok.server
        kwok.nodes(workloads.NODE_COUNT, f"{bank.CLUSTER}-worker")
        self._start_people()
        ports = self._ports()
        self._fill_cluster(ports)
        self.elasticsearch = store()
        self.servers["elasticsearch"] = self.elasticsearch.server
        self._write_platform(ports)
        self._set_up()
        self._start_monitoring(ports)
        self._start_pilothouse(ports["pilothouse"])
        self._start_load()
        self.seconds = time.monotonic() - began

    def _background(self, start: Callable[[], Any]) -> Callable[[], Any]:
        """Start a server beside the others; the function that waits for it.

        The kernel ends a server with the thread that started it, so this one lives as long as we do.
        """
        made: queue.Queue[Any] = queue.Queue()

        def run() -> None:
            try:
                made.put(start())
            except BaseException as failure:
                made.put(failure)
            threading.Event().wait()

        threading.Thread(target=run, name="background", daemon=True).start()

        def wait() -> Any:
            found = made.get()
            if isinstance(found, BaseException):
                raise found
            return found

        return wait

    def _ports(self) -> dict[str, int]:
        leaves = consecutive(bank.SHARDS)
        portal = self.port or (PORTAL_PORT if port_free(PORTAL_PORT) else process.free_port())
        return {
            **{f"prometheus-leaf-{number}": port for number, port in enumerate(leaves)},
            "prometheus": process.free_port(),
            "alertmanager": process.free_port(),
            "pilothouse": portal,
        }

    def _start_people(self) -> None:
        self.slapd = directory.start()
        self.servers["slapd"] = self.slapd.server
        emails = {member.user: member.email for team in self.declared.teams.values() for member in team.members}
        self.branch = people.enter(self.slapd, self.people, emails)
        self.vault = vault.start(persistent=True)
        self.servers["vault"] = self.vault.server
        people.open_vault(self.vault, self.slapd, self.branch, self.vault.folder / "audit.log")

    def _fill_cluster(self, ports: Mapping[str, int]) -> None:
        """Namespaces, workloads and pods, at whose addresses exporters answer."""
        state = Exporter()
        self.pods, held = claim_network()
        self._at_end.append(held.close)
        self.cluster = workloads.build(self.declared, self._real_pods(ports, state.port), self.pods)
        self.say(f"creating {len(self.cluster.objects)} objects: the bank's namespaces, workloads and pods")
        policy_kinds.install(self.kube, policy_kinds.of(bank.CALICO.partition("/")[0]))
        workloads.create(self.kube, self.cluster.objects)
        self.exporters = load.expose(self.declared, self.cluster.scraped)
        self.controller = workloads.Controller(self.kube, state)
        self.controller.start()
        self.pager = load.Pager()
        self._at_end += [self.controller.stop, self.pager.close]

    def _real_pods(self, ports: Mapping[str, int], state: int) -> list[workloads.Real]:
        def named(name: str) -> dict[str, str]:
            return {"app.kubernetes.io/name": name}

        leaves = [
            workloads.Real("monitoring", f"prometheus-leaf-{number}", named("prometheus"), "web", port)
            for number in range(bank.SHARDS)
            for port in [ports[f"prometheus-leaf-{number}"]]
        ]
        return [
            *leaves,
            workloads.Real("monitoring", "prometheus-global-0", named("prometheus"), "web", ports["prometheus"]),
            workloads.Real("monitoring", "alertmanager-0", named("alertmanager"), "web", ports["alertmanager"]),
            workloads.Real("monitoring", "kube-state-metrics-0", named("kube-state-metrics"), "http", state),
            workloads.Real("pilothouse", "pilothouse-0", named("pilothouse"), "http", ports["pilothouse"]),
            workloads.Real(
                "kube-system",
                "kube-apiserver-0",
                {"component": "kube-apiserver"},
                "https",
                int(self.kube.url.rsplit(":", 1)[1]),
            ),
        ]

    def _write_platform(self, ports: Mapping[str, int]) -> None:
        def at(name: str) -> str:
            return f"http://127.0.0.1:{ports[name]}"

        assert self.elasticsearch.password_file is not None
        self.addresses = bank.Addresses(
            api=self.kube.url,
            api_token=self.kube.token_file,
            api_ca=self.kube.ca_file,
            vault=self.vault.url,
            elasticsearch=self.elasticsearch.url,
            elasticsearch_user=elasticsearch.ELASTIC,
            elasticsearch_password=self.elasticsearch.password_file,
            leaves=tuple(at(f"prometheus-leaf-{number}") for number in range(bank.SHARDS)),
            prometheus=at("prometheus"),
            alertmanager=at("alertmanager"),
            hook=self.pager.url,
            portal=at("pilothouse"),
            pods=self.pods,
        )
        self.shell = Shell(self.folder, self.kubeconfig, self.addresses.portal)
        self.shell.write()
        bank.write(self.platform, self.addresses)

    def _set_up(self) -> None:
        """What an operator does once, by the commands that an operator has."""
        store = Store(self.data)
        store.migrate()
        store.close()
        people.write_directory(self.data, self.slapd, self.branch)
        self.say("pilothouse access vault apply: the authority, its roles and policies")
        token = ("--token-file", self.vault.token_file)
        self.shell.pilothouse("access", "vault", "apply", bank.CLUSTER, self.platform, *token)
        found = self.vault.send("GET", f"{bank.AUTHORITY}/cert/ca")
        self.kube.trust(found["data"]["certificate"])
        self.say("pilothouse apply: what is declared, in the API server")
        self.shell.pilothouse("apply", bank.CLUSTER, self.platform, "--yes")
        self.say("pilothouse logs apply: templates and roles, in Elasticsearch")
        self.shell.pilothouse("logs", "apply", bank.CLUSTER, self.platform)
        self.say("kubectl get: a snapshot beside the documents; pilothouse render, from both")
        bank.commit_snapshot(self.platform, self.kube.kubectl("get", SNAPSHOT, "-A", "-o", "json").stdout)
        self.shell.pilothouse("render", self.platform, "--cluster", bank.CLUSTER, "--out", self.data / RENDERED)

    def _start_monitoring(self, ports: Mapping[str, int]) -> None:
        self.say("starting two Prometheus leaves, the global one and Alertmanager from the rendered files")
        started = []
        for name, port in ports.items():
            if name == "pilothouse":
                continue
            if name == "alertmanager":
                file = self.rendered / "alertmanager" / "alertmanager.yaml"
                made = monitoring.start_alertmanager(file, port=port, wait=False)
            else:
                file = self.rendered / "prometheus" / f"{name.removeprefix('prometheus-')}.yaml"
                file = file.with_name("global.yaml") if name == "prometheus" else file
                made = monitoring.start_prometheus(file, "--storage.tsdb.retention.time=1d", port=port, wait=False)
            made.server.name = name
            self.servers[name] = made.server
            started.append(made.server)
        for server in started:
            server.wait()

    def _start_pilothouse(self, port: int) -> None:
        self.say("starting pilothouse: portal, worker and signer")
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "pilothouse", "serve", "--data", str(self.data)]
        server = Server(
            "pilothouse",
            [*command, "--platform", str(self.platform), "--port", str(port)],
            lambda: request(f"{url}/readyz"),
            env={"NO_COLOR": "1", "COLUMNS": "160"},
        )
        self.servers["pilothouse"] = server.start()

    def _start_load(self) -> None:
        self.logs = load.Logs(self.elasticsearch, self.declared, self.cluster.scraped)
        self.logs.start()
        addresses = self.addresses
        delivery = Delivery(
            self.rendered,
            {"prometheus": (*addresses.leaves, addresses.prometheus), "alertmanager": (addresses.alertmanager,)},
        )
        delivery.start()
        self._at_end += [self.logs.stop, delivery.stop]

    # ------------------------------------------------------------ while it runs

    def break_(self, service: str) -> None:
        """Take a service's pods out: not ready, and their exporters answer 500."""
        self._set(service, healthy=False)
        self.broken.add(service)

    def mend(self, service: str) -> None:
        self._set(service, healthy=True)
        self.broken.discard(service)

    def _set(self, service: str, healthy: bool) -> None:
        pods = self.cluster.scraped.get(service)
        if pods is None:
            raise Failed(f"no service {service} is scraped here; one of {', '.join(sorted(self.cluster.scraped))}")
        load.set_ready(self.kube, service.split("/")[0], tuple(name for _, _, name in pods), healthy)
        for exporter in self.exporters[service]:
            exporter.broken = not healthy

    def server(self, name: str) -> Server:
        if name not in self.servers:
            raise Failed(f"there is no server {name}; one of {', '.join(self.servers)}")
        return self.servers[name]

    def stop_server(self, name: str) -> None:
        self.server(name).stop()

    def start_server(self, name: str) -> None:
        """Again, with its files and at its port. Only from the main thread."""
        server = self.server(name)
        if server.alive:
            raise Failed(f"{name} runs")
        server.start()
        if name == "vault":
            self.vault.unseal()

    def memory(self) -> dict[str, int]:
        """Resident bytes by server with all its processes, ourselves among them."""
        found = {name: resident(server.pid) if server.alive else 0 for name, server in self.servers.items()}
        return found | {"exporters": resident(os.getpid(), alone=True)}

    def end(self) -> None:
        """End everything, what was started last first."""
        for stop in reversed(self._at_end):
            stop()
        for server in reversed(list(self.servers.values())):
            server.stop()
        process.stop_all()
