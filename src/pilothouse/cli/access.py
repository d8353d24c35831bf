"""`pilothouse access`: log in, get and use certificates, ask for more, decide, look."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilothouse.cli.output import emit, output_option, table
from pilothouse.problems import Denied, Invalid

if TYPE_CHECKING:
    from pilothouse.clients.portal import PortalClient, Signed
    from pilothouse.clients.vault import VaultClient
    from pilothouse.files.wallet import Credential, Wallet
    from pilothouse.workflows.vault_login import Outcome

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def group() -> None:
    """Certificates, profiles, approvals and the ledger."""


PLUGIN_VERSIONS = click.Choice(["v1", "v1beta1"])


def duration(value: str | int) -> int:
    """`8h`, `45m`, `1h30m`, in seconds: the type of an option."""
    from pilothouse.platform import scalars

    if isinstance(value, int):
        return value
    try:
        return scalars.duration(value)
    except ValueError as failure:
        raise click.BadParameter(f"{value!r} is no duration such as 8h, 45m or 1h30m") from failure


def kubeconfig_options(command: Command) -> Command:
    """Adds the options of what `cert` and `claim` write."""
    for option in (
        click.option(
            "--exec-version",
            type=PLUGIN_VERSIONS,
            default="v1",
            show_default=True,
            help="For old kubectl.",
        ),
        click.option(
            "--api-ca",
            default="",
            metavar="FILE",
            help="Authority of the API server's own certificate (PEM; default: as declared).",
        ),
        click.option(
            "--api-server", default="", metavar="URL", help="Address of the API server (default: as declared)."
        ),
        click.option(
            "--kubeconfig", type=click.Path(path_type=Path), default=None, help="Write there instead of our own folder."
        ),
    ):
        command = option(command)
    return command


def now() -> datetime:
    return datetime.now(UTC)


def wallet() -> Wallet:
    from pilothouse.files.wallet import Wallet, default_root

    return Wallet(default_root(os.environ))


def portal(kept: Wallet) -> PortalClient:
    """The portal that the kept session belongs to. `Denied` where there is none, or it has ended."""
    from pilothouse.clients.portal import PortalClient

    login = kept.login()
    if login is None:
        raise Denied("you are not logged in", "run `pilothouse access login --server URL`")
    if login.expires_at <= now():
        raise Denied(f"your session at {login.server} has ended", "run `pilothouse access login`")
    return PortalClient(login.server, login.token, login.ca_file)


# ---------------------------------------------------------------- the session


@group.command()
@click.option("--server", "--portal", default="", envvar="PILOTHOUSE_SERVER", help="Address of the portal (kept).")
@click.option("--user", default="", help="User name (asked for where it is not given).")
@click.option("--ca-file", default="", type=click.Path(), help="Authority of the portal's certificate (PEM).")
@click.option(
    "--vault-ca-file", default="", type=click.Path(), help="Authority of Vault's certificate (default: as declared)."
)
@output_option
def login(server: str, user: str, ca_file: str, vault_ca_file: str, output: str) -> None:
    """Log in for the day. The session is kept in ~/.config/pilothouse, mode 0600.

    Where Vault signs for a cluster, this also logs in there, from this machine and with the same password.
    """
    from pilothouse.clients.portal import PortalClient
    from pilothouse.files.wallet import Login

    kept = wallet()
    before = kept.login()
    server = server or (before.server if before else "")
    ca_file = ca_file or (before.ca_file if before and before.server == server else "")
    if not server:
        raise Invalid(
            "which portal?", "give its address: pilothouse access login --server https://pilothouse.bank.example"
        )
    client = PortalClient(server, ca_file=ca_file)
    user = user or click.prompt("User", default=before.user if before else None, err=True)
    password = _password()
    session = client.login(user, password)
    path = kept.keep_login(
        Login(
            session.server,
            session.token,
            session.user,
            session.expires_at,
            str(Path(ca_file).absolute()) if ca_file else "",
        )
    )
    places = PortalClient(session.server, session.token, ca_file).vaults()
    vaults = _log_in_at_vaults(kept, places, session.user, password, vault_ca_file)
    data = {
        "server": session.server,
        "user": session.user,
        "expires_at": session.expires_at,
        "file": str(path),
        "vaults": vaults,
    }

    def human() -> None:
        click.echo(f"Logged in at {session.server} as {session.user} until {_local(session.expires_at)}.")
        for item in vaults:
            if item.expires_at:
                click.echo(f"Logged in at the Vault of {item.cluster} until {_local(item.expires_at)}.")

    emit(data, output, human)
    for item in vaults:
        if item.reason:
            click.echo(f"No login at the Vault of {item.cluster}, so it signs nothing: {item.reason}", err=True)


def _log_in_at_vaults(
    kept: Wallet, places: list[dict[str, Any]], user: str, password: str, ca_file: str
) -> tuple[Outcome, ...]:
    from pilothouse.workflows import vault_login

    if not places:
        return ()
    given = str(Path(ca_file).absolute()) if ca_file else ""
    return vault_login.log_in(kept, reach_vault, places, user, password, now(), given)


def reach_vault(url: str, ca_file: str) -> VaultClient:
    """The client of a Vault as an engineer, without any right of its own."""
    from pilothouse.clients.vault import VaultClient
    from pilothouse.platform.model import Endpoint

    return VaultClient(Endpoint(url, ca_file=ca_file))


def _vault_token(kept: Wallet, cluster: str, fresh: bool = False) -> str:
    if not cluster or kept.vault(cluster) is None:
        return ""
    from pilothouse.workflows import vault_login

    return vault_login.token_for(kept, reach_vault, cluster, now(), fresh)


def _password() -> str:
    """Typed unseen at a terminal, else the next line of stdin."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


