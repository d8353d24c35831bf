"""The commands of `pilothouse access` that need no portal: inspect, can-i, verify-ledger."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilothouse.cli.opening import snapshot_option
from pilothouse.cli.output import emit, exit_for, output_option, print_problems
from pilothouse.cli.serve import database_option
from pilothouse.problems import Invalid, nearest, one_of

if TYPE_CHECKING:
    from pilothouse.access.can_i import Identity
    from pilothouse.inputs import Inputs
    from pilothouse.store.address import Named


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, allow_dash=True))
@output_option
def inspect(file: Path | None, output: str) -> None:
    """Say in words what the certificate in FILE is (PEM or kubeconfig, `-` for stdin; default: those you hold)."""
    from pilothouse.access import inspect as looking

    moment = datetime.now(UTC)
    found = [item for text in _texts(file) for item in looking.inspect(text, moment)]

    def human() -> None:
        for item in found:
            if item.source:
                click.echo(click.style(item.source, bold=True))
            for sentence in item.sentences:
                click.echo(sentence)
            for oddity in item.oddities:
                click.echo(click.style("Odd: ", bold=True) + oddity)
            click.echo(f"Issuer {item.issuer}, serial {item.serial}, SHA-256 {item.fingerprint}")
            click.echo()

    emit(found, output, human)


def _texts(file: Path | None) -> list[str]:
    if file is None:
        from pilothouse.files.wallet import Wallet, default_root

        held = Wallet(default_root(os.environ)).credentials()
        if not held:
            raise Invalid("you hold no certificate on this machine", "name a file, or run `pilothouse access cert`")
        return [item.certificate for item in held]
    if str(file) == "-":
        return [sys.stdin.read()]
    return [_read(file)]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as failure:
        raise Invalid(f"there is no file {file}") from failure
    except (OSError, UnicodeDecodeError) as failure:
        raise Invalid(
            f"{file} cannot be read as text", "certificates in DER: convert with `openssl x509 -inform der`"
        ) from failure


# ---------------------------------------------------------------- can-i


@click.command("can-i")
@click.argument("verb")
@click.argument("resource")
@click.argument("name", default="")
@click.option("-n", "--namespace", default="", help="Namespace (default: all of them, or none).")
@click.option(
    "--platform", type=click.Path(path_type=Path), default=Path(), envvar="PILOTHOUSE_PLATFORM", show_default="here"
)
@click.option("--cluster", "-c", default="", help="Name of the cluster (default: the certificate's, or the only one).")
@click.option("--profile", default="", help="As a holder of that profile.")
@click.option("--team", "teams", multiple=True, help="Teams of that holder (default: every team, one enough).")
@click.option("--certificate", type=click.Path(path_type=Path), default=None, help="As the holder of that certificate.")
@click.option("--as", "user", default="", help="As that user.")
@click.option("--as-group", "groups", multiple=True, help="With that group (also more than once).")
@snapshot_option
@output_option
def can_i(
    verb: str,
    resource: str,
    name: str,
    namespace: str,
    platform: Path,
    cluster: str,
    profile: str,
    teams: tuple[str, ...],
    certificate: Path | None,
    user: str,
    groups: tuple[str, ...],
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    output: str,
) -> None:
    """May one VERB RESOURCE [NAME] under the RBAC that is rendered? Exit 0 for yes, 1 for no.

    RESOURCE as kubectl takes it: pods, po/web-1, pods/log, deployments.apps, widgets.example.org, or a path
    such as /metrics. RBAC of the cluster's snapshot counts too.
    """
    from pilothouse.access.can_i import can_i as decide
    from pilothouse.access.can_i import question as asked_about
    from pilothouse.cli.opening import open_inputs

    question = asked_about(verb, resource, namespace, name)
    if sum(map(bool, (profile, certificate, user or groups))) > 1:
        raise Invalid("--profile, --certificate and --as exclude each other", "give one of them")
    held = None if profile or user or groups else _held(certificate, cluster)
    cluster = cluster or (held[1] if held else "") or _only_cluster(platform)
    _, inputs = open_inputs(platform, cluster, snapshot, live, context, today)
    identities = [held[0]] if held else _identities(inputs, profile, teams, user, groups)
    manifests = _manifests(inputs) + _requested(inputs, profile, teams)
    answers = [(identity, decide(identity, question, manifests)) for identity in identities]
    identity, decision = next((pair for pair in answers if pair[1]), answers[0])
    data = {
        "allowed": decision.allowed,
        "question": str(question),
        "cluster": cluster,
        "user": identity.user,
        "groups": sorted(identity.groups),
        "why": decision.why,
        "by": [{"binding": g.binding, "role": g.role, "rule": dict(g.rule), "subject": g.subject} for g in decision.by],
        "missing": list(decision.missing),
    }

    def human() -> None:
        from pilothouse.access.words import rule_text

        asked = [identity] if decision else identities
        who = identity.user or " or ".join(sorted({group for item in asked for group in item.groups}))
        click.echo(f"{'yes' if decision else 'no'}: {who} to {question} on {cluster}: {decision.why}")
        for grantor in decision.by:
            click.echo(f"  {grantor.binding} → {grantor.role}: {rule_text(grantor.rule)}")

    emit(data, output, human)
    if not decision:
        raise click.exceptions.Exit(1)


def _held(certificate: Path | None, cluster: str) -> tuple[Identity, str]:
    """(who the certificate is, the cluster of a kept one): of a file, or the one living certificate that is kept."""
    from pilothouse.access import inspect as looking
    from pilothouse.access.can_i import Identity
    from pilothouse.files.wallet import Wallet, default_root

    moment = datetime.now(UTC)
    if certificate is not None:
        text, of_cluster = _read(certificate), ""
    else:
        held = [
            item
            for item in Wallet(default_root(os.environ)).credentials()
            if item.is_alive(moment) and cluster in ("", item.cluster)
        ]
        if len(held) != 1:
            raise Invalid(
                f"you hold {len(held)} living certificates here: which identity is meant?",
                "give --profile, --certificate or --as",
            )
        text, of_cluster = held[0].certificate, held[0].cluster
    found = looking.inspect(text, moment)[0]
    return Identity(found.user, frozenset(found.groups)), of_cluster


def _identities(
    inputs: Inputs, profile: str, teams: tuple[str, ...], user: str, groups: tuple[str, ...]
) -> list[Identity]:
    from pilothouse.access import elevation, names
    from pilothouse.access.can_i import Identity

    if not profile:
        return [Identity(user, frozenset(groups))]
    declared = inputs.platform.profiles.get(profile)
    if declared is None:
        known = inputs.platform.profiles
        raise Invalid(f"there is no profile `{profile}`", nearest(profile, known) or one_of(known))
    for team in teams:
        if team not in inputs.platform.teams:
            raise Invalid(
                f"there is no team `{team}`", nearest(team, inputs.platform.teams) or one_of(inputs.platform.teams)
            )
    if declared.elevated and inputs.cluster.binds_requests:
        return [Identity("", frozenset((elevation.REQUESTED_GROUP,)))]
    held = names.groups_for(declared, teams or tuple(inputs.platform.teams))
    # Of several teams each is asked by itself: the answer names the one that may.
    return [Identity("", frozenset((group,))) for group in held] or [Identity("")]


def _only_cluster(platform: Path) -> str:
    from pilothouse.workflows.rendering import open_platform

    clusters = open_platform(platform).clusters()
    if len(clusters) != 1:
        raise Invalid("which cluster?", f"give --cluster; {one_of(clusters)}")
    return clusters[0]


def _manifests(inputs: Inputs) -> list[Mapping[str, Any]]:
    """What is rendered, and what else the cluster's snapshot holds; of ours only what is rendered now."""
    from pilothouse.access import derive
    from pilothouse.artifacts.objects import is_owned

    rendered = list(derive(inputs).artifacts.under("rbac/").manifests())
    return rendered + [item.data for item in inputs.snapshot.rbac if not is_owned(item.data, inputs.cluster.name)]


