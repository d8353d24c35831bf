"""Propose a change of what a service may talk to: look at its effect, ask who must agree, commit it.

Git is the only truth: a proposal lies in the store until everybody has agreed, and is then one commit,
with the author, who approved, and the reason. Where the service at the other end lists who may reach it, the
proposal carries that line of the other document along, and the other team is asked.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from pilothouse.access.permissions import Action, Change, Decision, Person, may
from pilothouse.files.git import Repository
from pilothouse.inputs import Inputs
from pilothouse.platform import edit
from pilothouse.platform.model import Edge, Platform, Service, ServicePeer
from pilothouse.policies import effect, guardrails
from pilothouse.policies.effect import Effect
from pilothouse.policies.guardrails import By
from pilothouse.problems import Conflict, Denied, Invalid, Problem, Problems, has_errors, nearest, one_of, ordered
from pilothouse.workflows.rendering import Opened, inputs_for, open_platform

KIND = "egress"

InputsOf = Callable[[str], Inputs]
"""The inputs of a cluster as they are now; a page hands in those that it keeps."""


@dataclass(frozen=True)
class Target:
    """A service, and the document that declares it: `path` below the platform's folder, `text` of the whole file."""

    service: Service
    path: str
    text: str


@dataclass(frozen=True)
class Needed:
    """Somebody who must agree: `role` is `second-person:TEAM` or `team:TEAM`, `why` the reason in words."""

    role: str
    why: str

    @property
    def team(self) -> str:
        return self.role.partition(":")[2]


@dataclass(frozen=True)
class Preview:
    """What a text would do. `files` are all files that change, by path; `effects` the clusters where traffic changes.

    `problems` are those that the change brings; with an error among them it cannot be submitted.
    """

    target: Target
    files: Mapping[str, str]
    problems: Problems = ()
    effects: Mapping[str, Effect] = field(default_factory=dict)
    needed: tuple[Needed, ...] = ()

    @property
    def can_submit(self) -> bool:
        return not has_errors(self.problems) and bool(self.files)

    @property
    def others(self) -> tuple[str, ...]:
        """Paths of the documents of other services that change along."""
        return tuple(path for path in self.files if path != self.target.path)

    @property
    def summary(self) -> str:
        """One line: nothing changes, or what changes on which clusters."""
        if not self.files:
            return "nothing is changed yet"
        if has_errors(self.problems):
            return "the document has errors, so its effect is not known"
        if not self.effects:
            return "changes no connection on any cluster"
        return "; ".join(f"{cluster}: {found.summary}" for cluster, found in self.effects.items())


def target(opened: Opened, key: str) -> Target:
    """The document of a service that may be changed here: `Invalid` for an unknown one, or one of another layer."""
    services = opened.loaded.platform.services
    service = services.get(key)
    if service is None:
        raise Invalid(f"no service `{key}` is declared", nearest(key, services) or one_of(services))
    source = opened.loaded.source(service.place.path)
    if source is None or source.path.startswith("../"):
        raise Invalid(
            f"{key} is declared in {service.place.path or 'another folder'}, which this platform only extends",
            "change it there",
        )
    return Target(service, source.path, source.text)


def with_edges(
    text: str, key: str, add: Iterable[Mapping[str, Any]] = (), remove: Iterable[int] = (), field_: str = "egress"
) -> str:
    """The text with items added to and removed from a list of edges; the rest stays as its author wrote it."""
    for index in sorted(set(remove), reverse=True):
        text = edit.remove_item(text, key, field_, index)
    for item in add:
        text = edit.add_item(text, key, field_, item)
    return text


