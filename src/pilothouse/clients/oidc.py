"""Log in by OpenID Connect, where the owner has set a provider in `DATA/oidc.yaml`:

    issuer: https://login.bank.example/realms/bank
    clientId: pilothouse
    clientSecretFile: /etc/pilothouse/oidc-secret
    portal: https://pilothouse.bank.example
    claims: {user: preferred_username, groups: groups, displayName: name, email: email}

The authorization code flow with PKCE (https://openid.net/specs/openid-connect-core-1_0.html#CodeFlowAuth,
https://www.rfc-editor.org/rfc/rfc7636). Authlib speaks to the provider; what is checked is ours: the issuer's own
metadata, `state`, `nonce`, signature by a key of the provider under an algorithm of the list, issuer, audience, time,
and the `iss` of the answer (https://www.rfc-editor.org/rfc/rfc9207). Redirects are not followed, and nothing comes from
the environment.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pilothouse.clients.addresses import plain
from pilothouse.clients.calls import measured
from pilothouse.clients.directory import MAX_GROUPS, NAME
from pilothouse.files.settings import read_settings
from pilothouse.problems import Denied, Invalid, Unavailable

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

BACK = "/login/oidc/back"
"""Where the provider sends people back to, below the portal's address: the redirect URI to register."""
METADATA = "/.well-known/openid-configuration"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures by the provider's private key. Neither `none` nor HMAC, whose key is the public one or a shared secret."""
TIMEOUT = (3.0, 10.0)
MAX_ANSWER = 1024 * 1024
KEEP_SECONDS = 3600.0
LOOK_AGAIN = 30.0
"""Keys are fetched again for an unknown key at most once in so many seconds."""
SKEW = 60
MAX_AGE = 600
"""How long a login may take, and how old an ID token may be, in seconds."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ClaimSettings(_Strict):
    user: Annotated[str, Field(min_length=1)] = "preferred_username"
    groups: Annotated[str, Field(min_length=1)] = "groups"
    display_name: str = Field(default="name", alias="displayName")
    email: str = "email"


class OidcSettings(_Strict):
    """`DATA/oidc.yaml`. `portal` is the address that people use, which the provider must know."""

    issuer: str
    client_id: Annotated[str, Field(alias="clientId", min_length=1)]
    client_secret_file: Annotated[str, Field(alias="clientSecretFile", min_length=1)]
    portal: str
    title: str = "single sign-on"
    scopes: list[str] = Field(default=["openid", "profile", "email"])
    claims: ClaimSettings = ClaimSettings()
    ca_file: str = Field(default="", alias="caFile")

    @field_validator("issuer", "portal")
    @classmethod
    def _encrypted(cls, value: str) -> str:
        try:
            if plain(value, "provider", "https://login.bank.example", "a login") != value.rstrip("/"):
                raise ValueError("write the address in its plain form")
        except Invalid as failure:
            raise ValueError(failure.with_hint) from failure
        return value

    @field_validator("scopes")
    @classmethod
    def _with_openid(cls, value: list[str]) -> list[str]:
        return list(dict.fromkeys(("openid", *value)))


@dataclass(frozen=True, slots=True)
class Pending:
    """A login that was begun: what its answer is held against. It lies with the browser that began it."""

    state: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who logged in, as the provider says and pilothouse can name them."""

    name: str
    display_name: str
    email: str
    groups: frozenset[str]


