"""Plans evaluated before anything is changed: the states that the cluster passes through, held against the rule of
`between`, and shown phase by phase as connections that appear and vanish.

A state is every policy, tier and set that the cluster then has, whoever wrote it. Policies of one namespace decide
about its own pods alone, so the steps of a phase are taken together: the first of each namespace, then the second.
Every pod sees exactly the states that it will see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pilothouse.artifacts.objects import Object, ObjectKey, is_owned
from pilothouse.artifacts.ordering import SHELTER, Phase, Step
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Pod, Snapshot
from pilothouse.labels import ownership
from pilothouse.platform.model import Cluster
from pilothouse.policies import adoption
from pilothouse.policies.adoption import shown
from pilothouse.policies.compare.between import Between, Break
from pilothouse.policies.compare.groups import changes, isolation
from pilothouse.policies.compare.rollout import CALICO, Breach, Difference, Rollout, Stage, Standing, decides
from pilothouse.policies.content import read as read_content
from pilothouse.policies.engine import Engine, Vocabulary
from pilothouse.policies.engine.bitsets import of
from pilothouse.policies.engine.compile import AS_CALICO, Compiler
from pilothouse.policies.naming import declared
from pilothouse.policies.parties import Parties
from pilothouse.policies.prove import future
from pilothouse.policies.reading import manifest_of, policy_of, read
from pilothouse.policies.rules import Direction, NetworkSet, Policy, PolicySet, Tier
from pilothouse.problems import Problem, Severity

Value = Policy | Tier | NetworkSet

_REMEMBERED = 4
"""A plan is made twice, once to be shown and once to be carried out: so many ways are not walked again."""


class Judge:
    """Evaluates plans for one cluster. `snapshot` says what runs there, and which policies stand there of the kinds
    that the API server was not asked for; `inputs` gives names by service and team."""

    def __init__(self, snapshot: Snapshot, cluster: Cluster, inputs: Inputs | None = None) -> None:
        self.snapshot = snapshot
        self.cluster = cluster
        self.inputs = inputs
        self._known: list[tuple[object, Rollout]] = []

    def rollout(self, standing: Standing, steps: Sequence[Step]) -> Rollout:
        """Every state on the way."""
        key = (standing.objects, [(step.phase, step.action, step.key, step.manifest) for step in steps])
        for known, rollout in self._known:
            if known == key:
                return rollout
        mine = tuple(step for step in steps if decides(step.key))
        found = _Walk(self, standing, mine).rollout() if mine else Rollout()
        self._known = [*self._known[-_REMEMBERED + 1 :], (key, found)]
        return found

    def difference(self, one: Standing, other: Standing) -> Difference:
        """From the one to the other: what is enforced, and what would be if everything staged were."""
        if _said(one) == _said(other):
            return Difference()
        sets = [read(map(manifest_of, self.objects(item).values())).policies for item in (one, other)]
        enforced = self._difference(*(item.enforced() for item in sets))
        if not any(policy.staged for item in sets for policy in item.policies):
            return enforced
        staged = self._difference(*(item.preview() for item in sets))
        return Difference(
            tuple(dict.fromkeys((*enforced.changes, *staged.changes))),
            tuple(dict.fromkeys((*enforced.isolation, *staged.isolation))),
        )

    def _difference(self, one: PolicySet, other: PolicySet) -> Difference:
        was, now = Engine.together(self.snapshot, [one, other], known=self.words)
        parties = Parties(self.inputs, was.universe)
        return Difference(
            changes(was, now, parties, parties, together=True),
            tuple(isolation(was, now)),
        )

    @property
    def words(self) -> Vocabulary:
        found = Vocabulary(workloads=True)
        return found if self.inputs is None else found | declared(self.inputs)

    def objects(self, standing: Standing) -> dict[ObjectKey, Object]:
        """What decides about packets: what the API server has, and of the kinds that it was not asked for what the
        snapshot holds. Calico's two groups have the same objects."""
        groups = {(_family(group), kind) for group, kind in standing.whole}
        kept = {
            ObjectKey.of(item.data): item.data
            for item in self.snapshot.policies
            if (_family(item.api_version.partition("/")[0]), item.kind) not in groups
            and not is_owned(item.data, self.cluster.name)
        }
        return {**kept, **standing.objects}


def _said(standing: Standing) -> dict[ObjectKey, Any]:
    """What the objects say; of their metadata only labels are ever asked for."""
    return {
        key: (item.get("spec"), (item.get("metadata") or {}).get("labels")) for key, item in standing.objects.items()
    }


def _family(group: str) -> str:
    return CALICO[0] if group in CALICO else group


def _governed(engine: Engine, direction: Direction) -> int:
    """The endpoints that are isolated and not sheltered: where a shelter stands everything is open."""
    found = engine.isolated(direction)
    for policy in engine.policies.policies:
        if policy.name == SHELTER and direction in policy.directions:
            found &= ~engine.compiler.subjects(policy)
    return found


