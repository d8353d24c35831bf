import html
import re
from datetime import timedelta

import pytest
from cryptography import x509
from support.access_portal import access_portal
from support.access_values import csr, key
from support.portal import login

from pilothouse.access import certificates
from pilothouse.store import grants as grant_rows
from pilothouse.store import ledger


@pytest.fixture
def site(tmp_path):
    with access_portal(tmp_path, ("alice", "olga", "pat")) as found:
        yield found


def text(response, status=200):
    assert response.status_code == status, response.get_data(as_text=True)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", response.get_data(as_text=True))).split())


def leaf(response):
    found = re.search(r"-----BEGIN CERTIFICATE-----[^<]*-----END CERTIFICATE-----", response.get_data(as_text=True))
    return x509.load_pem_x509_certificate(found.group(0).encode())


def test_my_profiles_in_words(site):
    app, _, _ = site
    page = text(login(app, "alice").get("/access/"))
    assert "Look at the workloads, logs and events of your teams' namespaces" in page
    assert "forward ports of pods" in page
    assert "it is for members of platform-admins: ask platform-admins" in page
    assert "pilothouse access cert developer --cluster dev" in page
    assert "You hold no certificate now" in page


def test_one_profile_says_where_it_holds(site):
    app, _, _ = site
    alice = login(app, "alice")
    page = text(alice.get("/access/profiles/developer"))
    assert "prod in namespace payments" in page
    assert "At once, for 16 h." in page
    assert alice.get("/access/profiles/nothing").status_code == 404
    assert "not yours" in text(alice.get("/access/profiles/cluster-admin"))


def test_a_pasted_request_becomes_a_certificate_for_that_cluster_alone(site):
    app, world, _ = site
    alice = login(app, "alice")
    response = alice.post("/access/profiles/developer/certificate", data={"cluster": "dev", "csr": csr(key("alice"))})
    assert "Your certificate" in text(response)
    issued = leaf(response)
    assert certificates.subject_of(issued)[0] == ("alice",)
    dev, prod = (
        x509.load_pem_x509_certificate(alice.get(f"/access/authorities/{name}.crt").data) for name in ("dev", "prod")
    )
    assert certificates.is_signed_by(issued, dev)
    assert not certificates.is_signed_by(issued, prod)
    page = text(alice.get("/access/"))
    assert "in 16 h" in page
    home = text(alice.get("/"))
    assert "developer on dev" in home
    assert [entry.entry.kind for entry in ledger.everything(world.store)] == [
        "certificate.intent",
        "certificate.issued",
    ]
    assert b'pilothouse_certificates_alive{profile="developer"} 1.0' in alice.get("/metrics").data
    assert b'certificates_issued_total{cluster="dev",profile="developer"} 1.0' in alice.get("/metrics").data


def test_a_mistake_keeps_what_was_typed(site):
    app, _, _ = site
    alice = login(app, "alice")
    data = {"cluster": "prod", "csr": "rubbish", "duration": "8h"}
    response = alice.post("/access/profiles/developer/certificate", data=data)
    page = text(response, 422)
    assert "this is no signing request" in page
    assert "rubbish" in response.get_data(as_text=True)
    assert 'value="8h"' in response.get_data(as_text=True)
    assert 'value="prod" selected' in response.get_data(as_text=True)
    empty = alice.post("/access/profiles/developer/certificate", data={"cluster": "dev", "duration": "soon"})
    assert "paste the signing request" in text(empty, 422)
    assert "write it as 8h, 45m or 1h30m" in text(empty, 422)
    long = {"cluster": "dev", "csr": csr(key("alice")), "duration": "20h"}
    assert "lasts 10 min to 16 h, not 20 h" in text(
        alice.post("/access/profiles/developer/certificate", data=long), 422
    )


def test_what_is_not_mine_is_refused_by_the_server_too(site):
    app, world, _ = site
    alice = login(app, "alice")
    data = {"cluster": "dev", "csr": csr(key("alice")), "reason": "because", "duration": ""}
    assert alice.post("/access/profiles/on-call/certificate", data=data).status_code == 403
    assert alice.post("/access/profiles/cluster-admin/request", data=data).status_code == 403
    assert alice.get("/access/authorities/none.crt").status_code == 404
    assert list(ledger.everything(world.store)) == []


