"""`pilothouse access ca`: what a rotation of a cluster's authority would do next, and its next stage."""

from __future__ import annotations

from typing import Any

import click

from pilothouse.cli.output import emit, output_option

cluster_option = click.option("--cluster", "-c", required=True, help="Name of the cluster.")


@click.group("ca")
def group() -> None:
    """The authority that signs for a cluster."""


@group.command()
@cluster_option
@output_option
def plan(cluster: str, output: str) -> None:
    """Every stage of a rotation, where it is now, and what the next run does. Changes nothing."""
    from pilothouse.cli.access import portal, wallet

    found = portal(wallet()).rotation(cluster)
    emit(found, output, lambda: _show(found))


@group.command()
@cluster_option
@click.option("--trusted", is_flag=True, help="Every API server of the cluster has the bundle with both authorities.")
@click.option("--force", is_flag=True, help="Withdraw the old one although certificates of it are alive.")
@output_option
def rotate(cluster: str, trusted: bool, force: bool, output: str) -> None:
    """Take the next stage of the rotation; `ca plan` says which one that is."""
    from pilothouse.cli.access import portal, wallet

    client = portal(wallet())
    stage = client.rotation(cluster)["stage"]
    found = client.rotate(cluster, stage, trusted, force)
    emit(found, output, lambda: _show(found))


def _show(found: dict[str, Any]) -> None:
    click.echo(f"The rotation of {found['cluster']} is {found['stage']}.")
    click.echo(f"  signs:  {_authority(found['signs'])}")
    if found["other"]:
        click.echo(f"  beside: {_authority(found['other'])}")
    if found["alive"]:
        click.echo(f"  {found['alive']} living certificates are of the old one, the last until {found['last_ends']}")
    for step in found["steps"]:
        mark = "next" if step["next"] else "    "
        click.echo(f"{mark}  {step['to']}: {step['does']}")
        click.echo(f"        then by hand: {step['by_hand']}")
    upcoming = next(step["to"] for step in found["steps"] if step["next"])
    flags = {"signing": " --trusted"}.get(upcoming, "")
    click.echo(f"Next: pilothouse access ca rotate --cluster {found['cluster']}{flags}")
    click.echo(f"Bundle: /access/authorities/{found['cluster']}.crt of the portal")


def _authority(item: dict[str, str]) -> str:
    return f"{item['name']}, until {item['not_after'][:10]}, SHA-256 {item['fingerprint'][:16]}…"
