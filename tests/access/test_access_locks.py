from datetime import timedelta

import pytest
from support.access_values import NOW

from pilothouse.access import apiserver, locks, reviews
from pilothouse.access.locks import Held, Kind, Target
from pilothouse.platform.authority import Authority, LockWebhook
from pilothouse.platform.model import Cluster, Versions
from pilothouse.problems import Conflict, Invalid

HOUR = timedelta(hours=1)
PRINT = "ab" * 32
ALICE = Target(Kind.USER, "alice", "alice")
LEAF = Target(Kind.CERTIFICATE, "1000", "alice", "dev", PRINT)


def lock(target=ALICE, until=None, id="l-1", reason="lost laptop"):
    return locks.lock(id, target, "olga", reason, NOW, until)


@pytest.mark.parametrize(("reason", "until"), [("  no ", None), ("x" * 501, None), ("lost laptop", NOW)])
def test_a_lock_needs_a_reason_and_time(reason, until):
    with pytest.raises(Invalid):
        lock(reason=reason, until=until)


def test_a_lock_holds_until_its_end_or_until_it_is_lifted():
    assert lock().holds(NOW + 1000 * HOUR)
    short = lock(until=NOW + HOUR)
    assert (short.holds(NOW), short.holds(NOW + HOUR)) == (True, False)
    lifted = locks.lift(short, "pat", " found  it ", NOW)
    assert (lifted.holds(NOW), lifted.lifted_why) == (False, "found it")
    with pytest.raises(Conflict):
        locks.lift(lifted, "pat", "", NOW)
    assert lock(LEAF).sentence.startswith("certificate 1000 of alice on dev is locked by olga since")


@pytest.mark.parametrize(
    ("present", "wanted", "gives_way"),
    [(1, 2, True), (1, None, True), (2, 1, False), (None, 2, False), (None, None, False), (1, 1, False)],
)
def test_a_lock_gives_way_to_a_longer_one_alone(present, wanted, gives_way):
    before, after = (lock(until=NOW + hours * HOUR if hours else None) for hours in (present, wanted))
    if gives_way:
        assert locks.over(before, after).lifted_at == NOW
    else:
        with pytest.raises(Conflict, match="is locked by olga"):
            locks.over(before, after)


@pytest.mark.parametrize(
    ("text", "serial", "fingerprint"),
    [
        ("1000", "1000", ""),
        (" 007 ", "7", ""),
        ("03:e8", "1000", ""),
        ("alice", "", ""),
        ("dead", "", ""),
        ("۱۲", "", ""),
        ("1" * 51, "", ""),
        (f"X509SHA256={PRINT}", "", PRINT),
        (PRINT.upper(), "", PRINT),
        (":".join(["AB"] * 32), "", PRINT),
    ],
)
def test_serials_and_fingerprints_as_people_paste_them(text, serial, fingerprint):
    assert (locks.serial_in(text), locks.fingerprint_in(text)) == (serial, fingerprint)


# ---------------------------------------------------------------- reviews


def body(user="alice", groups=("ph:developer:payments", "system:authenticated"), credential=PRINT, **more):
    extra = {reviews.CREDENTIAL_ID: [f"X509SHA256={credential}"]} if credential else {}
    spec = {"user": user, "groups": list(groups), "extra": extra, "resourceAttributes": {"verb": "get"}}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec | more}


@pytest.mark.parametrize(
    ("given", "denied"),
    [
        (body(), True),
        (body(credential="cd" * 32), False),
        (body(credential=""), False),
        (body(user="bob", groups=()), True),  # the certificate is what is locked, whatever it says
        (body(credential=PRINT.upper()), True),
        (body(extra={}), False),
        (body(extra={reviews.CREDENTIAL_ID: ["JTI=1", f"X509SHA256={PRINT}"]}), True),
    ],
)
def test_a_locked_certificate_is_refused_by_its_fingerprint(given, denied):
    found = reviews.decide(reviews.read(given), Held.of([lock(LEAF)]), NOW)
    assert bool(found) is denied


