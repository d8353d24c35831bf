"""`pilothouse alerts`: who is told, when and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilothouse.cli.opening import cluster_option, open_inputs, platform_argument, snapshot_option
from pilothouse.cli.output import emit, exit_for, output_option, print_problems, table
from pilothouse.problems import Invalid
from pilothouse.reports import plural

if TYPE_CHECKING:
    from datetime import date

    from pilothouse.alerts.rotation import OnCall
    from pilothouse.alerts.routing.model import Routing
    from pilothouse.alerts.routing.walk import Step
    from pilothouse.inputs import Inputs
    from pilothouse.source import Source
    from pilothouse.workflows.routing import Answer, DeclaredAlert

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def group() -> None:
    """Alerts: who is told, when and why."""


def at_options(command: Command) -> Command:
    """Adds `--at` and `--timezone`."""
    command = click.option(
        "--timezone", default="UTC", show_default=True, help="Zone of a time that names none, such as Europe/Berlin."
    )(command)
    return click.option(
        "--at", default="now", show_default=True, help="The moment: now, +90m, 'sunday 03:00', 2026-11-22T03:00."
    )(command)


def _moment(at: str, timezone: str) -> datetime:
    from pilothouse.alerts.when import parse_moment

    return parse_moment(at, datetime.now(UTC), timezone)


# ---------------------------------------------------------------- route


@group.command()
@click.argument("words", nargs=-1, metavar="[PLATFORM] NAME=VALUE...")
@click.option("--cluster", "-c", default="", help="Name of the cluster whose derived routing is asked.")
@click.option(
    "--config", type=click.Path(path_type=Path), default=None, help="Ask this alertmanager.yml instead of a platform."
)
@click.option("--alertmanager", default="", help="Release that reads --config, such as 0.27.", show_default="latest")
@click.option("--live", is_flag=True, help="Ask the cluster's Alertmanagers what really holds it back now.")
@at_options
@output_option
def route(
    words: tuple[str, ...],
    cluster: str,
    config: Path | None,
    alertmanager: str,
    live: bool,
    at: str,
    timezone: str,
    output: str,
) -> None:
    """Which routes an alert with these labels takes, and who is called at that moment.

    \b
    pilothouse alerts route examples/bank -c prod team=payments severity=page --at 'sunday 03:00'
    pilothouse alerts route --config alertmanager.yml severity=critical
    """
    from pilothouse import alerts
    from pilothouse.workflows import routing

    labels = routing.labels_of(word for word in words if "=" in word)
    inputs = _asked_platform([word for word in words if "=" not in word], cluster, config)
    moment = _moment(at, timezone)
    if config is not None:
        tree = routing.tree_of_config(_source(config), alertmanager)
    elif inputs is not None:
        tree = routing.tree_of(inputs)
    if tree.routing is None:
        print_problems(tree.problems, output)
        exit_for(tree.problems)
    answer = routing.explain_route(
        tree,
        labels,
        moment,
        inputs.platform if inputs else None,
        alerts.rules(inputs) if inputs and config is None else (),
        str(config) if config else "alertmanager/alertmanager.yaml",
    )
    held = _held_now(inputs, answer.explanation.routing, labels, at) if live else None
    data = routing.as_data(answer) | ({"heldNow": held} if held is not None else {})
    emit(data, output, lambda: _print_answer(answer, held))
    if output == "text":
        print_problems(tree.problems)
    exit_for(tree.problems)


def _held_now(inputs: Inputs | None, routing: Routing, labels: dict[str, str], at: str) -> list[str]:
    """What the Alertmanagers hold such an alert back with at this moment, a line each."""
    from pilothouse.cli.alerts_live import warn
    from pilothouse.workflows import firing

    if inputs is None or at != "now":
        raise Invalid("--live is about a cluster and about now", "name a platform and --cluster, and leave --at out")
    board = firing.board_of(inputs.cluster)
    warn(board)
    return firing.held_lines(firing.held_now(board, routing, labels))


def _asked_platform(folders: list[str], cluster: str, config: Path | None) -> Inputs | None:
    """The platform's inputs, or None where only a configuration is asked."""
    if len(folders) > 1:
        raise Invalid(f"{folders[1]!r} is no label", "write labels as name=value, after one platform folder")
    if folders and cluster:
        return open_inputs(Path(folders[0]), cluster)[1]
    if config is None or folders:
        missing = "--cluster is missing" if folders else "there is no routing to ask"
        raise Invalid(missing, "name a platform folder and --cluster, or an alertmanager.yml with --config")
    return None


def _source(path: Path) -> Source:
    from pilothouse.files.reading import read_text
    from pilothouse.problems import Problem

    found = read_text(path, str(path))
    if isinstance(found, Problem):
        raise Invalid(f"{path} {found.message}", "name a readable alertmanager.yml", (found,))
    return found


MARKS = {"matched": "✓", "failed": "✗", "skipped": "·", "unreached": "·"}


