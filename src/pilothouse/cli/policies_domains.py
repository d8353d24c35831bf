"""`pilothouse policies domains`: what the domains that services name are on a cluster, and until when."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilothouse.cli import opening
from pilothouse.cli.output import emit, exit_for, output_option, print_problems, table

if TYPE_CHECKING:
    from pilothouse.workflows.domains import Listing, Row


@click.command("domains")
@opening.platform_argument
@opening.cluster_option
@click.option("--resolve", is_flag=True, help="Ask DNS now, and show what a refresh would make of it.")
@opening.kept_option
@click.option("--today", type=opening.Day(), default=None, help="Judge expiries as of this day.", show_default="today")
@output_option
def show(platform: Path, cluster: str, resolve: bool, data: Path | None, today: date | None, output: str) -> None:
    """The domains that services of CLUSTER name: pinned and resolved addresses, until when, and who names them.

    Resolved addresses are those that a worker keeps in its data folder. Nothing is changed.
    """
    from pilothouse.clients.resolver import SystemResolver
    from pilothouse.workflows import domains, rendering

    opened = rendering.open_platform(platform, domains=opening.kept_domains(data))
    opened.clusters((cluster,))
    resolver = SystemResolver() if resolve else None
    found = domains.listing(opened, cluster, datetime.now(UTC), opening.day(today), resolver)
    emit(_data(found), output, lambda: _print(opened.loaded.shown(found.problems), found))
    exit_for(found.problems)


def _data(found: Listing) -> dict[str, Any]:
    return {
        "cluster": found.cluster,
        "domains": [
            {
                "domain": row.domain,
                "pinned": [str(net) for net in row.pinned],
                "resolved": [
                    {"network": str(item.network), "seen": item.seen, "expires": item.expires}
                    for item in row.resolved.addresses
                ],
                "expires": row.expires,
                "services": sorted({use.service.key for use in row.uses}),
            }
            for row in found.rows
        ],
        "problems": [{"code": item.code, "message": item.message, "hint": item.hint} for item in found.problems],
    }


def _print(problems: Any, found: Listing) -> None:
    print_problems(problems, total=False)
    rows = [
        (row.domain, _addresses(row), _until(row), ", ".join(sorted({u.service.key for u in row.uses})))
        for row in found.rows
    ]
    if rows:
        table("", ("domain", "addresses", "until", "named by"), rows)
    else:
        click.echo(f"no service of {found.cluster} names a domain")


def _addresses(row: Row) -> str:
    known = row.pinned or row.resolved.networks
    return ", ".join(str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net) for net in known) or (
        "not known: nothing is allowed"
    )


def _until(row: Row) -> str:
    if row.pinned:
        return "pinned"
    return f"{row.expires:%Y-%m-%d %H:%M} UTC" if row.expires else ""
