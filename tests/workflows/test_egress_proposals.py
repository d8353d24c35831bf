"""The way of a proposal from a draft to a commit, with Git and the store as they are."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from support.egress_world import FILES, service, write

from pilothouse.access.permissions import Person, person_of
from pilothouse.files.git import Repository, init, run
from pilothouse.problems import Conflict, Denied, Invalid, has_errors
from pilothouse.store import Store, events, proposals
from pilothouse.store.proposals import Proposal, State
from pilothouse.workflows import commits, egress
from pilothouse.workflows import proposals as steps
from pilothouse.workflows.proposals import Desk
from pilothouse.workflows.rendering import open_platform
from pilothouse.workflows.upkeep import Upkeep

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
QUOTES = {"to": {"service": "money/quotes"}, "ports": ["http"]}
RATES = {"to": {"service": "money/rates"}, "ports": ["http"]}
PUBLIC = {"to": {"cidr": "203.0.113.0/28"}, "ports": [443], "reason": "bank gateway", "expires": "2027-06-01"}


class Site:
    """A platform in Git, a store, and everybody who was told something."""

    def __init__(self, tmp: Path, git: bool = True) -> None:
        self.root = tmp / "platform"
        self.root.mkdir()
        write(self.root)
        self.repository = init(self.root) if git else Repository(self.root)
        if git:
            self.repository.commit_all("The platform", "test", "test@localhost")
        self.store = Store(tmp / "data")
        self.store.migrate()
        self.now = NOW
        self.told: list[tuple[tuple[str, ...], str]] = []

    @property
    def desk(self) -> Desk:
        """As it is now: the folder is read anew."""
        return Desk(
            self.store,
            self.repository,
            open_platform(self.root),
            self.now,
            lambda users, subject, _: self.told.append((users, subject)),
        )

    def person(self, user: str) -> Person:
        return person_of(self.desk.platform, user)

    def draft(self, key: str, user: str, *add: dict[str, Any], reason: str = "Because", **more: Any) -> Proposal:
        desk = self.desk
        target = egress.target(desk.opened, key)
        text = more.get("text") or egress.with_edges(target.text, key, add, more.get("remove", ()))
        found = egress.preview(desk.opened, key, text, NOW.date(), author=self.person(user))
        return steps.save(desk, found, self.person(user), more.get("title", ""), reason)

    def submit(self, proposal: Proposal, user: str = "") -> Proposal:
        return steps.submit(self.desk, proposal, proposal.version, self.person(user or proposal.author))

    def decide(self, proposal: Proposal, role: str, user: str, approve: bool = True, comment: str = "") -> Proposal:
        return steps.decide(self.desk, proposal, proposal.version, role, self.person(user), approve, comment)

    def elsewhere(self, name: str, text: str) -> None:
        """Somebody commits another text of a file."""
        (self.root / name).write_text(text)
        self.repository.commit_all("Elsewhere", "other", "other@localhost")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_from_a_draft_to_a_commit_of_both_documents(site: Site) -> None:
    draft = site.draft("shop/cart", "shop-one", QUOTES)
    assert (draft.state, draft.draft.title) == (State.DRAFT, "shop/cart: changes no connection on any cluster")
    asked = site.submit(draft)
    assert asked.state is State.SUBMITTED
    assert [item.role for item in asked.required] == ["team:money"]
    assert site.told == [(("money-one", "money-two"), f"Your agreement is asked: {draft.draft.title}")]
    assert steps.waiting_for(site.store, site.person("money-three"), site.desk.platform) == (asked,)
    assert steps.waiting_for(site.store, site.person("shop-two"), site.desk.platform) == ()

    with pytest.raises(Denied, match="only members of team money"):
        site.decide(asked, "team:money", "shop-two")
    with pytest.raises(Denied, match="nobody agrees to their own"):
        site.decide(asked, "team:money", "shop-one")
    done = site.decide(asked, "team:money", "money-three", comment="fine")
    assert done.state is State.COMMITTED

    (commit,) = site.repository.log(limit=1)
    assert commit.sha == done.commit
    assert (commit.author, commit.email, commit.subject) == ("shop-one", "shop-one@localhost", draft.draft.title)
    assert commit.body.splitlines() == [
        "Because",
        "",
        f"Proposal: {done.id}",
        "Proposed-by: shop-one",
        "Approved-by: money-three (team:money)",
    ]
    assert "money/quotes" in (site.root / "cart.yaml").read_text()
    assert "shop/cart" in (site.root / "quotes.yaml").read_text()
    assert site.told[-1] == (("shop-one",), f"Committed: {draft.draft.title}")


def test_where_nobody_must_agree_there_is_no_gatekeeper(site: Site) -> None:
    assert site.submit(site.draft("shop/cart", "shop-three", RATES)).state is State.COMMITTED


def test_the_second_person_is_another_approver(site: Site) -> None:
    asked = site.submit(site.draft("shop/cart", "shop-one", PUBLIC))
    (role,) = (item.role for item in asked.required)
    assert role == "second-person:shop"
    for user in ("shop-one", "shop-three", "money-one"):
        with pytest.raises(Denied):
            site.decide(asked, role, user)
    assert site.decide(asked, role, "shop-two").state is State.COMMITTED


def test_both_a_second_person_and_the_other_team(site: Site) -> None:
    asked = site.submit(site.draft("shop/cart", "shop-one", PUBLIC, QUOTES))
    first = site.decide(asked, "second-person:shop", "shop-two")
    assert first.state is State.SUBMITTED
    assert [item.role for item in first.outstanding] == ["team:money"]
    assert site.decide(first, "team:money", "money-one").state is State.COMMITTED


def test_a_refusal_says_why_and_leaves_the_text(site: Site) -> None:
    asked = site.submit(site.draft("shop/cart", "shop-one", QUOTES))
    with pytest.raises(Invalid, match="needs a comment"):
        site.decide(asked, "team:money", "money-one", approve=False)
    refused = site.decide(asked, "team:money", "money-one", approve=False, comment="use rates")
    assert refused.state is State.REJECTED
    assert site.told[-1] == (("shop-one",), f"Refused: {asked.draft.title}")
    assert "money/quotes" in refused.draft.document
    again = site.submit(refused)
    assert again.state is State.SUBMITTED
    assert again.reviews == ()


def test_only_its_team_drafts_and_only_its_author_goes_on(site: Site) -> None:
    with pytest.raises(Denied, match="belongs to team shop"):
        site.draft("shop/cart", "money-one", RATES)
    draft = site.draft("shop/cart", "shop-one", RATES)
    with pytest.raises(Denied, match="only its author submits"):
        site.submit(draft, "shop-two")
    with pytest.raises(Denied, match="only its author withdraws"):
        steps.withdraw(site.desk, draft, draft.version, site.person("shop-two"))
    desk = site.desk
    found = steps.look(desk, draft)
    with pytest.raises(Denied, match="only its author changes"):
        steps.save(desk, found, site.person("shop-two"), "", "mine now", draft, draft.version)
    gone = steps.withdraw(site.desk, draft, draft.version, site.person("shop-one"), "no more")
    assert gone.state is State.WITHDRAWN


def test_a_version_that_was_not_seen_is_a_conflict(site: Site) -> None:
    draft = site.draft("shop/cart", "shop-one", QUOTES)
    asked = site.submit(draft)
    desk = site.desk
    changed = steps.save(
        desk, steps.look(desk, asked), site.person("shop-one"), "Other", "Because", asked, asked.version
    )
    assert changed.state is State.DRAFT
    with pytest.raises(Conflict, match="changed in the meantime"):
        site.decide(asked, "team:money", "money-one")


def test_errors_are_kept_in_a_draft_and_not_submitted(site: Site) -> None:
    draft = site.draft("shop/cart", "shop-one", text=FILES["cart.yaml"].replace("team:", "taem:"))
    assert "taem:" in draft.draft.document
    with pytest.raises(Invalid, match="has errors"):
        site.submit(draft)
    with pytest.raises(Invalid, match="needs a reason"):
        site.submit(site.draft("shop/cart", "shop-one", RATES, reason=" "))


def test_a_change_of_the_same_file_fails_and_nothing_is_lost(site: Site) -> None:
    asked = site.submit(site.draft("shop/cart", "shop-one", QUOTES))
    site.elsewhere("cart.yaml", FILES["cart.yaml"] + "# somebody else\n")
    failed = site.decide(asked, "team:money", "money-one")
    assert failed.state is State.FAILED
    assert "cart.yaml has changed since it was read" in failed.error
    assert "money/quotes" in failed.draft.document
    assert site.told[-1] == (("shop-one",), f"Not committed: {asked.draft.title}")
    site.elsewhere("cart.yaml", FILES["cart.yaml"])
    done = steps.retry(site.desk, failed, failed.version, site.person("shop-two"))
    assert done.state is State.COMMITTED  # with the agreement that was given
    with pytest.raises(Conflict):
        steps.retry(site.desk, done, done.version, site.person("shop-two"))


def test_a_change_that_nobody_committed_is_not_overwritten(site: Site) -> None:
    draft = site.draft("shop/cart", "shop-one", RATES)
    (site.root / "cart.yaml").write_text(FILES["cart.yaml"] + "# by hand\n")
    failed = site.submit(draft)
    assert failed.state is State.FAILED
    assert "nobody committed" in failed.error
    assert (site.root / "cart.yaml").read_text().endswith("# by hand\n")


def test_a_platform_that_no_longer_fits_stops_the_commit(site: Site) -> None:
    asked = site.submit(site.draft("shop/cart", "shop-one", QUOTES))
    (site.root / "quotes.yaml").unlink()
    site.repository.commit_all("No more quotes", "other", "other@localhost")
    failed = site.decide(asked, "team:money", "money-one")
    assert failed.state is State.FAILED

    other = site.submit(
        site.draft("shop/web", "shop-one", {"to": {"service": "money/rates"}, "ports": ["grpc"]}, PUBLIC)
    )
    site.elsewhere("rates.yaml", FILES["rates.yaml"].replace(", {name: grpc, containerPort: 9090}", ""))
    stopped = site.decide(other, "second-person:shop", "shop-two")
    assert stopped.state is State.FAILED
    assert "no longer fits" in stopped.error


def test_an_end_that_lists_by_now_must_be_asked_first(site: Site) -> None:
    asked = site.submit(site.draft("shop/cart", "shop-one", RATES, PUBLIC))
    assert [item.role for item in asked.required] == ["second-person:shop"]
    site.elsewhere("rates.yaml", service("money/rates", "money", "  ingress: []\n"))
    failed = site.decide(asked, "second-person:shop", "shop-two")
    assert failed.state is State.FAILED
    assert "change along by now" in failed.error
    again = site.submit(failed)
    assert {item.role for item in again.required} == {"second-person:shop", "team:money"}
    assert set(steps.files_of(again)) == {"cart.yaml", "rates.yaml"}
    first = site.decide(again, "second-person:shop", "shop-two")
    assert site.decide(first, "team:money", "money-two").state is State.COMMITTED


def test_who_must_agree_by_now_is_asked_again(site: Site) -> None:
    asked = site.submit(site.draft("shop/web", "shop-one", PUBLIC))
    rails = (Path(__file__).parents[2] / "policies" / "guardrails.yaml").read_text()
    (site.root / "policies").mkdir()
    site.elsewhere(
        "policies/guardrails.yaml", rails.replace("publicEgress: second-person", "publicEgress: platform-team")
    )
    failed = site.decide(asked, "second-person:shop", "shop-two")
    assert failed.state is State.FAILED
    assert "team:infra must agree as well by now" in failed.error


def test_a_draft_goes_on_from_what_is_there_when_it_is_submitted(site: Site) -> None:
    draft = site.draft("shop/cart", "shop-one", QUOTES)
    site.elsewhere("quotes.yaml", service("money/quotes", "money", "  ingress: []\n  description: Prices\n"))
    asked = site.submit(draft)
    assert "Prices" in steps.files_of(asked)["quotes.yaml"]
    assert site.decide(asked, "team:money", "money-one").state is State.COMMITTED


def test_the_author_keeps_the_teams_of_their_directory_groups(site: Site) -> None:
    desk = site.desk
    team = desk.platform.teams["shop"]
    person = Person("zoe", teams=frozenset((team.name,)))
    text = egress.with_edges(FILES["cart.yaml"], "shop/cart", [RATES])
    kept = steps.save(desk, egress.preview(desk.opened, "shop/cart", text, NOW.date()), person, "", "Because")
    assert steps.author_of(desk, kept).teams == {"shop"}
    assert steps.submit(site.desk, kept, kept.version, person).state is State.COMMITTED


def test_the_role_is_found_where_there_is_one(site: Site) -> None:
    desk = site.desk
    asked = site.submit(site.draft("shop/cart", "shop-one", PUBLIC, QUOTES))
    assert steps.only_role(asked, site.person("money-one"), desk.platform) == "team:money"
    both = Person("zoe", teams=frozenset(("shop", "money")))
    assert steps.roles_for(asked, both, desk.platform) == ("team:money",)
    with pytest.raises(Denied, match="only approvers of team shop") as denied:
        steps.only_role(asked, site.person("shop-three"), desk.platform)
    assert denied.value.hint == "ask shop-two"
    withdrawn = steps.withdraw(desk, asked, asked.version, site.person("shop-one"))
    with pytest.raises(Conflict, match="waits for nobody"):
        steps.only_role(withdrawn, site.person("money-one"), desk.platform)


def test_several_roles_are_named(site: Site) -> None:
    move = FILES["web.yaml"].replace("team: shop", "team: money")
    asked = site.submit(site.draft("shop/web", "infra-one", text=move))
    both = Person("zoe", teams=frozenset(("shop", "money")))
    with pytest.raises(Invalid, match="more than one role") as several:
        steps.only_role(asked, both, site.desk.platform)
    assert several.value.hint == "name one of them: team:money, team:shop"


def test_without_git_there_is_a_patch(tmp_path: Path) -> None:
    site = Site(tmp_path, git=False)
    failed = site.submit(site.draft("shop/cart", "shop-one", RATES))
    assert failed.state is State.FAILED
    assert "no Git repository; download the patch" in failed.error
    text = commits.patch(steps.before_of(failed), steps.files_of(failed))
    subprocess.run(["git", "apply", "-"], cwd=site.root, input=text.encode(), check=True)
    assert (site.root / "cart.yaml").read_text() == failed.draft.document


def test_what_nobody_touches_for_a_month_is_withdrawn(site: Site) -> None:
    old = site.draft("shop/cart", "shop-one", RATES)
    site.now = NOW + steps.OPEN_FOR - timedelta(days=1)
    fresh = site.draft("shop/web", "shop-one", RATES)
    assert steps.expire(site.store, NOW + steps.OPEN_FOR) == 0
    assert steps.expire(site.store, NOW + steps.OPEN_FOR + timedelta(minutes=1)) == 1
    gone = proposals.get(site.store, old.id)
    assert gone.state is State.WITHDRAWN
    last = proposals.history(site.store, old.id)[-1]
    assert (last.actor, last.comment) == ("pilothouse", "nobody touched it for 30 days")
    assert proposals.get(site.store, fresh.id).state is State.DRAFT


def test_a_team_without_approvers_is_asked_as_a_whole(site: Site) -> None:
    platform = site.desk.platform
    assert steps.asked(platform, "team:money") == ("money-one", "money-two")
    assert steps.asked(platform, "team:nobody") == ()


# ---------------------------------------------------------------- several at once


def test_a_commit_that_is_half_written_is_no_platform_to_judge_upon(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever submits while another one's two files are being replaced is judged on a whole platform, and waits."""
    asked = site.submit(site.draft("shop/cart", "shop-one", QUOTES))
    second = site.draft("shop/web", "shop-three", RATES)
    desk, person = site.desk, site.person("shop-three")
    half, go = threading.Event(), threading.Event()
    put, alone, transaction = Repository._put, Repository.alone, Store.write
    writing = threading.local()

    def slow(self: Repository, name: str, text: str | None) -> None:
        put(self, name, text)
        if not half.is_set():
            half.set()
            assert go.wait(20)

    @contextmanager
    def holding(self: Store, alone: bool = True) -> Iterator[Connection]:
        with transaction(self, alone) as connection:
            writing.now = True
            try:
                yield connection
            finally:
                writing.now = False

    @contextmanager
    def at_the_door(self: Repository) -> Iterator[None]:
        assert not getattr(writing, "now", False), "nobody waits for the repository while they hold the store"
        if half.is_set():
            go.set()
        with alone(self):
            yield

    monkeypatch.setattr(Repository, "_put", slow)
    monkeypatch.setattr(Repository, "alone", at_the_door)
    monkeypatch.setattr(Store, "write", holding)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(site.decide, asked, "team:money", "money-one")
        assert half.wait(20)
        torn = [problem for problem in open_platform(site.root).problems if problem.severity == "error"]
        other = pool.submit(steps.submit, desk, second, second.version, person)
        try:
            states = [other.result(30).state, first.result(30).state]
        finally:
            go.set()
    assert torn, "what lay there in between was no platform"
    assert states == [State.COMMITTED, State.COMMITTED]
    assert site.repository.is_clean()
    assert [commit.body.split("Proposal: ")[1].split()[0] for commit in site.repository.log(limit=2)] == [
        str(second.id),
        str(asked.id),
    ]


