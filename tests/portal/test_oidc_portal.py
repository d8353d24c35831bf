"""Logging in at an OpenID provider, and everything that one, or somebody in between, could try."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from flask import Flask
from joserfc.jwk import ECKey, RSAKey
from support.builders import platform, service
from support.oidc_provider import CLIENT, SECRET, Provider, running
from support.portal import Client, Clock, make_app

from pilothouse.clients.oidc import LOOK_AGAIN
from pilothouse.portal.auth import PER_ADDRESS
from pilothouse.problems import Invalid
from pilothouse.store import events, sessions

PORTAL = "http://localhost"
START = "/login/oidc"


@dataclass
class Site:
    app: Flask
    provider: Provider
    clock: Clock
    ticks: list[float]

    def browser(self) -> Client:
        client = self.app.test_client()
        assert isinstance(client, Client)
        return client

    def sent_away(self, client: Client, path: str = START) -> str:
        answer = client.get(path)
        assert answer.status_code == 302, answer.get_data(as_text=True)
        return str(answer.headers["Location"])

    def back(self, client: Client, path: str = START) -> str:
        """The local address that the provider sends the browser to."""
        address = self.provider.authorize(self.sent_away(client, path))
        assert address.startswith(f"{PORTAL}/login/oidc/back?")
        return address.removeprefix(PORTAL)

    def login(self, client: Client | None = None, path: str = START) -> Any:
        client = client or self.browser()
        return client.get(self.back(client, path))

    def refused(self, said: str, status: int = 403) -> None:
        client = self.browser()
        answer = self.login(client)
        text = answer.get_data(as_text=True)
        assert (answer.status_code, said in text) == (status, True), text
        assert client.get("/me").status_code == 302
        assert self.living("olga") == ()
        (event, *_), _ = events.find(self.app.config["STORE"])
        assert event.kind in ("login.failed", "login.unavailable")

    def living(self, name: str) -> tuple[sessions.Session, ...]:
        return sessions.living(self.app.config["STORE"], name, self.clock())


def write_settings(data: Path, issuer: str, **more: Any) -> None:
    data.mkdir(exist_ok=True)
    (data / "secret").write_text(f"{SECRET}\n")
    settings = {"issuer": issuer, "clientId": CLIENT, "clientSecretFile": str(data / "secret"), "portal": PORTAL}
    (data / "oidc.yaml").write_text(yaml.safe_dump(settings | more))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    clock, ticks = Clock(), [1000.0]
    monkeypatch.setattr("pilothouse.portal.oidc.time.monotonic", lambda: ticks[0])
    with running(lambda: clock().timestamp()) as provider:
        write_settings(tmp_path / "data", provider.url)
        found = platform([service("payments/api")])
        app = make_app(tmp_path, found, {"admin": {"groups": ["platform-admins"]}}, clock=clock)
        yield Site(app, provider, clock, ticks)


def test_a_person_logs_in_with_the_groups_that_the_provider_says(site: Site) -> None:
    client = site.browser()
    assert "Log in with single sign-on" in client.get("/login").get_data(as_text=True)
    answer = site.login(client, f"{START}?next=/access/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/access/")
    (session,) = site.living("olga")
    assert (session.kind, session.user.groups) == ("web", frozenset({"engineers", "on-call"}))
    assert (session.user.display_name, session.user.email) == ("Olga Okafor", "olga@bank.example")
    assert "Olga Okafor" in client.get("/me").get_data(as_text=True)
    assert client.get(START).headers["Location"] == "/"


def test_what_is_asked_for(site: Site) -> None:
    query = parse_qs(urlsplit(site.sent_away(site.browser())).query)
    assert {name: query[name] for name in ("client_id", "response_type", "scope", "redirect_uri")} == {
        "client_id": [CLIENT],
        "response_type": ["code"],
        "scope": ["openid profile email"],
        "redirect_uri": [f"{PORTAL}/login/oidc/back"],
    }
    assert query["code_challenge_method"] == ["S256"]
    other = parse_qs(urlsplit(site.sent_away(site.browser())).query)
    for name in ("state", "nonce", "code_challenge"):
        assert len(query[name][0]) >= 43
        assert query[name] != other[name]


def test_no_token_or_secret_is_shown_kept_or_logged(site: Site, tmp_path: Path) -> None:
    client = site.browser()
    answer = site.login(client)
    files = (path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.name != "secret")
    kept = b"".join(path.read_bytes() for path in files)
    for secret in (SECRET, "of-olga", site.provider.bodies[0]["code"], site.provider.bodies[0]["code_verifier"]):
        assert secret not in str(answer.headers) + answer.get_data(as_text=True)
        assert secret.encode() not in kept


def changed(**more: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The claims with others; None takes one away."""
    return lambda claims: {name: value for name, value in (claims | more).items() if value is not None}


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        (changed(nonce="of another login"), "nonce"),
        (changed(nonce=None), "nonce"),
        (changed(iss="https://other.example"), "iss"),
        (changed(aud="another-client"), "aud"),
        (changed(aud=[CLIENT, "another-client"]), "another application"),
        (changed(azp="another-client"), "another application"),
        (changed(exp=1), "exp"),
        (changed(exp=None), "exp"),
        (changed(iat=None), "iat"),
        (changed(iat=1), "too old"),
        (changed(iat=4102444800), "not accepted"),
        (changed(sub=None), "sub"),
        (changed(preferred_username="system:admin"), "no name"),
        (changed(preferred_username="system"), "no name"),
        (changed(preferred_username="olga\nadmin"), "no name"),
        (changed(preferred_username="../admin"), "no name"),
        (changed(preferred_username=["olga"]), "no name"),
        (changed(preferred_username=""), "no name"),
        (changed(preferred_username=None), "no name"),
        (changed(groups={"engineers": True}), "no list"),
        (changed(preferred_username="admin"), "has an account"),
        (changed(preferred_username="ADMIN"), "has an account"),
    ],
)
def test_a_token_that_says_something_else(
    site: Site, claims: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    site.provider.claims = claims
    site.refused(said)
    assert site.living("admin") == ()


@pytest.mark.parametrize("how", ["unsigned", "by_shared_secret", "another key", "cut", "no token"])
def test_a_token_that_the_provider_did_not_sign(site: Site, how: str) -> None:
    key = RSAKey.generate_key(2048, {"kid": "one"})
    site.provider.token = {
        "unsigned": site.provider.unsigned,
        "by_shared_secret": site.provider.by_shared_secret,
        "another key": lambda claims: site.provider.signed(claims, key),
        "cut": lambda claims: site.provider.signed(claims)[:-4],
        "no token": lambda _claims: "",
    }[how]
    site.refused("the ID token is not accepted")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"state": "of somebody else"}, "another login"),
        ({"state": ""}, "another login"),
        ({"iss": "https://other.example"}, "another provider"),
        ({"iss": None}, "another provider"),
        ({"code": "invented"}, "did not accept"),
        ({"code": None}, "no code"),
        ({"code": None, "error": "access_denied\x1b[2J"}, "refused: access_denied[2J"),
    ],
)
def test_an_answer_that_is_another_s(site: Site, answer: dict[str, str | None], said: str) -> None:
    site.provider.answer = lambda given: {name: value for name, value in (given | answer).items() if value is not None}
    site.refused(said)


