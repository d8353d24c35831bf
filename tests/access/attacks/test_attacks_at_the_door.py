"""Attacks on the login, the session and the browser."""

from __future__ import annotations

import pytest
from support.attacked import System
from support.vault_site import PASSWORD

from pilothouse.clients.vault import VaultClient
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Invalid

FRAMING = "frame-ancestors 'none'"


# ---------------------------------------------------------------- other sites


@pytest.mark.attack("CSRF, XSS, framing")
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
    ids=lambda headers: " ".join(headers.values()),
)
def test_another_sites_form_is_refused_even_with_its_token(system: System, headers: dict[str, str]) -> None:
    browser = system.browser()
    assert browser.login("alice").status_code == 302
    assert browser.post("/logout", "/me", headers=headers).status_code == 400  # type: ignore[arg-type]
    assert browser.get("/me").status_code == 200


@pytest.mark.attack("CSRF, XSS, framing")
def test_a_form_without_its_token_is_refused(system: System) -> None:
    browser = system.browser()
    browser.login("alice")
    assert browser.post("/logout").status_code == 400
    assert browser.get("/me").status_code == 200


@pytest.mark.attack("CSRF, XSS, framing")
def test_what_was_typed_is_shown_as_text_and_pages_take_no_foreign_script(system: System) -> None:
    script = "<script>alert(1)</script>"
    page = system.browser().post("/login", "/login", user=script, password="x" * 20)
    assert script not in page.text
    assert "&lt;script&gt;" in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy or "default-src 'self'" in policy
    assert FRAMING in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert page.headers["X-Content-Type-Options"] == "nosniff"


# ---------------------------------------------------------------- sessions


@pytest.mark.attack("Fixation / replay of session")
def test_a_cookie_is_new_at_the_login_and_dead_after_the_logout(system: System) -> None:
    browser = system.browser()
    browser.session.cookies.set("pilothouse", "planted-by-somebody-else-0123456789", domain="127.0.0.1")
    browser.login("alice")
    mine = [cookie.value for cookie in browser.session.cookies if cookie.name == "pilothouse"]
    assert "planted-by-somebody-else-0123456789" not in mine[-1:]
    assert browser.post("/logout", "/me").status_code in (302, 303)
    replay = system.browser()
    replay.session.cookies.set("pilothouse", str(mine[-1]), domain="127.0.0.1")
    assert replay.get("/me").status_code == 302
    assert replay.get("/api/v1/access/certificates").status_code == 401


@pytest.mark.attack("Fixation / replay of session")
def test_a_token_that_was_ended_gets_nothing_from_the_portal_and_the_signer(system: System) -> None:
    token = system.token("bob")
    assert system.send("DELETE", "/api/v1/session", "bob").status_code in (200, 204)
    assert system.send("GET", "/api/v1/access/certificates", "bob").status_code == 401
    assert system.certificate("bob").status_code == 401
    del system.tokens["bob"]
    assert system.token("bob") != token


# ---------------------------------------------------------------- names and passwords


@pytest.mark.attack("LDAP injection, null bind, case folding")
@pytest.mark.parametrize(
    "user", ["*", ")(uid=*", "*)(uid=*))(|(uid=*", "", "alice)(", "alice\x00", "uid=alice,ou=people"]
)
def test_a_name_that_is_a_filter_logs_nobody_in(system: System, user: str) -> None:
    answer = system.send("POST", "/api/v1/session", json={"user": user, "password": PASSWORD})
    assert answer.status_code in (401, 422)


@pytest.mark.attack("LDAP injection, null bind, case folding")
@pytest.mark.parametrize("password", ["", "\x00"])
def test_an_empty_password_logs_nobody_in(system: System, password: str) -> None:
    answer = system.send("POST", "/api/v1/session", json={"user": "alice", "password": password})
    assert answer.status_code in (401, 422)


@pytest.mark.attack("LDAP injection, null bind, case folding")
@pytest.mark.parametrize("typed", ["ALICE", " alice "])
def test_the_name_is_never_what_was_typed(system: System, typed: str) -> None:
    answer = system.send("POST", "/api/v1/session", json={"user": typed, "password": PASSWORD})
    assert answer.status_code in (201, 401)
    if answer.status_code == 201:
        assert answer.json()["user"] == "alice"
    else:
        assert system.site is None or typed != "ALICE"  # the directory knows who that is


