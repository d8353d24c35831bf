"""What the egress pages and the proposals API share: the desk of the steps, and what follows a commit."""

from __future__ import annotations

from collections.abc import Collection

from pilothouse.files.git import Repository
from pilothouse.portal.frame import address, live, me, now, portal, store
from pilothouse.portal.telling import tell
from pilothouse.problems import Invalid, PilothouseError
from pilothouse.store import events, jobs, proposals
from pilothouse.store.proposals import Proposal, State
from pilothouse.workflows import commits, egress
from pilothouse.workflows import proposals as steps
from pilothouse.workflows.egress import Preview
from pilothouse.workflows.proposals import Desk


def desk() -> Desk:
    """Everything a step needs, as of this request."""
    found = live()
    if found.opened is None:
        raise Invalid("the platform cannot be read", found.reason or "the problems page says why")
    return Desk(store(), Repository(portal().settings.platform), found.opened, now(), tell, found.inputs)


def preview(here: Desk, key: str, text: str, asks: Collection[str] = ()) -> Preview:
    """The effect of a text for the person of this request."""
    return egress.preview(here.opened, key, text, here.now.date(), here.inputs_of, me(), asks=asks)


def diff(here: Desk, found: Preview) -> str:
    """Every file of a preview against what is there now."""
    texts = {path: source.text for path in found.files if (source := here.opened.loaded.source(path))}
    return commits.patch(texts, found.files)


def effect_of(here: Desk, found: Proposal) -> tuple[Preview | None, str]:
    """The effect of an open proposal on the platform as it is now, or why it is not known; made once per version."""
    if found.state not in proposals.OPEN:
        return None, ""
    try:
        key = f"proposal:{found.id}:{found.version}"
        return live().derived(key, lambda: steps.look(here, found, steps.author_of(here, found))), ""
    except PilothouseError as failure:
        return None, failure.message


def after(proposal: Proposal, step: str) -> None:
    """What follows a step: an entry for the audit page; after a commit the platform is read again and rendered soon."""
    _record(proposal, step)
    if proposal.state is State.FAILED:
        _record(proposal, "failed")
    if proposal.state is not State.COMMITTED:
        return
    _record(proposal, "committed")
    portal().current.refresh()
    known = {job.name for job in jobs.everything(store())}
    for name in ("reload", "render"):
        if name in known:
            jobs.request(store(), name, me().user, now())


def unsent(proposal: Proposal) -> str:
    """A sentence to go on with where the remote does not have the commit yet."""
    if proposal.state is State.COMMITTED and Repository(portal().settings.platform).ahead():
        return " The remote does not have it yet: the worker sends it."
    return ""


def _record(proposal: Proposal, step: str) -> None:
    text = proposal.draft.title if step != "failed" else f"{proposal.draft.title}: {proposal.error}"
    event = events.Event(now(), f"proposal.{step}", me().user, str(proposal.id), text[:500], address())
    events.record(store(), event)
