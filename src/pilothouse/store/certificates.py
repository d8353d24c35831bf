"""Certificates as rows: there before the signature, filled in after it. Never a private key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, exists, func, insert, or_, select, update

from pilothouse.store.database import Store
from pilothouse.store.schema import certificates


class State(StrEnum):
    INTENT = "intent"
    """About to be signed; where it stays so, the signer ended in between and nothing was handed out."""
    ISSUED = "issued"
    FAILED = "failed"
    GIVEN_BACK = "given-back"


@dataclass(frozen=True, slots=True)
class Certificate:
    """`serial` is decimal, as the API server's audit events have it; `key_sha256` names the public key."""

    cluster: str
    serial: str
    user: str
    profile: str
    groups: tuple[str, ...]
    key_sha256: str
    asked_at: datetime
    not_after: datetime
    grant_id: str = ""
    fingerprint: str = ""
    state: State = State.INTENT
    ended_at: datetime | None = None
    pem: str = ""
    session: str = ""
    """The id (hash) of the session that it was signed for."""
    address: str = ""
    """From where it was asked for, as the portal says."""

    def is_alive(self, now: datetime) -> bool:
        """Issued, not given back and not at its end."""
        return self.state is State.ISSUED and now < self.not_after


# Made once: a statement costs as much to make as to run, and these run for every certificate.
_ADD = insert(certificates)
_ISSUED = update(certificates).where(
    certificates.c.cluster == bindparam("its_cluster"), certificates.c.serial == bindparam("intent")
)
_ITS_KEY = select(certificates.c.user).where(certificates.c.key_sha256 == bindparam("key"))
# Below and above are found by the index at once; "other than" would look at every row of the key.
_OF_ANOTHER_USER = select(
    or_(
        exists(_ITS_KEY.where(certificates.c.user < bindparam("user"))),
        exists(_ITS_KEY.where(certificates.c.user > bindparam("user"))),
    )
)


def add(connection: Connection, certificate: Certificate) -> None:
    """The row of an intent. A serial that is taken is a `Conflict` of the transaction."""
    values = {
        "cluster": certificate.cluster,
        "serial": certificate.serial,
        "user": certificate.user,
        "profile": certificate.profile,
        "groups": list(certificate.groups),
        "grant_id": certificate.grant_id,
        "key_sha256": certificate.key_sha256,
        "state": certificate.state.value,
        "asked_at": certificate.asked_at,
        "not_after": certificate.not_after,
        "session": certificate.session,
        "address": certificate.address,
    }
    connection.execute(_ADD, values)


def issued(
    connection: Connection,
    cluster: str,
    intent: str,
    fingerprint: str,
    not_after: datetime,
    pem: str,
    serial: str = "",
) -> None:
    """It was signed and is about to be handed out. `serial` is its own, where it is not that of the intent."""
    values = {
        "state": State.ISSUED.value,
        "fingerprint": fingerprint,
        "not_after": not_after,
        "pem": pem,
        "serial": serial or intent,
    }
    connection.execute(_ISSUED, values | {"its_cluster": cluster, "intent": intent})


def end(connection: Connection, cluster: str, serial: str, state: State, at: datetime) -> None:
    """It failed, or was given back."""
    connection.execute(update(certificates).where(_is(cluster, serial)).values(state=state.value, ended_at=at))


def is_of_another_user(connection: Connection, key_sha256: str, user: str) -> bool:
    """Whether that key was used for another user before."""
    return bool(connection.execute(_OF_ANOTHER_USER, {"key": key_sha256, "user": user}).scalar_one())


def get(store: Store, serial: str, cluster: str = "") -> Certificate | None:
    """By serial; 128 random bits of it make the cluster a matter of form."""
    condition = certificates.c.serial == serial
    if cluster:
        condition &= certificates.c.cluster == cluster
    with store.read() as connection:
        row = connection.execute(select(certificates).where(condition)).mappings().first()
    return _certificate(row) if row else None


def by_fingerprint(store: Store, fingerprint: str) -> Certificate | None:
    """By the SHA-256 of the certificate, in hex."""
    if not fingerprint:
        return None
    with store.read() as connection:
        row = (
            connection.execute(select(certificates).where(certificates.c.fingerprint == fingerprint)).mappings().first()
        )
    return _certificate(row) if row else None


def since(store: Store, moment: datetime) -> tuple[Certificate, ...]:
    """What was issued since, the oldest first; without the certificates' texts."""
    condition = (certificates.c.asked_at >= moment) & certificates.c.state.in_(
        (State.ISSUED.value, State.GIVEN_BACK.value)
    )
    columns = [column for column in certificates.c if column.name != "pem"]
    with store.read() as connection:
        rows = connection.execute(select(*columns).where(condition).order_by(certificates.c.asked_at)).mappings()
        return tuple(_certificate({**row, "pem": ""}) for row in rows)


def given_back(connection: Connection, now: datetime) -> tuple[Certificate, ...]:
    """Those that were given back before their end, and that a copy of the key could still use."""
    condition = (certificates.c.state == State.GIVEN_BACK.value) & (certificates.c.not_after > now)
    rows = connection.execute(select(certificates).where(condition)).mappings()
    return tuple(_certificate(row) for row in rows)


def alive_at(store: Store, now: datetime, cluster: str = "") -> tuple[Certificate, ...]:
    """Every living certificate, by user; of one cluster where it is named."""
    condition = _alive(now)
    if cluster:
        condition &= certificates.c.cluster == cluster
    with store.read() as connection:
        query = select(certificates).where(condition).order_by(certificates.c.user, certificates.c.asked_at)
        return tuple(_certificate(row) for row in connection.execute(query).mappings())


def of_user(store: Store, user: str, now: datetime | None = None, limit: int = 100) -> tuple[Certificate, ...]:
    """A person's certificates, the newest first; with `now` only the living ones."""
    condition: ColumnElement[bool] = certificates.c.user == user
    if now is not None:
        condition &= _alive(now)
    with store.read() as connection:
        rows = connection.execute(
            select(certificates).where(condition).order_by(certificates.c.asked_at.desc()).limit(limit)
        ).mappings()
        return tuple(_certificate(row) for row in rows)


def living_on(store: Store, cluster: str, now: datetime) -> tuple[Certificate, ...]:
    """Every living certificate of a cluster."""
    query = select(certificates).where((certificates.c.cluster == cluster) & _alive(now))
    with store.read() as connection:
        return tuple(_certificate(row) for row in connection.execute(query).mappings())


def alive(store: Store, now: datetime) -> dict[str, int]:
    """How many certificates are alive, by profile."""
    with store.read() as connection:
        rows = connection.execute(
            select(certificates.c.profile, func.count()).where(_alive(now)).group_by(certificates.c.profile)
        )
        return {row[0]: row[1] for row in rows}


def _alive(now: datetime) -> ColumnElement[bool]:
    return (certificates.c.state == State.ISSUED.value) & (certificates.c.not_after > now)


def _is(cluster: str, serial: str) -> ColumnElement[bool]:
    return (certificates.c.cluster == cluster) & (certificates.c.serial == serial)


def _certificate(row: Any) -> Certificate:
    return Certificate(
        row["cluster"],
        row["serial"],
        row["user"],
        row["profile"],
        tuple(row["groups"]),
        row["key_sha256"],
        row["asked_at"],
        row["not_after"],
        row["grant_id"],
        row["fingerprint"],
        State(row["state"]),
        row["ended_at"],
        row["pem"],
        row["session"],
        row["address"],
    )
