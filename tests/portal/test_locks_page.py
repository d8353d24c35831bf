import html
import re
from datetime import timedelta

import pytest
from support.access_portal import access_portal
from support.access_values import csr, key
from support.portal import bearer, login

from pilothouse.portal.api import document
from pilothouse.store import certificates as rows
from pilothouse.store import ledger, sessions


@pytest.fixture
def site(tmp_path):
    with access_portal(tmp_path, ("alice", "bob", "olga", "pat")) as found:
        yield found


def text(response, status=200):
    assert response.status_code == status, response.get_data(as_text=True)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", response.get_data(as_text=True))).split())


class Api:
    def __init__(self, app, name):
        self.client, self.headers = app.test_client(), bearer(app, name)

    def post(self, path, status, **body):
        response = self.client.bare_post(f"/api/v1/access{path}", json=body, headers=self.headers)
        assert response.status_code == status, response.get_data(as_text=True)
        return response.json

    def get(self, path):
        return self.client.get(f"/api/v1/access{path}", headers=self.headers).json

    def cert(self, status=201, name="alice", **fields):
        return self.post("/certificates", status, profile="developer", cluster="dev", csr=csr(key(name)), **fields)


def test_a_locked_person_gets_nothing_until_it_is_lifted(site):
    app, world, heard = site
    alice, olga, pat = Api(app, "alice"), Api(app, "olga"), Api(app, "pat")
    first = alice.cert()
    made = olga.post("/locks", 201, subject="alice", reason="lost laptop", seconds=3600)
    assert (made["kind"], made["user"], made["by"], made["holds"], made["sessions"]) == (
        "user",
        "alice",
        "olga",
        True,
        1,
    )
    assert alice.cert(401)["status"] == 401  # the session ended with it
    again = Api(app, "alice")
    refused = again.cert(403)
    assert "alice is locked by olga" in refused["detail"]
    assert "platform team" in refused["hint"]
    assert [row.serial for row in rows.of_user(world.store, "alice")] == [first["serial"]]
    (message,) = heard.messages
    assert (message.to, message.subject) == (("alice@bank.example", "pat@bank.example"), "Locked: alice")
    assert "lost laptop" in message.text
    mine = again.get("/locks")
    assert [item["subject"] for item in mine["items"]] == ["alice"]
    others = Api(app, "bob").get("/locks")
    assert (others["items"], bool(others["narrowed"])) == ([], True)
    again.post("/locks/lift", 403, subject="alice")
    lifted = pat.post("/locks/lift", 200, subject="alice", why="found again")
    assert (lifted["holds"], lifted["lifted_by"]) == (False, "pat")
    again.cert()
    assert olga.get("/locks")["items"] == []
    assert len(olga.get("/locks?past=yes")["items"]) == 1
    kinds = [entry.entry.kind for entry in ledger.everything(world.store)]
    assert kinds[2:4] == ["lock.set", "lock.lifted"]


def test_a_locked_person_neither_asks_nor_decides_and_their_approval_does_not_count(site):
    app, _, _ = site
    olga, pat = Api(app, "olga"), Api(app, "pat")
    body = {"profile": "cluster-admin", "cluster": "dev", "reason": "replace a node"}
    id = olga.post("/requests", 201, **body)["id"]
    other = pat.post("/requests", 201, **body)["id"]
    pat.post(f"/requests/{id}/approve", 200)
    olga.post("/locks", 201, subject="pat", reason="phished")
    assert "pat is locked" in olga.post(f"/requests/{id}/claim", 403, csr=csr(key("olga")))["detail"]
    again = Api(app, "pat")
    again.post(f"/requests/{other}/claim", 409, csr=csr(key("pat")))
    third = olga.post("/requests", 201, **(body | {"cluster": "prod"}))["id"]
    assert "pat is locked" in again.post(f"/requests/{third}/approve", 403)["detail"]
    assert "pat is locked" in again.post("/requests", 403, **(body | {"cluster": "prod"}))["detail"]
    again.post("/locks/lift", 403, subject="pat")  # of the platform team, and still not on oneself


