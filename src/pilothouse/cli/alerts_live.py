"""The commands of `pilothouse alerts` that ask real servers: firing, silences, loaded, silence, unsilence."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilothouse.cli.opening import cluster_option, open_inputs, platform_argument, snapshot_option
from pilothouse.cli.output import emit, output_option, table
from pilothouse.reports import plural

if TYPE_CHECKING:
    from pilothouse.alerts.live import Board
    from pilothouse.platform.model import Cluster, Platform
    from pilothouse.workflows.firing import Firing
    from pilothouse.workflows.loaded import LoadedRouting, LoadedRules


def declared(platform: Path, cluster: str) -> tuple[Platform, Cluster]:
    """The platform and one cluster of it; no snapshot is needed to ask its servers."""
    from pilothouse.workflows.rendering import open_platform

    opened = open_platform(platform)
    opened.clusters((cluster,))
    return opened.loaded.platform, opened.loaded.platform.clusters[cluster]


def warn(board: Board) -> None:
    """Say on stderr which Alertmanagers did not answer."""
    for url, reason in board.reasons.items():
        click.echo(f"pilothouse: {url} is not in this: {reason}", err=True)


@click.command()
@platform_argument
@cluster_option
@click.option("--team", "-t", default="", help="Only the alerts of this team.")
@click.option("--severity", "-s", type=click.Choice(["page", "ticket", "info"]), help="Only alerts of this severity.")
@click.option("--told", is_flag=True, help="Only alerts that nothing holds back.")
@output_option
def firing(platform: Path, cluster: str, team: str, severity: str | None, told: bool, output: str) -> None:
    """What fires now: whose it is, since when, who gets it, and what holds it back."""
    from pilothouse.alerts.live import Held
    from pilothouse.workflows import firing as live
    from pilothouse.workflows import routing

    known, target = declared(platform, cluster)
    now = datetime.now(UTC)
    if team:
        routing.oncall(known, team, now)  # refuses a team that is not declared
    board = live.board_of(target)
    chosen = [
        alert
        for alert in board.alerts
        if (not team or alert.team == team)
        and (not severity or alert.severity == severity)
        and (not told or alert.held is Held.NO)
    ]
    found = live.firing(board, known, now, chosen)
    data = {
        "cluster": cluster,
        "at": now,
        "alerts": [live.as_data(item) for item in found],
        "reasons": board.reasons,
    }
    emit(data, output, lambda: _print_firing(found, now))
    warn(board)


def _print_firing(found: Iterable[Firing], now: datetime) -> None:
    rows = [
        (
            item.alert.severity,
            item.alert.name,
            item.alert.service,
            item.alert.team,
            _ago(item.alert.starts_at, now),
            ", ".join(item.alert.receivers),
            item.person,
            item.why or "told",
        )
        for item in found
    ]
    if rows:
        table("", ["severity", "alert", "service", "team", "since", "receivers", "on call", "state"], rows)
    click.echo(f"{plural(len(rows), 'alert')} firing")


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return ""
    minutes = int((now - moment).total_seconds() // 60)
    for size, word in ((1440, "d"), (60, "h")):
        if minutes >= 2 * size:
            return f"{minutes // size} {word}"
    return f"{max(minutes, 0)} min"


@click.command()
@platform_argument
@cluster_option
@output_option
def silences(platform: Path, cluster: str, output: str) -> None:
    """The silences that hold now or will."""
    from pilothouse.workflows import firing as live

    _, target = declared(platform, cluster)
    board = live.board_of(target)
    found = live.silences_in_force(board)

    def human() -> None:
        rows = [
            (
                item.id,
                item.state.value,
                f"{item.ends_at:%a %Y-%m-%d %H:%M} UTC",
                item.created_by,
                _matchers(item),
                item.comment,
            )
            for item in found
        ]
        if rows:
            table("", ["id", "state", "until", "by", "matchers", "reason"], rows, whole=["id"])
        click.echo(plural(len(rows), "silence"))

    emit({"silences": [live.silence_data(item) for item in found], "reasons": board.reasons}, output, human)
    warn(board)


def _matchers(item: Any) -> str:
    from pilothouse.alerts.routing.model import matchers_text

    return matchers_text(item.matchers)


# ---------------------------------------------------------------- loaded


@click.command()
@platform_argument
@cluster_option
@snapshot_option
@output_option
def loaded(
    platform: Path,
    cluster: str,
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    output: str,
) -> None:
    """Where what the servers have loaded differs in meaning from what is rendered; ends with 1 where it does."""
    from pilothouse.clients.alertmanager import Alertmanagers
    from pilothouse.workflows import loaded as looking

    _, inputs = open_inputs(platform, cluster, snapshot, live, context, today)
    servers = Alertmanagers(inputs.cluster.servers.alertmanagers)
    routing = looking.loaded_routing(looking.expected_routing(inputs), servers)
    rules = looking.loaded_rules(inputs)
    data = {"alertmanagers": routing, "prometheus": rules}
    emit(data, output, lambda: _print_loaded(routing, rules))
    if any(item.reason or item.differences for item in routing) or any(
        item.reason or item.rules or item.config or item.reload_failed for item in rules
    ):
        raise click.exceptions.Exit(1)


def _print_loaded(routing: tuple[LoadedRouting, ...], rules: tuple[LoadedRules, ...]) -> None:
    for item in routing:
        _head(f"Alertmanager {item.server}", item.version, item.reason)
        for difference in item.differences:
            click.echo(f"  {difference}" + (f"  (concerns {', '.join(difference.teams)})" if difference.teams else ""))
        if not item.reason and not item.differences:
            click.echo("  has loaded what is rendered")
    for server in rules:
        _head(f"Prometheus {server.side} {server.server}", server.version, server.reason)
        if server.reload_failed:
            click.echo("  its last reload failed: it runs with an older configuration")
        for line in (*server.config, *map(str, server.rules)):
            click.echo(f"  {line}")
        if not (server.reason or server.config or server.rules):
            click.echo("  has loaded what is rendered")
    if not routing and not rules:
        click.echo("The Cluster document names neither Alertmanager nor Prometheus.")


def _head(name: str, version: str, reason: str) -> None:
    click.echo(click.style(name, bold=True) + (f", {version}" if version else ""))
    if reason:
        click.echo(f"  nothing is known of it: {reason}")


# ---------------------------------------------------------------- silence


@click.command()
@click.argument("matchers", nargs=-1, required=True, metavar="NAME=VALUE...")
@cluster_option
@click.option("--for", "length", default="2h", show_default=True, help="How long from now, such as 45m, 2h, 3d.")
@click.option("--comment", "-m", required=True, help="Why, and what is done about it meanwhile.")
@output_option
def silence(matchers: tuple[str, ...], cluster: str, length: str, comment: str, output: str) -> None:
    """Hold alerts back that have all these labels, through the portal: it asks whether you may, and writes it down.

    \b
    pilothouse alerts silence --cluster prod --for 2h -m 'index is rebuilt' team=payments alertname=SqlSlow
    """
    from pilothouse.cli.access import duration, portal, wallet

    text = "{" + ",".join(_matcher(word) for word in matchers) + "}"
    made = portal(wallet()).silence(cluster, text, duration(length), comment)
    emit(made, output, lambda: click.echo(f"{made['id']} holds {text} back until {made['endsAt']}."))


def _matcher(word: str) -> str:
    """`team=payments`, `alertname=~Sql.+`, or a matcher with its value quoted already."""
    import re

    from pilothouse.problems import Invalid

    found = re.fullmatch(r"([^=!~\s]+)(=~|!=|!~|=)(.*)", word, re.DOTALL)
    if found is None:
        raise Invalid(f"{word!r} is no matcher", "write team=payments, or alertname=~'Sql.+'")
    name, sign, value = found.groups()
    if value.startswith('"'):
        return word
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{name}{sign}"{escaped}"'


@click.command()
@click.argument("id")
@cluster_option
@output_option
def unsilence(id: str, cluster: str, output: str) -> None:
    """End the silence ID now, through the portal."""
    from pilothouse.cli.access import portal, wallet

    ended = portal(wallet()).unsilence(cluster, id)
    emit(ended, output, lambda: click.echo(f"Ended {ended['id']}."))


COMMANDS = (firing, silences, loaded, silence, unsilence)
