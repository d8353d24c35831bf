"""Open a platform, derive and check its clusters, compare and write what was derived."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

from pilothouse import bundle
from pilothouse.artifacts.model import EMPTY, Artifacts
from pilothouse.artifacts.objects import ObjectChange, ObjectKey, plan
from pilothouse.artifacts.write import serialise_all
from pilothouse.files import domains as domain_files
from pilothouse.files import platform as platform_files
from pilothouse.files import snapshot as snapshot_files
from pilothouse.files import tree
from pilothouse.files.garbage import collector_paused
from pilothouse.inputs import Inputs, Resolved
from pilothouse.inventory.model import Snapshot
from pilothouse.platform import checks
from pilothouse.policies import content as policy_content
from pilothouse.policies import domains as policy_domains
from pilothouse.policies import guardrails, staging
from pilothouse.problems import Invalid, Problems, has_errors, nearest, one_of, ordered, warning

Progress = Callable[[str], None]
"""Told what is being done, one short phrase at a time."""


def silent(_: str) -> None:
    """No progress."""


@dataclass(frozen=True)
class Where:
    """Where a cluster's snapshot comes from: a path, the live cluster, or (neither) the platform's `snapshots/`."""

    path: Path | None = None
    live: bool = False
    kubeconfig: str = ""
    context: str = ""


@dataclass(frozen=True, slots=True)
class KeptDomains:
    """The folder of what a worker resolved (`workflows.domains`), and the moment by which it is judged."""

    folder: Path
    now: datetime


@dataclass(frozen=True)
class Opened:
    """A platform as read. `problems` are those of its documents, alone and against each other.

    `kept` is the folder of the last good snapshots that a worker read (`workflows.live`): they go before those of the
    platform's own `snapshots/`. `domains` is where the addresses of domains that are not pinned come from.
    """

    root: Path
    loaded: platform_files.LoadedPlatform
    problems: Problems
    kept: Path | None = None
    domains: KeptDomains | None = None

    def clusters(self, names: Iterable[str] = ()) -> tuple[str, ...]:
        """The names asked for, or all; an unknown one is `Invalid`."""
        known = self.loaded.platform.clusters
        chosen = tuple(names) or tuple(known)
        for name in chosen:
            if name not in known:
                raise Invalid(f"no cluster `{name}` is declared in {self.root}", nearest(name, known) or one_of(known))
        return chosen


@collector_paused()
def open_platform(
    root: Path,
    instead: Mapping[str, str] | None = None,
    kept: Path | None = None,
    domains: KeptDomains | None = None,
) -> Opened:
    """Read and check the documents of a folder, with other texts `instead` of some of them, by path below it.

    `kept` is the folder of a worker's last good snapshots, `domains` what it resolved.

    Raises `Invalid` or `Unavailable` when there is nothing to read.
    """
    loaded = platform_files.load(root, instead)
    return Opened(root, loaded, ordered([*loaded.problems, *checks.check(loaded.platform)]), kept, domains)


@collector_paused()
def with_texts(opened: Opened, instead: Mapping[str, str | None]) -> Opened:
    """The platform that was opened, with other texts of some files; what changed in the folder since is not seen."""
    loaded = platform_files.with_texts(opened.loaded, instead)
    return replace(opened, loaded=loaded, problems=ordered([*loaded.problems, *checks.check(loaded.platform)]))


def read_snapshot(opened: Opened, cluster: str, where: Where) -> tuple[Snapshot, Problems]:
    """The snapshot of one cluster; none at all is a warning, because adoption cannot be judged then."""
    if where.live:
        from pilothouse.clients.kubernetes import read_cluster
        from pilothouse.workflows import live

        with closing(live.api_of(opened.loaded.platform.clusters[cluster], where.kubeconfig, where.context)) as api:
            return read_cluster(api)
    path = where.path or _kept(opened, cluster) or snapshot_files.find(opened.root, cluster)
    if path is None:
        return Snapshot(), (
            warning(
                "inventory/no-snapshot",
                f"there is no snapshot of cluster `{cluster}`, so what runs there is not known",
                opened.loaded.platform.clusters[cluster].place,
                f"save one as {opened.root / 'snapshots' / (cluster + '.json')}, or use --snapshot or --live",
                cluster=cluster,
            ),
        )
    return snapshot_files.read(path)


def snapshot_digest(opened: Opened, cluster: str) -> str:
    """Equal for equal snapshots of the cluster and equal addresses of its domains, "" where there is neither."""
    path = _kept(opened, cluster) or snapshot_files.find(opened.root, cluster)
    resolved = resolved_domains(opened, cluster)
    if path is None and not resolved:
        return ""
    found = hashlib.sha256(repr([(name, item.networks) for name, item in resolved.items()]).encode())
    if path is None:
        return found.hexdigest()
    for file in sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]:
        data = file.read_bytes()
        found.update(f"{file.relative_to(path)}\0{len(data)}\0".encode(errors="surrogateescape") + data)
    return found.hexdigest()


def _kept(opened: Opened, cluster: str) -> Path | None:
    """The last good snapshot of a cluster that a worker reads live."""
    endpoint = opened.loaded.platform.clusters[cluster].servers.kubernetes
    if opened.kept is None or endpoint is None or not endpoint.token_file:
        return None  # its document names no token any more, so nobody keeps it up to date
    path = opened.kept / f"{cluster}.json"
    return path if path.is_file() else None


def resolved_domains(opened: Opened, cluster: str) -> dict[str, Resolved]:
    """What the worker resolved for a cluster, without what has expired, may not be opened, or is pinned by now.
    `Invalid` or `Unavailable` where its file cannot be read: a domain that seems to be nothing would be cut."""
    if opened.domains is None:
        return {}
    declared = opened.loaded.platform.clusters[cluster]
    ranges = policy_domains.barred(opened.loaded.content, declared)
    found = domain_files.read(domain_files.path_of(opened.domains.folder, cluster))
    if ranges is None:
        return {}
    wanted = set(policy_domains.to_resolve(found, declared))
    holding = policy_domains.held(found, opened.domains.now, ranges)
    return {name: item for name, item in holding.items() if name in wanted}


@collector_paused()
def inputs_for(opened: Opened, cluster: str, today: date, where: Where = Where()) -> tuple[Inputs, Problems]:
    """The inputs of one cluster, and the problems of its snapshot by itself and against the platform."""
    platform = opened.loaded.platform
    snapshot, problems = read_snapshot(opened, cluster, where)
    declared = platform.clusters[cluster]
    resolved = resolved_domains(opened, cluster)
    inputs = Inputs(platform, declared, snapshot, opened.loaded.content, today, resolved)
    return inputs, ordered([*problems, *_against(inputs)])


def _against(inputs: Inputs) -> Problems:
    """The snapshot against the declarations. Without a readable baseline the usual namespaces are exempt."""
    baseline = policy_content.read(inputs.content).baseline
    given = (inputs.platform, inputs.cluster, inputs.snapshot, inputs.today)
    if baseline is None:
        return checks.check_against(*given)
    return checks.check_against(*given, exempt=baseline.exempt_namespaces)


@dataclass(frozen=True)
class ClusterResult:
    """One cluster derived and proved. `change` is set once it was compared with or written to a folder."""

    cluster: str
    artifacts: Artifacts = EMPTY
    problems: Problems = ()
    change: tree.TreeDiff | None = None
    objects: tuple[ObjectChange, ...] | None = None
    """Against a live cluster: the objects that an apply would add, change or remove."""
    written: bool = False

    @property
    def files(self) -> Mapping[str, bytes]:
        return serialise_all(self.artifacts)


@dataclass(frozen=True)
class Result:
    """All clusters asked for. `problems` are those of the platform; each cluster has its own beside."""

    problems: Problems
    clusters: tuple[ClusterResult, ...] = field(default=())

    @property
    def all_problems(self) -> Problems:
        return ordered([*self.problems, *(p for cluster in self.clusters for p in cluster.problems)])

    @property
    def failed(self) -> bool:
        return has_errors(self.all_problems)


@collector_paused()
def derive_cluster(opened: Opened, cluster: str, today: date, where: Where = Where()) -> tuple[Inputs, ClusterResult]:
    """Derive one cluster and prove it, with every problem that concerns it."""
    inputs, problems = inputs_for(opened, cluster, today, where)
    derived = bundle.derive(inputs)
    found = ordered(
        [*problems, *derived.problems, *bundle.prove(inputs, derived), *guardrails.check_guardrails(inputs)]
    )
    return inputs, ClusterResult(cluster, derived.artifacts, found)


@collector_paused()
def check(
    opened: Opened,
    clusters: Iterable[str],
    today: date,
    where: Where = Where(),
    progress: Progress = silent,
) -> Result:
    """Every check of every area. With errors in the documents themselves nothing is derived from them."""
    if has_errors(opened.problems):
        return Result(opened.problems)
    results = []
    for name in opened.clusters(clusters):
        progress(f"checking {name}")
        results.append(derive_cluster(opened, name, today, where)[1])
    return Result(opened.problems, tuple(results))


@collector_paused()
def render(
    opened: Opened,
    clusters: Iterable[str],
    out: Path,
    today: date,
    where: Where = Where(),
    progress: Progress = silent,
) -> Result:
    """Derive, prove, and write `out/<cluster>`; nothing is written while any cluster has an error."""
    checked = check(opened, clusters, today, where, progress)
    if checked.failed:
        return checked
    # Everything is made before the first folder changes, so that a failure leaves every old tree whole.
    trees = {}
    for result in checked.clusters:
        progress(f"writing {result.cluster}")
        trees[out / result.cluster] = result.files
    changes = tree.write_trees(trees)
    written = [replace(result, change=changes[out / result.cluster], written=True) for result in checked.clusters]
    return Result(checked.problems, tuple(written))


@collector_paused()
def compare(
    opened: Opened,
    clusters: Iterable[str],
    out: Path,
    today: date,
    where: Where = Where(),
    progress: Progress = silent,
) -> Result:
    """What a render into `out` would change, without writing."""
    checked = check(opened, clusters, today, where, progress)
    if checked.failed:
        return checked
    return Result(
        checked.problems,
        tuple(
            replace(result, change=tree.diff_tree(out / result.cluster, result.files)) for result in checked.clusters
        ),
    )


def object_changes(inputs: Inputs, result: ClusterResult) -> tuple[ObjectChange, ...]:
    """What an apply would change of the objects that a snapshot shows.

    A snapshot keeps policies and RBAC whole, and of service accounts only that they exist; other kinds
    are not compared.
    """
    current = [manifest.data for manifest in (*inputs.snapshot.policies, *inputs.snapshot.rbac)]
    wanted = staging.as_applied(inputs, result.artifacts.manifests(), datetime.now(UTC))
    kept = {*_COMPARED, *(manifest["kind"] for manifest in current)}
    desired = [manifest for manifest in wanted if manifest["kind"] in kept]
    changes = list(plan(desired, current, inputs.cluster.name))
    accounts = set(inputs.snapshot.accounts)
    for manifest in result.artifacts.manifests():
        if manifest["kind"] == "ServiceAccount":
            key = ObjectKey.of(manifest)
            if (key.namespace, key.name) not in accounts:
                changes.append(ObjectChange(key, None, manifest))
    return tuple(changes)


_COMPARED = ("NetworkPolicy", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def compare_live(opened: Opened, cluster: str, today: date, where: Where, progress: Progress = silent) -> Result:
    """What an apply would change in the cluster that the snapshot shows."""
    if has_errors(opened.problems):
        return Result(opened.problems)
    progress(f"reading {cluster}")
    inputs, result = derive_cluster(opened, cluster, today, where)
    return Result(opened.problems, (replace(result, objects=object_changes(inputs, result)),))
