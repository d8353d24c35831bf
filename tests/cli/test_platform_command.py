"""`pilothouse platform` as people and programs see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pilothouse.cli.platform import group
from pilothouse.problems import Invalid

BANK = Path(__file__).parents[2] / "examples" / "bank"
BROKEN = """\
apiVersion: pilothouse.dev/v1
kind: Service
metadata: {name: payments, namespace: payments}
spec:
  team: payments
  podSelecto: {matchLabels: {app: payments}}
"""


def run(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(group, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bank" / "services").mkdir(parents=True)
    (tmp_path / "bank" / "services" / "payments.yaml").write_text(BROKEN)
    return Path("bank")


def test_a_clean_platform() -> None:
    assert run("check", BANK).output.splitlines()[-1].startswith("bank: ")


def test_a_problem_is_shown_with_its_caret(broken: Path) -> None:
    lines = run("check", broken, code=1).output.splitlines()
    at = lines.index(
        "bank/services/payments.yaml:6:3: error [platform/unknown-field] unknown field `podSelecto` in `spec`"
    )
    assert lines[at + 1 : at + 4] == [
        "  6 |   podSelecto: {matchLabels: {app: payments}}",
        "    |   ^~~~~~~~~~",
        "  hint: did you mean `podSelector`?",
    ]


def test_problems_as_json_and_sarif(broken: Path) -> None:
    data = json.loads(run("check", broken, "--output", "json", code=1).output)
    assert data["summary"]["error"] == len(data["problems"]) > 0
    assert data["problems"][-1]["place"]["path"] == "bank/services/payments.yaml"
    sarif = json.loads(run("check", broken, "-o", "sarif", code=1).output)
    assert sarif["runs"][0]["results"][0]["ruleId"].startswith("platform/")


def test_a_folder_that_is_not_there_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no folder"):
        run("check", tmp_path / "nowhere")


def test_show_lists_what_is_declared() -> None:
    text = run("show", BANK).output
    for word in ("Clusters", "prod", "Teams", "payments", "Access profiles", "developer", "Services"):
        assert word in text


def test_show_says_where_everything_comes_from(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "t.yaml").write_text("apiVersion: pilothouse.dev/v1\nkind: Team\nmetadata: {name: a}\nspec: {}\n")
    (tmp_path / "p" / "alerts").mkdir()
    (tmp_path / "p" / "alerts" / "README.md").write_text("ours")
    data = json.loads(run("show", tmp_path / "p", "-o", "json").output)
    documents = {(row["kind"], row["name"]): row for row in data["documents"]}
    assert documents["Team", "a"]["from"] == "t.yaml:3:18"
    assert documents["AccessProfile", "developer"]["from"].startswith("bundle: secrets/profiles/developer.yaml:")
    content = {row["file"]: row for row in data["content"]}
    assert content["alerts/README.md"]["origin"] == "platform"
    assert content["alerts/README.md"]["over"] == "bundle:alerts/README.md"
    text = run("show", tmp_path / "p", "--origin").output
    assert "bundle: secrets/profiles/developer.yaml" in text


def test_show_the_effective_values_of_a_cluster_and_a_service() -> None:
    values = {row["path"]: row for row in json.loads(run("show", BANK, "-c", "prod", "-o", "json").output)}
    assert values["metadata.name"]["value"] == "prod"
    assert values["metadata.name"]["from"].startswith("clusters/prod.yaml:")
    values = {row["path"]: row for row in json.loads(run("show", BANK, "-s", "data/redis", "-o", "json").output)}
    assert values["spec.exposure"] == {"path": "spec.exposure", "value": "internal", "from": "default"}
    assert "Service data/redis" in run("show", BANK, "-s", "data/redis").output
    with pytest.raises(Invalid, match="no cluster `prdo`") as refused:
        run("show", BANK, "-c", "prdo")
    assert refused.value.hint == "did you mean `prod`?"


def test_lists_of_services_and_teams() -> None:
    everything = json.loads(run("services", BANK, "-o", "json").output)
    some = json.loads(run("services", BANK, "--team", "payments", "-o", "json").output)
    assert 0 < len(some) < len(everything)
    assert {row["team"] for row in some} == {"payments"}
    assert "payments/payments" in run("services", BANK).output
    teams = {row["team"]: row for row in json.loads(run("teams", BANK, "-o", "json").output)}
    assert teams["payments"]["services"] == len(some)
    assert "payments" in run("teams", BANK).output


def test_schemas_are_printed_and_written(tmp_path: Path) -> None:
    assert set(json.loads(run("schema").output)) >= {"Service", "Team", "Cluster", "AccessProfile", "Platform"}
    assert json.loads(run("schema", "--kind", "Team").output)["title"] == "Team"
    assert run("schema", "--out", tmp_path / "s").output.count("wrote ") == 6
    assert run("schema", "--out", tmp_path / "s").output == ""
    with pytest.raises(Invalid, match="no kind `Taem`"):
        run("schema", "--kind", "Taem")
