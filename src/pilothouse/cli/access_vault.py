"""`pilothouse access vault`: set a cluster's Vault up from what is rendered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilothouse.cli.output import emit, exit_for, output_option, print_problems
from pilothouse.problems import Invalid, Unavailable, has_errors

if TYPE_CHECKING:
    from pilothouse.clients.vault import VaultClient
    from pilothouse.inputs import Inputs
    from pilothouse.platform.model import Cluster
    from pilothouse.workflows.vault_setup import Plan

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("vault")
def group() -> None:
    """A cluster's Vault: mounts, roles, policies and mappings, for what it signs and for secrets of workloads."""


def _options(command: Command) -> Command:
    for option in (
        output_option,
        click.option(
            "--token-file",
            type=click.Path(path_type=Path),
            default=None,
            envvar="PILOTHOUSE_VAULT_TOKEN_FILE",
            help="File that holds a token which may set Vault up (default: the `tokenFile` that is declared).",
        ),
        click.argument("platform", type=click.Path(path_type=Path), default=Path(), envvar="PILOTHOUSE_PLATFORM"),
        click.argument("cluster"),
    ):
        command = option(command)
    return command


@group.command()
@_options
def plan(cluster: str, platform: Path, token_file: Path | None, output: str) -> None:
    """Show what would be changed in the Vault of CLUSTER; changes nothing."""
    from pilothouse.workflows import vault_setup

    client, inputs, authority = _open(cluster, platform, token_file)
    found = vault_setup.plan(client, inputs, authority)
    emit(found, output, lambda: _show(found, "would"))
    exit_for(found.problems)


@group.command()
@_options
def apply(cluster: str, platform: Path, token_file: Path | None, output: str) -> None:
    """Set the Vault of CLUSTER up as declared, and read it back. A second time changes nothing."""
    from pilothouse.workflows import vault_setup

    client, inputs, authority = _open(cluster, platform, token_file)
    planned = vault_setup.plan(client, inputs, authority)
    if has_errors(planned.problems):
        emit(planned, output, lambda: _show(planned, "would"))
        exit_for(planned.problems)
    done = vault_setup.apply(client, inputs, authority)
    emit(done, output, lambda: _show(done, "did"))


@group.command()
@click.option("--out", type=click.Path(path_type=Path), default=None, help="The file (default: the one declared).")
@_options
def elevator(cluster: str, platform: Path, token_file: Path | None, out: Path | None, output: str) -> None:
    """Make what the worker logs in with at the Vault of CLUSTER, and keep it in a file of mode 0600.

    The worker then writes a PKI role for each request that is claimed. Lay the file where `elevation.vaultSecretFile`
    says, on the worker's machine. It is good for 90 days; run this again before, and the one before ends by itself.
    """
    from pilothouse.files.tokens import write_private
    from pilothouse.workflows import vault_elevation

    client, inputs, _ = _open(cluster, platform, token_file)
    declared = inputs.cluster.elevation.vault_secret_file
    path = out or (Path(declared) if declared else None)
    if path is None:
        raise Invalid(
            f"cluster {cluster} names no file for it", "set `elevation.vaultSecretFile`, or name one with --out"
        )
    write_private(path, vault_elevation.new_secret(client, inputs.cluster))
    data = {"cluster": cluster, "file": str(path), "days": vault_elevation.SECRET_DAYS}
    emit(data, output, lambda: click.echo(f"{path} holds what the worker logs in with, for {data['days']} days."))


def _show(found: Plan, word: str) -> None:
    marks = {"create": "+", "update": "~", "remove": "-"}
    for change in found.changes:
        click.echo(f"{marks[change.action]} {change.path}")
        for difference in change.differs:
            click.echo(f"    {difference}")
    print_problems(found.problems)
    count = len(found.changes)
    if has_errors(found.problems):
        click.echo("Nothing was changed.")
    elif not count:
        click.echo(f"The Vault of {found.cluster} is as declared.")
    else:
        what = f"{count} change{'s' if count != 1 else ''}"
        click.echo(f"{what} to be made." if word == "would" else f"{what} made, and read back.")


def _open(cluster: str, platform: Path, token_file: Path | None) -> tuple[VaultClient, Inputs, str]:
    """(client with the token that sets up, inputs of the cluster, PEM of the API server's authority)."""
    from pilothouse.cli.opening import open_inputs

    _, inputs = open_inputs(platform, cluster)
    client = client_of(inputs.cluster, token_file)
    kubernetes = inputs.cluster.servers.kubernetes
    authority = _read(Path(kubernetes.ca_file), "CA") if kubernetes and kubernetes.ca_file else ""
    return client, inputs, authority


def client_of(cluster: Cluster, token_file: Path | None) -> VaultClient:
    """The cluster's Vault with the token of that file, or of the one that is declared."""
    from pilothouse.clients.vault import VaultClient

    endpoint = cluster.servers.vault
    if endpoint is None:
        raise Invalid(f"cluster {cluster.name} declares no Vault", "add `servers: {vault: {url: https://…}}`")
    path = token_file or (Path(endpoint.token_file) if endpoint.token_file else None)
    if path is None:
        raise Invalid(
            "a token of Vault's is needed",
            "name the file that holds it with --token-file, or as `tokenFile`",
        )
    token = _read(path, "token").strip()
    if not token or len(token.split()) != 1:
        raise Invalid(f"{path} holds no token", "it holds the token alone, on one line")
    return VaultClient(endpoint, token)


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        why = getattr(failure, "strerror", "") or "it is no text"
        raise Unavailable(f"cannot read the {what} file {path}: {why}", "check its path, owner and mode") from failure
