import dataclasses
import threading
from datetime import timedelta

import pytest
from cryptography import x509
from sqlalchemy import update
from support.access_values import authority, csr, key
from support.access_world import add_user, make_world

from pilothouse.access import certificates, grants
from pilothouse.access.grants import Grant
from pilothouse.problems import Conflict, Denied, Invalid, Unavailable
from pilothouse.store import certificates as certificate_rows
from pilothouse.store import grants as grant_rows
from pilothouse.store import ledger, sessions, users
from pilothouse.store.schema import users as user_rows
from pilothouse.workflows.issuance import Ask


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


@pytest.fixture
def issuance(world):
    with world.authorities() as authorities:
        yield world.issuance(authorities)


def ask(world, who="alice", **fields):
    values = {"token": world.token(who), "csr": csr(key(who)), "cluster": "dev", "profile": "developer"}
    return Ask(**{**values, **fields})


def kinds(world):
    return [entry.entry.kind for entry in ledger.everything(world.store)]


def load(pem):
    return x509.load_pem_x509_certificate(pem.encode())


def approved(world, who="olga", by="pat", cluster="dev"):
    """A request of olga's that pat has agreed to."""
    profile = world.declared().profiles["cluster-admin"]
    asked = grants.request(f"g-{next(world.serials)}", who, profile, cluster, "repair the node", 1800, world.now)
    grant_rows.add(world.store, asked)
    if by:
        grant_rows.change(
            world.store, asked.id, lambda g: grants.approve(g, by, "", world.now), by, "elevation.approved", world.now
        )
    return asked.id


# ---------------------------------------------------------------- standing profiles


def test_a_certificate_for_one_cluster_and_none_other(world, issuance):
    issued = issuance.issue(ask(world))
    leaf = load(issued.pem)
    assert certificates.subject_of(leaf) == (("alice",), ("ph:developer:payments",), ())
    assert issued.not_after == world.now + timedelta(hours=16)
    dev = load((world.data / "authorities/dev.crt").read_text())
    assert certificates.is_signed_by(leaf, dev)
    prod = issuance.authorities.certificate("prod")
    assert not certificates.is_signed_by(leaf, prod)
    assert prod.public_key() != dev.public_key()


def test_the_intent_is_recorded_before_and_the_outcome_after(world, issuance):
    issued = issuance.issue(ask(world))
    intent, outcome = ledger.everything(world.store)
    assert (intent.entry.kind, intent.entry.actor, intent.entry.subject) == (
        "certificate.intent",
        "alice",
        issued.serial,
    )
    assert intent.entry.data["profile"] == "developer"
    assert (outcome.entry.kind, outcome.entry.data["fingerprint"]) == ("certificate.issued", issued.fingerprint)
    assert ledger.verify(world.store, world.heads) == ((), outcome.head)
    assert world.heads == [intent.head, outcome.head]
    (row,) = certificate_rows.of_user(world.store, "alice", world.now)
    assert (row.state, row.serial, row.pem) == ("issued", issued.serial, issued.pem)


@pytest.mark.parametrize(
    ("said", "kept"), [("192.0.2.7", "192.0.2.7"), ("", ""), ("x" * 65, ""), ("192.0.2.7\nforged", "")]
)
def test_the_address_that_asked_is_recorded_where_it_can_be_one(world, issuance, said, kept):
    issued = issuance.issue(ask(world, address=said))
    assert certificate_rows.get(world.store, issued.serial).address == kept
    intent, _ = ledger.everything(world.store)
    assert intent.entry.data.get("address", "") == kept


def test_nothing_of_the_request_but_its_key_is_signed(world, issuance):
    smuggling = csr(key("alice"), "system:admin", x509.SubjectAlternativeName([x509.DNSName("root")]))
    leaf = load(issuance.issue(ask(world, csr=smuggling)).pem)
    assert certificates.subject_of(leaf)[0] == ("alice",)
    with pytest.raises(x509.ExtensionNotFound):
        leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_a_shorter_time_may_be_asked_for(world, issuance):
    assert issuance.issue(ask(world, seconds=3600)).not_after == world.now + timedelta(hours=1)


@pytest.mark.parametrize(
    ("fields", "failure", "message"),
    [
        ({"token": "x" * 43}, Denied, "session has ended"),
        ({"token": ""}, Denied, "session has ended"),
        ({"profile": "developr"}, Invalid, "no profile `developr`"),
        ({"profile": "on-call"}, Denied, "members of on-call"),
        ({"profile": "cluster-admin"}, Denied, "elevated"),
        ({"cluster": "nowhere"}, Invalid, "no cluster `nowhere`"),
        ({"cluster": "vaulted"}, Denied, "no login there came with the request"),
        ({"team": "infra"}, Denied, "team infra is none of yours"),
        ({"seconds": 60}, Invalid, "lasts 10 min to 16 h, not 1 min"),
        ({"seconds": 17 * 3600}, Invalid, "not 17 h"),
        ({"seconds": -5}, Invalid, "not 0 s"),
        ({"csr": "nonsense"}, Invalid, "no signing request"),
        ({"grant_id": "g-unknown"}, Invalid, "no request"),
    ],
)
def test_what_is_refused_leaves_no_intent(world, issuance, fields, failure, message):
    with pytest.raises(failure, match=message):
        issuance.issue(ask(world, **fields))
    assert kinds(world) == []
    assert certificate_rows.of_user(world.store, "alice") == ()


