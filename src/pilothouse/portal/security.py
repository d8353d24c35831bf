"""Headers, the check of the Origin, and addresses through trusted proxies.

The policy allows scripts and styles from our own files only: no inline script, no inline style, nothing from
elsewhere (https://www.w3.org/TR/CSP3/). SVG in pages uses presentation attributes and classes, not `style=`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from flask import Response, request

from pilothouse.problems import Invalid

CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HSTS = "max-age=31536000"
SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


def add_headers(response: Response) -> Response:
    """On every response. Pages are about people and must not stay in a cache; static files say so themselves."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", HSTS)
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def check_origin() -> None:
    """Refuse a change that another site's page sent: by Origin, or by what the browser says of the fetch.

    https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
    """
    if request.method in SAFE:
        return
    origin = request.headers.get("Origin")
    if origin is not None and origin != _own_origin():
        raise Invalid("this came from another site and was refused", "open the page again and send it from there")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Invalid("this came from another site and was refused", "open the page again and send it from there")


def _own_origin() -> str:
    parts = urlsplit(request.host_url)
    return f"{parts.scheme}://{parts.netloc}"


def is_local_path(target: str) -> bool:
    """Whether it is a path of this site: `/a?b`, never `//evil`, `/\\evil`, `https:…` or with control characters."""
    if not target.startswith("/") or target.startswith(("//", "/\\")) or "\\" in target:
        return False
    if any(not char.isprintable() for char in target) or len(target) > 2000:
        return False
    parts = urlsplit(target)
    return not parts.scheme and not parts.netloc


class TrustedProxies:
    """WSGI middleware: believes X-Forwarded-For, -Proto and -Host from the named networks, and drops them from others.

    The client is the last address of X-Forwarded-For that is no trusted proxy: what stands before it
    was written by the client.
    """

    def __init__(self, application: Callable[..., Any], networks: Iterable[str]) -> None:
        self.application = application
        try:
            self.networks = tuple(ipaddress.ip_network(item, strict=False) for item in networks)
        except ValueError as failure:
            raise Invalid(f"a trusted proxy is an address or a network: {failure}") from failure

    def _trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        chain = environ.pop("HTTP_X_FORWARDED_FOR", "")
        scheme = environ.pop("HTTP_X_FORWARDED_PROTO", "")
        host = environ.pop("HTTP_X_FORWARDED_HOST", "")
        environ.pop("HTTP_FORWARDED", None)
        if self._trusted(environ.get("REMOTE_ADDR", "")):
            for address in reversed([part.strip() for part in chain.split(",") if part.strip()]):
                try:
                    environ["REMOTE_ADDR"] = str(ipaddress.ip_address(address))
                except ValueError:
                    break
                if not self._trusted(address):
                    break
            if scheme in ("http", "https"):
                environ["wsgi.url_scheme"] = scheme
            if host and "," not in host:
                environ["HTTP_HOST"] = host
        return self.application(environ, start_response)
