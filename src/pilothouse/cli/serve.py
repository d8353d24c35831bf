"""`pilothouse serve`, `demo`, `worker`, `backup`, `restore`, `copy-database`."""

from __future__ import annotations

import functools
import importlib.util
import ipaddress
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from pilothouse.cli.output import emit, output_option, table
from pilothouse.problems import Invalid, PilothouseError

if TYPE_CHECKING:
    from pilothouse.store import Store
    from pilothouse.store.address import Named

Command = TypeVar("Command", bound=Callable[..., Any])
PORT = 8420
PORT_KEY = "serve.port"
PLATFORM_KEY = "serve.platform"


def data_option(command: Command) -> Command:
    """Adds `--data DIR` (parameter `data`)."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        default=Path("data"),
        show_default=True,
        envvar="PILOTHOUSE_DATA",
        help="The data folder: database, keys, the platform's repository.",
    )(command)


def database_option(command: Command) -> Command:
    """Adds `--database URL` and `--database-file FILE` (parameter `database`, a `store.address.Named`)."""

    @functools.wraps(command)
    def with_database(*args: Any, database_url: str, database_file: str, **kwargs: Any) -> Any:
        from pilothouse.store import address

        source = click.get_current_context().get_parameter_source("database_file")
        if database_url and source is click.core.ParameterSource.ENVIRONMENT:
            database_file = ""  # what was typed wins over what the environment says
        return command(*args, database=address.named(database_url, database_file), **kwargs)

    for option in (
        click.option(
            "--database-file",
            default="",
            envvar="PILOTHOUSE_DATABASE_FILE",
            metavar="FILE",
            help="A file that holds the address of the PostgreSQL, password and all (kept for the next start).",
        ),
        click.option(
            "--database",
            "database_url",
            default="",
            metavar="URL",
            help="Address of the PostgreSQL, without a password. [default: the one kept, or SQLite in the data folder]",
        ),
    ):
        with_database = option(with_database)
    return cast(Command, with_database)


def listen_options(command: Command) -> Command:
    """Adds `--host`, `--port`, `--tls-cert`, `--tls-key` and `--trusted-proxy`."""
    for option in (
        click.option(
            "--trusted-proxy", "proxies", multiple=True, metavar="NETWORK", help="Believe X-Forwarded-* from there."
        ),
        click.option("--tls-key", type=click.Path(path_type=Path), help="Key of the certificate (PEM)."),
        click.option("--tls-cert", type=click.Path(path_type=Path), help="Serve HTTPS with that certificate (PEM)."),
        click.option(
            "--port", type=click.IntRange(0, 65535), default=None, help=f"[default: {PORT}, or the next free one]"
        ),
        click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at."),
    ):
        command = option(command)
    return command


def metrics_options(command: Command) -> Command:
    """Adds `--metrics-port` and `--metrics-host`, of the worker."""
    for option in (
        click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address of the worker's metrics."),
        click.option(
            "--metrics-port", type=click.IntRange(1, 65535), default=None, help="Serve the worker's /metrics there."
        ),
    ):
        command = option(command)
    return command


@click.command()
@data_option
@database_option
@click.option("--platform", default="", help="Folder or Git address of the platform (kept for the next start).")
@listen_options
@click.option("--worker/--no-worker", default=True, show_default=True, help="Run the worker beside the portal.")
@click.option("--signer/--no-signer", default=True, show_default=True, help="Run the signer beside the portal.")
@metrics_options
def serve(
    data: Path,
    database: Named,
    platform: str,
    host: str,
    port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    proxies: tuple[str, ...],
    worker: bool,
    signer: bool,
    metrics_port: int | None,
    metrics_host: str,
) -> None:
    """Serve the portal, with the signer and the worker beside it, until Ctrl-C.

    Several portals and workers, each with a data folder of its own, may share a PostgreSQL (--database); the signer
    runs beside one of them.

    A port that was not named and is taken gives way to the next free one, which is kept for the next
    start. Anything but the loopback address should be served with TLS, or behind a proxy that does it.
    """
    _serve(
        data,
        platform,
        host,
        port,
        tls_cert,
        tls_key,
        proxies,
        worker,
        signer=signer,
        database=database,
        metrics=_metrics_arguments(metrics_host, metrics_port),
    )


def _serve(
    data: Path,
    platform: str,
    host: str,
    port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    proxies: tuple[str, ...],
    worker: bool,
    ready: Callable[[str], None] | None = None,
    opened: bool = False,
    signer: bool = True,
    database: Named | None = None,
    metrics: tuple[str, ...] = (),
) -> None:
    from pilothouse.cli.processes import Process, Supervisor, claim, listen
    from pilothouse.portal.app import utc_now
    from pilothouse.portal.server import ServerOptions, form_key
    from pilothouse.store import local, users
    from pilothouse.workflows.demo import PLATFORM

    _check_tls(tls_cert, tls_key)
    _check_networks(proxies)
    if not opened:
        _check_platform(data, platform, database)
    store, folder = _open_store(data, database)
    lock = claim(folder)
    store.migrate()
    form_key(store, folder)
    kept_platform = str(local.get(store, folder, PLATFORM_KEY, ""))
    root = Path(platform) if opened else _platform(folder, platform or kept_platform)
    # The repository of the data folder goes by no path, so that a restored folder is served wherever it lies.
    local.put(store, folder, PLATFORM_KEY, "" if root == (folder / PLATFORM).absolute() else str(root), utc_now())
    kept = local.get(store, folder, PORT_KEY, PORT)
    open_socket = listen(host, kept if port is None else port, search=port is None)
    chosen = int(open_socket.getsockname()[1])
    if port is None and chosen != kept:
        local.put(store, folder, PORT_KEY, chosen, utc_now())
    if not users.everyone(store):
        click.echo("pilothouse: nobody has an account yet: `pilothouse users add` makes one", err=True)
    store.close()

    options = ServerOptions(
        str(folder),
        str(root),
        open_socket.fileno(),
        str(tls_cert.absolute()) if tls_cert else "",
        str(tls_key.absolute()) if tls_key else "",
        proxies,
    )
    common = ("--data", str(folder))
    processes = [
        Process("portal", ("pilothouse.portal.server", options.to_json()), pass_fds=(open_socket.fileno(),)),
        *(
            [Process("worker", ("pilothouse.worker", *common, "--platform", str(root), *metrics), essential=False)]
            if worker
            else []
        ),
        *(
            [Process("signer", ("pilothouse.signer", *common, "--platform", str(root)), essential=False)]
            if signer
            else []
        ),
        *([Process("webhook", ("pilothouse.webhook", *common), essential=False)] if _has_webhook(folder) else []),
    ]
    processes = [item for item in processes if _exists(item.arguments[0])]
    if not tls_cert and not _is_loopback(host) and not proxies:
        click.echo("pilothouse: passwords travel unencrypted: use --tls-cert, or a proxy with TLS", err=True)
    address = f"{'https' if tls_cert else 'http'}://{_shown(host)}:{chosen}"
    (ready or _say)(address)
    code = Supervisor(processes).run()
    open_socket.close()
    os.close(lock)
    if code:
        raise click.exceptions.Exit(2)


def _has_webhook(folder: Path) -> bool:
    """Whether the authorization webhook is set up; a mistake in its file is said before anything starts."""
    from pilothouse.webhook import settings

    return settings.read(folder / settings.FILE) is not None


def _open_store(data: Path, database: Named | None) -> tuple[Store, Path]:
    """The store and the data folder, which is made; what was named as its database is kept for the next start."""
    from pilothouse.store import address

    named = database or address.Named()
    store = address.opened(data, named)
    folder = store.folder or data.expanduser().absolute()
    address.keep(folder, named)
    if not store.is_sqlite and not address.is_checked(store.url):
        click.echo(
            "pilothouse: nobody checks the database's certificate: add ?sslmode=verify-full&sslrootcert=FILE", err=True
        )
    return store, folder


def _metrics_arguments(host: str, port: int | None) -> tuple[str, ...]:
    return () if port is None else ("--metrics-host", host, "--metrics-port", str(port))


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(f"{module}.__main__" if module.count(".") == 1 else module) is not None
    except ModuleNotFoundError:
        return False


def _say(address: str) -> None:
    click.echo(f"pilothouse serves at {address} (Ctrl-C ends it)")


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):  # noqa: S104  # only shown
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_tls(cert: Path | None, key: Path | None) -> None:
    import ssl

    if (cert is None) != (key is None):
        raise Invalid("--tls-cert and --tls-key belong together", "give both")
    if cert is None or key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except FileNotFoundError as failure:
        raise Invalid(f"there is no file {cert if not cert.exists() else key}") from failure
    except (ssl.SSLError, OSError) as failure:
        raise Invalid(
            f"cannot use {cert} with {key}: {failure}", "both are PEM, and the key is that certificate's"
        ) from failure


def _check_networks(networks: tuple[str, ...]) -> None:
    for item in networks:
        try:
            ipaddress.ip_network(item, strict=False)
        except ValueError as failure:
            raise Invalid(
                f"--trusted-proxy {item!r}: {failure}", "an address or a network such as 10.0.0.0/8"
            ) from failure


def _is_address(wanted: str) -> bool:
    """Whether it is the address of a Git repository, and not a folder."""
    return "://" in wanted or (":" in wanted and not Path(wanted).exists() and not wanted.startswith("/"))


def _check_platform(data: Path, wanted: str, database: Named | None = None) -> None:
    """Refuse, before a data folder is made, what could never be served from it."""
    from pilothouse.store import address
    from pilothouse.workflows.rendering import open_platform

    if wanted and not _is_address(wanted):
        open_platform(Path(wanted))
    elif not wanted and not address.exists(data):
        raise _no_platform()


def _no_platform() -> Invalid:
    return Invalid("no platform is named", "give --platform FOLDER, or try `pilothouse demo`")


def _platform(data: Path, wanted: str) -> Path:
    """The platform's folder: the one named, the copy of the repository named, or the one in the data folder."""
    from pilothouse.files import git
    from pilothouse.workflows.demo import PLATFORM
    from pilothouse.workflows.rendering import open_platform

    own = data / PLATFORM
    if not wanted and not own.is_dir():
        raise _no_platform()
    root = Path(wanted) if wanted else own
    if _is_address(wanted):
        root = own
        if not own.is_dir():
            git.clone(wanted, own)
            try:
                open_platform(own)
            except PilothouseError:
                shutil.rmtree(own, ignore_errors=True)  # the next start would take it for the platform
                raise
    root = root.absolute()
    open_platform(root)
    return root


