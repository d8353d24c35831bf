"""`pilothouse access fence` where there is nothing to look at; on a server: tests/real/test_elevation_on_server.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from support.access_world import write_platform
from support.elevation_world import declare

from pilothouse.cli.access import group
from pilothouse.problems import Invalid, Unavailable


def fence(root: Path, cluster: str) -> None:
    result = CliRunner().invoke(group, ["fence", str(root), "--cluster", cluster])
    assert result.exception is not None
    raise result.exception


def test_what_has_no_fence(tmp_path: Path) -> None:
    root = write_platform(tmp_path / "platform")
    with pytest.raises(Invalid, match="no worker binds requests"):
        fence(root, "dev")
    with pytest.raises(Invalid, match="there is no cluster `nowhere`"):
        fence(root, "nowhere")


def test_a_server_that_does_not_answer_is_no_yes(tmp_path: Path) -> None:
    root = write_platform(tmp_path / "platform")
    token = tmp_path / "token"
    token.write_text("none")
    declare(root, "https://127.0.0.1:1", token)
    result = CliRunner().invoke(group, ["fence", str(root), "--cluster", "dev", "-o", "json"])
    if isinstance(result.exception, Unavailable):
        pytest.fail("what cannot be seen is a finding, not the end")
    assert result.exit_code == 2
    assert "access/fence-unseen" in result.stdout
