"""An authority is rotated under a real API server: at each stage what was handed out is taken, and at the end not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from support.access_world import World, make_world

from pilothouse.access.certificates import pem
from pilothouse.clients.signer import SignerClient
from pilothouse.problems import Conflict
from pilothouse.signer import spawn
from pilothouse.workflows.credential import make_key

pytestmark = pytest.mark.real


@dataclass
class Site:
    world: World
    signer: SignerClient
    api: Any

    def leaf(self) -> tuple[str, str]:
        """A new certificate of alice's, with its key."""
        key, csr = make_key("alice")
        return self.signer.sign(self.world.token("alice"), csr, profile="developer", cluster="dev").pem, key

    def rotate(self, stage: str, trusted: bool = False, force: bool = False) -> str:
        found = self.signer.rotate(self.world.token("olga"), "dev", stage, trusted, force)
        return str(found["stage"])

    def bundle(self) -> list[str]:
        return [pem(item) for item in x509.load_pem_x509_certificates(self.signer.authority("dev").encode())]


@pytest.fixture
def site(tmp_path: Path, kube_api: Any) -> Iterator[Site]:
    world = make_world(tmp_path)
    world.now = datetime.now(UTC)
    child = spawn.start(world.data, world.platform)
    try:
        yield Site(world, SignerClient(world.data / "signer.sock"), kube_api)
    finally:
        spawn.stop(child)


def test_nobody_is_locked_out_until_the_old_one_is_withdrawn(site: Site) -> None:
    (old_authority,) = site.bundle()
    site.api.trust(old_authority)
    old = site.leaf()
    assert site.api.who(*old) == "alice"

    assert site.rotate("at-rest") == "made"
    assert site.api.who(*site.leaf()) == "alice"  # the old one goes on signing

    assert site.rotate("made") == "trusted"
    first, new_authority = site.bundle()
    assert first == old_authority
    assert site.api.who(*site.leaf()) == "alice"
    site.api.trust(new_authority)

    assert site.rotate("trusted", trusted=True) == "signing"
    new = site.leaf()
    assert site.api.who(*new) == "alice"
    assert site.api.who(*old) == "alice"
    with pytest.raises(Conflict, match="living certificates are of the old authority"):
        site.rotate("signing")

    assert site.rotate("signing", force=True) == "at-rest"
    assert site.bundle() == [new_authority]
    site.api.distrust(old_authority)
    end = time.monotonic() + 70
    while site.api.who(*old) and time.monotonic() < end:
        time.sleep(0.5)
    assert site.api.who(*old) == ""
    assert site.api.who(*new) == "alice"
    site.api.distrust(new_authority)
