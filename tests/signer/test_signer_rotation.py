"""The rotation of an authority: nobody is locked out at a stage; a killed signer finds one stage or the other."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from support.access_values import csr, key
from support.access_world import World, make_world

from pilothouse.access import certificates
from pilothouse.access.rotation import FOLLOWS, STEPS, Rotation, Stage
from pilothouse.problems import Conflict, Denied, Invalid, Unavailable
from pilothouse.signer import keys as signer_keys
from pilothouse.signer.keys import EmbeddedAuthorities
from pilothouse.signer.shelf import FILE, Shelf, read
from pilothouse.store import ledger
from pilothouse.workflows.issuance import Ask
from pilothouse.workflows.people import People
from pilothouse.workflows.rotation import Rotations

WAY = (Stage.AT_REST, Stage.MADE, Stage.TRUSTED, Stage.SIGNING, Stage.AT_REST)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture
def authorities(world: World) -> Iterator[EmbeddedAuthorities]:
    with world.authorities() as found:
        yield found


def rotations(world: World, authorities: EmbeddedAuthorities) -> Rotations:
    return Rotations(world.store, world.declared, authorities, world.clock, world.heads.append, People(world.store))


def step(world: World, authorities: EmbeddedAuthorities, stage: Stage, who: str = "olga", **flags: bool) -> Rotation:
    flags = {"trusted": stage is Stage.TRUSTED} | flags
    return rotations(world, authorities).rotate(world.token(who), "dev", stage.value, **flags)


def until(world: World, authorities: EmbeddedAuthorities, stage: Stage) -> None:
    for now in WAY[: WAY.index(stage)]:
        step(world, authorities, now)


def leaf(world: World, authorities: EmbeddedAuthorities) -> x509.Certificate:
    issued = world.issuance(authorities).issue(Ask(world.token("alice"), csr(key("alice")), "dev", "developer"))
    found = x509.load_pem_x509_certificate(issued.pem.encode())
    assert certificates.is_signed_by(found, x509.load_pem_x509_certificate(issued.authority.encode()))
    return found


def bundle(world: World) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates((world.data / "authorities/dev.crt").read_bytes())


def trusted(world: World, found: x509.Certificate) -> bool:
    """Whether an API server with the published bundle takes the certificate."""
    return any(certificates.is_signed_by(found, authority) for authority in bundle(world))


def key_files(world: World) -> list[str]:
    return sorted(path.name for path in (world.data / "signer/dev").glob("*.key"))


def test_at_every_stage_what_is_alive_is_trusted(world: World, authorities: EmbeddedAuthorities) -> None:
    first = authorities.certificate("dev")
    leaves = [leaf(world, authorities)]
    sizes = []
    for before, after in pairwise(WAY):
        if after is Stage.AT_REST:
            world.later(hours=17)
            leaves = [found for found in leaves if found.not_valid_after_utc > world.now]
        assert step(world, authorities, before).stage is after
        leaves.append(leaf(world, authorities))
        assert all(trusted(world, found) for found in leaves)
        assert bundle(world)[0] == authorities.certificate("dev")
        sizes.append(len(bundle(world)))
    assert sizes == [1, 2, 2, 1]
    assert authorities.certificate("dev") != first
    assert not trusted(world, first)
    assert key_files(world) == ["ca-2.key"]  # the old key is destroyed
    assert not (world.data / "signer/dev/ca.crt").exists()
    for file in (world.data / "signer/dev").glob("*.key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kinds = [e.entry.kind for e in ledger.everything(world.store) if e.entry.kind.startswith("authority.")]
    assert kinds == [f"authority.{word}" for word in ("made", "trusted", "signing", "withdrawn")]
    assert ledger.verify(world.store, world.heads)[0] == ()


def test_it_can_be_rotated_again_and_again(world: World, authorities: EmbeddedAuthorities) -> None:
    seen = set()
    for _ in range(3):
        seen.add(authorities.certificate("dev").public_key().public_numbers())  # type: ignore[union-attr]
        until(world, authorities, Stage.SIGNING)
        step(world, authorities, Stage.SIGNING)
    assert len(seen) == 3
    assert key_files(world) == ["ca-4.key"]
    assert authorities.certificate("prod") not in bundle(world)  # each cluster has its own


@pytest.mark.parametrize("stage", WAY[1:])
def test_a_signer_that_starts_again_goes_on_at_the_same_stage(world: World, stage: Stage) -> None:
    with world.authorities() as authorities:
        for now, after in pairwise(WAY):
            step(world, authorities, now)
            if after is stage:
                break
        before = (authorities.certificate("dev"), authorities.trusted("dev"))
    (world.data / "authorities/dev.crt").unlink()
    with world.authorities() as authorities:
        assert (authorities.certificate("dev"), authorities.trusted("dev")) == before
        assert tuple(bundle(world)) == before[1]
        seen = rotations(world, authorities).see(world.token("olga"), "dev")
        assert seen.stage is stage
        assert seen.next.to is FOLLOWS[stage]


@pytest.mark.parametrize(("stage", "after"), list(pairwise(WAY)))
@pytest.mark.parametrize("writes", range(4))
def test_a_signer_that_dies_within_a_stage_finds_one_or_the_other(
    world: World, monkeypatch: pytest.MonkeyPatch, stage: Stage, after: Stage, writes: int
) -> None:
    """Every write after the first `writes` fails, as when the process ends there; then it starts again."""
    real: Callable[..., None] = signer_keys.write
    with world.authorities() as authorities:
        for now, _ in pairwise(WAY):
            if now is stage:
                break
            step(world, authorities, now)
        living = leaf(world, authorities) if stage is not Stage.SIGNING else None
        left = [writes]

        def write(path: Path, *arguments: Any, **more: Any) -> None:
            if path.name != "head":
                left[0] -= 1
                if left[0] < 0:
                    raise OSError(28, "No space left on device")
            real(path, *arguments, **more)

        monkeypatch.setattr(signer_keys, "write", write)
        with contextlib.suppress(Unavailable):  # where it needed no more writes it went through
            authorities.turn("dev", after)
        monkeypatch.setattr(signer_keys, "write", real)
    with world.authorities() as authorities:
        seen = rotations(world, authorities).see(world.token("olga"), "dev")
        assert seen.stage in (stage, after)
        assert trusted(world, leaf(world, authorities))
        assert living is None or trusted(world, living)
        assert len(key_files(world)) == (1 if seen.stage is Stage.AT_REST else 2)
        if seen.stage is not after:
            authorities.turn("dev", after)
        assert trusted(world, leaf(world, authorities))


def test_a_command_sent_twice_takes_one_step(world: World, authorities: EmbeddedAuthorities) -> None:
    step(world, authorities, Stage.AT_REST)
    with pytest.raises(Conflict, match="is at made, not at at-rest"):
        step(world, authorities, Stage.AT_REST)
    assert rotations(world, authorities).see(world.token("olga"), "dev").stage is Stage.MADE


def test_the_new_one_signs_only_once_somebody_says_that_it_is_trusted(
    world: World, authorities: EmbeddedAuthorities
) -> None:
    until(world, authorities, Stage.TRUSTED)
    before = authorities.certificate("dev")
    with pytest.raises(Invalid, match="cannot be seen from here") as refused:
        step(world, authorities, Stage.TRUSTED, trusted=False)
    assert "--trusted" in refused.value.hint
    assert authorities.certificate("dev") == before


def test_the_old_one_is_not_withdrawn_under_living_certificates(world: World, authorities: EmbeddedAuthorities) -> None:
    until(world, authorities, Stage.TRUSTED)
    old = leaf(world, authorities)
    step(world, authorities, Stage.TRUSTED)
    leaf(world, authorities)  # of the new one, and no hindrance
    seen = rotations(world, authorities).see(world.token("olga"), "dev")
    assert (seen.alive, seen.last_ends) == (1, old.not_valid_after_utc.isoformat())
    with pytest.raises(Conflict, match="1 living certificates are of the old authority") as refused:
        step(world, authorities, Stage.SIGNING)
    assert "--force" in refused.value.hint
    assert trusted(world, old)
    assert step(world, authorities, Stage.SIGNING, force=True).stage is Stage.AT_REST
    assert not trusted(world, old)
    last = list(ledger.everything(world.store))[-1].entry
    assert (last.kind, last.data["broken"]) == ("authority.withdrawn", 1)


@pytest.mark.parametrize("who", ["alice", "zoe"])
def test_only_the_platform_team_may(world: World, authorities: EmbeddedAuthorities, who: str) -> None:
    with pytest.raises(Denied, match="only the platform team may"):
        step(world, authorities, Stage.AT_REST, who)
    with pytest.raises(Denied, match="only the platform team may"):
        rotations(world, authorities).see(world.token(who), "dev")
    with pytest.raises(Denied, match="the session has ended"):
        rotations(world, authorities).rotate("x" * 43, "dev", "at-rest")


def test_what_is_not_ours_is_not_rotated(world: World, authorities: EmbeddedAuthorities) -> None:
    found = rotations(world, authorities)
    with pytest.raises(Invalid, match="lies in Vault"):
        found.see(world.token("olga"), "vaulted")
    with pytest.raises(Invalid, match="there is no cluster `nowhere`"):
        found.see(world.token("olga"), "nowhere")


def test_where_the_ledger_cannot_be_written_nothing_is_rotated(
    world: World, authorities: EmbeddedAuthorities, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise Unavailable("the database is full")

    token = world.token("olga")
    authorities.certificate("dev")
    monkeypatch.setattr(ledger, "append", full)
    with pytest.raises(Unavailable, match="full"):
        rotations(world, authorities).rotate(token, "dev", "at-rest")
    assert key_files(world) == ["ca.key"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"signs": "../prod/ca", "beside": "", "stage": "at-rest"}',
        '{"signs": "ca", "beside": "ca", "stage": "made"}',
        '{"signs": "ca", "beside": "ca-2", "stage": "at-rest"}',
        '{"signs": "ca", "beside": "", "stage": "signing"}',
        '{"signs": "ca-2", "beside": "", "stage": "at-rest"}',
        '{"signs": 5, "beside": "", "stage": "at-rest"}',
    ],
)
def test_a_damaged_shelf_signs_nothing_and_makes_nothing(world: World, text: str) -> None:
    with world.authorities() as authorities:
        authorities.certificate("dev")
    (world.data / "signer/dev" / FILE).write_text(text)
    with world.authorities() as authorities, pytest.raises(Unavailable, match="damaged"):
        authorities.certificate("dev")
    assert key_files(world) == ["ca.key"]


def test_a_shelf_says_itself(tmp_path: Path) -> None:
    for found in (Shelf(), Shelf("ca-2", "ca", Stage.SIGNING)):
        (tmp_path / FILE).write_text(found.text())
        assert read(tmp_path) == found
    assert (Shelf().fresh, Shelf("ca-2").fresh, Shelf("ca-9").fresh) == ("ca-2", "ca-3", "ca-10")
    assert [item.to for item in STEPS] == list(WAY[1:])


def test_the_new_authority_lasts_from_now_on(world: World, authorities: EmbeddedAuthorities) -> None:
    old = authorities.certificate("dev")
    world.later(days=1000)
    until(world, authorities, Stage.SIGNING)
    new = authorities.certificate("dev")
    assert new.not_valid_after_utc - old.not_valid_after_utc == timedelta(days=1000)
    assert new.subject != old.subject  # told apart by people, and by what picks an authority by its name
