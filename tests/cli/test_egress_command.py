"""`pilothouse egress` on a folder, and through a portal that really listens."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner
from support.egress_world import FILES, service, write
from support.portal import PASSWORD, Clock, make_app
from werkzeug.serving import make_server

from pilothouse.cli.access import group as access
from pilothouse.cli.egress import group
from pilothouse.files import editing
from pilothouse.files.git import Repository, init
from pilothouse.portal.state import Workflows
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, Unavailable

RATES = "{to: {service: money/rates}, ports: [http]}"
QUOTES = "{to: {service: money/quotes}, ports: [http]}"
PUBLIC = "{to: {cidr: 203.0.113.0/28}, ports: [443], reason: bank gateway, expires: 2027-06-01}"
TODAY = ("--today", "2026-11-21")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "platform"
    root.mkdir()
    write(root)
    return root


def run(*arguments: str, code: int = 0, env: dict[str, str] | None = None) -> str:
    result = CliRunner().invoke(group, list(arguments), env=env)
    if isinstance(result.exception, PilothouseError):
        raise result.exception
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def data(*arguments: str, **more: Any) -> Any:
    return json.loads(run(*arguments, "-o", "json", **more))


# ---------------------------------------------------------------- on a folder


def test_show_numbers_the_destinations(folder: Path) -> None:
    ended = "{to: {cidr: 203.0.113.0/28}, clusters: [prod], reason: trial run, expires: 2026-01-31}"
    text = FILES["cart.yaml"] + f"    - {ended}\n"
    (folder / "cart.yaml").write_text(text)
    said = run("show", str(folder), "shop/cart", *TODAY)
    assert re.search(r"1 +money/ledger +http +all", said)
    assert "trial run, ended 2026-01-31" in said
    assert "cluster DNS" in said
    found = data("show", str(folder), "shop/cart", "-c", "dev", *TODAY)
    assert [item["number"] for item in found["egress"]] == [1, 2]
    assert [item["expired"] for item in found["egress"]] == [False, True]
    assert found["clusters"] == ["dev"]
    assert {"money/ledger", "cluster DNS"} <= {item["name"] for item in found["neighbours"]}
    assert "declares no destination" in run("show", str(folder), "money/rates")
    with pytest.raises(Invalid, match="no service `shop/crat`"):
        run("show", str(folder), "shop/crat")


def test_effect_shows_and_writes_nothing(folder: Path) -> None:
    said = run("effect", str(folder), "shop/cart", "--add", QUOTES, *TODAY)
    assert "+    - {to: {service: money/quotes}, ports: [http]}" in said
    assert "quotes.yaml changes along" in said
    assert "Must agree: team money: money/quotes lists who may reach it" in said
    assert (folder / "cart.yaml").read_text() == FILES["cart.yaml"]


def test_effect_of_the_bank(root: Path) -> None:
    item = "{to: {service: accounts/accounts}, ports: [http]}"
    said = run("effect", str(root / "examples/bank"), "cards/cards", "--add", item, "--remove", "2", *TODAY)
    assert "+   cards/cards   accounts/accounts   8080" in said
    assert "-   cards/cards   risk/fraud" in said
    assert "on every cluster." in said
    found = data("effect", str(root / "examples/bank"), "cards/cards", "--add", item, "-c", "prod", *TODAY)
    assert list(found["effects"]) == ["prod"]
    assert found["summary"] == "adds 1 connection on prod"


def test_effect_of_a_file_with_errors_has_carets(folder: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(FILES["cart.yaml"].replace("  team:", "  taem:"))
    said = run("effect", str(folder), "shop/cart", "--file", str(wrong), "--write", code=1)
    assert "error [platform/unknown-field]" in said
    assert "^~~~" in said
    assert "Nothing was written." in said
    assert (folder / "cart.yaml").read_text() == FILES["cart.yaml"]
    found = data("effect", str(folder), "shop/cart", "--file", str(wrong), code=1)
    assert not found["can_submit"]
    assert "platform/unknown-field" in {item["code"] for item in found["problems"]}


def test_effect_writes_both_ends_when_asked(folder: Path) -> None:
    (folder / "cart.yaml").chmod(0o640)
    said = run("effect", str(folder), "shop/cart", "--add", QUOTES, "--write", *TODAY)
    assert f"Wrote {folder / 'quotes.yaml'}" in said
    assert "money/quotes" in (folder / "cart.yaml").read_text()
    assert "shop/cart" in (folder / "quotes.yaml").read_text()
    assert stat.S_IMODE((folder / "cart.yaml").stat().st_mode) == 0o640
    again = data("effect", str(folder), "shop/cart", "--write", *TODAY)
    assert (again["written"], again["summary"]) == ([], "nothing is changed yet")


@pytest.mark.parametrize("item", ["x", "{service: a/b}", "{to: [a]}", "{to: {", "[]"])
def test_an_item_that_is_none_is_refused(folder: Path, item: str) -> None:
    assert "is no item such as" in run("effect", str(folder), "shop/cart", "--add", item, code=2)


def test_a_file_and_items_exclude_each_other(folder: Path, tmp_path: Path) -> None:
    here = tmp_path / "cart.yaml"
    here.write_text("x")
    said = run("effect", str(folder), "shop/cart", "--add", RATES, "--file", str(here), code=2)
    assert "either it, or --add and --remove" in said
    here.write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid, match="cannot be read as text"):
        run("effect", str(folder), "shop/cart", "--file", str(here))


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("old")
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    editing.replace_text(link, "new\n")
    assert link.is_symlink()
    assert path.read_text() == "new\n"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        editing.replace_text(path, "newer\n")
    assert path.read_text() == "new\n"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.yaml", "link.yaml"]


# ---------------------------------------------------------------- through the portal

Engineer = Callable[..., Any]


@pytest.fixture
def engineer(folder: Path, tmp_path: Path) -> Iterator[Callable[[str], Engineer]]:
    """A maker of people with a login of their own: `engineer("shop-one")("list")`."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    init(folder).commit_all("The platform", "test", "test@localhost")
    users = {f"{team}-{n}": {"groups": []} for team in ("shop", "money") for n in ("one", "two")}
    clock = Clock(datetime.now(UTC))
    # Looked at again only after a commit: a proposal must not be submitted upon an edit by hand that a test makes.
    app = make_app(tmp_path / "data", users_=users, engine=Workflows(), root=folder, watch_seconds=3600, clock=clock)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"

    def make(user: str) -> Engineer:
        home = tmp_path / user
        home.mkdir()
        env = {"XDG_CONFIG_HOME": str(home), "HOME": str(home), "PILOTHOUSE_SERVER": ""}
        line = ["login", "--server", address, "--user", user]
        logged_in = CliRunner().invoke(access, line, input=PASSWORD + "\n", env=env)
        assert logged_in.exit_code == 0, logged_in.output
        return lambda *arguments, **more: (data if more.pop("json", False) else run)(*arguments, env=env, **more)

    yield make
    server.shutdown()
    thread.join()
    server.server_close()
    structlog.reset_defaults()


