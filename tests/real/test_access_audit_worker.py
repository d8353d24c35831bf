"""A worker that follows the logs of the real Vault and API server: what goes past the portal shows by itself."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from real.test_access_with_vault import Day, day
from support.access_values import csr, key
from support.bed.vault import Vault

from pilothouse.store import Store, findings, jobs

__all__ = ["day"]
WITHIN = 60.0
"""Seconds from the signature to the finding."""


@contextmanager
def working(day: Day, vault: Vault) -> Iterator[subprocess.Popen[bytes]]:
    """The worker as `pilothouse worker` runs it, with every job, on logs that have long been written."""
    name = day.site.name
    sources = [
        {"cluster": name, "kind": "vault", "path": str(vault.folder / "audit.log")},
        {"cluster": name, "kind": "kubernetes", "path": str(day.api.audit_log)},
    ]
    (day.data / "audit.yaml").write_text(yaml.safe_dump({"sources": sources}))
    command = [sys.executable, "-m", "pilothouse.worker", "--data", str(day.data), "--platform", str(day.platform)]
    with (day.data / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, stdout=log, stderr=log, env=day.environment)
        try:
            yield worker
        finally:
            worker.terminate()
            worker.wait(60)


def shown(store: Store, code: str) -> list[str]:
    return [item.problem.message for item in findings.current(store) if item.problem.code == f"access/{code}"]


def has_read(store: Store) -> bool:
    return any(job.name == "audit" and job.finished_at is not None for job in jobs.everything(store))


def until(what: Any, seconds: float) -> float:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if what():
            return time.monotonic() - began
        threading.Event().wait(0.5)
    raise AssertionError(f"not within {seconds} s")


def test_a_signature_past_the_portal_is_a_finding_within_a_minute(day: Day, vault: Vault) -> None:
    day.login("alice")
    day.cert("developer", "--team", "payments")
    token = json.loads((day.home / f"pilothouse/vault/{day.site.name}.json").read_text())["token"]
    store = Store(day.data)
    try:
        with working(day, vault) as worker:
            until(lambda: has_read(store), 60)
            assert shown(store, "signed-past-portal") == []
            name = day.site.name
            day.site.client.sign(token, day.site.pki, "developer.payments", csr(key("direct"), "alice"), "alice", 3600)
            seconds = until(lambda: shown(store, "signed-past-portal"), WITHIN)
            (message,) = shown(store, "signed-past-portal")
            assert f"alice had Vault sign alice for {name} at {day.site.pki}/sign/developer.payments" in message
            assert worker.poll() is None
        print(f"found after {seconds:.1f} s")
    finally:
        store.close()


def test_the_worker_goes_on_where_it_was(day: Day, vault: Vault) -> None:
    """What was signed while no worker ran is found by the next one, and nothing that was found is told anew."""
    day.login("alice")
    token = json.loads((day.home / f"pilothouse/vault/{day.site.name}.json").read_text())["token"]
    store = Store(day.data)
    try:
        with working(day, vault):
            until(lambda: has_read(store), 60)
        day.site.client.sign(token, day.site.pki, "developer.payments", csr(key("off"), "alice"), "alice", 3600)
        with working(day, vault):
            until(lambda: shown(store, "signed-past-portal"), WITHIN)
    finally:
        store.close()
