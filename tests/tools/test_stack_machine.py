"""What a stack takes of the machine, and how rendered files reach its servers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.demo import until
from support.exporters import Hook


@pytest.fixture
def stack(root: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(root / "tools"))
    from stack import delivery, machine, shell

    return SimpleNamespace(delivery=delivery, machine=machine, shell=shell)


def test_two_stacks_have_networks_of_their_own(stack: SimpleNamespace) -> None:
    one, held = stack.machine.claim_network()
    other, second = stack.machine.claim_network()
    assert one != other
    held.close()
    again, third = stack.machine.claim_network()
    assert again == one
    second.close()
    third.close()


def test_ports_of_leaves_count_from_0(stack: SimpleNamespace) -> None:
    ports = stack.machine.consecutive(3)
    assert [port - ports[0] for port in ports] == [0, 1, 2]
    assert ports[0] % 10 == 0
    with socket.create_server(("127.0.0.1", ports[1])):
        assert not set(stack.machine.consecutive(3)) & set(ports)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say")
def test_memory_counts_what_a_process_started(stack: SimpleNamespace) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        alone = stack.machine.resident(os.getpid(), alone=True)
        assert alone > 2**20
        until(lambda: stack.machine.resident(os.getpid()) > stack.machine.resident(os.getpid(), alone=True))
    finally:
        child.communicate()


@pytest.fixture
def server() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


def test_servers_read_anew_what_changed(stack: SimpleNamespace, server: Hook, tmp_path: Path) -> None:
    (tmp_path / "prometheus" / "rules").mkdir(parents=True)
    (tmp_path / "prometheus" / "leaf-0.yaml").write_text("{}")
    delivery = stack.delivery.Delivery(tmp_path, {"prometheus": (server.url,)}, period=0.05)
    calls: list[str] = []
    delivery._reload = calls.append
    delivery.start()
    assert calls == []
    (tmp_path / "prometheus" / "rules" / "new.yaml").write_text("{}")
    until(lambda: calls == ["prometheus"], 10)
    delivery.stop()


def test_a_shell_finds_the_programs_of_the_stack(
    stack: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack.shell.testbed, "program", lambda name: Path("/programs") / name)
    monkeypatch.setenv("PILOTHOUSE_PLATFORM", "/elsewhere")
    shell = stack.shell.Shell(tmp_path, tmp_path / "admin's", "http://127.0.0.1:1")
    shell.write()
    ask = 'echo "$KUBECONFIG|$PILOTHOUSE_SERVER|$XDG_CONFIG_HOME"; command -v pilothouse; command -v stack'
    said = subprocess.run(
        ["sh", "-c", f". {tmp_path}/env; {ask}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said[0] == f"{tmp_path}/admin's|http://127.0.0.1:1|{tmp_path}/home"
    assert said[1:] == [str(tmp_path / "bin" / "pilothouse"), str(tmp_path / "bin" / "stack")]
    done = shell.run("sh", "-c", "echo $XDG_CONFIG_HOME $PILOTHOUSE_PLATFORM", home=tmp_path / "alice")
    assert done.stdout.strip() == f"{tmp_path}/alice"
    with pytest.raises(stack.machine.Failed, match="ended with 2"):
        shell.pilothouse("no-such-command")
