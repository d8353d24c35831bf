"""One cluster to ask about: its pods, its policies, and the declarations where there are any.

A site comes from a platform (the policies that pilothouse derives, beside those that others put there) or from a
snapshot alone (whatever policies and workloads a folder of manifests or a cluster holds).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Pod, Snapshot
from pilothouse.labels import CLUSTER_LABEL, OWNED_BY, OWNER
from pilothouse.platform.model import Network
from pilothouse.policies import edges
from pilothouse.policies.derive import PoliciesDerived, derive
from pilothouse.policies.edges import Edges
from pilothouse.policies.engine import Engine, Vocabulary
from pilothouse.policies.engine.compile import AS_CALICO, Semantics
from pilothouse.policies.naming import declared
from pilothouse.policies.reading import Reading, from_data, read
from pilothouse.policies.rules import PolicySet
from pilothouse.problems import Problems


@dataclass(frozen=True)
class Site:
    """`policies` holds staged ones too. `problems` says what of the input is not understood and left out; `unknown`
    counts objects of policy kinds that nobody knows. `inputs` is None without declarations."""

    snapshot: Snapshot
    policies: PolicySet
    inputs: Inputs | None = None
    problems: Problems = ()
    unknown: Mapping[str, int] = field(default_factory=dict)
    previewed: bool = False
    """Whether staged policies count as if they were enforced."""

    @cached_property
    def engine(self) -> Engine:
        return self.engine_for()

    def engine_for(
        self, ranges: Iterable[Network] = (), future: Iterable[Pod] = (), semantics: Semantics = AS_CALICO
    ) -> Engine:
        """The evaluator, with more ranges or pods to ask about."""
        known = Vocabulary(ranges=frozenset(ranges)) | self.vocabulary
        return Engine.of(self.snapshot, self.effective, known=known, future=future, semantics=semantics)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What must be told apart besides, so that each piece has one name: workloads, and what declarations select."""
        words = Vocabulary(workloads=True)
        return words if self.inputs is None else words | declared(self.inputs)

    @cached_property
    def edges(self) -> Edges:
        """What is declared; nothing without declarations."""
        return Edges() if self.inputs is None else edges.of(self.inputs)

    @property
    def effective(self) -> PolicySet:
        """The policies that count: the enforced ones, or all."""
        return self.policies.preview() if self.previewed else self.policies.enforced()

    def preview(self) -> Site:
        """The same, as if every staged policy were enforced."""
        return replace(self, previewed=True)


def of_snapshot(snapshot: Snapshot, inputs: Inputs | None = None) -> Site:
    """The policies that the snapshot holds, whoever wrote them."""
    found = read(snapshot.policies)
    return Site(snapshot, found.policies, inputs, found.problems, found.unknown)


def of_platform(inputs: Inputs, derived: PoliciesDerived | None = None, *, as_if_enforced: bool = False) -> Site:
    """The policies that the declarations give this cluster, beside those that others put there.

    `as_if_enforced` counts every governed namespace as enforced, also where its policies are staged or withheld.
    """
    derived = derived or derive(inputs)
    ours = from_data(*(derived.as_if_enforced() if as_if_enforced else derived.in_force()))
    others = foreign(inputs)
    return Site(
        inputs.snapshot,
        others.policies | ours.policies,
        inputs,
        (*others.problems, *ours.problems),
        others.unknown,
    )


def foreign(inputs: Inputs) -> Reading:
    """The policies of the snapshot that are not ours on this cluster."""
    return read(
        item
        for item in inputs.snapshot.policies
        if item.labels.get(OWNED_BY) != OWNER or item.labels.get(CLUSTER_LABEL) != inputs.cluster.name
    )
