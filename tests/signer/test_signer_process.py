import io
import json
import os
import socket
import stat
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from support.access_values import csr, key
from support.access_world import make_world

from pilothouse.access import certificates
from pilothouse.access.ledger import Head
from pilothouse.clients.signer import SignerClient
from pilothouse.problems import Conflict, Denied, Invalid, Unavailable
from pilothouse.signer import spawn
from pilothouse.signer.__main__ import log, main, new_serial
from pilothouse.signer.declared import Declared
from pilothouse.signer.server import Server
from pilothouse.store import ledger


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


@pytest.fixture
def serving(world):
    """A server in a thread of this process; `serving.lines` are what it logged."""
    with world.authorities() as authorities:
        lines = []
        server = Server(world.data / "signer.sock", world.issuance(authorities), lines.append)
        server.lines = lines
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
        server.server_close()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def load(pem):
    return x509.load_pem_x509_certificate(pem.encode())


# ---------------------------------------------------------------- keys


def test_keys_are_for_the_signer_alone(world):
    with world.authorities() as authorities:
        authorities.certificate("dev")
        assert mode(world.data / "signer") == 0o700
        assert mode(world.data / "signer/dev") == 0o700
        assert mode(world.data / "signer/dev/ca.key") == 0o600
        assert (world.data / "authorities/dev.crt").read_text() == (world.data / "signer/dev/ca.crt").read_text()
        assert "PRIVATE" not in (world.data / "authorities/dev.crt").read_text()


def test_an_authority_is_made_once(world):
    with world.authorities() as authorities:
        first = authorities.certificate("dev")
    (world.data / "authorities/dev.crt").write_text("old")
    with world.authorities() as authorities:
        assert authorities.certificate("dev") == first
        assert load((world.data / "authorities/dev.crt").read_text()) == first


def test_two_signers_do_not_share_keys(world):
    with world.authorities(), pytest.raises(Unavailable, match="another signer"), world.authorities():
        pass


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "ca.key").chmod(0o640), "can be read by others"),
        (lambda folder: (folder / "ca.key").write_text("x"), "damaged"),
        (lambda folder: (folder / "ca.crt").unlink(), "damaged"),
        (
            lambda folder: (folder / "ca.crt").write_text((folder.parent / "prod/ca.crt").read_text()),
            "do not belong together",
        ),
    ],
)
def test_damaged_keys_are_refused_and_not_made_anew(world, damage, message):
    with world.authorities() as authorities:
        authorities.certificate("dev")
        authorities.certificate("prod")
    damage(world.data / "signer/dev")
    with world.authorities() as authorities, pytest.raises(Unavailable, match=message):
        authorities.certificate("dev")


def test_clusters_that_are_not_ours(world):
    with world.authorities() as authorities:
        with pytest.raises(Invalid, match="no cluster `x`"):
            authorities.certificate("x")
        with pytest.raises(Unavailable, match="is vault, not the embedded one"):
            authorities.certificate("vaulted")


def test_a_folder_that_cannot_be_used(world):
    (world.data / "signer").write_text("a file")
    with pytest.raises(Unavailable, match="cannot be used"), world.authorities():
        pass


def test_the_head_is_kept_beside_the_keys(world, monkeypatch):
    with world.authorities() as authorities:
        authorities.keep_head(Head(3, "a" * 64))
        assert Head.parse((world.data / "signer/head").read_text()) == Head(3, "a" * 64)
        assert mode(world.data / "signer/head") == 0o600

        def full(*_args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "open", full)
        with pytest.raises(Unavailable, match="No space left"):
            authorities.keep_head(Head(4, "b" * 64))


# ---------------------------------------------------------------- declarations


def test_declarations_are_read_anew_when_a_file_changes(world):
    moment = [0.0]
    declared = Declared(world.platform, lambda: moment[0])
    assert "prod" in declared().clusters
    text = (world.platform / "platform.yaml").read_text()
    (world.platform / "platform.yaml").write_text(text.replace("{name: prod}", "{name: production}"))
    assert "prod" in declared().clusters
    moment[0] = 2.0
    assert "production" in declared().clusters
    moment[0] = 4.0
    assert declared() is declared()