def test_an_answer_is_taken_once_even_with_the_old_cookie(site: Site) -> None:
    client = site.browser()
    address = site.back(client)
    cookie = client.get_cookie("pilothouse-form")
    assert cookie is not None
    assert client.get(address).status_code == 302
    again = site.browser()
    again.set_cookie("pilothouse-form", cookie.value)
    answer = again.get(address)
    assert (answer.status_code, "used already" in answer.get_data(as_text=True)) == (403, True)
    assert len(site.living("olga")) == 1


def test_an_answer_in_another_browser_logs_nobody_in(site: Site) -> None:
    """Somebody sends a person the address of their own login, to have them work under another name."""
    address = site.back(site.browser())
    victim = site.browser()
    assert victim.get(address).status_code == 403
    assert victim.get("/me").status_code == 302


def test_a_login_that_takes_too_long(site: Site) -> None:
    client = site.browser()
    address = site.back(client)
    site.clock.moment += timedelta(minutes=10, seconds=1)
    assert "too long ago" in client.get(address).get_data(as_text=True)


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_nobody_is_sent_elsewhere_afterwards(site: Site, target: str) -> None:
    client = site.browser()
    site.provider.authorize(client.get(START, query_string={"next": target}).headers["Location"])
    answer = site.login(client, f"{START}?next={target}")
    assert answer.headers["Location"] == "/"


