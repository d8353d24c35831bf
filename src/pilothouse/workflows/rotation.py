"""A cluster's authority is rotated, one stage at a time; in the signer's process, which alone has the keys.

Who may is decided here by the session, as for a certificate. Each stage is recorded before it is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509

from pilothouse.access import certificates
from pilothouse.access.ledger import Entry, Head
from pilothouse.access.permissions import Action, Person, may
from pilothouse.access.rotation import Authority, Rotation, Stage
from pilothouse.platform.model import Platform
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, one_of
from pilothouse.store import Store, ledger
from pilothouse.store import certificates as rows
from pilothouse.workflows.people import People


class Shelf(Protocol):
    @property
    def stage(self) -> Stage: ...


class Held(Protocol):
    """A cluster's authorities: certificate and key of each."""

    @property
    def shelf(self) -> Shelf: ...
    @property
    def signs(self) -> tuple[x509.Certificate, object]: ...
    @property
    def beside(self) -> tuple[x509.Certificate, object] | None: ...


class Keys(Protocol):
    """`signer.keys.EmbeddedAuthorities`."""

    def held(self, cluster: str) -> Held: ...
    def turn(self, cluster: str, to: Stage) -> Held: ...


@dataclass(frozen=True, slots=True)
class Rotations:
    store: Store
    platform: Callable[[], Platform]
    keys: Keys
    clock: Callable[[], datetime]
    exported: Callable[[Head], None]
    people: People
    in_vault: Callable[[str], Held] | None = None
    """The authorities of a cluster for which Vault signs."""

    def see(self, token: str, cluster: str) -> Rotation:
        """How far it is, and so what the next run does. Raises our exceptions."""
        platform = self.platform()
        self._administrator(platform, token)
        return self._seen(platform, cluster)

    def rotate(self, token: str, cluster: str, begun: str, *, trusted: bool = False, force: bool = False) -> Rotation:
        """The next stage after `begun`, the one that the caller has seen: a command sent twice takes one step.

        `trusted` says that every API server has the bundle with both, which cannot be seen from here. `force`
        withdraws an authority while certificates of it are alive.
        """
        platform = self.platform()
        person = self._administrator(platform, token)
        seen = self._seen(platform, cluster)
        if seen.stage.value != begun:
            raise Conflict(
                f"the rotation of {cluster} is at {seen.stage}, not at {begun or 'a stage that was named'}",
                f"look again: pilothouse access ca plan --cluster {cluster}",
            )
        to = seen.next.to
        if to is Stage.SIGNING and not trusted:
            raise Invalid(
                f"whether every API server of {cluster} trusts the new authority cannot be seen from here",
                "give them the bundle, then say so with --trusted: else they refuse every new certificate",
            )
        if to is Stage.AT_REST and seen.alive and not force:
            raise Conflict(
                f"{seen.alive} living certificates are of the old authority, the last until {seen.last_ends}",
                "wait for them, or say --force: their holders need new ones at once",
            )
        now = self.clock()
        broken = {"broken": seen.alive} if to is Stage.AT_REST and seen.alive else {}
        self._record(person, cluster, f"authority.{_WORDS[to]}", _about(seen) | broken, now)
        if platform.clusters[cluster].authority.backend != "embedded":
            return seen  # recorded; the stage is taken by whoever asked, with a token that never comes here
        try:
            self.keys.turn(cluster, to)
        except PilothouseError as failure:
            self._record(person, cluster, "authority.failed", {"why": failure.message, "to": to.value}, self.clock())
            raise
        return self._seen(platform, cluster)

    def _administrator(self, platform: Platform, token: str) -> Person:
        person = self.people.asker(platform, self.people.asking(token, self.clock()))
        decision = may(person, Action.ADMINISTER, None, platform)
        if not decision:
            raise Denied(decision.why, f"ask {', '.join(decision.whom_to_ask)}" if decision.whom_to_ask else "")
        return person

    def _seen(self, platform: Platform, cluster: str) -> Rotation:
        declared = platform.clusters.get(cluster)
        if declared is None:
            raise Invalid(f"there is no cluster `{cluster}`", one_of(platform.clusters))
        backend = declared.authority.backend
        if backend == "embedded":
            held = self.keys.held(cluster)
        elif self.in_vault is not None:
            held = self.in_vault(cluster)
        else:
            raise Invalid(f"the authority of {cluster} lies in Vault, which is asked by the signer alone")
        alive: tuple[rows.Certificate, ...] = ()
        if held.shelf.stage is Stage.SIGNING and held.beside:
            old = held.beside[0]
            living = rows.living_on(self.store, cluster, self.clock())
            alive = tuple(row for row in living if _signed_by(row.pem, old))
        return Rotation(
            cluster,
            held.shelf.stage,
            _authority(held.signs[0]),
            _authority(held.beside[0]) if held.beside else None,
            len(alive),
            max(row.not_after for row in alive).isoformat() if alive else "",
            backend,
        )

    def _record(self, person: Person, cluster: str, kind: str, data: dict[str, object], now: datetime) -> None:
        with self.store.write() as connection:
            recorded = ledger.append(connection, Entry(kind, person.user, cluster, cluster, data), now)
        self.exported(recorded.head)


_WORDS = {Stage.MADE: "made", Stage.TRUSTED: "trusted", Stage.SIGNING: "signing", Stage.AT_REST: "withdrawn"}


def _about(seen: Rotation) -> dict[str, object]:
    data: dict[str, object] = {"from": seen.stage.value, "signs": seen.signs.fingerprint}
    return data | ({"other": seen.other.fingerprint} if seen.other else {})


def _authority(certificate: x509.Certificate) -> Authority:
    name = ", ".join(str(item.value) for item in certificate.subject)
    return Authority(certificates.fingerprint(certificate), name, certificate.not_valid_after_utc.isoformat())


def _signed_by(pem: str, authority: x509.Certificate) -> bool:
    return bool(pem) and certificates.is_signed_by(x509.load_pem_x509_certificate(pem.encode()), authority)
