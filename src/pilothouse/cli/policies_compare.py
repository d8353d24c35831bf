"""`pilothouse policies diff` and `drift`: policies held against each other by what they allow."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilothouse.cli.opening import cluster_option, kept_option, open_inputs, platform_argument, snapshot_option
from pilothouse.cli.output import emit, output_option, print_problems
from pilothouse.cli.policies_site import Chosen, path_argument, site_options

if TYPE_CHECKING:
    from pilothouse.policies.compare.diff import Diff
    from pilothouse.policies.compare.groups import Change


@click.command("diff")
@path_argument
@click.argument("other", type=click.Path(path_type=Path), required=False)
@site_options
@output_option
def diff(path: Path, other: Path | None, chosen: Chosen, output: str) -> None:
    """Which connections appear, vanish or change between PATH and OTHER, whatever their policies look like.

    Each is a platform folder (with --cluster), a folder or file of manifests, or a snapshot. Both are asked about the
    pods of OTHER, or of PATH where OTHER has none. Without OTHER: from what the snapshot of a platform's cluster
    holds to what its declarations give.

    Exit 0 where both allow the same, 1 where they differ.
    """
    from pilothouse.policies.compare.diff import as_data
    from pilothouse.workflows import policy_compare

    if other is None:
        found = policy_compare.against_found(chosen.open(path))
    else:
        found = policy_compare.compare(
            chosen.open(path), chosen.open(other), as_if_enforced=chosen.preview, as_found=chosen.found
        )
    emit(as_data(found), output, lambda: _print(found))
    if not found.is_empty:
        raise click.exceptions.Exit(1)


def _print(found: Diff) -> None:
    from pilothouse.policies.compare.groups import by_team

    for team, changes in by_team(found.changes).items():
        click.echo(f"team {team}" if team else "of no team")
        for service, items in _by_service(changes, team).items():
            click.echo(f"  {service}")
            for change in items:
                click.echo(f"    {change}, for example {change.example}")
    for item in found.isolation:
        click.echo(str(item))
    for note in found.notes:
        click.echo(note)
    click.echo(found.summary)


def _by_service(changes: list[Change], team: str) -> dict[str, list[Change]]:
    """Each change once, under the team's own end; the one that opens the connection goes before."""
    found: dict[str, list[Change]] = {}
    for change in changes:
        own = change.source if change.source.team == team else change.destination
        found.setdefault(own.name, []).append(change)
    return dict(sorted(found.items()))


@click.command("drift")
@platform_argument
@cluster_option
@snapshot_option
@kept_option
@output_option
def drift(
    platform: Path,
    cluster: str,
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    data: Path | None,
    output: str,
) -> None:
    """Whether the policies of ours that run mean what is declared.

    Renamed policies, rules in another order, defaults that a server filled in and another API group are no drift.
    Exit 1 on drift.
    """
    from pilothouse.policies import staging
    from pilothouse.policies.compare import drift as drifts
    from pilothouse.policies.derive import derive

    opened, inputs = open_inputs(platform, cluster, snapshot, live, context, today, data)
    rendered = derive(inputs).artifacts.under("policies/").manifests()
    found = drifts.drift(inputs, staging.as_applied(inputs, rendered, datetime.now(UTC)))
    problems = opened.loaded.shown((*drifts.problems(found, inputs.cluster.place), *found.unread))

    def human() -> None:
        print_problems(problems, total=False)
        click.echo(found.summary)

    emit(drifts.as_data(found), output, human)
    if not found.is_empty:
        raise click.exceptions.Exit(1)