@click.command()
@data_option
@click.option("--platform", type=click.Path(path_type=Path), default=None, help="Folder to copy. [default: the bank]")
@click.option("--new-passwords", is_flag=True, help="Give every demo user a new password.")
@listen_options
def demo(
    data: Path,
    platform: Path | None,
    new_passwords: bool,
    host: str,
    port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    proxies: tuple[str, ...],
) -> None:
    """Serve a demonstration: an example platform as a repository, users of its teams, portal, worker and signer.

    The platform is copied into the data folder, so that proposals become commits there. The users'
    passwords are random and printed once.
    """
    from pilothouse.files.content import example
    from pilothouse.portal.app import utc_now
    from pilothouse.workflows import demo as making
    from pilothouse.workflows.rendering import open_platform

    source = platform or example()
    if not (data / making.PLATFORM).exists():
        open_platform(source)  # refused here, nothing is left that the next start would find
    store, folder = _open_store(data, None)
    store.migrate()
    root = making.import_platform(source, folder)
    declared = open_platform(root).loaded.platform
    people = making.add_people(store, declared, making.people(declared), utc_now(), renew=new_passwords)
    store.close()

    def ready(address: str) -> None:
        fresh = any(person.password for person in people)
        table(
            "Demo users" + (" (passwords are shown this once)" if fresh else ""),
            ("User", "Password", "Team", "Directory groups"),
            [(p.name, p.password or "(as before)", p.team, " ".join(p.groups)) for p in people],
            whole=("User", "Password", "Team"),
        )
        if not fresh:
            click.echo("Forgotten? `pilothouse demo --new-passwords` makes new ones.\n")
        click.echo(f"pilothouse demo at {address} (Ctrl-C ends it)")

    _serve(folder, str(root), host, port, tls_cert, tls_key, proxies, worker=True, ready=ready, opened=True)


