"""No cluster is served whose self-test found an escape.

An embedded authority is tested before its first certificate, and refused as well where the test could not be run,
since it needs nothing from outside. Where Vault signs, the signer holds no right to try anything: it tests a cluster
whose `authority.selfTestTokenFile` names a token, at its start and every ten minutes. What could not be tried there
(Vault is away, the token has ended) is logged and refuses nothing; an escape that was found refuses until a test finds
it closed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from pilothouse.access.certificates import Template
from pilothouse.access.escapes import OPEN_CODE, Report
from pilothouse.clients.vault import VaultClient
from pilothouse.inputs import Content
from pilothouse.platform.model import Cluster, Endpoint, Platform
from pilothouse.problems import PilothouseError, Unavailable
from pilothouse.workflows import self_test, self_test_embedded
from pilothouse.workflows.issuance import Authorities, Voucher

EVERY = 600.0
"""Seconds between two tests of a Vault."""
LOOK_EVERY = 30.0


class Guarded:
    """`workflows.issuance.Authorities` that raise `Unavailable` for a cluster with an open escape.

    Safe to share between threads. `content` reads the content folders, for the roles that are declared.
    """

    def __init__(
        self,
        inner: Authorities,
        platform: Callable[[], Platform],
        content: Callable[[], Content],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._inner = inner
        self._platform = platform
        self._content = content
        self._clock = clock
        self._monotonic = monotonic
        self._log = log
        self._lock = threading.Lock()
        self._reports: dict[str, tuple[float, Report]] = {}
        self._refused: dict[str, str] = {}

    def certificate(self, cluster: str) -> x509.Certificate:
        self._check(cluster)
        return self._inner.certificate(cluster)

    def trusted(self, cluster: str) -> tuple[x509.Certificate, ...]:
        """What API servers trust is said whatever a self-test found: it gives nobody anything."""
        return self._inner.trusted(cluster)

    def sign(self, cluster: str, template: Template, voucher: Voucher) -> x509.Certificate:
        self._check(cluster)
        return self._inner.sign(cluster, template, voucher)

    def report(self, cluster: str) -> Report:
        """What the last test of that cluster found; it is tested now where it never was."""
        found = self._reports.get(cluster)
        return found[1] if found else self.test(cluster)

    def test_all(self) -> None:
        """Test every declared cluster whose time has come."""
        for name, cluster in self._platform().clusters.items():
            found = self._reports.get(name)
            due = found is None or self._monotonic() - found[0] >= EVERY
            if due and (cluster.authority.backend == "vault" or found is None):
                self.test(name)

    def keep_testing(self) -> None:
        """Go on in a thread that ends with the process."""

        def work() -> None:
            while True:
                threading.Event().wait(LOOK_EVERY)
                try:
                    self.test_all()
                except PilothouseError as failure:  # the declarations cannot be read: whoever asks is told so too
                    self._log({"event": "self-test", "outcome": "unavailable", "message": failure.message})

        threading.Thread(target=work, daemon=True).start()

    def test(self, cluster: str) -> Report:
        """Test it now, and refuse it from now on where an escape is open."""
        platform = self._platform()
        declared = platform.clusters.get(cluster)
        if declared is None:
            return Report(cluster, "", untested="it is not declared")
        embedded = declared.authority.backend == "embedded"
        try:
            found = self._embedded(platform, cluster) if embedded else self._vault(platform, declared)
        except PilothouseError as failure:
            found = Report(cluster, declared.authority.backend, untested=failure.message)
        self._keep(found, closed=embedded)
        return found

    def _embedded(self, platform: Platform, cluster: str) -> Report:
        authority = self._inner.certificate(cluster)
        others = {
            name: self._inner.certificate(name)
            for name, item in platform.clusters.items()
            if item.authority.backend == "embedded"
        }
        return self_test_embedded.by_itself(authority, platform, cluster, others, self._clock())

    def _vault(self, platform: Platform, cluster: Cluster) -> Report:
        file, endpoint = cluster.authority.self_test_token_file, cluster.servers.vault
        if not file or endpoint is None:
            return Report(cluster.name, "vault", untested="`authority.selfTestTokenFile` names no token for it")
        try:
            token = Path(file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as failure:
            why = getattr(failure, "strerror", "") or "it holds no token"
            return Report(cluster.name, "vault", untested=f"{file} cannot be read: {why}")
        client = VaultClient(Endpoint(endpoint.url, ca_file=endpoint.ca_file), token)
        return self_test.vault_mount(
            client, VaultClient(self_test.NOWHERE), platform, cluster.name, self._content(), self._clock()
        )

    def _keep(self, found: Report, closed: bool) -> None:
        """`closed` is whether an authority that was not tested is refused too."""
        why = ""
        if found.open:
            why = f"an escape succeeded ({found.open[0].tried}: {found.open[0].how})"
        elif closed and (found.untested or found.untried):
            why = found.untested or f"{found.untried[0].tried}: {found.untried[0].how}"
        tested = bool(found.attempts) and not found.untested
        with self._lock:
            self._reports[found.cluster] = (self._monotonic(), found)
            if why:
                self._refused[found.cluster] = why
            elif tested:
                self._refused.pop(found.cluster, None)
        outcome = "unavailable" if why else "ok" if tested else "untested"
        line = {"event": "self-test", "cluster": found.cluster, "outcome": outcome, "attempts": len(found.attempts)}
        self._log(line | ({"message": why or found.untested} if why or found.untested else {}))

    def _check(self, cluster: str) -> None:
        if cluster not in self._reports:
            declared = self._platform().clusters.get(cluster)
            if declared is not None and declared.authority.backend == "embedded":
                self.test(cluster)
        why = self._refused.get(cluster)
        if why:
            raise Unavailable(
                f"the self-test of {cluster}'s authority did not pass, so that nothing is signed there: {why}",
                f"see `pilothouse access self-test --cluster {cluster}` and {OPEN_CODE}",
            )
