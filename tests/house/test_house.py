"""What keeps the house whole: no shadowed standard library, no long rooms, a page for every problem."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "pilothouse"
CODE = re.compile(r"[a-z]+(?:-[a-z]+)*/[a-z0-9]+(?:-[a-z0-9]+)*\Z")
MAKERS = {"error", "warning", "info", "Problem"}
LOOKUPS = {"under", "get", "startswith", "removeprefix"}  # calls whose first argument is a path of content


def modules() -> Iterator[Path]:
    return (path for path in sorted(SRC.rglob("*.py")))


def test_the_standard_librarys_secrets_is_not_shadowed(root: Path) -> None:
    """A top-level package called `secrets` would break every password hash."""
    done = subprocess.run(
        [sys.executable, "-c", "import secrets; print(secrets.choice('a'))"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "a\n"


def test_no_top_level_folder_is_a_package(root: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    packages = [path for path in tracked if path.endswith("__init__.py") and not path.startswith("src/")]
    assert packages == []


def test_the_module_runs_from_the_root(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", "--help"], cwd=root, capture_output=True, text=True, check=True
    )
    assert "render" in done.stdout


def test_no_module_is_longer_than_600_lines(root: Path) -> None:
    tracked = [*modules(), *sorted((root / "tests").rglob("*.py")), *sorted((root / "bench").rglob("*.py"))]
    long = {str(path.relative_to(root)): n for path in tracked if (n := len(path.read_text().splitlines())) > 600}
    assert long == {}


def areas() -> set[str]:
    return {path.name for path in (SRC.parents[1] / "docs" / "problems").iterdir() if path.is_dir()}


def codes() -> dict[str, str]:
    """Every problem code that stands as a literal in the source, with a file that uses it."""
    found: dict[str, str] = {}
    known = areas()
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str) and name not in LOOKUPS:
                    area = first.value.partition("/")[0]
                    if (CODE.match(first.value) and area in known) or (name in MAKERS and "/" in first.value):
                        found.setdefault(first.value, path.name)
    return found


def test_there_are_codes_and_each_is_well_formed() -> None:
    assert len(codes()) > 30
    assert [code for code in codes() if not CODE.match(code)] == []


@pytest.mark.parametrize("code", sorted(codes()))
def test_every_problem_has_a_page(root: Path, code: str) -> None:
    page = root / "docs" / "problems" / f"{code}.md"
    assert page.exists(), f"{code} has no page {page.relative_to(root)}"
    text = page.read_text(encoding="utf-8")
    assert text.startswith((f"# `{code}`", f"# {code}")), "the page's title is the code"
    assert len(text.splitlines()) >= 6


def test_every_page_has_its_problem(root: Path) -> None:
    """Pages of codes that nothing uses any more are deleted; codes made from parts are looked for by their slug."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in modules())
    pages = [
        path.relative_to(root / "docs" / "problems").with_suffix("").as_posix()
        for path in sorted((root / "docs" / "problems").rglob("*.md"))
        if path.name != "README.md"
    ]
    assert [page for page in pages if page not in source and f"/{page.split('/')[1]}" not in source] == []


def test_no_host_of_a_registry_stands_in_the_lock_files(root: Path) -> None:
    for lock in sorted((root / "requirements").glob("*.lock")):
        assert not re.search(r"https?://|--index-url|--find-links", lock.read_text(encoding="utf-8")), lock.name


def test_no_private_key_lies_in_the_checkout(root: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    marker = "-----BEGIN " + "{}PRIVATE KEY-----"
    markers = [marker.format(kind) for kind in ("", "EC ", "RSA ", "ENCRYPTED ", "OPENSSH ")]
    guilty = []
    for name in filter(None, tracked.split("\0")):
        path = root / name
        if path.is_file() and path.stat().st_size < 2_000_000:
            text = path.read_text(encoding="utf-8", errors="replace")
            guilty += [name for mark in markers if mark + "\n" in text]
    assert guilty == []


def test_the_base_command_imports_no_heavy_library() -> None:
    """What an engineer's laptop starts with each call: `pilothouse --help` loads no model, server or client library."""
    heavy = "pydantic flask sqlalchemy kubernetes hvac elasticsearch rich cryptography yaml promql_parser".split()
    code = (
        "import sys\nfrom pilothouse.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print(sorted(set({heavy!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.splitlines()[-1] == "[]"
