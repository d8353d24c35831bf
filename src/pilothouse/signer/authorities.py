"""Which authority signs for a cluster: its own declaration says so, and nothing ever falls back to another one.

For Vault the signer holds no right at all: the engineer's own token signs, and Vault checks name, role and lifetime
by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from cryptography import x509

from pilothouse.access import certificates, vault_elevation
from pilothouse.access.certificates import Template
from pilothouse.clients.vault import VaultClient
from pilothouse.platform.model import Cluster, Endpoint, Platform
from pilothouse.problems import Denied, Invalid, Unavailable, one_of
from pilothouse.signer.keys import publish
from pilothouse.workflows import vault_rotation
from pilothouse.workflows.issuance import Authorities, Voucher

CA_SECONDS = 30.0
"""How long an authority's certificate that Vault gave is taken for its own."""


class VaultAuthorities:
    """The authorities that lie in the Vaults of the declared clusters."""

    def __init__(self, published: Path, platform: Callable[[], Platform], monotonic: Callable[[], float]) -> None:
        self._published = published
        self._platform = platform
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], tuple[float, x509.Certificate]] = {}
        self._clients: dict[Endpoint, VaultClient] = {}

    def certificate(self, cluster: str) -> x509.Certificate:
        """The PKI mount's own certificate; `Unavailable` where Vault does not answer or has none."""
        declared = self._declared(cluster)
        client, mount = self._client(declared), declared.authority.mount
        with self._lock:
            since, known = self._known.get((client.url, mount), (0.0, None))
        if known is not None and self._monotonic() - since < CA_SECONDS:
            return known
        held = self.held(cluster)
        found = held.signs[0]
        with self._lock:
            self._known[client.url, mount] = (self._monotonic(), found)
        try:
            publish(self._published, cluster, *held.trusted)
        except OSError as failure:
            raise Unavailable(
                f"{self._published} cannot be written: {failure.strerror}", "is the disk full?"
            ) from failure
        return found

    def trusted(self, cluster: str) -> tuple[x509.Certificate, ...]:
        self.certificate(cluster)  # which also lays them out
        return self.held(cluster).trusted

    def held(self, cluster: str) -> vault_rotation.Held:
        """How far the rotation of the mount's authority is, as Vault has it now."""
        declared = self._declared(cluster)
        client, mount = self._client(declared), declared.authority.mount
        found = vault_rotation.held(client, mount)
        if found is None:
            raise Unavailable(
                f"Vault at {client.url} has no authority in `{mount}`",
                f"the platform team runs `pilothouse access vault apply {cluster}`",
            )
        return found

    def sign(self, cluster: str, template: Template, voucher: Voucher) -> x509.Certificate:
        """The leaf that Vault signed for the holder of the voucher's token. What it says is verified by the caller."""
        declared = self._declared(cluster)
        client = self._client(declared)
        seconds = int((template.not_after - template.now).total_seconds())
        role = voucher.role or self._role_of_request(client, voucher, declared.name)
        text = client.sign(voucher.token, declared.authority.mount, role, voucher.csr, template.user, seconds)
        leaf = _parsed(text, client.url)
        self._check_authority(declared, client, leaf)
        return leaf

    def _check_authority(self, cluster: Cluster, client: VaultClient, leaf: x509.Certificate) -> None:
        """Another authority of the mount may sign since the certificate of this one was read."""
        if certificates.is_signed_by(leaf, self.certificate(cluster.name)):
            return
        with self._lock:
            self._known.pop((client.url, cluster.authority.mount), None)
        if certificates.is_signed_by(leaf, self.certificate(cluster.name)):
            raise Unavailable(
                f"the authority of {cluster.name} was rotated a moment ago", "ask again: the new one is known now"
            )

    @staticmethod
    def _role_of_request(client: VaultClient, voucher: Voucher, cluster: str) -> str:
        """The role that the worker wrote for the request: it carries the entity of whose token it is."""
        entity = client.entity(voucher.token)
        try:
            return vault_elevation.role_name(entity, voucher.request)
        except ValueError as failure:
            raise Denied(
                f"the token that came with the request is nobody's at the Vault of {cluster}",
                "log in there again: `pilothouse access login`",
            ) from failure

    def _client(self, cluster: Cluster) -> VaultClient:
        """One for each address, so that its connections are used again."""
        endpoint = cluster.servers.vault
        if endpoint is None:
            raise Unavailable(
                f"the authority of cluster {cluster.name} is vault, and no Vault is declared for it",
                "declare `servers.vault`; pilothouse never falls back to another authority",
            )
        bare = Endpoint(endpoint.url, ca_file=endpoint.ca_file)
        known = self._clients.get(bare)
        return known or self._clients.setdefault(bare, VaultClient(bare))

    def _declared(self, cluster: str) -> Cluster:
        clusters = self._platform().clusters
        if cluster not in clusters:
            raise Invalid(f"there is no cluster `{cluster}`", one_of(clusters))
        return clusters[cluster]


class ByBackend:
    """Sends each cluster's requests to the authority that it declares."""

    def __init__(self, platform: Callable[[], Platform], embedded: Authorities, vault: Authorities) -> None:
        self._platform = platform
        self._embedded = embedded
        self._vault = vault

    def certificate(self, cluster: str) -> x509.Certificate:
        return self._of(cluster).certificate(cluster)

    def trusted(self, cluster: str) -> tuple[x509.Certificate, ...]:
        return self._of(cluster).trusted(cluster)

    def sign(self, cluster: str, template: Template, voucher: Voucher) -> x509.Certificate:
        return self._of(cluster).sign(cluster, template, voucher)

    def _of(self, cluster: str) -> Authorities:
        declared = self._platform().clusters.get(cluster)
        return self._vault if declared is not None and declared.authority.backend == "vault" else self._embedded


def _parsed(text: str, url: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(text.encode())
    except ValueError as failure:
        raise Unavailable(f"Vault at {url} sent what is no certificate", "tell the platform team") from failure
