"""slapd, the directory that engineers log in with: own configuration, own data, an unprivileged port."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import testbed
from support.bed.process import Served, Server, free_port, own_folder

BASE = "dc=bank,dc=example"
SCHEMAS = ("core", "cosine", "inetorgperson", "nis")


@dataclass
class Subtree:
    """People and groups of one test, below a branch of its own."""

    slapd: Slapd
    base: str

    @property
    def people(self) -> str:
        return f"ou=people,{self.base}"

    @property
    def groups(self) -> str:
        return f"ou=groups,{self.base}"

    def add_user(self, uid: str, password: str, **attributes: str) -> str:
        """A person (inetOrgPerson); the DN."""
        dn = f"uid={uid},{self.people}"
        values = {"cn": uid, "sn": uid, "mail": f"{uid}@bank.example"} | attributes
        self.slapd.add(dn, "inetOrgPerson", {"uid": uid, "userPassword": password, **values})
        return dn

    def add_group(self, cn: str, members: tuple[str, ...] = ()) -> str:
        """A groupOfNames of users (by uid); the DN. It cannot be empty, so the branch itself is a member."""
        dn = f"cn={cn},{self.groups}"
        self.slapd.add(dn, "groupOfNames", {"cn": cn, "member": [self.base, *map(self.dn, members)]})
        return dn

    def add_member(self, cn: str, uid: str) -> None:
        self._member(cn, uid, "add")

    def remove_member(self, cn: str, uid: str) -> None:
        self._member(cn, uid, "delete")

    def _member(self, cn: str, uid: str, how: str) -> None:
        import ldap3

        change = {"add": ldap3.MODIFY_ADD, "delete": ldap3.MODIFY_DELETE}[how]
        self.slapd.modify(f"cn={cn},{self.groups}", {"member": [(change, [self.dn(uid)])]})

    def dn(self, uid: str) -> str:
        return f"uid={uid},{self.people}"


@dataclass
class Slapd(Served):
    url: str
    base: str
    admin_dn: str
    admin_password: str = field(repr=False)
    server: Server

    def connection(self) -> Any:
        """A bound connection of the administrator."""
        import ldap3

        server = ldap3.Server(self.url, get_info=ldap3.NONE, connect_timeout=3)
        return ldap3.Connection(server, self.admin_dn, self.admin_password, auto_bind=True, raise_exceptions=True)

    def add(self, dn: str, kind: str, attributes: Mapping[str, Any]) -> None:
        with self.connection() as connection:
            connection.add(dn, kind, dict(attributes))

    def modify(self, dn: str, changes: Mapping[str, Any]) -> None:
        with self.connection() as connection:
            connection.modify(dn, dict(changes))

    @contextmanager
    def subtree(self, prefix: str = "test") -> Iterator[Subtree]:
        """A branch of its own with `ou=people` and `ou=groups`. What is in it stays until the server ends."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        branch = Subtree(self, f"ou={name},{self.base}")
        self.add(branch.base, "organizationalUnit", {"ou": name})
        self.add(branch.people, "organizationalUnit", {"ou": "people"})
        self.add(branch.groups, "organizationalUnit", {"ou": "groups"})
        yield branch


def start() -> Slapd:
    folder, port, password = own_folder("slapd"), free_port(), secrets.token_hex(12)
    (folder / "data").mkdir()
    admin = f"cn=admin,{BASE}"
    schemas = Path("/etc/ldap/schema")
    lines = [
        *(f"include {schemas / name}.schema" for name in SCHEMAS),
        f"pidfile {folder / 'slapd.pid'}",
        "modulepath /usr/lib/ldap",
        "moduleload back_mdb",
        "moduleload memberof",
        "database mdb",
        "maxsize 67108864",
        f'suffix "{BASE}"',
        f'rootdn "{admin}"',
        f"rootpw {password}",
        f"directory {folder / 'data'}",
        "overlay memberof",
        "index objectClass,uid,cn,member eq",
        "access to attrs=userPassword by self write by anonymous auth by * none",
        "access to * by users read by anonymous read",
    ]
    configuration = folder / "slapd.conf"
    configuration.touch(mode=0o600)
    configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
    url = f"ldap://127.0.0.1:{port}"

    def ready() -> None:
        made.connection().unbind()

    server = Server("slapd", [testbed.program("slapd"), "-f", configuration, "-h", url, "-d", "0"], ready, cwd=folder)
    made = Slapd(url, BASE, admin, password, server)
    server.start()
    with made.connection() as connection:
        connection.add(BASE, ["dcObject", "organization"], {"dc": "bank", "o": "bank"})
    return made
