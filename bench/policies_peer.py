"""network-config-analyzer on the same cluster: got, run, and held against what we find.

It knows Kubernetes' policies, and of Calico's neither tiers nor service matches, so that it is asked about clusters
with Kubernetes' alone. It has a virtual environment of its own below `build/`, made when it is first wanted.
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from processes import Run, program, tell

NAME, VERSION = "network-config-analyzer", "2.1.0"
HOME = Path(__file__).parents[1] / "build" / "bench" / f"{NAME}-{VERSION}"

Ports = tuple[tuple[str, int, int], ...]
"""(protocol, first, last), sorted and not touching; `EVERYTHING` for every connection there is."""
Pairs = dict[tuple[str, str], Ports]
"""(source, destination) → what is allowed. An end is `namespace/pod`, or an address that stands for others like it."""
EVERYTHING: Ports = (("*", 0, 65535),)

_LINE = re.compile(r"(?P<source>\S+) => (?P<destination>\S+) : (?P<connections>.+)")
_CUBE = re.compile(r"\{protocols:(?P<protocols>[A-Z]+(?:, ?[A-Z]+)*)(?:,dst_ports:(?P<ports>[0-9,-]+))?\}")
_RANGE = re.compile(r"(?P<first>[0-9.]+)-(?P<last>[0-9.]+)")
_JOINED = re.compile(r"(?<=All connections)(?=\S)|(?<=\})(?=[^\s,{])")
"""Where a line of it begins without a break before."""


def obtain() -> Path | str:
    """Its program; where it cannot be had, why."""
    found = HOME / "bin" / "nca"
    if found.is_file():
        return found
    tell(f"policies: installing {NAME} {VERSION}")
    try:
        venv.create(HOME, with_pip=True, clear=True)
    except (OSError, subprocess.CalledProcessError) as failure:
        return f"no virtual environment for it: {failure}"
    command = [HOME / "bin" / "python", *"-m pip install --quiet --disable-pip-version-check".split()]
    done = subprocess.run([*map(str, command), f"{NAME}=={VERSION}"], capture_output=True, text=True, check=False)
    if done.returncode:
        found.unlink(missing_ok=True)
        return f"pip did not install it: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
    return found


def run(peer: Path, snapshot: Path, out: Path) -> Run:
    """Its map of every pair, into `out`; it ends with 0 whatever it finds."""
    given = [part for option in ("--connectivity", "-n", "-p") for part in (option, snapshot)]
    return program(
        peer,
        *given,
        "--output_format",
        "txt_no_fw_rules",
        "--output_endpoints",
        "pods",
        "--file_out",
        out,
        "--return_0",
    )


def read(text: str, addresses: Iterable[str]) -> Pairs:
    """What it found. `addresses` stand for the ranges that it names: one for each part that policies tell apart."""
    known = [(int(IPv4Address(text)), text) for text in addresses]
    found: dict[tuple[str, str], list[tuple[str, int, int]]] = {}
    for line in _JOINED.sub("\n", text).splitlines():
        if not line.strip():
            continue
        parts = _LINE.fullmatch(line.strip())
        if parts is None:
            raise SystemExit(f"{NAME} printed a line that is not understood: {line[:200]}")
        ports = list(_ports(parts["connections"]))
        for source in _ends(parts["source"], known):
            for destination in _ends(parts["destination"], known):
                found.setdefault((source, destination), []).extend(ports)
    return {pair: merged(ports) for pair, ports in found.items()}


def written(text: str) -> Pairs:
    """What we found, as `policies_measured.py --pairs` writes it."""
    found: dict[tuple[str, str], list[tuple[str, int, int]]] = {}
    for line in text.splitlines():
        source, destination, connections = line.split("\t")
        ports = found.setdefault((source, destination), [])
        for part in connections.split(","):
            protocol, _, span = part.partition(" ")
            first, _, last = span.partition("-")
            ports.extend(EVERYTHING if protocol == "*" else ((protocol, int(first), int(last)),))
    return {pair: merged(ports) for pair, ports in found.items()}


def _ends(text: str, known: list[tuple[int, str]]) -> list[str]:
    if "/" in text and not text[0].isdigit():
        return [text]
    span = _RANGE.fullmatch(text)
    if span is None:
        raise SystemExit(f"{NAME} named an end that is not understood: {text}")
    first, last = int(IPv4Address(span["first"])), int(IPv4Address(span["last"]))
    return [name for number, name in known if first <= number <= last]


def _ports(text: str) -> Iterator[tuple[str, int, int]]:
    if text == "All connections":
        yield from EVERYTHING
        return
    cubes = list(_CUBE.finditer(text))
    if ",".join(cube[0] for cube in cubes) != text:
        raise SystemExit(f"{NAME} printed connections that are not understood: {text[:200]}")
    for cube in cubes:
        for protocol in cube["protocols"].split(","):
            for span in (cube["ports"] or "0-65535").split(","):
                first, _, last = span.partition("-")
                yield protocol.strip(), int(first), int(last or first)


def merged(ports: Iterable[tuple[str, int, int]]) -> Ports:
    """In the one form in which equal sets are equal."""
    given = set(ports)
    if given & set(EVERYTHING):
        return EVERYTHING
    found: list[tuple[str, int, int]] = []
    for protocol, first, last in sorted(given):
        if found and found[-1][0] == protocol and first <= found[-1][2] + 1:
            found[-1] = (protocol, found[-1][1], max(found[-1][2], last))
        else:
            found.append((protocol, first, last))
    return tuple(found)


@dataclass
class Comparison:
    """`compared` pairs allow something by one of the two; `blocks` are those that differ because an `ipBlock` matches
    pods by their address (as Calico has it) or not; `unexplained` differ for no reason that we know."""

    compared: int = 0
    blocks: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)


def compare(theirs: Pairs, ours: Pairs, without_blocks: Mapping[tuple[str, str], Ports]) -> Comparison:
    """`without_blocks` is what we find where an `ipBlock` never matches a pod."""
    found = Comparison()
    for pair in sorted({*theirs, *ours}):
        found.compared += 1
        one, two = theirs.get(pair, ()), ours.get(pair, ())
        if one == two:
            continue
        reason = found.blocks if one == without_blocks.get(pair, ()) else found.unexplained
        reason.append(f"{pair[0]} to {pair[1]}: {_shown(one)} by it, {_shown(two)} by us")
    return found


def _shown(ports: Ports) -> str:
    if ports == EVERYTHING:
        return "everything"
    spans = (f"{first}/{name}" if first == last else f"{first}-{last}/{name}" for name, first, last in ports)
    return ", ".join(spans) or "nothing"


if __name__ == "__main__":
    print(obtain(), file=sys.stderr)