def ask(client, **data):
    values = {"cluster": "dev", "reason": "replace a node", "duration": "45m", **data}
    response = client.post("/access/profiles/cluster-admin/request", data=values)
    assert response.status_code == 302, text(response, response.status_code)
    return response.location.rsplit("/", 1)[1]


def test_an_elevation_from_request_to_give_back(site):
    app, world, heard = site
    olga, pat = login(app, "olga"), login(app, "pat")
    refused = {"cluster": "dev", "reason": "replace a node", "ticket": "x" * 101, "duration": "45m"}
    page = text(olga.post("/access/profiles/cluster-admin/request", data=refused), 422)
    assert "a ticket has at most 100 characters" in page
    id = ask(olga, ticket="PLAT-4711")
    assert "PLAT-4711: replace a node" in text(olga.get(f"/access/requests/{id}"))
    assert heard.messages[0].to == ("pat@bank.example",)
    assert "do everything, on every resource" in heard.messages[0].text
    assert f"/access/requests/{id}" in heard.messages[0].text
    assert "nobody decides on a request of their own" in text(olga.get(f"/access/requests/{id}"))

    assert "olga: cluster-admin on dev" in text(pat.get("/"))
    assert "replace a node" in text(pat.get("/access/"))
    page = text(pat.get(f"/access/requests/{id}"))
    assert "What it would grant Everywhere on dev: " in page
    assert "read every Secret" in page
    response = pat.post(f"/access/requests/{id}/decide", data={"decision": "approve", "comment": "go"})
    assert response.status_code == 302
    assert heard.messages[1].to == ("olga@bank.example",)

    assert f"pilothouse access claim {id}" in text(olga.get(f"/access/requests/{id}"))
    claimed = olga.post(f"/access/requests/{id}/claim", data={"csr": csr(key("olga"))})
    assert certificates.subject_of(leaf(claimed))[1] == ("ph:elevated:cluster-admin",)
    assert "claimed" in text(claimed)
    again = olga.post(f"/access/requests/{id}/claim", data={"csr": csr(key("olga"))})
    assert again.status_code == 409

    assert olga.post("/access/give-back", data={"id": id}).status_code == 302
    assert "Kubernetes knows no revocation" in text(olga.get("/access/"))
    assert grant_rows.get(world.store, id).state == "given-back"
    assert [entry.entry.kind for entry in ledger.everything(world.store)] == [
        "elevation.requested",
        "elevation.approved",
        "certificate.intent",
        "certificate.issued",
        "elevation.given-back",
        "certificate.given-back",
    ]
    assert ledger.verify(world.store)[0] == ()


def test_nobody_approves_their_own_request(site):
    app, world, _ = site
    olga = login(app, "olga")
    id = ask(olga)
    refused = olga.post(f"/access/requests/{id}/decide", data={"decision": "approve"})
    assert "nobody decides on a request of their own" in text(refused, 403)
    assert grant_rows.get(world.store, id).state == "requested"


def test_a_denial_says_why(site):
    app, world, heard = site
    id = ask(login(app, "olga"))
    pat = login(app, "pat")
    assert "say why" in text(pat.post(f"/access/requests/{id}/decide", data={"decision": "deny"}), 422)
    assert pat.post(f"/access/requests/{id}/decide", data={"decision": "maybe"}).status_code == 400
    pat.post(f"/access/requests/{id}/decide", data={"decision": "deny", "comment": "use the drain job"})
    assert grant_rows.get(world.store, id).state == "denied"
    assert "use the drain job" in heard.messages[-1].text
    assert "Nothing more can happen to it" in text(pat.get(f"/access/requests/{id}"))


def test_a_request_without_reason_or_with_a_second_one_open(site):
    app, _, _ = site
    olga = login(app, "olga")
    data = {"cluster": "dev", "reason": " ", "duration": "45m"}
    assert "say what for" in text(olga.post("/access/profiles/cluster-admin/request", data=data), 422)
    assert "a reason is needed" in text(
        olga.post("/access/profiles/cluster-admin/request", data=data | {"reason": "x"}), 422
    )
    ask(olga)
    assert "is still requested" in text(
        olga.post("/access/profiles/cluster-admin/request", data=data | {"reason": "again, please"}), 422
    )
    other = data | {"reason": "on another one", "cluster": "nowhere"}
    assert "no cluster `nowhere`" in text(olga.post("/access/profiles/cluster-admin/request", data=other), 422)


