"""How the client meets a Vault that is away, slow, sealed, moved or no Vault at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from support.access_values import csr, key
from support.vault_fake import fake_vault

from pilothouse.clients import calls
from pilothouse.clients.vault import VaultClient, address
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Denied, Invalid, Unavailable


@contextmanager
def answering(status: int, body: bytes, headers: dict[str, str] | None = None) -> Iterator[tuple[str, list[Any]]]:
    """(address, requests) of a server that answers everything alike."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            return None

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            seen.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = do_LIST = _serve  # noqa: N815  # the names that http.server looks for

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sign(client: VaultClient) -> str:
    return client.sign("hvs.secret", "pki-dev", "developer", csr(key("alice")), "alice", 3600)


@pytest.mark.parametrize(
    ("status", "errors", "kind", "said"),
    [
        (503, ["Vault is sealed"], Unavailable, "is sealed"),
        (429, ["request path is rate limited"], Unavailable, "429"),
        (473, ["performance standby"], Unavailable, "473"),
        (500, ["internal error"], Unavailable, "failed with status 500: internal error"),
        (502, [], Unavailable, "failed with status 502"),
        (403, ["permission denied"], Denied, "403"),
        (400, ["role requires keys of type ec"], Invalid, "role requires keys of type ec"),
        (404, ["no handler for route"], Invalid, "404"),
        (412, ["required index state not present"], Exception, "412"),
        (307, [], Invalid, "307"),
    ],
)
def test_every_refusal_of_a_signature_is_one_of_ours(
    status: int, errors: list[str], kind: type[Exception], said: str
) -> None:
    with answering(status, json.dumps({"errors": errors}).encode()) as (url, seen):
        with pytest.raises(kind, match=said) as refused:
            sign(VaultClient(Endpoint(url)))
        assert len(seen) == 1, "a signature is never asked for twice"
        assert "hvs.secret" not in str(refused.value)
        if kind is Unavailable:
            assert "nothing was signed elsewhere" in refused.value.hint or "never falls back" in refused.value.hint  # type: ignore[attr-defined]


def test_a_token_follows_no_redirect() -> None:
    with answering(200, b"{}") as (elsewhere, stolen), answering(307, b"", {"Location": elsewhere}) as (url, _):
        with pytest.raises(Invalid, match="307"):
            sign(VaultClient(Endpoint(url)))
        with pytest.raises(Invalid):
            VaultClient(Endpoint(url)).authority("pki-dev")
        assert stolen == []


def test_nothing_of_the_environment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200, b"{}") as (proxy, caught), fake_vault() as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.setenv("VAULT_ADDR", proxy)
        monkeypatch.setenv("VAULT_TOKEN", server.root_token)
        client = VaultClient(server.engineers_endpoint)
        assert client.health().version == "1.21.2"
        with pytest.raises(Denied):
            client.read("sys/mounts")
        assert caught == []


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'"text"', b"{}", b'{"data": {}}', b'{"data": {"certificate": 7}}'], ids=repr
)
def test_an_answer_that_is_no_certificate_is_none(body: bytes) -> None:
    with answering(200, body) as (url, _), pytest.raises(Unavailable):
        sign(VaultClient(Endpoint(url)))


def test_a_login_without_a_token_is_none() -> None:
    with answering(200, b'{"auth": {"client_token": ""}}') as (url, _), pytest.raises(Unavailable):
        VaultClient(Endpoint(url)).login_ldap("ldap", "alice", "x")


def test_an_answer_without_an_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilothouse.clients.vault.MAX_ANSWER", 1000)
    with answering(200, b"x" * 5000) as (url, _), pytest.raises(Unavailable, match="more than"):
        VaultClient(Endpoint(url)).authority("pki-dev")


def test_a_vault_that_is_away_says_so() -> None:
    client = VaultClient(Endpoint("http://127.0.0.1:1"))
    for call in (client.health, lambda: sign(client), lambda: client.login_ldap("ldap", "alice", "x")):
        with pytest.raises(Unavailable, match="does not answer"):
            call()


