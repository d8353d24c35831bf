"""What to ask about network policies: a platform's cluster, a folder of manifests, a snapshot, standard input, or what
runs."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pilothouse.files import snapshot as snapshot_files
from pilothouse.files.garbage import collector_paused
from pilothouse.inventory.model import Snapshot
from pilothouse.policies import site as sites
from pilothouse.policies.site import Site
from pilothouse.problems import Invalid, Problems, one_of, ordered
from pilothouse.workflows.rendering import KeptDomains, Opened, Where, inputs_for, open_platform

STANDARD_INPUT = "-"
ANYWHERE = Where()


@dataclass(frozen=True)
class OpenedSite:
    """`problems` are those of the input: of the platform's documents and the snapshot, and policies that were left
    out because an API server would refuse them. `opened` is None without a platform."""

    site: Site
    problems: Problems
    opened: Opened | None = None
    title: str = ""


def is_platform(path: Path) -> bool:
    """Whether a folder holds documents of pilothouse rather than plain manifests."""
    return (path / "platform.yaml").is_file() or (path / "clusters").is_dir()


@collector_paused()
def open_site(
    path: Path | None,
    cluster: str,
    today: date,
    where: Where = ANYWHERE,
    domains: KeptDomains | None = None,
    *,
    text: str = "",
    as_if_enforced: bool = False,
    as_found: bool = False,
) -> OpenedSite:
    """Open what was named: `path` None is the live cluster alone, "-" is `text`, what came on standard input.

    On a platform the policies are those that its declarations give, beside those of others in the snapshot; with
    `as_found` those that the snapshot holds. `as_if_enforced` counts staged and withheld ones.
    Raises `Invalid` where there is nothing to ask about.
    """
    if path is None or str(path) == STANDARD_INPUT or not is_platform(path):
        if cluster:
            raise Invalid("--cluster is for a platform folder", "leave it away, or name the platform's folder")
        snapshot, problems = _snapshot(path, where, text)
        site = sites.of_snapshot(snapshot)
        found = ordered([*problems, *site.problems])
        return OpenedSite(site.preview() if as_if_enforced else site, found, None, snapshot.source)
    opened = open_platform(path, domains=domains)
    known = opened.loaded.platform.clusters
    if not cluster:
        if len(known) != 1:
            raise Invalid("a platform has several clusters", f"name one with --cluster: {one_of(known)}")
        cluster = next(iter(known))
    opened.clusters((cluster,))
    inputs, problems = inputs_for(opened, cluster, today, where)
    if as_found:
        site = sites.of_snapshot(inputs.snapshot, inputs)
        site = site.preview() if as_if_enforced else site
    else:
        site = sites.of_platform(inputs, as_if_enforced=as_if_enforced)
    return OpenedSite(site, ordered([*opened.problems, *problems, *site.problems]), opened, f"cluster {cluster}")


def _snapshot(path: Path | None, where: Where, text: str) -> tuple[Snapshot, Problems]:
    if path is None and where.path is None:
        if not where.live:
            raise Invalid("nothing to read", "name a folder or file, - for standard input, or --live")
        from pilothouse.clients.kubernetes import read_cluster
        from pilothouse.clients.kubernetes.api import Api
        from pilothouse.clients.kubernetes.connect import to_context

        with closing(Api(to_context(where.kubeconfig or None, where.context or None))) as api:
            return read_cluster(api)
    if path is not None and str(path) == STANDARD_INPUT:
        return snapshot_files.read_text(text, "standard input")
    chosen = path or where.path
    assert chosen is not None
    return snapshot_files.read(chosen)
