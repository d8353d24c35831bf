"""The proof of one cluster's policies, its invariants, and how sharp it is: every single change of a rule, held against
it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pilothouse.files.garbage import collector_paused
from pilothouse.inputs import Inputs
from pilothouse.policies import derive, edges
from pilothouse.policies.content import read
from pilothouse.policies.engine import Engine, differences
from pilothouse.policies.prove import invariants, mutations
from pilothouse.policies.prove.invariants import Held
from pilothouse.policies.prove.mutations import Mutation
from pilothouse.policies.prove.proof import Prover
from pilothouse.policies.reading import from_data
from pilothouse.policies.rules import Direction, NetworkSet, PolicySet
from pilothouse.problems import Invalid, Problems, Severity

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Proof:
    """`endpoints` are pods and pods that may exist later, as classes that no policy tells apart; `regions` the address
    ranges outside. `problems` empty: proved."""

    policies: int
    endpoints: int
    regions: int
    problems: Problems = ()
    invariants: tuple[Held, ...] = ()
    future: int = 0
    """How many of the classes are pods that do not exist yet."""
    simplified: tuple[str, ...] = ()
    """Namespaces whose selectors leave too many combinations of labels: there, pods match one selector each."""

    @property
    def is_proved(self) -> bool:
        return not self.problems and all(item.is_proved for item in self.invariants)


@dataclass(frozen=True)
class Sharpness:
    """What became of each mutation: `caught` and `missed` change who reaches whom, `idle` do not (named), and `refused`
    ones are no policies that a cluster would take."""

    caught: int = 0
    missed: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    refused: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    """How many were caught, by what was changed."""

    @property
    def effective(self) -> int:
        return self.caught + len(self.missed)


class Case:
    """One cluster's derived policies, opened for proofs. Raises `Invalid` where the baseline cannot be read."""

    def __init__(self, inputs: Inputs) -> None:
        baseline = read(inputs.content).baseline
        if baseline is None:
            raise Invalid("policies/baseline.yaml cannot be read", "run `pilothouse check` for the place")
        self.inputs = inputs
        self.manifests = tuple(derive(inputs).artifacts.under("policies/").manifests())
        self.policies = from_data(*self.manifests).policies.preview()
        self.prover = Prover(inputs, baseline, edges.of(inputs), self.policies)

    def proof(self) -> Proof:
        universe = self.prover.engine.universe
        return Proof(
            len(self.policies.policies),
            len(universe.pieces),
            universe.outside.bit_count(),
            self.prover.check(),
            invariants.check(self.prover),
            sum(piece.future for piece in universe.pieces),
            self.prover.future.simplified,
        )

    def mutations(self) -> Iterator[tuple[Mapping[str, Any], Mutation]]:
        for manifest in self.manifests:
            for mutation in mutations.of(manifest):
                yield manifest, mutation

    def mutated(self, manifest: Mapping[str, Any], mutation: Mutation) -> PolicySet | None:
        """All policies with that one changed; None where it would be refused."""
        original = from_data(manifest).policies.preview()
        if mutation.manifest is None:
            changed = PolicySet()
        else:
            reading = from_data(mutation.manifest)
            if any(problem.severity is Severity.ERROR for problem in reading.problems):
                return None
            changed = reading.policies.preview()
        gone_policies = {(item.kind, item.shown) for item in original.policies}
        gone_sets = {(item.namespace, item.name) for item in original.sets}
        kept = PolicySet(
            tuple(item for item in self.policies.policies if (item.kind, item.shown) not in gone_policies),
            self.policies.tiers,
            tuple(item for item in self.policies.sets if (item.namespace, item.name) not in gone_sets),
            self.policies.profiles,
            self.policies.hosts,
        )
        return PolicySet(
            (*kept.policies, *changed.policies), kept.tiers, _sets(kept, changed), kept.profiles, kept.hosts
        )

    def changes_reach(self, policies: PolicySet) -> bool:
        """Whether these allow any connection that ours do not, or the other way round; declarations are not asked."""
        before, after = self.engines(policies)
        if any(before.isolated(direction) != after.isolated(direction) for direction in Direction):
            return True
        return next(differences(before.reach, after.reach), None) is not None

    def engines(self, policies: PolicySet) -> tuple[Engine, Engine]:
        """Ours and these over one universe."""
        before = self.prover.engine
        after = before.on(policies) if self.prover.future.covers(policies) else None
        if after is not None:
            return before, after
        later = self.prover.future_of(policies)
        both = [self.policies, policies]
        one, two = Engine.together(later.snapshot, both, known=before.universe.vocabulary, future=later.pods)
        return one, two


def _sets(kept: PolicySet, changed: PolicySet) -> tuple[NetworkSet, ...]:
    return (*kept.sets, *changed.sets)


@collector_paused()
def sharpness(case: Case, every: int = 1, progress: Progress = lambda _: None) -> Sharpness:
    """Each mutation (or each `every`th) made and proved."""
    caught: Counter[str] = Counter()
    missed, idle, refused = [], [], 0
    for number, (manifest, mutation) in enumerate(case.mutations()):
        if number % every:
            continue
        if not number % 50:
            progress(f"mutation {number:,}")
        policies = case.mutated(manifest, mutation)
        if policies is None:
            refused += 1
            continue
        name = f"{_name(manifest)}: {mutation.what}"
        if not case.changes_reach(policies):
            idle.append(name)
        elif case.prover.check_other(policies):
            caught[_kind(mutation.what)] += 1
        else:
            missed.append(name)
    return Sharpness(caught.total(), tuple(missed), tuple(idle), refused, dict(caught.most_common()))


def _name(manifest: Mapping[str, Any]) -> str:
    metadata = manifest["metadata"]
    return "/".join(part for part in (metadata.get("namespace", ""), metadata["name"]) if part)


def _kind(what: str) -> str:
    """`ingress[0].from[1] removed` → `removed`: what was done, without where."""
    words = what.split(" ")
    return " ".join(words[1:]) if len(words) > 1 and "[" in words[0] else what
