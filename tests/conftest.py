"""Fixtures that every test may use."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester", "support.bed.fixtures", "support.shown"]
HERE = Path(__file__).parent
ROOT = HERE.parent

# How long an example takes, or is made, says how busy the machine is, and nothing about what is tested.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write the golden files anew")


_left_out = 0


def pytest_deselected(items: list[pytest.Item]) -> None:
    global _left_out
    _left_out += sum(item.get_closest_marker("real") is not None for item in items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # one of several processes: the count goes to the one that prints
        output["left_out"] = _left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    del error
    global _left_out  # every process saw the same tests
    _left_out = max(_left_out, getattr(node, "workeroutput", {}).get("left_out", 0))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _left_out:
        terminalreporter.write_line(
            f"{_left_out} tests need real servers and were left out: `make test-real` gets the servers and runs them"
        )


@pytest.fixture(autouse=True)
def own_umask() -> Iterator[None]:
    """Processes of ours set theirs when they start; one that a test runs within its own process leaves none behind."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("policies/payments.yaml", text)` holds `text` against `tests/golden/…`; `--update` writes it anew."""

    def check(name: str, text: str) -> None:
        path = HERE / "golden" / name
        if request.config.getoption("--update"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no golden file {name}: run pytest with --update and read what it wrote"
        expected = path.read_text(encoding="utf-8")
        if text != expected:
            diff = "\n".join(
                difflib.unified_diff(expected.splitlines(), text.splitlines(), "golden", "now", lineterm="")
            )
            pytest.fail(f"{name} differs (--update to accept):\n{diff[:4000]}")

    return check


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Passwords are hashed with the least that argon2 takes: what they cost is most of a portal test's time."""
    from argon2 import PasswordHasher

    from pilothouse.store import users

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        yield
