"""The manifest of the real programs, and what is said where something that they need is not on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import testbed

SERVERS = testbed.REAL / "servers"
NEEDED = {
    "wrapper": {"module", "packages", "ldflags"},
    "install": {"package", "ldflags"},
    "maven": {"artifact", "sha256"},
    "debian": {"commands", "packages"},
    "schemas": {"module", "document"},
}


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a cache, and with nothing on its PATH but this folder."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PILOTHOUSE_TESTBED", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(programs))
    return programs


@pytest.mark.parametrize("name", testbed.obtain().manifest())
def test_every_program_says_what_it_is(name):
    entry = testbed.obtain().manifest()[name]
    assert entry["version"]
    assert entry["why"]
    assert NEEDED[entry["how"]] <= set(entry)
    assert entry["how"] == "schemas" or "proof" in entry or "member" in entry, "nothing proves that it runs"


@pytest.mark.parametrize("folder", sorted(path.name for path in SERVERS.iterdir() if (path / "go.mod").exists()))
def test_a_wrapper_module_has_its_sums_and_is_used(folder):
    assert (SERVERS / folder / "go.sum").stat().st_size > 0
    assert any(entry.get("module") == folder for entry in testbed.obtain().manifest().values())


def test_everything_that_is_missing_is_named_at_once(empty, capsys):
    assert testbed.obtain().main(["amtool", "elasticsearch"]) == 1
    said = capsys.readouterr().err
    assert "Go: needs Go 1.26 or newer, and there is no `go` on PATH" in said
    assert "there is no `mvn` on PATH; install Maven 3" in said
    assert "17 or newer is needed, and there is no `java` on PATH" in said


@pytest.mark.parametrize(
    ("program", "says", "name", "complaint"),
    [
        ("go", "go version go1.19.8 linux/amd64", "amtool", "go is go1.19; put a newer one first on PATH"),
        ("java", 'openjdk version "11.0.2" 2019-01-15', "elasticsearch", "17 or newer is needed, and"),
        ("java", 'openjdk version "17.0.15" 2025-04-15', "elasticsearch", "without `javac`; install the whole JDK"),
    ],
)
def test_what_is_too_old_is_named(empty, program, says, name, complaint):
    for command, text in ((program, says), ("mvn", "Apache Maven 3.8.7")):
        (empty / command).write_text(f"#!/bin/sh\necho '{text}'\n", encoding="utf-8")
        (empty / command).chmod(0o755)
    (found,) = testbed.obtain().prerequisites([name])
    assert complaint in found


def test_a_new_version_is_a_new_place():
    entry = dict(testbed.obtain().manifest()["amtool"])
    here = testbed.obtain().place("amtool", entry)
    assert testbed.obtain().place("amtool", entry) == here
    assert testbed.obtain().place("amtool", entry | {"ldflags": "-s"}) != here


def test_bytes_that_are_others_are_refused(empty, tmp_path):
    """An artifact whose SHA-256 is not the one of the manifest is not unpacked."""
    maven = empty / "mvn"
    maven.write_text(
        '#!/bin/sh\nfor word in "$@"; do case "$word" in -DoutputDirectory=*) into="${word#*=}";; esac; done\n'
        'echo other > "$into/selenium-4.11.0.jar"\n',
        encoding="utf-8",
    )
    maven.chmod(0o755)
    obtain = testbed.obtain()
    with pytest.raises(obtain.Failed, match=r"has the SHA-256 [0-9a-f]{64}, and programs.yaml wants"):
        obtain.obtain("axe")
    assert obtain.find("axe") is None
    assert not list((tmp_path / "cache").glob(".making*"))
