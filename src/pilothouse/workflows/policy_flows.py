"""Observed flows held against network policies: what a change, or enforcing what is declared, would have denied."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO

from pilothouse.files import flows as flow_files
from pilothouse.files.editing import replace_text
from pilothouse.files.garbage import collector_paused
from pilothouse.platform import edit
from pilothouse.platform.model import Enforcement, Service
from pilothouse.policies import flows as forms
from pilothouse.policies import site as sites
from pilothouse.policies.compare.effect import new_problems
from pilothouse.policies.explain.declare import edge_data
from pilothouse.policies.flows.learn import Learnt, Line, learn
from pilothouse.policies.flows.model import Observed
from pilothouse.policies.flows.replay import Amount, Replay, findings, replay
from pilothouse.policies.flows.verdicts import Standing
from pilothouse.policies.guardrails import check_guardrails
from pilothouse.policies.site import Site
from pilothouse.problems import Invalid, Problems, Severity, ordered
from pilothouse.workflows.commits import patch
from pilothouse.workflows.egress import target
from pilothouse.workflows.policy_sites import STANDARD_INPUT, OpenedSite
from pilothouse.workflows.rendering import Opened, Where, inputs_for, with_texts

Progress = Callable[[str], object]


def silent(_: str) -> None:
    """For callers that show no progress."""


@dataclass(frozen=True)
class Previewed:
    """`before` and `after` say in words what was compared."""

    replay: Replay
    reading: forms.Reading
    before: str
    after: str

    @property
    def problems(self) -> Problems:
        """Where what was observed is not what the policies say."""
        return findings(self.replay)


@collector_paused()
def read_flows(path: Path, stream: IO[bytes] | None = None, progress: Progress = silent) -> forms.Reading:
    """The flows of a file, plain or gzip, or of `stream` where the path is `-`.

    Raises `Invalid` where nothing of it can be used, and as `files.flows` does.
    """
    if str(path) == STANDARD_INPUT:
        if stream is None:
            raise Invalid("standard input is not open here", "name a file of flows")
        shown = "standard input"
        reading = forms.read(flow_files.lines(stream, shown, progress=_told(shown, progress)), None, shown)
    else:
        shown = path.as_posix()
        with flow_files.opened(path, _told(shown, progress)) as lines:
            reading = forms.read(lines, None, shown)
    if not reading.flows:
        first = next((item for item in reading.problems if item.severity is Severity.ERROR), None)
        first = first or next(iter(reading.problems), None)
        raise Invalid(first.message if first else f"{shown} holds no flows", first.hint if first else "")
    return reading


def _told(shown: str, progress: Progress) -> flow_files.Progress:
    def told(done: int, size: int) -> None:
        part = f" {min(100, done * 100 // size)} %" if size else f" {done / 1e6:,.0f} MB"
        progress(f"reading {shown}{part}")

    return told


@collector_paused()
def preview(
    reading: forms.Reading, after: OpenedSite, before: OpenedSite | None = None, progress: Progress = silent
) -> Previewed:
    """What becomes of flows. The new policies are those of a platform as if each governed namespace were enforced, or
    those of manifests with their staged ones. The old ones are those of `before`, else those that the snapshot holds.
    """

    def told(done: int, total: int) -> None:
        progress(f"judging flow {done:,} of {total:,}")

    new = _as_if_enforced(after.site)
    old, name = (_on(before.site, new), before.title) if before else (_found(after.site), "what the snapshot holds")
    progress("evaluating the policies")
    return Previewed(replay(reading.flows, old, new, told), reading, name, f"{after.title}, all of it enforced")


def _as_if_enforced(site: Site) -> Site:
    return site.preview() if site.inputs is None else sites.of_platform(site.inputs, as_if_enforced=True)


def _found(site: Site) -> Site:
    return sites.of_snapshot(site.snapshot, site.inputs)


def _on(site: Site, other: Site) -> Site:
    """A site's policies for the pods of another: a platform is derived for them."""
    if site.inputs is None or not other.snapshot.pods:
        return site
    return sites.of_platform(replace(site.inputs, snapshot=other.snapshot), as_if_enforced=True)


# ---------------------------------------------------------------- drafts of declarations


@dataclass(frozen=True)
class Drafted:
    """`files` are whole documents by path below the platform, `patch` what changes in them, as `git apply` takes it.
    `problems` are what the draft brings about: a guardrail that it breaks, for example. Before and after are the
    standings of the flows with every governed namespace enforced."""

    learnt: Learnt
    files: Mapping[str, str]
    patch: str
    problems: Problems
    total: Amount
    denied_before: Amount
    denied_after: Amount
    elsewhere: tuple[Line, ...] = ()
    """Lines for services whose document this platform only extends, or that cannot be edited as text."""


@collector_paused()
def draft(
    reading: forms.Reading, opened: OpenedSite, today: date, where: Where, progress: Progress = silent
) -> Drafted:
    """The declarations that are missing for what was seen, written into the documents of the platform."""
    site = opened.site
    if opened.opened is None or site.inputs is None:
        raise Invalid("only a platform has declarations to add to", "name the platform's folder, with --cluster")
    flows = tuple(flow for flow in reading.flows if flow.action is not Observed.DENY)
    progress("looking for what is not declared")
    found = learn(flows, site.inputs)
    old, new, elsewhere = _written(opened.opened, found)
    progress("judging the draft")
    laid = with_texts(opened.opened, new)
    inputs, problems = inputs_for(laid, site.inputs.cluster.name, today, where)
    told = ordered([*laid.problems, *problems, *check_guardrails(inputs)])
    known = (*opened.opened.problems, *opened.problems, *check_guardrails(site.inputs))
    result = replay(flows, _as_if_enforced(site), sites.of_platform(inputs, as_if_enforced=True))
    return Drafted(
        found,
        new,
        patch(old, new),
        new_problems(known, told),
        result.total,
        _added(result, Standing.STILL_DENIED, Standing.NEWLY_ALLOWED),
        _added(result, Standing.STILL_DENIED, Standing.NEWLY_DENIED, Standing.MIXED),
        elsewhere,
    )


