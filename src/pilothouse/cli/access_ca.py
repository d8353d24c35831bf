"""`pilothouse access ca`: what a rotation of a cluster's authority would do next, and its next stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pilothouse.cli.output import emit, output_option
from pilothouse.problems import Invalid

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
@click.option(
    "--platform",
    type=click.Path(path_type=Path),
    default=None,
    envvar="PILOTHOUSE_PLATFORM",
    help="Where Vault signs: the folder of documents, which names it.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    default=None,
    envvar="PILOTHOUSE_VAULT_TOKEN_FILE",
    help="Where Vault signs: file with a token which may set it up (default: the `tokenFile` that is declared).",
)
@output_option
def rotate(
    cluster: str, trusted: bool, force: bool, platform: Path | None, token_file: Path | None, output: str
) -> None:
    """Take the next stage of the rotation; `ca plan` says which one that is.

    Where Vault signs, the portal records the stage, and this command takes it there: the token that may goes from this
    machine to the Vault that the documents name, and nowhere else.
    """
    from pilothouse.cli.access import portal, wallet

    client = portal(wallet())
    seen = client.rotation(cluster)
    turn = _in_vault(cluster, platform, token_file) if seen["backend"] == "vault" else None
    found = client.rotate(cluster, seen["stage"], trusted, force)
    if turn is not None:
        turn(next(step["to"] for step in seen["steps"] if step["next"]))
        found = client.rotation(cluster)
    emit(found, output, lambda: _show(found))


def _in_vault(cluster: str, platform: Path | None, token_file: Path | None) -> Callable[[str], None]:
    """What takes a stage in Vault; raises before anything is recorded where it cannot be got at."""
    from pilothouse.access import content, vault
    from pilothouse.access.rotation import Stage
    from pilothouse.cli.access_vault import client_of
    from pilothouse.cli.opening import open_inputs
    from pilothouse.workflows import vault_rotation

    if platform is None:
        raise Invalid(
            f"the authority of {cluster} lies in Vault: which one?",
            "name the folder of documents with --platform, and a token which may set it up with --token-file",
        )
    _, inputs = open_inputs(platform, cluster)
    settings, problems = content.read(inputs.content)
    if settings is None:
        raise Invalid(f"secrets/vault cannot be used: {problems[0].message}", problems[0].hint)
    mount = vault.mount(inputs.cluster, settings)
    client = client_of(inputs.cluster, token_file)
    client.read(f"{mount}/config/issuers")  # whether the token may
    return lambda to: vault_rotation.turn(client, inputs.cluster, mount, Stage(to))


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
    flags += " --platform PLATFORM --token-file FILE" if found["backend"] == "vault" else ""
    click.echo(f"Next: pilothouse access ca rotate --cluster {found['cluster']}{flags}")
    click.echo(f"Bundle: /access/authorities/{found['cluster']}.crt of the portal")


def _authority(item: dict[str, str]) -> str:
    return f"{item['name']}, until {item['not_after'][:10]}, SHA-256 {item['fingerprint'][:16]}…"
