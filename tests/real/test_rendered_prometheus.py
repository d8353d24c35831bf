"""promtool accepts what is rendered for every cluster of the bank."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.testbed import CLUSTERS, accepted, bank, derived, run, written

from pilothouse import bundle
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Endpoint


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A token and a certificate: promtool opens the files that a Cluster document names."""
    folder = tmp_path_factory.mktemp("credentials")
    token, authority = folder / "token", folder / "ca.crt"
    token.write_text("not a token\n")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return token, authority


def here(inputs: Inputs, token: Path, authority: Path) -> Inputs:
    """The same inputs with files that exist on this machine."""

    def moved(endpoint: Endpoint | None) -> Endpoint | None:
        return endpoint and replace(
            endpoint,
            token_file=str(token) if endpoint.token_file else "",
            ca_file=str(authority) if endpoint.ca_file else "",
        )

    servers = inputs.cluster.servers
    single = ("kubernetes", "vault", "prometheus", "elasticsearch", "grafana")
    several = ("leaves", "alertmanagers")
    changed: dict[str, Any] = {name: moved(getattr(servers, name)) for name in single}
    changed |= {name: tuple(map(moved, getattr(servers, name))) for name in several}
    return replace(inputs, cluster=replace(inputs.cluster, servers=replace(servers, **changed)))


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_configuration(cluster: str, promtool: Path, credentials: tuple[Path, Path], tmp_path: Path) -> None:
    rendered = bundle.derive(here(bank(cluster), *credentials))
    folder = written(rendered, "prometheus", tmp_path)
    configurations = sorted(folder.glob("*.yaml"))
    names = [path.name for path in configurations]
    assert names == ["global.yaml", *(f"leaf-{n}.yaml" for n in range(bank(cluster).cluster.shards))]
    said = accepted(run(promtool, "check", "config", "--lint=all", "--lint-fatal", *configurations))
    assert said.count("is valid prometheus config file syntax") == len(configurations)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_rules(cluster: str, promtool: Path, tmp_path: Path) -> None:
    folder = written(derived(cluster), "prometheus", tmp_path)
    for side in ("leaf", "global"):
        files = sorted((folder / "rules" / side).glob("*.yaml"))
        assert files
        said = accepted(run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *files))
        assert said.count("SUCCESS") == len(files)
