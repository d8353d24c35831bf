"""Two services that claim the same pods."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from pilothouse.platform.model import Platform, Service
from pilothouse.platform.selectors import implies, satisfiable
from pilothouse.problems import Problem, error


def overlaps(platform: Platform) -> Iterator[Problem]:
    """Pairs of one namespace and cluster where one selector selects everything that the other does.

    Selectors that merely could meet, such as `app=a` and `tier=web`, are no problem until a pod carries
    both labels: `check_snapshot.selected_twice` says so.
    """
    by_namespace: dict[str, list[Service]] = defaultdict(list)
    for service in platform.services.values():
        by_namespace[service.namespace].append(service)
    for services in by_namespace.values():
        for narrow, wide in _nested(services):
            first, second = sorted((narrow, wide), key=lambda service: (service.place, service.key))
            same = implies(wide.pod_selector, narrow.pod_selector)
            how = (
                f"select the same pods ({first.pod_selector})"
                if same
                else f"overlap: every pod of `{narrow.key}` ({narrow.pod_selector}) is one of `{wide.key}` too"
            )
            yield error(
                "platform/overlapping-selectors",
                f"the selectors of `{first.key}` and `{second.key}` {how}",
                second.place,
                "a pod belongs to one service: give each a label of its own, such as app: <name>",
                related=(first.place,),
                teams=tuple(sorted({first.team, second.team})),
            )


def _nested(services: list[Service]) -> Iterator[tuple[Service, Service]]:
    """(narrow, wide) pairs, each pair once.

    A selector can only be wider than those that carry each of its labels, so candidates are looked up
    by one label instead of trying all pairs of a large namespace.
    """
    by_label: dict[tuple[str, str], list[Service]] = defaultdict(list)
    by_expression: list[Service] = []
    for service in services:
        for label in service.pod_selector.match_labels:
            by_label[label].append(service)
        if service.pod_selector.match_expressions:
            by_expression.append(service)
    seen: set[frozenset[str]] = set()
    for wide in services:
        labels = wide.pod_selector.match_labels
        candidates: Iterable[Service] = (*by_label[labels[0]], *by_expression) if labels else services
        for narrow in candidates:
            pair = frozenset((narrow.key, wide.key))
            if (
                narrow is not wide
                and pair not in seen
                and _together(narrow, wide)
                and satisfiable(narrow.pod_selector)
                and implies(narrow.pod_selector, wide.pod_selector)
            ):
                seen.add(pair)
                yield narrow, wide


def _together(one: Service, other: Service) -> bool:
    return not one.clusters or not other.clusters or bool(one.clusters & other.clusters)
