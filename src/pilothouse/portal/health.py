"""`/healthz`, `/readyz` and `/metrics`: for machines, without a login and without anything secret."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify
from prometheus_client.core import Metric

from pilothouse.portal import authorities
from pilothouse.portal.frame import Portal, portal, public
from pilothouse.portal.metrics import CONTENT_TYPE, gauge
from pilothouse.problems import PilothouseError
from pilothouse.store import jobs

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
@public
def healthz() -> Response:
    """The process answers."""
    return Response("ok\n", content_type="text/plain; charset=utf-8")


@blueprint.get("/readyz")
@public
def readyz() -> tuple[Response, int]:
    """503 only without the store; every other backend is named with its state."""
    state = portal()
    try:
        state.store.check()
        store = "ok"
    except PilothouseError as failure:
        store = failure.message
    backends = {}
    for name, ask in sorted(state.backends.items()):
        try:
            backends[name] = {"ok": True, "state": ask()}
        except PilothouseError as failure:
            backends[name] = {"ok": False, "state": failure.message}
    body = {"ready": store == "ok", "store": store, "backends": backends}
    return jsonify(body), 200 if store == "ok" else 503


@blueprint.get("/metrics")
@public
def metrics() -> Response:
    return Response(portal().metrics.text(), content_type=CONTENT_TYPE)


def start(portal: Portal) -> None:
    def platform() -> str:
        found = portal.current.get()
        return found.reason or f"{len(found.platform.services)} services, loaded {found.loaded_at.isoformat()}"

    def worker() -> str:
        rows = jobs.everything(portal.store)
        ran = [row.finished_at for row in rows if row.finished_at]
        return f"{len(rows)} jobs, last ran {max(ran).isoformat()}" if ran else "it has not run yet"

    portal.backends["platform"] = platform
    portal.backends["worker"] = worker

    folder = portal.settings.data / authorities.FOLDER

    def embedded() -> list[str]:
        """Clusters whose authority is ours; one that is not declared any more has nobody whom its end would hurt."""
        declared = portal.current.get().platform.clusters.values()
        return [item.name for item in declared if item.authority.backend == "embedded"]

    def of_jobs() -> list[Metric]:
        rows = jobs.everything(portal.store)
        return [
            gauge(
                "pilothouse_job_state",
                "1 for the state of a job's last run.",
                ("job", "state"),
                [((row.name, row.state.value), 1) for row in rows],
            ),
            gauge(
                "pilothouse_job_last_finished_timestamp_seconds",
                "When a job last finished.",
                ("job",),
                [((row.name,), row.finished_at.timestamp()) for row in rows if row.finished_at],
            ),
            gauge(
                "pilothouse_job_failures",
                "Failed runs of a job since the last one that did not fail.",
                ("job",),
                [((row.name,), row.failures) for row in rows],
            ),
            gauge(
                "pilothouse_job_failing_since_timestamp_seconds",
                "When a job began to fail.",
                ("job",),
                [((row.name,), row.failing_since.timestamp()) for row in rows if row.failing_since],
            ),
        ]

    def up() -> list[Metric]:
        try:
            portal.store.check()
            answers = 1
        except PilothouseError:
            answers = 0
        return [gauge("pilothouse_store_up", "1 while the database answers.", (), [((), answers)])]

    def collect() -> list[Metric]:
        return [
            gauge(
                "pilothouse_platform_loaded_timestamp_seconds",
                "When the platform shown was loaded.",
                (),
                [((), portal.current.get().loaded_at.timestamp())],
            ),
            gauge(
                "pilothouse_platform_stale",
                "1 while the folder's present state cannot be loaded.",
                (),
                [((), 1 if portal.current.get().reason else 0)],
            ),
            gauge(
                "pilothouse_authority_expires_timestamp_seconds",
                "When the embedded authority of a cluster ends.",
                ("cluster",),
                [((name,), end) for name, end in authorities.expiries(folder, embedded())],
            ),
        ]

    portal.metrics.add(up)
    portal.metrics.add(of_jobs)
    portal.metrics.add(collect)
