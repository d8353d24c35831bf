"""Who may read and write the records, on a real Elasticsearch with its security on, and a real directory behind it."""

from __future__ import annotations

import base64
import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.bed import elasticsearch as server
from support.log_store import own
from support.testbed import bank

from pilothouse.clients.calls import Retry
from pilothouse.clients.elasticsearch import Elasticsearch
from pilothouse.collectors.logging.differing import Kind
from pilothouse.collectors.logging.store import Abilities, desired
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Denied
from pilothouse.workflows import log_store

PREFIX = "roles"
PILOTHOUSE = {
    "cluster": ["monitor", "manage_index_templates", "manage_ilm", "manage_security"],
    "indices": [{"names": [f"{PREFIX}-*"], "privileges": ["manage", "read"]}],
}
"""What docs/logging.md says that pilothouse itself needs."""
WATCHING = {
    "cluster": ["monitor"],
    "indices": [{"names": [f"{PREFIX}-*"], "privileges": ["monitor", "read", "view_index_metadata"]}],
}
"""And for pages and `status` alone."""


@dataclass
class Secured:
    """The server with the bank's roles applied, and records of two teams in one index."""

    server: server.Elasticsearch
    given: Inputs
    able: Abilities
    applied: log_store.Applied

    def ask(self, who: tuple[str, str], method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, JSON) of a request as that user."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        password = base64.b64encode(":".join(who).encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {password}"}
        request = urllib.request.Request(f"{self.server.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read())

    def user(self, *roles: str) -> tuple[str, str]:
        """A user of the server's own with these roles."""
        who = (f"user-{secrets.token_hex(4)}", secrets.token_hex(12))
        self.server.send("PUT", f"/_security/user/{who[0]}", {"password": who[1], "roles": list(roles)})
        return who

    def messages(self, who: tuple[str, str], index: str = f"{PREFIX}-*") -> list[str]:
        status, found = self.ask(who, "GET", f"/{index}/_search?size=100")
        assert status == 200, found
        return sorted(hit["_source"]["message"] for hit in found["hits"]["hits"])

    def write(self, who: tuple[str, str], action: str, identity: str, message: str, team: str = "payments") -> int:
        record = {"@timestamp": "2026-11-21T08:00:00Z", "message": message, "team": team}
        lines = [{action: {"_index": f"{PREFIX}-30d", "_id": identity}}, record]
        status, found = self.ask(
            who, "POST", "/_bulk?refresh=true", "".join(f"{json.dumps(x)}\n" for x in lines).encode()
        )
        return int(next(iter(found["items"][0].values()))["status"]) if status == 200 else status


@pytest.fixture(scope="module")
def directory() -> Iterator[Any]:
    from support.bed import directory

    slapd = directory.start()
    with slapd.subtree("logs") as branch:
        branch.add_user("carol", "carol has a long one")
        branch.add_user("mallory", "mallory has one too")
        branch.add_group("payments-engineers", ("carol",))
        # Of the same beginning, and nobody's team.
        branch.add_group("payments-engineers-guests", ("mallory",))
        yield branch
    slapd.stop()


@pytest.fixture(scope="module")
def secured(directory: Any) -> Iterator[Secured]:
    realm = "xpack.security.authc.realms"
    made = server.start(
        security=True,
        settings={
            # Roles by document and the realm of a directory need more than the basic licence.
            "xpack.license.self_generated.type": "trial",
            f"{realm}.native.own.order": 0,
            f"{realm}.ldap.directory.order": 1,
            f"{realm}.ldap.directory.url": directory.slapd.url,
            f"{realm}.ldap.directory.user_dn_templates": [f"uid={{0}},{directory.people}"],
            f"{realm}.ldap.directory.group_search.base_dn": directory.groups,
        },
    )
    given = own(bank("prod"), PREFIX, made.endpoint)
    deadline = time.monotonic() + 30
    while store_license(made.endpoint) != "trial" and time.monotonic() < deadline:
        time.sleep(0.2)  # it gives itself a licence some moments after it answers
    # It makes the index of its roles on the first question for them.
    store = Elasticsearch(made.endpoint, retry=Retry(attempts=8, first=0.5))
    planned = log_store.make_plan(given, store)
    assert not planned.forbidden, planned.problems
    found = Secured(made, given, planned.able, log_store.apply(planned, store))
    agent = found.user(f"{PREFIX}-agents")
    assert found.write(agent, "create", "1", "of payments") == 201
    assert found.write(agent, "create", "2", "of channels", team="channels") == 201
    yield found
    made.stop()


def store_license(endpoint: Endpoint) -> str:
    return Elasticsearch(endpoint, retry=Retry(attempts=8, first=0.5)).abilities().license


def test_roles_are_accepted_and_a_second_apply_changes_nothing(secured: Secured) -> None:
    assert (secured.able.security, secured.able.license) == (True, "trial")
    kinds = {item.kind for item in secured.applied.done}
    assert {Kind.ROLE, Kind.ROLE_MAPPING} <= kinds
    planned = log_store.make_plan(secured.given, Elasticsearch(secured.server.endpoint))
    assert planned.plan.is_empty, [(item.name, item.fields) for item in planned.plan.changes]
    assert {item.kind for item in planned.plan.left_out} == {Kind.LIFECYCLE, Kind.COMPONENT}


def test_a_team_reads_its_own_records_alone(secured: Secured) -> None:
    who = secured.user(f"{PREFIX}-team-payments")
    assert secured.messages(who) == ["of payments"]
    assert secured.messages(who, f"{PREFIX}-30d") == ["of payments"]
    # Neither by id nor by a count does another team's record show.
    status, found = secured.ask(who, "GET", f"/{PREFIX}-30d/_search?q=_id:2")
    assert (status, found["hits"]["total"]["value"]) == (200, 0)
    assert secured.ask(who, "GET", f"/{PREFIX}-30d/_count")[1]["count"] == 1
    assert secured.messages(secured.user(f"{PREFIX}-team-channels")) == ["of channels"]
    assert secured.messages(secured.user(f"{PREFIX}-team-risk")) == []


def test_a_team_writes_and_changes_nothing(secured: Secured) -> None:
    who = secured.user(f"{PREFIX}-team-payments")
    assert secured.write(who, "create", "3", "forged") == 403
    assert secured.ask(who, "PUT", f"/{PREFIX}-mine", {})[0] == 403
    assert secured.ask(who, "GET", "/_cluster/settings")[0] == 403
    assert secured.ask(who, "GET", "/_security/role")[0] == 403


def test_the_platform_team_reads_all(secured: Secured) -> None:
    assert secured.messages(secured.user(f"{PREFIX}-team-platform")) == ["of channels", "of payments"]


def test_an_agent_adds_records_and_does_nothing_else(secured: Secured) -> None:
    agent = secured.user(f"{PREFIX}-agents")
    assert secured.write(agent, "create", "1", "twice") == 409
    assert secured.write(agent, "index", "1", "changed") in (400, 403)
    assert secured.write(agent, "delete", "1", "") in (400, 403)
    assert secured.ask(agent, "GET", f"/{PREFIX}-30d/_search")[0] == 403
    assert secured.messages(secured.user(f"{PREFIX}-team-payments")) == ["of payments"]


def test_the_directorys_groups_give_the_roles(secured: Secured) -> None:
    carol = ("carol", "carol has a long one")
    who = secured.ask(carol, "GET", "/_security/_authenticate")[1]
    assert "authentication_realm" in who, who
    assert who["authentication_realm"]["type"] == "ldap"
    assert who["roles"] == [f"{PREFIX}-team-payments"]
    assert secured.messages(carol) == ["of payments"]
    mallory = ("mallory", "mallory has one too")
    assert secured.ask(mallory, "GET", "/_security/_authenticate")[1]["roles"] == []
    assert secured.ask(mallory, "GET", f"/{PREFIX}-30d/_search")[0] == 403


def test_what_pilothouse_itself_needs(secured: Secured, tmp_path: Path) -> None:
    """With the privileges that the documentation names, and with an API key of them."""
    secured.server.send("PUT", "/_security/role/pilothouse-itself", PILOTHOUSE)
    name, password = secured.user("pilothouse-itself")
    held = tmp_path / "password"
    held.write_text(password)
    key = tmp_path / "key"
    body = {"name": "pilothouse", "role_descriptors": {"pilothouse": PILOTHOUSE}}
    key.write_text(secured.server.send("POST", "/_security/api_key", body)["encoded"])
    for endpoint in (Endpoint(secured.server.url, str(held), user=name), Endpoint(secured.server.url, str(key))):
        store = Elasticsearch(endpoint)
        again = log_store.make_plan(secured.given, store)
        assert again.plan.is_empty
        assert log_store.apply(again, store).done == ()
        # Something that it must change, and change back.
        role = f"{PREFIX}-team-risk"
        body = dict(store.stored(Kind.ROLE, PREFIX)[role].body)
        store.put(Kind.ROLE, role, {"cluster": [], "indices": [], "metadata": body["metadata"]})
        (change,) = log_store.apply(log_store.make_plan(secured.given, store), store).done
        assert (change.kind, change.name) == (Kind.ROLE, role)
        status = log_store.status(secured.given, store, partial(datetime.now, UTC))
        assert sum(item.documents for item in status.targets) == 2


def test_figures_need_less(secured: Secured, tmp_path: Path) -> None:
    secured.server.send("PUT", "/_security/role/watching", WATCHING)
    name, password = secured.user("watching")
    (tmp_path / "password").write_text(password)
    store = Elasticsearch(Endpoint(secured.server.url, str(tmp_path / "password"), user=name))
    assert store.abilities() == secured.able
    status = log_store.status(secured.given, store, partial(datetime.now, UTC))
    assert sum(item.documents for item in status.targets) == 2
    with pytest.raises(Denied):
        store.remove(Kind.TEMPLATE, f"{PREFIX}-30d")


def test_a_wrong_password_and_none_are_refused_with_a_way_out(secured: Secured, tmp_path: Path) -> None:
    held = tmp_path / "password"
    held.write_text("not it")
    with pytest.raises(Denied, match="401") as refusal:
        Elasticsearch(Endpoint(secured.server.url, str(held), user="elastic")).health()
    assert str(held) in refusal.value.hint
    assert "not it" not in refusal.value.message
    with pytest.raises(Denied, match="401") as refusal:
        Elasticsearch(Endpoint(secured.server.url)).abilities()
    assert "tokenFile" in refusal.value.hint
    who = secured.user(f"{PREFIX}-team-payments")
    held.write_text(who[1])
    with pytest.raises(Denied, match="403"):
        Elasticsearch(Endpoint(secured.server.url, str(held), user=who[0])).nodes()


def test_roles_by_document_are_left_out_by_name_without_the_licence_for_them(secured: Secured) -> None:
    from pilothouse.collectors import logging

    artifacts = logging.derive(secured.given).artifacts
    basic = desired(artifacts, replace(secured.able, license="basic"))
    names = {name for kind, name in basic.documents if kind is Kind.ROLE}
    assert names == {f"{PREFIX}-agents", f"{PREFIX}-team-platform"}
    left = {(item.kind, item.name) for item in basic.left_out}
    assert {(Kind.ROLE, f"{PREFIX}-team-payments"), (Kind.ROLE_MAPPING, f"{PREFIX}-team-payments")} <= left


def test_the_server_refuses_them_without_that_licence(secured: Secured) -> None:
    """Last in this file: the server has the basic licence from here on."""
    secured.server.send("POST", "/_license/start_basic?acknowledge=true")
    store = Elasticsearch(secured.server.endpoint)
    assert store.abilities().license == "basic"
    role = f"{PREFIX}-team-payments"
    body = {"cluster": [], "indices": [{"names": ["x"], "privileges": ["read"], "query": {"match_all": {}}}]}
    with pytest.raises(Denied, match="license"):
        store.put(Kind.ROLE, role, body)
    planned = log_store.make_plan(secured.given, store)
    assert planned.plan.is_empty
    # Whoever has such a role still reads nothing of others: the server fails closed.
    assert secured.ask(secured.user(role), "GET", f"/{PREFIX}-30d/_search")[0] == 403
