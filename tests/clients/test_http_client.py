"""The HTTP client against a server that behaves and one that does not: what is sent, what becomes of an answer."""

from __future__ import annotations

import base64
import gzip
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.http_stub import Asked, Reply, Stub, stub

from pilothouse.clients import http
from pilothouse.clients.calls import ONCE, Retry
from pilothouse.clients.http import Http, TryLater
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, Unavailable

QUICK = Retry(attempts=3, sleep=lambda _: None)


@pytest.fixture
def server() -> Iterator[Stub]:
    with stub() as made:
        yield made


def client(url: str, **fields: Any) -> Http:
    endpoint = fields.pop("endpoint", None) or Endpoint(url)
    return Http(endpoint, "prometheus", **{"retry": QUICK, "read": 10.0, "total": 20.0, **fields})


def answers(server: Stub, *replies: Reply) -> None:
    """These one after the other, the last for all that follow."""
    left = list(replies)
    server.answer = lambda _: left.pop(0) if len(left) > 1 else left[0]


def test_json_goes_out_and_comes_back(server: Stub) -> None:
    server.answer = lambda asked: Reply(body={"got": asked.body.decode(), "path": asked.path})
    found = client(f"{server.url}/base/").request("POST", "/x", "ask", {"q": "a b", "m": ["1", "2"]}, {"a": 1})
    assert found.body == {"got": '{"a": 1}', "path": "/base/x?q=a+b&m=1&m=2"}
    (asked,) = server.asked
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["User-Agent"] == "pilothouse"
    assert "Authorization" not in asked.headers


@pytest.mark.parametrize(
    ("body", "parsed", "text"), [(b"", None, ""), (b"ready\n", None, "ready\n"), (b"[1]", [1], "")]
)
def test_an_answer_that_is_no_json_is_text(server: Stub, body: bytes, parsed: Any, text: str) -> None:
    answers(server, Reply(body=body))
    found = client(server.url).request("GET", "/", "ask")
    assert (found.body, found.text) == (parsed, text)


def test_compressed_answers_are_read(server: Stub) -> None:
    answers(server, Reply(body=gzip.compress(b'{"a": 1}'), headers={"Content-Encoding": "gzip"}))
    assert client(server.url).get("/", "ask") == {"a": 1}


def test_the_token_file_is_read_for_every_request(server: Stub, tmp_path: Path) -> None:
    file = tmp_path / "token"
    given = client("", endpoint=Endpoint(server.url, str(file)))
    for token in ("first", "second"):
        file.write_text(f"{token}\n")
        given.get("/", "ask")
    key = client("", endpoint=Endpoint(server.url, str(file)), scheme="ApiKey")
    key.get("/", "ask")
    user = client("", endpoint=Endpoint(server.url, str(file), user="carol"))
    user.get("/", "ask")
    sent = [asked.headers["Authorization"] for asked in server.asked]
    basic = base64.b64encode(b"carol:second").decode()
    assert sent == ["Bearer first", "Bearer second", "ApiKey second", f"Basic {basic}"]


def test_a_token_file_that_cannot_be_read_is_named(server: Stub, tmp_path: Path) -> None:
    given = client("", endpoint=Endpoint(server.url, str(tmp_path / "none")))
    with pytest.raises(Unavailable, match=r"token file .*none.*No such file"):
        given.get("/", "ask")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    given = client("", endpoint=Endpoint(server.url, str(tmp_path / "bytes")))
    with pytest.raises(Unavailable, match="it is no text"):
        given.get("/", "ask")
    assert server.asked == []


