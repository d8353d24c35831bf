"""`pilothouse apply`: the plan, the question, and the apply."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import FrameType
from typing import Any

import click

from pilothouse import reports
from pilothouse.cli import opening
from pilothouse.cli.output import Progress, emit, exit_for, output_option, print_problems, table
from pilothouse.policies import staging
from pilothouse.policies.compare import rollout
from pilothouse.policies.compare.rollout import Difference
from pilothouse.problems import Invalid, Problem, Severity, has_errors
from pilothouse.workflows import applying, rendering
from pilothouse.workflows.apply_plan import Planned
from pilothouse.workflows.applying import Applied, Cancelled, NotAsPlanned, Options

MAX_SHOWN = 10
"""How many connections of a step the text names; `--output json` has them all."""


@click.command()
@click.argument("cluster")
@click.argument("platform", type=click.Path(path_type=Path), default=".")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show the plan, tried on the server without effect, and stop.")
@click.option("--force-conflicts", is_flag=True, help="Take back fields that somebody else has set in our objects.")
@click.option("--prune-all", is_flag=True, help="Also where more than half of our objects would be removed.")
@click.option(
    "--enforce", multiple=True, metavar="NAMESPACE", help="Enforce it at once, not staged first. May be repeated."
)
@click.option("--enforce-all", is_flag=True, help="Enforce at once every namespace that is declared enforced.")
@click.option(
    "--flows",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Observed flows: a namespace that would deny any of them stays staged. May be repeated.",
)
@click.option("--kubeconfig", default="", help="Kubeconfig to use instead of the declared server and token.")
@click.option("--context", default="", help="Context of the kubeconfig.")
@click.option("--snapshot", type=click.Path(path_type=Path), default=None, help="Judge by this snapshot, not live.")
@click.option("--today", type=opening.Day(), default=None, help="Judge expiries as of this day.", show_default="today")
@opening.kept_option
@output_option
def apply(
    cluster: str,
    platform: Path,
    yes: bool,
    dry_run: bool,
    force_conflicts: bool,
    prune_all: bool,
    enforce: tuple[str, ...],
    enforce_all: bool,
    flows: tuple[Path, ...],
    kubeconfig: str,
    context: str,
    snapshot: Path | None,
    today: date | None,
    data: Path | None,
    output: str,
) -> None:
    """Bring CLUSTER to what PLATFORM (default: this folder) declares.

    Adds and changes our objects by server-side apply, what allows before what denies, and removes ours that are no
    longer declared. Objects and fields of others stay as they are. A failure in the middle is undone.

    The API server is the one that the Cluster document declares, where its token lies here, else that of the
    kubeconfig.
    """
    progress = Progress()
    asking = not yes and not dry_run
    if asking and (output == "json" or not sys.stdin.isatty()):
        raise Invalid("there is no terminal to ask on", "say --yes to apply, or --dry-run to see the plan")
    try:
        progress("reading the documents")
        opened = rendering.open_platform(platform, domains=opening.kept_domains(data))
        opened.clusters((cluster,))

        def ask(planned: Planned) -> bool:
            progress.done()
            if output == "text":
                _show_plan(planned, diffs=not yes)
            if planned.refused:
                return False
            return not asking or planned.is_empty or click.confirm(f"Apply this to {cluster}?", default=False)

        options = Options(
            full=True,
            force=force_conflicts,
            prune_all=prune_all,
            dry_run=dry_run,
            enforce=frozenset(enforce),
            enforce_all=enforce_all,
            flows=flows,
        )
        where = rendering.Where(path=snapshot, live=snapshot is None, kubeconfig=kubeconfig, context=context)
        with _told_to_end():
            applied = applying.apply(opened, cluster, opening.day(today), where, options, ask, progress)
    except applying.Refused as refusal:
        progress.done()
        print_problems(opened.loaded.shown(p for p in refusal.problems if p.severity is Severity.ERROR), output)
        raise click.exceptions.Exit(1) from refusal
    except Cancelled as cancelled:
        progress.done()
        click.echo(f"pilothouse: {cancelled}", err=True)
        raise click.exceptions.Exit(130) from cancelled
    except NotAsPlanned as failure:
        progress.done()
        place = opened.loaded.platform.clusters[cluster].place
        print_problems(opened.loaded.shown((failure.problem(place),)), output)
        raise click.exceptions.Exit(2) from failure
    finally:
        progress.done()
    place = opened.loaded.platform.clusters[cluster].place
    waiting = (item.problem(applied.planned.cluster, place) for item in applied.planned.staging.waiting)
    held = (
        *(item.problem(cluster, place) for item in applied.planned.held),
        *waiting,
        *applied.planned.staging.problems,
    )
    if dry_run and output == "text":
        _show_plan(applied.planned, diffs=True)
    emit(_data(applied, held), output, lambda: _show_end(applied, held, dry_run))
    exit_for(held)


def _show_plan(planned: Planned, diffs: bool) -> None:
    if diffs:
        for change in planned.changes:
            click.echo(change.text(), nl=False)
    rows = [[change.action, change.key.kind, change.key.namespace, change.key.name] for change in planned.changes]
    if rows:
        table("", ("action", "kind", "namespace", "name"), rows)
    _show_rollout(planned)


def _show_rollout(planned: Planned) -> None:
    """After which step which connections appear and vanish."""
    found = planned.rollout
    rows = [
        [stage.name, str(len(stage.steps)), "\n".join(_lines(stage.difference)) or "nothing changes"]
        for stage in found.stages
    ]
    if rows:
        table(f"What it does to the traffic of {found.pods} pods", ("step", "objects", "after it"), rows, ("objects",))
    if planned.staging.begins:
        click.echo(f"enforced from now on: {', '.join(planned.staging.begins)}")
    if found.promised is not None and not found.promised.is_empty:
        click.echo("once everything staged is enforced:")
        for line in _lines(found.promised):
            click.echo(f"  {line}")
    for pause in found.pauses:
        click.echo(str(pause))


def _lines(found: Difference) -> list[str]:
    """What happens in numbers, and below it one by one."""
    lines = [*map(str, found.isolation), *map(str, found.changes)]
    more = len(lines) - MAX_SHOWN
    shown = [*lines[:MAX_SHOWN], f"and {more} more"] if more > 0 else lines
    return [found.summary, *shown] if shown else []


def _show_end(applied: Applied, held: tuple[Problem, ...], dry_run: bool) -> None:
    print_problems(held, total=False)
    planned = applied.planned
    if has_errors(held):
        click.echo(f"nothing was applied to {planned.cluster}: {reports.summary(held)}")
    elif not planned.changes:
        click.echo(f"{planned.cluster} is as declared ({planned.checked} objects)")
    elif dry_run:
        click.echo(f"{planned.cluster} would get: {applied.summary}; nothing was applied")
    else:
        click.echo(f"{planned.cluster}: {applied.summary}" if applied.done else "nothing was applied")
        if applied.verified:
            click.echo("read back, the policies there mean what was planned")


def _data(applied: Applied, held: tuple[Problem, ...]) -> dict[str, Any]:
    planned = applied.planned
    words = {"add": "added", "change": "changed", "remove": "removed"}
    found: dict[str, Any] = {
        word: [str(change.key) for change in planned.changes if change.action == action]
        for action, word in words.items()
    }
    return {
        "cluster": planned.cluster,
        "applied": applied.done,
        "verified": applied.verified,
        **found,
        "diff": "".join(change.text() for change in planned.changes),
        "objects": planned.checked,
        "pauses": list(planned.shared),
        "traffic": rollout.as_data(planned.rollout),
        "staging": staging.as_data(planned.staging),
        **reports.to_data(held),
    }


@contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does: what was done is undone."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
