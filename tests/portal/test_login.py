"""Login, sessions, CSRF, Origin, redirects, limits: the attacks that the portal must withstand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from support.builders import platform, service
from support.portal import PASSWORD, Client, bearer, login, make_app

from pilothouse.portal.auth import PER_ADDRESS, PER_USER
from pilothouse.portal.security import is_local_path
from pilothouse.store import events, sessions, users


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return make_app(
        tmp_path, platform([service("payments/api")]), {"alice": {"groups": ["payments"]}, "bob": {"groups": []}}
    )


def visitor(app: Flask) -> Client:
    client = app.test_client()
    assert isinstance(client, Client)
    return client


def attempt(client: Client, user: str, password: str, **environ: str) -> int:
    return client.post("/login", data={"user": user, "password": password}, environ_overrides=environ).status_code


def test_a_page_asks_to_log_in_and_leads_back(app: Flask) -> None:
    client = visitor(app)
    asked = client.get("/catalogue/?team=payments")
    assert (asked.status_code, asked.location) == (302, "/login?next=/catalogue/?team%3Dpayments")
    page = client.get(asked.location)
    assert 'name="next" value="/catalogue/?team=payments"' in page.get_data(as_text=True)
    done = client.post("/login", data={"user": "alice", "password": PASSWORD, "next": "/catalogue/?team=payments"})
    assert done.location == "/catalogue/?team=payments"
    assert client.get("/login").location == "/"


def test_a_look_at_the_head_of_the_login_page_is_no_attempt(app: Flask) -> None:
    assert visitor(app).head("/login").status_code == 200


def test_htmx_is_led_to_the_login_page_as_a_whole(app: Flask) -> None:
    answer = visitor(app).get("/catalogue/", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, "/login?next=/catalogue/")


def test_the_cookie_is_closed_to_scripts_and_other_sites(app: Flask) -> None:
    response = visitor(app).post("/login", data={"user": "alice", "password": PASSWORD})
    cookie = next(c for c in response.headers.getlist("Set-Cookie") if c.startswith("pilothouse="))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie


def test_with_tls_the_cookie_is_bound_to_the_host(tmp_path: Path) -> None:
    app = make_app(tmp_path, users_={"alice": {}}, tls=True)
    app.config["PREFERRED_URL_SCHEME"] = "https"
    client = visitor(app)
    page = client.get("/login", base_url="https://portal.example")
    token = page.get_data(as_text=True).split('name="csrf_token" value="')[1].split('"')[0]
    response = client.bare_post(
        "/login",
        data={"user": "alice", "password": PASSWORD, "csrf_token": token},
        base_url="https://portal.example",
    )
    assert response.status_code == 302
    cookies = response.headers.getlist("Set-Cookie")
    assert any(c.startswith("__Host-pilothouse=") and "Secure" in c for c in cookies)
    assert response.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize(
    ("user", "password"),
    [("alice", "wrong"), ("nobody", PASSWORD), ("ALICE", PASSWORD), (" ", PASSWORD), ("alice", "")],
)
def test_what_is_wrong_stays_outside_and_what_was_typed_stays(app: Flask, user: str, password: str) -> None:
    client = visitor(app)
    response = client.post("/login", data={"user": user, "password": password})
    assert response.status_code == 422
    page = response.get_data(as_text=True)
    assert f'name="user" value="{user.strip()}"' in page
    assert PASSWORD not in page
    assert client.get("/").status_code == 302


def test_an_unknown_name_and_a_wrong_password_look_the_same(app: Flask) -> None:
    pages = []
    for user in ("alice", "aliya"):
        page = visitor(app).post("/login", data={"user": user, "password": "x" * 20}).get_data(as_text=True)
        start = page.index('id="form-errors"')
        pages.append(page[start : page.index("</div>", start)])
    assert pages[0] == pages[1]


# ---------------------------------------------------------------- fixation and replay


def test_a_planted_session_is_worth_nothing_after_the_login(app: Flask) -> None:
    attacker = login(app, "bob")
    planted = attacker.get_cookie("pilothouse")
    assert planted
    victim = visitor(app)
    victim.set_cookie("pilothouse", planted.value)
    victim.bare_post("/logout", data={"csrf_token": victim.token()})
    victim = visitor(app)
    victim.set_cookie("pilothouse", "planted-by-somebody-else-0123456789")
    victim.post("/login", data={"user": "alice", "password": PASSWORD})
    mine = victim.get_cookie("pilothouse")
    assert mine
    assert mine.value not in (planted.value, "planted-by-somebody-else-0123456789")


def test_a_second_login_ends_the_session_before(app: Flask) -> None:
    client = login(app, "alice")
    old = client.get_cookie("pilothouse")
    assert old
    page = client.get("/me")
    token = page.get_data(as_text=True).split('name="csrf_token" value="')[1].split('"')[0]
    client.bare_post("/login", data={"user": "bob", "password": PASSWORD, "csrf_token": token})
    replay = visitor(app)
    replay.set_cookie("pilothouse", old.value)
    assert replay.get("/").status_code == 302


def test_an_old_cookie_is_worth_nothing_after_the_logout(app: Flask) -> None:
    client = login(app, "alice")
    cookie = client.get_cookie("pilothouse")
    assert cookie
    assert client.post("/logout").location == "/login"
    assert client.get("/").status_code == 302
    replay = visitor(app)
    replay.set_cookie("pilothouse", cookie.value)
    assert replay.get("/").status_code == 302


def test_the_form_token_of_before_the_login_does_not_hold_after_it(app: Flask) -> None:
    client = visitor(app)
    before = client.token("/login")
    client.bare_post("/login", data={"user": "alice", "password": PASSWORD, "csrf_token": before})
    assert client.bare_post("/logout", data={"csrf_token": before}).status_code == 400


def test_a_session_ends_when_nobody_is_there(app: Flask) -> None:
    client = login(app, "alice")
    app.config["CLOCK"].moment += sessions.IDLE + timedelta(seconds=1)
    assert client.get("/").status_code == 302


def test_one_ends_only_ones_own_sessions(app: Flask) -> None:
    alice, bob = login(app, "alice"), login(app, "bob")
    second = login(app, "alice")
    rows = {row.user.name: row.id for row in sessions.living(app.config["STORE"], "bob", app.config["CLOCK"]())}
    alice.post(f"/me/sessions/{rows['bob']}/end")
    assert bob.get("/").status_code == 200
    mine = [row.id for row in sessions.living(app.config["STORE"], "alice", app.config["CLOCK"]())]
    page = alice.get("/me").get_data(as_text=True)
    others = [item for item in mine if f"/me/sessions/{item}/end" in page]
    assert len(others) == 1
    alice.post(f"/me/sessions/{others[0]}/end")
    assert second.get("/").status_code == 302
    assert alice.get("/").status_code == 200


def test_a_closed_account_is_out_at_once(app: Flask) -> None:
    client = login(app, "alice")
    users.set_disabled(app.config["STORE"], "alice", True, app.config["CLOCK"]())
    assert client.get("/").status_code == 302


# ---------------------------------------------------------------- CSRF and Origin


def test_a_form_without_its_token_is_refused(app: Flask) -> None:
    client = login(app, "alice")
    assert client.bare_post("/logout").status_code == 400
    assert client.bare_post("/logout", data={"csrf_token": "x"}).status_code == 400
    assert client.get("/").status_code == 200


def test_another_persons_token_is_refused(app: Flask) -> None:
    stolen = login(app, "bob").token()
    assert login(app, "alice").bare_post("/logout", data={"csrf_token": stolen}).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "https://localhost"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_form_is_refused_even_with_a_token(app: Flask, headers: dict[str, str]) -> None:
    client = login(app, "alice")
    response = client.bare_post("/logout", data={"csrf_token": client.token()}, headers=headers)
    assert response.status_code == 400
    assert "another site" in response.get_data(as_text=True)


def test_the_own_origin_is_fine(app: Flask) -> None:
    client = login(app, "alice")
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert client.bare_post("/logout", data={"csrf_token": client.token()}, headers=headers).status_code == 302


def test_the_token_may_come_in_the_header_that_htmx_sends(app: Flask) -> None:
    client = login(app, "alice")
    assert client.bare_post("/logout", headers={"X-CSRFToken": client.token()}).status_code == 302


# ---------------------------------------------------------------- redirects


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "evil", "\\\\evil",
        "/\t/evil", "/%0d%0aX: y\r\nX: y", "", "/" + "x" * 3000, "http:evil",
    ],
)  # fmt: skip
def test_no_redirect_leads_to_another_site(app: Flask, target: str) -> None:
    response = visitor(app).post("/login", data={"user": "alice", "password": PASSWORD, "next": target})
    assert response.location == "/"
    assert not is_local_path(target)


def test_local_paths() -> None:
    assert is_local_path("/catalogue/?q=a&team=b#x")
    assert is_local_path("/")


# ---------------------------------------------------------------- limits


def test_the_fifth_attempt_is_refused_whatever_the_password(app: Flask) -> None:
    client = visitor(app)
    assert [attempt(client, "alice", "wrong") for _ in range(PER_USER.count)] == [422] * PER_USER.count
    response = client.post("/login", data={"user": "alice", "password": PASSWORD})
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "900"
    app.config["CLOCK"].moment += timedelta(minutes=15)
    assert attempt(client, "alice", PASSWORD) == 302


def test_a_stranger_cannot_lock_somebody_out_of_a_known_address(app: Flask) -> None:
    home = {"REMOTE_ADDR": "10.0.0.7"}
    assert attempt(visitor(app), "alice", PASSWORD, **home) == 302
    stranger = visitor(app)
    for _ in range(6):
        attempt(stranger, "alice", "wrong", REMOTE_ADDR="198.51.100.9")
    assert attempt(stranger, "alice", PASSWORD, REMOTE_ADDR="198.51.100.9") == 429
    assert attempt(visitor(app), "alice", PASSWORD, **home) == 302


def test_an_address_that_tries_many_names_is_stopped(app: Flask) -> None:
    codes = [
        app.test_client().post("/api/v1/session", json={"user": f"user{n}", "password": "x"}).status_code
        for n in range(PER_ADDRESS.count + 1)
    ]
    assert codes == [401] * PER_ADDRESS.count + [429]


def test_a_success_forgets_the_failures(app: Flask) -> None:
    for _ in range(3):
        client = visitor(app)
        assert [attempt(client, "alice", "wrong") for _ in range(3)] == [422] * 3
        assert attempt(client, "alice", PASSWORD) == 302


def test_changes_are_limited_per_person(app: Flask) -> None:
    headers = bearer(app, "alice")
    client = app.test_client()
    codes = {client.delete("/api/v1/nothing", headers=headers).status_code for _ in range(130)}
    assert codes == {404, 429}


def test_logins_are_written_down_without_control_characters(app: Flask) -> None:
    attempt(visitor(app), "alice\x1b[2J\nadmin", "wrong")
    attempt(visitor(app), "alice", PASSWORD)
    found, _ = events.find(app.config["STORE"], events.Filter(kind="login"))
    assert [(item.kind, item.actor) for item in found] == [
        ("login", "alice"),
        ("login.failed", "alice\ufffd[2J\ufffdadmin"),
    ]


# ---------------------------------------------------------------- the command line's token


def test_a_token_reads_and_ends(app: Flask) -> None:
    headers = bearer(app, "alice")
    client = app.test_client()
    me = client.get("/api/v1/me", headers=headers)
    assert me.json["user"] == "alice"
    assert me.json["teams"] == ["payments"]
    assert not me.json["platform"]
    assert client.delete("/api/v1/session", headers=headers).status_code == 204
    after = client.get("/api/v1/me", headers=headers)
    assert (after.status_code, after.content_type) == (401, "application/problem+json")
    assert after.headers["WWW-Authenticate"] == "Bearer"


def test_a_cookie_is_no_bearer_token_and_a_token_no_cookie(app: Flask) -> None:
    cookie = login(app, "alice").get_cookie("pilothouse")
    assert cookie
    client = app.test_client()
    assert client.get("/api/v1/me", headers={"Authorization": f"Bearer {cookie.value}"}).status_code == 401
    token = bearer(app, "alice")["Authorization"].removeprefix("Bearer ")
    browser = visitor(app)
    browser.set_cookie("pilothouse", token)
    assert browser.get("/").status_code == 302


def test_a_cookie_reads_the_api_but_changes_nothing_without_its_form_token(app: Flask) -> None:
    client = login(app, "alice")
    assert client.get("/api/v1/me").status_code == 200
    assert client.delete("/api/v1/session").status_code == 400
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"user": "alice"}, "password: Field required"),
        ({"user": "alice", "password": "x", "admin": True}, "admin: Extra inputs"),
        ([1], "body: Input should be"),
        ({"user": 7, "password": "x"}, "user: Input should be a valid string"),
    ],
)
def test_a_wrong_body_is_named_and_a_password_never_repeated(app: Flask, body: object, text: str) -> None:
    response = app.test_client().post("/api/v1/session", json=body)
    assert (response.status_code, response.content_type) == (422, "application/problem+json")
    assert text in response.json["detail"]


def test_a_form_is_no_login_for_the_api(app: Flask) -> None:
    client = visitor(app)
    sent = {"user": "alice", "password": PASSWORD}
    assert client.bare_post("/api/v1/session", data=sent).status_code == 415
    answer = client.bare_post("/api/v1/session", data="{", content_type="application/json")
    assert answer.status_code == 422


def test_the_theme_is_kept_and_leads_back(app: Flask) -> None:
    client = visitor(app)
    client.token("/login")
    response = client.post("/theme", data={"theme": "dark", "next": "/login"})
    assert response.location == "/login"
    assert 'data-theme="dark"' in client.get("/login").get_data(as_text=True)
    assert client.post("/theme", data={"theme": "dark", "next": "//evil"}).location == "/"
    assert client.post("/theme", data={"theme": "neon"}).status_code == 400
