"""The webhook over real TLS on the loopback address."""

import http.client
import json
import ssl
import threading
from datetime import timedelta
from functools import partial

import pytest
from support.access_values import NOW
from support.bed.pki import Authority

from pilothouse.access import locks as machine
from pilothouse.access.locks import Kind, Target
from pilothouse.problems import Invalid, Unavailable
from pilothouse.store import Store, ledger, locks
from pilothouse.webhook import settings
from pilothouse.webhook.memory import REMEMBER, STALE, Memory
from pilothouse.webhook.server import Server, Tls

ALICE = Target(Kind.USER, "alice", "alice")


class Site:
    """A webhook on a store, clocks that the test moves, and a client."""

    def __init__(self, folder, client_ca=False):
        self.store = Store(folder / "data")
        self.store.migrate()
        self.now, self.seconds, self.away = NOW, 100.0, False
        self.memory = Memory(self._read, partial(locks.used, self.store), lambda: self.now, lambda: self.seconds)
        self.authority = Authority(folder, "webhook authority")
        pair = self.authority.server("webhook")
        tls = Tls(pair.certificate, pair.key, self.authority.file if client_ca else None)
        self.server = Server("127.0.0.1", 0, tls, self.memory)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def _read(self, now):
        if self.away:
            raise Unavailable("the database is away")
        return locks.held(self.store, now)

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        self.store.close()

    def connect(self, pair=None):
        context = ssl.create_default_context(cafile=self.authority.file)
        if pair:
            context.load_cert_chain(pair.certificate, pair.key)
        return http.client.HTTPSConnection("127.0.0.1", self.server.server_address[1], context=context, timeout=5)

    def ask(self, connection=None, user="alice", path="/authorize/prod", body=None, status=200):
        used = connection or self.connect()
        spec = {"user": user, "groups": ["ph:developer:payments"]}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        used.request("POST", path, json.dumps(review) if body is None else body, {"Content-Type": "application/json"})
        response = used.getresponse()
        text = response.read().decode()
        assert response.status == status, text
        if connection is None:
            used.close()
        return json.loads(text)["status"] if status == 200 else text

    def get(self, path):
        used = self.connect()
        used.request("GET", path)
        response = used.getresponse()
        text = response.read().decode()
        used.close()
        return response.status, text

    def lock(self, id="l-1", target=ALICE):
        locks.put(self.store, machine.lock(id, target, "olga", "lost laptop", self.now))


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.close()


def test_locked_is_denied_and_lifted_is_nobodys_business(site):
    site.memory.refresh()
    connection = site.connect()
    assert site.ask(connection) == {"allowed": False}
    site.lock()
    assert site.ask(connection) == {"allowed": False}
    site.memory.refresh()
    answer = site.ask(connection, path="/authorize/prod?timeout=1s")
    assert (answer["allowed"], answer["denied"]) == (False, True)
    assert "alice is locked by olga" in answer["reason"]
    assert site.ask(connection, user="bob") == {"allowed": False}
    locks.lift(site.store, Kind.USER, "alice", "pat", "", NOW)
    site.memory.refresh()
    assert site.ask(connection) == {"allowed": False}
    connection.close()


def test_what_was_locked_stays_locked_while_the_database_is_away(site):
    site.lock()
    site.memory.refresh()
    site.away = True
    assert not site.memory.refresh()
    site.seconds += STALE + 1
    assert site.ask()["denied"]
    assert site.get("/readyz") == (503, "the database is away\n")
    assert site.get("/livez")[0] == 200
    site.away = False
    site.memory.refresh()
    assert site.get("/readyz") == (200, "ok\n")


def test_before_the_first_reading_there_is_no_answer(site):
    assert "not read yet" in site.ask(status=503)
    assert site.get("/readyz")[0] == 503


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/authorize/prod", "{", 400),
        ("/authorize/prod", "[" * 100_000, 400),
        ("/authorize/prod", "{}", 400),
        ("/authorize/prod", b"\xff\xfe", 400),
        ("/authorize/../prod", "{}", 404),
        ("/authorize/prod/x", "{}", 404),
        ("/", "{}", 404),
    ],
)
def test_what_cannot_be_answered_is_an_error_and_no_opinion(site, path, body, status):
    site.memory.refresh()
    site.ask(path=path, body=body, status=status)
    assert 'answer="error"} 1.0' in site.get("/metrics")[1]
    assert site.ask() == {"allowed": False}