def test_without_declarations_nobody_has_rights(world):
    moment = [0.0]
    declared = Declared(world.platform, lambda: moment[0])
    assert declared().profiles
    (world.platform / "platform.yaml").rename(world.platform / "away.txt")
    moment[0] = 2.0
    with pytest.raises(Unavailable, match="cannot be read"):
        declared()
    with pytest.raises(Unavailable, match="cannot be read"):
        declared()
    (world.platform / "away.txt").rename(world.platform / "platform.yaml")
    moment[0] = 4.0
    assert declared().profiles
    moment[0] = 6.0
    world.platform.rename(world.platform.with_name("gone"))
    with pytest.raises(Unavailable, match="cannot be read"):
        declared()


# ---------------------------------------------------------------- the socket


def test_a_certificate_over_the_socket(world, serving):
    client = SignerClient(serving.path)
    client.ping()
    assert mode(serving.path) == 0o600
    issued = client.sign(world.token("alice"), csr(key("alice")), profile="developer", cluster="dev", seconds=3600)
    assert issued.user == "alice"
    assert certificates.is_signed_by(load(issued.pem), load(client.authority("dev")))
    assert {"event": "sign", "outcome": "ok", "user": "alice"}.items() <= serving.lines[1].items()


def test_refusals_come_back_as_what_they_are(world, serving):
    client = SignerClient(serving.path)
    with pytest.raises(Denied, match="session has ended") as caught:
        client.sign("nobody", csr(), profile="developer", cluster="dev")
    assert "access login" in caught.value.hint
    with pytest.raises(Invalid, match="no profile"):
        client.sign(world.token("alice"), csr(), profile="x", cluster="dev")
    with pytest.raises(Unavailable, match="vault"):
        client.authority("vaulted")


def test_neither_token_nor_request_is_logged(world, serving):
    token = world.token("alice")
    request = csr(key("alice"))
    client = SignerClient(serving.path)
    client.sign(token, request, profile="developer", cluster="dev")
    with pytest.raises(Invalid):
        client.sign(token, request, profile="nope", cluster="dev")
    logged = json.dumps(serving.lines)
    assert token not in logged
    assert request.splitlines()[1] not in logged


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"nonsense\n", "no JSON"),
        (b"[1]\n", "no JSON object"),
        (b'{"op": "steal"}\n', "unknown operation 'steal'"),
        (b'{"op": "sign", "token": 3}\n', "`token` must be text"),
        (b'{"op": "sign", "seconds": true}\n', "`seconds` must be a whole number"),
    ],
)
def test_nonsense_is_answered(serving, line, message):
    answer = serving.answer(line)
    assert (answer["ok"], answer["kind"]) == (False, "invalid")
    assert message in answer["message"]


def test_a_mistake_of_ours_ends_nothing(serving, monkeypatch):
    def broken(_self, _ask):
        raise RuntimeError("oh")

    monkeypatch.setattr(type(serving.issuance), "issue", broken)
    answer = serving.answer(b'{"op": "sign"}\n')
    assert answer["kind"] == "unavailable"
    assert "RuntimeError" in serving.lines[-1]["message"]
    assert serving.answer(b'{"op": "ping"}\n') == {"ok": True}


def test_other_failures_of_ours_are_unavailable(serving, monkeypatch):
    from pilothouse.problems import PilothouseError

    def broken(_self, _ask):
        raise PilothouseError("odd")

    monkeypatch.setattr(type(serving.issuance), "issue", broken)
    assert serving.answer(b'{"op": "sign"}\n')["kind"] == "unavailable"


def test_a_line_that_is_too_long_is_not_read(serving):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(serving.path))
        try:
            connection.sendall(b"x" * 200_000)
            assert connection.recv(10) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass
    SignerClient(serving.path).ping()


def test_several_requests_on_one_connection(serving):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(serving.path))
        connection.sendall(b'{"op": "ping"}\n{"op": "ping"}\n')
        with connection.makefile() as lines:
            assert [json.loads(lines.readline()) for _ in range(2)] == [{"ok": True}] * 2


