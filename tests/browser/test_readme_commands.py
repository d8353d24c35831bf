"""The commands of the README, as they stand, in the order they stand in."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from support.demo import Laptop
from support.testbed import ROOT


def commands(heading: str) -> list[list[str]]:
    """The commands of a section of the README, split into words."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [shlex.split(line, comments=True) for line in lines]


def test_three_journeys(laptop: Laptop) -> None:
    (laptop.home / "examples").symlink_to(ROOT / "examples")
    seen = set()
    for words in commands("Three journeys"):
        if words[0] == "kubectl":
            path = words[words.index("--kubeconfig") + 1]
            assert Path(path.replace("~", str(laptop.home), 1)).is_file()
            continue
        assert words[0] == "pilothouse"
        given = ""
        if words[1:3] == ["access", "login"]:
            words = [word.replace("http://127.0.0.1:8420", laptop.demo.address) for word in words]
            given = f"alice\n{laptop.demo.passwords['alice']}\n"
        done = laptop.start(*words, stdin=given, code=None)
        # can-i says no by 1, and a command that found something worth a look does, too; 2 is a command that cannot run.
        assert done.returncode in (0, 1), (words, done.stdout[-1000:], done.stderr[-1000:])
        assert done.stdout.strip(), words
        seen.add(words[1])
    assert seen >= {"access", "alerts", "egress", "policies"}
