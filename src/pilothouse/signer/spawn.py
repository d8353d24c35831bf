"""Start the signer as a child of the portal: it ends with its parent, even when that is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from pilothouse.clients.signer import SignerClient
from pilothouse.problems import Unavailable

READY_SECONDS = 15.0


def start(data: Path, platform: Path) -> subprocess.Popen[bytes]:
    """The running signer, answering on `data/signer.sock`. Stop it by closing its stdin, or with `stop`.

    Raises `Unavailable` where it does not come up; its own words stand on stderr then.
    """
    client = SignerClient(data / "signer.sock", timeout=1.0)
    if _answers(client):
        raise Unavailable(f"another signer already answers on {client.path}", "end the process that uses this folder")
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pilothouse.signer",
            "--data",
            str(data),
            "--platform",
            str(platform),
            "--stop-with-stdin",
        ],
        stdin=subprocess.PIPE,
    )
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if child.poll() is not None:
            raise Unavailable("the signer did not start", "its reason stands above")
        if _answers(client):
            return child
        time.sleep(0.02)
    stop(child)
    raise Unavailable(f"the signer did not answer within {READY_SECONDS:.0f} s")


def _answers(client: SignerClient) -> bool:
    try:
        client.ping()
    except Unavailable:
        return False
    return True


def stop(child: subprocess.Popen[bytes]) -> None:
    """End the signer and wait for it."""
    if child.stdin:
        child.stdin.close()
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
