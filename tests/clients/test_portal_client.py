import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pilothouse.clients.portal import PortalClient, address
from pilothouse.problems import Conflict, Denied, Invalid, Unavailable


@pytest.fixture
def server():
    """A portal that answers with `status` and `body`, and keeps what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            length = int(self.headers.get("Content-Length") or 0)
            self.server.asked.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
            self.send_response(self.server.status)
            self.send_header("Location", "https://evil.example/")
            self.end_headers()
            self.wfile.write(self.server.body)

        def log_message(self, *_):
            return None

    for method in ("GET", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)
    made = HTTPServer(("127.0.0.1", 0), Handler)
    made.asked, made.status, made.body = [], 200, b"{}"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def client(server, token="secret"):
    return PortalClient(f"http://127.0.0.1:{server.server_port}/", token)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://p.bank.example/", "https://p.bank.example"),
        ("p.bank.example", "https://p.bank.example"),
        ("http://localhost:8420", "http://localhost:8420"),
        ("http://[::1]:8420", "http://[::1]:8420"),
        ("https://bank.example/pilothouse/", "https://bank.example/pilothouse"),
    ],
)
def test_addresses(given, expected):
    assert address(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "", "ftp://x", "http://p.bank.example", "https://u:p@x", "https://", "https://x?y=1", "https://x:port",
        "http://127.0.0.1.evil.example", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_addresses_that_are_refused(given):
    with pytest.raises(Invalid):
        address(given)


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (401, Denied),
        (403, Denied),
        (404, Invalid),
        (422, Invalid),
        (409, Conflict),
        (429, Unavailable),
        (503, Unavailable),
    ],
)
def test_refusals_are_what_they_were(server, status, failure):
    server.status = status
    server.body = json.dumps({"title": "t", "detail": "in its own words", "hint": "do that"}).encode()
    with pytest.raises(failure, match="in its own words") as caught:
        client(server).requests()
    assert caught.value.hint == "do that"
    server.body = b"<html>"
    with pytest.raises(failure):
        client(server).requests()


def test_a_token_is_not_carried_elsewhere(server):
    server.status = 302
    with pytest.raises(Invalid, match="leads elsewhere"):
        client(server).requests()
    assert len(server.asked) == 1


def test_ids_cannot_leave_their_place_in_the_path(server):
    client(server).give_back("../../session?x#y")
    assert server.asked[0][1] == "/api/v1/access/give-back/..%2F..%2Fsession%3Fx%23y"
    assert server.asked[0][2]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("body", [b"nonsense", b"[1]", b"{}"])
def test_answers_of_something_else(server, body):
    server.body = body
    with pytest.raises(Unavailable, match="no pilothouse"):
        client(server).profiles()
    with pytest.raises(Unavailable, match="no pilothouse"):
        client(server).login("alice", "password")
    with pytest.raises(Unavailable, match="no pilothouse"):
        client(server).claim("g", "csr")


def test_filters_of_the_ledger(server):
    client(server).ledger(kind="certificate", actor="")
    assert server.asked[0][1] == "/api/v1/access/ledger?kind=certificate"
    client(server).ledger()
    assert server.asked[1][1] == "/api/v1/access/ledger"
    client(server).logout()
    assert server.asked[2][0] == "DELETE"


def test_a_portal_that_is_away(tmp_path):
    with pytest.raises(Unavailable, match="does not answer: Connection refused"):
        PortalClient("http://127.0.0.1:1").profiles()
    with pytest.raises(Unavailable, match="does not answer"):
        PortalClient("https://nowhere.invalid").profiles()
    with pytest.raises(Invalid, match="holds no authority"):
        PortalClient("https://p.bank.example", ca_file=str(tmp_path / "none.pem"))


def test_a_certificate_that_is_not_trusted():
    import ssl

    failure = ssl.SSLCertVerificationError(1, "x")
    failure.verify_message = "self-signed certificate"
    found = PortalClient("https://p.bank.example")._away(failure)
    assert (found.message, found.hint) == (
        "the certificate of https://p.bank.example is not trusted: self-signed certificate",
        "give its authority with --ca-file",
    )
