"""`pilothouse render`, `check` and `diff`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import click

from pilothouse import reports
from pilothouse.cli import opening
from pilothouse.cli.output import Progress, emit, exit_for, print_problems, report_option, table
from pilothouse.files.garbage import collector_paused
from pilothouse.problems import Invalid, Problem, Severity
from pilothouse.workflows import rendering
from pilothouse.workflows.rendering import ClusterResult, Opened, Result

Work = Callable[[Opened, Progress], Result]
Show = Callable[[Opened, Result], None]


def _counts(problems: Iterable[Problem]) -> dict[str, int]:
    found = tuple(problems)
    return {severity.value: sum(problem.severity is severity for problem in found) for severity in Severity}


def _summary(result: ClusterResult) -> dict[str, Any]:
    summary: dict[str, Any] = {"cluster": result.cluster, "files": len(result.artifacts)}
    if result.objects is not None:
        for word, action in (("added", "add"), ("changed", "change"), ("removed", "remove")):
            summary[word] = [str(change.key) for change in result.objects if change.action == action]
    elif result.change is not None:
        summary |= {
            "added": list(result.change.added),
            "changed": list(result.change.changed),
            "removed": list(result.change.removed),
        }
    return summary | {"problems": _counts(result.problems)}


def _table(result: Result, changes: bool) -> None:
    columns = (
        ["cluster", "files"] + (["added", "changed", "removed"] if changes else []) + ["errors", "warnings", "info"]
    )
    rows = []
    for item in map(_summary, result.clusters):
        cells = [item.get(name, 0) for name in columns[:-3]]
        rows.append([*(len(c) if isinstance(c, list) else c for c in cells), *item["problems"].values()])
    if result.problems or not rows:
        rows.insert(0, ["(documents)", *[""] * (len(columns) - 4), *_counts(result.problems).values()])
    table("", columns, rows, right=columns[1:])


def _show(opened: Opened, result: Result, output: str, changes: bool, quiet: bool = False) -> None:
    """Problems by file, then the summary table."""
    problems = opened.loaded.shown(result.all_problems)
    if output == "sarif":
        print_problems(problems, output)
        return

    def human() -> None:
        found = _together(problems, len(result.clusters))
        print_problems((p for p in found if not quiet or p.severity is Severity.ERROR), total=False)
        _table(result, changes)
        click.echo(reports.summary(found))

    emit({"clusters": [_summary(item) for item in result.clusters], **reports.to_data(problems)}, output, human)


def _together(problems: Iterable[Problem], clusters: int) -> list[Problem]:
    """What was found alike on several clusters, once; those are named unless it is all of them."""
    found: dict[Problem, list[str]] = {}
    for problem in problems:
        found.setdefault(replace(problem, cluster=""), []).append(problem.cluster)
    return [
        replace(problem, message=f"{problem.message} (on {', '.join(names)})")
        if all(names) and len(names) < clusters and not any(name in problem.message for name in names)
        else problem
        for problem, names in found.items()
    ]


@collector_paused()
def _run(platform: Path, data: Path | None, work: Work, show: Show) -> None:
    progress = Progress()
    try:
        progress("reading the documents")
        opened = rendering.open_platform(platform, domains=opening.kept_domains(data))
        result = work(opened, progress)
    finally:
        progress.done()
    show(opened, result)
    exit_for(result.all_problems)


@click.command()
@opening.platform_argument
@opening.clusters_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder; each cluster gets one below it.")
@opening.kept_option
@opening.snapshot_option
@click.option("--quiet", "-q", is_flag=True, help="Show errors only.")
@report_option
def render(
    platform: Path,
    clusters: tuple[str, ...],
    out: Path,
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    data: Path | None,
    quiet: bool,
    output: str,
) -> None:
    """Derive everything from PLATFORM, prove it, and write it to OUT/<cluster>.

    Each cluster's folder is replaced in one step, and only when no cluster has an error.
    """
    where = opening.where(snapshot, live, context, clusters)
    _run(
        platform,
        data,
        lambda opened, progress: rendering.render(opened, clusters, out, opening.day(today), where, progress),
        lambda opened, result: _show(opened, result, output, changes=not result.failed, quiet=quiet),
    )


@click.command()
@opening.platform_argument
@opening.clusters_option
@opening.kept_option
@opening.snapshot_option
@report_option
def check(
    platform: Path,
    clusters: tuple[str, ...],
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    data: Path | None,
    output: str,
) -> None:
    """Run every check of every area on PLATFORM and print the problems by file."""
    where = opening.where(snapshot, live, context, clusters)
    _run(
        platform,
        data,
        lambda opened, progress: rendering.check(opened, clusters, opening.day(today), where, progress),
        lambda opened, result: _show(opened, result, output, changes=False),
    )


@click.command()
@opening.platform_argument
@opening.clusters_option
@click.option("--against", type=click.Path(path_type=Path), help="Folder of an earlier render.")
@opening.kept_option
@opening.snapshot_option
@report_option
def diff(
    platform: Path,
    clusters: tuple[str, ...],
    against: Path | None,
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    data: Path | None,
    output: str,
) -> None:
    """Show what a render of PLATFORM would change in a folder (--against) or in the live cluster (--live)."""
    if (against is None) == (not live):
        raise Invalid(
            "say what to compare with: a folder or the live cluster", "give --against FOLDER, or --live with --cluster"
        )
    where = opening.where(snapshot, live, context, clusters)

    def work(opened: Opened, progress: Progress) -> Result:
        if against is not None:
            return rendering.compare(opened, clusters, against, opening.day(today), where, progress)
        return rendering.compare_live(opened, opened.clusters(clusters)[0], opening.day(today), where, progress)

    def show(opened: Opened, result: Result) -> None:
        if output == "text":
            for item in result.clusters:
                click.echo(_changes(item), nl=False)
        _show(opened, result, output, changes=True, quiet=True)

    _run(platform, data, work, show)


def _changes(result: ClusterResult) -> str:
    if result.objects is not None:
        return "".join(change.text() for change in result.objects)
    return result.change.text if result.change else ""
