"""Log in by LDAP, where the owner has set a directory in `DATA/directory.yaml`:

    servers: [ldaps://ldap1.bank.example, ldaps://ldap2.bank.example]
    caFile: /etc/pilothouse/ldap-ca.crt
    bindDN: cn=pilothouse,ou=services,dc=bank,dc=example
    passwordFile: /etc/pilothouse/ldap-password
    users: {base: "ou=people,dc=bank,dc=example", filter: "(uid={user})", name: uid, displayName: cn, email: mail}
    groups: {base: "ou=groups,dc=bank,dc=example", filter: "(member={dn})", name: cn, nested: false}

The person is searched for with the service's own account, then bound with the password that was typed. Their name is
the attribute that the directory returned, never what was typed: directories fold case and blanks, certificates do not.
Without `groups.base` the groups are those of the person's `memberOf`.

Servers are asked in order; the next one only where one does not answer. What is put into a filter is escaped
(https://www.rfc-editor.org/rfc/rfc4515#section-3), and an empty password never reaches the directory, which might
take it for an anonymous bind (https://www.rfc-editor.org/rfc/rfc4513#section-5.1.2). DNs are those that the directory
returned.
"""

from __future__ import annotations

import re
import ssl
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pilothouse.clients.addresses import LOOPBACK
from pilothouse.clients.calls import measured
from pilothouse.files.settings import read_settings
from pilothouse.problems import Unavailable

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What can be the user of a certificate, and a part of a path at Vault."""
MAX_TYPED = 200
MAX_PASSWORD = 200
NESTING = 10
MAX_GROUPS = 1000


def _pattern(*names: str, optional: bool = False) -> AfterValidator:
    """A filter in which these words, and no others, stand in braces; "" too where it is `optional`."""

    def check(value: str) -> str:
        if optional and not value:
            return value
        try:
            found = [name for _, name, _, _ in Formatter().parse(value) if name is not None]
        except ValueError as failure:
            raise ValueError("its braces do not pair up") from failure
        if not found or set(found) - set(names):
            raise ValueError(f"write {' or '.join(f'{{{name}}}' for name in names)} where the value goes")
        if not (value.startswith("(") and value.endswith(")")):
            raise ValueError("a filter stands in parentheses")
        return value

    return AfterValidator(check)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class UserSettings(_Strict):
    base: Annotated[str, Field(min_length=3)]
    filter: Annotated[str, _pattern("user")] = "(uid={user})"
    lookup: Annotated[str, _pattern("user", optional=True)] = ""
    """How a person is found again by `name` when no one types it; left out: as at the login."""
    name: str = "uid"
    display_name: str = Field(default="cn", alias="displayName")
    email: str = "mail"


class GroupSettings(_Strict):
    base: str = ""
    filter: Annotated[str, _pattern("dn", "user")] = "(member={dn})"
    name: str = "cn"
    nested: bool = False


class DirectorySettings(_Strict):
    """`DATA/directory.yaml`. A server without TLS must be the machine itself."""

    servers: Annotated[list[str], Field(min_length=1, max_length=10)]
    starttls: bool = False
    ca_file: str = Field(default="", alias="caFile")
    bind_dn: str = Field(default="", alias="bindDN")
    password_file: str = Field(default="", alias="passwordFile")
    users: UserSettings
    groups: GroupSettings = GroupSettings()
    timeout: Annotated[int, Field(ge=1, le=10)] = 3

    @model_validator(mode="after")
    def _safe(self) -> DirectorySettings:
        for url in self.servers:
            parts = urlsplit(url)
            if parts.scheme not in ("ldap", "ldaps") or not parts.hostname or parts.path.strip("/"):
                raise ValueError(f"{url!r} is no address such as ldaps://ldap.bank.example")
            if parts.scheme == "ldap" and not self.starttls and parts.hostname not in LOOPBACK:
                raise ValueError(f"passwords would travel unencrypted to {url}: use ldaps://, or `starttls: true`")
        if bool(self.bind_dn) != bool(self.password_file):
            raise ValueError("`bindDN` and `passwordFile` belong together")
        return self


@dataclass(frozen=True, slots=True)
class Entry:
    """A person as the directory has them, with the names of their groups."""

    name: str
    display_name: str = ""
    email: str = ""
    groups: frozenset[str] = frozenset()


class Directory:
    """Safe to share between threads: each login has connections of its own."""

    def __init__(self, settings: DirectorySettings) -> None:
        self._settings = settings

    def authenticate(self, typed: str, password: str) -> Entry | None:
        """The person, or None for a wrong name or password: the same number of questions in both cases.

        `Unavailable` where no server answers, or it answers with what cannot be used. No attempt of the person's is
        counted then.
        """
        typed = typed.strip()
        if not typed or not password or len(typed) > MAX_TYPED or len(password) > MAX_PASSWORD:
            return None
        if any(unicodedata.category(letter) == "Cc" for letter in typed + password):
            return None  # no password may hold them (https://www.rfc-editor.org/rfc/rfc4013#section-2.3)
        with measured("directory", "login"):
            return self._first(lambda url: self._at(url, typed, password))

    def look_up(self, name: str) -> Entry | None:
        """The person of exactly that name as the directory has them now, asked by the service's own account; None
        where there is nobody (any more). `Unavailable` as for `authenticate`.
        """
        if not NAME.fullmatch(name):
            return None
        with measured("directory", "look up"):
            return self._first(lambda url: self._looked_up(url, name))

    def _first(self, ask: Callable[[str], Entry | None]) -> Entry | None:
        """The answer of the first server that gives one."""
        from ldap3.core.exceptions import LDAPException

        reasons = []
        for url in self._settings.servers:
            try:
                return ask(url)
            except (LDAPException, OSError) as failure:
                reasons.append(f"{urlsplit(url).hostname}: {type(failure).__name__.removeprefix('LDAP')}")
        raise Unavailable(
            f"the directory does not answer ({'; '.join(reasons)})",
            "try again in a moment; accounts of pilothouse itself still work",
        )

    def _at(self, url: str, typed: str, password: str) -> Entry | None:
        wanted = self._settings.users
        with self._service(url) as service:
            found = self._people(url, service, wanted.filter, typed)
            # Somebody unknown is bound too, under a name that nobody has, so that it takes as long.
            dn = found[0]["dn"] if found else f"cn=nobody,{wanted.base}"
            with self._connected(url, dn, password) as person:
                if person is None or not found:
                    return None
            return self._entry(url, service, found[0])

    def _looked_up(self, url: str, name: str) -> Entry | None:
        wanted = self._settings.users
        with self._service(url) as service:
            found = self._people(url, service, wanted.lookup or wanted.filter, name)
            entry = self._entry(url, service, found[0]) if found else None
            # A directory folds case: whoever is called differently by a letter is somebody else to a certificate.
            return entry if entry and entry.name == name else None

    def _people(self, url: str, service: Any, pattern: str, value: str) -> list[dict[str, Any]]:
        """Nobody or one person; more are `Unavailable`."""
        from ldap3.utils.conv import escape_filter_chars

        wanted = self._settings.users
        found = self._search(
            service,
            wanted.base,
            pattern.format(user=escape_filter_chars(value)),
            (wanted.name, wanted.display_name, wanted.email, "memberOf"),
            2,
        )
        if len(found) > 1:
            raise Unavailable(
                f"the directory {url} has several people under one name", "make `users.filter` find one of them"
            )
        return found

    @contextmanager
    def _service(self, url: str) -> Iterator[Any]:
        """A connection bound as the service's own account."""
        with self._connected(url, self._settings.bind_dn, self._service_password()) as service:
            if service is None:
                raise Unavailable(
                    f"the directory {url} does not accept {self._settings.bind_dn}",
                    "see whether `bindDN` and `passwordFile` of directory.yaml are right",
                )
            yield service

    def _entry(self, url: str, service: Any, found: dict[str, Any]) -> Entry:
        wanted = self._settings.users
        names = _values(found, wanted.name)
        if len(names) != 1 or not NAME.fullmatch(names[0]) or names[0].lower().startswith("system"):
            raise Unavailable(
                f"the directory {url} calls somebody {names!r}, which cannot be a user here",
                f"`users.name` of directory.yaml says which attribute is the name; it is {wanted.name} now",
            )
        return Entry(
            names[0],
            next(iter(_values(found, wanted.display_name)), ""),
            next(iter(_values(found, wanted.email)), ""),
            frozenset(self._groups(service, found, names[0])),
        )

    def _groups(self, service: Any, found: dict[str, Any], name: str) -> set[str]:
        from ldap3.utils.conv import escape_filter_chars

        wanted = self._settings.groups
        if not wanted.base:
            return {_first_value(dn) for dn in _values(found, "memberOf")}
        names: set[str] = set()
        seen: set[str] = set()
        ask = [str(found["dn"])]
        for _ in range(NESTING if wanted.nested else 1):
            above = []
            for dn in ask:
                text = wanted.filter.format(dn=escape_filter_chars(dn), user=escape_filter_chars(name))
                for group in self._search(service, wanted.base, text, (wanted.name,), MAX_GROUPS):
                    if group["dn"].lower() not in seen:
                        seen.add(group["dn"].lower())
                        names.update(_values(group, wanted.name))
                        above.append(group["dn"])
            ask = above
        return names

    # ------------------------------------------------------------ plumbing

    def _search(self, connection: Any, base: str, text: str, attributes: tuple[str, ...], limit: int) -> list[Any]:
        """The entries found. A directory's refusal to search is an `LDAPException`."""
        from ldap3 import SUBTREE
        from ldap3.core.exceptions import LDAPOperationResult

        asked = tuple(dict.fromkeys(name for name in attributes if name))
        connection.search(base, text, SUBTREE, attributes=list(asked), size_limit=limit)
        result = connection.result
        if result["result"] not in (
            0,
            4,
            32,
        ):  # success, size limit reached, no such base: https://www.rfc-editor.org/rfc/rfc4511#appendix-A
            raise LDAPOperationResult(result=result["result"], description=result["description"])
        return [item for item in connection.response or () if item["type"] == "searchResEntry"]

    @contextmanager
    def _connected(self, url: str, dn: str, password: str) -> Iterator[Any]:
        """A bound connection, or None where name and password do not fit. It is closed at the end."""
        import ldap3

        settings = self._settings
        tls = ldap3.Tls(
            validate=ssl.CERT_REQUIRED, ca_certs_file=settings.ca_file or None, version=ssl.PROTOCOL_TLS_CLIENT
        )
        server = ldap3.Server(url, get_info=ldap3.NONE, connect_timeout=settings.timeout, tls=tls)
        connection = ldap3.Connection(
            server,
            dn or None,
            password or None,
            authentication=ldap3.SIMPLE if dn else ldap3.ANONYMOUS,
            receive_timeout=settings.timeout,
            auto_referrals=False,
            read_only=True,
            raise_exceptions=False,
        )
        try:
            connection.open()
            if settings.starttls and urlsplit(url).scheme == "ldap" and not connection.start_tls():
                raise ldap3.core.exceptions.LDAPStartTLSError("refused")
            accepted = connection.bind()
            if not accepted and connection.result["result"] in (51, 52, 80):  # busy, unavailable, other
                raise ldap3.core.exceptions.LDAPUnavailableResult(description=connection.result["description"])
            yield connection if accepted else None
        finally:
            connection.unbind()

    def _service_password(self) -> str:
        path = self._settings.password_file
        if not path:
            return ""
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as failure:
            why = getattr(failure, "strerror", "") or "it is no text"
            raise Unavailable(
                f"the password file {path} cannot be read: {why}", "check its owner and mode"
            ) from failure


def _values(found: dict[str, Any], attribute: str) -> list[str]:
    """The values of an attribute, in whatever case the directory writes its name."""
    for name, value in found["attributes"].items():
        if name.lower() == attribute.lower():
            items = value if isinstance(value, list | tuple) else [value]
            return [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in items]
    return []


def _first_value(dn: str) -> str:
    """`engineers` of `cn=engineers,ou=groups,…`, its escapes undone (https://www.rfc-editor.org/rfc/rfc4514#section-2.4)."""
    from ldap3.utils.dn import parse_dn

    raw = re.sub(
        rb"\\([0-9A-Fa-f]{2}|.)",
        lambda found: bytes.fromhex(found[1].decode()) if len(found[1]) == 2 else found[1],
        str(parse_dn(dn)[0][1]).encode(),
    )
    return raw.decode("utf-8", "replace")


def from_file(path: Path) -> Directory | None:
    """The directory that the file sets, or None where there is no file. `Invalid` for a mistake in it."""
    settings = read_settings(path, DirectorySettings, "see docs/access.md")
    return Directory(settings) if settings else None
