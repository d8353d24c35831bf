"""Telling people by mail or by webhook, where the owner has set one in `DATA/notify.yaml`:

    smtp: {host: mail.bank.example, port: 587, from: pilothouse@bank.example, starttls: true,
           user: pilothouse, passwordFile: /etc/pilothouse/smtp-password}
    webhook: {url: https://chat.bank.example/hooks/pilothouse}

A message never holds a secret. Addresses come from that file alone, redirects are not followed, and what
does not work is tried a bounded number of times.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from pilothouse.clients.addresses import LOOPBACK
from pilothouse.files.settings import read_settings
from pilothouse.problems import Invalid, PilothouseError, Unavailable

TIMEOUT = 5.0
PAUSES = (1.0, 3.0)
"""Seconds between two attempts."""


class Told(Protocol):
    """What is told (`workflows.access.Message` is one)."""

    @property
    def to(self) -> tuple[str, ...]: ...
    @property
    def subject(self) -> str: ...
    @property
    def text(self) -> str: ...


class Channel(Protocol):
    def tell(self, message: Told) -> None: ...


class SmtpSettings(BaseModel):
    """A mail server. Without `starttls` it must be the machine itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    host: Annotated[str, Field(min_length=1)]
    port: int = 587
    sender: Annotated[str, Field(alias="from", min_length=3)]
    starttls: bool = True
    user: str = ""
    password_file: str = Field(default="", alias="passwordFile")


class WebhookSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+")]


class NotifySettings(BaseModel):
    """`DATA/notify.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    smtp: SmtpSettings | None = None
    webhook: WebhookSettings | None = None


class Smtp:
    """Mail through one server; `connect` is replaced in tests."""

    def __init__(self, settings: SmtpSettings, connect: Callable[..., Any] = smtplib.SMTP) -> None:
        self._settings = settings
        self._connect = connect

    def tell(self, message: Told) -> None:
        if not message.to:
            raise Unavailable("no mail address is known of those who should be told")
        mail = EmailMessage()
        mail["From"] = self._settings.sender
        mail["To"] = ", ".join(message.to)
        # A header is one line, whatever a reason holds.
        mail["Subject"] = " ".join(message.subject.split())[:200]
        mail.set_content(message.text)
        try:
            with self._connect(self._settings.host, self._settings.port, timeout=TIMEOUT) as server:
                if self._settings.starttls:
                    server.starttls(context=ssl.create_default_context())
                if self._settings.user:
                    server.login(self._settings.user, _password(self._settings.password_file))
                server.send_message(mail)
        except (OSError, smtplib.SMTPException) as failure:
            raise Unavailable(f"the mail server {self._settings.host} did not take it: {_reason(failure)}") from failure


class Webhook:
    """A JSON body `{"subject": …, "text": …, "to": […]}` posted to one address."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._url = settings.url
        self._opener = urllib.request.build_opener(_NoRedirect())

    def tell(self, message: Told) -> None:
        body = json.dumps({"subject": message.subject, "text": message.text, "to": list(message.to)}).encode()
        request = urllib.request.Request(  # noqa: S310  # http or https: the settings' pattern says so
            self._url, body, {"Content-Type": "application/json", "User-Agent": "pilothouse"}, method="POST"
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                answer.read(1024)
        except (OSError, urllib.error.HTTPError) as failure:
            raise Unavailable(f"the webhook did not take it: {_reason(failure)}") from failure


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        return None


class Retried:
    """Tries a channel a bounded number of times."""

    def __init__(self, channel: Channel, sleep: Callable[[float], None], pauses: Sequence[float] = PAUSES) -> None:
        self._channel = channel
        self._sleep = sleep
        self._pauses = pauses

    def tell(self, message: Told) -> None:
        for pause in self._pauses:
            try:
                self._channel.tell(message)
                return
            except Unavailable:
                self._sleep(pause)
        self._channel.tell(message)


class Several:
    """Every channel, each by itself: one that fails keeps no other from it. Raises what failed, at the end."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = channels

    def tell(self, message: Told) -> None:
        failures = []
        for channel in self._channels:
            try:
                channel.tell(message)
            except PilothouseError as failure:
                failures.append(failure.message)
        if failures:
            raise Unavailable("; ".join(failures))


class Background:
    """Tells in a thread of its own, so that no page waits for a mail server; `failed` hears of what did not work."""

    def __init__(self, channel: Channel, failed: Callable[[Told, str], None]) -> None:
        self._channel = channel
        self._failed = failed

    def tell(self, message: Told) -> None:
        threading.Thread(target=self._tell, args=(message,), name="notify", daemon=True).start()

    def _tell(self, message: Told) -> None:
        try:
            self._channel.tell(message)
        except PilothouseError as failure:
            self._failed(message, failure.message)


def from_file(path: Path, sleep: Callable[[float], None]) -> Several | None:
    """The channels that the file sets, or None where it is missing or sets none. `Invalid` for a mistake in it."""
    settings = read_settings(path, NotifySettings)
    if settings is None:
        return None
    channels: list[Channel] = []
    if settings.smtp:
        if not settings.smtp.starttls and settings.smtp.host not in LOOPBACK:
            raise Invalid(f"{path}: mail would travel unencrypted to {settings.smtp.host}", "set `starttls: true`")
        channels.append(Retried(Smtp(settings.smtp), sleep))
    if settings.webhook:
        channels.append(Retried(Webhook(settings.webhook), sleep))
    return Several(channels) if channels else None


def _password(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as failure:
        raise Unavailable(f"the password file {path} cannot be read: {failure.strerror}") from failure


def _reason(failure: Exception) -> str:
    """A reason without the server's own words at length: they may quote what was sent."""
    if isinstance(failure, urllib.error.HTTPError):
        return f"status {failure.code}"
    if isinstance(failure, smtplib.SMTPResponseException):
        return f"status {failure.smtp_code}"
    return type(failure).__name__ if not isinstance(failure, OSError) else (failure.strerror or type(failure).__name__)
