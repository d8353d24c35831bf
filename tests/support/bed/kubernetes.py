"""A Kubernetes API server with its etcd, and kwok, which plays its nodes.

RBAC, admission, server-side apply, the audit log and TokenRequest are the real thing. There is no controller manager,
no scheduler and no kubelet: a Deployment is stored and makes no pods, and `namespace` itself empties what it made.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from support import testbed
from support.bed.pki import Authority, Pair, signing_key
from support.bed.process import Served, Server, free_port, own_folder
from support.bed.web import get_json, request

from pilothouse.platform.model import Endpoint

ADMIN = "bed-admin"
SERVICES = "10.96.0.0/16"

_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/openapi*"]},
        {"level": "Metadata"},
    ],
}


@dataclass
class KubeApi(Served):
    """`url` with `ca_file`; `admin_kubeconfig` and `token_file` are a cluster administrator's."""

    folder: Path
    url: str
    ca_file: Path
    token_file: Path
    admin_kubeconfig: Path
    client_ca: Authority
    service_account_key: Pair
    audit_log: Path
    servers: tuple[Server, ...]
    _trusted: Path = field(repr=False)

    @property
    def endpoint(self) -> Endpoint:
        """As a Cluster document declares it."""
        return Endpoint(self.url, str(self.token_file), str(self.ca_file))

    @property
    def server(self) -> Server:  # type: ignore[override]  # a process of its own, beside etcd
        return self.servers[-1]

    @property
    def api(self) -> Server:
        return self.server

    @property
    def etcd(self) -> Server:
        return self.servers[0]

    @property
    def client_ca_file(self) -> Path:
        return self.client_ca.pair.certificate

    @property
    def client_ca_key(self) -> Path:
        return self.client_ca.pair.key

    # ------------------------------------------------------------ who asks

    def trust(self, pem: str) -> None:
        """Also take client certificates of that authority; the server reads the file anew by itself."""
        if pem.strip() in self._trusted.read_text(encoding="utf-8"):
            return
        with self._trusted.open("a", encoding="utf-8") as trusted:
            trusted.write(f"{pem.strip()}\n")
        # What the server trusts now stands in the ConfigMap that it publishes.
        wanted = pem.strip().splitlines()[1]
        deadline = time.monotonic() + 70
        while time.monotonic() < deadline:
            published = self.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
            if wanted in published["data"].get("client-ca-file", ""):
                return
            time.sleep(0.1)
        raise AssertionError(f"the API server did not take the authority up\n{self.api.tail()}")

    def distrust(self, pem: str) -> None:
        """Take no client certificate of that authority any more. The published ConfigMap keeps it: ask with one."""
        text = self._trusted.read_text(encoding="utf-8")
        self._trusted.write_text(text.replace(f"{pem.strip()}\n", ""), encoding="utf-8")

    def who(self, certificate: str, key: str) -> str:
        """The name that a client with that certificate (both PEM) has, "" where the server does not know it."""
        data = {
            "client-certificate-data": b64encode(certificate.encode()).decode("ascii"),
            "client-key-data": b64encode(key.encode()).decode("ascii"),
        }
        config = self._kubeconfig(f"who-{secrets.token_hex(4)}", data)
        done = self.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", kubeconfig=config)
        if done.returncode == 0:
            return done.stdout.strip()
        assert "nauthorized" in done.stderr or "logged in" in done.stderr, done.stderr
        return ""

    def kubeconfig(self, user: str, *groups: str) -> Path:
        """A kubeconfig with a certificate for that user and these groups."""
        pair = self.client_ca.client(user, *groups)
        return self._kubeconfig(
            user.replace(":", "-"), {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        )

    def token_kubeconfig(self, name: str, token: str) -> Path:
        """A kubeconfig with a bearer token."""
        return self._kubeconfig(name, {"token": token})

    def _kubeconfig(self, name: str, user: dict[str, str]) -> Path:
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump(kubeconfig(self.url, self.ca_file, name, user)), encoding="utf-8")
        path.chmod(0o600)
        return path

    # ------------------------------------------------------------ asking it

    def kubectl(self, *arguments: object, kubeconfig: Path | None = None, stdin: str | None = None) -> testbed.Done:
        """Runs kubectl to its end, as the administrator or with that kubeconfig."""
        command = [str(testbed.program("kubectl")), "--kubeconfig", str(kubeconfig or self.admin_kubeconfig)]
        return subprocess.run(
            [*command, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder)},
        )

    def get(self, path: str) -> Any:
        return get_json(f"{self.url}{path}", self._headers(), self.ca_file)

    def send(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """A request as the administrator; the JSON of its answer. Raises `OSError` with the API server's reason."""
        headers = {**self._headers(), "Content-Type": content_type}
        return json.loads(request(f"{self.url}{path}", method, body, headers, self.ca_file, 30) or "null")

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token_file.read_text(encoding='ascii').strip()}"}

    @contextmanager
    def namespace(self, prefix: str = "test") -> Iterator[str]:
        """A namespace of its own, emptied and removed at the end."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        self.send("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        try:
            yield name
        finally:
            if self.api.alive:
                self.remove_namespace(name)

    def remove_namespace(self, name: str) -> None:
        """What a namespace controller does: empty it, then let it go."""
        for base, resources in self._namespaced():
            for resource in resources:
                self.send("DELETE", f"{base}/namespaces/{name}/{resource}?gracePeriodSeconds=0")
        self.send("DELETE", f"/api/v1/namespaces/{name}")
        body = self.get(f"/api/v1/namespaces/{name}")
        body["spec"]["finalizers"] = []
        self.send("PUT", f"/api/v1/namespaces/{name}/finalize", body)

    def _namespaced(self) -> Iterator[tuple[str, list[str]]]:
        groups = [f"/apis/{group['preferredVersion']['groupVersion']}" for group in self.get("/apis")["groups"]]
        for base in ("/api/v1", *groups):
            found = self.get(base)["resources"]
            names = [item["name"] for item in found if item["namespaced"] and "deletecollection" in item["verbs"]]
            if names:
                yield base, names

    def token_for(self, namespace: str, account: str, audience: str = "", seconds: int = 600) -> str:
        """A token of that ServiceAccount (TokenRequest)."""
        spec: dict[str, Any] = {"expirationSeconds": seconds}
        if audience:
            spec["audiences"] = [audience]
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.send("POST", path, {"spec": spec})["status"]["token"])

    # ------------------------------------------------------------ life

    @property
    def alive(self) -> bool:
        return all(server.alive for server in self.servers)

    def stop(self) -> None:
        for server in reversed(self.servers):
            server.stop()

    def kill(self) -> None:
        for server in reversed(self.servers):
            server.kill()


def kubeconfig(url: str, ca: Path, name: str, user: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bed", "cluster": {"server": url, "certificate-authority": str(ca)}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": name}}],
        "current-context": "bed",
    }


def start(*flags: str) -> KubeApi:
    """An API server of its own; `flags` are added to its arguments."""
    folder = own_folder("kube-api")
    pki = folder / "pki"
    pki.mkdir()
    (pki / "client").mkdir()
    serving, clients = Authority(pki, "bed serving"), Authority(pki / "client", "bed clients")
    served = serving.server("kube-apiserver", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
    accounts = signing_key(pki, "service-accounts")
    trusted = pki / "trusted.crt"
    shutil.copy(clients.file, trusted)
    token = secrets.token_hex(16)
    token_file = folder / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(token, encoding="ascii")
    tokens = folder / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text(f'{token},{ADMIN},{ADMIN},"system:masters"\n', encoding="ascii")
    audit = folder / "audit.yaml"
    audit.write_text(yaml.safe_dump(_AUDIT), encoding="utf-8")

    etcd_port, peer_port, port = free_port(), free_port(), free_port()
    etcd_url, url = f"http://127.0.0.1:{etcd_port}", f"https://127.0.0.1:{port}"
    etcd = Server(
        "etcd",
        [
            testbed.program("etcd"),
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}",
            f"--initial-cluster=default=http://127.0.0.1:{peer_port}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ],
        lambda: request(f"{etcd_url}/readyz"),
    )
    api = Server(
        "kube-apiserver",
        [
            testbed.program("kube-apiserver"),
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--tls-cert-file={served.certificate}",
            f"--tls-private-key-file={served.key}",
            f"--client-ca-file={trusted}",
            f"--token-auth-file={tokens}",
            # A file that names the authorizers excludes the flag.
            *(
                []
                if any(flag.startswith("--authorization-config") for flag in flags)
                else ["--authorization-mode=RBAC"]
            ),
            f"--service-account-key-file={accounts.certificate}",
            f"--service-account-signing-key-file={accounts.key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={SERVICES}",
            # Nothing here makes the default accounts that this plugin wants of every pod.
            "--disable-admission-plugins=ServiceAccount",
            f"--audit-policy-file={audit}",
            f"--audit-log-path={folder / 'audit.log'}",
            f"--cert-dir={folder / 'certs'}",
            *flags,
        ],
        lambda: request(f"{url}/readyz", headers={"Authorization": f"Bearer {token}"}, ca=serving.file),
    )
    made = KubeApi(
        folder=folder,
        url=url,
        ca_file=serving.file,
        token_file=token_file,
        admin_kubeconfig=folder / "admin.kubeconfig",
        client_ca=clients,
        service_account_key=accounts,
        audit_log=folder / "audit.log",
        servers=(etcd, api),
        _trusted=trusted,
    )
    admin = {"tokenFile": str(token_file)}
    made.admin_kubeconfig.write_text(yaml.safe_dump(kubeconfig(url, serving.file, "admin", admin)), encoding="utf-8")
    etcd.start()
    api.start()
    return made


@dataclass
class Kwok(Served):
    """kwok on an API server: pods bound to its nodes run, with addresses of `cidr`."""

    api: KubeApi
    server: Server

    def nodes(self, count: int, prefix: str = "node") -> tuple[str, ...]:
        """That many nodes (those that exist stay); their names."""
        names = tuple(f"{prefix}-{number}" for number in range(count))
        present = {item["metadata"]["name"] for item in self.api.get("/api/v1/nodes")["items"]}
        for name in names:
            if name not in present:
                labels = {"kubernetes.io/hostname": name, "type": "kwok"}
                self.api.send("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
        return names


IP_ANNOTATION = "bed.pilothouse.dev/ip"
"""A pod that carries it runs at that address, such as one of the loopback network where a test serves its metrics."""

_TRUE = "\n".join(
    f'- {{type: {kind}, status: "True", lastTransitionTime: {{{{ $now | Quote }}}}}}'
    for kind in ("Initialized", "ContainersReady", "Ready", "PodScheduled")
)
_RUNNING = f"""
{{{{ $now := Now }}}}
{{{{ $ip := PodIPWith .spec.nodeName (or .spec.hostNetwork false) .metadata.uid .metadata.name .metadata.namespace }}}}
{{{{ with .metadata.annotations }}}}{{{{ with index . "{IP_ANNOTATION}" }}}}{{{{ $ip = . }}}}{{{{ end }}}}{{{{ end }}}}
phase: Running
startTime: {{{{ $now | Quote }}}}
hostIP: {{{{ NodeIP | Quote }}}}
podIP: {{{{ $ip | Quote }}}}
podIPs:
- ip: {{{{ $ip | Quote }}}}
conditions:
{_TRUE}
containerStatuses:
{{{{ range .spec.containers }}}}
- name: {{{{ .name | Quote }}}}
  image: {{{{ .image | Quote }}}}
  ready: true
  restartCount: 0
  state:
    running:
      startedAt: {{{{ $now | Quote }}}}
{{{{ end }}}}
"""
_READY = """
{{ $now := Now }}
conditions:
{{ range NodeConditions }}
- type: {{ .type | Quote }}
  status: {{ .status | Quote }}
  reason: {{ .reason | Quote }}
  message: {{ .message | Quote }}
  lastHeartbeatTime: {{ $now | Quote }}
  lastTransitionTime: {{ $now | Quote }}
{{ end }}
addresses:
- type: InternalIP
  address: {{ NodeIP | Quote }}
