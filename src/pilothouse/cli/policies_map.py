"""`pilothouse policies map`: who reaches whom, as a table, JSON, CSV or a picture."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from pilothouse.cli.output import emit, output_option, table
from pilothouse.cli.policies_site import Chosen, path_argument, site_options

if TYPE_CHECKING:
    from pilothouse.policies.compare.map import Map

_TO = click.File("w", encoding="utf-8", lazy=True)


@click.command("map")
@path_argument
@click.option("--service", default="", help="Only what this service or workload reaches and is reached by.")
@click.option("--namespace", "-n", default="", help="Only the connections of this namespace.")
@click.option("--team", default="", help="Only the connections of this team's services.")
@click.option("--pods", is_flag=True, help="Tell pods apart, where policies do.")
@click.option("--future", is_flag=True, help="Add pods that may exist later: a new one of each namespace and selector.")
@click.option("--csv", "to_csv", type=_TO, default=None, help="Write the connections as CSV (- for standard output).")
@click.option("--svg", "to_svg", type=_TO, default=None, help="Write a picture (- for standard output).")
@site_options
@output_option
def show(
    path: Path,
    service: str,
    namespace: str,
    team: str,
    pods: bool,
    future: bool,
    to_csv: IO[str] | None,
    to_svg: IO[str] | None,
    chosen: Chosen,
    output: str,
) -> None:
    """Every connection that policies allow, between services, workloads and addresses.

    PATH is a platform folder, a folder or file of manifests, a snapshot, or - for standard input. What holds for many
    at once is one connection of a group.
    """
    from pilothouse.files.garbage import collector_paused
    from pilothouse.policies.compare import map as maps

    opened = chosen.open(path)
    with collector_paused():
        found = maps.draw_up(
            opened.site, opened.title, maps.Only(service, namespace, team), by_pods=pods, future=future
        )
    if to_csv is not None:
        to_csv.write(_csv(found))
    if to_svg is not None:
        from pilothouse.policies.compare.picture import draw

        to_svg.write(draw(found))
    if output == "json" or (to_csv is None and to_svg is None):
        emit(maps.as_data(found), output, lambda: _print(found))


def _csv(found: Map) -> str:
    from pilothouse.policies.compare.map import COLUMNS, as_rows

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(as_rows(found))
    return text.getvalue()


def _print(found: Map) -> None:
    from pilothouse.policies.adoption import shown
    from pilothouse.policies.rules import Direction
    from pilothouse.reports import plural

    links = sorted(found.links, key=lambda link: (link.source.team == "", link.source.team))
    rows = [(link.source.team, link.source, link.destination, link.connections, link.note) for link in links]
    if rows:
        table("", ("team", "from", "to", "ports", ""), rows)
    for group, members in found.groups.items():
        click.echo(f"{group} ({len(members)}): {shown(tuple(member.name for member in members))}")
    for direction in Direction:
        free = found.not_isolated(direction)
        if free:
            click.echo(f"no policy isolates the {direction} of {shown(tuple(party.name for party in free))}")
    parties = sum(1 for member in found.members if member.pods)
    click.echo(f"{plural(parties, 'party', 'parties')}, {plural(len(found.links), 'connection')}")
