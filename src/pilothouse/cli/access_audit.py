"""`pilothouse access audit`: import other programs' audit logs, follow one thread, see what is unusual."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilothouse.cli.output import Progress, emit, exit_for, output_option, print_problems, table
from pilothouse.cli.serve import database_option
from pilothouse.problems import Invalid

if TYPE_CHECKING:
    from pilothouse.access.audit.certain import Found
    from pilothouse.store import Store
    from pilothouse.store.address import Named
    from pilothouse.store.unusual import Kept
    from pilothouse.workflows.audit import Imported, Thread
    from pilothouse.workflows.rendering import Opened

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("audit")
def group() -> None:
    """Audit logs of Vault and API servers beside the ledger, and what in them is not as it should be."""


def _data_options(command: Command) -> Command:
    for option in (
        output_option,
        database_option,
        click.option(
            "--data",
            type=click.Path(path_type=Path, exists=True, file_okay=False),
            default=Path("data"),
            envvar="PILOTHOUSE_DATA",
            show_default=True,
            help="The portal's data folder.",
        ),
    ):
        command = option(command)
    return command


def _platform_option(command: Command) -> Command:
    return click.option(
        "--platform", type=click.Path(path_type=Path), default=Path(), envvar="PILOTHOUSE_PLATFORM", show_default="here"
    )(command)


@contextmanager
def _opened(data: Path, database: Named) -> Iterator[Store]:
    from pilothouse.store import address
    from pilothouse.store.database import DATABASE

    if not address.exists(data, database):
        raise Invalid(f"{data} is no data folder of pilothouse (it has no {DATABASE})", "name it with --data")
    store = address.opened(data, database)
    store.migrate()
    try:
        yield store
    finally:
        store.close()


def _now() -> datetime:
    return datetime.now(UTC)


# ---------------------------------------------------------------- import


@group.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--cluster", "-c", default="", help="The cluster whose API server wrote the log.")
@click.option("--source", default="", help="Name of the log, where several API servers of a cluster write one each.")
@_platform_option
@_data_options
def import_(
    files: tuple[Path, ...], cluster: str, source: str, platform: Path, data: Path, database: Named, output: str
) -> None:
    """Read audit logs of Vault or API servers, gzip or not; - is standard input.

    Which of both wrote a file is seen from its lines. Read a file again, and nothing changes. Exit 1 where the logs
    show what must not be.
    """
    from pilothouse.files import audit_settings
    from pilothouse.reports import to_data
    from pilothouse.workflows import audit
    from pilothouse.workflows.rendering import open_platform

    opened = open_platform(platform)
    opened.clusters((cluster,) if cluster else ())
    cluster = cluster or _only(opened)
    settings = audit_settings.from_file(data / "audit.yaml")
    with _opened(data, database) as store:
        imported = [_import(store, opened, file, cluster, source) for file in files]
        found, _ = audit.record_findings(store, opened, settings, _now())
    problems = [item.problem for item in found]

    def human() -> None:
        for item in imported:
            _print_imported(item)
        print_problems(problems)
        if not problems:
            click.echo("Nothing in the logs is certainly wrong.")

    emit({"imported": imported, "problems": to_data(problems)}, output, human)
    exit_for(problems)


def _only(opened: Opened) -> str:
    """The one cluster that is declared; "" where there are several: an API server's log then wants a name."""
    known = opened.clusters()
    return known[0] if len(known) == 1 else ""


def _import(store: Store, opened: Opened, file: Path, cluster: str, source: str) -> Imported:
    from pilothouse.access.audit.model import Kind
    from pilothouse.files import audit_logs
    from pilothouse.workflows.audit import Imported, Mounts, Reader

    progress = Progress()
    shown = "standard input" if str(file) == "-" else file.as_posix()

    def told(done: int) -> None:
        progress(f"{shown}: {done / 1e6:,.0f} MB")

    lines = audit_logs.of_stream(sys.stdin.buffer, shown, told) if str(file) == "-" else audit_logs.lines(file, told)
    result = Reader(store, Mounts.of(opened), Imported(shown, cluster=cluster), name=source).read(lines)
    progress.done()
    if result.kind is Kind.VAULT:
        result.cluster = ""
    return result


def _print_imported(item: Imported) -> None:
    if item.kind is None:
        click.echo(f"{item.source}: no audit log of Vault or an API server")
    else:
        when = f", {item.first:%Y-%m-%d %H:%M} to {item.last:%Y-%m-%d %H:%M} UTC" if item.first and item.last else ""
        of = f" of {item.cluster}" if item.cluster else ""
        click.echo(
            f"{item.source}: {item.kind.value}{of}, {item.lines:,} lines{when}:"
            f" {item.kept:,} of use, {item.added:,} new"
        )
    if item.broken:
        click.echo(f"  {item.broken:,} lines cannot be read:", err=True)
        for example in item.examples:
            click.echo(f"    {example}", err=True)


# ---------------------------------------------------------------- show


@group.command()
@click.argument("what", metavar="SERIAL|REQUEST|AUDITID")
@_data_options
def show(what: str, data: Path, database: Named, output: str) -> None:
    """The whole thread of a certificate: who asked, who approved, what Vault says, what it then did in the cluster.

    By its serial (decimal or with colons), its SHA-256, a request's id, Vault's request id, or the auditID of an event.
    """
    from pilothouse.workflows import audit

    with _opened(data, database) as store:
        found = audit.thread(store, what)
    emit(found.as_data(), output, lambda: _print_thread(found))