@pytest.mark.attack("URL-path injection")
@pytest.mark.parametrize("name", ["../../token/create", "..", "a/../b", "%2e%2e", "a?b", "a#b"])
def test_a_name_that_leaves_its_path_is_sent_nowhere(system: System, name: str) -> None:
    before = system.kinds()
    for fields in ({"profile": name}, {"cluster": name}, {"team": name}):
        assert system.certificate(**fields).status_code in (403, 422)
    assert system.send("POST", "/api/v1/session", json={"user": name, "password": PASSWORD}).status_code in (401, 422)
    assert system.kinds() == before
    nowhere = VaultClient(Endpoint("http://127.0.0.1:1"))  # nothing listens: what is sent is `Unavailable`
    with pytest.raises(Invalid):
        nowhere.login_ldap("ldap", name, PASSWORD)
    with pytest.raises(Invalid):
        nowhere.sign("token", "pki", name, "csr", "alice", 60)


@pytest.mark.attack("Brute force, spraying")
def test_the_fifth_try_is_refused_whatever_the_password(system: System) -> None:
    def attempt(password: str, source: str) -> int:
        body = {"user": "pat", "password": password}
        return system.send("POST", "/api/v1/session", source=source, json=body).status_code

    home = "10.1.1.1"
    assert attempt(PASSWORD, home) == 201
    assert [attempt("wrong", "198.51.100.7") for _ in range(4)] == [401] * 4
    assert attempt(PASSWORD, "198.51.100.7") == 429
    assert attempt(PASSWORD, home) == 201  # a stranger locks nobody out of where they are known


@pytest.mark.attack("Brute force, spraying")
def test_an_address_that_tries_many_names_is_stopped(system: System) -> None:
    codes = [
        system.send(
            "POST", "/api/v1/session", source="198.51.100.8", json={"user": f"user{n}", "password": "x"}
        ).status_code
        for n in range(31)
    ]
    assert codes == [401] * 30 + [429]


@pytest.mark.attack("Enumeration, timing")
def test_an_unknown_name_and_a_wrong_password_are_answered_alike(system: System) -> None:
    """That an unknown name costs a verification too is shown in `store/test_people.py`; nothing is timed here."""
    said = []
    for user in ("alice", "aliya"):
        answer = system.send("POST", "/api/v1/session", source="10.2.2.2", json={"user": user, "password": "x" * 20})
        body = {key: value for key, value in answer.json().items() if key not in ("instance", "request")}
        said.append((answer.status_code, body, sorted(answer.headers)))
    assert said[0] == said[1]


# ---------------------------------------------------------------- leading elsewhere


@pytest.mark.attack("Open redirect")
@pytest.mark.parametrize(
    "target", ["//evil.example", "/\\evil.example", "https://evil.example", "/%5c/evil.example", "\t//evil.example"]
)
def test_no_login_leads_to_another_site(system: System, target: str) -> None:
    browser = system.browser()
    token = browser.form("/login")
    answer = browser.session.post(
        f"{system.address}/login",
        params={"next": target},
        data={"csrf_token": token, "user": "alice", "password": PASSWORD, "next": target},
        timeout=30,
        allow_redirects=False,
    )
    assert answer.status_code == 302
    location = answer.headers["Location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


@pytest.mark.attack("SSRF")
@pytest.mark.parametrize("field", ["url", "vault", "server", "acme_url", "replaces"])
def test_a_request_names_no_address(system: System, field: str) -> None:
    answer = system.certificate(**{field: "http://169.254.169.254/latest/meta-data"})
    assert answer.status_code == 422
    id = system.elevation(approver="")
    body = {"comment": "", field: "http://169.254.169.254/"}
    assert system.send("POST", f"/api/v1/access/requests/{id}/approve", "pat", json=body).status_code == 422
    assert system.give_back(id).status_code == 200


@pytest.mark.attack("SSRF")
@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "http://vault.example", "file:///etc/passwd", "https://a@b.example"]
)
def test_an_address_that_tokens_must_not_go_to_is_refused(system: System, url: str) -> None:
    with pytest.raises(Invalid):
        VaultClient(Endpoint(url))
