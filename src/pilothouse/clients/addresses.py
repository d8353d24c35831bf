"""Addresses that secrets are sent to: in their plain form, and encrypted unless they lead to this machine.

Standard library only: what runs beside every service reads addresses too.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from pilothouse.problems import Invalid

LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


def plain(given: str, what: str, example: str, carried: str, scheme: str = "") -> str:
    """The address without a slash at its end. `Invalid` for what is none, or would carry `carried` unencrypted.

    `what` it is the address of, written as in `example`; `scheme` is what one without any has.
    """
    text = given.strip()
    hint = f"write it as {example}"
    try:
        parts = urlsplit(f"{scheme}://{text}" if scheme and "://" not in text else text)
        host, _ = parts.hostname, parts.port
    except ValueError as failure:
        raise Invalid(f"{given!r} is no address of a {what}", hint) from failure
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise Invalid(f"{given!r} is no address of a {what}", hint)
    if parts.scheme == "http" and host not in LOOPBACK:
        raise Invalid(f"{given} is not encrypted, and {carried} would be sent there", "use its https:// address")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
