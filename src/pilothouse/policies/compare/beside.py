"""What policies allow a service, beside what is declared of it: where the two are not the same.

While its namespace is not enforced, or where policies of others add to ours, more is allowed than anybody declared. The
declarations are expanded as the proof does it (`prove.declared`), every governed namespace as if it were enforced.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pilothouse.policies.compare.groups import Change, What, change_data, change_of, grouped
from pilothouse.policies.content import read
from pilothouse.policies.edges import Edges
from pilothouse.policies.engine import Reach
from pilothouse.policies.parties import Parties
from pilothouse.policies.prove.declared import Declared
from pilothouse.policies.site import Site


@dataclass(frozen=True, slots=True)
class Beside:
    """`more` is allowed and not declared, `less` declared and not allowed; both are sorted."""

    more: tuple[Change, ...] = ()
    less: tuple[Change, ...] = ()

    @property
    def same(self) -> bool:
        return not self.more and not self.less


def declared_reach(site: Site, edges: Edges, governed: Iterable[str]) -> Reach | None:
    """What the declarations mean on the pieces of a site; None where it has none, or the baseline cannot be read."""
    baseline = read(site.inputs.content).baseline if site.inputs is not None else None
    if site.inputs is None or baseline is None:
        return None
    return Declared(site.inputs, baseline, edges, site.engine.universe, frozenset(governed)).reach()


def beside(site: Site, declared: Reach, key: str) -> Beside:
    """The connections of one service (`namespace/name`), in both directions. `declared` is that of `declared_reach`."""
    engine = site.engine
    universe = engine.universe
    parties = Parties(site.inputs, universe)
    own = 0
    for number in range(len(universe.pieces)):
        service = parties.service(number)
        if service is not None and service.key == key:
            own |= 1 << number
    found: list[Change] = []
    for sources, destinations in ((own, -1), (~own, own)):
        found += (
            change_of(universe, group)
            for group in grouped(
                declared,
                engine.reach,
                parties,
                parties,
                sources,
                destinations,
                together=True,
                sets=engine.policies.sets,
            )
        )
    # Conditional ones are allowed in part: less than what is declared, where all of it is.
    return Beside(
        tuple(change for change in found if change.what is What.APPEARS),
        tuple(change for change in found if change.what is not What.APPEARS),
    )


def as_data(found: Beside) -> dict[str, Any]:
    """As JSON can hold it."""
    return {
        "same": found.same,
        "more": [change_data(change) for change in found.more],
        "less": [change_data(change) for change in found.less],
    }
