"""New configuration for running servers: written in one step, checked, reloaded, and seen to be what is loaded.

For servers that read their files from a folder of this machine: a test, a demonstration, a small site.
Where files reach servers another way (ConfigMaps, a configuration manager), `workflows.loaded` says what arrived.
A server that refuses the new files goes on with what it had; then the old files are put back for all of
them, and those that took the new ones are reloaded once more, so that no restart finds a broken file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pilothouse.artifacts.model import Artifacts
from pilothouse.artifacts.write import serialise_all
from pilothouse.clients.alertmanager import Alertmanager
from pilothouse.clients.prometheus import Prometheus
from pilothouse.files import tree
from pilothouse.inputs import Inputs
from pilothouse.problems import Invalid, PilothouseError
from pilothouse.workflows.loaded import Expected, loaded_rules, routing_differences

Check = Callable[[Path], str]
"""Looks at the written folder, such as with promtool; says what is wrong with it, "" where nothing is."""


class Server(Protocol):
    """What of a client is needed."""

    @property
    def url(self) -> str: ...
    def reload(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Reloaded:
    """One server after it. `refused` says why it kept what it had, `differs` what it has not loaded all the same."""

    server: str
    refused: str = ""
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Installed:
    """`changed` are the files that differ now. `wrong` is what the check said: then no server was told."""

    changed: tuple[str, ...] = ()
    servers: tuple[Reloaded, ...] = ()
    wrong: str = ""
    undone: bool = False

    @property
    def is_well(self) -> bool:
        return not self.wrong and not any(item.refused or item.differs for item in self.servers)


def install(
    folder: Path,
    files: Mapping[str, bytes],
    servers: Iterable[Server],
    differs: Callable[[Server], Iterable[str]],
    check: Check = lambda _: "",
) -> Installed:
    """Makes `folder` hold exactly these files and each server load them; all or nothing.

    `differs` says what a server has not loaded after a reload that it took. `Invalid` for a folder that is not ours.
    """
    known = tuple(servers)
    before = tree.read_tree(folder)
    change = tree.write_tree(folder, files)
    changed = (*change.added, *change.changed, *change.removed)
    if wrong := check(folder):
        _put_back(folder, before)
        return Installed(changed, (), wrong, undone=True)
    found = [_reload(server, differs) for server in known]
    if not any(item.refused for item in found):
        return Installed(changed, tuple(found))
    _put_back(folder, before)
    for server, item in zip(known, found, strict=True):
        if not item.refused and before:
            server.reload()
    return Installed(changed, tuple(found), undone=True)


def _reload(server: Server, differs: Callable[[Server], Iterable[str]]) -> Reloaded:
    try:
        server.reload()
        return Reloaded(server.url, "", tuple(differs(server)))
    except PilothouseError as failure:
        return Reloaded(server.url, failure.message)


def _put_back(folder: Path, before: Mapping[str, bytes]) -> None:
    """A folder that was not there keeps the new files: there is nothing better to put in their place."""
    if before:
        tree.write_tree(folder, before)


def _below(artifacts: Artifacts, prefix: str) -> dict[str, bytes]:
    """The files of one component by their path below it."""
    files = serialise_all(artifacts.under(f"{prefix}/"))
    if not files:
        raise Invalid(f"nothing is rendered below {prefix}/", "see the problems of the platform")
    return {path.removeprefix(f"{prefix}/"): content for path, content in files.items()}


def install_prometheus(folder: Path, inputs: Inputs, artifacts: Artifacts, check: Check = lambda _: "") -> Installed:
    """The leaves and the global that the Cluster document names, all of which read from `folder`."""
    declared = inputs.cluster.servers
    endpoints = (*declared.leaves, *((declared.prometheus,) if declared.prometheus else ()))

    def differs(server: Server) -> Iterable[str]:
        for item in loaded_rules(inputs, artifacts):
            if item.server == server.url:
                yield from (item.reason,) if item.reason else (*item.config, *map(str, item.rules))

    return install(folder, _below(artifacts, "prometheus"), map(Prometheus, endpoints), differs, check)


def install_alertmanager(
    folder: Path, inputs: Inputs, artifacts: Artifacts, expected: Expected, check: Check = lambda _: ""
) -> Installed:
    """The Alertmanagers that the Cluster document names, all of which read from `folder`."""
    servers = {item.url: item for item in map(Alertmanager, inputs.cluster.servers.alertmanagers)}

    def differs(server: Server) -> Iterable[str]:
        return map(str, routing_differences(expected, servers[server.url].status().config, server.url))

    return install(folder, _below(artifacts, "alertmanager"), servers.values(), differs, check)
