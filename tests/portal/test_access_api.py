import pytest
from support.access_portal import access_portal
from support.access_values import csr, key
from support.access_world import declare_api_ca
from support.portal import bearer

from pilothouse.portal.api import document


@pytest.fixture
def site(tmp_path):
    with access_portal(tmp_path, ("alice", "olga", "pat")) as found:
        yield found


class Api:
    """The API as one person's command line calls it."""

    def __init__(self, app, name):
        self.client, self.headers = app.test_client(), bearer(app, name)

    def get(self, path, status=200):
        return self._checked(self.client.get(f"/api/v1/access{path}", headers=self.headers), status)

    def post(self, path, body, status=200):
        return self._checked(self.client.bare_post(f"/api/v1/access{path}", json=body, headers=self.headers), status)

    def _checked(self, response, status):
        assert response.status_code == status, response.get_data(as_text=True)
        return response.json


def test_profiles_and_a_certificate(site):
    app, _, _ = site
    alice = Api(app, "alice")
    items = alice.get("/profiles")["items"]
    assert [(item["name"], item["mine"]) for item in items] == [
        ("developer", True),
        ("on-call", False),
        ("release-manager", False),
        ("cluster-admin", False),
    ]
    assert items[0]["clusters"]["dev"] == "in namespace payments"
    body = {"profile": "developer", "cluster": "dev", "csr": csr(key("alice")), "seconds": 3600}
    issued = alice.post("/certificates", body, 201)
    assert issued["server"] == "https://api.dev.bank.example:6443"
    assert issued["groups"] == ["ph:developer:payments"]
    (row,) = alice.get("/certificates")["items"]
    assert (row["serial"], row["alive"]) == (issued["serial"], True)
    assert alice.get("/authorities/dev")["pem"] == issued["authority"]
    assert alice.get("/authorities/none", 404)["status"] == 404
    assert "recorded as given back" in alice.post(f"/give-back/{issued['serial']}", {})["meaning"]
    assert alice.post(f"/give-back/{issued['serial']}", {}, 409)["detail"].endswith("has ended already")
    assert alice.get("/certificates")["items"][0]["state"] == "given-back"


def test_the_authority_of_the_api_server_comes_with_the_certificate(tmp_path):
    with access_portal(tmp_path, ("alice",)) as (app, world, _):
        file = tmp_path / "api-ca.crt"
        declare_api_ca(world.platform, file)
        body = {"profile": "developer", "cluster": "dev", "csr": csr(key("alice"))}
        alice = Api(app, "alice")
        known = alice.get("/authorities/dev")["pem"]

        def issued():
            found = alice.post("/certificates", body, 201)
            return found["server_authority"], found["server_note"]

        assert issued() == (
            "",
            f"the authority of dev's API server is not known to the portal: {file} cannot be read: "
            "No such file or directory",
        )
        file.write_text(f"a word before\n{known}{known}")
        assert issued() == (known * 2, "")
        # A file that is declared by mistake is not handed out.
        file.write_text("hvs.secret")
        authority, note = issued()
        assert (authority, note.endswith(f"{file} holds no certificate in PEM")) == ("", True)


def test_an_elevation(site):
    app, _, heard = site
    olga, pat, alice = Api(app, "olga"), Api(app, "pat"), Api(app, "alice")
    body = {"profile": "cluster-admin", "cluster": "dev", "reason": "replace a node"}
    asked = olga.post("/requests", body, 201)
    assert (asked["state"], asked["seconds"], asked["untold"]) == ("requested", 1800, "")
    assert len(heard.messages) == 1
    assert olga.get("/requests")["waiting"] == []
    assert [item["id"] for item in pat.get("/requests")["waiting"]] == [asked["id"]]
    assert "own" in olga.post(f"/requests/{asked['id']}/approve", {}, 403)["detail"]
    assert alice.post(f"/requests/{asked['id']}/approve", {}, 403)["hint"] == "ask platform-admins"
    assert pat.post(f"/requests/{asked['id']}/approve", {"comment": "go"})["state"] == "approved"
    assert pat.post(f"/requests/{asked['id']}/deny", {}, 409)["status"] == 409
    claimed = olga.post(f"/requests/{asked['id']}/claim", {"csr": csr(key("olga"))}, 201)
    assert claimed["grant_id"] == asked["id"]
    mine = olga.get("/requests")["mine"][0]
    assert (mine["state"], mine["serial"]) == ("claimed", claimed["serial"])
    assert olga.post("/requests/g-none/claim", {"csr": csr()}, 422)["detail"] == "there is no request `g-none`"
    assert mine["ticket"] == ""
    other = olga.post("/requests", body | {"cluster": "prod", "ticket": "PLAT-4711"}, 201)
    assert other["ticket"] == "PLAT-4711"
    assert "PLAT-4711: replace a node" in heard.messages[-1].text
    assert olga.post("/requests", body | {"cluster": "test", "ticket": "a\nb"}, 422)["detail"]
    assert pat.post(f"/requests/{other['id']}/deny", {"comment": "no"})["state"] == "denied"


def test_the_ledger_is_ones_own_or_all(tmp_path):
    with access_portal(tmp_path, ("zoe", "alice", "olga")) as (app, _, _):
        alice, zoe = Api(app, "alice"), Api(app, "zoe")
        alice.post("/certificates", {"profile": "developer", "cluster": "dev", "csr": csr(key("alice"))}, 201)
        assert alice.get("/ledger")["total"] == 2
        assert alice.get("/ledger?kind=certificate.issued&page=1")["total"] == 1
        assert alice.get("/ledger?page=9")["items"] == []
        assert alice.get("/ledger?page=x")["total"] == 2
        found = zoe.get("/ledger?actor=alice")
        assert (found["total"], found["narrowed"]) == (
            0,
            "the entries of others are for approvers and the platform team; you see your own",
        )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/certificates", {}),
        ("/certificates", {"profile": "developer", "cluster": "dev", "csr": "x", "user": "root"}),
        ("/certificates", {"profile": "developer", "cluster": "dev", "csr": "x", "seconds": -1}),
        ("/certificates", {"profile": "developer", "cluster": "dev", "csr": "x"}),
        ("/requests", {"profile": "cluster-admin", "cluster": "dev"}),
        ("/requests", {"profile": "none", "cluster": "dev", "reason": "because of it"}),
        ("/give-back/nothing", {}),
    ],
)
def test_bodies_that_do_not_do(site, path, body):
    app, _, _ = site
    assert Api(app, "olga").post(path, body, 422)["detail"]


def test_nobody_gets_anything_without_a_login(site):
    app, _, _ = site
    client = app.test_client()
    for path in ("profiles", "certificates", "requests", "ledger", "authorities/dev"):
        assert client.get(f"/api/v1/access/{path}").status_code == 401
    assert client.bare_post("/api/v1/access/certificates", json={}).status_code == 401


def test_every_operation_is_described(site):
    paths = document()["paths"]
    app, _, _ = site
    rules = {
        (rule.rule, method)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/access/")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    described = {
        (path, method.upper()) for path in paths for method in paths[path] if path.startswith("/api/v1/access/")
    }
    assert len(described) == len(rules) + 1  # approve and deny share a rule
