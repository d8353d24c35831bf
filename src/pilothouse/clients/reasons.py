"""Why a connection did not work, in words that a person reads: without the library's objects and numbers of errors."""

from __future__ import annotations

import http.client
import re
import socket
import ssl

_OBJECT = re.compile(r"^<[^>]*>,?\s*|^HTTPS?Connection(Pool)?\([^)]*\):\s*")
_ERRNO = re.compile(r"\[Errno -?\d+\]\s*")
_SOURCE = re.compile(r"\s*\(_[\w.]*c:\d+\)|^\[\w+: \w+\]\s*")
"""Where in OpenSSL it went wrong, and its codes."""
MAX_REASON = 300
BROKE_OFF = "the connection broke off"


def reason_of(failure: BaseException, connect: float, read: float) -> str:
    """`failure` is what urllib3 raised; `connect` and `read` are the time-outs of the request, in seconds."""
    import urllib3.exceptions as errors

    under = list(_chain(failure))
    for item in under:
        if isinstance(item, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {item.verify_message}"
        if isinstance(item, errors.NameResolutionError | socket.gaierror):
            return "its name is not known here"
        # A refused connection is one of these as well.
        if isinstance(item, errors.ConnectTimeoutError) and not isinstance(item, errors.NewConnectionError):
            return f"connecting timed out after {connect:g} s"
        if isinstance(item, errors.ReadTimeoutError):
            return f"timed out: no answer came for {read:g} s"
        if isinstance(item, errors.DecodeError):
            return "its answer is packed in a way that cannot be read"
    for item in reversed(under):
        if isinstance(item, ConnectionRefusedError):
            return "connection refused"
        if isinstance(item, ssl.SSLError):
            return f"TLS failed: {_plain(str(item))}"
        if isinstance(item, ConnectionError | http.client.IncompleteRead | errors.IncompleteRead):
            return BROKE_OFF
        if isinstance(item, http.client.BadStatusLine | http.client.LineTooLong):
            return "its answer is no HTTP"
        if isinstance(item, OSError) and item.strerror:
            return item.strerror.lower()
    said = _plain(str(failure))
    return BROKE_OFF if not said or isinstance(failure, errors.ProtocolError) else said


def _chain(failure: BaseException) -> list[BaseException]:
    """The failure and what lies under it, outermost first; urllib3 puts some of it into the arguments."""
    found: list[BaseException] = []
    waiting: list[object] = [failure]
    while waiting:
        item = waiting.pop(0)
        if not isinstance(item, BaseException) or item in found:
            continue
        found.append(item)
        waiting += [getattr(item, "reason", None), item.__cause__, *item.args]
    return found


def _plain(text: str) -> str:
    text = " ".join(text.split())
    for pattern in (_OBJECT, _ERRNO, _SOURCE):
        text = pattern.sub("", text)
    return text[:MAX_REASON]
