"""`pilothouse access fence`: whether the fence around the worker stands on the live cluster, as it was rendered."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from pilothouse.cli.opening import cluster_option
from pilothouse.cli.output import emit, exit_for, output_option, print_problems
from pilothouse.problems import Invalid, one_of


@click.command("fence")
@click.argument("platform", type=click.Path(path_type=Path), default=Path(), envvar="PILOTHOUSE_PLATFORM")
@cluster_option
@click.option("--kubeconfig", default="", help="Ask the server of that kubeconfig (default: the declared one).")
@click.option("--context", default="", help="Context of the kubeconfig.")
@output_option
def fence(platform: Path, cluster: str, kubeconfig: str, context: str, output: str) -> None:
    """Look whether the admission policy around the worker, and its rights, stand as rendered. Changes nothing.

    The worker looks by itself before each binding and once a minute. Exit 1 where the fence is missing or was changed.
    """
    from pilothouse.workflows import fence_watch, live
    from pilothouse.workflows.rendering import open_platform

    declared = open_platform(platform).loaded.platform
    found = declared.clusters.get(cluster)
    if found is None:
        raise Invalid(f"there is no cluster `{cluster}`", one_of(declared.clusters))
    wanted = fence_watch.wanted(declared, found)
    if not wanted:
        raise Invalid(
            f"on cluster {cluster} no worker binds requests, so there is no fence",
            "`elevation: {account: …}` of the Cluster document says who does",
        )
    with closing(live.api_of(found, kubeconfig, context)) as server:
        problems = fence_watch.problems(server, declared, found)
    open_ = [item for item in problems if item.code != "access/fence-outdated"]

    def human() -> None:
        print_problems(problems, total=False)
        state = "stands" if not open_ else "is not known" if open_[0].code == "access/fence-unseen" else "has a gap"
        click.echo(f"The fence of {cluster} {state}: {len(wanted)} objects looked at.")

    emit({"cluster": cluster, "stands": not open_, "objects": len(wanted), "problems": problems}, output, human)
    exit_for(problems)
    if open_:  # what cannot be seen is no yes
        raise click.exceptions.Exit(2)