def test_requests_of_others_are_theirs(site):
    app, _, _ = site
    id = ask(login(app, "olga"))
    assert login(app, "pat").get("/access/requests/g-none").status_code == 404
    alice = login(app, "alice")  # approves for a team, so may read the audit
    assert alice.get(f"/access/requests/{id}").status_code == 200
    assert "only members of platform-admins may" in text(alice.get(f"/access/requests/{id}"))


def test_a_stranger_does_not_see_requests(tmp_path):
    with access_portal(tmp_path, ("zoe", "olga")) as (app, _, _):
        id = ask(login(app, "olga"))
        zoe = login(app, "zoe")
        assert zoe.get(f"/access/requests/{id}").status_code == 403
        assert zoe.post("/access/give-back", data={"id": id}).status_code == 403
        assert zoe.post("/access/give-back", data={"id": "17"}).status_code == 422


def test_a_claim_without_a_request_is_shown_again(site):
    app, _, _ = site
    olga = login(app, "olga")
    id = ask(olga)
    login(app, "pat").post(f"/access/requests/{id}/decide", data={"decision": "approve"})
    assert "paste the signing request" in text(olga.post(f"/access/requests/{id}/claim", data={}), 422)
    assert "no signing request" in text(olga.post(f"/access/requests/{id}/claim", data={"csr": "x"}), 422)


def test_a_request_of_a_profile_that_is_gone(site):
    app, world, _ = site
    id = ask(login(app, "olga"))
    with world.store.write() as connection:
        connection.exec_driver_sql("UPDATE grants SET profile = 'gone'")
    assert "is not declared any more" in text(login(app, "olga").get(f"/access/requests/{id}"))


def test_ended_certificates_are_listed_apart(site):
    app, _, _ = site
    alice = login(app, "alice")
    data = {"cluster": "dev", "csr": csr(key("alice")), "duration": "1h"}
    alice.post("/access/profiles/developer/certificate", data=data)
    app.config["CLOCK"].moment += timedelta(minutes=90)
    page = text(alice.get("/access/"))
    assert "Earlier certificates The last 1" in page
    assert "You hold no certificate now" in page


def test_without_a_signer_the_page_says_so(tmp_path):
    from support.access_world import write_platform
    from support.portal import make_app

    root = write_platform(tmp_path / "platform")
    users = {"alice": {"groups": ("engineers",)}}
    app = make_app(tmp_path, root=root, users_=users)
    alice = login(app, "alice")
    assert alice.get("/access/").status_code == 200
    data = {"cluster": "dev", "csr": csr(key("alice"))}
    response = alice.post("/access/profiles/developer/certificate", data=data)
    assert "the signer does not answer" in text(response, 503)
    state = app.test_client().get("/readyz").json
    assert state["ready"] is True
    assert state["backends"]["signer"]["ok"] is False


def test_mail_that_is_set_wrongly_stops_the_start(tmp_path):
    from support.access_world import write_platform
    from support.portal import make_app

    from pilothouse.problems import Invalid

    (tmp_path / "data").mkdir()
    (tmp_path / "data/notify.yaml").write_text("smtp: {host: mail.example}\n")
    with pytest.raises(Invalid, match=r"smtp\.from"):
        make_app(tmp_path, root=write_platform(tmp_path / "platform"))


def test_what_could_not_be_told_is_kept(tmp_path):
    from support.access_world import write_platform
    from support.demo import until
    from support.portal import make_app

    from pilothouse.store import notices
    from pilothouse.workflows.access import Message

    (tmp_path / "data").mkdir()
    (tmp_path / "data/notify.yaml").write_text(
        "smtp: {host: localhost, port: 1, from: a@bank.example, starttls: false}\n"
    )
    app = make_app(tmp_path, root=write_platform(tmp_path / "platform"))
    notifier = app.extensions["pilothouse"].settings.extra["notifier"]
    notifier.tell(Message(("a@bank.example",), "s", "t"))
    kept = until(lambda: notices.undelivered(app.config["STORE"]), 10)
    assert [(item.channel, item.to, item.tries) for item in kept] == [("mail", ("a@bank.example",), 1)]
    assert "localhost did not take it" in kept[0].error