@pytest.mark.parametrize("length", [str(256 * 1024 + 1), "-1", "many", ""])
def test_a_review_says_its_length(site, length):
    site.memory.refresh()
    connection = site.connect()
    connection.putrequest("POST", "/authorize/prod")
    if length:
        connection.putheader("Content-Length", length)
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_use_of_what_is_locked_is_recorded_now_and_then(site):
    site.lock()
    site.memory.refresh()
    for _ in range(3):
        site.ask()
    site.ask(path="/authorize/dev")
    assert site.memory.write_uses() == 2
    site.now += REMEMBER
    site.ask()
    assert site.memory.write_uses() == 1
    found = [(entry.entry.kind, entry.entry.cluster) for entry in ledger.everything(site.store)]
    assert found == [("lock.set", ""), ("lock.used", "prod"), ("lock.used", "dev"), ("lock.used", "prod")]
    numbers = site.get("/metrics")[1]
    assert 'pilothouse_webhook_reviews_total{answer="denied"} 5.0' in numbers
    assert "pilothouse_webhook_locked 1.0" in numbers


def test_a_use_that_cannot_be_written_waits(site, monkeypatch):
    site.lock()
    site.memory.refresh()
    site.ask()
    recorded = site.memory._record

    def away(*_):
        raise Unavailable("the database is away")

    monkeypatch.setattr(site.memory, "_record", away)
    assert site.memory.write_uses() == 0
    monkeypatch.setattr(site.memory, "_record", recorded)
    assert site.memory.write_uses() == 1


def test_with_an_authority_for_clients_a_review_needs_a_certificate(tmp_path):
    site = Site(tmp_path, client_ca=True)
    try:
        site.memory.refresh()
        assert "client certificate" in site.ask(status=403)
        assert site.get("/readyz")[0] == 200
        connection = site.connect(site.authority.client("api-server"))
        assert site.ask(connection) == {"allowed": False}
        connection.close()
        (tmp_path / "other").mkdir()
        stranger = site.connect(Authority(tmp_path / "other", "other").client("api-server"))
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            site.ask(stranger)
        stranger.close()
    finally:
        site.close()


def test_a_renewed_certificate_is_taken_up(site):
    assert not site.server.renew_certificate()
    site.server.tls.certificate.write_text("nonsense")
    assert not site.server.renew_certificate()
    pair = site.authority.server("again")
    site.server.tls.certificate.write_bytes(pair.certificate.read_bytes())
    site.server.tls.key.write_bytes(pair.key.read_bytes())
    assert site.server.renew_certificate()
    assert site.get("/livez")[0] == 200


def test_settings_of_the_data_folder(tmp_path):
    path = tmp_path / settings.FILE
    assert settings.read(path) is None
    path.write_text("certFile: /a.crt\nkeyFile: /a.key\nport: 9443\n")
    found = settings.read(path)
    assert (found.host, found.port, str(found.certificate), found.client_ca) == ("127.0.0.1", 9443, "/a.crt", None)
    for text, message in (("certFile: /a.crt\n", "keyFile"), ("cert: x\n", "webhook.yaml"), ("a: [", "webhook.yaml")):
        path.write_text(text)
        with pytest.raises(Invalid, match=message):
            settings.read(path)
    with pytest.raises(Invalid, match="cannot use"):
        Tls(tmp_path / "none.crt", tmp_path / "none.key").context()


def test_time_that_passes_ends_a_lock_without_a_reading(site):
    locks.put(site.store, machine.lock("l-1", ALICE, "olga", "lost laptop", NOW, NOW + timedelta(minutes=1)))
    site.memory.refresh()
    assert site.ask()["denied"]
    site.now += timedelta(minutes=1)
    assert site.ask() == {"allowed": False}