def test_a_stale_socket_is_taken_over_and_a_living_one_is_not(world, serving, tmp_path):
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    Server(stale, serving.issuance, print).server_close()
    with pytest.raises(Unavailable, match="another signer listens"):
        Server(serving.path, serving.issuance, print)
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="no socket"):
        Server(tmp_path / "file", serving.issuance, print)
    with pytest.raises(Unavailable, match="cannot listen on"):
        Server(tmp_path / ("x" * 120), serving.issuance, print)


def test_a_group_may_be_let_in(serving, tmp_path):
    server = Server(tmp_path / "g.sock", serving.issuance, print, group=os.getgid())
    assert mode(server.path) == 0o660
    server.server_close()
    assert not server.path.exists()


def test_a_signer_that_is_away(tmp_path):
    with pytest.raises(Unavailable, match="does not answer"):
        SignerClient(tmp_path / "none.sock").ping()


@pytest.mark.parametrize(("answer", "message"), [(b"3\n", "cannot be read"), (b'{"ok": true}\n', "cannot be read")])
def test_answers_that_cannot_be_read(tmp_path, answer, message):
    path = tmp_path / "odd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def reply():
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(Unavailable, match=message):
            SignerClient(path).sign("t", "c")
        thread.join()


def test_conflicts_come_back(tmp_path):
    from pilothouse.clients import signer

    assert signer._KINDS["conflict"] is Conflict


# ---------------------------------------------------------------- the process


def test_the_process_from_start_to_end(world):
    child = spawn.start(world.data, world.platform)
    try:
        client = SignerClient(world.data / "signer.sock")
        assert "BEGIN CERTIFICATE" in client.authority("prod")
        with pytest.raises(Denied):
            client.sign("x" * 30, csr(), profile="developer", cluster="dev")
        assert (world.data / "signer/dev/ca.key").exists()
        with pytest.raises(Unavailable, match="another signer already answers"):
            spawn.start(world.data, world.platform)
    finally:
        spawn.stop(child)
    assert child.returncode == 0
    assert not (world.data / "signer.sock").exists()


def test_a_process_that_does_not_come_up(world):
    (world.data / "signer").write_text("a file")
    with pytest.raises(Unavailable, match="did not start"):
        spawn.start(world.data, world.platform)


def test_the_process_signs_with_a_real_session(world):
    from datetime import UTC, datetime

    world.now = datetime.now(UTC)
    child = spawn.start(world.data, world.platform)
    try:
        issued = SignerClient(world.data / "signer.sock").sign(
            world.token("alice"), csr(key("alice")), profile="developer", cluster="dev"
        )
    finally:
        spawn.stop(child)
    kept = Head.parse((world.data / "signer/head").read_text())
    assert ledger.verify(world.store, [kept]) == ((), kept)
    assert kept.sequence == 2
    assert int(issued.serial) > 1 << 126


def test_what_the_process_says_when_it_cannot_start(world, capsys):
    from click.testing import CliRunner

    result = CliRunner().invoke(main, ["--data", str(world.data), "--platform", str(world.data / "none")])
    assert result.exit_code == 2
    assert "cannot be read" in result.output
    result = CliRunner().invoke(
        main, ["--data", str(world.data), "--platform", str(world.platform), "--socket-group", "no-such-group"]
    )
    assert result.exit_code == 2
    assert "no group no-such-group" in result.output


def test_log_lines_stay_lines(capsys):
    log({"message": "a\nb\x1b[31m"})
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "\x1b" not in line


def test_log_lines_of_two_threads_are_never_mixed(monkeypatch):
    class Terminal(io.StringIO):
        """Lets another thread write in the middle of whatever takes more than one write."""

        def write(self, text: str) -> int:
            written = super().write(text)
            time.sleep(0.002)
            return written

    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(log, [{"event": "sign", "number": number} for number in range(40)]))
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert sorted(line["number"] for line in lines) == list(range(40))


def test_serial_numbers_fit_a_certificate():
    assert all(0 < new_serial() < 1 << 127 for _ in range(100))
    assert new_serial() != new_serial()
