"""Which database belongs to a data folder: the one in it, or the PostgreSQL that was named once.

    store = address.opened(data, Named(url="postgresql://pilothouse@db.example/pilothouse"))

What was named is kept in the folder (`database.json`), so that no later command of that folder works by mistake on an
empty database of its own. A password is never kept, and never an argument that every user of the machine can read: it
stands in a file that is named.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import URL, exc
from sqlalchemy.engine import make_url

from pilothouse.problems import Invalid, Unavailable
from pilothouse.store import postgresql
from pilothouse.store.database import DATABASE, Store, make_folder
from pilothouse.store.local import read_json, write_json

KEPT = "database.json"
SCHEMES = ("postgresql", "postgres", postgresql.DRIVER)
SECRETS = ("password", "sslpassword")
HINT = "write it as postgresql://user@host/name?sslmode=verify-full&sslrootcert=/path/ca.crt"
LOOPBACK = ("", "localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Named:
    """How a database was named: its address without a password, a file that holds the whole address, or neither."""

    url: str = ""
    file: str = ""

    def __bool__(self) -> bool:
        return bool(self.url or self.file)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The same for the command line of another process."""
        if self.file:
            return ("--database-file", self.file)
        return ("--database", self.url) if self.url else ()


FOLDER_S = Named()
"""Nothing was named: the database that the folder kept, or the one in it."""


def named(url: str = "", file: Path | str = "") -> Named:
    """What the command line said. `Invalid` for both at once, and for a password in an argument."""
    if url and file:
        raise Invalid("--database and --database-file name a database each", "give one of them")
    if file:
        return Named(file=str(Path(file).expanduser().absolute()))
    if not url:
        return FOLDER_S
    found = _parsed(url)
    if found.password is not None or any(name in found.query for name in SECRETS):
        raise Invalid(
            "--database holds a password, which every user of this machine can read",
            "put the whole address into a file of mode 0600 and name it with --database-file "
            "(or PILOTHOUSE_DATABASE_FILE)",
        )
    return Named(url=url)


def _parsed(text: str, where: str = "--database") -> URL:
    try:
        url = make_url(text)
    except exc.ArgumentError as failure:
        raise Invalid(f"{where} holds no address of a database", HINT) from failure
    if url.drivername not in SCHEMES:
        raise Invalid(f"{where} names {url.get_backend_name()}, and PostgreSQL is what can be used", HINT)
    if not url.database:
        raise Invalid(f"{where} names no database on {url.host or 'its host'}", HINT)
    return url.set(drivername=postgresql.DRIVER)


def of(data: Path, given: Named = FOLDER_S) -> Named:
    """What was named now, else what the folder kept. Nothing is written."""
    if given:
        return given
    kept = read_json(data / KEPT, "remove it, and name the database once more with --database")
    return Named(str(kept.get("url", "")), str(kept.get("file", "")))


def exists(data: Path, given: Named = FOLDER_S) -> bool:
    """Whether the folder has a database, in it or elsewhere."""
    return bool(of(data, given)) or (data / DATABASE).is_file()


def url_of(name: Named) -> URL:
    """The address itself, password and all. Read anew each time, so that a changed password needs no other step."""
    if not name.file:
        return _parsed(name.url)
    path = Path(name.file)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as failure:
        raise Invalid(
            f"there is no file {path}", "--database-file names one that holds a database's address"
        ) from failure
    except (OSError, UnicodeDecodeError) as failure:
        reason = getattr(failure, "strerror", None) or "it is no text"
        raise Unavailable(f"cannot read {path}: {reason}", "the user that runs pilothouse must read it") from failure
    return _parsed(text, str(path))


def opened(data: Path, given: Named = FOLDER_S) -> Store:
    """The store of a data folder; the folder is made where it is missing."""
    name = of(data, given)
    if not name:
        return Store(data)
    url = url_of(name)  # before a folder is made
    make_folder(data)
    return Store(url.render_as_string(hide_password=False))


def keep(data: Path, given: Named) -> None:
    """Remember for the folder what was named. `Invalid` where it has a database of its own already."""
    if not given or of(data) == given:
        return
    if (data / DATABASE).is_file() and not of(data):
        raise Invalid(
            f"{data} has a database of its own, {DATABASE}, with people and ledger",
            f"copy it first: `pilothouse copy-database --data {data} {' '.join(given.arguments)}`",
        )
    write_json(data / KEPT, {key: value for key, value in asdict(given).items() if value})


def is_checked(url: URL) -> bool:
    """Whether nobody in between can pose as the server: TLS with a checked certificate, or this machine itself."""
    host = url.host or str(url.query.get("host", ""))
    return host in LOOPBACK or host.startswith("/") or url.query.get("sslmode") in ("verify-full", "verify-ca")
