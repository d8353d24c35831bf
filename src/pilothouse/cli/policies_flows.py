"""`pilothouse policies preview`, `learn` and `adoption`: what traffic that was seen says of policies."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilothouse.cli.output import Progress, emit, output_option, print_problems, table
from pilothouse.cli.policies_site import Chosen, path_argument, site_options
from pilothouse.problems import Invalid, nearest, one_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pilothouse.policies.flows import Reading
    from pilothouse.policies.flows.promotion import Candidate
    from pilothouse.policies.flows.replay import Amount, Group
    from pilothouse.workflows.policy_flows import Drafted, Previewed

_SHOWN = ("newly-denied", "mixed", "newly-allowed", "conditional", "still-denied")
"""Standings whose flows are listed, in this order; the still allowed ones are only counted."""
_LAST = "unknown"
_TITLES = {
    "newly-denied": "newly denied",
    "newly-allowed": "newly allowed",
    "still-allowed": "still allowed",
    "still-denied": "still denied",
    "conditional": "allowed for some requests only",
    "mixed": "not the same for all pods or addresses",
    "unknown": "unknown",
}


def flows_argument(command: Any) -> Any:
    """Adds the argument FLOWS (parameter `flows`): a file of observed flows, gzip or not, or - for standard input."""
    return click.argument("flows", type=click.Path(path_type=Path, allow_dash=True))(command)


def reading_of(flows: Path, progress: Progress) -> Reading:
    """The flows; what of them could not be read goes to stderr."""
    from pilothouse.workflows.policy_flows import read_flows

    found = read_flows(flows, sys.stdin.buffer, progress)
    progress.done()
    print_problems(found.problems, aside=True)
    return found


@click.command("preview")
@flows_argument
@path_argument
@click.option(
    "--before", type=click.Path(path_type=Path), default=None, help="Where the old policies are, if not in PATH."
)
@site_options
@output_option
def preview(flows: Path, path: Path, before: Path | None, chosen: Chosen, output: str) -> None:
    """What would become of observed FLOWS under the policies of PATH.

    FLOWS are Goldmane's, Hubble's, Calico's flow logs or CSV, gzip or not; - is standard input. For a platform the
    old policies are those that the snapshot holds, and the new ones those that its declarations give with every
    governed namespace enforced. For manifests the new ones count the staged policies, too.

    Exit 1 where something that went through would be denied.
    """
    from pilothouse.policies.flows.replay import as_data
    from pilothouse.reports import to_data
    from pilothouse.workflows import policy_flows
    from pilothouse.workflows.policy_sites import is_platform

    if str(flows) == str(path) == "-":
        raise Invalid("FLOWS and PATH cannot both be standard input", "name a file for one of them")
    progress = Progress()
    opened = replace(chosen, preview=False, found=False).open(path)
    older = None
    if before is not None:
        cluster = chosen.cluster if is_platform(before) else ""
        older = replace(chosen, cluster=cluster, preview=False, found=False).open(before)
    found = policy_flows.preview(reading_of(flows, progress), opened, older, progress)
    progress.done()
    print_problems(found.problems, aside=True)
    emit(
        {"before": found.before, "after": found.after, **as_data(found.replay), "problems": to_data(found.problems)},
        output,
        lambda: _print(found),
    )
    if found.replay.denied:
        raise click.exceptions.Exit(1)


def _print(found: Previewed) -> None:
    total = found.replay.total
    click.echo(f"from {found.before} to {found.after}")
    click.echo(f"{total.flows:,} flows: {connections(total.count)}, {size(total.bytes)}{_window(found.reading)}")
    click.echo("")
    for standing in (*_SHOWN, _LAST):
        groups = [group for group in found.replay.groups if group.standing.value == standing]
        for team in dict.fromkeys(group.team for group in groups):
            title = f"{_TITLES[standing]}, {f'team {team}' if team else 'of no team'}"
            print_groups(title, [group for group in groups if group.team == team])
    _print_agreement(found)
    for standing, title in _TITLES.items():
        amounts = [group.amount for group in found.replay.groups if group.standing.value == standing]
        if amounts:
            count, volume = sum(item.count for item in amounts), sum(item.bytes for item in amounts)
            click.echo(f"{title}: {connections(count)}, {size(volume)}")


def print_groups(title: str, groups: Iterable[Group]) -> None:
    """A table of flows, each with what decides, or with why nothing is known about it."""
    rows = [
        (
            group.source,
            group.destination,
            group.port,
            f"{group.amount.count:,}",
            size(group.amount.bytes),
            moment(group.amount.last_seen),
            _why(group),
        )
        for group in groups
    ]
    columns = ("from", "to", "port", "connections", "bytes", "last seen", "why")
    table(title, columns, rows, right=("connections", "bytes"), whole=("last seen",))


def _why(group: Group) -> str:
    if group.reason:
        return f"{group.reason}, for example {group.example}"
    side = f"{group.side}: " if group.side else ""
    more = f" and {len(group.rules) - 1} more" if len(group.rules) > 1 else ""
    return f"{side}{group.rules[0]}{more}" if group.rules else group.example


def _print_agreement(found: Previewed) -> None:
    agreement = found.replay.agreement
    if not agreement.compared:
        return
    click.echo(
        f"what was observed agrees with what the policies say for {agreement.agreed:,} of {agreement.compared:,} flows"
    )
    for item in agreement.disagreements:
        policies = "old" if item.before else "new"
        click.echo(f"  {item.flow}: observed {item.observed}; by the {policies} policies {item.predicted}")
    rest = agreement.differing - len(agreement.disagreements)
    if rest:
        click.echo(f"  and {rest:,} more")


def _window(reading: Reading) -> str:
    if reading.first_seen is None and reading.last_seen is None:
        return ""
    first = reading.first_seen if reading.first_seen is not None else reading.last_seen
    return f", seen from {moment(first)} to {moment(reading.last_seen)}"


@click.command("learn")
@flows_argument
@path_argument
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=None, help="Write whole documents there."
)
@click.option("--write", is_flag=True, help="Write the lines into the documents of PATH.")
@site_options
@output_option
def learn(flows: Path, path: Path, out: Path | None, write: bool, chosen: Chosen, output: str) -> None:
    """Draft the declarations that are missing for observed FLOWS, as a patch of the platform PATH.

    Each line says in a comment how often it was seen, and when last; what is denied already asks for none. Nothing is
    changed in PATH without --write. A draft says what was seen, not what is right: look at every line.
    """
    from pilothouse.cli.opening import day, where
    from pilothouse.workflows import policy_flows

    if write:
        if out is not None:
            raise Invalid("--out and --write both say where to write", "give one of them")
        out = path
    progress = Progress()
    opened = chosen.open(path)
    clusters = (chosen.cluster,) if chosen.cluster or chosen.snapshot or chosen.live else ()
    found = policy_flows.draft(
        reading_of(flows, progress),
        opened,
        day(chosen.today),
        where(chosen.snapshot, chosen.live, chosen.context, clusters),
        progress,
    )
    progress.done()
    if out is not None:
        policy_flows.write(found.files, out)
    emit(_draft_data(found), output, lambda: _print_draft(found, out))


def _draft_data(found: Drafted) -> dict[str, Any]:
    from pilothouse.policies.explain.declare import edge_data
    from pilothouse.policies.flows.replay import amount_data
    from pilothouse.reports import to_data

    def line_data(line: Any) -> dict[str, Any]:
        edge = edge_data(line.edge, line.direction)
        return {"service": line.service, "direction": line.direction, "edge": edge, **amount_data(line.amount)}

    return {
        "lines": [line_data(line) for line in found.learnt.lines],
        "elsewhere": [line_data(line) for line in found.elsewhere],
        "services": [service.key for service in found.learnt.drafts],
        "left": [
            {"reason": item.reason, "example": item.example, **amount_data(item.amount)} for item in found.learnt.left
        ],
        "unknown": amount_data(found.learnt.unknown),
        "total": amount_data(found.total),
        "denied_before": amount_data(found.denied_before),
        "denied_after": amount_data(found.denied_after),
        "files": found.files,
        "patch": found.patch,
        "problems": to_data(found.problems),
    }


def _print_draft(found: Drafted, out: Path | None) -> None:
    """The patch alone on stdout, everything else on stderr: `pilothouse policies learn … | git apply`."""

    def aside(text: str) -> None:
        click.echo(text, err=True)

    click.echo(found.patch, nl=False)
    if not found.patch:
        aside("nothing to add: the declarations allow all that went through")
    for line in found.elsewhere:
        aside(f"not written, because this platform only extends the document of {line.service}: {line.edge.peer}")
    for item in found.learnt.left:
        aside(f"no line for {connections(item.amount.count)}: {item.reason}; for example {item.example}")
    if found.learnt.unknown.count:
        aside(f"not looked at: {connections(found.learnt.unknown.count)} with an end that is not known")
    print_problems(found.problems, aside=True)
    aside(f"denied without the draft: {_share(found.denied_before, found.total)}")
    aside(f"denied with it: {_share(found.denied_after, found.total)}")
    if out is not None:
        aside(f"written to {out}: {', '.join(found.files)}" if found.files else f"nothing written to {out}")


def _share(part: Amount, whole: Amount) -> str:
    def share(one: int, all_of: int) -> str:
        return f" ({one / all_of:.2%})" if all_of else ""

    count, volume = share(part.count, whole.count), share(part.bytes, whole.bytes)
    return f"{connections(part.count)}{count}, {size(part.bytes)}{volume}"


@click.command("adoption")
@path_argument
@click.option(
    "--flows",
    multiple=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="Observed flows; may be given more than once, for each day say.",
)
@click.option(
    "--days", type=click.IntRange(min=0), default=7, show_default=True, help="Days that flows must cover for `ready`."
)
@click.option(
    "--min-flows",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Connections of a namespace that must have been seen for `ready`.",
)
@click.option("--namespace", "only", multiple=True, help="This one alone; may be given more than once.")
@click.option("--write", is_flag=True, help="Enforce those that are ready, in the Cluster document of PATH.")
@site_options
@output_option
def adoption(
    path: Path,
    flows: tuple[Path, ...],
    days: int,
    min_flows: int,
    only: tuple[str, ...],
    write: bool,
    chosen: Chosen,
    output: str,
) -> None:
    """How far each governed namespace of the platform PATH is, and whether it could be enforced.

    A namespace is ready when every pod in it is declared, and flows over enough days hold nothing that it would deny.
    """
    from pilothouse.policies.flows.promotion import as_data, candidates
    from pilothouse.workflows import policy_flows

    progress = Progress()
    opened = chosen.open(path)
    inputs = opened.site.inputs
    if inputs is None:
        raise Invalid("only a platform has namespaces to adopt", "name the platform's folder, with --cluster")
    readings = [reading_of(each, progress).flows for each in flows]
    progress("judging the flows")
    found = candidates(inputs, readings, days, min_flows)
    known = [item.namespace for item in found]
    for name in only:
        if name not in known:
            raise Invalid(f"no governed namespace is called {name}", nearest(name, known) or one_of(known))
    found = tuple(item for item in found if item.namespace in only or not only)
    progress.done()
    place = str(inputs.cluster.place)
    ready = [item.namespace for item in found if item.ready and item.line] if write else []
    policy_flows.write(policy_flows.enforced(opened, ready) if ready else {}, path)
    data = {"cluster": inputs.cluster.name, "document": place, "days": days, "namespaces": as_data(found)}
    emit({**data, "written": ready}, output, lambda: _print_adoption(found, place, ready if write else None))


def _print_adoption(found: Iterable[Candidate], place: str, written: Sequence[str] | None) -> None:
    """`written` are the namespaces that were enforced just now; None where that was not asked for."""
    rows = [
        (
            item.namespace,
            item.mode,
            len(item.undeclared),
            item.days,
            f"{item.seen.count:,}",
            f"{item.total.count:,}",
            item.verdict,
        )
        for item in found
    ]
    numbers = ("undeclared", "days", "seen", "denied")
    table("", ("namespace", "mode", *numbers, "state"), rows, right=numbers)
    for item in found:
        if item.undeclared:
            click.echo(f"{item.namespace}: nobody declares {', '.join(item.undeclared)}")
        for each in item.denied:
            amount = connections(each.amount.count)
            click.echo(f"{item.namespace}: {each.source} → {each.destination} at {each.port}, {amount}; {each.rule}")
        if item.ready and item.line and written is None:
            click.echo(f"{item.namespace}: to enforce it, write in {place}: {item.line}")
    if written:
        click.echo(f"enforced in {place.partition(':')[0]}: {', '.join(written)}")
    elif written is not None:
        click.echo("nothing written: no namespace is ready that is not enforced already")


def connections(count: int) -> str:
    return f"{count:,} connection{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes in decimal units; 0 is what most observers write where they do not count them."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    raise AssertionError("the largest unit takes all")


def moment(seconds: float | None) -> str:
    """Unix seconds as UTC, to the minute."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
