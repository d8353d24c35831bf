"""Commands to a running stack: asked over its socket, carried out by whoever reads the queue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def stack(root: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(root / "tools"))
    from stack import check, control, main, visitor

    return SimpleNamespace(control=control, main=main, visitor=visitor, check=check)


@pytest.fixture
def listener(stack: SimpleNamespace, tmp_path: Path) -> Iterator[Any]:
    made = stack.control.Listener(tmp_path, tmp_path)
    ended = threading.Event()

    def do(words: tuple[str, ...]) -> str:
        if words == ("fail",):
            raise ValueError("it did not work")
        return " and ".join(words)

    def keep() -> None:
        while not ended.is_set():
            made.carry_out(do, 0.05)

    thread = threading.Thread(target=keep)
    thread.start()
    yield made
    ended.set()
    thread.join()
    made.close()


@pytest.mark.usefixtures("listener")
def test_a_command_is_carried_out(stack: SimpleNamespace, tmp_path: Path) -> None:
    assert stack.control.ask(tmp_path, "break", "payments/payments") == "break and payments/payments"
    assert (tmp_path / "stack.socket").stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("listener")
def test_a_command_that_fails_ends_nothing(stack: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(stack.control.Refused, match="it did not work"):
        stack.control.ask(tmp_path, "fail")
    assert stack.control.ask(tmp_path, "paged") == "paged"


def test_where_none_runs_it_says_so(stack: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stack.main.main(["--folder", str(tmp_path), "paged"]) == 1
    assert "no stack runs in" in capsys.readouterr().err
    (tmp_path / "socket").write_text(str(tmp_path / "gone"))
    with pytest.raises(stack.control.Refused, match="no stack runs in"):
        stack.control.ask(tmp_path, "paged")
    (tmp_path / "gone").touch()
    with pytest.raises(stack.control.Refused, match="does not answer"):
        stack.control.ask(tmp_path, "paged")


def test_a_folder_holds_one_stack(stack: SimpleNamespace, tmp_path: Path) -> None:
    held = stack.main._claim(tmp_path / "stack")
    with pytest.raises(stack.main.Failed, match="a stack runs in"):
        stack.main._claim(tmp_path / "stack")
    held.close()
    stack.main._claim(tmp_path / "stack").close()


def test_words_go_to_the_stack(stack: SimpleNamespace) -> None:
    done: list[tuple[str, str]] = []
    running = SimpleNamespace(
        break_=lambda service: done.append(("break", service)),
        stop_server=lambda name: done.append(("stop", name)),
        pager=SimpleNamespace(read=list),
    )
    assert "are not ready" in stack.main.do(running, ("break", "cards/cards"))
    assert stack.main.do(running, ("stop", "vault")) == "vault was stopped"
    assert stack.main.do(running, ("paged",)) == "nobody was told anything yet"
    assert done == [("break", "cards/cards"), ("stop", "vault")]
    with pytest.raises(stack.main.Failed, match="no such command: explode"):
        stack.main.do(running, ("explode",))


def test_a_page_as_a_reader_sees_it(stack: SimpleNamespace) -> None:
    page = "<head><script>var x;</script></head><p>Alice &amp; <b>Bob</b>\n wait</p>"
    assert stack.visitor.readable(page) == "Alice & Bob wait"


def test_peers_are_named_with_their_port(stack: SimpleNamespace) -> None:
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "accounts"}},
        "podSelector": {"matchLabels": {"app": "accounts"}},
    }
    assert stack.check._peer({"to": [peer], "ports": [{"port": 8080}]}) == "accounts/accounts:8080"
    assert (
        stack.check._peer({"to": [{"podSelector": peer["podSelector"]}], "ports": [{"port": 1}]}) == "cards/accounts:1"
    )