@pytest.mark.parametrize(
    ("given", "denied"),
    [
        (body(credential="cd" * 32), True),
        (body(credential=""), True),
        (body(user="bob"), False),
        (body(user="Alice"), False),  # Kubernetes is case-sensitive: that is another user
        (body(groups=("system:authenticated",)), False),
        (body(groups=("phantom",)), False),
        (body(user="system:serviceaccount:payments:alice", groups=("system:serviceaccounts",)), False),
    ],
)
def test_a_locked_person_is_refused_with_a_group_of_ours(given, denied):
    found = reviews.decide(reviews.read(given), Held.of([lock()]), NOW)
    assert bool(found) is denied


def test_an_answer_never_allows():
    review = reviews.read(body())
    none = reviews.answer(review, None)
    assert none == {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "status": {"allowed": False},
    }
    denied = reviews.answer(review, lock(reason="wanted by the police"))["status"]
    assert (denied["allowed"], denied["denied"]) == (False, True)
    assert "alice is locked by olga" in denied["reason"]
    assert "police" not in denied["reason"]
    late = Held.of([lock(until=NOW + HOUR)])
    assert reviews.decide(review, late, NOW + HOUR) is None


def test_the_older_version_of_a_review():
    old = body() | {"apiVersion": "authorization.k8s.io/v1beta1"}
    old["spec"]["group"] = old["spec"].pop("groups")
    review = reviews.read(old)
    assert review.is_ours
    assert reviews.answer(review, None)["apiVersion"] == "authorization.k8s.io/v1beta1"


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        {},
        {"kind": "SubjectAccessReview"},
        body() | {"apiVersion": "authorization.k8s.io/v2"},
        body() | {"kind": "Pod"},
        body() | {"spec": None},
        body(groups=[1]),
        body() | {"spec": {"user": 7}},
        body() | {"spec": {"user": "a", "extra": ["x"]}},
        body(extra={reviews.CREDENTIAL_ID: "X509SHA256"}),
    ],
)
def test_what_is_no_review(given):
    with pytest.raises(Invalid):
        reviews.read(given)


# ---------------------------------------------------------------- the API server's configuration


def cluster(version="1.34", **webhook):
    authority = Authority(webhook=LockWebhook("https://locks.bank.example:8443", **webhook))
    return Cluster("prod", "prod", (), (), (), Versions(kubernetes=version), authority=authority)


def rendered(found):
    return {document.path: document for document in apiserver.documents(found)}


def test_the_configuration_asks_before_rbac_and_remembers_nothing():
    found = rendered(cluster())
    config = found["apiserver/authorization.yaml"].data
    assert config["apiVersion"] == "apiserver.config.k8s.io/v1"
    assert [item["type"] for item in config["authorizers"]] == ["Webhook", "Node", "RBAC"]
    webhook = config["authorizers"][0]["webhook"]
    assert (webhook["cacheAuthorizedRequests"], webhook["cacheUnauthorizedRequests"]) == (False, False)
    assert webhook["failurePolicy"] == "NoOpinion"
    assert "ph:" in webhook["matchConditions"][0]["expression"]
    server = found["apiserver/webhook.kubeconfig"].data["clusters"][0]["cluster"]["server"]
    assert server == "https://locks.bank.example:8443/authorize/prod"
    assert list(apiserver.problems(cluster())) == []


@pytest.mark.parametrize(("version", "api"), [("1.33", "v1"), ("1.31", "v1beta1")])
def test_older_versions_cannot_say_that_nothing_is_remembered(version, api):
    config = rendered(cluster(version, failure_policy="Deny"))["apiserver/authorization.yaml"].data
    webhook = config["authorizers"][0]["webhook"]
    assert config["apiVersion"] == f"apiserver.config.k8s.io/{api}"
    assert (webhook["unauthorizedTTL"], webhook["failurePolicy"]) == ("1s", "Deny")
    assert "cacheUnauthorizedRequests" not in webhook


def test_before_structured_authorization_it_is_flags():
    found = rendered(cluster("1.28"))
    assert list(found) == ["apiserver/webhook.kubeconfig"]
    assert "--authorization-mode=Webhook,Node,RBAC" in found["apiserver/webhook.kubeconfig"].comment
    (problem,) = apiserver.problems(cluster("1.28"))
    assert problem.code == "access/no-credential-id"


def test_without_a_webhook_nothing_is_rendered():
    plain = Cluster("prod", "prod", (), (), (), Versions(kubernetes="1.20"))
    assert (rendered(plain), list(apiserver.problems(plain))) == ({}, [])
