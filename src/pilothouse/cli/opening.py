"""Arguments and options that commands on a platform share, and how they are opened."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilothouse.problems import Invalid

if TYPE_CHECKING:
    from pilothouse.inputs import Inputs
    from pilothouse.workflows.rendering import KeptDomains, Opened, Where

Command = TypeVar("Command", bound=Callable[..., Any])


class Day(click.ParamType[date]):
    """A date as YYYY-MM-DD."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a date such as 2027-01-31", param, ctx)


def platform_argument(command: Command) -> Command:
    """Adds the argument PLATFORM (parameter `platform`): the folder of documents."""
    return click.argument("platform", type=click.Path(path_type=Path))(command)


def cluster_option(command: Command) -> Command:
    """Adds `--cluster NAME` (parameter `cluster`, required): one cluster."""
    return click.option("--cluster", "-c", required=True, help="Name of the cluster.")(command)


def clusters_option(command: Command) -> Command:
    """Adds `--cluster NAME`, which may be given more than once (parameter `clusters`); none means all."""
    return click.option("--cluster", "-c", "clusters", multiple=True, help="Name of a cluster (default: all of them).")(
        command
    )


def snapshot_option(command: Command) -> Command:
    """Adds `--snapshot PATH`, `--live`, `--context` and `--today` (parameters of these names)."""
    for option in (
        click.option("--today", type=Day(), default=None, help="Judge expiries as of this day.", show_default="today"),
        click.option("--context", default="", help="Context of the kubeconfig, with --live."),
        click.option("--live", is_flag=True, help="Read the live cluster: the declared server, else the kubeconfig's."),
        click.option(
            "--snapshot",
            type=click.Path(path_type=Path),
            default=None,
            help="File or folder of the cluster's snapshot (default: the platform's snapshots/).",
        ),
    ):
        command = option(command)
    return command


def kept_option(command: Command) -> Command:
    """Adds `--data DIR` (parameter `data`): the data folder of a worker that resolves domains; None is none."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        default=None,
        envvar="PILOTHOUSE_DATA",
        help="A worker's data folder: the addresses of domains are those that it resolved.",
    )(command)


def kept_domains(data: Path | None) -> KeptDomains | None:
    """What the worker of that data folder resolved, as of now."""
    from pilothouse.files.domains import DOMAINS
    from pilothouse.workflows.rendering import KeptDomains

    return None if data is None else KeptDomains(data / DOMAINS, datetime.now(UTC))


def day(today: date | None) -> date:
    """The day given, or today in UTC: here and in `kept_domains` alone a command reads the clock for a render."""
    return today or datetime.now(UTC).date()


def where(snapshot: Path | None, live: bool, context: str, clusters: tuple[str, ...]) -> Where:
    """Where snapshots come from; one that was named can only be that of one cluster."""
    from pilothouse.workflows.rendering import Where

    if (snapshot or live) and len(clusters) != 1:
        raise Invalid("--snapshot and --live are those of one cluster", "name it with --cluster")
    if snapshot and live:
        raise Invalid("--snapshot and --live exclude each other", "give one of them")
    return Where(path=snapshot, live=live, context=context)


def open_inputs(
    platform: Path,
    cluster: str,
    snapshot: Path | None = None,
    live: bool = False,
    context: str = "",
    today: date | None = None,
    data: Path | None = None,
) -> tuple[Opened, Inputs]:
    """Open a platform that has no errors, and the inputs of one cluster; errors are printed and end the command.

    `data` is the data folder of a worker, for the domains that it resolved.
    """
    from pilothouse.cli.output import exit_for, print_problems
    from pilothouse.problems import Severity, has_errors
    from pilothouse.workflows.rendering import inputs_for, open_platform

    opened = open_platform(platform, domains=kept_domains(data))
    opened.clusters((cluster,))
    inputs, problems = inputs_for(opened, cluster, day(today), where(snapshot, live, context, (cluster,)))
    found = (*opened.problems, *problems)
    if has_errors(found):
        print_problems(opened.loaded.shown(problem for problem in found if problem.severity is Severity.ERROR))
        exit_for(found)
    return opened, inputs