def _print_thread(found: Thread) -> None:
    held = found.certificate
    if held is not None:
        click.echo(f"Certificate {held.serial} of {held.user} on {held.cluster}, {held.state.value}")
        click.echo(f"  profile {held.profile}, groups {', '.join(held.groups)}")
        click.echo(f"  from {held.asked_at:%Y-%m-%d %H:%M:%S} to {held.not_after:%Y-%m-%d %H:%M:%S} UTC")
        click.echo(f"  SHA-256 {held.fingerprint or '(none: it was not handed out)'}")
    elif found.grant is None:
        click.echo("There is no record of this certificate: it was not issued here.")
        if found.fingerprint:
            click.echo(f"  SHA-256 {found.fingerprint}")
    if found.grant is not None:
        grant = found.grant
        click.echo(f"Request {grant.id} of {grant.user}: {grant.what_for}")
        click.echo(f"  {grant.state.value}, decided by {grant.decided_by or 'nobody'}")
    for row in found.ledger:
        click.echo(f"Ledger {row.sequence}: {row.at:%Y-%m-%d %H:%M:%S} {row.entry.kind} by {row.entry.actor}")
    for item in found.vault:
        error = f", {item.error}" if item.error else ""
        click.echo(
            f"Vault {item.request_id}: {item.at:%Y-%m-%d %H:%M:%S} {item.operation} {item.path}"
            f" by {item.user or 'nobody'} from {item.address or '?'}{error}"
        )
    for event in found.events:
        click.echo(
            f"Event {event.audit_id}: {event.at:%Y-%m-%d %H:%M:%S} {event.verb} {event.resource} by {event.user}"
            f" from {event.address or '?'}, {event.code}"
        )
    rows = [
        (item.verb, item.resource, item.namespace, item.count, item.refused, f"{item.first:%m-%d %H:%M:%S}",
         f"{item.last:%m-%d %H:%M:%S}")
        for item in found.done
    ]  # fmt: skip
    if rows:
        columns = ("verb", "resource", "namespace", "times", "refused", "first", "last")
        table("What it did", columns, rows, right=("times", "refused"))
    else:
        click.echo("No use of it is in the logs that were imported.")


# ---------------------------------------------------------------- unusual, expected


@group.command()
@click.option("--user", default="", help="Of that person, or workload (cluster:namespace/account).")
@click.option("--days", type=click.IntRange(1, 400), default=14, show_default=True, help="How far back.")
@click.option("--paged", is_flag=True, help="Only what reached the sum that pages.")
@click.option("--now", "judge_now", is_flag=True, help="Judge first, as the worker does every quarter of an hour.")
@_platform_option
@_data_options
def unusual(
    user: str, days: int, paged: bool, judge_now: bool, platform: Path, data: Path, database: Named, output: str
) -> None:
    """Days on which somebody did what they do not do else, with the evidence and what it was held against."""
    from pilothouse.files import audit_settings
    from pilothouse.store import unusual as rows
    from pilothouse.workflows import unusual as scoring
    from pilothouse.workflows.rendering import open_platform

    with _opened(data, database) as store:
        if judge_now:
            declared = open_platform(platform).loaded.platform
            scoring.run(store, declared, audit_settings.from_file(data / "audit.yaml"), _now())
        found = rows.find(store, user, _now() - timedelta(days=days), paged)
    emit(found, output, lambda: _print_unusual(found, days))


def _print_unusual(found: tuple[Kept, ...], days: int) -> None:
    for kept in found:
        word = "PAGE" if kept.alert.paged else "digest"
        said = f", expected: {kept.expected.reason} ({kept.expected.by})" if kept.expected else ""
        click.echo(f"{kept.id} {kept.alert.day} {kept.alert.who}: {kept.alert.score} points, {word}{said}")
        for signal in kept.alert.signals:
            click.echo(f"  {signal.points:3} {signal.rule}: {signal.evidence}")
            click.echo(f"      usual: {signal.baseline}")
    if not found:
        click.echo(f"Nothing unusual in {days} days.")


@group.command()
@click.argument("id")
@click.option("--reason", required=True, help="Why it was to be expected.")
@_platform_option
@_data_options
def expected(id: str, reason: str, platform: Path, data: Path, database: Named, output: str) -> None:
    """Say that a finding is as it should be: it goes, the ledger tells who said so, and it does not come back."""
    from pilothouse.files import audit_settings
    from pilothouse.workflows import audit
    from pilothouse.workflows.rendering import open_platform

    settings = audit_settings.from_file(data / "audit.yaml")
    with _opened(data, database) as store:
        opened = open_platform(platform)

        def known() -> tuple[Found, ...]:
            return audit.all_findings(store, opened, settings, _now())

        answer = audit.expect(store, id, who(), reason, _now(), known)
        audit.record_findings(store, opened, settings, _now())
    emit(answer, output, lambda: click.echo(f"{answer.id} is expected: {answer.reason}"))


def who() -> str:
    """The account at the operating system; in a container it may have no name."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (KeyError, OSError):
        return f"uid {os.getuid()} (command line)"