def test_a_proposal_is_made_looked_at_and_agreed_to(engineer: Callable[[str], Engineer], folder: Path) -> None:
    author, other = engineer("shop-one"), engineer("money-one")
    said = author("propose", "shop/cart", "--add", QUOTES, "--reason", "Prices beside the cart", "--title", "Prices")
    assert "Proposal 1 is submitted." in said
    assert "team money is asked: money/quotes lists" in said
    assert "pilothouse egress approve 1 --version 2" in said
    assert "Prices" in other("list", "--waiting")
    assert other("list", "--mine", json=True)["total"] == 0
    assert author("list", "--mine", "--state", "submitted", "--service", "shop/cart", json=True)["total"] == 1

    shown = other("proposal", "1")
    assert "shop/cart of team shop, by shop-one, version 2" in shown
    assert "Prices beside the cart" in shown
    assert "created" in shown
    patch = other("proposal", "1", "--patch")
    subprocess.run(["git", "apply", "--check", "-"], cwd=folder, input=patch.encode(), check=True)

    with pytest.raises(Denied, match="own proposal"):
        author("approve", "1")
    with pytest.raises(Conflict, match="changed in the meantime"):
        other("approve", "1", "--version", "1")
    assert "Proposal 1 is committed." in other("approve", "1", "--role", "team:money", "--comment", "fine")
    assert Repository(folder).log(limit=1)[0].subject == "Prices"
    assert "When it was written" in author("proposal", "1")


