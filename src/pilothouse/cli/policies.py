"""`pilothouse policies`: what services talk to, what a change does, and whether one connection is allowed."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilothouse.cli.opening import cluster_option, open_inputs, platform_argument, snapshot_option
from pilothouse.cli.output import emit, output_option, table

if TYPE_CHECKING:
    from pilothouse.policies.edges import ServiceEdge


@click.group()
def group() -> None:
    """Network policies: edges, effect of a change, single connections."""


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
    from pilothouse.policies import effect

    _, new = open_inputs(after, cluster, snapshot, live, context, today)
    _, old = open_inputs(before, cluster, snapshot, live, context, today)
    found = effect.compare(old, new)
    emit(effect.as_data(found), output, lambda: _print_effect(found))


def _print_effect(found: Any) -> None:
    rows = [
        (
            "+" if change.what == "appears" else "-",
            change.source,
            change.destination,
            change.ports,
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


@group.command("can")
@platform_argument
@click.argument("source")
@click.argument("destination")
@click.argument("port")
@click.option("--preview", is_flag=True, help="Count staged and withheld policies as if they were enforced.")
@cluster_option
@snapshot_option
@output_option
def can(
    platform: Path,
    source: str,
    destination: str,
    port: str,
    preview: bool,
    cluster: str,
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    output: str,
) -> None:
    """Whether SOURCE reaches DESTINATION at PORT (`8080` or `53/UDP`), and which policies decide.

    Each end is a service or pod as `namespace/name`, or an IP address. The port is the container's. Exit 1 unless
    allowed.
    """
    from pilothouse.policies import question

    number, protocol = _port(port)
    _, inputs = open_inputs(platform, cluster, snapshot, live, context, today)
    answer = question.ask(inputs, source, destination, protocol, number, preview=preview)
    emit(question.as_data(answer), output, lambda: _print_answer(answer))
    if answer.verdict != "allow":
        raise click.exceptions.Exit(1)


def _port(text: str) -> tuple[int, str]:
    from pilothouse.problems import Invalid

    number, _, protocol = text.partition("/")
    protocol = protocol.upper() or "TCP"
    if not number.isdigit() or not 0 < int(number) < 65536 or protocol not in ("TCP", "UDP", "SCTP"):
        raise Invalid(f"`{text}` is no port", "write a number such as 8080, or 53/UDP")
    return int(number), protocol


def _print_answer(answer: Any) -> None:
    rows = [
        (pair.source, pair.destination, "allow" if pair.allowed else "deny", pair.egress, pair.ingress)
        for pair in answer.pairs
    ]
    table("", ("from", "to", "verdict", "egress decided by", "ingress decided by"), rows)
    for text in answer.unsupported:
        click.echo(f"not evaluated: {text}")
    click.echo(answer.verdict)
