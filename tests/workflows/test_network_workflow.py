"""Questions about one cluster's network: what is kept, what is suggested, and the proposals that an edit leads to."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from support.builders import TODAY

from pilothouse.policies.compare.map import Only
from pilothouse.policies.engine.decide import Outcome
from pilothouse.policies.rules import Direction
from pilothouse.problems import Invalid
from pilothouse.workflows import egress, network
from pilothouse.workflows.network import Network, Start, observed, starts
from pilothouse.workflows.rendering import Opened, inputs_for, open_platform

BANK = Path(__file__).parents[2] / "examples" / "bank"


@pytest.fixture(scope="module")
def opened() -> Opened:
    return open_platform(BANK)


@pytest.fixture(scope="module")
def prod(opened: Opened) -> Network:
    return Network(inputs_for(opened, "prod", TODAY)[0])


def test_a_question_is_answered_from_what_is_kept(prod: Network) -> None:
    found = prod.ask("payments/payments", "ledger/ledger", "9090")
    assert found.answer.verdict is Outcome.ALLOW
    assert prod.ask("payments/payments", "ledger/ledger", "9090") is found
    assert prod.ask("payments/payments", "ledger/ledger", "9090", enforced=True) is not found
    assert prod.site() is prod.site()
    assert prod.map(Only(team="risk")) is prod.map(Only(team="risk"))


def test_only_the_last_answers_are_kept(prod: Network) -> None:
    found = prod.map()
    for port in range(network.KEPT):
        prod.ask("payments/payments", "ledger/ledger", str(9000 + port), edits=False)
    assert prod.map() is not found
    assert len(prod._kept) == network.KEPT


def test_without_edits_the_story_is_the_same(prod: Network) -> None:
    quick = prod.ask("payments/payments", "ledger/ledger", "9091", edits=False)
    whole = prod.ask("payments/payments", "ledger/ledger", "9091")
    assert quick.found is not None
    assert whole.found is not None
    assert quick.found.stories == whole.found.stories
    assert quick.found.edits == ()
    assert whole.found.edits


def test_without_a_port_it_is_asked_at_what(prod: Network) -> None:
    found = prod.ask("payments/payments", "ledger/ledger")
    assert found.found is None
    assert str(found.answer.pairs[0].said.allowed) == "9090"


def test_what_means_nothing_is_said(prod: Network) -> None:
    with pytest.raises(Invalid, match="no service, workload, pod"):
        prod.ask("payments/nobody", "ledger/ledger", "9090")
    with pytest.raises(Invalid, match="is no port"):
        prod.ask("payments/payments", "ledger/ledger", "80x!")
    with pytest.raises(Invalid, match="no pods of"):
        prod.map(Only(service="payments/nobody"))


def test_names_are_suggested_services_first(prod: Network) -> None:
    found = prod.ends("LEDGER")
    assert found[:2] == ("ledger/ledger", "ledger/reporting")
    assert "svc:ledger/ledger" in found
    assert any(name.startswith("pod:ledger/") for name in found)
    assert prod.ends("ledger/ledger")[0] != "ledger/ledger", "what is typed already is no suggestion"
    assert len(prod.ends(limit=5)) == 5
    assert prod.ends("no such thing") == ()


def test_ports_of_a_destination(prod: Network) -> None:
    assert "grpc" in prod.ports("ledger/ledger")
    assert prod.ports("svc:kube-system/kube-dns")[:1] in (("53/UDP",), ("53",))
    assert prod.ports("internet") == ()
    assert prod.ports("svc:no/such") == ()


def test_a_connection_stands_beside_the_line_that_declares_it(prod: Network) -> None:
    (edge,) = prod.because("payments/payments", "ledger/ledger", Direction.EGRESS)
    assert edge.place.path == "services/payments/payments.yaml"
    (dns,) = prod.because("payments/payments", "the node-local DNS cache", Direction.EGRESS)
    assert dns.is_implied
    assert prod.because("payments/payments", "risk/nobody", Direction.EGRESS) == ()


def test_enforced_services_are_as_declared_and_staged_ones_are_not(prod: Network) -> None:
    payments, fraud, then = (
        prod.beside("payments/payments"),
        prod.beside("risk/fraud"),
        prod.beside("cards/cards", enforced=True),
    )
    assert payments is not None
    assert fraud is not None
    assert then is not None
    assert payments.same
    assert fraud.more
    assert not fraud.less
    assert then.same


# ---------------------------------------------------------------- from an edit to a proposal


def start_of(prod: Network, opened: Opened, source: str, destination: str, port: str) -> tuple[Start, ...]:
    found = prod.ask(source, destination, port, enforced=True).found
    assert found is not None
    assert found.edit is not None
    return starts(found.edit, opened.loaded.platform)


def text_after(opened: Opened, start: Start) -> str:
    """The document as the proposal's page would show it."""
    import yaml

    text = egress.target(opened, start.service.key).text
    items = [yaml.safe_load(item) for item in start.add]
    return egress.with_edges(text, start.service.key, items, [number - 1 for number in start.remove])