def test_who_read_half_a_commit_reads_again_before_they_refuse(site: Site) -> None:
    draft = site.draft("shop/web", "shop-one", {"to": {"service": "money/rates"}, "ports": ["grpc"]})
    whole = FILES["rates.yaml"]
    person = site.person("shop-one")
    with ThreadPoolExecutor(1) as pool:
        with site.repository.alone():
            (site.root / "rates.yaml").write_text(whole.replace(", {name: grpc, containerPort: 9090}", ""))
            desk = site.desk
            assert has_errors(steps.look(desk, draft).problems)
            waits = pool.submit(steps.submit, desk, draft, draft.version, person)
            (site.root / "rates.yaml").write_text(whole)
        assert waits.result(30).state is State.COMMITTED


def test_a_text_that_never_was_committed_is_not_what_is_replaced(site: Site) -> None:
    """The draft was written on what another one's commit put there, and took away again."""
    (site.root / "cart.yaml").write_text(FILES["cart.yaml"].replace("team: shop", "team: shop\n  description: Cart"))
    draft = site.draft("shop/cart", "shop-one", PUBLIC)
    asked = site.submit(draft)
    (site.root / "cart.yaml").write_text(FILES["cart.yaml"])
    failed = site.decide(asked, "second-person:shop", "shop-two")
    assert failed.state is State.FAILED
    assert "cart.yaml has changed since it was read" in failed.error
    assert "description" not in (site.root / "cart.yaml").read_text()