def test_a_ca_file_that_is_missing_is_named() -> None:
    client = VaultClient(Endpoint("https://127.0.0.1:1", ca_file="/nowhere/ca.crt"))
    with pytest.raises(Unavailable) as refused:
        client.health()
    assert "/nowhere/ca.crt" in refused.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "http://vault.bank.example:8200",
        "ftp://127.0.0.1",
        "https://user:pw@vault.bank.example",
        "https://vault.bank.example/?x=1",
        "vault.bank.example",
        "https://[::1",
    ],
)
def test_an_address_that_would_give_a_token_away_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        address(url)
    assert "pw" not in refused.value.hint


def test_every_call_is_counted() -> None:
    def count(outcome: str) -> float:
        labels = {"server": "vault", "operation": "login", "outcome": outcome}
        return calls.REGISTRY.get_sample_value("pilothouse_client_calls_total", labels) or 0

    before = count("denied")
    with fake_vault() as server:
        server.state.auths["ldap/"] = {"type": "ldap", "accessor": "auth_ldap_1"}
        with pytest.raises(Denied):
            VaultClient(server.engineers_endpoint).login_ldap("ldap", "alice", "wrong")
    assert count("denied") == before + 1


def test_a_sealed_vault_is_told_from_one_that_is_away() -> None:
    with fake_vault() as server:
        server.state.sealed = True
        client = VaultClient(server.engineers_endpoint)
        assert client.health().sealed
        with pytest.raises(Unavailable, match="is sealed"):
            sign(client)


# ---------------------------------------------------------------- the real one, hurt


@pytest.mark.real
@pytest.mark.parametrize(
    "hurt",
    [
        lambda proxy: proxy.refuse(),
        lambda proxy: proxy.cut_after(bytes=60),
        lambda proxy: proxy.answer(503, {}, b'{"errors": ["Vault is sealed"]}'),
        lambda proxy: proxy.answer(429),
        lambda proxy: proxy.delay(3),
    ],
    ids=["refused", "cut", "503", "429", "slow"],
)
def test_a_fault_on_the_way_is_unavailable_and_passes(
    vault: Any, faults: Callable[[str], Any], hurt: Callable[[Any], Any]
) -> None:
    proxy = faults(vault.url)
    client = VaultClient(Endpoint(proxy.url), vault.root_token, connect=1, read=1)
    assert "sys/" in (client.read("sys/mounts") or {})
    mount = vault.mount("pki")
    direct = VaultClient(Endpoint(vault.url), vault.root_token)
    direct.write(f"sys/mounts/{mount}", {"type": "pki"})
    direct.write(f"{mount}/root/generate/internal", {"common_name": "x", "key_type": "ec"})
    for call in (
        lambda: client.read("sys/mounts"),
        lambda: client.list("sys/policies/acl"),
        lambda: client.write("sys/tools/hash", {"input": "YQ=="}),
        lambda: client.authority(mount),
    ):
        with hurt(proxy), pytest.raises(Unavailable):
            call()
    assert "sys/" in (client.read("sys/mounts") or {})


@pytest.mark.real
def test_a_real_vault_that_is_sealed_and_opened_again(vault: Any) -> None:
    own = vault.fresh(persistent=True)
    client = VaultClient(Endpoint(own.url), own.root_token)
    own.seal()
    assert client.health().sealed
    with pytest.raises(Unavailable, match="is sealed"):
        client.read("sys/mounts")
    own.unseal()
    assert "sys/" in (client.read("sys/mounts") or {})


def test_connections_are_used_again_and_tokens_are_not() -> None:
    connections, tokens = set(), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_arguments: Any) -> None:
            return None

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            connections.add(self.client_address)
            tokens.append(self.headers.get("X-Vault-Token"))
            body = json.dumps({"data": {"certificate": "pem"}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Set-Cookie", "session=of-somebody")
            self.end_headers()
            self.wfile.write(body)
            assert "Cookie" not in self.headers

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        client = VaultClient(Endpoint(f"http://127.0.0.1:{server.server_address[1]}"))
        for token in ("hvs.alice", "hvs.bob", ""):
            assert client.sign(token, "pki-dev", "developer", csr(key("alice")), "alice", 3600) == "pem"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert len(connections) == 1
    assert tokens == ["hvs.alice", "hvs.bob", None]