def preview(
    opened: Opened, key: str, text: str, today: date, inputs_of: InputsOf | None = None, author: Person | None = None
) -> Preview:
    """What would follow if the file of the service had that text."""
    found = target(opened, key)
    if text == found.text:
        return Preview(found, {})
    candidate = open_platform(opened.root, {found.path: text})
    files = {found.path: text}
    after = candidate.loaded.platform.services.get(key)
    if after is not None:
        files |= _companions(opened, candidate, found.service, after, files)
        if len(files) > 1:
            candidate = open_platform(opened.root, files)
            after = candidate.loaded.platform.services.get(key)
    problems = list(_new(candidate.problems, opened.problems))
    if after is None and not has_errors(problems):
        problems.append(_gone(found))
    if has_errors(problems) or after is None:
        return Preview(found, files, ordered(problems))
    effects, more = _effects(opened, candidate, found.service, after, today, inputs_of)
    problems += [problem for problem in more if problem.place.path in files or found.service.team in problem.teams]
    needed = _needed(opened, found.service, after, files, author)
    return Preview(found, files, ordered(problems), effects, needed)


def _gone(found: Target) -> Problem:
    from pilothouse.problems import error

    return error(
        "egress/another-service",
        f"the text no longer declares {found.service.key}",
        replace(found.service.place, excerpt=""),
        "keep its kind, name and namespace: a rename is a new service",
    )


def _new(after: Problems, before: Problems) -> Iterable[Problem]:
    """The problems that were not there before, wherever their line has moved to."""
    known = {(problem.code, problem.message, problem.place.path) for problem in before}
    return (problem for problem in after if (problem.code, problem.message, problem.place.path) not in known)


def _companions(
    opened: Opened, candidate: Opened, before: Service, after: Service, files: Mapping[str, str]
) -> dict[str, str]:
    """Other documents that must change along: lists of `ingress` at the other end that gain or lose this service."""
    changed: dict[str, str] = {}
    services = candidate.loaded.platform.services
    for peer in sorted({str(e.peer) for e in (*before.egress, *after.egress) if isinstance(e.peer, ServicePeer)}):
        other = services.get(peer)
        if other is None or other.ingress is None or other.key == after.key:
            continue
        was, now = _towards(before, other), _towards(after, other)
        listed = [i for i, edge in enumerate(other.ingress) if edge.peer == ServicePeer(after.namespace, after.name)]
        source = opened.loaded.source(other.place.path)
        if was == now or source is None or source.path.startswith("../"):
            continue
        text = changed.get(source.path) or files.get(source.path) or source.text
        if not now:
            text = with_edges(text, other.key, remove=listed, field_="ingress")
        elif not listed:
            text = with_edges(text, other.key, [_ingress_item(after, edge) for edge in now], field_="ingress")
        else:
            continue
        changed[source.path] = text
    return changed


def _towards(service: Service, other: Service) -> tuple[Edge, ...]:
    return tuple(edge for edge in service.egress if edge.peer == ServicePeer(other.namespace, other.name))


def _ingress_item(service: Service, edge: Edge) -> dict[str, Any]:
    """The other end of an egress, as an item of the other document's list."""
    item: dict[str, Any] = {"from": {"service": service.key}}
    if edge.ports:
        item["ports"] = [
            port.name or (port.number if not port.end and not port.protocol else str(port)) for port in edge.ports
        ]
    if edge.clusters:
        item["clusters"] = sorted(edge.clusters)
    return item


def _effects(
    opened: Opened, candidate: Opened, before: Service, after: Service, today: date, inputs_of: InputsOf | None
) -> tuple[dict[str, Effect], list[Problem]]:
    effects: dict[str, Effect] = {}
    problems: list[Problem] = []
    platform = candidate.loaded.platform
    for name in platform.clusters:
        if not before.runs_on(name) and not after.runs_on(name):
            continue
        now = inputs_of(name) if inputs_of else inputs_for(opened, name, today)[0]
        then = replace(now, platform=platform, cluster=platform.clusters[name], content=candidate.loaded.content)
        problems += _new(guardrails.check_guardrails(then), guardrails.check_guardrails(now))
        found = effect.compare(now, then)
        if found.changes or found.isolation or any(cut.is_new for cut in found.cut):
            effects[name] = found
    return effects, problems


