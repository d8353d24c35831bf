"""The way of a proposal: drafted, submitted, agreed to, committed. One function per step, for page, API and job.

Whatever goes wrong on the way, the text stays: a conflict or a failure is a state with its reason, from
which the author goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pilothouse import __version__
from pilothouse.access.permissions import Person, person_of
from pilothouse.files import platform as platform_files
from pilothouse.files.git import Repository
from pilothouse.platform.model import Platform
from pilothouse.policies.compare.effect import new_problems
from pilothouse.problems import Conflict, Denied, Invalid, PilothouseError, has_errors
from pilothouse.store import Store, events, jobs, proposals
from pilothouse.store.events import Event
from pilothouse.store.proposals import Draft, Proposal, Requirement, State
from pilothouse.workflows import commits, egress, rendering
from pilothouse.workflows.egress import InputsOf, Preview
from pilothouse.workflows.rendering import Opened

OPEN_FOR = timedelta(days=30)
"""An open proposal that nobody touches for so long is withdrawn by the worker."""
PUSH_SECONDS = 10.0
"""How long whoever agreed waits for the remote; what is not sent then is sent by the worker."""

Tell = Callable[[tuple[str, ...], str, str], None]
"""Told (users, subject, text) when somebody should know; must not raise."""


@dataclass(frozen=True)
class Desk:
    """What every step needs: where proposals lie, where they are committed, the platform as it is, and the moment."""

    store: Store
    repository: Repository
    opened: Opened
    now: datetime
    tell: Tell
    inputs_of: InputsOf | None = None
    """The inputs of a cluster where somebody keeps them; else its snapshot is read."""

    @property
    def platform(self) -> Platform:
        return self.opened.loaded.platform

    def alone(self) -> AbstractContextManager[None]:
        """Nothing of ours writes to the documents meanwhile. Nobody asks for it within a `Store.write`: whoever is
        alone may write to the store, never the other way round."""
        return self.repository.alone() if self.repository.is_repository() else nullcontext()


def anew(desk: Desk) -> Desk:
    """The desk with the platform as it is now, never in the middle of somebody's commit; the same desk where that is
    what was read. `Invalid` where the documents have errors by now that they did not have."""
    was = desk.opened
    with desk.alone():
        if platform_files.read(was.root).digest == was.loaded.texts.digest:
            return desk
        domains = replace(was.domains, now=desk.now) if was.domains else None
        opened = rendering.open_platform(was.root, kept=was.kept, domains=domains)
    if has_errors(problems := new_problems(was.problems, opened.problems)):
        raise Invalid("the platform has changed, and its documents have errors now", "mend them first", problems)
    return replace(desk, opened=opened, inputs_of=None)


def settled(desk: Desk) -> Desk:
    """The same for whoever is about to refuse or to replace something: what was read may have been half of a commit, or
    be old by now. Where that cannot be found out, it is what was read; a commit looks again."""
    with suppress(PilothouseError):
        return anew(desk)
    return desk


def files_of(proposal: Proposal) -> Mapping[str, str]:
    """Every file of the proposal with its new text, by path."""
    found: Mapping[str, str] = proposal.draft.data.get("files", {})
    return found or {proposal.draft.path: proposal.draft.document}


def before_of(proposal: Proposal) -> Mapping[str, str]:
    """The same files as they were when the proposal was written."""
    found: Mapping[str, str] = proposal.draft.data.get("before", {})
    return found or {proposal.draft.path: proposal.draft.before}


def asks_of(proposal: Proposal) -> tuple[str, ...]:
    """The services that it asks to let in what is declared already."""
    return tuple(proposal.draft.data.get("asks", ()))


def save(
    desk: Desk,
    found: Preview,
    person: Person,
    title: str,
    reason: str,
    earlier: Proposal | None = None,
    version: int = 0,
) -> Proposal:
    """Keep a draft, errors and all: nothing that was typed is lost. `earlier` (as seen at `version`) is replaced."""
    service = found.target.service
    egress.require_may(egress.may_propose(person, service, desk.platform))
    if earlier is not None and earlier.author != person.user:
        raise Denied("only its author changes a proposal", f"ask {earlier.author}, or propose a change of your own")
    draft = Draft(
        kind=egress.KIND,
        subject=service.key,
        team=service.team,
        document=found.files.get(found.target.path, found.target.text),
        title=title.strip() or f"{service.key}: {found.summary}"[:180],
        reason=reason.strip(),
        base=desk.repository.head() if desk.repository.is_repository() else "",
        path=found.target.path,
        before=found.target.text,
        data={
            "files": dict(found.files),
            "before": dict(_texts(desk, found.files)),
            "blobs": commits.blobs(desk.repository, found.files) if desk.repository.is_repository() else {},
            "summary": found.summary,
            "asks": list(found.asks),
            "teams": sorted(person.teams),
        },
    )
    if earlier is None:
        return proposals.create(desk.store, draft, person.user, desk.now)
    return proposals.edit(desk.store, earlier.id, version, draft, person.user, desk.now)


def submit(desk: Desk, proposal: Proposal, version: int, person: Person) -> Proposal:
    """Ask those who must agree. Where nobody must, it is committed at once: there is no gatekeeper."""
    if proposal.author != person.user:
        raise Denied("only its author submits a proposal", f"ask {proposal.author}")
    desk = replace(desk, inputs_of=None)  # the snapshots as they are now: what is found here holds until the commit
    standing, found = _standing(desk), look(desk, proposal, person)
    if not found.can_submit and (fresh := settled(desk)) is not desk:
        desk, standing = fresh, _standing(fresh)
        found = look(desk, proposal, person)
    egress.require_submittable(found, proposal.draft.reason)
    if dict(found.files) != dict(files_of(proposal)) or before_of(proposal) != _texts(desk, found.files):
        # The platform moved on since it was written: what changes along, or what is replaced, is another text now.
        proposal = save(desk, found, person, proposal.draft.title, proposal.draft.reason, proposal, version)
        version = proposal.version
    required = [Requirement(item.role, item.why) for item in found.needed]
    submitted = proposals.submit(desk.store, proposal.id, version, required, person.user, desk.now, standing)
    if submitted.state is State.APPROVED:
        return commit(desk, submitted, person.user)
    for item in found.needed:
        who = tuple(user for user in asked(desk.platform, item.role) if user != person.user)
        desk.tell(who, f"Your agreement is asked: {proposal.draft.title}", f"{person.shown} proposes it. {item.why}.")
    return submitted


def asked(platform: Platform, role: str) -> tuple[str, ...]:
    """The users who are told that an agreement in that role is wanted."""
    team = platform.teams.get(role.partition(":")[2])
    return (team.approvers or tuple(member.user for member in team.members)) if team else ()


def look(desk: Desk, proposal: Proposal, author: Person | None = None) -> Preview:
    """The proposal's effect on the platform as it is now."""
    draft = proposal.draft
    return egress.preview(
        desk.opened, draft.subject, draft.document, desk.now.date(), desk.inputs_of, author, asks=asks_of(proposal)
    )