@pytest.mark.parametrize(
    ("source", "destination", "port", "teams"),
    [
        ("payments/payments", "ledger/ledger", "9091", ("accounts",)),
        ("risk/fraud", "cards/tokenizer", "8443", ("payments",)),
        ("cards/cards", "accounts/accounts", "8080", ("accounts",)),
    ],
)
def test_the_proposal_of_a_denied_pair_carries_both_ends(
    prod: Network, opened: Opened, source: str, destination: str, port: str, teams: tuple[str, ...]
) -> None:
    (start,) = start_of(prod, opened, source, destination, port)
    assert start.service.key == source
    assert start.teams == teams
    assert start.command.startswith(f"pilothouse egress propose {source} ")
    found = egress.preview(opened, source, text_after(opened, start), TODAY, clusters=["prod"])
    assert found.can_submit
    path = opened.loaded.platform.services[destination].place.path
    assert path in found.files
    assert f"team:{teams[0]}" in {item.role for item in found.needed} | {
        item.role.replace("second-person", "team") for item in found.needed
    }


def test_an_edit_of_a_list_alone_is_asked_for(tmp_path: Path) -> None:
    """Its egress is declared, and the other end does not list it."""
    from support.egress_world import service, write

    write(tmp_path)
    goes = "  egress:\n    - {to: {service: money/quotes}, ports: [grpc]}\n"
    (tmp_path / "web.yaml").write_text(service("shop/web", "shop", goes))
    opened = open_platform(tmp_path)
    found = Network(inputs_for(opened, "prod", TODAY)[0]).ask("shop/web", "money/quotes", "grpc", enforced=True).found
    assert found is not None
    assert found.edit is not None
    (start,) = starts(found.edit, opened.loaded.platform)
    assert (start.service.key, start.ask, start.teams) == ("shop/web", ("money/quotes",), ("money",))
    assert start.query == {"service": "shop/web", "ask": ["money/quotes"]}
    assert start.command == "pilothouse egress propose shop/web --ask money/quotes --reason …"


# ---------------------------------------------------------------- observed flows


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BANK, tmp_path / "bank"))


def test_flows_beside_the_platform_are_found(bank: Path) -> None:
    found = observed(bank, "prod")
    assert found.files == ("flows/prod.csv",)
    assert len(found.readings) == 1
    assert found.reason == ""
    assert observed(bank, "dev").readings == ()
    assert "flows/dev" in observed(bank, "dev").reason


def test_each_file_is_a_window_and_a_broken_one_is_the_reason(bank: Path) -> None:
    folder = bank / "flows" / "prod"
    folder.mkdir()
    (folder / "monday.csv.gz").write_bytes(gzip.compress((bank / "flows" / "prod.csv").read_bytes()))
    (folder / "tuesday.csv").write_text("nothing of use\n")
    found = observed(bank, "prod")
    assert sorted(found.files) == ["flows/prod.csv", "flows/prod/monday.csv.gz", "flows/prod/tuesday.csv"]
    assert len(found.readings) == 2
    assert "flows/prod/tuesday.csv" in found.reason
    assert bank.as_posix() not in found.reason


def test_too_much_is_left_to_the_command_line(bank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "MOST_FLOW_BYTES", 1_000)
    found = observed(bank, "prod")
    assert found.readings == ()
    assert "command line" in found.reason


def test_adoption_joins_what_is_declared_and_what_was_seen(prod: Network) -> None:
    found = prod.adoption(observed(BANK, "prod"))
    assert found.rows[0].namespace == "risk"
    assert [item.pod for item in found.rows[0].undeclared] == ["notebook-niaj"]
    assert found.candidates["accounts"].total.flows