def _needed(
    opened: Opened, before: Service, after: Service, files: Mapping[str, str], author: Person | None
) -> tuple[Needed, ...]:
    """Who must agree, each role once with every reason; the author's own team is not asked by itself."""
    platform = opened.loaded.platform
    why: dict[str, list[str]] = {}
    for approval in guardrails.review(before, after, opened.loaded.content, platform):
        kind = "second-person" if approval.by is By.SECOND_PERSON else "team"
        why.setdefault(f"{kind}:{approval.team}", []).append(approval.why)
    for service in platform.services.values():
        role = f"team:{service.team}"
        if service.key != after.key and service.place.path in files and service.team != after.team and role not in why:
            why[role] = [f"the document of {service.key} changes along"]
    if author is not None:
        for team in author.teams:
            why.pop(f"team:{team}", None)
    return tuple(Needed(role, "; ".join(dict.fromkeys(reasons))) for role, reasons in sorted(why.items()))


# ---------------------------------------------------------------- decisions


def may_propose(person: Person, service: Service, platform: Platform) -> Decision:
    return may(person, Action.PROPOSE, service, platform)


def may_agree(person: Person, role: str, why: str, author: str, platform: Platform) -> Decision:
    """Whether the person may agree in that role; nobody agrees to their own proposal."""
    kind, _, team = role.partition(":")
    if person.user == author:
        approvers = platform.teams[team].approvers if team in platform.teams else ()
        return Decision(False, "nobody agrees to their own proposal", tuple(u for u in approvers if u != author))
    return may(person, Action.APPROVE, Change(team, author, why if kind == "second-person" else ""), platform)


# ---------------------------------------------------------------- into Git


def commit_message(title: str, reason: str, author: str, approved: Iterable[tuple[str, str]], number: int) -> str:
    """The message of the commit: what, why, who proposed and who agreed in which role."""
    lines = [title, "", reason.strip(), "", f"Proposal: {number}", f"Proposed-by: {author}"]
    lines += [f"Approved-by: {user} ({role})" for role, user in approved]
    return "\n".join(lines) + "\n"


def blobs(repository: Repository, paths: Iterable[str]) -> dict[str, str]:
    """What the files are in the repository now; a later commit is refused where they have changed."""
    return {path: repository.blob(path) for path in paths}


def commit(
    repository: Repository,
    files: Mapping[str, str],
    seen: Mapping[str, str],
    message: str,
    author: Person,
) -> str:
    """Write the files as one commit and return it. `Conflict` when one of them changed since it was read."""
    if not repository.is_repository():
        raise Conflict(f"{repository.path} is no Git repository", "download the patch and hand it to the platform team")
    email = author.email or f"{author.user}@localhost"
    return repository.commit(dict(files), message, author.name or author.user, email, expected_blobs=seen)


def patch(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """A unified diff that `git apply` takes, for a platform that the portal may not write."""
    parts = []
    for path in sorted({*before, *after}):
        old, new = before.get(path, ""), after.get(path, "")
        if old == new:
            continue
        names = (f"a/{path}" if old else "/dev/null", f"b/{path}" if new else "/dev/null")
        lines = difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), *names)
        parts.append(
            "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)
        )
    return "".join(parts)


def require_submittable(found: Preview, reason: str) -> None:
    """Raise `Invalid` with every problem that keeps the change from being submitted."""
    if not found.files:
        raise Invalid("nothing is changed", "change the document, or add or remove a destination")
    if not reason.strip():
        raise Invalid("a proposal needs a reason", "say why in one sentence; it becomes part of the commit")
    if has_errors(found.problems):
        raise Invalid("the change has errors", "mend them first", found.problems)


def require_may(decision: Decision) -> None:
    if not decision:
        raise Denied(decision.why, f"ask {', '.join(decision.whom_to_ask)}" if decision.whom_to_ask else "")
