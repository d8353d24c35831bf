"""Telling people by mail or by webhook, where the owner has set one in `DATA/notify.yaml`:

    smtp: {host: mail.bank.example, port: 587, from: pilothouse@bank.example, starttls: true,
           user: pilothouse, passwordFile: /etc/pilothouse/smtp-password}
    webhook: {url: https://chat.bank.example/hooks/pilothouse}

A message never holds a secret. Addresses come from that file alone, and redirects are not followed. One attempt is made
here; `workflows.notices` tries again.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from pilothouse.clients.addresses import LOOPBACK
from pilothouse.files.settings import read_settings
from pilothouse.problems import Invalid, Unavailable

TIMEOUT = 5.0


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
        except (OSError, HTTPException) as failure:
            raise Unavailable(f"the webhook did not take it: {_reason(failure)}") from failure


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        return None


def channels(path: Path) -> dict[str, Channel]:
    """The channels that the file sets, by name: `mail`, `webhook`. `Invalid` for a mistake in it."""
    settings = read_settings(path, NotifySettings)
    found: dict[str, Channel] = {}
    if settings is not None and settings.smtp:
        if not settings.smtp.starttls and settings.smtp.host not in LOOPBACK:
            raise Invalid(f"{path}: mail would travel unencrypted to {settings.smtp.host}", "set `starttls: true`")
        found["mail"] = Smtp(settings.smtp)
    if settings is not None and settings.webhook:
        found["webhook"] = Webhook(settings.webhook)
    return found


def _password(path: str) -> str:
    """Of ASCII characters: smtplib can send no others."""
    try:
        return Path(path).read_bytes().decode("ascii").strip()
    except OSError as failure:
        raise Unavailable(f"the password file {path} cannot be read: {failure.strerror}") from failure
    except UnicodeDecodeError:
        # Its cause is left out: that exception carries the password.
        raise Unavailable(f"the password file {path} holds a character that is not ASCII") from None


def _reason(failure: Exception) -> str:
    """A reason without the server's own words at length: they may quote what was sent."""
    if isinstance(failure, urllib.error.HTTPError):
        return f"status {failure.code}"
    if isinstance(failure, smtplib.SMTPResponseException):
        return f"status {failure.smtp_code}"
    return type(failure).__name__ if not isinstance(failure, OSError) else (failure.strerror or type(failure).__name__)
