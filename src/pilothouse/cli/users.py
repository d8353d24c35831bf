"""`pilothouse users …`: the accounts of a data folder, for portals without a directory of their own.

They work on the folder itself, so whoever may write it may manage its people; each change is an event that the
audit page shows.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilothouse.cli.output import emit, output_option, table
from pilothouse.cli.serve import data_option, database_option
from pilothouse.problems import Invalid, nearest

if TYPE_CHECKING:
    from pilothouse.store import Store
    from pilothouse.store.address import Named
    from pilothouse.store.users import User

Command = TypeVar("Command", bound=Callable[..., Any])


def _password_option(command: Command) -> Command:
    return click.option(
        "--password-stdin", is_flag=True, help="Read the password from stdin (default: one is made and printed once)."
    )(command)


@click.group()
def group() -> None:
    """The people who may log in, with their directory groups."""


@group.command("list")
@data_option
@database_option
@output_option
def list_users(data: Path, database: Named, output: str) -> None:
    """Everyone with an account, their groups, and whether it is closed."""
    from pilothouse.store import users

    found = users.everyone(_existing(data, database))
    emit(
        found,
        output,
        lambda: table(
            "",
            ("User", "Name", "E-mail", "Groups, or a machine's profiles", "State"),
            [(u.name, u.display_name, u.email, _has(u), "closed" if u.disabled else "") for u in found],
        ),
    )


def _has(user: User) -> str:
    if not user.is_machine:
        return " ".join(sorted(user.groups))
    return f"machine: {' '.join(user.profiles)}" + (f" (team {user.team})" if user.team else "")


days_option = click.option(
    "--days", type=click.IntRange(1, 90), default=30, show_default=True, help="How long a machine's token lasts."
)


@group.command()
@click.argument("user")
@click.option("--name", default="", help="The name that people know them by.")
@click.option("--email", default="", help="Where they are told about requests.")
@click.option("--group", "groups", multiple=True, help="A directory group that profiles and teams name (also several).")
@click.option("--machine", is_flag=True, help="A machine: a token instead of a password, and nothing but certificates.")
@click.option(
    "--profile", "profiles", multiple=True, help="A standing profile that the machine may have (also several)."
)
@click.option("--team", default="", help="The team that the machine works for.")
@days_option
@_password_option
@data_option
@database_option
@output_option
def add(
    user: str,
    name: str,
    email: str,
    groups: tuple[str, ...],
    machine: bool,
    profiles: tuple[str, ...],
    team: str,
    days: int,
    password_stdin: bool,
    data: Path,
    database: Named,
    output: str,
) -> None:
    """Add USER, as the documents of the platform call them; makes the data folder where there is none."""
    from pilothouse.store import address, machines, users

    if machine:
        if groups or name or email or password_stdin:
            raise Invalid("a machine has no groups, name, mail or password", "give --profile, --team and --days")
        store = address.opened(data, database)
        store.migrate()
        token = machines.add(store, user, profiles, team, timedelta(days=days), _now())
        _done(store, "user.added", user, f"a machine for {', '.join(profiles)}", "", output, token)
        return
    if profiles or team:
        raise Invalid("profiles and a team are listed for machines", "add --machine, or give groups")
    password, made = _password(password_stdin)
    store = address.opened(data, database)
    store.migrate()
    users.add(store, user, password, _now(), display_name=name, email=email, groups=groups)
    _done(store, "user.added", user, f"in {', '.join(sorted(groups)) or 'no group'}", made, output)


@group.command()
@click.argument("user")
@click.option("--group", "groups", multiple=True, help="A group to add them to (also several).")
@click.option("--not-group", "gone", multiple=True, help="A group to take them out of (also several).")
@data_option
@database_option
@output_option
def change(user: str, groups: tuple[str, ...], gone: tuple[str, ...], data: Path, database: Named, output: str) -> None:
    """Change the groups of USER and end every session of theirs."""
    from pilothouse.store import users

    store = _existing(data, database)
    known = users.get(store, user)
    if known is None:
        raise _unknown(store, user)
    wanted = (known.groups | set(groups)) - set(gone)
    users.set_groups(store, user, wanted, _now())
    _done(store, "user.changed", user, f"in {', '.join(sorted(wanted)) or 'no group'}", "", output)


@group.command()
@click.argument("user")
@_password_option
@data_option
@database_option
@output_option
def password(user: str, password_stdin: bool, data: Path, database: Named, output: str) -> None:
    """Give USER a new password and end every session of theirs."""
    from pilothouse.store import users

    store = _existing(data, database)
    if users.get(store, user) is None:
        raise _unknown(store, user)
    new, made = _password(password_stdin)
    users.set_password(store, user, new, _now())
    _done(store, "user.password", user, "has a new password; their sessions have ended", made, output)


@group.command()
@click.argument("user")
@days_option
@data_option
@database_option
@output_option
def token(user: str, days: int, data: Path, database: Named, output: str) -> None:
    """Give the machine USER a new token; the one of before ends."""
    from pilothouse.store import machines

    store = _existing(data, database)
    made = machines.new_token(store, user, timedelta(days=days), _now())
    _done(store, "user.token", user, f"has a new token for {days} days; the one before has ended", "", output, made)


@group.command()
@click.argument("user")
@data_option
@database_option
@output_option
def close(user: str, data: Path, database: Named, output: str) -> None:
    """Close the account of USER: no login, no certificate, and their sessions end."""
    _set_closed(data, database, user, True, output)


@group.command()
@click.argument("user")
@data_option
@database_option
@output_option
def reopen(user: str, data: Path, database: Named, output: str) -> None:
    """Open the closed account of USER again, with its password."""
    _set_closed(data, database, user, False, output)


def _set_closed(data: Path, database: Named, user: str, closed: bool, output: str) -> None:
    from pilothouse.store import users

    store = _existing(data, database)
    if users.get(store, user) is None:
        raise _unknown(store, user)
    users.set_disabled(store, user, closed, _now())
    _done(store, "user.closed" if closed else "user.reopened", user, "is closed" if closed else "is open", "", output)


def _existing(data: Path, database: Named) -> Store:
    from pilothouse.store import address
    from pilothouse.store.database import DATABASE

    if not address.exists(data, database):
        raise Invalid(f"{data} is no data folder of pilothouse (it has no {DATABASE})", "name it with --data")
    store = address.opened(data, database)
    store.migrate()
    return store


def _unknown(store: Store, user: str) -> Invalid:
    from pilothouse.store import users

    known = [item.name for item in users.everyone(store)]
    return Invalid(f"there is no user `{user}`", nearest(user, known) or "see `pilothouse users list`")


def _password(from_stdin: bool) -> tuple[str, str]:
    """The password, and again if it was made here and must be shown."""
    from pilothouse.workflows.demo import new_password

    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n"), ""
    made = new_password()
    return made, made


def _now() -> Any:
    from pilothouse.portal.app import utc_now

    return utc_now()


def _who() -> str:
    """The account at the operating system; in a container it may have no name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return f"{name} (command line)"


def _done(store: Store, kind: str, user: str, message: str, made: str, output: str, token: str = "") -> None:
    from pilothouse.store import events

    events.record(store, events.Event(_now(), kind, _who(), user, message))
    data = {"user": user, "event": kind, "message": message, "password": made} | ({"token": token} if token else {})

    def human() -> None:
        click.echo(f"{user}: {message}.")
        if made:
            click.echo(f"Password, shown this once: {made}")
        if token:
            click.echo(f"Token, shown this once: {token}")

    emit(data, output, human)