class Provider:
    """One provider, safe to share between threads. `clock` gives seconds since 1970, `monotonic` of a stopwatch."""

    def __init__(self, settings: OidcSettings, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._metadata: tuple[float, Mapping[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    @property
    def redirect_uri(self) -> str:
        return self.settings.portal.rstrip("/") + BACK

    def begin(self) -> tuple[str, Pending]:
        """(where to send the browser, what to hold the answer against). `Unavailable` where the provider is away."""
        pending = Pending(*(secrets.token_urlsafe(32) for _ in range(3)))
        with self._session() as session:
            url, _ = session.create_authorization_url(
                self._endpoint("authorization_endpoint"),
                state=pending.state,
                code_verifier=pending.verifier,
                nonce=pending.nonce,
            )
        return str(url), pending

    def finish(self, pending: Pending, answer: Mapping[str, str]) -> Identity:
        """Who it is, by the answer's query. `Denied` for what is not as it must be, `Unavailable` for a provider that
        does not answer."""
        if not hmac.compare_digest(answer.get("state", "").encode(), pending.state.encode()):
            raise Denied("the answer belongs to another login", "log in again, in one window")
        self._check_issuer(answer)
        if "error" in answer:
            raise Denied(
                f"{self.settings.title} refused: {_word(answer['error'])}", "log in again, or ask whoever runs it"
            )
        if not answer.get("code"):
            raise Denied("the answer has no code", "log in again")
        with measured("oidc", "login"):
            token = self._exchange(answer["code"], pending)
            claims = self._claims(str(token.get("id_token") or ""), pending)
            if self.settings.claims.groups not in claims:
                claims = self._with_userinfo(claims, str(token.get("access_token") or ""))
        return self._identity(claims)

    # ------------------------------------------------------------ the answer

    def _check_issuer(self, answer: Mapping[str, str]) -> None:
        """That it comes from this provider: with several, one could be made to send another one's code."""
        said = answer.get("iss")
        wanted = self._about().get("authorization_response_iss_parameter_supported") is True
        if (said is None and wanted) or (said is not None and said != self.settings.issuer):
            raise Denied("the answer comes from another provider", "log in again")

    def _exchange(self, code: str, pending: Pending) -> Mapping[str, Any]:
        from authlib.common.errors import AuthlibBaseError

        address = self._endpoint("token_endpoint")
        try:
            with self._session() as session:
                found = session.fetch_token(address, code=code, code_verifier=pending.verifier, **_HTTP)
        except AuthlibBaseError as failure:
            raise Denied(
                f"{self.settings.title} did not accept its own code: {_word(failure.error)}", "log in again"
            ) from failure
        except Exception as failure:
            raise self._away(failure) from failure
        return dict(found)

    def _claims(self, token: str, pending: Pending) -> Mapping[str, Any]:
        """What the ID token says, once all of it was checked
        (https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation)."""
        from joserfc import jwt
        from joserfc.errors import JoseError

        registry = jwt.JWTClaimsRegistry(
            now=lambda: int(self._clock()),
            leeway=SKEW,
            iss={"essential": True, "value": self.settings.issuer},
            aud={"essential": True, "value": self.settings.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": pending.nonce},
        )
        try:
            claims = dict(self._decoded(token).claims)
            registry.validate(claims)
        except (JoseError, ValueError, TypeError, KeyError) as failure:
            raise Denied(f"the ID token is not accepted: {_word(failure)}", "log in again") from failure
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != self.settings.client_id:
            raise Denied("the ID token was made for another application", "log in again")
        if not isinstance(claims["iat"], int | float) or claims["iat"] < self._clock() - MAX_AGE - SKEW:
            raise Denied("the ID token is too old", "log in again")
        return claims

    def _decoded(self, token: str) -> Any:
        """By a key that is known, else by one that is there now: providers change them."""
        from joserfc import jwt
        from joserfc.errors import JoseError

        before = self._keys
        try:
            return jwt.decode(token, self._key_set(), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            if before is None or self._monotonic() - before[0] < LOOK_AGAIN:
                raise
        return jwt.decode(token, self._key_set(fresh=True), algorithms=ALGORITHMS)

    def _with_userinfo(self, claims: Mapping[str, Any], token: str) -> Mapping[str, Any]:
        """With what the ID token leaves out; that it is of the same person is checked."""
        if not token or not self._about().get("userinfo_endpoint"):
            return claims
        more = self._json(self._endpoint("userinfo_endpoint"), token)
        if more.get("sub") != claims["sub"]:
            raise Denied("the provider told of another person", "log in again")
        return {**more, **claims}

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        wanted = self.settings.claims
        name = claims.get(wanted.user)
        if not isinstance(name, str) or not NAME.fullmatch(name) or name.lower().startswith("system"):
            raise Denied(
                f"the claim `{wanted.user}` holds no name that a certificate can have",
                "`claims.user` in oidc.yaml names the claim with the name that the directory has",
            )
        groups = claims.get(wanted.groups, [])
        if isinstance(groups, str):
            groups = [groups]
        if not isinstance(groups, list) or len(groups) > MAX_GROUPS:
            raise Denied(f"the claim `{wanted.groups}` holds no list of at most {MAX_GROUPS} groups")
        kept = (group for group in groups if isinstance(group, str) and group.isprintable() and 0 < len(group) <= 200)
        return Identity(
            name,
            _short(claims.get(wanted.display_name)),
            _short(claims.get(wanted.email)),
            frozenset(group for group in kept if not group.lower().startswith("system:")),
        )

    # ------------------------------------------------------------ the provider

    def _about(self) -> Mapping[str, Any]:
        """Its metadata, which must be of the issuer that was set (OpenID Connect Discovery 1.0, section 4.3)."""
        with self._lock:
            if self._metadata is None or self._monotonic() - self._metadata[0] >= KEEP_SECONDS:
                found = self._json(self.settings.issuer.rstrip("/") + METADATA)
                if found.get("issuer") != self.settings.issuer:
                    raise Unavailable(
                        f"the provider at {self.settings.issuer} calls itself otherwise",
                        "write `issuer` in oidc.yaml exactly as its metadata has it",
                    )
                self._metadata = self._monotonic(), found
            return self._metadata[1]

    def _endpoint(self, name: str) -> str:
        try:
            return plain(str(self._about().get(name) or ""), "provider", "https://login.bank.example/…", "a login")
        except Invalid as failure:
            raise Unavailable(f"the provider's {name} cannot be used: {failure.message}") from failure

    def _key_set(self, fresh: bool = False) -> KeySet:
        from joserfc.jwk import KeySet

        with self._lock:
            known = self._keys
        if known is not None and not fresh and self._monotonic() - known[0] < KEEP_SECONDS:
            return known[1]
        found = self._json(self._endpoint("jwks_uri"))
        try:
            keys = KeySet.import_key_set(found)  # type: ignore[arg-type]  # it checks that itself
        except (ValueError, TypeError, KeyError) as failure:
            raise Unavailable("the provider's keys cannot be read") from failure
        with self._lock:
            self._keys = self._monotonic(), keys
        return keys

    def _session(self) -> Any:
        from authlib.integrations.requests_client import OAuth2Session

        session = OAuth2Session(
            self.settings.client_id,
            self._secret(),
            scope=" ".join(self.settings.scopes),
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic",  # noqa: S106  # how it is sent, not what
        )
        session.trust_env = False
        session.verify = self.settings.ca_file or True
        return session

    def _secret(self) -> str:
        path = self.settings.client_secret_file
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as failure:
            why = getattr(failure, "strerror", "") or "it holds no text"
            raise Unavailable(f"the client's secret {path} cannot be read: {why}") from failure

    def _json(self, url: str, token: str = "") -> dict[str, Any]:
        import requests

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with requests.Session() as session:
                session.trust_env = False
                session.verify = self.settings.ca_file or True
                with session.get(url, headers=headers, stream=True, **_HTTP) as answer:
                    body = answer.raw.read(MAX_ANSWER + 1, decode_content=True)
                    if answer.status_code != 200 or len(body) > MAX_ANSWER:
                        raise Unavailable(f"the provider answered {answer.status_code} to {url}")
            found = json.loads(body)
        except (requests.RequestException, OSError, ValueError) as failure:
            raise self._away(failure) from failure
        if not isinstance(found, dict):
            raise Unavailable(f"what the provider answered to {url} cannot be read")
        return found

    def _away(self, failure: Exception) -> Unavailable:
        if isinstance(failure, Unavailable):
            return failure
        return Unavailable(
            f"the provider at {self.settings.issuer} does not answer as it should ({type(failure).__name__})",
            "log in with a password, or try again later",
        )


_HTTP: dict[str, Any] = {"timeout": TIMEOUT, "allow_redirects": False}


def from_file(path: Path, clock: Callable[[], float], monotonic: Callable[[], float]) -> Provider | None:
    """The provider that the file sets, or None without one. `Invalid` for a mistake in it."""
    settings = read_settings(path, OidcSettings)
    return None if settings is None else Provider(settings, clock, monotonic)


def _word(said: object) -> str:
    """What somebody else said, short and on one line."""
    return "".join(char for char in str(said) if char.isprintable())[:80]


def _short(value: object) -> str:
    return "".join(char for char in value if char.isprintable())[:200] if isinstance(value, str) else ""
