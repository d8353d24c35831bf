"""An OpenID provider on loopback: real redirects, real signatures, and one lie at a time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

CLIENT, SECRET = "pilothouse", "of the client"


@dataclass
class Provider:
    """`claims` changes what the ID token says, `token` the token itself, `answer` the query of the way back."""

    clock: Callable[[], float]
    url: str = ""
    up: bool = True
    person: dict[str, Any] = field(
        default_factory=lambda: {
            "sub": "0815",
            "preferred_username": "olga",
            "name": "Olga Okafor",
            "email": "olga@bank.example",
            "groups": ["engineers", "on-call", "system:masters"],
        }
    )
    key: Any = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}))
    claims: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
    token: Callable[[dict[str, Any]], str] | None = None
    answer: Callable[[dict[str, str]], dict[str, str]] = lambda answer: answer
    metadata: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    bodies: list[dict[str, str]] = field(default_factory=list)

    def signed(self, claims: dict[str, Any], key: Any = None, algorithm: str = "") -> str:
        key = key or self.key
        algorithm = algorithm or ("ES256" if isinstance(key, ECKey) else "RS256")
        return jwt.encode({"alg": algorithm, "kid": "one"}, claims, key, algorithms=[algorithm])

    def by_shared_secret(self, claims: dict[str, Any]) -> str:
        """Signed with HMAC, whose key is the public key that everybody can read."""
        text = f"{_part({'alg': 'HS256', 'kid': 'one'})}.{_part(claims)}"
        mac = hmac.new(self.key.as_pem(private=False), text.encode(), hashlib.sha256).digest()
        return f"{text}.{_encoded(mac)}"

    def unsigned(self, claims: dict[str, Any]) -> str:
        return f"{_part({'alg': 'none'})}.{_part(claims)}."

    # ------------------------------------------------------------ what a browser and the portal ask

    def authorize(self, url: str) -> str:
        """What a person's browser does: log in, and be sent back to this address."""
        parts = urlsplit(url)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert parts.path == "/authorize"
        code = secrets.token_urlsafe(8)
        self.codes[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.url}
        return f"{asked['redirect_uri']}?{urlencode(self.answer(answer))}"

    def exchange(self, body: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        self.bodies.append(body)
        asked = self.codes.pop(body.get("code", ""), None)  # once
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".replace(" ", "%20").encode()).decode()
        plain = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(body.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or authorization not in (f"Basic {basic}", f"Basic {plain}")
            or asked["code_challenge_method"] != "S256"
            or asked["code_challenge"] != challenge.decode().rstrip("=")
            or body["redirect_uri"] != asked["redirect_uri"]
        ):
            return 400, {"error": "invalid_grant"}
        now = int(self.clock())
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            **self.person,
        }
        claims = self.claims(claims)
        token = self.token(claims) if self.token else self.signed(claims)
        return 200, {"access_token": "of-olga", "token_type": "Bearer", "id_token": token}

    def get(self, path: str, authorization: str) -> dict[str, Any]:
        if path == "/.well-known/openid-configuration":
            return {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "userinfo_endpoint": f"{self.url}/userinfo",
                "authorization_response_iss_parameter_supported": True,
            } | self.metadata
        if path == "/keys":
            return dict(KeySet([self.key]).as_dict(private=False))
        assert (path, authorization) == ("/userinfo", "Bearer of-olga")
        return self.userinfo


@contextmanager
def running(clock: Callable[[], float]) -> Iterator[Provider]:
    made = Provider(clock)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            return None

        def _send(self, status: int, body: dict[str, Any]) -> None:
            made.asked.append(self.path)
            if not made.up:
                status, body = 503, {}
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self._send(200, made.get(self.path, self.headers.get("Authorization", "")))

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            body = {name: values[0] for name, values in parse_qs(text).items()}
            self._send(*made.exchange(body, self.headers.get("Authorization", "")))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _part(value: dict[str, Any]) -> str:
    return _encoded(json.dumps(value).encode())