allocatable: {cpu: "64", memory: 256Gi, pods: "1000"}
capacity: {cpu: "64", memory: 256Gi, pods: "1000"}
phase: Running
"""


def _stages() -> list[dict[str, Any]]:
    """What happens to nodes and pods by themselves (https://kwok.sigs.k8s.io/docs/user/stages-configuration/)."""

    def stage(name: str, kind: str, when: list[dict[str, Any]], then: dict[str, Any]) -> dict[str, Any]:
        return {
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "Stage",
            "metadata": {"name": name},
            "spec": {
                "resourceRef": {"apiGroup": "v1", "kind": kind},
                "selector": {"matchExpressions": when},
                "next": then,
            },
        }

    alive = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
    new = {"key": ".status.podIP", "operator": "DoesNotExist"}
    gone = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
    unready = {
        "key": '.status.conditions.[] | select( .type == "Ready" ) | .status',
        "operator": "NotIn",
        "values": ["True"],
    }
    return [
        stage("node-ready", "Node", [unready], {"statusTemplate": _READY}),
        stage("pod-runs", "Pod", [alive, new], {"statusTemplate": _RUNNING}),
        stage("pod-goes", "Pod", [gone], {"delete": True}),
    ]


def start_kwok(api: KubeApi, cidr: str = "10.244.0.1/16") -> Kwok:
    """kwok for that API server. It needs no port of its own that anybody asks."""
    port = free_port()
    config = api.folder / "kwok.yaml"
    config.write_text(yaml.safe_dump_all(_stages()), encoding="utf-8")
    server = Server(
        "kwok",
        [
            testbed.program("kwok"),
            f"--config={config}",
            f"--kubeconfig={api.admin_kubeconfig}",
            "--manage-all-nodes=true",
            f"--cidr={cidr}",
            "--node-ip=127.0.0.1",
            f"--server-address=127.0.0.1:{port}",
        ],
        lambda: request(f"http://127.0.0.1:{port}/healthz"),
        cwd=api.folder,
        env={"HOME": str(api.folder)},
    )
    return Kwok(api, server.start())
