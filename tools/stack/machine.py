"""What of this machine the stack takes: ports, a loopback network, memory."""

from __future__ import annotations

import socket
from pathlib import Path

HELD_PORT = 64999


class Failed(Exception):
    """A part of the stack that did not come up; the text says which and why."""


def port_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def consecutive(count: int) -> tuple[int, ...]:
    """Free ports that count up from one that ends in 0."""
    for base in range(19090, 65000, 10):
        ports = tuple(range(base, base + count))
        if all(map(port_free, ports)):
            return ports
    raise Failed(f"there are no {count} free ports side by side")


def claim_network() -> tuple[str, socket.socket]:
    """A loopback network for pods that no other stack uses, and the socket that holds it."""
    for number in range(64, 128):
        held = socket.socket()
        try:
            held.bind((f"127.{number}.255.254", HELD_PORT))
        except OSError:
            held.close()
            continue
        return f"127.{number}.0.0/16", held
    raise Failed("64 stacks run on this machine already")


def resident(pid: int, alone: bool = False) -> int:
    """Resident bytes of a process, and (unless `alone`) of all that it started. 0 where the system does not say."""
    sizes: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "status").read_text(encoding="utf-8")
            except OSError:
                continue  # it has ended
            lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            sizes[int(entry.name)] = int(lines.get("VmRSS", "0").split()[0]) * 1024
            children.setdefault(int(lines["PPid"]), []).append(int(entry.name))
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        total += sizes.get(one, 0)
        waiting += [] if alone else children.get(one, [])
    return total
