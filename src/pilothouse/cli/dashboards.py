"""`pilothouse dashboards`: what is made of the definitions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilothouse.cli import opening
from pilothouse.cli.output import Progress, emit, exit_for, output_option, print_problems, table
from pilothouse.reports import plural

if TYPE_CHECKING:
    from pilothouse.dashboards.live import BoardChange
    from pilothouse.inputs import Inputs


@click.group(help="Grafana dashboards.")
def group() -> None:
    """Each command shows one cluster."""


@group.command("list", help="The dashboards of a cluster: subject, panels, identity in Grafana, file.")
@opening.platform_argument
@opening.cluster_option
@opening.snapshot_option
@click.option("--kind", type=click.Choice(["service", "team", "cluster"]), help="Only dashboards of that kind.")
@output_option
def list_(platform: Path, cluster: str, kind: str | None, output: str, **where: Any) -> None:
    from pilothouse import dashboards

    _, inputs = opening.open_inputs(
        platform, cluster, where["snapshot"], where["live"], where["context"], where["today"]
    )
    derived = dashboards.derive(inputs)
    boards = [board for board in derived.boards if kind in (None, board.kind)]

    def human() -> None:
        rows = [(b.kind, b.subject, b.panels, b.uid, b.path) for b in boards]
        table("", ["kind", "subject", "panels", "uid", "file"], rows, right=["panels"])
        print_problems(derived.problems)

    emit(boards, output, human)
    exit_for(derived.problems)


@group.command(help="What an apply would change in the cluster's Grafana; ends with 1 where it would.")
@opening.platform_argument
@opening.cluster_option
@opening.snapshot_option
@output_option
def diff(platform: Path, cluster: str, output: str, **where: Any) -> None:
    changes = _compared(_inputs(platform, cluster, where))
    emit([_change(item) for item in changes], output, lambda: _print_changes(changes))
    if changes:
        raise click.exceptions.Exit(1)


@group.command(help="Make the cluster's Grafana hold the rendered dashboards. Foreign ones stay as they are.")
@opening.platform_argument
@opening.cluster_option
@opening.snapshot_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
def apply(platform: Path, cluster: str, yes: bool, output: str, **where: Any) -> None:
    from pilothouse.workflows import grafana

    inputs = _inputs(platform, cluster, where)
    changes = _compared(inputs)
    if output == "text":
        _print_changes(changes)
    if not changes:
        emit([], output, lambda: None)
        return
    if not yes:
        click.confirm(f"Apply this to {cluster}?", abort=True, err=True)
    done = grafana.apply(inputs, grafana.server_of(inputs), changes)
    failed = [item for item in done if item.failed]

    def human() -> None:
        for item in failed:
            click.echo(f"Not done: {item.change.step.value} {item.change.uid}: {item.failed}")
        click.echo(f"{plural(len(done) - len(failed), 'dashboard')} applied.")

    emit([{**_change(item.change), "failed": item.failed} for item in done], output, human)
    if failed:
        raise click.exceptions.Exit(1)


def _inputs(platform: Path, cluster: str, where: dict[str, Any]) -> Inputs:
    return opening.open_inputs(platform, cluster, where["snapshot"], where["live"], where["context"], where["today"])[1]


def _compared(inputs: Inputs) -> tuple[BoardChange, ...]:
    from pilothouse.workflows import grafana

    progress = Progress()
    try:
        return grafana.compare(inputs, grafana.server_of(inputs), progress)
    finally:
        progress.done()


def _change(item: BoardChange) -> dict[str, Any]:
    return {"step": item.step.value, "uid": item.uid, "title": item.title, "why": item.why}


def _print_changes(changes: Iterable[BoardChange]) -> None:
    rows = [(item.step.value, item.uid, item.title, item.why) for item in changes]
    if rows:
        table("", ["step", "uid", "title", "why"], rows, whole=["uid"])
    click.echo(plural(len(rows), "change"))
