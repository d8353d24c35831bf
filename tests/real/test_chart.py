"""The chart helm/pilothouse under real Helm: it lints, renders to valid manifests, and refuses what would not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.testbed import CLUSTERS, ROOT, accepted, derived, kubeconform, run, written

CHART = ROOT / "helm" / "pilothouse"
EVERYTHING = (
    "rbac.apply=true,ingress.enabled=true,ingress.host=portal.example,ingress.className=nginx,ingress.tlsSecret=t,"
    "tls.existingSecret=tls,platform.existingClaim=documents,platform.gitHomeSecret=git,persistence.existingClaim=data,"
    "scheduling.priorityClassName=high,image.pullSecrets={pull},trustedProxies={10.0.0.0/8},"
    "credentials[0].secret=prod,credentials[0].mountPath=/etc/pilothouse/prod,extraArgs.worker={--x},"
    "database.existingSecret=database,portal.replicas=3,"
    "webhook.enabled=true,webhook.tlsSecret=webhook,webhook.clientCaSecret=api-servers,webhook.allowedNetworks={10.15.0.0/24},"
    "audit.hostPath=/var/log/kubernetes,audit.group=4242,audit.config.sources[0].cluster=prod,"
    "audit.config.sources[0].kind=kubernetes,audit.config.sources[0].path=/audit/audit.log"
)


def rendered(helm: Path, *arguments: object) -> list[dict[str, Any]]:
    said = run(helm, "template", "pilothouse", CHART, "--namespace", "pilothouse", *arguments)
    accepted(said)
    accepted(kubeconform(said.stdout))
    return [item for item in yaml.safe_load_all(said.stdout) if item]


def one(manifests: list[dict[str, Any]], kind: str, name: str = "pilothouse") -> dict[str, Any]:
    return next(item for item in manifests if item["kind"] == kind and item["metadata"]["name"] == name)


def containers(deployment: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in deployment["spec"]["template"]["spec"]["containers"]}


def test_lint(helm: Path) -> None:
    accepted(run(helm, "lint", "--strict", CHART))


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_with_the_rendered_values(cluster: str, helm: Path, tmp_path: Path) -> None:
    values = written(derived(cluster), "helm", tmp_path) / "values.yaml"
    accepted(run(helm, "lint", "--strict", CHART, "--values", values))
    manifests = rendered(helm, "--values", values)
    assert one(manifests, "Deployment")["metadata"]["labels"]["pilothouse.dev/cluster"] == cluster


def test_one_pod_shares_the_data_folder(helm: Path) -> None:
    manifests = rendered(helm)
    deployment = one(manifests, "Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert set(containers(deployment)) == {"portal", "worker"}
    mounted = {name: {mount["name"] for mount in item["volumeMounts"]} for name, item in containers(deployment).items()}
    # The API token is the worker's alone.
    assert [name for name, mounts in mounted.items() if "api-token" in mounts] == ["worker"]
    assert all("data" in mounts for mounts in mounted.values())
    claim = one(manifests, "PersistentVolumeClaim", "pilothouse-data")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_everything_at_once(helm: Path) -> None:
    manifests = rendered(helm, "--set", EVERYTHING)
    assert not any(item["kind"] == "PersistentVolumeClaim" for item in manifests)
    portal, worker = containers(one(manifests, "Deployment")).values()
    assert portal["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http", "scheme": "HTTPS"}
    assert {"--platform=/platform", "--trusted-proxy=10.0.0.0/8", "--tls-key=/tls/tls.key"} <= set(portal["args"])
    assert worker["args"] == [
        "worker",
        "--data=/data",
        "--database-file=/database/url",
        "--metrics-host=0.0.0.0",
        "--metrics-port=8421",
        "--platform=/platform",
        "--x",
    ]
    assert one(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    (rule,) = one(manifests, "Ingress")["spec"]["rules"]
    assert rule["host"] == "portal.example"
    assert {path["path"]: path["backend"]["service"]["name"] for path in rule["http"]["paths"]} == {
        "/access": "pilothouse-signer",
        "/api/v1/access": "pilothouse-signer",
        "/": "pilothouse",
    }
    for container in (portal, worker):
        assert {"name": "HOME", "value": "/git"} in container["env"]
        assert {"name": "credentials-0", "mountPath": "/etc/pilothouse/prod", "readOnly": True} in container[
            "volumeMounts"
        ]


def test_more_pods_share_a_database_and_leave_the_signer_to_the_first(helm: Path) -> None:
    manifests = rendered(helm, "--set", EVERYTHING)
    first, more = one(manifests, "Deployment"), one(manifests, "Deployment", "pilothouse-more")
    assert (first["spec"]["replicas"], more["spec"]["replicas"]) == (1, 2)
    assert "strategy" not in more["spec"]
    assert "--no-signer" not in containers(first)["portal"]["args"]
    assert "--no-signer" in containers(more)["portal"]["args"]
    for deployment in (first, more):
        for container in containers(deployment).values():
            assert "--database-file=/database/url" in container["args"]
            assert {"name": "database", "mountPath": "/database", "readOnly": True} in container["volumeMounts"]
    volumes = {item["name"]: item for item in more["spec"]["template"]["spec"]["volumes"]}
    assert "emptyDir" in volumes["data"], "each has a folder of its own"
    assert volumes["database"]["secret"]["secretName"] == "database"

    def selected(service: str) -> list[str]:
        wanted = one(manifests, "Service", service)["spec"]["selector"].items()
        pods = {item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"] for item in (first, more)}
        return [name for name, labels in pods.items() if wanted <= labels.items()]

    assert selected("pilothouse") == ["pilothouse", "pilothouse-more"]
    assert selected("pilothouse-signer") == ["pilothouse"]
    assert (
        not first["spec"]["selector"]["matchLabels"].items() <= more["spec"]["template"]["metadata"]["labels"].items()
    )
    egress = one(manifests, "NetworkPolicy")["spec"]["egress"]
    assert {"ports": [{"port": 5432, "protocol": "TCP"}]} in egress


def test_one_pod_has_no_more(helm: Path) -> None:
    names = {(item["kind"], item["metadata"]["name"]) for item in rendered(helm)}
    assert ("Deployment", "pilothouse-more") not in names
    assert ("Service", "pilothouse-signer") not in names


def test_the_processes_know_their_arguments(helm: Path) -> None:
    """Every option that the chart gives is one of the command's own."""
    from pilothouse.cli import serve

    commands = {"portal": serve.serve, "worker": serve.worker}
    for name, container in containers(one(rendered(helm, "--set", EVERYTHING), "Deployment")).items():
        known = {
            option for parameter in commands[name].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        given = {argument.split("=")[0] for argument in container["args"][1:]} - {"--x"}
        assert given <= known
        assert container["args"][0] == commands[name].name


def webhook(*sets: str) -> tuple[str, str]:
    """The least that the webhook needs, and more."""
    needed = "webhook.enabled=true,webhook.tlsSecret=t,webhook.clientCaSecret=c,database.existingSecret=d"
    return "--set", ",".join((needed, *sets))


def test_the_webhook_is_a_deployment_of_its_own(helm: Path) -> None:
    from pilothouse.cli.access import group

    assert not any("webhook" in item["metadata"]["name"] for item in rendered(helm)), "off where nobody asks for it"
    manifests = rendered(helm, *webhook())
    deployment = one(manifests, "Deployment", "pilothouse-webhook")
    (container,) = containers(deployment).values()
    assert container["args"][:2] == ["access", "webhook"]
    known = {option for parameter in group.commands["webhook"].params for option in parameter.opts}
    assert {argument.split("=")[0] for argument in container["args"][2:]} <= known
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    files = [argument.partition("=")[2] for argument in container["args"] if argument.startswith(("--tls", "--client"))]
    assert len(files) == 3
    assert {str(Path(file).parent) for file in files} <= mounted
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": "https", "scheme": "HTTPS"}
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for kind, at in (("Service", "selector"), ("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        found = one(manifests, kind, "pilothouse-webhook")["spec"][at]
        assert found.get("matchLabels", found).items() <= labels.items()
        # What is meant for the portal does not reach it, and the other way round.
        portals = one(manifests, kind)["spec"][at]
        apart = portals.get("matchExpressions") == [
            {"key": "app.kubernetes.io/component", "operator": "NotIn", "values": ["webhook"]}
        ]
        assert apart or not portals.get("matchLabels", portals).items() <= labels.items()


def test_who_reaches_the_webhook_and_whom_it_reaches(helm: Path) -> None:
    policy = one(rendered(helm, *webhook()), "NetworkPolicy", "pilothouse-webhook")["spec"]
    assert policy["ingress"] == [{"ports": [{"port": 8443, "protocol": "TCP"}]}]
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [53, 53, 5432]
    narrow = rendered(helm, *webhook("webhook.allowedNetworks={10.15.0.0/24,fd00:10:15::/64}"))
    (rule,) = one(narrow, "NetworkPolicy", "pilothouse-webhook")["spec"]["ingress"]
    blocks = [item["ipBlock"]["cidr"] for item in rule["from"] if "ipBlock" in item]
    assert blocks == ["10.15.0.0/24", "fd00:10:15::/64"]
    assert any("podSelector" in item for item in rule["from"]), "Prometheus"


def test_an_address_that_api_servers_can_name(helm: Path) -> None:
    fixed = one(rendered(helm, *webhook("webhook.service.clusterIp=10.17.0.99")), "Service", "pilothouse-webhook")
    assert fixed["spec"]["clusterIP"] == "10.17.0.99"
    node = rendered(helm, *webhook("webhook.service.type=NodePort", "webhook.service.nodePort=30843"))
    (port,) = one(node, "Service", "pilothouse-webhook")["spec"]["ports"]
    assert port["nodePort"] == 30843


def test_audit_logs_are_the_workers_to_read(helm: Path) -> None:
    deployment = one(rendered(helm, "--set", EVERYTHING), "Deployment")
    portal, worker = containers(deployment).values()
    mounts = {mount["name"]: mount for mount in worker["volumeMounts"]}
    assert mounts["audit-logs"] == {"name": "audit-logs", "mountPath": "/audit", "readOnly": True}
    assert mounts["audit-config"]["mountPath"] == "/data/audit.yaml"
    assert not {"audit-logs", "audit-config"} & {mount["name"] for mount in portal["volumeMounts"]}
    pod = deployment["spec"]["template"]
    volumes = {item["name"]: item for item in pod["spec"]["volumes"]}
    assert volumes["audit-logs"]["hostPath"] == {"path": "/var/log/kubernetes", "type": "Directory"}
    assert pod["spec"]["securityContext"]["supplementalGroups"] == [4242]
    (plain,) = {item["spec"]["template"]["metadata"]["annotations"].get("pilothouse.dev/audit-config")
                for item in rendered(helm) if item["kind"] == "Deployment"}  # fmt: skip
    assert plain is None
    assert pod["metadata"]["annotations"]["pilothouse.dev/audit-config"], "another content is another pod"


def test_what_the_chart_writes_as_audit_yaml_is_read(helm: Path, tmp_path: Path) -> None:
    from pilothouse.files.audit_settings import from_file

    text = one(rendered(helm, "--set", EVERYTHING), "ConfigMap", "pilothouse-audit")["data"]["audit.yaml"]
    file = tmp_path / "audit.yaml"
    file.write_text(text, encoding="utf-8")
    (source,) = from_file(file).sources
    assert (source.cluster, str(source.path)) == ("prod", "/audit/audit.log")


def test_a_repository_is_named(helm: Path) -> None:
    address = "https://git.example/platform.git"
    portal = containers(one(rendered(helm, "--set", f"platform.repository={address}"), "Deployment"))["portal"]
    assert f"--platform={address}" in portal["args"]


@pytest.mark.parametrize("sets", [(), ("--set", EVERYTHING)], ids=["default", "everything"])
def test_pods_are_confined(helm: Path, sets: tuple[str, ...]) -> None:
    manifests = rendered(helm, *sets)
    pods = [item["spec"]["template"]["spec"] for item in manifests if item["kind"] == "Deployment"]
    pods += [item["spec"] for item in manifests if item["kind"] == "Pod"]
    assert len(pods) >= 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
    # Nobody may read a Secret.
    rules = one(manifests, "ClusterRole", "pilothouse-pilothouse")["rules"]
    assert not any("secrets" in rule["resources"] or "*" in rule["resources"] for rule in rules)


def test_the_portal_and_the_numbers_of_its_worker_are_reached(helm: Path) -> None:
    policy = one(rendered(helm), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == [8420, 8421]
    off = one(rendered(helm, "--set", "worker.metricsPort=0"), "NetworkPolicy")["spec"]
    assert [port["port"] for rule in off["ingress"] for port in rule["ports"]] == [8420]


def test_the_scrape_jobs_of_the_bundle_find_the_ports_of_the_chart(helm: Path) -> None:
    jobs = {
        name: yaml.safe_load((ROOT / "collectors" / "scrape" / f"{name}.yaml").read_text(encoding="utf-8"))["discover"]
        for name in ("pilothouse", "pilothouse-worker")
    }

    def found(*arguments: str) -> set[str]:
        pod = one(rendered(helm, *arguments), "Deployment")["spec"]["template"]
        ports = {port["name"] for item in pod["spec"]["containers"] for port in item.get("ports", ())}
        assert all(job["selector"].items() <= pod["metadata"]["labels"].items() for job in jobs.values())
        return {name for name, job in jobs.items() if job["port"] in ports}

    assert found() == {"pilothouse", "pilothouse-worker"}
    assert found("--set", "worker.metricsPort=0") == {"pilothouse"}


def test_applying_is_granted_only_where_it_is_said(helm: Path) -> None:
    def verbs(*arguments: str) -> set[str]:
        rules = one(rendered(helm, *arguments), "ClusterRole", "pilothouse-pilothouse")["rules"]
        return {verb for rule in rules for verb in rule["verbs"]}

    assert verbs() == {"get", "list", "watch"}
    assert "delete" in verbs("--set", "rbac.apply=true")


def test_a_digest_wins(helm: Path) -> None:
    digest = "sha256:" + "0" * 64
    deployment = one(rendered(helm, "--set", f"image.tag=1.2,image.digest={digest}"), "Deployment")
    assert containers(deployment)["portal"]["image"] == f"pilothouse@{digest}"


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ("image.tag=latest", "must not be `latest`"),
        ("portal.replicas=2", "set database.existingSecret"),
        ("portal.replicas=2,database.existingSecret=x", "set platform.repository"),
        ("portal.replicas=0", "minimum"),
        ("worker.replicas=2", "additional properties 'replicas' not allowed"),
        ("platform.repository=x,platform.existingClaim=y", "the documents come from one of them"),
        ("image.digest=sha256:abc", "does not match pattern"),
        ("ingress.enabled=true", "ingress.host is needed"),
        ("image.pullPolicy=Sometimes", "value must be one of"),
        ("persistence.size=much", "does not match pattern"),
        ("networkPolicy.egressPorts={0}", "minimum"),
        ("credentials[0].secret=x", "missing property 'mountPath'"),
        ("webhook.enabled=true", "webhook.enabled needs a database"),
        ("webhook.enabled=true,database.existingSecret=x", "needs webhook.tlsSecret"),
        ("webhook.enabled=true,database.existingSecret=x,webhook.tlsSecret=y", "needs webhook.clientCaSecret"),
        (f"{webhook()[1]},webhook.service.nodePort=30843", "needs the type NodePort or LoadBalancer"),
        ("audit.hostPath=/a,audit.existingClaim=b", "the logs lie in one of them"),
    ],
)
def test_what_would_not_run_is_refused(helm: Path, sets: str, says: str) -> None:
    done = run(helm, "template", "pilothouse", CHART, "--set", sets)
    assert done.returncode != 0
    assert says in done.stderr
