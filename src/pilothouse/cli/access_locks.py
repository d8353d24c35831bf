"""`pilothouse access lock`, `unlock` and `locks`: end the access of a person or of one certificate, and look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilothouse.cli.access import duration, portal, wallet
from pilothouse.cli.output import emit, output_option, table
from pilothouse.cli.serve import data_option, database_option
from pilothouse.problems import Invalid

if TYPE_CHECKING:
    from pilothouse.store.address import Named


@click.command()
@click.argument("subject", metavar="USER|SERIAL")
@click.option("--reason", required=True, help="What happened; who is concerned and the ledger see it.")
@click.option("--for", "seconds", type=duration, default=0, help="How long, such as 8h (default: until it is lifted).")
@click.option("--anyway", is_flag=True, help="Lock a name that nobody here has yet.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=None,
    help="While the portal is down: set it in this data folder itself, with the rights of whoever may write there.",
)
@click.option(
    "--platform",
    type=click.Path(path_type=Path),
    default=None,
    help="With --data: the documents. [default: the portal's]",
)
@database_option
@output_option
def lock(
    subject: str,
    reason: str,
    seconds: int,
    anyway: bool,
    data: Path | None,
    platform: Path | None,
    database: Named,
    output: str,
) -> None:
    """Lock a person, or one certificate by its serial or SHA-256.

    Nothing more is signed, the sessions end, and API servers that ask pilothouse refuse it within seconds.
    """
    from pilothouse.cli import access_lock_offline

    if data is not None:
        found = access_lock_offline.lock(data, database, platform, subject, reason, seconds, anyway)
    else:
        found = portal(wallet()).lock(subject, reason, seconds, anyway)

    def human() -> None:
        end = f"until {_short(found['until'])} UTC" if found["until"] else "until it is lifted"
        ended = "1 session" if found["sessions"] == 1 else f"{found['sessions']} sessions"
        click.echo(f"{_named(found)} is locked {end}; {ended} ended.")
        for text in found["requests"]:
            click.echo(f"Request {text}")
        for text in found.get("unheld", ()):
            click.echo(f"Not ended: {text}.")
        if found.get("untold"):
            click.echo(f"Nobody could be told: {found['untold']}")
        access_lock_offline.say(found.get("notes", []))
        click.echo(f"  pilothouse access unlock {found['subject']}")

    emit(found, output, human)


@click.command()
@click.argument("subject", metavar="USER|SERIAL")
@click.option("--why", default="", help="Who is concerned and the ledger see it.")
@output_option
def unlock(subject: str, why: str, output: str) -> None:
    """Lift the lock on a person or a certificate; sessions that it ended stay ended."""
    found = portal(wallet()).unlock(subject, why)
    emit(found, output, lambda: click.echo(f"{_named(found)} is not locked any more."))


@click.command()
@click.option("--all", "past", is_flag=True, help="Also those that do not hold any more.")
@output_option
def locks(past: bool, output: str) -> None:
    """What is locked: by whom, why, and until when."""
    found = portal(wallet()).locks(past)

    def human() -> None:
        rows = [(_named(item), item["by"], item["reason"], _short(item["at"]), _end(item)) for item in found["items"]]
        table("Locks", ("What", "By", "Why", "Since (UTC)", "Until (UTC)"), rows)
        if found["narrowed"]:
            click.echo(found["narrowed"])

    emit(found, output, human)


def _named(item: dict[str, Any]) -> str:
    if item["kind"] == "user":
        return str(item["subject"])
    return f"certificate {item['subject']} of {item['user']} on {item['cluster']}"


def _end(item: dict[str, Any]) -> str:
    if item["lifted_at"]:
        return f"lifted {_short(item['lifted_at'])} by {item['lifted_by']}"
    return _short(item["until"]) if item["until"] else "it is lifted"


def _short(moment: str) -> str:
    return moment[:16].replace("T", " ")


@click.command()
@data_option
@database_option
@click.option("--host", default="", help="Address to listen at. [default: as DATA/webhook.yaml says, or 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="[default: as the file says, or 8443]")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate of this server (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key (PEM).")
@click.option("--client-ca", type=click.Path(path_type=Path), help="Authority of the API servers' client certificates.")
def webhook(
    data: Path,
    database: Named,
    host: str,
    port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    client_ca: Path | None,
) -> None:
    """Answer API servers, until Ctrl-C: denied for what is locked, no opinion on all else.

    `serve` starts the same where DATA/webhook.yaml is there. Several may run, on a PostgreSQL that they share.
    """
    from pilothouse.store import address
    from pilothouse.webhook import __main__ as running
    from pilothouse.webhook import settings

    found = settings.read(data / settings.FILE)
    given: dict[str, Any] = found.model_dump(by_alias=True) if found else {}
    options = {"host": host, "port": port, "certFile": tls_cert, "keyFile": tls_key, "clientCaFile": client_ca}
    given |= {name: value for name, value in options.items() if value not in (None, "")}
    if not {"certFile", "keyFile"} <= given.keys():
        raise Invalid("an API server asks over TLS alone", "give --tls-cert and --tls-key")
    if not database and not address.exists(data):
        raise Invalid(f"{data} is no data folder of pilothouse", "name it with --data")
    running.run(address.opened(data, database), settings.Settings.model_validate(given))
