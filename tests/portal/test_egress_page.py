"""The egress journey on a copy of the bank, with Git and the store as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from flask import Flask, url_for
from support.portal import login, make_app

from pilothouse.files.git import Repository, init
from pilothouse.portal.state import Workflows


def members(root: Path) -> dict[str, str]:
    """user → team, for every member of the bank."""
    from pilothouse.workflows.rendering import open_platform

    return {
        member.user: team.name
        for team in open_platform(root).loaded.platform.teams.values()
        for member in reversed(team.members)
    }


def people_of(root: Path, team: str, approver: bool | None = None) -> list[str]:
    from pilothouse.workflows.rendering import open_platform

    found = open_platform(root).loaded.platform.teams[team]
    return [m.user for m in found.members if approver is None or (m.user in found.approvers) is approver]


@pytest.fixture
def bank(root: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(root / "examples" / "bank", tmp_path / "platform"))
    init(folder).commit_all("The bank", "test", "test@localhost")
    return folder


@pytest.fixture
def app(bank: Path, tmp_path: Path) -> Flask:
    users = {user: {"groups": []} for user in members(bank)}
    return make_app(tmp_path / "data", users_=users, engine=Workflows(), root=bank, watch_seconds=0)


def add(service: str, text: str, **fields: str) -> dict[str, str]:
    return {"service": service, "yaml": text, "action": "add", "peer": "service", **fields}


def text_of(bank: Path, service: str) -> str:
    return next(p for p in sorted((bank / "services").rglob("*.yaml")) if p.stem == service.split("/")[1]).read_text()


def area(html: str) -> str:
    """What stands in the textarea of the document."""
    from html import unescape

    return unescape(html.partition('name="yaml"')[2].partition(">")[2].partition("</textarea>")[0])


def test_the_list_shows_the_services_of_my_teams(app: Flask, bank: Path) -> None:
    page = login(app, people_of(bank, "payments")[0]).get("/egress/").text
    assert "payments/payments" in page
    assert "risk/fraud" not in page
    assert "risk/fraud" in login(app, people_of(bank, "payments")[0]).get("/egress/?all=yes").text


def test_a_destination_is_added_with_its_effect_and_the_other_team_agrees(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "payments")[0])
    before = text_of(bank, "cards/cards")
    page = author.post("/egress/new", data=add("cards/cards", before, value="accounts/accounts", ports="http"))
    assert page.status_code == 200
    text = area(page.text)
    assert "- {to: {service: accounts/accounts}, ports: [http]}" in text
    assert "adds 1 connection" in page.text
    assert "team accounts" in page.text
    assert "services/accounts/accounts.yaml changes along" in page.text

    without = author.post("/egress/new", data={"service": "cards/cards", "yaml": text, "action": "submit"})
    assert without.status_code == 422
    assert area(without.text) == text
    sent = author.post(
        "/egress/new", data={"service": "cards/cards", "yaml": text, "action": "submit", "reason": "Show balances"}
    )
    assert sent.status_code == 302
    where = sent.headers["Location"]
    assert "submitted" in author.get(where).text
    assert Repository(bank).log(limit=1)[0].subject == "The bank"

    mine = author.post(f"{where}/decide", data={"role": "team:accounts", "version": "2", "action": "approve"})
    assert mine.status_code == 403
    other = login(app, people_of(bank, "accounts", approver=True)[0])
    assert "Wait for your agreement" in other.get("/").text
    refused = other.post(f"{where}/decide", data={"role": "team:accounts", "version": "2", "action": "refuse"})
    assert refused.status_code == 422
    assert "a refusal needs a comment" in refused.text
    agreed = other.post(f"{where}/decide", data={"role": "team:accounts", "version": "2", "action": "approve"})
    assert agreed.status_code == 302
    assert "committed" in other.get(where).text

    commit = Repository(bank).log(limit=1)[0]
    assert "Show balances" in commit.body
    assert "Approved-by: " + people_of(bank, "accounts", approver=True)[0] in commit.body
    assert text_of(bank, "cards/cards") == text
    assert "{from: {service: cards/cards}, ports: [http]}" in text_of(bank, "accounts/accounts")
    assert "accounts/accounts" in other.get("/catalogue/cards/cards").text


def test_where_nobody_must_agree_it_is_committed_at_once(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "risk")[0])
    page = author.post(
        "/egress/new", data=add("risk/fraud", text_of(bank, "risk/fraud"), value="cards/cards", ports="http")
    )
    assert "committed as soon as you submit" in page.text
    data = {"service": "risk/fraud", "yaml": area(page.text), "action": "submit", "reason": "Card limits"}
    where = author.post("/egress/new", data=data).headers["Location"]
    assert "committed" in author.get(where).text
    assert "cards/cards" in text_of(bank, "risk/fraud")


def test_a_public_destination_needs_a_reason_an_end_and_a_second_person(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "payments")[0])
    bare = add("cards/cards", text_of(bank, "cards/cards"), peer="domain", value="api.partner.example", ports="443")
    page = author.post("/egress/new", data=bare)
    assert "policies/public-egress-reason" in page.text
    assert "policies/public-egress-expiry" in page.text
    refused = author.post(
        "/egress/new", data={"service": "cards/cards", "yaml": area(page.text), "action": "submit", "reason": "x"}
    )
    assert refused.status_code == 422
    full = author.post("/egress/new", data={**bare, "why": "partner api", "expires": "2027-06-01"})
    assert "a second person of team payments" in full.text
    assert "policies/public-egress" not in full.text


def test_an_error_stands_at_its_line_and_nothing_typed_is_lost(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "payments")[0])
    text = text_of(bank, "cards/cards").replace("  team:", "  taem:")
    page = author.post(
        "/egress/new", data={"service": "cards/cards", "yaml": text, "action": "submit", "reason": "because"}
    )
    assert page.status_code == 422
    assert "did you mean <code>team</code>?" in page.text
    assert "cards.yaml:" in page.text
    assert area(page.text) == text
    assert "because" in page.text
    kept = author.post(
        "/egress/new", data={"service": "cards/cards", "yaml": text, "action": "draft", "reason": "because"}
    )
    assert kept.status_code == 302
    again = author.get(kept.headers["Location"] + "/edit")
    assert area(again.text) == text


def test_a_removed_destination_changes_the_other_list_too(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "payments")[0])
    page = author.post(
        "/egress/new",
        data={"service": "cards/cards", "yaml": text_of(bank, "cards/cards"), "action": "remove:0:cards/tokenizer"},
    )
    assert "removes 1 connection" in page.text
    assert "services/cards/tokenizer.yaml changes along" in page.text


def test_who_is_not_of_the_team_may_look_and_not_submit(app: Flask, bank: Path) -> None:
    stranger = login(app, people_of(bank, "risk")[0])
    data = add("cards/cards", text_of(bank, "cards/cards"), value="risk/features", ports="grpc")
    page = stranger.post("/egress/new", data=data)
    assert "look only" in page.text
    sent = stranger.post(
        "/egress/new", data={"service": "cards/cards", "yaml": area(page.text), "action": "draft", "reason": "x"}
    )
    assert sent.status_code == 403


def test_a_change_in_the_meantime_is_a_conflict_with_both_versions(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "payments")[0])
    page = author.post("/egress/new", data=add("cards/cards", text_of(bank, "cards/cards"), value="accounts/accounts"))
    data = {"service": "cards/cards", "yaml": area(page.text), "action": "submit", "reason": "Show balances"}
    where = author.post("/egress/new", data=data).headers["Location"]
    path = next((bank / "services").rglob("cards.yaml"))
    path.write_text(path.read_text() + "# somebody else\n")
    Repository(bank).commit_all("meanwhile", "other", "other@localhost")
    app.extensions["pilothouse"].current.refresh()
    other = login(app, people_of(bank, "accounts", approver=True)[0])
    other.post(f"{where}/decide", data={"role": "team:accounts", "version": "2", "action": "approve"})
    shown = author.get(where).text
    assert "has changed since it was read" in shown
    assert "+# somebody else" in shown
    assert "accounts/accounts" in shown
    assert Repository(bank).log(limit=1)[0].subject == "meanwhile"
    patch = author.get(where + ".patch")
    assert patch.text.startswith("--- a/services/")


def test_only_its_author_edits_and_withdraws(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "payments")[0])
    data = add("cards/cards", text_of(bank, "cards/cards"), value="accounts/accounts")
    text = area(author.post("/egress/new", data=data).text)
    kept = author.post("/egress/new", data={"service": "cards/cards", "yaml": text, "action": "draft", "reason": "x"})
    where = kept.headers["Location"]
    other = login(app, people_of(bank, "payments")[1])
    assert other.get(where + "/edit").status_code == 403
    assert other.post(where + "/withdraw", data={"version": "1"}).status_code == 403
    assert author.post(where + "/withdraw", data={"version": "1"}).status_code == 302
    assert "withdrawn" in author.get(where).text
    assert author.get(where + "/edit").status_code == 409


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peer": "nothing"}, "choose what kind of destination"),
        ({"value": ""}, "name the service"),
        ({"value": "a/b", "expires": "soon"}, "a date such as 2027-01-31"),
    ],
)
def test_a_form_that_is_not_complete_says_what_is_missing(
    app: Flask, bank: Path, fields: dict[str, str], message: str
) -> None:
    author = login(app, people_of(bank, "payments")[0])
    page = author.post("/egress/new", data=add("cards/cards", text_of(bank, "cards/cards"), **fields))
    assert page.status_code == 422
    assert message in page.text
    assert area(page.text) == text_of(bank, "cards/cards")


def test_an_unknown_service_is_said(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "payments")[0])
    page = author.get("/egress/new?service=cards/card")
    assert page.status_code == 422
    assert "did you mean" in page.text
    assert author.get("/egress/new").status_code == 302
    assert author.get("/egress/999").status_code == 422


def test_enter_adds_what_is_typed_and_removes_nothing(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "payments")[0])
    text = text_of(bank, "cards/cards")
    page = author.get("/egress/new?service=cards/cards").text
    form = page.partition('<form method="post" class="write"')[2]
    first = form.partition("<button")[2].partition(">")[0]
    assert 'value="enter"' in first
    typed = author.post(
        "/egress/new", data={**add("cards/cards", text, value="accounts/accounts", ports="http"), "action": "enter"}
    )
    assert "{service: accounts/accounts}" in area(typed.text)
    nothing = author.post("/egress/new", data={"service": "cards/cards", "yaml": text, "action": "enter"})
    assert area(nothing.text) == text


def test_a_destination_that_is_typed_and_not_added_is_not_forgotten(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "risk")[0])
    text = text_of(bank, "risk/fraud").replace("  team:", "  description: Scores\n  team:", 1)
    data = {**add("risk/fraud", text, value="cards/cards", ports="http"), "action": "submit", "reason": "Limits"}
    page = author.post("/egress/new", data=data)
    assert page.status_code == 422
    assert "not in the document yet" in page.text
    assert 'value="cards/cards"' in page.text


def test_a_removal_that_no_longer_fits_the_text_is_refused(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "payments")[0])
    text = text_of(bank, "cards/cards")
    for action in ("remove:0:risk/fraud", "remove:99:risk/fraud", "remove:x:risk/fraud"):
        page = author.post("/egress/new", data={"service": "cards/cards", "yaml": text, "action": action})
        assert page.status_code == 422
        assert "has changed since the list was shown" in page.text
        assert area(page.text) == text
    broken = author.post("/egress/new", data={"service": "cards/cards", "yaml": "kind: [", "action": "remove:0:x"})
    assert broken.status_code == 422
    assert "mend the YAML first" in broken.text


def test_start_over_brings_the_declared_text_back(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "payments")[0])
    page = author.post("/egress/new", data={"service": "cards/cards", "yaml": "x", "action": "reset"})
    assert area(page.text) == text_of(bank, "cards/cards")


def test_the_picture_shows_what_is_added(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "payments")[0])
    data = add("cards/cards", text_of(bank, "cards/cards"), value="accounts/accounts", ports="http")
    page = author.post("/egress/new", data=data)
    assert "added · http" in page.text
    assert "Where it goes: accounts/accounts at http (added)" in page.text
    assert "neighbours.css" in page.text


def test_steps_stand_on_the_audit_page(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "payments", approver=True)[0])
    data = add("cards/cards", text_of(bank, "cards/cards"), value="accounts/accounts", ports="http")
    text = area(author.post("/egress/new", data=data).text)
    data = {"service": "cards/cards", "yaml": text, "action": "submit", "reason": "Show balances"}
    where = author.post("/egress/new", data=data).headers["Location"]
    other = login(app, people_of(bank, "accounts", approver=True)[0])
    other.post(f"{where}/decide", data={"role": "team:accounts", "version": "2", "action": "refuse", "comment": "no"})
    author.post(f"{where}/submit", data={"version": "3"})
    author.post(f"{where}/withdraw", data={"version": "4"})
    with app.test_request_context():
        log = url_for("audit.log")
    page = author.get(log).text
    for kind in ("proposal.submitted", "proposal.refused", "proposal.withdrawn"):
        assert kind in page


def test_a_failed_commit_is_tried_again(app: Flask, bank: Path) -> None:
    author = login(app, people_of(bank, "risk")[0])
    data = add("risk/fraud", text_of(bank, "risk/fraud"), value="cards/cards", ports="http")
    text = area(author.post("/egress/new", data=data).text)
    path = next((bank / "services").rglob("fraud.yaml"))
    before = path.read_text()
    path.write_text(before + "# by hand\n")
    data = {"service": "risk/fraud", "yaml": text, "action": "submit", "reason": "Limits"}
    where = author.post("/egress/new", data=data).headers["Location"]
    assert "nobody committed" in author.get(where).text
    assert "Commit again" in author.get(where).text
    path.write_text(before)
    app.extensions["pilothouse"].current.refresh()
    assert author.post(f"{where}/retry", data={"version": "3"}).status_code == 302
    assert "committed" in author.get(where).text
    assert author.post(f"{where}/retry", data={}).status_code == 400
