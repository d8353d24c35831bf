"""One apply at a time: a Lease object that its holder renews, and that others may take once it ran out.

https://kubernetes.io/docs/concepts/architecture/leases/. Times are those of the API server's own clock (the `Date` of
its answers), so that clocks of two workers need not agree. Of two that write at once the resourceVersion lets one in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

from pilothouse.clients.kubernetes.api import Api
from pilothouse.clients.kubernetes.transport import Clash, Rejected
from pilothouse.problems import Conflict

NAME = "pilothouse-apply"
NAMESPACES = ("pilothouse", "kube-system")
"""The first of these that the cluster has."""
SECONDS = 90
RENEW_AFTER = 15.0
_API = "/apis/coordination.k8s.io/v1/namespaces"


class LeaseLost(Conflict):
    """Somebody else holds it now: what we were doing must stop where it is."""


class Lease:
    """Held inside a `with`; `keep` is called between steps. `Conflict` where somebody else holds it."""

    def __init__(
        self, api: Api, holder: str, seconds: int = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._holder = holder
        self._seconds = seconds
        self._clock = clock
        self._held: dict[str, Any] | None = None
        self._renewed = 0.0

    def __enter__(self) -> Self:
        for namespace in NAMESPACES[:-1]:
            try:
                return self._take(namespace)
            except Rejected as missing:
                if not missing.absent:
                    raise
        return self._take(NAMESPACES[-1])

    def __exit__(self, kind: type[BaseException] | None, what: BaseException | None, at: TracebackType | None) -> None:
        if self._held is None:
            return
        given, self._held = self._held, None
        if isinstance(what, LeaseLost):
            return
        body = {**given, "spec": {**given["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}}
        try:
            self._api.replace(_path(given), body, "lease")
        except Clash:
            return  # it ran out, and somebody has it by now

    def keep(self) -> None:
        """Renew it where that is due. `LeaseLost` where it is no longer ours."""
        if self._held is None:
            raise LeaseLost("the lease was given back", "take it before anything is changed")
        if self._clock() - self._renewed < RENEW_AFTER:
            return
        spec = {**self._held["spec"], "renewTime": _written(self._now(self._held["metadata"]["namespace"])[1])}
        try:
            self._held = self._api.replace(_path(self._held), {**self._held, "spec": spec}, "lease")
        except (Clash, Rejected) as failure:
            raise LeaseLost(
                f"the lease {NAME} on {self._api.host} was taken by somebody else",
                "this apply stopped where it was; the other one goes on from there",
            ) from failure
        self._renewed = self._clock()

    def _take(self, namespace: str) -> Self:
        started = self._clock()
        found, now = self._now(namespace)
        spec = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": self._seconds,
            "acquireTime": _written(now),
            "renewTime": _written(now),
        }
        try:
            if found is None:
                body = {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {"name": NAME, "namespace": namespace},
                    "spec": spec,
                }
                self._held = self._api.create(f"{_API}/{namespace}/leases", body, "lease")
            else:
                self._require_free(found, now)
                self._held = self._api.replace(_path(found), {**found, "spec": spec}, "lease")
        except Clash as faster:
            raise Conflict(f"another apply of {self._api.host} began just now", "wait until it has ended") from faster
        self._renewed = started
        return self

    def _require_free(self, found: dict[str, Any], now: datetime) -> None:
        spec = found.get("spec") or {}
        holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
        if not holder or not renewed:
            return
        ends = datetime.fromisoformat(renewed) + timedelta(seconds=int(spec.get("leaseDurationSeconds") or 0))
        if now < ends:
            raise Conflict(
                f"another apply runs on {self._api.host}: {holder}, since {spec.get('acquireTime', 'some time')}",
                f"wait until it has ended; if it was killed, its lease ends at {ends:%H:%M:%S} UTC by itself",
            )

    def _now(self, namespace: str) -> tuple[dict[str, Any] | None, datetime]:
        """The Lease as it is, and the server's time."""
        return self._api.read_dated(f"{_API}/{namespace}/leases/{NAME}")


def _written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _path(lease: dict[str, Any]) -> str:
    metadata = lease["metadata"]
    return f"{_API}/{metadata['namespace']}/leases/{metadata['name']}"
