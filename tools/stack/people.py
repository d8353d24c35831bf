"""The bank's people: in the directory with passwords of this start, known to Vault and to the portal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml
from support.bed.directory import Slapd, Subtree
from support.bed.vault import Vault

from pilothouse.platform.model import Platform
from pilothouse.workflows.demo import new_password
from pilothouse.workflows.demo import people as members

LOGIN = "ldap"
"""Vault's auth mount at which engineers log in, as the Cluster document says by default."""


@dataclass(frozen=True)
class Person:
    name: str
    title: str
    team: str
    groups: tuple[str, ...]
    password: str


def invent(platform: Platform) -> tuple[Person, ...]:
    """Some people of each team, each with a new password."""
    return tuple(Person(item.name, item.title, item.team, item.groups, new_password()) for item in members(platform))


def enter(slapd: Slapd, people: tuple[Person, ...], emails: dict[str, str]) -> Subtree:
    """A branch of the directory with all of them and their groups."""
    with slapd.subtree("bank") as branch:
        for person in people:
            family = person.title.split()[-1]
            mail = emails.get(person.name) or f"{person.name}@bank.example"
            branch.add_user(person.name, person.password, cn=person.title, sn=family, mail=mail)
        for group in sorted({group for person in people for group in person.groups}):
            branch.add_group(group, tuple(person.name for person in people if group in person.groups))
    return branch


def open_vault(vault: Vault, slapd: Slapd, branch: Subtree, audit: Path) -> None:
    """What the owner of a Vault has done before pilothouse sets it up: an audit device, and the directory's login."""
    vault.send("POST", "sys/audit/file", {"type": "file", "options": {"file_path": str(audit)}})
    vault.send("POST", f"sys/auth/{LOGIN}", {"type": "ldap"})
    vault.send(
        "POST",
        f"auth/{LOGIN}/config",
        {
            "url": slapd.url,
            "userdn": branch.people,
            "userattr": "uid",
            "groupdn": branch.groups,
            "groupfilter": "(member={{.UserDN}})",
            "groupattr": "cn",
            "username_as_alias": False,
            "deny_null_bind": True,
            "token_ttl": "1h",
            "token_max_ttl": "16h",
        },
    )


def write_directory(data: Path, slapd: Slapd, branch: Subtree) -> None:
    """Have the portal log people in by the directory."""
    settings = {
        "servers": [slapd.url],
        "users": {"base": branch.people, "filter": "(uid={user})", "name": "uid", "displayName": "cn"},
        "groups": {"base": branch.groups, "filter": "(member={dn})", "name": "cn"},
    }
    (data / "directory.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
