"""The commands on the example bank, as a user calls them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from pilothouse.cli.main import main
from pilothouse.cli.output import table

TODAY = ["--today", "2026-11-21"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    code = ended.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def bank(root: Path, tmp_path: Path) -> Path:
    """A copy of the bank that a test may break."""
    return Path(shutil.copytree(root / "examples" / "bank", tmp_path / "bank"))


def files_below(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_bank_is_rendered_and_a_second_render_changes_nothing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["render", str(root / "examples/bank"), "--out", str(out), "--output", "json", *TODAY]
    assert run(*command) == 0
    first = json.loads(capsys.readouterr().out)
    assert [cluster["cluster"] for cluster in first["clusters"]] == ["dev", "prod", "test", "uat"]
    assert all(len(cluster["added"]) == cluster["files"] > 40 for cluster in first["clusters"])
    written = files_below(out)
    assert {path.split("/")[1] for path in written if "/" in path and not path.split("/")[1].startswith(".")} >= {
        "prometheus",
        "alertmanager",
        "fluentd",
        "elasticsearch",
        "policies",
        "rbac",
        "vault",
        "accounts",
        "dashboards",
        "helm",
    }
    assert run(*command) == 0
    second = json.loads(capsys.readouterr().out)
    assert all(c["added"] == c["changed"] == c["removed"] == [] for c in second["clusters"])
    assert files_below(out) == written


def test_check_finds_no_error_in_the_bank(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", str(root / "examples/bank"), "--output", "json", *TODAY) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["summary"]["error"] == 0
    assert len(found["clusters"]) == 4


def test_an_error_is_shown_with_a_caret_and_nothing_is_written(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = next(iter(sorted((bank / "services").rglob("*.yaml"))))
    text = service.read_text()
    service.write_text(text.replace("  podSelector:", "  podSelectr:", 1))
    out = tmp_path / "out"
    assert run("render", str(bank), "--out", str(out), *TODAY) == 1
    shown = capsys.readouterr().out
    assert "platform/unknown-field" in shown
    assert "did you mean `podSelector`?" in shown
    assert "^" in shown
    assert not out.exists()


@pytest.mark.parametrize("form", ["json", "sarif"])
def test_problems_are_given_to_programs(bank: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    next(iter(sorted((bank / "teams").rglob("*.yaml")))).write_text("kind: [\n")
    assert run("check", str(bank), "--output", form, *TODAY) == 1
    data = json.loads(capsys.readouterr().out)
    if form == "json":
        assert "source/yaml-syntax" in {problem["code"] for problem in data["problems"]}
    else:
        assert data["version"] == "2.1.0"
        assert "source/yaml-syntax" in {result["ruleId"] for result in data["runs"][0]["results"]}


def test_diff_shows_what_a_change_of_a_service_leads_to(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("render", str(bank), "--cluster", "prod", "--out", str(out), *TODAY) == 0
    capsys.readouterr()
    assert run("diff", str(bank), "--cluster", "prod", "--against", str(out), *TODAY) == 0
    assert "+++" not in capsys.readouterr().out
    service = next(path for path in sorted((bank / "services").rglob("*.yaml")) if "replicasBelow:" in path.read_text())
    service.write_text(service.read_text().replace("replicasBelow: ", "replicasBelow: 1", 1))
    before = files_below(out)
    assert run("diff", str(bank), "--cluster", "prod", "--against", str(out), *TODAY) == 0
    assert "+++" in capsys.readouterr().out
    assert files_below(out) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "no/such/folder"], "no/such/folder"),
        (["check", "examples/bank", "--cluster", "prodd"], "did you mean `prod`?"),
        (["diff", "examples/bank"], "--against FOLDER"),
        (["diff", "examples/bank", "--live"], "name it with --cluster"),
        (["check", "examples/bank", "--snapshot", "x.json"], "name it with --cluster"),
        (["check", "examples/bank", "--cluster", "dev", "--snapshot", "no-such.json"], "no-such.json"),
        (["check", "examples/bank", "--today", "tomorrow"], "2027-01-31"),
        (["rendr"], "did you mean `render`?"),
    ],
)
def test_what_could_not_run_is_one_line_with_the_way_out(
    root: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_an_empty_platform_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", str(tmp_path)) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_a_mistake_of_ours_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Path, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("pilothouse.workflows.rendering.open_platform", broken)
    assert run("check", str(root / "examples/bank")) == 2
    shown = capsys.readouterr().err
    assert "a mistake of ours: RuntimeError: boom" in shown
    assert "PILOTHOUSE_DEBUG=1" in shown
    assert "Traceback" not in shown


def test_the_problems_are_counted_once_below_the_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", str(root / "examples/bank"), "--cluster", "dev", *TODAY) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if re.match(r"\d+ warnings?, \d+ findings? in ", line)] == lines[-1:]


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_interrupt_is_no_mistake_of_ours_even_inside_of_a_librarys_error(
    monkeypatch: pytest.MonkeyPatch, root: Path, capsys: pytest.CaptureFixture[str], wrapped: bool
) -> None:
    def interrupted(_: Path, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as signal:
            if wrapped:
                raise ValueError("cannot build a serializer") from signal
            raise

    monkeypatch.setattr("pilothouse.workflows.rendering.open_platform", interrupted)
    assert run("check", str(root / "examples/bank")) == 130
    assert capsys.readouterr().err.strip() == "pilothouse: cancelled; nothing was left half done"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def absent(_: str) -> None:
        raise ModuleNotFoundError("No module named 'flask'", name="flask")

    monkeypatch.setattr("importlib.import_module", absent)
    assert run("serve") == 2
    assert "pip install 'pilothouse[server]'" in capsys.readouterr().err


def test_what_people_copy_is_never_folded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("pilothouse.cli.output.console", lambda: Console(width=40))
    password, groups = "lavender-dapple-zephyr-315", "engineers on-call platform-admins"
    table("", ("Password", "Groups"), [(password, groups)], whole=("Password",))
    assert password in capsys.readouterr().out