@pytest.mark.parametrize(
    ("status", "kind", "requests"),
    [
        (301, Invalid, 1),
        (400, Invalid, 1),
        (401, Denied, 1),
        (403, Denied, 1),
        (404, Invalid, 1),
        (409, Conflict, 1),
        (412, Conflict, 1),
        (422, Invalid, 1),
        (429, Unavailable, 3),
        (500, Unavailable, 3),
        (503, Unavailable, 3),
    ],
)
def test_every_status_has_its_exception(server: Stub, status: int, kind: type[PilothouseError], requests: int) -> None:
    answers(server, Reply(status, {"error": "because of that"}, {"Location": f"{server.url}/elsewhere"}))
    with pytest.raises(kind) as refusal:
        client(server.url).get("/x", "ask")
    assert type(refusal.value) in (kind, TryLater)
    assert refusal.value.message == f"prometheus at {server.url} answered {status} to GET /x: because of that"
    assert refusal.value.hint
    # What may be repeated is; a redirect is not followed.
    assert [asked.path for asked in server.asked] == ["/x"] * requests


@pytest.mark.parametrize(("method", "repeatable", "requests"), [
    ("GET", None, 3), ("PUT", None, 3), ("DELETE", None, 3), ("POST", None, 1), ("POST", True, 3), ("PUT", False, 1),
])  # fmt: skip
def test_only_what_may_be_repeated_is(server: Stub, method: str, repeatable: bool | None, requests: int) -> None:
    answers(server, Reply(503))
    with pytest.raises(Unavailable):
        client(server.url).request(method, "/", "ask", repeatable=repeatable)
    assert len(server.asked) == requests


def test_a_server_that_recovers_is_no_failure(server: Stub) -> None:
    answers(server, Reply(503), Reply(429, headers={"Retry-After": "0"}), Reply(body={"up": True}))
    assert client(server.url).get("/", "ask") == {"up": True}


def test_the_server_says_when(server: Stub) -> None:
    pauses: list[float] = []
    answers(server, Reply(429, headers={"Retry-After": "7"}), Reply())
    client(server.url, retry=Retry(sleep=pauses.append)).get("/", "ask")
    assert pauses == [7.0]
    answers(server, Reply(503, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}))
    with pytest.raises(TryLater) as refusal:
        client(server.url, retry=ONCE).get("/", "ask")
    assert refusal.value.retry_after == 0.0


def test_long_reasons_are_cut_and_stay_on_one_line(server: Stub) -> None:
    answers(server, Reply(400, b"<html>\n" + b"word " * 1000))
    with pytest.raises(Invalid) as refusal:
        client(server.url).get("/", "ask")
    assert "\n" not in refusal.value.message
    assert len(refusal.value.message) < 1000


