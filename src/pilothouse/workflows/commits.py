"""From an agreed change to a commit of the platform's repository, or to a patch where it may not be written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from pilothouse.access.permissions import Person
from pilothouse.files.git import Repository
from pilothouse.problems import Conflict


def message(title: str, reason: str, author: str, approved: Iterable[tuple[str, str]], number: int) -> str:
    """What, why, who proposed and who agreed: `approved` are pairs of role and user.

    Whatever a person typed stays in the body: a line of it that looks like one of our trailers is indented, so
    that nobody can write an approval of their own.
    """
    trailers = ("proposal:", "proposed-by:", "approved-by:")
    body = "\n".join(
        f"  {line}" if line.strip().lower().startswith(trailers) else line for line in reason.strip().splitlines()
    )
    lines = [" ".join(title.split()), "", body, "", f"Proposal: {number}", f"Proposed-by: {author}"]
    lines += [f"Approved-by: {user} ({role})" for role, user in approved]
    return "\n".join(lines) + "\n"


def blobs(repository: Repository, paths: Iterable[str]) -> dict[str, str]:
    """What the files are in the repository now; a later commit is refused where they have changed."""
    return {path: repository.blob(path) for path in paths}


def commit(repository: Repository, files: Mapping[str, str], seen: Mapping[str, str], text: str, author: Person) -> str:
    """Write the files as one commit and return it. `Conflict` when one of them changed since it was read."""
    if not repository.is_repository():
        raise Conflict(f"{repository.path} is no Git repository", "download the patch and hand it to the platform team")
    email = author.email or f"{author.user}@localhost"
    return repository.commit(dict(files), text, author.name or author.user, email, expected_blobs=seen)


def patch(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """A unified diff that `git apply` takes; a text that is missing on one side is a file that comes or goes."""
    parts = []
    for path in sorted({*before, *after}):
        old, new = before.get(path, ""), after.get(path, "")
        if old == new:
            continue
        names = (f"a/{path}" if old else "/dev/null", f"b/{path}" if new else "/dev/null")
        lines = difflib.unified_diff(_lines(old), _lines(new), *names)
        parts.append(
            "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)
        )
    return "".join(parts)


def _lines(text: str) -> list[str]:
    """Lines as Git counts them: `str.splitlines` would also break at a form feed or a Unicode separator."""
    found = text.split("\n")
    return [line + "\n" for line in found[:-1]] + ([found[-1]] if found[-1] else [])