def test_a_refused_one_is_submitted_again_or_withdrawn(engineer: Callable[[str], Engineer]) -> None:
    author, other = engineer("shop-one"), engineer("money-one")
    made = author("propose", "shop/cart", "--add", QUOTES, "--reason", "Prices", json=True)
    number = str(made["proposal"]["number"])
    assert made["preview"]["can_submit"]
    assert "is rejected" in other("refuse", number, "--comment", "use rates")
    assert "Missing option '--comment'" in other("refuse", number, code=2)
    assert "is submitted" in author("submit", number)
    assert author("withdraw", number, "--comment", "no more", json=True)["state"] == "withdrawn"
    with pytest.raises(Conflict):
        author("retry", number)


def test_a_draft_and_a_file(engineer: Callable[[str], Engineer], tmp_path: Path, folder: Path) -> None:
    author = engineer("shop-one")
    assert "pilothouse egress submit 1" in author("propose", "shop/cart", "--add", PUBLIC, "--draft")
    document = tmp_path / "cart.yaml"
    document.write_text(FILES["cart.yaml"] + f"    - {RATES}\n")
    said = author("propose", "shop/cart", "--file", str(document), "--reason", "Rates")
    assert "Nobody else must agree." in said
    assert "Proposal 2 is committed." in said
    document.write_text(document.read_text() + "    - {to: {domain: a.partner.example}}\n")
    refused = author("propose", "shop/cart", "--file", str(document), "--reason", "Partner", code=1)
    assert "policies/public-egress-reason" in refused
    assert author("list", json=True)["total"] == 2
    assert "There is none." in author("list", "--waiting")


def test_a_commit_that_fails_says_what_to_do(engineer: Callable[[str], Engineer], folder: Path) -> None:
    author = engineer("shop-one")
    author("propose", "shop/web", "--add", RATES, "--draft", "--reason", "Rates")
    text = (folder / "web.yaml").read_text()
    (folder / "web.yaml").write_text(text + "# by hand\n")
    said = author("submit", "1")
    assert "Proposal 1 is failed." in said
    assert "pilothouse egress retry 1" in said
    (folder / "web.yaml").write_text(text)
    assert "is committed" in author("retry", "1")


def test_what_is_missing_is_said(engineer: Callable[[str], Engineer]) -> None:
    author = engineer("shop-one")
    assert "say why with --reason" in author("propose", "shop/cart", "--add", RATES, code=2)
    with pytest.raises(Invalid, match="nothing is changed"):
        author("propose", "shop/cart", "--reason", "x")
    with pytest.raises(Invalid, match="no service `shop/crat`"):
        author("propose", "shop/crat", "--add", RATES, "--reason", "x")
    with pytest.raises(Denied, match="not logged in"):
        run("list", env={"XDG_CONFIG_HOME": "/nonexistent", "HOME": "/nonexistent"})


def test_services_that_stand_together_in_a_file(folder: Path) -> None:
    both = FILES["cart.yaml"] + "---\n" + service("shop/list", "shop", "  ingress: []\n")
    (folder / "cart.yaml").write_text(both)
    run("effect", str(folder), "shop/cart", "--add", "{to: {service: shop/list}, ports: [http]}", "--write", *TODAY)
    assert "- {from: {service: shop/cart}, ports: [http]}" in (folder / "cart.yaml").read_text()
