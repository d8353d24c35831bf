"""`pilothouse logs plan`, `apply` and `status`: the log store of a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilothouse.cli.opening import open_inputs, snapshot_option
from pilothouse.cli.output import Progress, emit, exit_for, output_option, print_problems, table

if TYPE_CHECKING:
    from pilothouse.clients.elasticsearch import Elasticsearch
    from pilothouse.inputs import Inputs
    from pilothouse.workflows.log_store import Planned

Command = TypeVar("Command", bound=Callable[..., Any])
SHOWN_WRITERS = 20


def _store_arguments(command: Command) -> Command:
    """Adds CLUSTER, and PLATFORM with the folder that one stands in as its default."""
    command = click.argument("platform", type=click.Path(path_type=Path), default=Path())(command)
    return click.argument("cluster")(command)


_roll_over = click.option(
    "--roll-over",
    is_flag=True,
    help="Let a changed type of a field begin with a new index, instead of refusing it.",
)


def _connect(inputs: Inputs) -> Elasticsearch:
    from pilothouse.clients.calls import Retry
    from pilothouse.clients.elasticsearch import Elasticsearch
    from pilothouse.workflows.log_store import endpoint

    return Elasticsearch(endpoint(inputs.cluster), retry=Retry())


@click.command()
@_store_arguments
@_roll_over
@snapshot_option
@output_option
def plan(
    cluster: str,
    platform: Path,
    roll_over: bool,
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    output: str,
) -> None:
    """Show what `logs apply` would change in CLUSTER's Elasticsearch. Exit code 1 when it would refuse to."""
    from pilothouse.workflows import log_store

    _, inputs = open_inputs(platform, cluster, snapshot, live, context, today)
    progress = Progress()
    try:
        planned = log_store.make_plan(inputs, _connect(inputs), roll_over, progress)
    finally:
        progress.done()
    emit(_plan_data(planned), output, lambda: _show_plan(planned))
    exit_for(planned.problems)


@click.command()
@_store_arguments
@_roll_over
@snapshot_option
@output_option
def apply(
    cluster: str,
    platform: Path,
    roll_over: bool,
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    output: str,
) -> None:
    """Bring templates, lifecycle and roles of CLUSTER's Elasticsearch to what is declared.

    Only what is ours is changed. A step that fails is undone together with those before it.
    """
    from pilothouse.workflows import log_store

    _, inputs = open_inputs(platform, cluster, snapshot, live, context, today)
    progress = Progress()
    try:
        store = _connect(inputs)
        planned = log_store.make_plan(inputs, store, roll_over, progress)
        if planned.forbidden:
            progress.done()
            emit(_plan_data(planned) | {"applied": False}, output, lambda: _show_plan(planned))
            exit_for(planned.problems)
        applied = log_store.apply(planned, store, progress)
    finally:
        progress.done()
    problems = (*planned.problems, *applied.problems)

    def human() -> None:
        _show_steps(planned)
        print_problems(problems)
        click.echo(
            f"{cluster}: applied, {log_store.summary(applied.done)}" if applied.done else f"{cluster}: up to date"
        )

    emit(_plan_data(planned) | {"problems": problems, "applied": True}, output, human)
    exit_for(problems)


def _plan_data(planned: Planned) -> dict[str, Any]:
    return {
        "cluster": planned.cluster,
        "server": planned.able,
        "changes": planned.plan.changes,
        "leftOut": planned.plan.left_out,
        "problems": planned.problems,
    }


def _show_plan(planned: Planned) -> None:
    from pilothouse.workflows.log_store import summary

    _show_steps(planned)
    print_problems(planned.problems)
    click.echo(f"{planned.cluster}: {summary(planned.plan.changes)}")


