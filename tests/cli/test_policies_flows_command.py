"""`pilothouse policies preview`, `learn` and `adoption` as people and programs see it."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pilothouse.cli.policies import group
from pilothouse.cli.policies_flows import moment, size
from pilothouse.problems import Invalid

BANK = Path(__file__).parents[2] / "examples" / "bank"
FLOWS = BANK / "flows" / "prod.csv"
PROD = ("--cluster", "prod", "--today", "2026-11-21")
PODS = """\
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-1, namespace: shop, labels: {app: api}}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}]}
"""
CLOSED = """\
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {podSelector: {matchLabels: {app: api}}}
"""
ONE = "source,destination,protocol,port,count\nshop/web-1,shop/api-1,TCP,8080,7\n"


def run(*arguments: str | Path, code: int = 0, given: str | bytes = "") -> Result:
    result = CliRunner().invoke(group, [str(argument) for argument in arguments], input=given or None)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def manifests(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "all.yaml").write_text(text)
    return folder


# ---------------------------------------------------------------- preview


def test_what_the_bank_did_not_declare_is_denied() -> None:
    text = run("preview", FLOWS, BANK, *PROD, code=1).stdout
    assert "from what the snapshot holds to cluster prod, all of it enforced" in text
    assert "newly denied, team accounts" in text
    assert "accounts/statements" in text
    assert "egress: no rule of" in text
    assert "newly denied: 338 connections, 3.0 MB" in text
    assert "the log says no more than `public`" in text


def test_as_data() -> None:
    found = json.loads(run("preview", FLOWS, BANK, *PROD, "--output", "json", code=1).stdout)
    assert found["standings"]["newly-denied"]["count"] == 338
    denied = [item for item in found["groups"] if item["standing"] == "newly-denied"]
    assert {item["team"] for item in denied} == {"accounts", "channels", "payments"}
    assert found["agreement"] == {"compared": 74, "agreed": 74, "disagreements": []}


@pytest.mark.parametrize("packed", [False, True])
def test_flows_from_standard_input_or_gzip(tmp_path: Path, packed: bool) -> None:
    folder = manifests(tmp_path / "m", PODS + CLOSED)
    given = gzip.compress(ONE.encode()) if packed else ONE.encode()
    text = run("preview", "-", folder, given=given).stdout
    assert "still denied: 7 connections" in text


def test_before_and_after_may_be_two_places(tmp_path: Path) -> None:
    flows = tmp_path / "flows.csv"
    flows.write_text(ONE)
    old, new = manifests(tmp_path / "old", PODS), manifests(tmp_path / "new", PODS + CLOSED)
    text = run("preview", flows, new, "--before", old, code=1).stdout
    assert "newly denied, of no team" in text
    assert "ingress: no rule of shop/closed" in text
    back = run("preview", flows, old, "--before", new).stdout
    assert "newly allowed: 7 connections" in back


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    flows = tmp_path / "flows.csv"
    flows.write_text(ONE + "shop/web-1,,TCP,80,1\n")
    folder = manifests(tmp_path / "m", PODS)
    assert "`destination` is missing" in run("preview", flows, folder).stderr
    flows.write_text("hello\n")
    with pytest.raises(Invalid, match="in no format that is known"):
        run("preview", flows, folder)
    with pytest.raises(Invalid, match="no file of flows"):
        run("preview", tmp_path / "none.csv", folder)
    with pytest.raises(Invalid, match="cannot both be standard input"):
        run("preview", "-", "-", given=ONE)


# ---------------------------------------------------------------- learn


def test_a_draft_is_a_patch_and_what_it_leaves() -> None:
    result = run("learn", FLOWS, BANK, *PROD)
    added = [line for line in result.stdout.splitlines() if line.startswith("+ ")]
    assert [line for line in result.stdout.splitlines() if line.startswith("- ")] == []
    assert len(added) == 5
    assert (
        "+    - {to: {service: data/postgres}, ports: [postgres]}"
        "  # 75 connections, 543,425 bytes, last seen 2026-11-20 23:24 UTC"
    ) in added
    assert "policies/forbidden-port" in result.stderr
    assert "not looked at: 290 connections with an end that is not known" in result.stderr
    assert "denied without the draft: 338 connections (0.47%)" in result.stderr
    assert "denied with it: 0 connections (0.00%)" in result.stderr


def test_a_draft_can_be_laid_over_the_platform(tmp_path: Path) -> None:
    platform = tmp_path / "bank"
    shutil.copytree(BANK, platform)
    run("learn", FLOWS, platform, *PROD, "--out", platform)
    text = run("preview", FLOWS, platform, *PROD).stdout
    assert "newly denied" not in text
    again = run("learn", FLOWS, platform, *PROD)
    assert again.stdout == ""
    assert "nothing to add" in again.stderr


def test_a_draft_is_written_where_it_belongs(tmp_path: Path) -> None:
    platform = tmp_path / "bank"
    shutil.copytree(BANK, platform)
    text = run("learn", FLOWS, platform, *PROD, "--write")
    changed = [path for path in sorted(BANK.rglob("*.yaml")) if path.read_text() != _of(platform, path).read_text()]
    assert changed
    for path in changed:
        lines = _of(platform, path).read_text().splitlines()
        assert [line for line in path.read_text().splitlines() if line not in lines] == []
    assert f"written to {platform}: " in text.stderr
    assert "nothing to add" in run("learn", FLOWS, platform, *PROD).stderr
    with pytest.raises(Invalid, match="both say where to write"):
        run("learn", FLOWS, platform, *PROD, "--write", "--out", tmp_path / "out")


def _of(platform: Path, path: Path) -> Path:
    return platform / path.relative_to(BANK)


def test_what_a_draft_leaves_denied_is_its_share(tmp_path: Path) -> None:
    flows = tmp_path / "flows.csv"
    seen = FLOWS.read_text().splitlines()
    called = next(line for line in seen if line.startswith("accounts/statements") and "data/postgres" in line)
    ends = ",".join(called.split(",")[:2])
    rows = [f"{ends},ICMP,,30,300", f"{ends},TCP,5432,10,600", "private,private,TCP,1,60,100"]
    flows.write_text("\n".join(["source,destination,protocol,port,count,bytes", *rows]) + "\n")
    found = json.loads(run("learn", flows, BANK, *PROD, "--output", "json").stdout)
    assert (found["total"]["count"], found["unknown"]["count"]) == (100, 60)
    assert (found["denied_before"]["count"], found["denied_before"]["bytes"]) == (40, 900)
    assert (found["denied_after"]["count"], found["denied_after"]["bytes"]) == (30, 300)
    assert [item["count"] for item in found["left"]] == [30]
    text = run("learn", flows, BANK, *PROD).stderr
    assert "denied with it: 30 connections (30.00%), 300 B (30.00%)" in text


def test_services_that_are_missing_are_drafted(tmp_path: Path) -> None:
    platform = tmp_path / "bank"
    shutil.copytree(BANK, platform)
    (platform / "services" / "accounts" / "statements.yaml").unlink()
    found = json.loads(run("learn", FLOWS, platform, *PROD, "--output", "json").stdout)
    assert found["services"] == ["accounts/statements"]
    text = found["files"]["services/accounts/statements.yaml"]
    assert "podSelector: {matchLabels: {app: statements}}" in text
    assert "    - {to: {service: data/postgres}, ports: [postgres]}  # 75 connections" in text
    assert found["denied_after"]["count"] == 0


def test_learning_needs_declarations(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="only a platform has declarations"):
        run("learn", FLOWS, manifests(tmp_path / "m", PODS))


# ---------------------------------------------------------------- adoption


def test_how_far_each_namespace_is() -> None:
    text = run("adoption", BANK, "--flows", FLOWS, "--days", "1", *PROD).stdout
    assert "enforced; 335 connections that went through would be denied" in text
    assert "risk: nobody declares notebook-niaj" in text
    assert "data: accounts/statements → data/postgres at 5432/TCP, 75 connections; ingress: no rule of" in text


def test_a_namespace_that_is_ready(tmp_path: Path) -> None:
    platform = tmp_path / "bank"
    shutil.copytree(BANK, platform)
    cluster = platform / "clusters" / "prod.yaml"
    line = "enforcement: {default: enforced, namespaces: {risk: staged}}"
    assert line in cluster.read_text()
    cluster.write_text(
        cluster.read_text().replace(line, "enforcement: {default: staged, namespaces: {cards: enforced}}")
    )
    found = json.loads(run("adoption", platform, "--flows", FLOWS, "--days", "1", *PROD, "--output", "json").stdout)
    assert found["document"].startswith("clusters/prod.yaml")
    by_name = {item["namespace"]: item for item in found["namespaces"]}
    assert by_name["ledger"]["ready"]
    assert (
        by_name["ledger"]["line"] == "enforcement: {default: staged, namespaces: {cards: enforced, ledger: enforced}}"
    )
    assert (by_name["cards"]["mode"], by_name["cards"]["line"]) == ("enforced", "")
    assert by_name["payments"]["waiting"] == ["3 connections would be denied"]
    assert by_name["risk"]["undeclared"] == ["notebook-niaj"]
    text = run("adoption", platform, "--flows", FLOWS, "--days", "1", *PROD).stdout
    assert "ledger: to enforce it, write in clusters/prod.yaml" in text
    later = json.loads(run("adoption", platform, "--flows", FLOWS, *PROD, "--output", "json").stdout)
    assert [item["waiting"] for item in later["namespaces"] if item["namespace"] == "ledger"] == [
        ["flows of 1 day, 7 are asked for"]
    ]


def test_namespaces_that_are_ready_are_enforced(tmp_path: Path) -> None:
    platform = tmp_path / "bank"
    shutil.copytree(BANK, platform)
    cluster = platform / "clusters" / "prod.yaml"
    line = "enforcement: {default: enforced, namespaces: {risk: staged}}"
    cluster.write_text(cluster.read_text().replace(line, "enforcement: {default: staged}  # since May"))
    before = cluster.read_text()
    asked = ("adoption", platform, "--flows", FLOWS, "--days", "1", *PROD)
    assert "nothing written" in run(*asked, "--write", "--min-flows", "1000000").stdout
    assert "nothing written" in run(*asked, "--write", "--namespace", "payments").stdout
    assert cluster.read_text() == before
    assert "enforced in clusters/prod.yaml: ledger" in run(*asked, "--write", "--namespace", "ledger").stdout
    assert cluster.read_text() == before.replace("staged}", "staged, namespaces: {ledger: enforced}}")
    written = json.loads(run(*asked, "--write", "--output", "json").stdout)["written"]
    assert "ledger" not in written
    assert len(written) > 1
    found = json.loads(run(*asked, "--output", "json").stdout)["namespaces"]
    modes = {item["namespace"]: item["mode"] for item in found}
    assert {modes[name] for name in (*written, "ledger")} == {"enforced"}
    assert {modes["payments"], modes["risk"]} == {"staged"}
    with pytest.raises(Invalid, match="no governed namespace is called ledgre"):
        run(*asked, "--namespace", "ledgre")


def test_a_cluster_that_cannot_be_edited_is_left_alone(tmp_path: Path) -> None:
    platform = tmp_path / "bank"
    shutil.copytree(BANK, platform)
    cluster = platform / "clusters" / "prod.yaml"
    line = "enforcement: {default: enforced, namespaces: {risk: staged}}"
    alias = "enforcement: {default: &mode staged, namespaces: {ledger: *mode}}"
    cluster.write_text(cluster.read_text().replace(line, alias))
    before = cluster.read_text()
    with pytest.raises(Invalid, match="is not written so that one field of it can be set"):
        run("adoption", platform, "--flows", FLOWS, "--days", "1", "--write", "--namespace", "ledger", *PROD)
    assert cluster.read_text() == before


def test_adoption_needs_a_platform_and_no_flows(tmp_path: Path) -> None:
    assert "ready" not in run("adoption", BANK, *PROD).stdout
    with pytest.raises(Invalid, match="only a platform has namespaces"):
        run("adoption", manifests(tmp_path / "m", PODS))


def test_flows_beside_the_documents_are_no_documents(tmp_path: Path) -> None:
    platform = tmp_path / "bank"
    shutil.copytree(BANK, platform)
    (platform / "flows" / "page.yaml").write_text("flows: [1]\n")
    assert "page.yaml" not in run("preview", platform / "flows" / "prod.csv", platform, *PROD, code=1).output


def test_amounts_in_words() -> None:
    assert [size(number) for number in (0, 999, 1500, 2_000_000)] == ["0 B", "999 B", "1.5 kB", "2.0 MB"]
    assert size(5 * 10**15) == "5,000.0 TB"
    assert (moment(None), moment(0)) == ("", "1970-01-01 00:00")