def decide(
    desk: Desk, proposal: Proposal, version: int, role: str, person: Person, approve: bool, comment: str = ""
) -> Proposal:
    """One of those who must agree says yes or no; the last yes commits it. A no needs a comment."""
    why = next((item.why for item in proposal.required if item.role == role), "")
    egress.require_may(egress.may_agree(person, role, why, proposal.author, desk.platform))
    if not approve and not comment.strip():
        raise Invalid("a refusal needs a comment", "say what should change")
    reviewed = proposals.review(desk.store, proposal.id, version, role, person.user, approve, desk.now, comment.strip())
    if reviewed.state is State.APPROVED:
        return commit(desk, reviewed, person.user)
    if reviewed.state is State.REJECTED:
        desk.tell((proposal.author,), f"Refused: {proposal.draft.title}", f"{person.shown}: {comment.strip()}")
    return reviewed


def commit(desk: Desk, proposal: Proposal, actor: str) -> Proposal:
    """Write an approved proposal into Git. A conflict makes it `failed`, with the reason; nothing is lost."""
    draft = proposal.draft
    author = author_of(desk, proposal)
    try:
        approved = [(item.role, item.reviewer) for item in proposal.reviews if item.decision == "approved"]
        text = commits.message(draft.title, draft.reason, proposal.author, approved, proposal.id)
        # Another portal may commit at this moment: what is judged here must be what the commit is made upon.
        with desk.alone():
            _require_still_good(anew(desk), proposal, author)
            sha = commits.commit(desk.repository, files_of(proposal), draft.data.get("blobs", {}), text, author)
    except PilothouseError as failure:
        reason = failure.with_hint
        desk.tell((proposal.author,), f"Not committed: {draft.title}", reason)
        return proposals.failed(desk.store, proposal.id, proposal.version, reason, actor, desk.now)
    done = proposals.committed(desk.store, proposal.id, proposal.version, sha, actor, desk.now)
    said = f"It is commit {sha[:12]}."
    if unsent := _send(desk.repository):
        said = f"{said} The remote does not have it yet ({unsent}); the worker sends it."
        events.record(desk.store, Event(desk.now, "proposal.unsent", actor, str(proposal.id), said[:500]))
    desk.tell((proposal.author,), f"Committed: {draft.title}", said)
    _ask_for_apply(desk, actor)  # after it was sent: the worker may have a clone of its own
    return done


def _send(repository: Repository) -> str:
    """Send what was committed to the remote, where there is one; why it could not be sent."""
    try:
        if repository.ahead():
            repository.push(PUSH_SECONDS)
    except PilothouseError as failure:
        return failure.message
    return ""


