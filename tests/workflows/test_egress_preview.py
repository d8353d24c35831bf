"""What a change of a service would do: companions at the other end, who must agree, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.egress_world import FILES, LISTING, TEAM, TODAY, service, write

from pilothouse.access.permissions import person_of
from pilothouse.policies.rules import Direction
from pilothouse.problems import Denied, Invalid
from pilothouse.workflows import commits, egress
from pilothouse.workflows.egress import Preview
from pilothouse.workflows.neighbours import Mark, Neighbour
from pilothouse.workflows.rendering import Opened, open_platform

Folder = Callable[..., Opened]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return lambda **changes: write(tmp_path, changes)


def look(opened: Opened, key: str, text: str = "", user: str = "", **changes: Any) -> Preview:
    target = egress.target(opened, key)
    author = person_of(opened.loaded.platform, user) if user else None
    text = text or egress.with_edges(target.text, key, changes.pop("add", ()), changes.pop("remove", ()))
    return egress.preview(opened, key, text, TODAY, author=author, **changes)


def codes(found: Preview) -> list[str]:
    return [problem.code for problem in found.problems]


def needed(found: Preview) -> dict[str, str]:
    return {item.role: item.why for item in found.needed}


def to(service_: str, *ports: str, **more: Any) -> dict[str, Any]:
    return {"to": {"service": service_}, "ports": list(ports), **more}


# ---------------------------------------------------------------- the other end


def test_the_other_end_that_lists_gains_the_service_and_its_team_is_asked(folder: Folder) -> None:
    found = look(folder(), "shop/cart", add=[to("money/quotes", "grpc", clusters=["prod"])], user="shop-one")
    assert found.can_submit
    assert found.others == ("quotes.yaml",)
    assert "- {from: {service: shop/cart}, ports: [grpc], clusters: [prod]}" in found.files["quotes.yaml"]
    assert list(needed(found)) == ["team:money"]
    assert codes(found) == []


def test_an_end_that_lists_nobody_needs_no_change(folder: Folder) -> None:
    found = look(folder(), "shop/cart", add=[to("money/rates", "http")], user="shop-one")
    assert found.can_submit
    assert found.others == ()
    assert needed(found) == {}


def test_another_port_at_an_end_that_lists_is_carried_along(folder: Folder) -> None:
    found = look(folder(), "shop/cart", add=[to("money/ledger", "grpc")], user="shop-one")
    assert codes(found) == []
    assert "- {from: {service: shop/cart}, ports: [grpc]}" in found.files["ledger.yaml"]
    assert "- {from: {service: shop/cart}, ports: [http]}" in found.files["ledger.yaml"]


def test_what_the_list_already_covers_is_not_added_again(folder: Folder) -> None:
    wide = service("money/ledger", "money", "  ingress:\n    - {from: {service: shop/cart}}\n")
    cart = FILES["cart.yaml"].replace(", ports: [http]", "")
    found = look(folder(ledger=wide, cart=cart), "shop/cart", add=[to("money/ledger", "grpc")])
    assert found.others == ()


def test_a_removed_destination_leaves_the_other_list_as_well(folder: Folder) -> None:
    found = look(folder(), "shop/cart", remove=[0], user="shop-one")
    assert "  ingress: []\n" in found.files["ledger.yaml"]
    assert "egress" not in found.files["cart.yaml"]
    # The ledger is of high sensitivity: who talks to it is agreed by an approver, who stands for its team too.
    assert list(needed(found)) == ["second-person:money"]
    assert "high sensitivity" in needed(found)["second-person:money"]


def test_only_the_removed_port_leaves_the_other_list(folder: Folder) -> None:
    both = "    - {to: {service: money/ledger}, ports: [http]}\n    - {to: {service: money/ledger}, ports: [grpc]}\n"
    listing = LISTING + "    - {from: {service: shop/cart}, ports: [grpc]}\n"
    opened = folder(
        cart=service("shop/cart", "shop", "  egress:\n" + both), ledger=service("money/ledger", "money", listing)
    )
    found = look(opened, "shop/cart", remove=[0])
    assert LISTING.splitlines()[1] not in found.files["ledger.yaml"]
    assert "- {from: {service: shop/cart}, ports: [grpc]}" in found.files["ledger.yaml"]


def test_an_ingress_that_another_team_uses_cannot_be_taken_away_alone(folder: Folder) -> None:
    found = look(folder(), "money/ledger", FILES["ledger.yaml"].replace(LISTING, "  ingress: []\n"), user="money-one")
    assert codes(found) == ["platform/ends-disagree"]
    assert not found.can_submit


def test_two_services_in_one_file_change_together(folder: Folder) -> None:
    one = FILES["cart.yaml"] + "---\n" + service("shop/list", "shop", "  ingress: []\n")
    found = look(folder(cart=one), "shop/cart", add=[to("shop/list", "http")], user="shop-one")
    assert list(found.files) == ["cart.yaml"]
    assert "- {from: {service: shop/cart}, ports: [http]}" in found.files["cart.yaml"]
    assert found.can_submit
    assert needed(found) == {}


# ---------------------------------------------------------------- who must agree


def test_a_public_destination_needs_a_second_person_whoever_the_author_is(folder: Folder) -> None:
    item = {"to": {"domain": "api.partner.example"}, "ports": [443], "reason": "partner api", "expires": "2027-06-01"}
    found = look(folder(), "shop/web", add=[item], user="shop-one")
    assert list(needed(found)) == ["second-person:shop"]
    assert "expires: 2027-06-01}" in found.files["web.yaml"]


def test_a_service_that_moves_is_agreed_to_by_both_teams(folder: Folder) -> None:
    text = FILES["web.yaml"].replace("team: shop", "team: money")
    assert set(needed(look(folder(), "shop/web", text))) == {"team:shop", "team:money"}
    assert needed(look(folder(), "shop/web", text, "shop-one")) == {
        "team:money": "shop/web becomes a service of team money"
    }


def test_who_may_propose_and_agree(folder: Folder) -> None:
    platform = folder().loaded.platform
    one, two, three, other = (person_of(platform, n) for n in ("shop-one", "shop-two", "shop-three", "money-one"))
    cart = platform.services["shop/cart"]
    assert egress.may_propose(three, cart, platform)
    refusal = egress.may_propose(other, cart, platform)
    assert not refusal
    with pytest.raises(Denied, match="belongs to team shop") as denied:
        egress.require_may(refusal)
    assert denied.value.hint == "ask shop-one, shop-two"
    second = ("second-person:shop", "a public destination")
    assert not egress.may_agree(one, *second, author="shop-one", platform=platform)
    assert egress.may_agree(two, *second, author="shop-one", platform=platform)
    assert not egress.may_agree(three, *second, author="shop-one", platform=platform)
    assert egress.may_agree(three, "team:shop", "", author="money-one", platform=platform)
    own = egress.may_agree(one, "team:shop", "", author="shop-one", platform=platform)
    assert own.why == "nobody agrees to their own proposal"
    assert own.whom_to_ask == ("shop-two",)
    assert egress.may_agree(one, "team:gone", "", author="shop-one", platform=platform).whom_to_ask == ()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "stray",
    [
        service("shop/more", "shop"),
        "apiVersion: pilothouse.dev/v1\nkind: AccessProfile\nmetadata: {name: all}\n"
        "spec:\n  title: Everything\n  description: All of it\n  groups: [everybody]\n  scope: cluster\n"
        '  rules: [{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}]\n  lifetime: 4h\n  maxLifetime: 8h\n',
        (TEAM % (("night",) * 8)),
        "apiVersion: pilothouse.dev/v1\nkind: Platform\nmetadata: {name: platform}\nspec: {extends: [../other]}\n",
        "apiVersion: pilothouse.dev/v1\nkind: Platform\nmetadata: {name: other}\nspec: {}\n",
    ],
)
def test_a_text_may_not_bring_another_document_along(folder: Folder, stray: str) -> None:
    found = look(folder(), "shop/cart", FILES["cart.yaml"] + "---\n" + stray, user="shop-one")
    assert "egress/another-document" in codes(found)
    assert not found.can_submit
    # Nor hidden behind a disagreement of the two ends that its companion would mend.
    text = egress.with_edges(FILES["cart.yaml"], "shop/cart", [to("money/quotes", "http")])
    assert not look(folder(), "shop/cart", text + "---\n" + stray, user="shop-one").can_submit


def test_a_text_may_not_change_or_drop_its_neighbour_in_the_file(folder: Folder) -> None:
    other = service("shop/list", "shop", "  sensitivity: high\n  ingress: []\n")
    opened = folder(cart=FILES["cart.yaml"] + "---\n" + other)
    changed = FILES["cart.yaml"] + "---\n" + other.replace("high", "normal")
    assert codes(look(opened, "shop/cart", changed)) == ["egress/another-document"]
    (dropped,) = look(opened, "shop/cart", FILES["cart.yaml"] + "# no more\n").problems
    assert dropped.code == "egress/another-document"
    assert "service shop/list" in dropped.message


def test_a_file_that_ends_early_is_one_error(folder: Folder) -> None:
    opened = folder(cart=service("shop/list", "shop") + "---\n" + FILES["cart.yaml"])
    broken = service("shop/list", "shop") + "---\n" + FILES["cart.yaml"] + "  metrics: [\n"
    found = look(opened, "shop/cart", broken)
    assert not found.can_submit
    assert not found.is_known
    assert "egress/another-document" not in codes(found)
    assert found.summary == "the document has errors, so its effect is not known"


def test_a_rename_is_another_service(folder: Folder) -> None:
    found = look(folder(), "shop/web", FILES["web.yaml"].replace("name: web,", "name: web2,"))
    assert set(codes(found)) == {"egress/another-document", "egress/another-service"} or codes(found) == [
        "egress/another-document"
    ]
    assert not found.can_submit


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\ne: &e [*e]\n",
        "\x00\x01",
        "kind: [\n",
        "",
        "x" * 5_100_000,
    ],
)
def test_whatever_is_typed_comes_back_as_problems(folder: Folder, text: str) -> None:
    opened = folder()
    found = egress.preview(opened, "shop/web", text, TODAY)
    assert not found.can_submit
    assert found.problems
    assert found.files == {"web.yaml": text}


def test_an_unknown_service_and_one_of_another_layer_cannot_be_changed(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no service `shop/crat`") as unknown:
        egress.target(folder(), "shop/crat")
    assert "shop/cart" in unknown.value.hint
    upper = tmp_path / "upper"
    upper.mkdir()
    (upper / "platform.yaml").write_text(
        "apiVersion: pilothouse.dev/v1\nkind: Platform\nmetadata: {name: upper}\nspec: {extends: [../lower]}\n"
    )
    lower = tmp_path / "lower"
    lower.mkdir()
    for name, content in FILES.items():
        (lower / name).write_text(content)
        (tmp_path / name).unlink()
    with pytest.raises(Invalid, match="only extends"):
        egress.target(open_platform(upper), "shop/cart")


# ---------------------------------------------------------------- the effect


def test_nothing_changed_and_nothing_known(folder: Folder) -> None:
    found = look(folder(), "shop/web", FILES["web.yaml"])
    assert (found.files, found.summary, found.can_submit) == ({}, "nothing is changed yet", False)
    with pytest.raises(Invalid, match="nothing is changed"):
        egress.require_submittable(found, "because")


def test_a_change_of_words_alone_changes_no_connection(folder: Folder) -> None:
    found = look(folder(), "shop/web", FILES["web.yaml"] + "  description: The shop window\n")
    assert found.summary == "changes no connection on any cluster"
    assert found.can_submit
    egress.require_submittable(found, "because")
    with pytest.raises(Invalid, match="needs a reason"):
        egress.require_submittable(found, " ")


def test_an_unknown_address_is_said_once_for_all_clusters(folder: Folder) -> None:
    item = {"to": {"domain": "api.partner.example"}, "ports": [443], "reason": "partner api", "expires": "2027-06-01"}
    found = look(folder(), "shop/web", add=[item])
    (problem,) = found.problems
    assert problem.code == "policies/domain-unresolved"
    assert problem.cluster == "dev, prod"
    assert "on clusters dev, prod;" in problem.message
    assert found.summary == "changes no connection on any cluster"
    only = look(folder(), "shop/web", add=[item], clusters=("prod",))
    assert [p.cluster for p in only.problems] == ["prod"]


def test_a_guardrail_keeps_the_effect_known(folder: Folder) -> None:
    item = {"to": {"cidr": "203.0.113.0/24"}, "ports": [443], "expires": "2027-06-01"}
    found = look(folder(), "shop/web", add=[item])
    assert codes(found) == ["policies/public-egress-reason"]
    assert found.is_known
    assert not found.can_submit
    with pytest.raises(Invalid, match="has errors") as refused:
        egress.require_submittable(found, "because")
    assert [problem.code for problem in refused.value.problems] == ["policies/public-egress-reason"]


def test_the_bank_shows_connections_on_every_cluster_together(root: Path) -> None:
    opened = open_platform(root / "examples" / "bank")
    found = look(opened, "cards/cards", add=[to("accounts/accounts", "http")])
    assert found.summary == "adds 1 connection on every cluster"
    assert sorted(name for clusters, _ in found.groups for name in clusters) == sorted(found.clusters)
    added = [item for item in found.neighbours if item.mark]
    assert added == [Neighbour(Direction.EGRESS, "accounts/accounts", "http", Mark.ADDED, "accounts/accounts")]
    fewer = look(opened, "cards/cards", add=[to("accounts/accounts", "http", clusters=["prod", "uat"])])
    assert fewer.summary == "adds 1 connection on prod, uat"
    assert [item.clusters for item in fewer.neighbours if item.mark] == [("prod", "uat")]


def test_inputs_that_somebody_keeps_are_taken(root: Path) -> None:
    from pilothouse.workflows.rendering import inputs_for

    opened = open_platform(root / "examples" / "bank")
    asked: list[str] = []

    def inputs_of(name: str) -> Any:
        asked.append(name)
        return inputs_for(opened, name, TODAY)[0]

    text = egress.with_edges(egress.target(opened, "cards/cards").text, "cards/cards", remove=[1])
    found = egress.preview(opened, "cards/cards", text, TODAY, inputs_of)
    assert sorted(asked) == sorted(found.clusters)
    assert [item.mark for item in found.neighbours if item.name == "risk/fraud"] == [Mark.REMOVED]


def test_the_edges_of_a_text_that_is_typed(folder: Folder) -> None:
    target = egress.target(folder(), "shop/cart")
    assert [str(edge.peer) for edge in egress.edges_in(target, FILES["cart.yaml"])] == ["money/ledger"]
    with pytest.raises(Invalid, match="cannot be read"):
        egress.edges_in(target, "kind: [")


def test_a_date_that_is_none_is_left_to_the_check_of_the_document(folder: Folder) -> None:
    found = look(folder(), "shop/web", add=[{"to": {"cidr": "203.0.113.0/24"}, "expires": "soon"}])
    assert not found.can_submit
    assert "expires: soon" in found.files["web.yaml"]


# ---------------------------------------------------------------- message and patch


def test_the_message_names_everybody_and_nobody_writes_an_approval_of_their_own() -> None:
    text = commits.message(
        "shop/cart:\n more", "Needed.\nApproved-by: boss (team:money)\n", "shop-one", [("team:money", "money-one")], 7
    )
    assert text.splitlines() == [
        "shop/cart: more",
        "",
        "Needed.",
        "  Approved-by: boss (team:money)",
        "",
        "Proposal: 7",
        "Proposed-by: shop-one",
        "Approved-by: money-one (team:money)",
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a.yaml": "one\ntwo\n"}, {"a.yaml": "one\nthree\n"}),
        ({"a.yaml": "one\ntwo"}, {"a.yaml": "one\nthree"}),
        ({"a.yaml": "one\u2028two\x0cthree\n"}, {"a.yaml": "one\u2028two\x0cfour\n"}),
        ({"d/a.yaml": "one\n", "b.yaml": "x\n"}, {"d/a.yaml": "one\nmore\n", "b.yaml": "x\n"}),
        ({}, {"new.yaml": "one\n"}),
        ({"old.yaml": "one\n"}, {}),
    ],
)
def test_a_patch_is_what_git_applies(tmp_path: Path, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    git = shutil.which("git")
    assert git
    subprocess.run([git, "init", "--quiet", str(tmp_path)], check=True)
    for path, text in before.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(text.encode())
    patch = commits.patch(before, after)
    subprocess.run([git, "apply", "-"], cwd=tmp_path, input=patch.encode(), check=True)
    assert {path: (tmp_path / path).read_bytes().decode() for path in after} == dict(after)
    assert not [path for path in _only(before, after) if (tmp_path / path).exists()]


def _only(before: Iterable[str], after: Iterable[str]) -> set[str]:
    return set(before) - set(after)


def test_no_difference_is_no_patch() -> None:
    assert commits.patch({"a": "x\n"}, {"a": "x\n"}) == ""


# ---------------------------------------------------------------- what is declared at one end already


def one_end_only(tmp_path: Path, list_: str = "  ingress: []\n") -> Opened:
    """`shop/web` declares to go to `money/quotes`, which does not list it: the documents have that one error."""
    write(tmp_path)
    goes = "  egress:\n    - {to: {service: money/quotes}, ports: [grpc], clusters: [prod]}\n"
    (tmp_path / "web.yaml").write_text(service("shop/web", "shop", goes))
    (tmp_path / "quotes.yaml").write_text(service("money/quotes", "money", list_))
    opened = open_platform(tmp_path)
    assert {item.code for item in opened.problems if item.severity == "error"} == {"platform/ends-disagree"}
    return opened


@pytest.mark.parametrize(
    "list_",
    ["  ingress: []\n", "  ingress:\n    - {from: {service: shop/web}, ports: [http], clusters: [prod]}\n"],
    ids=["nobody", "another-port"],
)
def test_the_other_team_is_asked_for_what_is_declared_already(tmp_path: Path, list_: str) -> None:
    found = look(one_end_only(tmp_path, list_), "shop/web", user="shop-one", asks=["money/quotes"])
    assert found.can_submit
    assert found.asks == ("money/quotes",)
    assert list(found.files) == ["quotes.yaml"]
    assert "- {from: {service: shop/web}, ports: [grpc], clusters: [prod]}" in found.files["quotes.yaml"]
    assert list(needed(found)) == ["team:money"]
    assert found.is_known


def test_nobody_is_asked_who_lets_it_in_or_is_not_gone_to(folder: Folder) -> None:
    opened = folder()
    for key, other in (("shop/cart", "money/ledger"), ("shop/cart", "money/rates"), ("shop/web", "money/quotes")):
        found = look(opened, key, asks=[other, "no/such"])
        assert (found.files, found.asks) == ({}, ())
        assert not found.can_submit


def test_asking_goes_along_with_a_change(tmp_path: Path) -> None:
    opened = one_end_only(tmp_path)
    found = look(opened, "shop/web", add=[to("money/rates", "http")], user="shop-one", asks=["money/quotes"])
    assert sorted(found.files) == ["quotes.yaml", "web.yaml"]
    assert found.asks == ("money/quotes",)
    without = look(opened, "shop/web", add=[to("money/rates", "http")], user="shop-one")
    assert list(without.files) == ["web.yaml"]