def test_documents_that_have_errors_by_now_take_no_commit(site: Site) -> None:
    asked = site.submit(site.draft("shop/cart", "shop-one", PUBLIC))
    desk = site.desk
    site.elsewhere("rates.yaml", FILES["rates.yaml"].replace("team:", "taem:"))
    failed = steps.decide(desk, asked, asked.version, "second-person:shop", site.person("shop-two"), True)
    assert failed.state is State.FAILED
    assert "its documents have errors now" in failed.error


# ---------------------------------------------------------------- what was found at the submit holds


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the proposals whose effect was computed, one for each time."""
    found: list[int] = []
    look = steps.look

    def counted(desk: Desk, proposal: Proposal, author: Person | None = None) -> egress.Preview:
        found.append(proposal.id)
        return look(desk, proposal, author)

    monkeypatch.setattr(steps, "look", counted)
    return found


def test_what_was_found_at_the_submit_is_not_computed_again(site: Site, looked: list[int]) -> None:
    asked = site.submit(site.draft("shop/cart", "shop-one", QUOTES))
    assert len(looked) == 1
    assert site.decide(asked, "team:money", "money-one").state is State.COMMITTED
    assert len(looked) == 1
    assert site.submit(site.draft("shop/web", "shop-one", RATES)).state is State.COMMITTED
    assert len(looked) == 2, "also where nobody must agree"


def test_another_platform_by_now_is_judged_again(site: Site, looked: list[int], tmp_path: Path) -> None:
    def change_a_document() -> None:
        site.elsewhere("web.yaml", service("shop/web", "shop", "  description: Pages\n"))

    def change_a_snapshot() -> None:
        (site.root / "snapshots").mkdir()
        (site.root / "snapshots" / "dev.json").write_text('{"apiVersion": "v1", "kind": "List", "items": []}')

    def change_the_day() -> None:
        site.now = NOW + timedelta(days=1)

    for change in (change_a_document, change_a_snapshot, change_the_day):
        target = f"203.0.113.{len(looked) * 4}/30"
        item = {**PUBLIC, "to": {"cidr": target}}
        asked = site.submit(site.draft("shop/cart", "shop-one", item))
        before = len(looked)
        change()
        done = site.decide(asked, "second-person:shop", "shop-two")
        assert (done.state, done.error) == (State.COMMITTED, "")
        assert len(looked) == before + 1, change.__name__


def test_what_was_edited_is_not_judged_by_what_was_found_before(site: Site, looked: list[int]) -> None:
    asked = site.submit(site.draft("shop/cart", "shop-one", PUBLIC))
    assert asked.draft.data["standing"]
    desk, person = site.desk, site.person("shop-one")
    target = egress.target(desk.opened, "shop/cart")
    text = egress.with_edges(target.text, "shop/cart", [QUOTES])
    found = egress.preview(desk.opened, "shop/cart", text, NOW.date(), author=person)
    edited = steps.save(desk, found, person, "", "Because", asked, asked.version)
    assert "standing" not in edited.draft.data
    before = len(looked)
    assert site.submit(edited).state is State.SUBMITTED
    assert len(looked) == before + 1


# ---------------------------------------------------------------- a remote


@pytest.fixture
def cloned(tmp_path: Path) -> Site:
    """The platform as a clone of a bare repository, `remote.git` beside it."""
    site = Site(tmp_path)
    bare = tmp_path / "remote.git"
    run(tmp_path, "clone", "--quiet", "--bare", str(site.root), str(bare))
    run(site.root, "remote", "add", "origin", str(bare))
    run(site.root, "fetch", "--quiet", "origin")
    run(site.root, "branch", "--quiet", "--set-upstream-to=origin/main")
    return site


def test_a_commit_is_sent_at_once(cloned: Site, tmp_path: Path) -> None:
    done = cloned.submit(cloned.draft("shop/web", "shop-one", RATES))
    assert run(tmp_path / "remote.git", "rev-parse", "main").stdout.strip() == done.commit
    assert events.find(cloned.store, events.Filter(kind="proposal.unsent"))[1] == 0


def test_a_commit_that_cannot_be_sent_is_said_and_stays(cloned: Site, tmp_path: Path) -> None:
    bare = tmp_path / "remote.git"
    bare.rename(tmp_path / "away.git")
    done = cloned.submit(cloned.draft("shop/web", "shop-one", RATES))
    assert done.state is State.COMMITTED
    assert cloned.repository.head() == done.commit
    assert cloned.repository.ahead() == 1
    ((event,), _) = events.find(cloned.store, events.Filter(kind="proposal.unsent"))
    assert "The remote does not have it yet" in event.message
    assert event.subject == str(done.id)
    (tmp_path / "away.git").rename(bare)
    upkeep = Upkeep(cloned.store, cloned.root, tmp_path / "data", lambda: NOW, lambda *_: None)
    assert "pushed 1 commit" in upkeep.reload().message
    assert run(bare, "rev-parse", "main").stdout.strip() == done.commit
