"""The whole way: a browser at the portal, the signer as a process of its own, the ledger, an authority per cluster."""

import re
import threading
from datetime import UTC, datetime

import pytest
from cryptography import x509
from support.access_portal import USERS
from support.access_values import csr, key
from support.access_world import write_platform
from support.portal import Clock, bearer, login, make_app

from pilothouse.access import certificates
from pilothouse.access.ledger import Head
from pilothouse.signer import spawn
from pilothouse.store import certificates as rows
from pilothouse.store import ledger


@pytest.fixture
def app(tmp_path):
    root = write_platform(tmp_path / "platform")
    users = {name: USERS[name] for name in ("alice", "olga", "pat")}
    made = make_app(tmp_path, root=root, users_=users, clock=Clock(datetime.now(UTC)))
    child = spawn.start(tmp_path / "data", root)
    yield made
    spawn.stop(child)


def authority(tmp_path, cluster):
    return x509.load_pem_x509_certificate((tmp_path / f"data/authorities/{cluster}.crt").read_bytes())


def test_from_a_pasted_request_to_a_certificate_of_one_cluster(app, tmp_path):
    alice = login(app, "alice")
    response = alice.post("/access/profiles/developer/certificate", data={"cluster": "dev", "csr": csr(key("alice"))})
    pem = re.search(r"-----BEGIN CERTIFICATE-----[^<]*-----END CERTIFICATE-----", response.get_data(as_text=True))
    leaf = x509.load_pem_x509_certificate(pem.group(0).encode())
    assert certificates.is_signed_by(leaf, authority(tmp_path, "dev"))
    assert not certificates.is_signed_by(leaf, authority(tmp_path, "prod"))
    assert leaf.public_key() == key("alice").public_key()

    store = app.config["STORE"]
    intent, outcome = ledger.everything(store)
    assert [intent.entry.kind, outcome.entry.kind] == ["certificate.intent", "certificate.issued"]
    assert intent.entry.subject == outcome.entry.subject == str(leaf.serial_number)
    kept = Head.parse((tmp_path / "data/signer/head").read_text())
    assert ledger.verify(store, [kept]) == ((), kept)

    with store.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER ledger_never_changes")
        connection.exec_driver_sql("UPDATE ledger SET text = replace(text, 'alice', 'mallory') WHERE sequence = 1")
    problems, _ = ledger.verify(store, [kept])
    assert {problem.code for problem in problems} == {"access/ledger-broken"}


def test_an_elevation_is_approved_by_another_and_claimed_once(app, tmp_path):
    olga, pat = bearer(app, "olga"), bearer(app, "pat")

    def post(path, headers, body, status):
        response = app.test_client().bare_post(f"/api/v1/access{path}", json=body, headers=headers)
        assert status in (0, response.status_code), response.get_data(as_text=True)
        return response

    body = {"profile": "cluster-admin", "cluster": "dev", "reason": "replace a node"}
    id = post("/requests", olga, body, 201).json["id"]
    post(f"/requests/{id}/claim", olga, {"csr": csr(key("olga"))}, 409)
    post(f"/requests/{id}/approve", olga, {}, 403)
    post(f"/requests/{id}/approve", pat, {}, 200)

    barrier, answers = threading.Barrier(3), []

    def claim(request):
        barrier.wait()
        answers.append(post(f"/requests/{id}/claim", olga, {"csr": request}, 0))

    threads = [threading.Thread(target=claim, args=(csr(key(f"olga{n}")),)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    store = app.config["STORE"]
    assert [row.state for row in rows.of_user(store, "olga")] == ["issued"]
    kinds = [entry.entry.kind for entry in ledger.everything(store)]
    assert kinds == ["elevation.requested", "elevation.approved", "certificate.intent", "certificate.issued"]


def test_a_signer_that_was_killed_leaves_a_portal_that_says_so(tmp_path):
    root = write_platform(tmp_path / "platform")
    app = make_app(tmp_path, root=root, users_={"alice": USERS["alice"]}, clock=Clock(datetime.now(UTC)))
    child = spawn.start(tmp_path / "data", root)
    child.kill()
    child.wait()
    alice = bearer(app, "alice")
    body = {"profile": "developer", "cluster": "dev", "csr": csr(key("alice"))}
    response = app.test_client().bare_post("/api/v1/access/certificates", json=body, headers=alice)
    assert response.status_code == 503
    again = spawn.start(tmp_path / "data", root)
    try:
        response = app.test_client().bare_post("/api/v1/access/certificates", json=body, headers=alice)
        assert response.status_code == 201
    finally:
        spawn.stop(again)