# ---------------------------------------------------------------- the way


@dataclass(frozen=True)
class _Round:
    """Steps that are taken together: of different namespaces, or one by itself."""

    phase: Phase
    steps: tuple[Step, ...]

    def of(self, namespace: str) -> Step:
        """The step that a namespace's pods may feel."""
        return next((step for step in self.steps if step.key.namespace == namespace), self.steps[0])


class _Walk:
    def __init__(self, judge: Judge, standing: Standing, steps: tuple[Step, ...]) -> None:
        self.judge = judge
        self.steps = steps
        self.objects = judge.objects(standing)
        self.touched: dict[ObjectKey, Value | None] = {}
        self.values: dict[int, Value | None] = {}
        self.mine: dict[tuple[int, Direction], int] = {}
        self.problems: list[Problem] = []
        self.base = self._base()

    def _base(self) -> PolicySet:
        """Everything that stays as it is. Of a tier that changes the policies are kept."""
        touched = {step.key for step in self.steps}
        tiers = [step.manifest for step in self.steps if step.key.kind == "Tier"]
        found = read(map(manifest_of, (*(v for k, v in self.objects.items() if k not in touched), *tiers)))
        self.problems += [item for item in found.problems if item.severity is Severity.ERROR]
        for key in touched:
            self.touched[key] = self._value(self.objects[key]) if key in self.objects else None
        changing = {step.key.name for step in self.steps if step.key.kind == "Tier"}
        return replace(found.policies, tiers=tuple(t for t in found.policies.tiers if t.name not in changing))

    def _value(self, manifest: Object) -> Value | None:
        """The same value for the same object, so that engines share what they know of it."""
        if id(manifest) not in self.values:
            value, problems = policy_of(manifest_of(manifest))
            self.problems += [item for item in problems if item.severity is Severity.ERROR]
            self.values[id(manifest)] = value if isinstance(value, Policy | Tier | NetworkSet) else None
        return self.values[id(manifest)]

    def _state(self) -> PolicySet:
        found = [value for value in self.touched.values() if value is not None]
        base = self.base
        return replace(
            base,
            policies=(*base.policies, *(item for item in found if isinstance(item, Policy))),
            tiers=(*base.tiers, *(item for item in found if isinstance(item, Tier))),
            sets=(*base.sets, *(item for item in found if isinstance(item, NetworkSet))),
        )

    def _states(self) -> Iterator[tuple[_Round | None, PolicySet]]:
        """Every state with the round that led to it; the first is what is there."""
        yield None, self._state()
        for one in _rounds(self.steps):
            for step in one.steps:
                self.touched[step.key] = self._value(step.manifest) if step.action == "apply" else None
            yield one, self._state()

    def rollout(self) -> Rollout:
        walked = list(self._states())
        engines = list(self._engines([policies for _, policies in walked]))
        universe = engines[0].universe
        exist = ~of(number for number, piece in enumerate(universe.pieces) if piece.future)
        parties = Parties(self.judge.inputs, universe)
        breaches = tuple(self._breaches([one for one, _ in walked], engines))

        def difference(was: Engine, now: Engine) -> Difference:
            if was is now:
                return Difference()
            return Difference(
                changes(was, now, parties, parties, together=True, among=exist, isolated=_governed),
                tuple(isolation(was, now, exist, _governed)),
            )

        stages, last = [], engines[0]
        for phase in sorted({step.phase for step in self.steps}):
            reached = [engine for (one, _), engine in zip(walked, engines, strict=True) if one and one.phase is phase]
            mine = tuple(step for step in self.steps if step.phase is phase)
            stages.append(Stage(phase, mine, difference(last, reached[-1])))
            last = reached[-1]
        final = walked[-1][1]
        promised = None
        if any(policy.staged for policy in final.policies):
            promised = difference(last, self._engine(last, final.preview()))
        return Rollout(
            tuple(stages),
            tuple(item for item in breaches if not item.excuse),
            tuple(item for item in breaches if item.excuse),
            promised,
            len({pod.key for piece in universe.pieces if not piece.future for pod in piece.pods}),
            len(walked),
            tuple(dict.fromkeys(self.problems)),
        )

    # -------------------------------------------------------- engines

    def _engines(self, states: Sequence[PolicySet]) -> Iterator[Engine]:
        """An engine for each state, over one universe, each sharing with the one before what it can. States in which
        the same policies count have the same engine."""
        everything = PolicySet(
            tuple({id(item): item for state in states for item in state.policies}.values()),
            tuple({id(item): item for state in states for item in state.tiers}.values()),
            tuple({id(item): item for state in states for item in state.sets}.values()),
            self.base.profiles,
            self.base.hosts,
        )
        snapshot, pods = self._later(everything)
        last = Engine.of(snapshot, everything, known=self.judge.words, future=pods)
        counted: PolicySet | None = None
        for state in states:
            enforced = state.enforced()
            if enforced != counted:
                last = self._engine(last, enforced)
                counted = enforced
            yield last

    def _engine(self, like: Engine, policies: PolicySet) -> Engine:
        found = like.on(policies)
        return found if found is not None else Engine(policies, Compiler(like.universe, policies.sets, AS_CALICO), {})

    def _later(self, policies: PolicySet) -> tuple[Snapshot, tuple[Pod, ...]]:
        """The snapshot with what may come while the apply runs, where it is known what is declared."""
        inputs = self.judge.inputs
        baseline = read_content(inputs.content).baseline if inputs else None
        if inputs is None or baseline is None:
            return self.judge.snapshot, ()
        governed = [name for name, item in adoption.modes(inputs, baseline).items() if item.mode.governs]
        found = future.of(inputs, baseline, governed, policies)
        return found.snapshot, found.pods

    # -------------------------------------------------------- the rule

    def _breaches(self, rounds: Sequence[_Round | None], engines: Sequence[Engine]) -> Iterator[Breach]:
        """The first for each namespace, direction and way of breaking the rule."""
        between = Between(engines[0], engines[-1])
        found: dict[tuple[str, Direction, bool, str], list[tuple[_Round, Break]]] = {}
        seen: set[int] = set()
        for one, engine in zip(rounds, engines, strict=True):
            if one is None or id(engine) in seen:
                continue
            seen.add(id(engine))
            for item in between.breaks(engine):
                namespace = between.universe.pieces[item.piece].namespace
                excuse = "" if item.opened else self._excuse(item, namespace, engines[0], engines[-1])
                found.setdefault((namespace, item.direction, item.opened, excuse), []).append((one, item))
        universe = between.universe
        for (namespace, direction, opened, excuse), items in sorted(found.items()):
            one, first = items[0]
            ends = [universe.name(first.piece), universe.name(first.peer)]
            if direction is Direction.INGRESS:
                ends.reverse()
            pods = {universe.name(item.piece) for _, item in items}
            witness = f"{ends[0]} to {ends[1]} at {first.connections.first()}"
            yield Breach(one.of(namespace), namespace, direction, opened, tuple(sorted(pods)), witness, excuse)

    def _excuse(self, item: Break, namespace: str, before: Engine, after: Engine) -> str:
        """Why a connection may pause for a moment, where no order of steps prevents it."""
        was, becomes = (self._ours(engine, item.direction) >> item.piece & 1 for engine in (before, after))
        if was == becomes:
            return ""
        if not self._is_sheltered(namespace, item.direction):
            others = self._others(namespace)
            if others:
                return f"policies of others stand there, and to open it meanwhile might open what they deny: {others}"
        if self._is_newly_selected(item, namespace, after):
            return "a policy whose selector changes newly selects them, or no longer does"
        return ""

    def _ours(self, engine: Engine, direction: Direction) -> int:
        """The endpoints that policies of ours apply to."""
        key = (id(engine), direction)
        if key not in self.mine:
            owned = ownership(self.judge.cluster.name).items()
            self.mine[key] = 0
            for policy in engine.policies.policies:
                if direction in policy.directions and policy.name != SHELTER and owned <= dict(policy.labels).items():
                    self.mine[key] |= engine.compiler.subjects(policy)
        return self.mine[key]

    def _is_sheltered(self, namespace: str, direction: Direction) -> bool:
        return any(
            step.key.name == SHELTER
            and step.key.namespace == namespace
            and direction.capitalize() in step.manifest["spec"]["policyTypes"]
            for step in self.steps
        )

    def _others(self, namespace: str) -> str:
        names = [
            str(key)
            for key, item in self.objects.items()
            if key.namespace in (namespace, "")
            and key.kind.endswith("NetworkPolicy")
            and not key.kind.startswith("Staged")
            and not is_owned(item, self.judge.cluster.name)
        ]
        return shown(tuple(sorted(names)), 3)

    def _is_newly_selected(self, item: Break, namespace: str, engine: Engine) -> bool:
        for step in self.steps:
            if step.before is None or step.action != "apply" or step.key.namespace != namespace:
                continue
            old, new = self._value(step.before), self._value(step.manifest)
            if isinstance(old, Policy) and isinstance(new, Policy):
                selected = [
                    engine.compiler.subjects(policy) >> item.piece & 1 and item.direction in policy.directions
                    for policy in (old, new)
                ]
                if bool(selected[0]) != bool(selected[1]):
                    return True
        return False


def _rounds(steps: Sequence[Step]) -> Iterator[_Round]:
    for phase in sorted({step.phase for step in steps}):
        mine = [step for step in steps if step.phase is phase]
        if any(not step.key.namespace for step in mine):  # it concerns every namespace
            yield from (_Round(phase, (step,)) for step in mine)
            continue
        numbers: Counter[str] = Counter()
        together: dict[int, list[Step]] = {}
        for step in mine:
            together.setdefault(numbers[step.key.namespace], []).append(step)
            numbers[step.key.namespace] += 1
        yield from (_Round(phase, tuple(found)) for found in together.values())