def test_a_login_replaces_the_session_and_what_was_planted_before(site: Site) -> None:
    client = site.browser()
    site.login(client)
    before = client.get_cookie("pilothouse")
    assert before is not None
    client.post("/logout")
    site.login(client)
    after = client.get_cookie("pilothouse")
    assert after is not None
    assert before.value != after.value
    assert len(site.living("olga")) == 1


def test_a_provider_that_changed_its_key_is_believed_and_asked_no_more_often_than_that(site: Site) -> None:
    assert site.login().status_code == 302
    site.provider.key = ECKey.generate_key("P-256", {"kid": "one", "use": "sig"})
    site.ticks[0] += LOOK_AGAIN + 1
    assert site.login().status_code == 302
    other = RSAKey.generate_key(2048, {"kid": "one"})
    site.provider.token = lambda claims: site.provider.signed(claims, other)
    asked = site.provider.asked.count("/keys")
    for _ in range(3):
        assert site.login().status_code == 403
    assert site.provider.asked.count("/keys") == asked


def test_a_provider_that_is_away_or_another_one(site: Site) -> None:
    site.provider.up = False
    answer = site.browser().get(START)
    assert (answer.status_code, "answered 503" in answer.get_data(as_text=True)) == (503, True)
    site.provider.up = True
    client = site.browser()
    address = site.back(client)
    site.provider.up = False
    assert client.get(address).status_code == 503


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"issuer": "https://other.example"}, "calls itself otherwise"),
        ({"authorization_endpoint": "http://login.bank.example/authorize"}, "not encrypted"),
        ({"authorization_endpoint": None}, "authorization_endpoint"),
    ],
)
def test_metadata_that_cannot_be_believed(site: Site, metadata: dict[str, Any], said: str) -> None:
    site.provider.metadata = metadata
    answer = site.browser().get(START)
    assert (answer.status_code, said in answer.get_data(as_text=True)) == (503, True)


def test_groups_that_only_the_userinfo_has(site: Site) -> None:
    site.provider.claims = changed(groups=None)
    site.provider.userinfo = {"sub": "0815", "groups": "engineers", "preferred_username": "admin"}
    assert site.login().status_code == 302
    (session,) = site.living("olga")
    assert session.user.groups == frozenset({"engineers"})
    site.provider.userinfo = {"sub": "0816", "groups": ["platform-admins"]}
    assert "another person" in site.login().get_data(as_text=True)


def test_logins_are_limited_per_address(site: Site) -> None:
    codes = [site.browser().get(START).status_code for _ in range(PER_ADDRESS.count + 1)]
    assert codes == [302] * PER_ADDRESS.count + [429]


def test_without_a_provider_there_is_no_such_page(tmp_path: Path) -> None:
    client = make_app(tmp_path, platform([service("payments/api")])).test_client()
    assert [client.get(path).status_code for path in (START, f"{START}/back")] == [404, 404]
    assert "single sign-on" not in client.get("/login").get_data(as_text=True)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"issuer": "http://login.bank.example"}, "not encrypted"),
        ({"portal": "portal.bank.example"}, "no address"),
        ({"clientId": ""}, "clientId"),
        ({"secret": "in the file itself"}, "secret"),
    ],
)
def test_a_file_with_a_mistake_is_named(tmp_path: Path, more: dict[str, str], said: str) -> None:
    write_settings(tmp_path / "data", **{"issuer": "https://login.bank.example"} | more)
    with pytest.raises(Invalid, match=said):
        make_app(tmp_path, platform([service("payments/api")]))


def test_a_secret_that_cannot_be_read(site: Site, tmp_path: Path) -> None:
    (tmp_path / "data" / "secret").unlink()
    answer = site.browser().get(START)
    assert (answer.status_code, "cannot be read" in answer.get_data(as_text=True)) == (503, True)
