"""The log store of a cluster: the plan from what it holds to what is declared, its application, and how it is.

What a command, its page and a job do alike. A plan can be read before it is run; one that fails is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pilothouse.collectors import logging
from pilothouse.collectors.logging import figures
from pilothouse.collectors.logging.differing import Kind
from pilothouse.collectors.logging.figures import LogFigures, Pressure, Reading, Target, Writer
from pilothouse.collectors.logging.judging import judge
from pilothouse.collectors.logging.store import (
    Abilities,
    Action,
    Change,
    Desired,
    Key,
    LogStore,
    Plan,
    Stored,
    composed,
    desired,
    plan,
    shadowed,
)
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Cluster, Endpoint
from pilothouse.problems import Invalid, PilothouseError, Problem, Problems, Unavailable, error, has_errors, ordered

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """No progress."""


def endpoint(cluster: Cluster) -> Endpoint:
    """Where that cluster's log store is; `Invalid` where the Cluster does not say."""
    found = cluster.servers.elasticsearch
    if found is None:
        raise Invalid(
            f"the cluster {cluster.name} declares no log store",
            "write `servers: {elasticsearch: {url: …}}` in its document",
        )
    return found


# ---------------------------------------------------------------- plan and apply


@dataclass(frozen=True)
class Planned:
    """A plan for one log store, and what it was made from."""

    cluster: str
    able: Abilities
    plan: Plan
    desired: Desired
    problems: Problems = ()

    @property
    def forbidden(self) -> bool:
        """Whether an error stands against it."""
        return has_errors(self.problems)


def make_plan(inputs: Inputs, store: LogStore, roll_over: bool = False, progress: Progress = silent) -> Planned:
    """The steps that are needed. Nothing is changed. Raises what the store raises."""
    cluster = inputs.cluster.name
    analysis = logging.analyse(inputs)
    derived = logging.derive(inputs)
    if analysis.settings is None or has_errors(derived.problems):
        return Planned(cluster, Abilities(""), Plan(()), Desired({}), derived.problems)
    prefix = analysis.settings.retention.prefix
    progress("asking the server what it has")
    able = store.abilities()
    wanted = desired(derived.artifacts, able)
    progress("reading what it holds")
    current: dict[Key, Stored] = {}
    for kind in Kind:
        if _may_hold(kind, able):
            current |= {(kind, name): item for name, item in store.stored(kind, prefix).items()}
    targets = [name for kind, name in {**wanted.documents, **current} if kind is Kind.TEMPLATE]
    made = plan(cluster, wanted, current, store.write_indices(targets), roll_over)
    progress("trying the templates")
    problems = (*made.problems, *_tried(cluster, wanted, made, store))
    return Planned(cluster, able, made, wanted, ordered(problems))


def _may_hold(kind: Kind, able: Abilities) -> bool:
    if kind is Kind.LIFECYCLE:
        return able.lifecycle
    return able.security or kind not in (Kind.ROLE, Kind.ROLE_MAPPING)


def _tried(cluster: str, wanted: Desired, made: Plan, store: LogStore) -> list[Problem]:
    """The server's own word on each template, with its pieces put in, before any of them is changed."""
    if not any(item.kind in (Kind.COMPONENT, Kind.TEMPLATE) and item.after is not None for item in made.changes):
        return []
    problems = []
    for (kind, name), body in wanted.documents.items():
        if kind is not Kind.TEMPLATE:
            continue
        try:
            store.simulate(name, {**body, "composed_of": [], "template": composed(body, wanted.documents)})
        except Invalid as refusal:
            problems.append(
                error(
                    "logging/template-refused",
                    f"the log store of {cluster} refuses the index template {name}: {refusal.message}",
                    hint="see collectors/elasticsearch: its settings, its mappings, or the `priority` of another "
                    "template for the same names",
                    cluster=cluster,
                )
            )
    return problems


@dataclass(frozen=True)
class Applied:
    """What was done, in order; `problems` are what new indices would not get as meant."""

    cluster: str
    done: tuple[Change, ...]
    problems: Problems = ()


def apply(planned: Planned, store: LogStore, progress: Progress = silent) -> Applied:
    """Run the plan. A step that fails is undone together with all before it, and its exception says so.

    Raises `Invalid` for a plan with errors, and what the store raises.
    """
    if planned.forbidden:
        raise Invalid(
            f"nothing is applied to the log store of {planned.cluster}: its plan has errors",
            "see `pilothouse logs plan`",
            planned.problems,
        )
    done: list[Change] = []
    for change in planned.plan.changes:
        progress(f"{change.action} {change.kind} {change.name}")
        try:
            _run(change, store)
        except PilothouseError as failure:
            # A server that did not answer may have done it all the same.
            tried = [*done, change] if isinstance(failure, Unavailable) else done
            raise _undone(planned.cluster, change, failure, _undo(tried, store)) from failure
        done.append(change)
    return Applied(planned.cluster, tuple(done), ordered(verify(planned, store)))