def test_without_a_team_there_is_nowhere_to_hold(world, issuance):
    with pytest.raises(Denied, match="you are in none"):
        issuance.issue(ask(world, "zoe"))
    assert "tools" not in str(issuance.issue(ask(world, "olga")).groups)
    with pytest.raises(Denied, match="none of your teams has a service on cluster prod"):
        issuance.issue(ask(world, "olga", cluster="prod"))


def test_groups_are_those_of_the_account_now_not_those_of_the_login(world, issuance):
    asked = ask(world)
    with world.store.write() as connection:
        connection.execute(update(user_rows).where(user_rows.c.name == "alice").values(groups=[]))
    with pytest.raises(Denied, match="members of engineers"):
        issuance.issue(asked)


def test_a_closed_account_gets_nothing(world, issuance):
    asked = ask(world)
    with world.store.write() as connection:
        connection.execute(update(user_rows).where(user_rows.c.name == "alice").values(disabled=True))
    with pytest.raises(Denied, match="account alice is closed"):
        issuance.issue(asked)


def test_a_person_of_a_directory_has_the_groups_of_the_login(world, issuance):
    users.remove(world.store, "bob", world.now)
    assert issuance.issue(ask(world, "bob")).groups == ("ph:developer:payments",)


def test_a_key_of_another_user_is_refused(world, issuance):
    issuance.issue(ask(world, "alice"))
    with pytest.raises(Denied, match="used for another user"):
        issuance.issue(ask(world, "bob", csr=csr(key("alice"))))
    assert issuance.issue(ask(world, "alice")).user == "alice"
    assert kinds(world).count("certificate.issued") == 2


def test_names_of_kubernetes_itself_are_never_signed(world, issuance):
    token, _ = sessions.start(
        world.store, users.User("system:admin", groups=frozenset(("on-call",))), world.now, kind="token"
    )
    with pytest.raises(Invalid, match="never signed"):
        issuance.issue(ask(world, token=token, profile="on-call"))
    assert kinds(world) == []


# ---------------------------------------------------------------- failing closed


class Broken:
    """Wraps authorities: `sign` does something else."""

    def __init__(self, inner, sign):
        self.inner, self._sign = inner, sign

    def certificate(self, cluster):
        return self.inner.certificate(cluster)

    def sign(self, cluster, template, voucher):
        return self._sign(self.inner, cluster, template)


def test_what_an_authority_signs_wrongly_is_withheld(world, issuance):
    def other(inner, cluster, template):
        return certificates.sign(dataclasses.replace(template, user="mallory"), *authority())

    broken = world.issuance(Broken(issuance.authorities, other))
    with pytest.raises(Unavailable, match="signed something else"):
        broken.issue(ask(world))
    assert kinds(world) == ["certificate.intent", "certificate.failed"]
    assert certificate_rows.of_user(world.store, "alice")[0].state == "failed"


def test_a_request_can_be_claimed_again_when_the_authority_failed(world, issuance):
    def away(inner, cluster, template):
        raise Unavailable("sealed")

    id = approved(world)
    with pytest.raises(Unavailable, match="sealed"):
        world.issuance(Broken(issuance.authorities, away)).issue(ask(world, "olga", grant_id=id))
    assert grant_rows.get(world.store, id).state == "approved"
    assert issuance.issue(ask(world, "olga", grant_id=id)).grant_id == id


def test_without_a_ledger_nothing_is_signed(world, issuance):
    signed = []

    def watched(inner, cluster, template):
        signed.append(template)
        return inner.sign(cluster, template)

    watching = world.issuance(Broken(issuance.authorities, watched))
    asked = ask(world)
    with world.store.write() as connection:
        connection.exec_driver_sql("DROP TABLE ledger")
    with pytest.raises(Unavailable):
        watching.issue(asked)
    assert signed == []
    assert certificate_rows.of_user(world.store, "alice") == ()


def test_without_an_outcome_nothing_is_handed_out(world, issuance):
    def full(head):
        if head.sequence == 2:
            raise Unavailable("disk full")

    with pytest.raises(Unavailable, match="disk full"):
        world.issuance(issuance.authorities, exported=full).issue(ask(world))


# ---------------------------------------------------------------- elevated profiles


