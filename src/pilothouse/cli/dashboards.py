"""`pilothouse dashboards`: what is made of the definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pilothouse.cli import opening
from pilothouse.cli.output import emit, exit_for, output_option, print_problems, table


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
