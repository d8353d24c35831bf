"""`pilothouse logs`: what the pipeline is sized to, what happens to a service's records, and what would lose some."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import click

from pilothouse.cli import log_store
from pilothouse.cli.opening import cluster_option, open_inputs, platform_argument, snapshot_option
from pilothouse.cli.output import emit, exit_for, output_option, print_problems, report_option, table


@click.group()
def group() -> None:
    """The log pipeline: Fluentd and Elasticsearch."""


for _command in (log_store.plan, log_store.apply, log_store.status):
    group.add_command(_command)


@group.command()
@platform_argument
@cluster_option
@snapshot_option
@output_option
def sizing(
    platform: Path, cluster: str, snapshot: Path | None, live: bool, context: str, today: date | None, output: str
) -> None:
    """Show the buffers, threads and timeouts of PLATFORM's agents, each with the formula it follows from."""
    from pilothouse.collectors.logging import analyse

    _, inputs = open_inputs(platform, cluster, snapshot, live, context, today)
    analysis = analyse(inputs)
    sizes = analysis.sizing
    if sizes is None:
        print_problems(analysis.problems)
        exit_for(analysis.problems)
        return
    data = {"cluster": cluster, "figures": sizes.figures, "problems": analysis.problems}

    def human() -> None:
        rows = [(figure.name, figure.value, figure.formula) for figure in sizes.figures]
        table(f"Log pipeline of {cluster}", ["figure", "value", "follows from"], rows)
        print_problems(analysis.problems)

    emit(data, output, human)
    exit_for(analysis.problems)


@group.command()
@platform_argument
@click.argument("service")
@cluster_option
@snapshot_option
@output_option
def pipeline(
    platform: Path,
    service: str,
    cluster: str,
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    output: str,
) -> None:
    """Show what happens to a record of SERVICE (namespace/name): parse, drop, redact, index, retention."""
    from pilothouse.collectors.logging import analyse, explain
    from pilothouse.problems import Invalid, nearest, one_of

    _, inputs = open_inputs(platform, cluster, snapshot, live, context, today)
    steps = explain(inputs, service)
    if not steps:
        problems = analyse(inputs).problems
        print_problems(problems)
        exit_for(problems)
        known = [item.key for item in inputs.platform.services_on(cluster)]
        raise Invalid(f"no service {service} on {cluster}", nearest(service, known) or one_of(known))

    def human() -> None:
        rows = [(step.name, step.what, step.why) for step in steps]
        table(f"A record of {service} on {cluster}", ["step", "what happens", "because of"], rows)

    emit({"service": service, "cluster": cluster, "steps": steps}, output, human)


@group.command()
@click.argument("file", type=click.Path(path_type=Path))
@report_option
def lint(file: Path, output: str) -> None:
    """Find what loses or multiplies records in FILE, a Fluentd configuration of anybody's.

    Included files are not followed: give them one by one. Exit code 1 when records would be lost.
    """
    from pilothouse.collectors import logging
    from pilothouse.problems import Invalid
    from pilothouse.source import MAX_BYTES, Source

    try:
        raw = file.read_bytes()
    except OSError as failure:
        raise Invalid(f"cannot read {file}: {failure.strerror}", "name a Fluentd configuration file") from failure
    if len(raw) > MAX_BYTES:
        raise Invalid(f"{file} has {len(raw):,} bytes, more than a configuration may", "name a configuration file")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as failure:
        raise Invalid(f"{file} is no text in UTF-8", "name a Fluentd configuration file") from failure
    root, problems = logging.parse(Source(str(file), text))
    problems = (*problems, *logging.lint(root))
    print_problems(problems, output)
    if output == "text" and not problems:
        click.echo(f"{file}: nothing that loses records")
    exit_for(problems)
