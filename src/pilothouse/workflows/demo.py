"""A data folder for a demonstration: an example platform as a Git repository, and its people with random passwords."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pilothouse.files import git
from pilothouse.platform.model import Platform
from pilothouse.problems import Invalid, Unavailable
from pilothouse.store import Store, users

PLATFORM = "platform"
"""The folder of the platform's repository, within the data folder."""
PER_TEAM = 2
"""People of each team who get an account: enough for somebody to ask and somebody else to agree."""

# What the groups of the bundle's own access profiles stand for among the people of an example.
EVERYBODY, ON_CALL, RELEASES, ADMINS = "engineers", "on-call", "release-managers", "platform-admins"
_WORDS = (
    "amber anchor arrow autumn bamboo barley basil beacon birch bonnet breeze bridge candle canyon cedar cherry "
    "cinder clover cobalt coral cotton copper crane cricket dahlia dapple desert drizzle ember falcon feather fennel "
    "fjord flint forest fossil garnet ginger glacier granite harbor harvest hazel heron hollow indigo island ivory "
    "jasmine juniper kettle lagoon lantern lavender lemon linden lotus maple marble meadow mellow meteor mosaic "
    "nectar nimbus nutmeg oasis olive onyx orchid osprey oyster pebble pepper pigeon plum poppy prairie quartz quill "
    "rabbit raven reed ribbon river robin saffron sage salmon sandal sienna silver sparrow spruce summit sunset "
    "tango thistle timber topaz tulip tundra umber valley velvet violet walnut willow winter wren yarrow zephyr"
).split()


@dataclass(frozen=True, slots=True)
class DemoUser:
    """`password` is shown once and kept nowhere; "" for a person who had an account already."""

    name: str
    title: str
    team: str
    groups: tuple[str, ...]
    password: str = ""


def people(platform: Platform) -> tuple[DemoUser, ...]:
    """Who gets an account: the first people of each team, approvers before others."""
    found: dict[str, DemoUser] = {}
    for team in platform.teams.values():
        members = sorted(team.members, key=lambda member: member.user not in team.approvers)
        for member in members[:PER_TEAM]:
            groups = {*team.groups, EVERYBODY}
            if team.rotation and member.user in team.rotation.users:
                groups.add(ON_CALL)
            if member.user in team.approvers:
                groups.add(RELEASES)
            if team.platform:
                groups.add(ADMINS)
            known = found.get(member.user)
            groups.update(known.groups if known else ())
            found[member.user] = DemoUser(member.user, member.name, team.name, tuple(sorted(groups)))
    return tuple(found[name] for name in sorted(found))


def new_password() -> str:
    """Four words and a number, about 36 bits: enough for an account whose attempts are limited, and easy to type."""
    return "-".join([*(secrets.choice(_WORDS) for _ in range(4)), str(secrets.randbelow(900) + 100)])


def import_platform(source: Path, data: Path) -> Path:
    """Copy a platform's folder into the data folder as a Git repository of one commit; an existing one stays."""
    target = data / PLATFORM
    if target.exists():
        return target
    if not source.is_dir():
        raise Invalid(f"there is no platform folder {source}", "name a folder of documents")
    partial = data / f".{PLATFORM}.new"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns(".git", "__pycache__"))
    except (OSError, shutil.Error) as failure:
        raise Unavailable(f"cannot copy {source} to {target}: {failure}", "is there space on the disk?") from failure
    repository = git.init(partial)
    repository.commit_all(f"Import the platform of {source.name}", "pilothouse", "pilothouse@localhost")
    partial.rename(target)
    return target


def add_people(
    store: Store, platform: Platform, wanted: Iterable[DemoUser], now: datetime, renew: bool = False
) -> tuple[DemoUser, ...]:
    """Make the accounts that are missing (with `renew`, give every one a new password)."""
    emails = {member.user: member.email for team in platform.teams.values() for member in team.members}
    made: list[DemoUser] = []
    for person in wanted:
        known = users.get(store, person.name) is not None
        password = new_password() if renew or not known else ""
        if not known:
            users.add(
                store,
                person.name,
                password,
                now,
                display_name=person.title,
                email=emails.get(person.name, ""),
                groups=person.groups,
            )
        elif renew:
            users.set_password(store, person.name, password, now)
        made.append(DemoUser(person.name, person.title, person.team, person.groups, password))
    return tuple(made)