def _run(change: Change, store: LogStore) -> None:
    if change.action is Action.ROLL_OVER:
        store.roll_over(change.name)
    elif change.after is None:
        store.remove(change.kind, change.name)
    else:
        store.put(change.kind, change.name, change.after)


def _undo(tried: list[Change], store: LogStore) -> list[str]:
    """Bring back what was before, the last step first; the names of what could not be."""
    stuck = []
    for change in reversed(tried):
        if change.kind is Kind.FIRST_INDEX:
            continue  # it may hold records by now, and an empty one harms nobody
        try:
            if change.before is None:
                store.remove(change.kind, change.name)
            else:
                store.put(change.kind, change.name, change.before)
        except PilothouseError:
            stuck.append(f"{change.kind} {change.name}")
    return stuck


def _undone(cluster: str, change: Change, failure: PilothouseError, stuck: list[str]) -> PilothouseError:
    """The same kind of exception, which says what became of the steps before."""
    if stuck:
        after = f"; not undone: {', '.join(stuck)}"
        hint = "apply again when the server answers: the plan begins with what it holds then"
    else:
        after, hint = "; what was done before is undone", failure.hint
    text = f"the {change.kind} {change.name} of {cluster} could not be applied: {failure.message}{after}"
    return _base(failure)(text, hint)


def _base(failure: PilothouseError) -> type[PilothouseError]:
    """The one of the four that a client's own exception is."""
    return next(kind for kind in type(failure).__mro__ if kind.__base__ is PilothouseError)


def verify(planned: Planned, store: LogStore) -> list[Problem]:
    """Whether a new index of each name would get what was meant, another template's word included."""
    problems = []
    for (kind, name), body in planned.desired.documents.items():
        if kind is Kind.TEMPLATE:
            index = name if "data_stream" in body else f"{name}-000001"
            expected = composed(body, planned.desired.documents)
            problems += shadowed(planned.cluster, name, expected, store.resolved(index))
    return problems


# ---------------------------------------------------------------- status


@dataclass(frozen=True)
class Status:
    """How a log store is, from one or two readings."""

    cluster: str
    at: datetime
    reading: Reading
    pressure: Pressure
    targets: tuple[Target, ...]
    writers: tuple[Writer, ...]
    problems: Problems = ()

    def writer(self, service: str) -> Writer | None:
        return next((item for item in self.writers if item.service == service), None)


@dataclass(frozen=True)
class Declared:
    """What readings are held against. It takes a while to derive, so whoever reads again and again keeps it."""

    cluster: Cluster
    prefix: str
    setpoint: int
    services: tuple[Writer, ...]


def declared(inputs: Inputs) -> Declared:
    """What the cluster's documents say of its log store; `Invalid` where the content cannot be read."""
    analysis = logging.analyse(inputs)
    if analysis.settings is None or analysis.treatments is None or analysis.sizing is None:
        raise Invalid(
            f"the log pipeline of {inputs.cluster.name} cannot be derived, so nothing can be held against it",
            "see `pilothouse check`",
            analysis.problems,
        )
    services = figures.declared(inputs, analysis.settings, analysis.treatments.services)
    return Declared(inputs.cluster, analysis.settings.retention.prefix, analysis.sizing.setpoint, services)


def status_of(said: Declared, now: Reading, before: Reading | None = None, able: Abilities | None = None) -> Status:
    """What the readings mean for that cluster as it is declared."""
    press = figures.pressure(now, before, said.setpoint)
    writers = figures.writers_of(said.services, now.written)
    problems = judge(said.cluster, now, press, writers, able)
    return Status(said.cluster.name, now.at, now, press, figures.targets(now, before), writers, ordered(problems))


def status(
    inputs: Inputs,
    store: LogFigures,
    clock: Callable[[], datetime],
    pause: Callable[[], None] | None = None,
    able: Abilities | None = None,
) -> Status:
    """One reading, or with a `pause` two of them, so that counters say what happened in between."""
    said = declared(inputs)
    before = None
    if pause is not None:
        before = figures.read(store, said.prefix, clock())
        pause()
    return status_of(said, figures.read(store, said.prefix, clock()), before, able)


def summary(changes: tuple[Change, ...]) -> str:
    """One phrase: "6 to add, 1 to change"."""
    words = {Action.ADD: "add", Action.CHANGE: "change", Action.REMOVE: "remove", Action.ROLL_OVER: "roll over"}
    counts: Mapping[Action, int] = {action: sum(item.action is action for item in changes) for action in words}
    return ", ".join(f"{count} to {words[action]}" for action, count in counts.items() if count) or "nothing to do"
