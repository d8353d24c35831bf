import smtplib
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pilothouse.clients import notify
from pilothouse.clients.notify import Smtp, SmtpSettings, Webhook, WebhookSettings
from pilothouse.problems import Invalid, Unavailable
from pilothouse.workflows.access import Message

MESSAGE = Message(("pat@bank.example",), "olga asks\nBcc: evil@bank.example", "Reason: repair")


class Server:
    """Stands in for smtplib.SMTP."""

    def __init__(self, failure=None):
        self.failure, self.calls, self.mail = failure, [], None

    def __call__(self, host, port, timeout):
        self.calls.append((host, port))
        if self.failure:
            raise self.failure
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def starttls(self, context):
        self.calls.append("starttls")

    def login(self, user, password):
        self.calls.append((user, password))

    def send_message(self, mail):
        self.mail = mail


def settings(**fields):
    return SmtpSettings(**{"host": "mail.bank.example", "from": "p@bank.example", **fields})


def test_mail_is_sent_encrypted_and_its_head_stays_one_line(tmp_path):
    (tmp_path / "password").write_text("hidden\n")
    server = Server()
    Smtp(settings(user="p", passwordFile=str(tmp_path / "password")), server).tell(MESSAGE)
    assert server.calls == [("mail.bank.example", 587), "starttls", ("p", "hidden")]
    assert server.mail["To"] == "pat@bank.example"
    assert server.mail["Subject"] == "olga asks Bcc: evil@bank.example"
    assert server.mail["Bcc"] is None
    assert "Reason: repair" in server.mail.get_content()


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (smtplib.SMTPResponseException(535, b"secret words of the server"), "status 535"),
        (smtplib.SMTPServerDisconnected("x"), "SMTPServerDisconnected"),
    ],
)
def test_mail_that_does_not_go(failure, reason):
    with pytest.raises(Unavailable, match="did not take it") as caught:
        Smtp(settings(), Server(failure)).tell(MESSAGE)
    assert reason in str(caught.value)
    assert "secret words" not in str(caught.value)


def test_mail_to_nobody_and_without_its_password():
    with pytest.raises(Unavailable, match="no mail address"):
        Smtp(settings(), Server()).tell(Message((), "s", "t"))
    with pytest.raises(Unavailable, match="password file"):
        Smtp(settings(user="p", passwordFile="/nowhere"), Server()).tell(MESSAGE)


@pytest.mark.parametrize("kept", ["gehe\u00fcm".encode(), b"gehe\xfcm", b"gehe\xff\x00"])
def test_a_password_that_cannot_be_sent_is_named_by_its_file_and_never_quoted(tmp_path, kept):
    (tmp_path / "password").write_bytes(kept)
    with pytest.raises(Unavailable, match="password holds a character that is not ASCII") as caught:
        Smtp(settings(user="p", passwordFile=str(tmp_path / "password")), Server()).tell(MESSAGE)
    assert caught.value.__cause__ is None
    assert "gehe" not in str(caught.value)


@pytest.fixture
def hook():
    """(address, what was posted); answers with the status that `answer` holds."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.server.posted.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(self.server.status)
            if self.server.status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            return None

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.posted, server.status = [], 200
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_gets_json_and_is_not_followed_elsewhere(hook):
    webhook = Webhook(WebhookSettings(url=f"http://127.0.0.1:{hook.server_port}/hook"))
    webhook.tell(MESSAGE)
    path, body = hook.posted[0]
    assert path == "/hook"
    assert b'"text": "Reason: repair"' in body
    for status in (302, 500):
        hook.status = status
        with pytest.raises(Unavailable, match=f"status {status}"):
            webhook.tell(MESSAGE)
    assert {path for path, _ in hook.posted} == {"/hook"}


@pytest.mark.parametrize(
    "answer",
    [
        b"+OK POP3 server ready\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 70000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"",
    ],
    ids=["another protocol", "endless line", "broken body", "nothing"],
)
def test_a_webhook_that_speaks_no_http(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Unavailable, match="the webhook did not take it"):
            Webhook(WebhookSettings(url=f"http://127.0.0.1:{server.getsockname()[1]}/hook")).tell(MESSAGE)
        thread.join(10)


def test_what_the_file_sets(tmp_path):
    path = tmp_path / "notify.yaml"
    assert notify.channels(path) == {}
    path.write_text("")
    assert notify.channels(path) == {}
    path.write_text(
        "smtp: {host: localhost, from: a@bank.example, starttls: false}\nwebhook: {url: https://x.example/y}\n"
    )
    assert list(notify.channels(path)) == ["mail", "webhook"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smtp: [", "YAML"),
        ("smtp: {host: x}", r"smtp\.from"),
        ("mail: {}", "mail"),
        ("webhook: {url: ftp://x}", r"webhook\.url"),
        ("smtp: {host: mail.example, from: a@b.example, starttls: false}", "unencrypted"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_mistakes_of_the_file(tmp_path, text, message):
    path = tmp_path / "notify.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Invalid, match=message):
        notify.channels(path)