def _requested(inputs: Inputs, profile: str, teams: tuple[str, ...]) -> list[Mapping[str, Any]]:
    """The bindings that a claimed request for the profile would have, where the worker makes them."""
    from pilothouse.access import elevation

    declared = inputs.platform.profiles.get(profile)
    if declared is None or not declared.elevated or not inputs.cluster.binds_requests:
        return []
    held = teams or tuple(inputs.platform.teams)
    return list(elevation.requested(declared, inputs.platform, inputs.cluster.name, held))


# ---------------------------------------------------------------- verify-ledger


@click.command("verify-ledger")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("data"),
    envvar="PILOTHOUSE_DATA",
    show_default=True,
    help="The portal's data folder.",
)
@click.option(
    "--head", "heads", multiple=True, help="A head that was kept elsewhere, such as 12:9f86d081… (also several)."
)
@database_option
@output_option
def verify_ledger(data: Path, database: Named, heads: tuple[str, ...], output: str) -> None:
    """Follow the ledger's whole chain; exit 1 where it is broken. Prints its head, to be kept elsewhere."""
    from pilothouse.access.ledger import Head
    from pilothouse.store import address, ledger

    exported = [Head.parse(text) for text in heads]
    kept = data / "signer" / "head"
    try:
        exported.append(Head.parse(kept.read_text(encoding="ascii")))
    except FileNotFoundError:
        pass  # no signer has written an entry yet
    except PermissionError:
        click.echo(f"{kept} cannot be read: run as the signer's user to hold the chain against it", err=True)
    store = address.opened(data, database)
    problems, head = ledger.verify(store, exported)
    store.close()

    def human() -> None:
        print_problems(problems)
        if not problems:
            click.echo(f"The chain is whole: {head.sequence} entries.")
        click.echo(f"Head: {head}")

    emit({"whole": not problems, "entries": head.sequence, "head": str(head), "problems": problems}, output, human)
    exit_for(problems)