@group.command()
@output_option
def logout(output: str) -> None:
    """End the session, and the logins at Vault; certificates go on until their end."""
    kept = wallet()
    if kept.vaults():
        from pilothouse.workflows import vault_login

        for item in vault_login.log_out(kept, reach_vault):
            click.echo(f"The login at the Vault of {item.cluster} could not be ended there: {item.reason}", err=True)
    try:
        portal(kept).logout()
    finally:
        kept.forget_login()
    emit({"session": None}, output, lambda: click.echo("Logged out."))


# ---------------------------------------------------------------- certificates


@group.command()
@output_option
def profiles(output: str) -> None:
    """The profiles, what each may do, and which are yours."""
    found = portal(wallet()).profiles()

    def human() -> None:
        for item in found:
            mark = "yours" if item["mine"] else f"not yours: {item['why']}"
            click.echo(click.style(f"{item['name']}", bold=True) + f"  {item['title']} ({mark})")
            click.echo(f"  {item['terms']}")
            for statement in item["may"]:
                click.echo(f"  - {statement['text']}")
            for cluster, place in item["clusters"].items():
                click.echo(f"  {cluster}: {place}")
            click.echo()

    emit(found, output, human)


@group.command()
@click.argument("profile")
@click.option("--cluster", "-c", required=True, help="Name of the cluster.")
@click.option("--for", "seconds", type=duration, default=0, help="How long, such as 8h (default: as the profile says).")
@click.option("--team", default="", help="For one of your teams alone (default: all; where Vault signs it is one).")
@click.option(
    "--token-file", type=click.Path(path_type=Path), default=None, help="As the machine that this token is of."
)
@click.option("--server", default="", envvar="PILOTHOUSE_SERVER", help="Address of the portal, with --token-file.")
@click.option("--ca-file", default="", type=click.Path(), help="Authority of its certificate, with --token-file.")
@kubeconfig_options
@output_option
def cert(
    profile: str,
    cluster: str,
    seconds: int,
    team: str,
    token_file: Path | None,
    server: str,
    ca_file: str,
    kubeconfig: Path | None,
    api_server: str,
    api_ca: str,
    exec_version: str,
    output: str,
) -> None:
    """Get a certificate for PROFILE. The key is made here and never leaves this machine."""
    kept = wallet()
    client = _as_machine(token_file, server, ca_file) if token_file else portal(kept)
    _obtain(
        kept,
        lambda csr: client.certificate(profile, cluster, csr, seconds, team, _vault_token(kept, cluster)),
        kubeconfig,
        api_server,
        api_ca,
        exec_version,
        output,
        team,
    )