def test_an_approved_request_is_claimed_once(world, issuance):
    id = approved(world)
    world.later(minutes=20)
    issued = issuance.issue(ask(world, "olga", grant_id=id))
    assert issued.groups == ("ph:elevated:cluster-admin",)
    assert issued.not_after == world.now + timedelta(minutes=30)
    claimed = grant_rows.get(world.store, id)
    assert (claimed.state, claimed.serial) == ("claimed", issued.serial)
    with pytest.raises(Conflict, match="is claimed, not approved"):
        issuance.issue(ask(world, "olga", grant_id=id))
    assert kinds(world) == [
        "elevation.requested",
        "elevation.approved",
        "certificate.intent",
        "certificate.issued",
    ]


def test_of_claims_at_once_one_gets_a_certificate(world, issuance):
    id = approved(world)
    token = world.token("olga")
    requests = [csr(key(f"olga{n}")) for n in range(4)]
    barrier = threading.Barrier(4)
    results = []

    def claim(request):
        barrier.wait()
        try:
            results.append(issuance.issue(Ask(token, request, grant_id=id)).serial)
        except Conflict as refused:
            results.append(refused)

    threads = [threading.Thread(target=claim, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert sum(isinstance(result, str) for result in results) == 1
    assert kinds(world).count("certificate.issued") == 1


def test_only_who_asked_claims(world, issuance):
    id = approved(world)
    with pytest.raises(Denied, match="only olga, who asked, may"):
        issuance.issue(ask(world, "pat", grant_id=id))


def test_what_was_not_approved_is_not_claimed(world, issuance):
    with pytest.raises(Conflict, match="is requested, not approved"):
        issuance.issue(ask(world, "olga", grant_id=approved(world, by="")))


def test_an_approval_lapses(world, issuance):
    id = approved(world)
    world.later(minutes=61)
    with pytest.raises(Conflict, match="is lapsed"):
        issuance.issue(ask(world, "olga", grant_id=id))


def forged(world, **fields):
    """A row that nobody made through the state machine."""
    id = f"g-{next(world.serials)}"
    values = {
        "state": grants.State.APPROVED,
        "deadline": world.now + timedelta(hours=1),
        "decided_by": "olga",
        "decided_at": world.now,
        **fields,
    }
    grant_rows.add(world.store, Grant(id, "olga", "cluster-admin", "dev", "because I can", 1800, world.now, **values))
    return id


def test_an_approval_of_ones_own_does_not_count_even_in_the_database(world, issuance):
    with pytest.raises(Denied, match="own"):
        issuance.issue(ask(world, "olga", grant_id=forged(world)))


def test_an_approval_by_nobody_does_not_count(world, issuance):
    with pytest.raises(Denied, match="approved by nobody"):
        issuance.issue(ask(world, "olga", grant_id=forged(world, decided_by="")))


def test_an_approver_who_may_not_any_more_does_not_count(world, issuance):
    id = approved(world)
    with world.store.write() as connection:
        connection.execute(update(user_rows).where(user_rows.c.name == "pat").values(groups=["engineers"]))
    with pytest.raises(Denied, match="approval of pat does not count any more"):
        issuance.issue(ask(world, "olga", grant_id=id))
    with world.store.write() as connection:
        connection.execute(update(user_rows).where(user_rows.c.name == "pat").values(disabled=True))
    with pytest.raises(Denied, match="account of pat, who approved, is closed"):
        issuance.issue(ask(world, "olga", grant_id=id))


def test_an_approver_of_a_directory_must_be_logged_in_still(world, issuance):
    id = approved(world, by="dora")
    with pytest.raises(Denied, match="whether dora, who approved, still may cannot be seen"):
        issuance.issue(ask(world, "olga", grant_id=id))
    sessions.start(world.store, users.User("dora", groups=frozenset(("platform-admins",))), world.now)
    assert issuance.issue(ask(world, "olga", grant_id=id)).user == "olga"


def test_who_asked_must_still_be_allowed_to(world, issuance):
    id = approved(world)
    asked = ask(world, "olga", grant_id=id)
    with world.store.write() as connection:
        connection.execute(update(user_rows).where(user_rows.c.name == "olga").values(groups=["engineers"]))
    with pytest.raises(Denied, match="members of platform-admins"):
        issuance.issue(asked)


def test_a_longer_time_than_the_profile_gives_is_refused_at_the_claim(world, issuance):
    id = forged(world, decided_by="pat")
    with world.store.write() as connection:
        connection.exec_driver_sql("UPDATE grants SET seconds = 86400")
    with pytest.raises(Invalid, match="not 24h"):
        issuance.issue(ask(world, "olga", grant_id=id))


def test_an_account_that_is_new_has_its_rights_at_once(world, issuance):
    add_user(world.store, "nina", ("on-call",))
    assert issuance.issue(ask(world, "nina", profile="on-call")).groups == ("ph:on-call",)