@click.command()
@data_option
@database_option
@click.option("--platform", default="", help="Folder of the platform. [default: the one that was served last]")
@metrics_options
def worker(data: Path, database: Named, platform: str, metrics_port: int | None, metrics_host: str) -> None:
    """Run the worker's jobs alone, where the portal was started with --no-worker.

    Several of them, each with a data folder of its own, may share a PostgreSQL: each run of a job is done by one.
    """
    from pilothouse.store import local

    _check_platform(data, platform)
    store, folder = _open_store(data, database)
    store.migrate()
    root = _platform(folder, platform or str(local.get(store, folder, PLATFORM_KEY, "")))
    store.close()
    sys.stdout.flush()
    arguments = ("--data", str(folder), "--platform", str(root), *_metrics_arguments(metrics_host, metrics_port))
    os.execv(  # noqa: S606  # this process becomes the worker: signals reach it directly
        sys.executable, [sys.executable, "-m", "pilothouse.worker", *arguments]
    )


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@data_option
@output_option
def backup(file: Path, data: Path, output: str) -> None:
    """Save the data folder to FILE (a gzipped tar, mode 0600), while everything runs.

    It holds the authorities' keys: keep it as you keep those. A PostgreSQL is not in it: save that afterwards, with its
    own tools.
    """
    from pilothouse.portal.app import utc_now
    from pilothouse.store import backup as saving

    count = saving.backup(data.absolute(), file, utc_now())
    elsewhere = saving.database_of(data.absolute())

    def human() -> None:
        click.echo(f"saved {count} files to {file}")
        if elsewhere:
            click.echo(f"The database is not among them. Save it now: pg_dump --format=custom --file=FILE {elsewhere}")

    emit({"file": str(file), "files": count, "database": elsewhere}, output, human)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@data_option