def _as_machine(token_file: Path, server: str, ca_file: str) -> PortalClient:
    from pilothouse.clients.portal import PortalClient
    from pilothouse.files.tokens import read_token

    if not server:
        raise Invalid("which portal?", "give its address with --server, or in PILOTHOUSE_SERVER")
    return PortalClient(server, read_token(token_file), ca_file)


@group.command()
@click.argument("id")
@kubeconfig_options
@output_option
def claim(id: str, kubeconfig: Path | None, api_server: str, api_ca: str, exec_version: str, output: str) -> None:
    """Claim the approved request ID: the clock starts now."""
    kept = wallet()
    client = portal(kept)

    def sign(csr: str) -> Signed:
        # Whose Vault it is follows from the request; without a login at any there is nothing to look for.
        mine = client.requests()["mine"] if kept.vaults() else ()
        return client.claim(id, csr, _vault_token(kept, next((r["cluster"] for r in mine if r["id"] == id), "")))

    _obtain(kept, sign, kubeconfig, api_server, api_ca, exec_version, output)


def _obtain(
    kept: Wallet,
    sign: Callable[[str], Signed],
    kubeconfig: Path | None,
    api_server: str,
    api_ca: str,
    exec_version: str,
    output: str,
    team: str = "",
) -> None:
    from dataclasses import replace

    from pilothouse.access import words
    from pilothouse.workflows import credential as work

    login = kept.login()
    answers: list[Signed] = []

    def asked(csr: str) -> Signed:
        answers.append(sign(csr))
        return answers[-1]

    found = work.obtain(kept, login.user if login else "", asked, team)
    signed = answers[-1]
    note = "" if api_ca else signed.note
    if api_server:
        found = replace(found, server=api_server)
        kept.keep(found)
    data: dict[str, Any] = {
        "user": found.user,
        "profile": found.profile,
        "cluster": found.cluster,
        "serial": found.serial,
        "not_after": found.not_after,
        "renewed_until": signed.issued.renewed_until,
        "kubeconfig": "",
        "note": note,
    }
    if found.server:
        path = kubeconfig or kept.kubeconfig_path(found.cluster, found.profile, bool(found.grant_id))
        authority = str(Path(api_ca).absolute()) if api_ca else ""
        version = f"client.authentication.k8s.io/{exec_version}"
        data["context"] = kept.write_kubeconfig(
            path, found.context, plugin(), version, authority, signed.server_authority
        )
        data["kubeconfig"] = str(path)

    def human() -> None:
        left = words.remaining(found.not_after - now())
        click.echo(
            f"{found.user} may act as {found.role} on {found.cluster} for {left}, until {_local(found.not_after)}."
        )
        if signed.issued.renewed_until:
            click.echo(f"  It is renewed without a question until {_local(signed.issued.renewed_until)}.")
        if data["kubeconfig"]:
            click.echo(f"  export KUBECONFIG={data['kubeconfig']}")
        else:
            click.echo("  No address of the API server is declared: give --api-server URL to get a kubeconfig.")
        if note:
            click.echo(f"  Note: {note}. Where kubectl refuses the server, give it with --api-ca FILE.")
        if found.grant_id:
            click.echo(f"  When you are done: pilothouse access give-back {found.grant_id}")

    emit(data, output, human)


def plugin() -> tuple[str, ...]:
    """How kubectl starts us: by full path, since its PATH may be another one."""
    program = shutil.which("pilothouse")
    start = (program,) if program else (sys.executable, "-m", "pilothouse")
    return (*start, "access", "credential")


