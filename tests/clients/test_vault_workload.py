"""How the agent's small client meets a Vault that is away, slow, moved, a liar, or somebody else."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.bed.pki import Authority, Pair

from pilothouse.clients.vault_workload import Session, Version, WorkloadVault
from pilothouse.problems import Denied, Invalid, Unavailable

TOKEN = Session("hvs.secret", 1200)


@contextmanager
def answering(
    status: int, body: bytes, headers: dict[str, str] | None = None, pair: Pair | None = None, length: int | None = None
) -> Iterator[tuple[str, list[Any]]]:
    """(address, requests) of a server that answers everything alike; `length` is what it says of its body."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            return None

        def _serve(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append((self.command, self.path, dict(self.headers)))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _serve  # noqa: N815  # the names that http.server looks for

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if pair:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http{'s' if pair else ''}://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def read(url: str, **named: Any) -> Any:
    return WorkloadVault(url, **named).secret(TOKEN, "kv-dev", "payments/database")


@pytest.mark.parametrize(
    ("status", "errors", "kind", "said"),
    [
        (503, ["Vault is sealed"], Unavailable, "is sealed"),
        (429, ["rate limited"], Unavailable, "429 .*rate limited"),
        (473, [], Unavailable, "473"),
        (500, ["internal\nerror"], Unavailable, "internal error"),
        (403, ["permission denied"], Denied, "403 to GET kv-dev/data/payments/database: permission denied"),
        (400, ["bad"], Invalid, "400"),
        (307, [], Invalid, "307"),
    ],
)
def test_every_refusal_is_one_of_ours(status: int, errors: list[str], kind: type[Exception], said: str) -> None:
    with answering(status, json.dumps({"errors": errors}).encode()) as (url, seen):
        with pytest.raises(kind, match=said) as refused:
            read(url)
        assert len(seen) == 1
        assert "hvs.secret" not in str(refused.value)


def test_a_token_follows_no_redirect_and_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200, b"{}") as (elsewhere, stolen), answering(307, b"", {"Location": elsewhere}) as (url, _):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, elsewhere)
        with pytest.raises(Invalid, match="307"):
            read(url)
        assert stolen == []


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'"text"', b"{}", b'{"data": 7}', b""], ids=repr)
def test_an_answer_that_is_no_secret_is_none(body: bytes) -> None:
    with answering(200, body) as (url, _), pytest.raises(Unavailable):
        read(url)


def test_an_answer_that_breaks_off_or_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilothouse.clients.vault_workload.MAX_ANSWER", 1000)
    with answering(200, b"x" * 5000) as (url, _), pytest.raises(Unavailable, match="more than"):
        read(url)
    with answering(200, b'{"data": {"data": {"a": "b"}}}', length=900) as (url, _), pytest.raises(Unavailable):
        read(url, answer=0.5)


def test_a_server_that_sends_a_byte_now_and_then_holds_nobody_up() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n")
            try:
                for _ in range(200):
                    peer.sendall(b"x")
                    time.sleep(0.05)
            except OSError:
                return  # the client has gone, as it should

    thread = threading.Thread(target=drip)
    thread.start()
    started = time.monotonic()
    try:
        with pytest.raises(Unavailable, match="in time"):
            read(f"http://127.0.0.1:{listener.getsockname()[1]}", answer=0.4)
        assert time.monotonic() - started < 5
    finally:
        listener.close()
        thread.join()


@pytest.mark.parametrize("body", [b'{"auth": {"client_token": ""}}', b'{"auth": {}}', b"{}"])
def test_a_login_without_a_token_is_none(body: bytes) -> None:
    with answering(200, body) as (url, _), pytest.raises(Unavailable, match="without a token"):
        WorkloadVault(url).login("kubernetes-dev", "payments.api", "jwt")


def test_a_refused_login_quotes_vault_and_not_the_token() -> None:
    with answering(403, b'{"errors": ["namespace not authorized"]}') as (url, _):
        with pytest.raises(Denied, match=r"role payments\.api: namespace not authorized") as refused:
            WorkloadVault(url).login("kubernetes-dev", "payments.api", "the-jwt")
        assert "the-jwt" not in str(refused.value)


@pytest.mark.parametrize("path", ["../sys/mounts", "a/../b", "a?b", "a%2e", "", "/a"])
def test_a_path_that_leads_elsewhere_never_leaves_the_process(path: str) -> None:
    with answering(200, b"{}") as (url, seen):
        client = WorkloadVault(url)
        for call in (client.secret, client.version):
            with pytest.raises(Invalid):
                call(TOKEN, "kv-dev", path)
        with pytest.raises(Invalid):
            client.login("kubernetes-dev", "../token/create", "jwt")
        assert seen == []


def test_only_the_authority_that_is_named_is_trusted(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("ours", "theirs")]
    for folder in folders:
        folder.mkdir()
    ours, theirs = (Authority(folder, folder.name) for folder in folders)
    body = json.dumps({"data": {"data": {"a": "b"}, "metadata": {"version": 3}}}).encode()
    with answering(200, body, pair=ours.server("vault")) as (url, seen):
        assert read(url, ca_file=str(ours.file)) == ({"a": "b"}, Version(3))
        for wrong in (str(theirs.file), ""):
            with pytest.raises(Unavailable, match="is not trusted"):
                read(url, ca_file=wrong)
        assert len(seen) == 1
    with pytest.raises(Invalid, match=r"/nowhere/ca\.crt cannot be used"):
        WorkloadVault("https://127.0.0.1:1", "/nowhere/ca.crt")
    with pytest.raises(Invalid, match="not encrypted"):
        WorkloadVault("http://vault.bank.example:8200")
    assert "hvs.secret" not in repr(TOKEN)