def test_an_answer_without_end_is_not_taken(server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER", 1000)
    answers(server, Reply(body=b" " * 1001))
    with pytest.raises(Unavailable, match="more than"):
        client(server.url).get("/", "ask")
    # The connection that was left in the middle is not used for the next answer.
    answers(server, Reply(body={"next": 1}))
    assert client(server.url).get("/", "ask") == {"next": 1}


def test_a_server_that_is_away(server: Stub, faults: Callable[[str], Any]) -> None:
    proxy = faults(server.url)
    with proxy.refuse(), pytest.raises(Unavailable) as refusal:
        client(proxy.url).get("/", "ask")
    assert refusal.value.message.startswith(f"prometheus at {proxy.url} does not answer: ")
    assert "is it up" in refusal.value.hint
    with stub() as gone:
        pass
    for url, why in ((gone.url, "connection refused"), ("http://nowhere.invalid:9090", "its name is not known here")):
        with pytest.raises(Unavailable) as refusal:
            client(url, retry=ONCE).get("/", "ask")
        assert refusal.value.message == f"prometheus at {url} does not answer: {why}"


@pytest.mark.parametrize("after", [0, 1, 10, 17, 60, 90, 150, 160, 400])
def test_an_answer_that_breaks_off_is_never_half_an_answer(
    server: Stub, faults: Callable[[str], Any], after: int
) -> None:
    answers(server, Reply(body={"list": ["x" * 50] * 20}))
    proxy = faults(server.url)
    with proxy.cut_after(bytes=after), pytest.raises(Unavailable, match=r"does not answer|broke off"):
        client(proxy.url).get("/", "ask")
    assert len(client(proxy.url).get("/", "ask")["list"]) == 20


def test_a_server_that_takes_too_long(server: Stub, faults: Callable[[str], Any]) -> None:
    proxy = faults(server.url)
    with proxy.delay(5), pytest.raises(Unavailable, match=r"does not answer: timed out: no answer came for 0\.1 s$"):
        client(proxy.url, read=0.1, retry=ONCE).get("/", "ask")


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(server: Stub, faults: Callable[[str], Any]) -> None:
    answers(server, Reply(body=b" " * 5000))
    proxy = faults(server.url)
    with proxy.throttle(200), pytest.raises(Unavailable, match=r"did not end its answer within 0\.3 s"):
        client(proxy.url, total=0.3, retry=ONCE).get("/", "ask")


def test_what_is_no_http_at_all(server: Stub, faults: Callable[[str], Any]) -> None:
    proxy = faults(server.url)
    with proxy.fault(_raw(b"SSH-2.0-OpenSSH_9.2\r\n")), pytest.raises(Unavailable, match=r"its answer is no HTTP$"):
        client(proxy.url, retry=ONCE).get("/", "ask")


def _raw(text: bytes) -> Any:
    from support.bed.faults import Fault

    return Fault(answer=text)


def test_exchange_judges_nothing(server: Stub, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    answers(server, Reply(418, {"error": "short and stout"}))
    given = client("", endpoint=Endpoint(server.url, str(tmp_path / "key")), scheme="ApiKey")
    status, headers, raw = given.exchange("PUT", "/pot?x=1", {"Accept": "text/tea"}, b"{}")
    assert (status, raw) == (418, b'{"error": "short and stout"}')
    assert headers["Content-Type"] == "application/json"
    (asked,) = server.asked
    assert (asked.path, asked.body, asked.headers["Authorization"]) == ("/pot?x=1", b"{}", "ApiKey k")
    assert asked.headers["Accept"] == "text/tea"


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(CA file, chain with key) of a server called 127.0.0.1."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's own")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    (folder / "ca.crt").write_bytes(pem)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(secret + pem)
    return folder / "ca.crt", folder / "server.pem"


@pytest.fixture
def secure(authority: tuple[Path, Path]) -> Iterator[Stub]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority[1])
    with stub(lambda _: Reply(body={"tls": True}), context) as made:
        yield made


def test_the_declared_authority_is_trusted_and_no_other(
    secure: Stub, authority: tuple[Path, Path], tmp_path: Path
) -> None:
    assert client("", endpoint=Endpoint(secure.url, ca_file=str(authority[0]))).get("/", "ask") == {"tls": True}
    with pytest.raises(Unavailable) as refusal:
        client(secure.url, retry=ONCE).get("/", "ask")
    assert "caFile" in refusal.value.hint
    assert "does not answer: its certificate is not trusted: self-signed certificate" in refusal.value.message
    # A name that the certificate does not have.
    url = secure.url.replace("127.0.0.1", "localhost")
    with pytest.raises(Unavailable, match="does not answer"):
        client("", endpoint=Endpoint(url, ca_file=str(authority[0])), retry=ONCE).get("/", "ask")


def test_a_ca_file_that_holds_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    for name in ("ca.crt", "none.crt"):
        with pytest.raises(Unavailable, match=name):
            client("", endpoint=Endpoint("https://127.0.0.1:1", ca_file=str(tmp_path / name)))


def test_the_requests_of_many_threads_do_not_mix(server: Stub) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def answer(asked: Asked) -> Reply:
        return Reply(body={"path": asked.path})

    server.answer = answer
    given = client(server.url, read=5.0, total=20.0)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda number: given.get(f"/{number}", "ask")["path"], range(200)))
    assert found == [f"/{number}" for number in range(200)]
