"""The portal with an in-process signer, on the platform of `support.access_world`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from support.access_world import PEOPLE, World, write_platform
from support.portal import Clock, make_app

from pilothouse.access import certificates
from pilothouse.access.certificates import Issued
from pilothouse.workflows.issuance import Ask, Issuance

USERS = {
    name: {"groups": groups, "email": f"{name}@bank.example", "display_name": name.capitalize()}
    for name, groups in PEOPLE.items()
}


class InProcess:
    """`workflows.access.Signer` without a socket."""

    def __init__(self) -> None:
        self.issuance: Issuance | None = None

    def sign(self, token: str, csr: str, **fields: Any) -> Issued:
        assert self.issuance is not None
        return self.issuance.issue(Ask(token, csr, **fields))

    def authority(self, cluster: str) -> str:
        assert self.issuance is not None
        return certificates.pem(self.issuance.authorities.certificate(cluster))


class Heard:
    """A notifier that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def tell(self, message: Any) -> None:
        self.messages.append(message)


@contextmanager
def access_portal(
    tmp_path: Path,
    names: tuple[str, ...] = tuple(USERS),
    prepare: Callable[[Path], object] = lambda _root: None,
    **settings: Any,
) -> Iterator[tuple[Flask, World, Heard]]:
    """(application, world, what people were told). `prepare` is given the platform's folder first. The world's clock is
    the application's."""
    signer, heard = InProcess(), Heard()
    root = write_platform(tmp_path / "platform")
    prepare(root)
    extra = {"signer": signer, "notifier": heard, **settings.pop("extra", {})}
    users = {name: USERS[name] for name in names}
    app = make_app(tmp_path, root=root, users_=users, extra=extra, **settings)
    clock: Clock = app.config["CLOCK"]
    world = World(tmp_path / "data", root, app.config["STORE"], clock.moment)
    world.clock = clock  # type: ignore[method-assign]  # one clock for both
    with world.authorities() as authorities:
        signer.issuance = world.issuance(authorities)
        yield app, world, heard
