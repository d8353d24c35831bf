"""A small cluster in YAML, and what lint says of policies in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from support.policy_documents import underlined

from pilothouse.files import snapshot
from pilothouse.policies.lint import lint
from pilothouse.policies.reading import read
from pilothouse.problems import Problem, Severity

CLUSTER = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: shop, zone: inner}}
---
apiVersion: v1
kind: Namespace
metadata: {name: edge, labels: {team: edge, zone: outer}}
---
apiVersion: v1
kind: Namespace
metadata: {name: kube-system, labels: {system: "true"}}
---
apiVersion: v1
kind: Namespace
metadata: {name: empty, labels: {team: none}}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {role: worker}}
spec: {podCIDRs: [10.40.0.0/24]}
status: {addresses: [{type: InternalIP, address: 10.20.0.1}]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: gateway, namespace: edge}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web, tier: front}}
spec:
  nodeName: n1
  containers:
    - {name: main, ports: [{name: http, containerPort: 8080}, {name: stats, containerPort: 8125, protocol: UDP}]}
status: {phase: Running, podIPs: [{ip: 10.40.0.11}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db, tier: back}}
spec: {nodeName: n1, containers: [{name: main, ports: [{name: sql, containerPort: 5432}]}]}
status: {phase: Running, podIPs: [{ip: 10.40.0.12}]}
---
apiVersion: v1
kind: Pod
metadata: {name: gateway, namespace: edge, labels: {app: gateway}}
spec:
  nodeName: n1
  serviceAccountName: gateway
  containers: [{name: main, ports: [{name: https, containerPort: 8443}]}]
status: {phase: Running, podIPs: [{ip: 10.40.0.13}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: edge, labels: {app: agent}}
spec: {nodeName: n1, hostNetwork: true, containers: [{name: main}]}
status: {phase: Running, podIPs: [{ip: 10.20.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  nodeName: n1
  containers: [{name: main, ports: [{name: dns, containerPort: 53, protocol: UDP}, {name: dns-tcp, containerPort: 53}]}]
status: {phase: Running, podIPs: [{ip: 10.40.0.14}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.20, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: idle, namespace: shop}
spec: {clusterIP: 10.96.0.21, selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: asleep, namespace: shop}
spec:
  replicas: 0
  selector: {matchLabels: {app: asleep}}
  template: {metadata: {labels: {app: asleep}}, spec: {containers: [{name: main}]}}
"""
"""Namespaces shop (pods web, db), edge (gateway, and agent on the host's network), kube-system (coredns), and empty."""


@dataclass(frozen=True)
class Case:
    """`bad` has that one finding, with the caret under `under`; `good`, which is nearly the same, has none."""

    code: str
    bad: str
    under: str
    good: str
    severity: Severity = Severity.WARNING
    says: str = ""

    def __str__(self) -> str:
        return self.code


def kubernetes(spec: str, name: str = "web", namespace: str = "shop") -> str:
    metadata = f"{{name: {name}, namespace: {namespace}}}"
    return f"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {metadata}\nspec: {spec}\n"


def calico(spec: str, name: str = "web", namespace: str = "shop", kind: str = "NetworkPolicy") -> str:
    metadata = f"{{name: {name}, namespace: {namespace}}}" if namespace else f"{{name: {name}}}"
    return f"apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n"


def everywhere(spec: str, name: str = "web") -> str:
    return calico(spec, name, "", "GlobalNetworkPolicy")


def together(*documents: str) -> str:
    return "---\n".join(documents)


def findings(folder: Path, text: str, cluster: str = CLUSTER) -> list[Problem]:
    """What lint finds in the cluster with these objects; they are read without a complaint."""
    file = folder / "all.yaml"
    file.write_text(together(cluster, text) if cluster else text, encoding="utf-8")
    found, problems = snapshot.read(file)
    reading = read(found.policies)
    told = [problem for problem in (*problems, *reading.problems) if problem.severity is not Severity.INFO]
    assert told == [], [problem.message for problem in told]
    return list(lint(found, reading.policies))


def check(folder: Path, case: Case, cluster: str = CLUSTER) -> None:
    """The case's two halves."""
    bad = [problem for problem in findings(folder, case.bad, cluster) if problem.code == f"policies/{case.code}"]
    assert [(problem.severity, underlined(problem.place)) for problem in bad] == [(case.severity, case.under)], [
        problem.message for problem in bad
    ]
    assert bad[0].hint
    assert case.says in f"{bad[0].message}; {bad[0].hint}", f"{bad[0].message}; {bad[0].hint}"
    good = [problem for problem in findings(folder, case.good, cluster) if problem.code == f"policies/{case.code}"]
    assert good == []
