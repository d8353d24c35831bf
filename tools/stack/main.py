"""`python tools/stack`: run the stack, ask a running one, or check it."""

from __future__ import annotations

import argparse
import fcntl
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TextIO

from stack import console, control
from stack.machine import Failed
from stack.servers import Stack
from support.bed import process
from support.testbed import ROOT

from pilothouse.problems import PilothouseError

FOLDER = ROOT / "build" / "stack"
COMMANDS = """\
commands to a running stack:
  status             print addresses, people and the five things again
  servers            each server: whether it runs, its process id and memory
  break SERVICE      take a service's pods out, such as payments/payments
  mend SERVICE       and bring them back
  stop SERVER        stop a server, such as prometheus-leaf-0
  start SERVER       and start it again
  paged              who was told what, as the webhook of all receivers recorded it
"""


class Ended(Exception):
    """A signal to end."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="tools/stack",
        description="The bank on real servers, on one machine, until Ctrl-C.",
        epilog=COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="do the five things, print what was seen, and end")
    parser.add_argument("--folder", type=Path, help="where it keeps its files [default: build/stack]")
    parser.add_argument("--port", type=int, default=0, help="of the portal [default: 8420, or any other]")
    parser.add_argument("command", nargs="*", help="a command to a running stack")
    given = parser.parse_args(arguments)
    if given.command:
        return _ask((given.folder or FOLDER).absolute(), tuple(given.command))
    folder = given.folder or (FOLDER.with_name("stack-check") if given.check else FOLDER)
    return run(folder.absolute(), given.port, given.check)


def _ask(folder: Path, words: tuple[str, ...]) -> int:
    try:
        print(control.ask(folder, *words))
    except control.Refused as refused:
        print(f"stack: {refused}", file=sys.stderr)
        return 1
    return 0


def run(folder: Path, port: int, check: bool) -> int:
    """Start it, and keep it until it is told to end; or check it. 0 where all was well."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.1f} s  {text}", file=sys.stderr, flush=True)

    stack = Stack(folder, say, process.free_port() if check and not port else port)
    try:
        lock = _claim(folder)
    except Failed as failure:
        print(f"stack: {failure}", file=sys.stderr)
        return 1
    code = 0
    try:
        stack.start()
        if check:
            from stack import check as checking

            code = checking.check(stack)
        else:
            _keep(stack)
    except Ended:
        code = 1 if check else 0
    except (Failed, process.NotReady, PilothouseError, OSError) as failure:
        print(f"stack: {failure}", file=sys.stderr)
        code = 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        say("ending every server")
        stack.end()
        lock.close()
    return code


def _end(_number: int, _frame: FrameType | None) -> None:
    raise Ended


def _claim(folder: Path) -> TextIO:
    """Hold the folder until this process ends. `Failed` where another stack holds it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{folder.name}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failure:
        lock.close()
        raise Failed(f"a stack runs in {folder}, or is just ending: choose another --folder") from failure
    return lock


def _keep(stack: Stack) -> None:
    """Carry out commands until a signal comes. A server that ends by itself is said, and ends nothing."""
    listener = control.Listener(stack.folder, process.folder())
    print(console.welcome(stack), flush=True)
    gone: set[str] = set()
    try:
        while True:
            listener.carry_out(lambda words: do(stack, words), 0.5)
            for name, server in stack.servers.items():
                if server.alive:
                    gone.discard(name)
                elif name not in gone:
                    gone.add(name)
                    if not server.expected_end:
                        again = f"`stack start {name}` starts it again"
                        stack.say(f"{name} ended with code {server.returncode}; {again}; its log: {server.log}")
    finally:
        listener.close()


def do(stack: Stack, words: tuple[str, ...]) -> str:
    """One command to the running stack; what it answers."""
    match words:
        case ("status",):
            return console.welcome(stack)
        case ("servers",):
            memory = stack.memory()
            lines = [
                f"{name:20} {f'process {server.pid}' if server.alive else 'stopped':16} {memory[name] / 2**20:6.0f} MiB"
                for name, server in stack.servers.items()
            ]
            lines.append(f"{'in all':20} {'':16} {sum(memory.values()) / 2**20:6.0f} MiB")
            lines.append(f"Elasticsearch took {stack.logs.sent} log records; {stack.logs.reason or 'all is well'}")
            return "\n".join(lines)
        case ("break", service):
            stack.break_(service)
            return f"the pods of {service} are not ready, and do not answer scrapes"
        case ("mend", service):
            stack.mend(service)
            return f"{service} is well again"
        case ("stop", name):
            stack.stop_server(name)
            return f"{name} was stopped"
        case ("start", name):
            stack.start_server(name)
            return f"{name} runs again"
        case ("paged",):
            told = stack.pager.read()
            return "\n".join(map(str, told)) or "nobody was told anything yet"
        case ("pictures", folder):
            from stack import pictures  # needs a browser, which nothing else here does

            return pictures.take(stack, Path(folder))
    raise Failed(f"no such command: {' '.join(words)}\n{COMMANDS}")