def _show_steps(planned: Planned) -> None:
    rows = [
        (item.action, item.kind, item.name, ", ".join(item.fields[:4]) + (" …" if len(item.fields) > 4 else ""))
        for item in planned.plan.changes
    ]
    if rows:
        table(f"Log store of {planned.cluster}", ["step", "what", "name", "differs in"], rows)
    if planned.plan.left_out:
        left: dict[tuple[str, str], list[str]] = {}
        for item in planned.plan.left_out:
            left.setdefault((item.kind, item.why), []).append(item.name)
        rows_left = [(kind, ", ".join(names), why) for (kind, why), names in left.items()]
        table("Left out, because the server cannot take it", ["what", "names", "why"], rows_left)


@click.command()
@_store_arguments
@click.option(
    "--seconds",
    type=click.FloatRange(0, 300),
    default=2.0,
    show_default=True,
    help="Between two readings, from which rates and rejections follow; 0 reads once.",
)
@snapshot_option
@output_option
def status(
    cluster: str,
    platform: Path,
    seconds: float,
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    output: str,
) -> None:
    """Show how CLUSTER's Elasticsearch is: health, rejections, pressure, and who writes how much."""
    from pilothouse.collectors.logging.units import in_words
    from pilothouse.reports import plural
    from pilothouse.workflows import log_store

    _, inputs = open_inputs(platform, cluster, snapshot, live, context, today)
    progress = Progress()
    progress("reading the figures")
    try:
        store = _connect(inputs)
        able = store.abilities()
        pause = (lambda: time.sleep(seconds)) if seconds else None
        found = log_store.status(inputs, store, lambda: datetime.now(UTC), pause, able)
    finally:
        progress.done()

    def human() -> None:
        health, press = found.reading.health, found.pressure
        rows = [
            (
                "health",
                f"{health.status}, {plural(health.nodes, 'node')}, {health.unassigned_shards} shards without one",
            ),
            (
                "in flight",
                f"{in_words(press.in_flight)} of {in_words(press.setpoint)} ({press.share:.0%} of the setpoint)",
            ),
            ("rejected at", in_words(press.limit)),
            ("waiting writes", f"{press.queued:,}"),
        ]
        if press.rejections is not None and press.indexed is not None:
            rows.append(("rejections", f"{press.rejections:,} in {press.seconds:.1f} s"))
            rows.append(("indexed", f"{press.indexed:,.0f} records/s, copies included"))
        table(f"Log store of {cluster}, Elasticsearch {able.version}", ["figure", "value"], rows)
        table(
            "Nodes",
            ["node", "write threads", "waiting", "rejected", "heap", "breakers tripped", "disk"],
            [
                (
                    node.name,
                    node.active,
                    node.queued,
                    f"{node.rejected + node.pressure_rejections:,}",
                    f"{node.heap_share:.0%} of {in_words(node.heap_most)}",
                    node.tripped,
                    f"{node.disk_share:.0%} of {in_words(node.disk_total)}",
                )
                for node in found.reading.nodes
            ],
        )
        table(
            "Indices",
            ["data stream or alias", "indices", "records", "size"],
            [(item.name, item.indices, f"{item.documents:,}", in_words(item.size)) for item in found.targets],
            right=["indices", "records", "size"],
        )
        writing = [item for item in found.writers if item.documents]
        table(
            "Who writes most",
            ["service", "team", "rate", "declared", "last day", "records", "kept"],
            [
                (
                    item.service,
                    item.team or "nobody declared it",
                    f"{in_words(item.rate)}/s",
                    f"{in_words(item.declared)}/s" if item.declared else "",
                    in_words(item.bytes),
                    f"{item.documents:,}",
                    f"{item.days} days" if item.days else "",
                )
                for item in writing[:SHOWN_WRITERS]
            ],
            right=["rate", "declared", "last day", "records", "kept"],
        )
        if len(writing) > SHOWN_WRITERS:
            click.echo(f"and {len(writing) - SHOWN_WRITERS} more: --output json has all of them")
        print_problems(found.problems)

    data = {"server": able, "status": found}
    emit(data, output, human)
    exit_for(found.problems)
