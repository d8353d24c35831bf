"""`pilothouse metrics`: where rules run, what the global reads from the leaves, how a service is scraped."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilothouse.cli import opening
from pilothouse.cli.output import emit, output_option, plain, table
from pilothouse.reports import plural

if TYPE_CHECKING:
    from pilothouse.collectors.metrics.health import ServerHealth


@click.group(help="Prometheus: scrape jobs, rules, federation.")
def group() -> None:
    """Each command explains one cluster."""


@group.command(help="Every rule: on which side it runs, and why.")
@opening.platform_argument
@opening.cluster_option
@opening.snapshot_option
@click.option("--side", type=click.Choice(["leaf", "leaf + global", "global"]), help="Only rules of that verdict.")
@click.option("--expressions", is_flag=True, help="Also show what each side evaluates.")
@output_option
def rules(platform: Path, cluster: str, side: str | None, expressions: bool, output: str, **where: Any) -> None:
    from pilothouse.workflows import metrics

    plan = metrics.plan(_inputs(platform, cluster, **where))
    placed = [item for item in plan.placed if side in (None, item.side.value)]
    data = [
        {
            "group": item.rule.group,
            "name": item.rule.name,
            "kind": "alert" if item.rule.alert else "record",
            "owner": item.rule.owner,
            "service": item.rule.service,
            "side": item.side,
            "reason": item.reason,
            "expr": item.rule.expr,
            "leaf": [{"record": rule.name, "labels": rule.labels, "expr": rule.expr} for rule in item.on_leaves],
            "global": item.on_global.expr if item.on_global else None,
        }
        for item in placed
    ]

    def human() -> None:
        columns = ["group", "rule", "runs on", "because"]
        table("", columns, [(i.rule.group, i.rule.name, i.side.value, i.reason) for i in placed])
        if expressions:
            for item in placed:
                click.echo(f"{item.rule.name}")
                for rule in item.on_leaves:
                    click.echo(f"  leaf    {_oneline(rule.expr)}")
                if item.on_global:
                    click.echo(f"  global  {_oneline(item.on_global.expr)}")

    emit(data, output, human)


@group.command(help="What the global reads from the leaves (match[]), and who needs it.")
@opening.platform_argument
@opening.cluster_option
@opening.snapshot_option
@output_option
def federation(platform: Path, cluster: str, output: str, **where: Any) -> None:
    from pilothouse.workflows import metrics

    plan = metrics.plan(_inputs(platform, cluster, **where))
    emit(
        plan.matches,
        output,
        lambda: table("", ["match[]", "needed by"], [(m.selector, _short(m.needed_by)) for m in plan.matches]),
    )


@group.command(help="How a service (namespace/name) is scraped, and on which leaf each pod lies.")
@opening.platform_argument
@click.argument("service")
@opening.cluster_option
@opening.snapshot_option
@output_option
def targets(platform: Path, service: str, cluster: str, output: str, **where: Any) -> None:
    from pilothouse.promql import format_duration
    from pilothouse.workflows import metrics

    found = metrics.targets_of(_inputs(platform, cluster, **where), service)

    def human() -> None:
        click.echo(f"job       {found.job}")
        click.echo(f"port      {found.port}, path {found.path}")
        click.echo(f"interval  {format_duration(found.interval)}, timeout {format_duration(found.timeout)}")
        click.echo(f"limit     {found.sample_limit:,} series a scrape: above it the whole scrape fails")
        rows = [(t.pod, t.node, "-" if t.leaf is None else t.leaf, t.why) for t in found.targets]
        table(
            f"{plural(len(rows), 'pod')} over {plural(found.leaves, 'leaf', 'leaves')}",
            ["pod", "node", "leaf", "not scraped because"],
            rows,
        )

    emit(found, output, human)


@group.command(help="What each leaf is expected to carry.")
@opening.platform_argument
@opening.cluster_option
@opening.snapshot_option
@output_option
def shards(platform: Path, cluster: str, output: str, **where: Any) -> None:
    from pilothouse.workflows import metrics

    leaves = metrics.plan(_inputs(platform, cluster, **where)).leaves
    data = [
        {
            "leaf": leaf.number,
            "buckets": leaf.buckets,
            "nodes": leaf.nodes,
            "pods": leaf.pods,
            "series": leaf.series,
            "memory_expected": leaf.memory[0],
            "memory_limit": leaf.memory[1],
        }
        for leaf in leaves
    ]

    def human() -> None:
        columns = ["leaf", "buckets", "nodes", "scraped pods", "series", "memory", "memory limit"]
        rows = [
            (i.number, i.buckets, i.nodes, i.pods, f"{i.series:,}", _gigabytes(i.memory[0]), _gigabytes(i.memory[1]))
            for i in leaves
        ]
        table("", columns, rows, right=columns)

    emit(data, output, human)


@group.command(help="How the cluster's Prometheus servers really are; ends with 1 where something is wrong.")
@opening.platform_argument
@opening.cluster_option
@output_option
def status(platform: Path, cluster: str, output: str) -> None:
    from pilothouse.cli.alerts_live import declared
    from pilothouse.workflows import metrics

    known, target = declared(platform, cluster)
    found = metrics.status(known, target)

    def human() -> None:
        rows = [
            (i.side, i.url, i.version, f"{i.series:,}" if not i.reason else "", _condition(i)) for i in found.servers
        ]
        table("", ["server", "address", "version", "series", "state"], rows, right=["series"])
        for line in found.missing:
            click.echo(f"Missing: {line}")
        if found.down:
            columns = ["owner", "job", "instance", "pod", "on", "because"]
            rows_ = [(i.owner, i.job, i.instance, i.pod, i.server, i.error) for i in found.down]
            table(f"{plural(len(found.down), 'target')} down", columns, rows_)
        if found.failing:
            columns = ["owner", "rule", "group", "on", "because"]
            failing = [(i.owner, i.rule, i.group, i.server, _oneline(i.error)) for i in found.failing]
            table(f"{plural(len(found.failing), 'rule')} failing", columns, failing)
        if found.biggest:
            biggest = [(i.owner, i.job, f"{i.series:,}") for i in found.biggest]
            table("Most series", ["owner", "job", "series"], biggest, right=["series"])
        if found.is_well:
            click.echo("Every target answers, and every rule evaluates.")

    emit({**plain(found), "well": found.is_well}, output, human)
    if not found.is_well:
        raise click.exceptions.Exit(1)


def _condition(server: ServerHealth) -> str:
    if server.reason:
        return server.reason
    return "its last reload failed: an older configuration runs" if server.reload_failed else "ok"


def _inputs(platform: Path, cluster: str, snapshot: Path | None, live: bool, context: str, today: date | None) -> Any:
    return opening.open_inputs(platform, cluster, snapshot, live, context, today)[1]


def _oneline(expr: str) -> str:
    return " ".join(expr.split())


def _short(users: tuple[str, ...], most: int = 3) -> str:
    more = f" and {len(users) - most} more" if len(users) > most else ""
    return ", ".join(users[:most]) + more


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB"
