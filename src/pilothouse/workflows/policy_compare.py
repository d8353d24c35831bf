"""What is compared of network policies: two places, or a platform and what its snapshot holds."""

from __future__ import annotations

from dataclasses import replace

from pilothouse.files.garbage import collector_paused
from pilothouse.inventory.model import Snapshot
from pilothouse.policies import site as sites
from pilothouse.policies.compare.diff import Diff, diff, workloads
from pilothouse.policies.site import Site
from pilothouse.problems import Invalid
from pilothouse.workflows.policy_sites import OpenedSite


@collector_paused()
def compare(before: OpenedSite, after: OpenedSite, *, as_if_enforced: bool = False, as_found: bool = False) -> Diff:
    """From one site to another. Declarations are derived for the pods that both are asked about: those of the second
    site, or of the first where the second has none. Others' policies there count on both sides then."""
    snapshot = after.site.snapshot if after.site.snapshot.pods else before.site.snapshot
    one, two = (opened.site if as_found else _on(opened.site, snapshot, as_if_enforced) for opened in (before, after))
    gone, come = workloads(before.site.snapshot, after.site.snapshot)
    return replace(diff(one, two), only_before=gone, only_after=come)


def _on(site: Site, snapshot: Snapshot, as_if_enforced: bool) -> Site:
    """A platform's site, derived for other pods; any other one as it is."""
    if site.inputs is None or site.snapshot is snapshot:
        return site
    return sites.of_platform(replace(site.inputs, snapshot=snapshot), as_if_enforced=as_if_enforced)


@collector_paused()
def against_found(opened: OpenedSite) -> Diff:
    """From what the snapshot of a platform's cluster holds to what its declarations give: what an apply changes."""
    if opened.site.inputs is None:
        raise Invalid("only a platform can be held against its snapshot", "name two places to compare")
    return diff(sites.of_snapshot(opened.site.snapshot, opened.site.inputs), opened.site)
