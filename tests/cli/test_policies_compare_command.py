"""`pilothouse policies map`, `diff` and `drift` as people and programs see them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner, Result

from pilothouse.cli.policies import group
from pilothouse.problems import Invalid

BANK = Path(__file__).parents[2] / "examples" / "bank"
TODAY = ("--today", "2026-11-21")
POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: {app}}}}}
spec: {{nodeName: n1, containers: [{{name: c, image: i}}]}}
status: {{phase: Running, podIP: 10.0.0.{number}, podIPs: [{{ip: 10.0.0.{number}}}]}}
---
"""
POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: api}}}}
  ingress:
    - from: [{{podSelector: {{matchLabels: {{app: web}}}}}}]
      ports: [{{port: {port}}}]
"""


def run(*arguments: str | Path, code: int = 0, given: str = "") -> Result:
    result = CliRunner().invoke(group, [str(argument) for argument in arguments], input=given or None)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def manifests(path: Path, port: int, name: str = "api") -> Path:
    path.mkdir()
    pods = "".join(POD.format(name=f"{app}-1", app=app, number=number) for number, app in enumerate(("web", "api"), 1))
    (path / "all.yaml").write_text(pods + POLICY.format(name=name, port=port))
    return path


# ---------------------------------------------------------------- map


def test_the_map_of_a_platform() -> None:
    text = run("map", BANK, "--cluster", "prod", *TODAY).stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "payments payments/settlement ledger/ledger 9090" in lines
    assert lines[-1].startswith("35 parties, ")
    assert any(line.startswith("no policy isolates the ingress of ") for line in lines)


def test_the_map_of_manifests_and_of_standard_input(tmp_path: Path) -> None:
    folder = manifests(tmp_path / "one", 80)
    lines = [" ".join(line.split()) for line in run("map", folder).stdout.splitlines()]
    assert "shop/web-1 shop/api-1 80" in lines
    given = (folder / "all.yaml").read_text()
    assert run("map", "-", given=given).stdout == run("map", folder).stdout


def test_the_map_as_json_csv_and_svg(tmp_path: Path) -> None:
    data = json.loads(run("map", BANK, "-c", "prod", *TODAY, "--output", "json").stdout)
    assert data["title"] == "cluster prod"
    assert {"kind": "service", "name": "cards/cards", "team": "payments"} in [c["source"] for c in data["connections"]]
    rows = list(csv.DictReader(io.StringIO(run("map", BANK, "-c", "prod", *TODAY, "--csv", "-").stdout)))
    assert len(rows) == len(data["connections"])
    assert rows[0].keys() >= {"source", "destination", "ports", "verdict"}
    target = tmp_path / "map.svg"
    assert run("map", BANK, "-c", "prod", *TODAY, "--svg", target).stdout == ""
    assert target.read_text() == run("map", BANK, "-c", "prod", *TODAY, "--svg", "-").stdout
    assert ElementTree.parse(target).getroot().tag.endswith("svg")


def test_a_part_of_the_map() -> None:
    data = json.loads(run("map", BANK, "-c", "prod", *TODAY, "--service", "ledger/ledger", "--output", "json").stdout)
    ends = [{c["source"]["name"], c["destination"]["name"]} for c in data["connections"]]
    assert ends
    assert all("ledger/ledger" in pair for pair in ends)
    with pytest.raises(Invalid, match="no pods of `ledger/legder` run here"):
        run("map", BANK, "-c", "prod", *TODAY, "--service", "ledger/legder")


def test_pods_and_the_future(tmp_path: Path) -> None:
    folder = manifests(tmp_path / "one", 80)
    assert "shop/web-1" in run("map", folder, "--pods").stdout
    assert "(a new pod with app=web)" in run("map", folder, "--future").stdout


# ---------------------------------------------------------------- diff


def test_no_difference_is_exit_0(tmp_path: Path) -> None:
    one, two = manifests(tmp_path / "one", 80), manifests(tmp_path / "two", 80, "renamed")
    assert run("diff", one, two).stdout == "changes no connection\n"


def test_a_difference_is_exit_1(tmp_path: Path) -> None:
    one, two = manifests(tmp_path / "one", 80), manifests(tmp_path / "two", 81)
    text = run("diff", one, two, code=1).stdout
    assert text.splitlines() == [
        "of no team",
        "  shop/web-1",
        "    + shop/web-1 → shop/api-1 at 81, for example shop/web-1 → shop/api-1",
        "    - shop/web-1 → shop/api-1 at 80, for example shop/web-1 → shop/api-1",
        "adds 1, removes 1 connection",
    ]
    data = json.loads(run("diff", one, two, "--output", "json", code=1).stdout)
    assert [change["what"] for change in data["changes"]] == ["appears", "vanishes"]


def test_two_platforms(tmp_path: Path) -> None:
    other = tmp_path / "bank"
    shutil.copytree(BANK, other)
    for name, side, end in (
        ("payments/settlement", "egress", "ledger/ledger"),
        ("ledger/ledger", "ingress", "settlement"),
    ):
        path = other / "services" / f"{name}.yaml"
        document = yaml.safe_load(path.read_text())
        document["spec"][side] = [edge for edge in document["spec"][side] if end not in str(edge)]
        path.write_text(yaml.safe_dump(document))
    assert run("diff", BANK, BANK, "-c", "prod", *TODAY).stdout == "changes no connection\n"
    lines = run("diff", BANK, other, "-c", "prod", *TODAY, code=1).stdout.splitlines()
    assert "team payments" in lines
    assert any(line.startswith("    - payments/settlement → ledger/ledger at 9090, for example ") for line in lines)
    assert lines[-1] == "removes 1 connection"


def test_a_platform_against_its_snapshot(tmp_path: Path) -> None:
    text = run("diff", BANK, "-c", "prod", *TODAY, code=1).stdout
    assert "comes under policy" in text
    with pytest.raises(Invalid, match="only a platform can be held against its snapshot"):
        run("diff", manifests(tmp_path / "one", 80))


# ---------------------------------------------------------------- drift


@pytest.fixture
def applied(tmp_path: Path) -> Path:
    """The bank with its own policies live on dev."""
    from datetime import date

    from pilothouse.workflows import rendering

    root = tmp_path / "bank"
    shutil.copytree(BANK, root)
    opened = rendering.open_platform(root)
    _, result = rendering.derive_cluster(opened, "dev", date(2026, 11, 21))
    path = root / "snapshots" / "dev.json"
    data = json.loads(path.read_text())
    data["items"] += list(result.artifacts.under("policies/").manifests())
    path.write_text(json.dumps(data))
    return root


def test_no_drift(applied: Path) -> None:
    assert run("drift", applied, "-c", "dev", *TODAY).stdout == "what runs on dev means what is declared\n"


def test_drift_is_exit_1(applied: Path) -> None:
    path = applied / "snapshots" / "dev.json"
    data = json.loads(path.read_text())
    item = next(i for i in data["items"] if i["metadata"]["name"] == "pilothouse-cards-ingress")
    item["spec"]["ingress"].append({"ports": [{"port": 2222, "protocol": "TCP"}]})
    path.write_text(json.dumps(data))
    result = run("drift", applied, "-c", "dev", *TODAY, code=1)
    assert (
        "[policies/drift] live policies allow every address → cards/cards at 2222, which is not declared"
        in result.stdout
    )
    assert "of NetworkPolicy cards/pilothouse-cards-ingress" in result.stdout
    found = json.loads(run("drift", applied, "-c", "dev", *TODAY, "--output", "json", code=1).stdout)
    assert found["drift"] is True
    assert {connection["ports"] for connection in found["connections"]} == {"2222"}


def test_nothing_applied_is_drift() -> None:
    text = run("drift", BANK, "-c", "prod", *TODAY, code=1).stdout
    assert "declared policies is live on cluster prod" in text
