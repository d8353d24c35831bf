"""Whether what is declared fits together: every check across documents, all at once.

`check` needs nothing but the declarations; `check_against` holds them against a cluster.
"""

from __future__ import annotations

from datetime import date

from pilothouse.inventory.model import Snapshot
from pilothouse.platform.check_ends import ends
from pilothouse.platform.check_people import clusters, profiles, teams
from pilothouse.platform.check_references import references
from pilothouse.platform.check_selectors import overlaps
from pilothouse.platform.check_snapshot import BUNDLE_NAMESPACES, against_snapshot, expired, selected_twice
from pilothouse.platform.model import Cluster, Platform
from pilothouse.problems import Problems, ordered

__all__ = ["BUNDLE_NAMESPACES", "check", "check_against", "selected_twice"]


def check(platform: Platform) -> Problems:
    """Every problem between the documents of a platform, ordered by place."""
    return ordered(
        [
            *references(platform),
            *overlaps(platform),
            *ends(platform),
            *teams(platform),
            *clusters(platform),
            *profiles(platform),
        ]
    )


def check_against(
    platform: Platform,
    cluster: Cluster,
    snapshot: Snapshot,
    today: date,
    exempt: frozenset[str] = BUNDLE_NAMESPACES,
) -> Problems:
    """What a date and a cluster's snapshot show.

    That is: egress past its day, pods that two services select or none, services without pods.
    Pods of the `exempt` namespaces need no declaration. An empty snapshot says nothing about pods.
    """
    return ordered([*expired(platform, cluster, today), *against_snapshot(platform, cluster, snapshot, exempt)])