@group.command()
@click.option("--cluster", "-c", required=True, help="Name of the cluster.")
@click.option("--profile", required=True, help="Name of the profile.")
@click.option("--team", default="", help="Name of the team, where it is for one alone.")
def credential(cluster: str, profile: str, team: str) -> None:
    """The exec plugin: print an ExecCredential for kubectl.

    A standing profile's certificate is renewed without a question while the session lives: when it has ended, or in
    its last quarter where the profile says `renewal`. Account, groups and locks are checked again each time.
    """
    import json

    from pilothouse.workflows import credential as work

    kept = wallet()

    def client() -> PortalClient | None:
        login = kept.login()
        return portal(kept) if login and login.expires_at > now() else None

    found = work.current(kept, cluster, profile, now(), client, team, lambda: _vault_token(kept, cluster, fresh=True))
    click.echo(json.dumps(work.exec_credential(found, os.environ.get("KUBERNETES_EXEC_INFO", ""))))


@group.command("give-back")
@click.argument("id")
@output_option
def give_back(id: str, output: str) -> None:
    """End a request, or a certificate by its serial: delete its key here, and record it."""
    kept = wallet()
    gone = kept.forget(id)
    answer = portal(kept).give_back(id)
    data = answer | {"deleted": [f"{item.role}@{item.cluster}" for item in gone]}

    def human() -> None:
        for item in gone:
            click.echo(f"Deleted key and certificate of {item.role} on {item.cluster}.")
        meaning = answer.get("meaning", "")
        click.echo(meaning if answer.get("binding") or not gone else "It is recorded as given back.")

    emit(data, output, human)


# ---------------------------------------------------------------- elevation


@group.command()
@click.argument("profile")
@click.option("--cluster", "-c", required=True, help="Name of the cluster.")
@click.option("--reason", required=True, help="What for; the approver and the ledger see it.")
@click.option("--ticket", default="", help="Its number; needed where the profile asks for one.")
@click.option(
    "--for", "seconds", type=duration, default=0, help="How long, such as 45m (default: as the profile says)."
)
@output_option
def elevate(profile: str, cluster: str, reason: str, ticket: str, seconds: int, output: str) -> None:
    """Ask for an elevated PROFILE; another person must agree."""
    found = portal(wallet()).request(profile, cluster, reason, seconds, ticket)

    def human() -> None:
        click.echo(f"Request {found['id']} is {found['state']}.")
        if found.get("untold"):
            click.echo(f"Nobody could be told: {found['untold']}")
        if found["state"] == "approved":
            click.echo(f"  pilothouse access claim {found['id']}")
        else:
            who = "Another of the people named in the profile" if found.get("break_glass") else "An approver"
            click.echo(f"{who} runs: pilothouse access approve {found['id']}")

    emit(found, output, human)


@group.command()
@click.argument("id")
@click.option("--comment", default="", help="What the requester and the ledger see.")
@output_option
def approve(id: str, comment: str, output: str) -> None:
    """Agree to request ID of another person."""
    _decide(id, True, comment, output)


@group.command()
@click.argument("id")
@click.option("--comment", required=True, help="Why not; the requester and the ledger see it.")
@output_option
def deny(id: str, comment: str, output: str) -> None:
    """Deny request ID."""
    _decide(id, False, comment, output)


def _decide(id: str, agree: bool, comment: str, output: str) -> None:
    found = portal(wallet()).decide(id, agree, comment)
    text = f"Request {found['id']} of {found['user']} for {found['profile']} on {found['cluster']} is {found['state']}."
    emit(found, output, lambda: click.echo(text))