def _ask_for_apply(desk: Desk, actor: str) -> None:
    """Have the worker apply at once what was just committed, where a cluster is applied by it."""
    if any(cluster.apply == "auto" for cluster in desk.platform.clusters.values()):
        # Where no worker ever ran there is nothing to hurry: the first one begins with an apply.
        with suppress(Invalid):
            jobs.request(desk.store, "apply", actor, desk.now)


def author_of(desk: Desk, proposal: Proposal) -> Person:
    """The author with the teams that they had when they wrote it: their directory groups are not known here."""
    found = person_of(desk.platform, proposal.author)
    return replace(found, teams=found.teams | frozenset(proposal.draft.data.get("teams", ())))


def _standing(desk: Desk) -> str:
    """What a judgement rests on beside the proposal: every text of the platform, the snapshots, the day, and the
    version that judges. As long as it is the same, so is the judgement."""
    opened = desk.opened
    snapshots = {name: rendering.snapshot_digest(opened, name) for name in opened.loaded.platform.clusters}
    parts = [__version__, desk.now.date().isoformat(), opened.loaded.texts.digest, snapshots]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _require_still_good(desk: Desk, proposal: Proposal, author: Person) -> None:
    """Raise where the platform has changed so that this is no longer what was agreed to."""
    before, texts = before_of(proposal), _texts(desk, files_of(proposal))
    changed = sorted(path for path in {*before, *texts} if before.get(path) != texts.get(path))
    if changed:
        if desk.repository.is_repository() and not desk.repository.is_clean(*changed):
            return  # changed by hand: the repository refuses the commit, and says so
        raise Conflict(
            f"{', '.join(changed)} has changed since it was read",
            "read it again: somebody else changed it in the meantime",
        )
    if proposal.draft.data.get("standing") == _standing(desk):
        return  # nothing has changed since it was submitted
    found = look(desk, proposal, author)
    if has_errors(found.problems):
        raise Invalid("the platform has changed, and the change no longer fits it", "edit it and submit again")
    if dict(found.files) != dict(files_of(proposal)):
        raise Conflict("other documents would have to change along by now", "edit it and submit again")
    agreed = {item.role for item in proposal.reviews if item.decision == "approved"}
    missing = [item.role for item in found.needed if item.role not in agreed]
    if missing:
        raise Conflict(f"{', '.join(missing)} must agree as well by now", "submit it again, so that they are asked")


def retry(desk: Desk, proposal: Proposal, version: int, person: Person) -> Proposal:
    """Try to commit a failed one again, without asking anybody anew."""
    egress.require_may(
        egress.may_propose(person, egress.target(desk.opened, proposal.draft.subject).service, desk.platform)
    )
    return commit(desk, proposals.retry(desk.store, proposal.id, version, person.user, desk.now), person.user)


def withdraw(desk: Desk, proposal: Proposal, version: int, person: Person, comment: str = "") -> Proposal:
    if proposal.author != person.user:
        raise Denied("only its author withdraws a proposal", f"ask {proposal.author}")
    return proposals.withdraw(desk.store, proposal.id, version, person.user, desk.now, comment.strip())


def expire(store: Store, now: datetime, limit: int = 500) -> int:
    """Withdraw open proposals that nobody has touched for `OPEN_FOR`; how many there were."""
    found, _ = proposals.find(store, states=sorted(proposals.OPEN), limit=limit)
    old = [item for item in found if now - item.updated_at > OPEN_FOR]
    for item in old:
        proposals.withdraw(
            store, item.id, item.version, "pilothouse", now, f"nobody touched it for {OPEN_FOR.days} days"
        )
    return len(old)


def waiting_for(store: Store, person: Person, platform: Platform) -> tuple[Proposal, ...]:
    """Submitted proposals in which the person may agree to something that is still outstanding."""
    return tuple(item for item in proposals.awaiting(store) if roles_for(item, person, platform))


def roles_for(proposal: Proposal, person: Person, platform: Platform) -> tuple[str, ...]:
    """The outstanding roles of a proposal in which the person may agree."""
    return tuple(
        item.role
        for item in proposal.outstanding
        if egress.may_agree(person, item.role, item.why, proposal.author, platform)
    )


def only_role(proposal: Proposal, person: Person, platform: Platform) -> str:
    """The one role in which the person may agree. `Denied` with the reason where there is none, `Invalid` for several,
    `Conflict` where nobody is waited for."""
    if proposal.state is not State.SUBMITTED:
        raise Conflict(f"proposal {proposal.id} is {proposal.state}, and waits for nobody", "read it again")
    roles = roles_for(proposal, person, platform)
    if len(roles) == 1:
        return roles[0]
    if roles:
        raise Invalid("you may agree in more than one role", f"name one of them: {', '.join(roles)}")
    first = proposal.outstanding[0]
    egress.require_may(egress.may_agree(person, first.role, first.why, proposal.author, platform))
    return first.role


def _texts(desk: Desk, paths: Iterable[str]) -> Mapping[str, str]:
    """The files as the platform has them now; one that is not there is left out."""
    return {path: source.text for path in paths if (source := desk.opened.loaded.source(path))}