def test_ones_own_certificate_by_serial_and_by_fingerprint(site):
    app, _, _ = site
    alice, bob = Api(app, "alice"), Api(app, "bob")
    issued = alice.cert()
    assert (
        "locked by the platform team" in bob.post("/locks", 403, subject=issued["serial"], reason="not mine")["detail"]
    )
    assert bob.post("/locks", 403, subject="alice", reason="not mine")["hint"] == "ask olga, pat"
    made = alice.post("/locks", 201, subject=f"X509SHA256={issued['fingerprint']}", reason="key was copied")
    assert (made["kind"], made["subject"], made["cluster"]) == ("certificate", issued["serial"], "dev")
    assert made["sessions"] == 1  # the one that it was signed for
    again = Api(app, "alice")
    assert "is not renewed" in again.cert(403)["detail"]
    again.cert(name="alice2")  # another key
    again.post("/locks/lift", 403, subject=issued["serial"])
    Api(app, "olga").post("/locks/lift", 200, subject=issued["serial"])


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"subject": "alcie", "reason": "lost laptop"}, 422, "alice"),
        ({"subject": "ALICE", "reason": "lost laptop"}, 422, "no person and no certificate `ALICE`"),
        ({"subject": "12345678901234567890", "reason": "lost laptop"}, 422, "no person and no certificate"),
        ({"subject": "ab" * 32, "reason": "lost laptop"}, 422, "no certificate with the fingerprint"),
        ({"subject": "", "reason": "lost laptop"}, 422, "whom or what"),
        ({"subject": "alice", "reason": "no"}, 422, "a reason is needed"),
        ({"subject": "newcomer", "reason": "lost laptop", "anyway": True}, 201, "newcomer"),
    ],
)
def test_what_can_be_locked(site, body, status, words):
    app, _, _ = site
    assert words in str(Api(app, "olga").post("/locks", status, **body))


def test_a_shorter_lock_is_a_conflict(site):
    app, _, _ = site
    olga = Api(app, "olga")
    olga.post("/locks", 201, subject="alice", reason="lost laptop")
    assert "is locked by olga" in olga.post("/locks", 409, subject="alice", reason="lost again", seconds=60)["detail"]


def test_the_page(site):
    app, world, _ = site
    olga = login(app, "olga")
    assert "Nothing is locked" in text(olga.get("/access/locks"))
    page = olga.post("/access/locks", data={"subject": "alcie", "reason": "lost laptop", "duration": "8h"})
    assert "alice" in text(page, 422)
    assert 'value="lost laptop"' in page.get_data(as_text=True)
    assert "write it as" in text(
        olga.post("/access/locks", data={"subject": "alice", "reason": "lost it", "duration": "x"}), 422
    )
    assert "name a person" in text(olga.post("/access/locks", data={}), 422)
    done = olga.post("/access/locks", data={"subject": "alice", "reason": "lost laptop", "duration": "8h"})
    assert done.status_code == 302
    page = text(olga.get("/access/locks"))
    assert "alice olga lost laptop" in page
    assert "pilothouse access locks" in page
    alice = login(app, "alice")
    assert "alice is locked by olga" in text(alice.get("/"))
    mine = text(alice.get("/access/locks"))
    assert "nobody lifts a lock on themselves" in mine
    assert "Your own certificates you may lock yourself" in mine
    refused = alice.post("/access/locks", data={"subject": "bob", "reason": "revenge"})
    assert "ask olga, pat" in text(refused, 403)
    assert login(app, "pat").post("/access/locks/lift", data={"subject": "alice"}).status_code == 302
    assert "lifted by pat" in text(olga.get("/access/locks?past=yes"))
    app.config["CLOCK"].moment += timedelta(minutes=1)
    assert sessions.living(world.store, "alice", app.config["CLOCK"]())


def test_the_api_is_described():
    paths = document()["paths"]
    assert set(paths["/api/v1/access/locks"]) == {"get", "post"}
    assert "post" in paths["/api/v1/access/locks/lift"]


def test_what_a_lock_leaves_good_is_said_with_the_way_out(site):
    """No API server of this platform asks the webhook, so the generation of the profile is what ends a certificate."""
    app, _, heard = site
    alice, olga = Api(app, "alice"), Api(app, "olga")
    serial = alice.cert()["serial"]
    (said,) = olga.post("/locks", 201, subject=serial, reason="lost laptop")["unheld"]
    assert said.startswith("1 certificate for developer on dev may be used until ")
    assert "its API server does not ask pilothouse" in said
    assert "write `generation: 1` into the profile, then `pilothouse apply dev`" in said
    assert said in heard.messages[-1].text
    olga.post("/locks/lift", 200, subject=serial)
    page = login(app, "olga")
    answer = page.post(
        "/access/locks", data={"subject": "alice", "reason": "lost laptop", "duration": ""}, follow_redirects=True
    )
    assert "write `generation: 1` into the profile" in text(answer)
    assert olga.post("/locks", 201, subject="bob", reason="left the house")["unheld"] == []