@group.command()
@output_option
def status(output: str) -> None:
    """What you hold, what you asked for, and what waits for your decision."""
    kept = wallet()
    login = kept.login()
    moment = now()
    here = kept.credentials()
    data: dict[str, Any] = {
        "session": {"server": login.server, "user": login.user, "expires_at": login.expires_at} if login else None,
        "credentials": [_held(item, moment) for item in here],
        "vaults": [
            {"cluster": item.cluster, "url": item.url, "expires_at": item.expires_at, "alive": item.is_alive(moment)}
            for item in kept.vaults()
        ],
        "requests": [],
        "waiting": [],
    }
    reason = ""
    try:
        asked = portal(kept).requests()
        data |= {"requests": asked["mine"], "waiting": asked["waiting"]}
    except Denied as failure:
        reason = failure.with_hint

    def human() -> None:
        if login:
            click.echo(f"{login.user} at {login.server}, until {_local(login.expires_at)}")
        for item in data["vaults"]:
            how = f"until {_local(item['expires_at'])}" if item["alive"] else "ended"
            click.echo(f"Vault of {item['cluster']}: {how}")
        if reason:
            click.echo(reason)
        table(
            "Certificates on this machine",
            ("Profile", "Cluster", "Ends", "Serial"),
            [(item["role"], item["cluster"], item["ends"], item["serial"]) for item in data["credentials"]],
        )
        for title, name in (("My requests", "requests"), ("Waits for your decision", "waiting")):
            if data[name]:
                rows = [(r["id"], r["user"], r["profile"], r["cluster"], r["state"], _why(r)) for r in data[name]]
                table(title, ("Request", "Who", "Profile", "Cluster", "State", "Why"), rows)
                for item in data[name]:
                    if item.get("binding"):
                        click.echo(f"{item['id']}: {item['binding_text']}.")

    emit(data, output, human)


def _why(item: Mapping[str, Any]) -> str:
    return f"{item['ticket']}: {item['reason']}" if item.get("ticket") else str(item["reason"])


def _held(item: Credential, moment: datetime) -> dict[str, Any]:
    from pilothouse.access import words

    return {
        "profile": item.profile,
        "team": item.team,
        "role": item.role,
        "cluster": item.cluster,
        "user": item.user,
        "serial": item.serial,
        "grant_id": item.grant_id,
        "not_after": item.not_after,
        "ends": f"in {words.remaining(item.not_after - moment)}" if item.is_alive(moment) else "ended",
    }


@group.command()
@click.option("--actor", default="", help="Who did it.")
@click.option("--kind", default="", help="Beginning of the kind, such as certificate or elevation.approved.")
@click.option("--subject", default="", help="Serial of a certificate, or id of a request.")
@click.option("--cluster", "-c", default="", help="Name of a cluster.")
@click.option("--text", "q", default="", help="Text that occurs in the entry.")
@click.option("--page", type=click.IntRange(1), default=1, help="100 entries on each.")
@output_option
def ledger(actor: str, kind: str, subject: str, cluster: str, q: str, page: int, output: str) -> None:
    """Entries of the ledger, the newest first."""
    found = portal(wallet()).ledger(actor=actor, kind=kind, subject=subject, cluster=cluster, q=q, page=str(page))

    def human() -> None:
        rows = [
            (e["sequence"], e["at"][:19], e["actor"], e["kind"], e["cluster"], e["subject"]) for e in found["items"]
        ]
        table(f"{found['total']} entries", ("No", "At (UTC)", "Who", "What", "Cluster", "Subject"), rows, right=("No",))
        if found["narrowed"]:
            click.echo(found["narrowed"])

    emit(found, output, human)


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M %Z}"


def _add_offline() -> None:
    from pilothouse.cli import (
        access_audit,
        access_break_glass,
        access_ca,
        access_fence,
        access_kubeconfig,
        access_locks,
        access_offline,
        access_reach,
        access_secrets,
        access_self_test,
        access_vault,
    )

    group.add_command(access_fence.fence)
    group.add_command(access_kubeconfig.kubeconfig)
    for command in (access_locks.lock, access_locks.unlock, access_locks.locks, access_locks.webhook):
        group.add_command(command)
    for command in (access_reach.who_can, access_reach.what_can):
        group.add_command(command)
    for command in (access_offline.inspect, access_offline.can_i, access_offline.verify_ledger):
        group.add_command(command)
    group.add_command(access_self_test.self_test)
    group.add_command(access_break_glass.break_glass)
    group.add_command(access_break_glass.review)
    group.add_command(access_ca.group)
    group.add_command(access_vault.group)
    group.add_command(access_secrets.group)
    group.add_command(access_audit.group)


_add_offline()
