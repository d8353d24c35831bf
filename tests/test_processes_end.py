"""A process that cannot go on says why, in words."""

from __future__ import annotations

import pytest

from pilothouse import logs
from pilothouse.problems import Unavailable


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("free some space", "pilothouse worker: the disk is full\n  → free some space\n"),
        ("", "pilothouse worker: the disk is full\n"),
    ],
)
def test_a_process_ends_with_2_and_no_traceback(hint: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, logs.ending("worker"):
        raise Unavailable("the disk is full", hint)
    assert ended.value.code == 2
    assert capsys.readouterr().err == said


def test_a_mistake_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), logs.ending("worker"):
        _ = 1 / 0
