"""A cluster with two services that have secrets, its Vault set up as declared, and the accounts of its pods.

The Vault is the stand-in, or the real one with a real API server behind its Kubernetes login.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import testbed
from support.builders import service
from support.vault_site import Site, fake_site, real_site

from pilothouse.access import content, pod
from pilothouse.access.content import VaultContent
from pilothouse.access.secret_readers import Readers
from pilothouse.inputs import Inputs
from pilothouse.mounted.config import AgentConfig
from pilothouse.platform.model import Endpoint, Secret, Servers, Service
from pilothouse.workflows import vault_setup

DATABASE = {"username": "api", "password": "the first password"}


@dataclass
class SecretSite:
    site: Site
    inputs: Inputs
    namespace: str
    jwt: Callable[..., str]
    """(account, audience, namespace) → a token of that ServiceAccount."""

    @property
    def settings(self) -> VaultContent:
        found, problems = content.read(self.inputs.content)
        assert found is not None, problems
        return found

    @property
    def key_value(self) -> str:
        return f"kv-{self.site.name}"

    def service(self, name: str = "api") -> Service:
        return self.inputs.platform.services[f"{self.namespace}/{name}"]

    @property
    def readers(self) -> Readers:
        return Readers(self.inputs.platform, self.inputs.cluster, self.settings)

    def put(self, path: str, data: Mapping[str, Any]) -> None:
        self.site.root.write(f"{self.key_value}/data/{path}", {"data": dict(data)})

    def config(self, folder: Path, name: str = "api", token: str | None = None, **changes: Any) -> AgentConfig:
        """As rendered, with the pod's folders below `folder`, and a token written there."""
        from dataclasses import replace

        found = pod.agent_config(self.service(name), self.inputs.cluster, self.settings)
        token_file = folder / "token"
        token_file.write_text(self.jwt(name, "vault") if token is None else token, encoding="ascii")
        moved = tuple(replace(item, folder=str(folder / item.folder.strip("/"))) for item in found.secrets)
        return replace(found, **{"token_file": str(token_file), "secrets": moved, **changes})


def _services(namespace: str) -> tuple[Service, ...]:
    return (
        service(
            f"{namespace}/api",
            team="payments",
            secrets=(
                Secret("payments/database", "/secrets/database", keys=("username", "password")),
                Secret("payments/signing", "/secrets/signing"),
            ),
        ),
        service(f"{namespace}/other", team="risk", secrets=(Secret("payments/signing", "/secrets/s"),)),
    )


def _ready(made: SecretSite) -> SecretSite:
    made.put("payments/database", DATABASE | {"host": "not declared"})
    made.put("payments/signing", {"key": "signing", "rounds": 3})
    return made


@contextmanager
def fake_secret_site() -> Iterator[SecretSite]:
    with fake_site() as site:
        assert site.fake is not None
        state = site.fake.state
        inputs = site.inputs(services=_services("payments"))
        vault_setup.apply(site.root, inputs)

        def jwt(account: str, audience: str = "kubernetes", namespace: str = "payments") -> str:
            text = f"jwt-{secrets.token_hex(8)}"
            state.accounts[text] = {
                "namespace": namespace,
                "name": account,
                "uid": f"uid-{namespace}-{account}",
                "audience": audience,
            }
            return text

        yield _ready(SecretSite(site, inputs, "payments", jwt))


@contextmanager
def real_secret_site(vault: Any, slapd: Any, api: Any) -> Iterator[SecretSite]:
    """Vault runs outside of that cluster, so it looks tokens up with an account that may do that and nothing else."""

    def apply(*manifests: Mapping[str, Any]) -> None:
        for item in manifests:
            testbed.accepted(api.kubectl("apply", "-f", "-", stdin=json.dumps(item)))

    def account(name: str, namespace: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}

    with (
        real_site(vault, slapd) as site,
        api.namespace("payments") as namespace,
        api.namespace("elsewhere") as elsewhere,
    ):
        servers = Servers(kubernetes=Endpoint(api.url), vault=Endpoint(vault.url))
        inputs = site.inputs(services=_services(namespace), on=site.cluster(servers=servers))
        authority = api.ca_file.read_text()
        vault_setup.apply(site.root, inputs, authority)
        reviewer = f"vault-reviewer-{namespace}"
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": reviewer},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:auth-delegator",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "vault-reviewer", "namespace": namespace}],
        }
        apply(*(account(name, namespace) for name in ("api", "other", "vault-reviewer")), binding)
        apply(account("api", elsewhere))

        def jwt(name: str, audience: str = "", of: str = "") -> str:
            more = ("--audience", audience) if audience else ()
            where = elsewhere if of else namespace
            done = api.kubectl("create", "token", name, "-n", where, "--duration=10m", *more)
            return testbed.accepted(done).strip()

        mount = f"auth/kubernetes-{site.name}/config"
        config = site.root.read(mount) or {}
        known = {name: config[name] for name in ("kubernetes_host", "kubernetes_ca_cert", "disable_local_ca_jwt")}
        site.root.write(mount, known | {"token_reviewer_jwt": jwt("vault-reviewer")})
        assert vault_setup.plan(site.root, inputs, authority).is_empty
        yield _ready(SecretSite(site, inputs, namespace, jwt))
        testbed.accepted(api.kubectl("delete", "clusterrolebinding", reviewer))


def secret_site_of(request: Any) -> Iterator[SecretSite]:
    """The body of a fixture that is parametrised with fake and real."""
    if request.param == "fake":
        with fake_secret_site() as made:
            yield made
    else:
        used = (request.getfixturevalue(name) for name in ("vault", "slapd", "kube_api"))
        with real_secret_site(*used) as made:
            yield made
