"""Attacks on what is signed, and for whom."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import delete
from support.access_values import csr
from support.attacked import System, leaf, new_csr

from pilothouse.access import certificates
from pilothouse.access.grants import Grant, State
from pilothouse.problems import Conflict
from pilothouse.store import certificates as rows
from pilothouse.store import grants as grant_rows
from pilothouse.store.schema import certificates as table
from pilothouse.workflows.self_test import hostile_requests

KEY = ec.generate_private_key(ec.SECP256R1())
HOSTILE = dict(hostile_requests(KEY, "alice"))


@pytest.mark.attack("CSR smuggling")
@pytest.mark.parametrize("asked", HOSTILE)
def test_nothing_of_a_signing_request_but_its_key_is_signed(system: System, asked: str) -> None:
    got = leaf(system.certificate("alice", HOSTILE[asked]))
    assert certificates.subject_of(got) == (("alice",), ("ph:developer:payments",), ())
    assert got.public_key() == KEY.public_key()
    assert certificates.extended_usages(got) == ("1.3.6.1.5.5.7.3.2",)
    with pytest.raises(x509.ExtensionNotFound):
        got.extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest.mark.attack("CSR smuggling")
@pytest.mark.parametrize("field", ["groups", "user", "common_name", "organization", "not_after", "alt_names", "grant"])
def test_a_field_that_no_request_has_is_refused(system: System, field: str) -> None:
    assert system.certificate(**{field: "system:masters"}).status_code == 422


@pytest.mark.attack("CSR smuggling")
def test_keys_of_other_kinds_and_requests_of_others_are_refused(system: System) -> None:
    whole = new_csr()
    lines = whole.splitlines()
    turned = "\n".join([lines[0], lines[1][:20] + ("A" if lines[1][20] != "A" else "B") + lines[1][21:], *lines[2:]])
    for request in (csr(ec.generate_private_key(ec.SECP384R1())), turned, whole * 2, "nonsense"):
        assert system.certificate("alice", request).status_code == 422


@pytest.mark.attack("Key reuse")
def test_a_key_of_another_user_is_refused(system: System) -> None:
    request = new_csr()
    leaf(system.certificate("alice", request))
    other = {"team": "", "cluster": "dev"} if system.site else {}
    refused = system.certificate("olga", request, profile="developer", **({"team": "infra", "cluster": "dev"} | other))
    assert refused.status_code == 403
    assert "used for another user" in refused.text


@pytest.mark.attack("Acting on others' objects, duplicate serial")
def test_what_belongs_to_another_is_neither_ended_nor_claimed(system: System) -> None:
    serial = system.certificate("alice").json()["serial"]
    id = system.elevation("olga", "pat")
    for who in ("bob",):
        assert system.give_back(serial, who).status_code == 403
        assert system.give_back(id, who).status_code == 403
        assert system.claim(id, who).status_code == 403
        assert system.send("POST", f"/api/v1/access/requests/{id}/approve", who, json={}).status_code in (403, 409)
        assert system.send("POST", f"/api/v1/access/requests/{id}/deny", who, json={}).status_code in (403, 409)
        mine = system.send("GET", "/api/v1/access/certificates", who).json()["items"]
        assert serial not in {item["serial"] for item in mine}
        listed = system.send("GET", "/api/v1/access/requests", who).json()
        assert id not in {item["id"] for item in (*listed["mine"], *listed["waiting"])}
        seen = system.send("GET", "/api/v1/access/ledger", who).json()["items"]
        assert {item["actor"] for item in seen} <= {who}
    found = rows.get(system.store, serial)
    assert found is not None
    assert found.state == "issued"
    assert system.give_back(id).status_code == 200


@pytest.mark.attack("Acting on others' objects, duplicate serial")
def test_a_serial_is_given_once(system: System) -> None:
    leaf(system.certificate("alice"))
    (found, *_) = rows.of_user(system.store, "alice")
    with pytest.raises(Conflict), system.store.write() as connection:
        rows.add(connection, found)


@pytest.mark.attack("Approval race, self-approval, replay, zero threshold")
def test_nobody_approves_their_own_request(system: System) -> None:
    id = system.elevation("olga", "")
    assert system.send("POST", f"/api/v1/access/requests/{id}/approve", "olga", json={}).status_code == 403
    assert system.claim(id).status_code == 409
    assert system.send("POST", f"/api/v1/access/requests/{id}/approve", "bob", json={}).status_code == 403
    assert system.give_back(id).status_code == 200


@pytest.mark.attack("Approval race, self-approval, replay, zero threshold")
@pytest.mark.parametrize("by", ["", "olga", "bob", "nobody"])
def test_an_approval_that_counts_for_nothing_is_none_even_in_the_database(system: System, by: str) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    made = _grant(f"g-forged-{by or 'none'}", now, decided_by=by, decided_at=now)
    with system.store.write() as connection:
        grant_rows.put(connection, made)
    assert system.claim(made.id).status_code == 403
    _forget(system, made.id)


@pytest.mark.attack("Approval race, self-approval, replay, zero threshold")
def test_of_claims_at_once_one_gets_a_certificate(system: System) -> None:
    id = system.elevation()
    barrier, codes = threading.Barrier(4), []

    def claim() -> None:
        barrier.wait()
        codes.append(system.claim(id).status_code)

    system.token("olga")
    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [201, 409, 409, 409]
    assert system.claim(id).status_code == 409  # nor is it claimed again later
    assert system.give_back(id).status_code == 200


@pytest.mark.attack("Clock skew")
@pytest.mark.parametrize(("seconds", "status"), [(30, 201), (90, 503)])
def test_a_request_from_the_future_is_not_claimed(system: System, seconds: int, status: int) -> None:
    """Where the portal's clock is ahead of the signer's, for how long an approval holds is not known."""
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
    made = _grant(f"g-ahead-{seconds}", ahead, decided_by="pat", decided_at=ahead)
    with system.store.write() as connection:
        grant_rows.put(connection, made)
    system.token("pat")
    answer = system.claim(made.id)
    assert answer.status_code == status, answer.text
    if status == 503:
        assert "clock of the signer" in answer.text
    _forget(system, made.id)


def _grant(id: str, at: datetime, **fields: Any) -> Grant:
    return Grant(
        id,
        "olga",
        "cluster-admin",
        "dev",
        "to repair a node",
        1800,
        at,
        State.APPROVED,
        at + timedelta(hours=1),
        **fields,
    )


def _forget(system: System, id: str) -> None:
    """What was put there by hand is taken out, so that it stands in no other test's way."""
    from pilothouse.store.schema import grants

    with system.store.write() as connection:
        connection.execute(delete(grants).where(grants.c.id == id))
        connection.execute(delete(table).where(table.c.grant_id == id))
