"""`pilothouse access who-can` and `what-can`: who could do something, and what somebody can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from pilothouse.cli.access import portal, wallet
from pilothouse.cli.output import emit, output_option, table


@click.command("who-can")
@click.argument("verb")
@click.argument("resource")
@click.argument("name", default="")
@click.option("-n", "--namespace", default="", help="Namespace (default: all of them, or none).")
@click.option("--cluster", "-c", required=True, help="Name of the cluster.")
@click.option("--at", default="", metavar="TIME", help="At that moment, such as 2026-11-22T03:00 (UTC; default: now).")
@output_option
def who_can(verb: str, resource: str, name: str, namespace: str, cluster: str, at: str, output: str) -> None:
    """Who could VERB RESOURCE [NAME]: through which profile, binding, certificate and approval.

    With --at by the ledger of that time, and by the declarations of the commit of that time.
    """
    found = portal(wallet()).who_can(
        verb=verb, resource=resource, name=name, namespace=namespace, cluster=cluster, at=at
    )

    def human() -> None:
        click.echo(f"To {found['question']} on {cluster} at {found['at'][:16].replace('T', ' ')} UTC:")
        rows = [
            (_profile(way), f"{way['kind']} {way['subject']}", _people(way), way["by"]["binding"], _rule(way))
            for way in found["ways"]
        ]
        table("Ways", ("Profile", "Subject", "Who may have it", "Binding", "Rule"), rows)
        _certificates([item for way in found["ways"] for item in way["certificates"]])
        for note in found["notes"]:
            click.echo(f"Note: {note}.")

    emit(found, output, human)


@click.command("what-can")
@click.argument("user")
@click.option("--cluster", "-c", default="", help="Name of a cluster (default: all of them).")
@output_option
def what_can(user: str, cluster: str, output: str) -> None:
    """Everything that USER can do: through which profile, team, group, binding and rule; and their certificates."""
    found = portal(wallet()).what_can(user, cluster)

    def human() -> None:
        if found["locked"]:
            click.echo(click.style(f"{found['locked']}: none of this can be had now.", bold=True))
        click.echo(f"{user}: teams {', '.join(found['teams']) or '—'}; groups {', '.join(found['groups']) or '—'}")
        rows = [
            (
                item["cluster"],
                _profile(item),
                item["team"],
                item["namespace"] or "all",
                item["by"]["binding"],
                _rule(item),
            )
            for item in found["rights"]
        ]
        table("Rights", ("Cluster", "Profile", "Team", "Namespace", "Binding", "Rule"), rows)
        _certificates(found["certificates"])
        for note in found["notes"]:
            click.echo(f"Note: {note}.")

    emit(found, output, human)


def _rule(item: Mapping[str, Any]) -> str:
    from pilothouse.access.words import rule_text

    rule = item["by"]["rule"]
    return rule_text(rule) if rule else f"{item['by']['role']}, whose rules are not known"


def _profile(item: Mapping[str, Any]) -> str:
    return f"{item['profile']} (elevated)" if item["elevated"] else item["profile"] or "not ours"


def _people(way: Mapping[str, Any]) -> str:
    if not way["profile"]:
        return ""
    people = ", ".join(way["people"]) or "nobody known"
    agreed = f"; {' or '.join(way['approvers'])} must agree" if way["approvers"] else ""
    return f"{people} (members of {' or '.join(way['groups'])}{agreed})"


def _certificates(items: list[dict[str, Any]]) -> None:
    unique = {(item["cluster"], item["serial"]): item for item in items}
    rows = [
        (
            item["user"],
            item["profile"],
            item["cluster"],
            item["serial"],
            item["not_after"][:16].replace("T", " "),
            f"{item['request']} by {item['approved_by'] or 'nobody'}: {item['reason']}" if item["request"] else "",
            "locked" if item["locked"] else "",
        )
        for item in unique.values()
    ]
    columns = ("Who", "Profile", "Cluster", "Serial", "Until (UTC)", "Approved", "")
    table("Certificates alive", columns, rows, whole=("Serial",))