def _print_answer(answer: Answer, held: list[str] | None = None) -> None:
    from pilothouse.workflows.routing import labels_text, person_text, state_text, timers_text

    explanation = answer.explanation
    click.echo(f"Alert {labels_text(explanation.labels) or '(no labels)'} at {explanation.at:%a %Y-%m-%d %H:%M} UTC\n")
    for step in explanation.steps:
        if step.verdict.value != "unreached":
            click.echo(_step_line(step))
    click.echo()
    for number, recipient in enumerate(answer.recipients, 1):
        delivery = recipient.delivery
        channels = ", ".join(f"{kind} {target}".strip() for kind, target in delivery.receiver.channels)
        click.echo(f"Receiver {number}: {delivery.receiver.name} ({channels or 'no channel: only shown'})")
        click.echo(f"  state   {state_text(delivery)}")
        click.echo(f"  person  {person_text(recipient)}")
        click.echo(f"  group   {delivery.group_key}")
        click.echo(f"  timers  {timers_text(delivery)}")
    for item in explanation.inhibitions:
        sources = answer.inhibitors[str(item)]
        click.echo(f"Inhibition {item.rule.name or ''}".rstrip() + f": {item}")
        if sources:
            click.echo(f"  declared alerts that could be the source: {_some(sources)}")
    if held is not None:
        click.echo("\nRight now " + ("nothing holds it back." if not held else "it is held back:"))
        for line in held:
            click.echo(f"  {line}")
    click.echo(f"\nThe same from Alertmanager's own tool:\n  {answer.amtool}")


def _some(names: tuple[str, ...], limit: int = 6) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _step_line(step: Step) -> str:
    matchers = ", ".join(str(matcher) for matcher in step.route.matchers) or ("everything" if step.parent else "root")
    arrow = f" → {step.settings.receiver}" if step.final else ""
    return f"{'  ' * step.depth}{MARKS[step.verdict.value]} {matchers}{arrow}\n{'  ' * step.depth}    {step.reason}"


# ---------------------------------------------------------------- list


@group.command("list")
@platform_argument
@cluster_option
@click.option("--team", "-t", default="", help="Only the alerts of this team.")
@snapshot_option
@output_option
def list_alerts(
    platform: Path,
    cluster: str,
    team: str,
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    output: str,
) -> None:
    """Every alert that can fire on a cluster: whose it is, how loud, and where it ends."""
    from pilothouse import alerts
    from pilothouse.workflows import routing

    _, inputs = open_inputs(platform, cluster, snapshot, live, context, today)
    if team:
        routing.oncall(inputs.platform, team, datetime.now(UTC))  # refuses a team that is not declared
    derived = alerts.derive(inputs)
    found = [
        item
        for item in routing.declared_alerts(routing.tree_of(inputs), derived.rules)
        if not team or item.team == team
    ]
    emit([_alert_data(item) for item in found], output, lambda: _print_alerts(found))
    if output == "text":
        print_problems(derived.problems)
    exit_for(derived.problems)


def _alert_data(item: DeclaredAlert) -> dict[str, Any]:
    return {
        "alert": item.rule.alert,
        "team": item.team,
        "severity": item.severity,
        "service": item.rule.service,
        "receivers": list(item.receivers),
        "for": item.rule.for_seconds,
        "labels": dict(item.labels),
        "summary": item.summary,
        "runbook": item.rule.annotations.get("runbook_url", ""),
        "declared": str(item.rule.place),
    }


def _print_alerts(found: Iterable[DeclaredAlert]) -> None:
    rows = [
        (
            item.team,
            item.rule.alert,
            item.severity,
            item.rule.service or "(standard)",
            ", ".join(item.receivers),
            item.rule.place,
        )
        for item in found
    ]
    table("", ["team", "alert", "severity", "service", "ends at", "declared"], rows)
    click.echo(plural(len(rows), "alert"))


# ---------------------------------------------------------------- oncall


@group.command()
@platform_argument
@click.argument("team", required=False, default="")
@at_options
@output_option
def oncall(platform: Path, team: str, at: str, timezone: str, output: str) -> None:
    """Who of TEAM (or of every team) is on call at that moment, and who follows."""
    from pilothouse.workflows import routing
    from pilothouse.workflows.rendering import open_platform

    declared = open_platform(platform).loaded.platform
    moment = _moment(at, timezone)
    found = [routing.oncall(declared, name, moment) for name in ([team] if team else declared.teams)]
    emit([_oncall_data(item) for item in found], output, lambda: _print_oncall(found, detailed=bool(team)))


def _oncall_data(item: OnCall) -> dict[str, Any]:
    return {
        "team": item.team,
        "user": item.shift.user if item.shift else None,
        "person": item.person or None,
        "email": item.member.email if item.member else None,
        "from": item.shift.begin.isoformat() if item.shift else None,
        "until": item.shift.end.isoformat() if item.shift else None,
        "next": [{"user": shift.user, "from": shift.begin.isoformat()} for shift in item.following],
        "reason": item.reason,
    }


def _print_oncall(found: list[OnCall], detailed: bool) -> None:
    rows = [
        (
            item.team,
            item.person or "nobody",
            item.member.email if item.member else "",
            f"{item.shift.end:%a %Y-%m-%d %H:%M} UTC" if item.shift else "",
            item.reason,
        )
        for item in found
    ]
    table("", ["team", "on call", "e-mail", "until", "note"], rows)
    if detailed:
        for shift in found[0].following:
            click.echo(f"from {shift.begin:%a %Y-%m-%d %H:%M} UTC: {shift.user}")


def _add_live() -> None:
    from pilothouse.cli import alerts_live

    for command in alerts_live.COMMANDS:
        group.add_command(command)


_add_live()
