"""`pilothouse access self-test`: the known escapes, tried at the live authorities."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilothouse.cli.output import emit, exit_for, output_option, print_problems, table
from pilothouse.cli.serve import data_option
from pilothouse.problems import Invalid, PilothouseError, Unavailable

if TYPE_CHECKING:
    from pilothouse.access.escapes import Report
    from pilothouse.files.platform import LoadedPlatform


@click.command("self-test")
@click.argument("platform", type=click.Path(path_type=Path), default=Path(), envvar="PILOTHOUSE_PLATFORM")
@click.option("--cluster", "-c", "clusters", multiple=True, help="Name of a cluster (default: all of them).")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    default=None,
    help="File with an engineer's token: Vault's where Vault signs, the portal's session else (default: your logins).",
)
@click.option("--user", default="", help="Whose token it is, where Vault does not say.")
@click.option("--socket", type=click.Path(path_type=Path), default=None, help="The signer's socket.")
@data_option
@output_option
def self_test(
    platform: Path,
    clusters: tuple[str, ...],
    token_file: Path | None,
    user: str,
    socket: Path | None,
    data: Path,
    output: str,
) -> None:
    """Try every known escape at the authority of each cluster. Exit 0: none succeeds; 1: one does; 2: not tried.

    Where Vault signs, at its mount with a token such as engineers have; what would change something is asked about,
    not tried. Where the embedded authority does, through the signer's socket, with and without a session.
    """
    from pilothouse.access.escapes import summary
    from pilothouse.workflows.rendering import open_platform

    opened = open_platform(platform)
    chosen = opened.clusters(clusters)
    if token_file is not None and len(chosen) != 1:
        raise Invalid("--token-file holds the token of one authority", "name its cluster with --cluster")
    token = _read(token_file) if token_file else ""
    reports = []
    for name in chosen:
        try:
            reports += _tests(opened.loaded, name, token, user, socket or data / "signer.sock")
        except PilothouseError as failure:
            reports.append(_untested(opened.loaded, name, failure.message))
    problems = tuple(problem for report in reports for problem in report.problems())

    def human() -> None:
        for report in reports:
            if report.attempts:
                rows = [(row.title, row.tried, row.outcome.value, row.how) for row in report.rows()]
                title = f"{report.cluster} ({report.backend})"
                table(title, ("Escape", "Tried", "Outcome", "How the worst ended"), rows, right=("Tried",))
        print_problems(problems, total=False)
        click.echo(summary(reports))

    emit({"reports": reports, "problems": problems}, output, human)
    exit_for(problems)
    if any(report.untested or report.untried for report in reports):
        raise click.exceptions.Exit(2)


def _tests(loaded: LoadedPlatform, cluster: str, token: str, user: str, socket: Path) -> list[Report]:
    backend = loaded.platform.clusters[cluster].authority.backend
    return [_vault(loaded, cluster, token, user)] if backend == "vault" else _embedded(loaded, cluster, token, socket)


def _vault(loaded: LoadedPlatform, cluster: str, token: str, user: str) -> Report:
    from pilothouse.clients.vault import VaultClient
    from pilothouse.platform.model import Endpoint
    from pilothouse.workflows import self_test as testing

    endpoint = loaded.platform.clusters[cluster].servers.vault
    if endpoint is None:
        raise Invalid(f"cluster {cluster} declares no Vault", "add `servers: {vault: {url: https://…}}`")
    ca_file = endpoint.ca_file
    if not token:
        from pilothouse.cli.access import now, reach_vault, wallet
        from pilothouse.workflows.vault_login import token_for

        kept = wallet()
        login = kept.vault(cluster)
        token = token_for(kept, reach_vault, cluster, now())
        if not token or login is None:
            raise Invalid(f"no engineer's token for the Vault of {cluster}", "log in, or name one with --token-file")
        user, ca_file = user or login.user, login.ca_file or ca_file
    client = VaultClient(Endpoint(endpoint.url, ca_file=ca_file), token)
    return testing.vault_mount(
        client, VaultClient(testing.NOWHERE), loaded.platform, cluster, loaded.content, datetime.now(UTC), user
    )


def _embedded(loaded: LoadedPlatform, cluster: str, token: str, socket: Path) -> list[Report]:
    """What the signer found by itself, and what a session of one's own gets through its socket."""
    from dataclasses import replace

    from pilothouse.cli.access import wallet
    from pilothouse.clients.signer import SignerClient
    from pilothouse.workflows import self_test_embedded as testing

    signer = SignerClient(socket)
    own = _report(signer.tested(cluster))
    login = wallet().login()
    token = token or (login.token if login else "")
    if own.untested or not token:
        return [own]
    found = testing.through(signer, loaded.platform, cluster, token)
    return [own, replace(found, backend="embedded, through the socket")]


def _report(data: Mapping[str, Any]) -> Report:
    from pilothouse.access.escapes import Report

    try:
        return Report.from_dict(data)
    except (KeyError, TypeError, ValueError) as failure:
        raise Unavailable("the signer's answer cannot be read", "does it run the same version?") from failure


def _untested(loaded: LoadedPlatform, cluster: str, why: str) -> Report:
    from pilothouse.access.escapes import Report

    return Report(cluster, loaded.platform.clusters[cluster].authority.backend, untested=why)


def _read(path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as failure:
        why = getattr(failure, "strerror", "") or "it is no text"
        raise Unavailable(f"cannot read the token file {path}: {why}", "check its path, owner and mode") from failure
    if not token or len(token.split()) != 1:
        raise Invalid(f"{path} holds no token", "it holds the token alone, on one line")
    return token