def _added(found: Replay, *standings: Standing) -> Amount:
    amounts = [found.amount(standing) for standing in standings]
    return Amount(
        sum(item.flows for item in amounts), sum(item.count for item in amounts), sum(item.bytes for item in amounts)
    )


def _written(opened: Opened, found: Learnt) -> tuple[dict[str, str], dict[str, str], tuple[Line, ...]]:
    """(texts as they are, texts with the lines, lines that found no place)."""
    old: dict[str, str] = {}
    new: dict[str, str] = {}
    paths: dict[str, str] = {}
    elsewhere: list[Line] = []
    for service in found.drafts:
        paths[service.key] = path = _free_path(opened, service)
        new[path] = service_text(service)
    for line in found.lines:
        try:
            path = paths.get(line.service) or ""
            if not path:
                document = target(opened, line.service)
                path = document.path
                old.setdefault(path, document.text)
                new.setdefault(path, document.text)
            field = "egress" if line.direction == "egress" else "ingress"
            new[path] = edit.add_item(
                new[path], line.service, field, edge_data(line.edge, line.direction), _remark(line.amount)
            )
        except Invalid:
            elsewhere.append(line)
    return old, new, tuple(elsewhere)


def _free_path(opened: Opened, service: Service) -> str:
    taken = {source.path for source in opened.loaded.sources}
    path = f"services/{service.namespace}/{service.name}.yaml"
    return path if path not in taken else f"services/{service.namespace}/{service.name}.draft.yaml"


def service_text(service: Service) -> str:
    """A document for a service that nobody declared, to be completed by its team."""
    spec: dict[str, object] = {"podSelector": service.pod_selector.to_dict()}
    if service.service_account != "default":
        spec["serviceAccountName"] = service.service_account
    if service.clusters:
        spec["clusters"] = sorted(service.clusters)
    ports = [
        {"name": port.name, "containerPort": port.number}
        | ({} if port.protocol == "TCP" else {"protocol": port.protocol.value})
        for port in service.ports
    ]
    lines = [
        "# A draft from observed flows: whose it is, and whether it may do all that it does, is for people to say.",
        "apiVersion: pilothouse.dev/v1",
        "kind: Service",
        f"metadata: {edit.flow({'name': service.name, 'namespace': service.namespace})}",
        "spec:",
        f"  team: {edit.flow(service.team)}  # a guess: the team with the most services in the namespace",
        *(f"  {key}: {edit.flow(value)}" for key, value in spec.items()),
    ]
    if ports:
        lines += ["  ports:", *(f"    - {edit.flow(port)}" for port in ports)]
    return "\n".join(lines) + "\n"


def _remark(amount: Amount) -> str:
    """What is written behind a line: how often it was seen, and when last."""
    if not amount.flows:
        return "accepted until now without being listed"
    parts = [f"{amount.count:,} connection{'' if amount.count == 1 else 's'}"]
    if amount.bytes:
        parts.append(f"{amount.bytes:,} bytes")
    if amount.last_seen is not None:
        parts.append(f"last seen {datetime.fromtimestamp(amount.last_seen, UTC):%Y-%m-%d %H:%M} UTC")
    return ", ".join(parts)


# ---------------------------------------------------------------- namespaces that are ready


_BY_HAND = "write the line by hand: the command shows it without --write"


def enforced(opened: OpenedSite, namespaces: Collection[str]) -> dict[str, str]:
    """The document of the site's Cluster with those namespaces enforced, by its path below the platform.

    Nothing else changes, which is made sure of. Raises `Invalid` where it cannot be edited as text, or lies elsewhere.
    """
    if opened.opened is None or opened.site.inputs is None:
        raise Invalid("only a platform has namespaces to enforce", "name the platform's folder, with --cluster")
    cluster = opened.opened.loaded.platform.clusters[opened.site.inputs.cluster.name]
    source = opened.opened.loaded.source(cluster.place.path)
    if source is None or source.path.startswith("../"):
        where = cluster.place.path or "another folder"
        raise Invalid(f"{cluster.name} is declared in {where}, which this platform only extends", "change it there")
    text = source.text
    for name in sorted(namespaces):
        text = edit.set_field(text, "Cluster", cluster.name, ("enforcement", "namespaces", name), "enforced")
    files = {source.path: text}
    named = {**cluster.namespace_enforcement, **dict.fromkeys(namespaces, Enforcement.ENFORCED)}
    read = with_texts(opened.opened, files).loaded.platform.clusters.get(cluster.name)
    if read != replace(cluster, namespace_enforcement=named):
        raise Invalid(f"`enforcement` of {cluster.name} is not written so that one field of it can be set", _BY_HAND)
    return files


def write(files: Mapping[str, str], folder: Path) -> None:
    """Whole documents below a folder, which may be the platform's own."""
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_text(file, text)
