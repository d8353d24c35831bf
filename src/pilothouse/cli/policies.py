"""`pilothouse policies`: what services talk to, what a change does, and whether one connection is allowed."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilothouse.cli.opening import cluster_option, open_inputs, platform_argument, snapshot_option
from pilothouse.cli.output import emit, output_option, table
from pilothouse.cli.policies_ask import can, explain
from pilothouse.cli.policies_compare import diff, drift
from pilothouse.cli.policies_domains import show as domains
from pilothouse.cli.policies_flows import adoption, learn, preview
from pilothouse.cli.policies_lint import command as lint
from pilothouse.cli.policies_map import show as show_map
from pilothouse.cli.policies_prove import command as prove

if TYPE_CHECKING:
    from pilothouse.policies.edges import ServiceEdge


@click.group()
def group() -> None:
    """Network policies: who reaches whom and why, what a change does, what is doubtful, and what traffic says of it."""


group.add_command(domains)
group.add_command(can)
group.add_command(explain)
group.add_command(show_map)
group.add_command(diff)
group.add_command(drift)
group.add_command(lint)
group.add_command(prove)
group.add_command(preview)
group.add_command(learn)
group.add_command(adoption)


@group.command("edges")
@platform_argument
@click.argument("service", default="")
@cluster_option
@snapshot_option
@output_option
def show_edges(
    platform: Path,
    service: str,
    cluster: str,
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    output: str,
) -> None:
    """What each service talks to, declared and implied, with the reason. SERVICE is `namespace/name`."""
    from pilothouse.policies import edges
    from pilothouse.problems import Invalid, nearest

    _, inputs = open_inputs(platform, cluster, snapshot, live, context, today)
    found = edges.of(inputs)
    if service and service not in found.by_service:
        raise Invalid(f"no service `{service}` runs on cluster {cluster}", nearest(service, found.by_service))
    shown = [edge for key in found.by_service if not service or key == service for edge in found.of(key)]
    emit({"cluster": cluster, "edges": [_edge(edge) for edge in shown]}, output, lambda: _print_edges(shown))


def _edge(edge: ServiceEdge) -> dict[str, Any]:
    return {
        "service": edge.service,
        "direction": edge.direction,
        "peer": str(edge.peer),
        "services": list(edge.others),
        "ports": edge.ports_text,
        "origin": edge.origin,
        "reason": edge.reason,
        "expires": edge.expires,
        "agreed": edge.agreed,
        "policy": edge.needs_rule,
        "place": str(edge.place),
    }


def _print_edges(shown: list[ServiceEdge]) -> None:
    rows = []
    for edge in shown:
        note = edge.reason if edge.agreed else "the other end does not list it"
        until = f" until {edge.expires}" if edge.expires else ""
        arrow = "→" if edge.direction == "egress" else "←"
        rows.append((edge.service, arrow, edge.peer, edge.ports_text, edge.origin, note + until, edge.place))
    table("", ("service", "", "peer", "ports", "origin", "reason", "written at"), rows)


@group.command("effect")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@cluster_option
@snapshot_option
@output_option
def show_effect(
    before: Path,
    after: Path,
    cluster: str,
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    output: str,
) -> None:
    """Which connections appear and vanish between the platform folders BEFORE and AFTER, on the pods of AFTER."""
    from pilothouse.policies.compare import effect

    _, new = open_inputs(after, cluster, snapshot, live, context, today)
    _, old = open_inputs(before, cluster, snapshot, live, context, today)
    found = effect.compare(old, new)
    emit(effect.as_data(found), output, lambda: _print_effect(found))


def _print_effect(found: Any) -> None:
    from pilothouse.policies.compare.groups import SIGNS

    rows = [
        (
            SIGNS[change.what],
            change.source,
            change.destination,
            f"{change.ports} ({change.note})" if change.note else change.ports,
            "now" if change.in_force else "once enforced",
            change.example,
        )
        for change in found.changes
    ]
    if rows:
        table("", ("", "from", "to", "ports", "in force", "for example"), rows)
    for item in found.isolation:
        click.echo(str(item))
    for item in found.cut:
        state = "would newly be cut" if item.is_new else "would be cut"
        click.echo(f"{item.namespace} ({item.mode}): {state} once enforced: {', '.join(item.pods)}")
    for text in found.unsupported:
        click.echo(f"not evaluated: {text}")
    click.echo(found.summary)