@output_option
def restore(file: Path, data: Path, output: str) -> None:
    """Bring the data folder back from FILE. The folder must be missing or empty."""
    from pilothouse.store import backup as saving

    count = saving.restore(file, data.absolute())
    elsewhere = saving.database_of(data.absolute())

    def human() -> None:
        click.echo(f"restored {count} files to {data}")
        if elsewhere:
            click.echo(
                f"The database is {elsewhere}: bring it back with pg_restore, "
                f"then `pilothouse access verify-ledger --data {data}` holds both against each other"
            )

    emit({"data": str(data), "files": count, "database": elsewhere}, output, human)


@click.command("copy-database")
@data_option
@database_option
@output_option
def copy_database(data: Path, database: Named, output: str) -> None:
    """Copy the data folder's SQLite to an empty PostgreSQL, which is the folder's database from then on.

    Nothing may serve from the folder meanwhile. The SQLite stays in it under another name.
    """
    from pilothouse.cli.processes import claim
    from pilothouse.store import address, copying
    from pilothouse.worker.scheduler import claim as claim_worker

    if not database:
        raise Invalid("no database is named to copy to", "give --database or --database-file")
    if not address.exists(data):
        raise Invalid(f"{data} is no data folder of pilothouse", "name it with --data")
    locks = (claim(data), claim_worker(data))
    try:
        count = copying.copy(data, database)
    finally:
        for lock in locks:
            os.close(lock)
    emit(
        {"data": str(data), "rows": count},
        output,
        lambda: click.echo(f"copied {count} rows; the SQLite is kept as {data / copying.COPIED}"),
    )
