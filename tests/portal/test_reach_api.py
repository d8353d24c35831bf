"""Who can, and what can: with certificates, approvals, locks, and the declarations of an earlier commit."""

import subprocess
from datetime import timedelta

import pytest
from support.access_portal import access_portal
from support.access_values import csr, key
from support.portal import bearer

from pilothouse.files.git import Repository, init
from pilothouse.portal.api import document


@pytest.fixture
def site(tmp_path):
    with access_portal(tmp_path, ("alice", "bob", "zoe", "olga", "pat")) as found:
        yield found


class Api:
    def __init__(self, app, name):
        self.client, self.headers = app.test_client(), bearer(app, name)

    def get(self, path, status=200, **query):
        response = self.client.get(f"/api/v1/access{path}", query_string=query, headers=self.headers)
        assert response.status_code == status, response.get_data(as_text=True)
        return response.json

    def post(self, path, **body):
        response = self.client.bare_post(f"/api/v1/access{path}", json=body, headers=self.headers)
        assert response.status_code < 300, response.get_data(as_text=True)
        return response.json


PODS = {"verb": "get", "resource": "pods", "namespace": "payments", "cluster": "dev"}


def ways(found):
    return {way["subject"]: way for way in found["ways"]}


def elevated(olga, pat, name="olga"):
    id = olga.post("/requests", profile="cluster-admin", cluster="dev", reason="replace a node")["id"]
    pat.post(f"/requests/{id}/approve")
    return id, olga.post(f"/requests/{id}/claim", csr=csr(key(name)))["serial"]


def test_who_can_names_profile_people_certificate_and_approval(site):
    app, _, _ = site
    alice, olga, pat = (Api(app, name) for name in ("alice", "olga", "pat"))
    serial = alice.post("/certificates", profile="developer", cluster="dev", csr=csr(key("alice")))["serial"]
    id, claimed = elevated(olga, pat)
    found = ways(olga.get("/who-can", **PODS))
    developer = found["ph:developer:payments"]
    assert (developer["profile"], developer["team"], developer["elevated"]) == ("developer", "payments", False)
    assert developer["people"] == ["alice", "bob"]  # zoe is an engineer, and in no team
    assert [item["serial"] for item in developer["certificates"]] == [serial]
    assert developer["by"]["binding"] == "RoleBinding payments/ph:developer:payments"
    assert "get" in developer["by"]["rule"]["verbs"]
    admin = found["ph:elevated:cluster-admin"]
    assert (admin["elevated"], admin["approvers"], admin["people"]) == (True, ["platform-admins"], ["olga", "pat"])
    (held,) = admin["certificates"]
    assert (held["serial"], held["request"], held["approved_by"]) == (claimed, id, "pat")
    assert held["reason"] == "replace a node"
    assert "ph:developer:infra" not in found


def test_who_could_then_is_by_the_ledger_of_that_time(site):
    app, _, _ = site
    clock = app.config["CLOCK"]
    alice, olga = Api(app, "alice"), Api(app, "olga")
    before = clock.moment
    clock.moment += timedelta(hours=1)
    serial = alice.post("/certificates", profile="developer", cluster="dev", csr=csr(key("alice")))["serial"]
    clock.moment += timedelta(minutes=30)
    during = clock.moment
    clock.moment += timedelta(minutes=30)
    olga.post("/locks", subject=serial, reason="lost laptop")
    locked = clock.moment
    clock.moment += timedelta(minutes=30)
    Api(app, "alice").post(f"/give-back/{serial}")

    def held(moment):
        found = ways(Api(app, "olga").get("/who-can", at=moment.isoformat(), **PODS))
        return [(item["serial"], item["locked"]) for item in found["ph:developer:payments"]["certificates"]]

    assert held(before) == []
    assert held(during) == [(serial, False)]
    assert held(locked) == [(serial, True)]
    assert held(clock.moment) == []
    notes = olga.get("/who-can", at=during.isoformat(), **PODS)["notes"]
    assert any("no Git repository" in note for note in notes)


def test_who_could_then_is_by_the_declarations_of_that_time(site):
    app, world, _ = site
    repository = init(world.platform)
    assert isinstance(repository, Repository)
    path = world.platform / "platform.yaml"
    text = path.read_text()

    def commit(when):
        subprocess.run(["git", "add", "-A"], cwd=world.platform, check=True)
        names = ["-c", "user.name=olga", "-c", "user.email=olga@bank.example"]
        subprocess.run(
            ["git", *names, "commit", "-q", "-m", "change"],
            cwd=world.platform,
            check=True,
            env={"PATH": "/usr/bin:/bin", "GIT_COMMITTER_DATE": when, "GIT_AUTHOR_DATE": when},
        )

    commit("2026-11-01T00:00:00Z")
    path.write_text(text.replace("namespace: payments", "namespace: ledger"))
    commit("2026-11-10T00:00:00Z")
    olga = Api(app, "olga")
    then = olga.get("/who-can", at="2026-11-05T12:00", **PODS)
    assert "ph:developer:payments" in ways(then)
    assert len(then["commit"]) == 40
    later = olga.get("/who-can", at="2026-11-15", **PODS)
    assert "ph:developer:payments" not in ways(later)
    early = olga.get("/who-can", at="2026-10-01", **PODS)
    assert (early["commit"], any("no commit of that time" in note for note in early["notes"])) == ("", True)
    now = olga.get("/who-can", **PODS)
    assert (now["commit"], "ph:developer:payments" in ways(now)) == ("", False)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"verb": ""}, "a question has"),
        ({"resource": "podz"}, "pods"),
        ({"cluster": "nowhere"}, "no cluster `nowhere`"),
        ({"at": "yesterday"}, "no moment"),
        ({"at": "2999-01-01"}, "has not come yet"),
    ],
)
def test_what_cannot_be_asked(site, query, words):
    app, _, _ = site
    found = Api(app, "olga").get("/who-can", 422, **(PODS | query))
    assert words in found["detail"] + found["hint"]


def test_who_may_ask(site):
    app, _, _ = site
    bob = Api(app, "bob")
    assert bob.get("/who-can", 403, **PODS)["hint"] == "ask olga, pat"
    bob.get("/what-can/alice", 403)
    assert bob.get("/what-can/bob")["teams"] == ["payments"]


def test_what_can(site):
    app, _, _ = site
    olga, pat = Api(app, "olga"), Api(app, "pat")
    id, serial = elevated(olga, pat)
    found = pat.get("/what-can/olga", cluster="dev")
    assert found["teams"] == ["infra"]
    profiles = {(right["profile"], right["team"], right["elevated"], right["namespace"]) for right in found["rights"]}
    assert ("developer", "infra", False, "tools") in profiles
    assert ("cluster-admin", "", True, "") in profiles
    assert {right["cluster"] for right in found["rights"]} == {"dev"}
    (held,) = found["certificates"]
    assert (held["serial"], held["request"], held["approved_by"]) == (serial, id, "pat")
    assert found["locked"] == ""
    pat.post("/locks", subject="olga", reason="phished")
    assert pat.get("/what-can/olga")["locked"].startswith("olga is locked by pat")
    assert "olga" in pat.get("/what-can/olgaa", 422)["hint"]
    nobody = pat.get("/what-can/zoe")
    assert (nobody["rights"], nobody["certificates"]) == ([], [])


def test_the_api_is_described():
    paths = document()["paths"]
    assert {"/api/v1/access/who-can", "/api/v1/access/what-can/{user}"} <= set(paths)
