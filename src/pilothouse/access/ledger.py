"""The ledger: every step of issuance as an entry that holds the hash of the one before it.

An entry is written as canonical JSON (sorted keys, no spaces, UTF-8), and its hash is SHA-256 over that
text. Who changes, removes or reorders an entry breaks the chain from there on; who cuts off its end is
found by a head that was exported earlier.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pilothouse.problems import Invalid, Problem, error

GENESIS = "0" * 64
"""The hash before the first entry."""
_quoted = json.encoder.encode_basestring_ascii
_scan = json.JSONDecoder().raw_decode
_DOMAIN = b"pilothouse ledger 1\n"
"""Stands before every text that is hashed, so that no other hash of ours can be taken for one of the chain."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened. `kind` is `area.step`, such as `certificate.intent`; `subject` the id of what it is about.

    `data` holds what JSON can hold, and never a key, token or password.
    """

    kind: str
    actor: str
    subject: str = ""
    cluster: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry of a chain: what to export, and what a later check is held against."""

    sequence: int = 0
    hash: str = GENESIS

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """From `12:9f…`; `Invalid` for anything else."""
        sequence, _, digest = text.strip().partition(":")
        if not sequence.isdigit() or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise Invalid("this is no head of a ledger", "it looks like 12:9f86d081…, as `verify-ledger` prints it")
        return cls(int(sequence), digest)


EMPTY = Head()


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry in the chain: the text that was hashed, its hash, and the columns by which a store finds it."""

    sequence: int
    at: datetime
    entry: Entry
    text: str
    hash: str

    @property
    def head(self) -> Head:
        return Head(self.sequence, self.hash)


def append(previous: Head, entry: Entry, at: datetime) -> Recorded:
    """The entry as the next one after `previous`."""
    if at.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    at = at.astimezone(UTC)
    sequence = previous.sequence + 1
    text = canonical(
        {
            "actor": entry.actor,
            "at": at.isoformat(timespec="microseconds"),
            "cluster": entry.cluster,
            "data": entry.data,
            "kind": entry.kind,
            "previous": previous.hash,
            "sequence": sequence,
            "subject": entry.subject,
        }
    )
    return Recorded(sequence, at, entry, text, digest(text))


def canonical(value: Mapping[str, Any]) -> str:
    """One text for one value: control characters and what is no ASCII are escaped, so an entry is one line."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(text: str) -> str:
    return hashlib.sha256(_DOMAIN + text.encode("ascii", "backslashreplace")).hexdigest()


def verify(entries: Iterable[Recorded], exported: Iterable[Head] = ()) -> Iterator[Problem]:
    """Every break of a chain that is given from its first entry on, in order; nothing where it is whole.

    `exported` are heads that were kept elsewhere: the chain must still pass through each of them.
    """
    rows = (
        (
            found.sequence,
            found.at.isoformat(timespec="microseconds"),
            found.entry.kind,
            found.entry.actor,
            found.entry.subject,
            found.entry.cluster,
            found.text,
            found.hash,
        )
        for found in entries
    )
    yield from verify_rows(rows, exported)


Row = tuple[int, str, str, str, str, str, str, str]
"""(sequence, moment as ISO 8601 in UTC with microseconds, kind, actor, subject, cluster, text, hash)."""


def verify_rows(rows: Iterable[Row], exported: Iterable[Head] = ()) -> Iterator[Problem]:
    """The same as `verify` on the columns as they are stored: a million of them within seconds."""
    heads = {head.sequence: head.hash for head in exported if head.sequence}
    previous = EMPTY
    last, link = 0, GENESIS
    for row in rows:
        sequence, hash = row[0], row[7]
        if sequence != last + 1 or not _is_as_written(row, link):
            previous = Head(last, link)
            yield from _one(row, previous)
        if heads and heads.pop(sequence, hash) != hash:
            yield _problem(sequence, "is not the one that was exported: the chain was written anew")
        last, link = sequence, hash
    previous = Head(last, link)
    for sequence in sorted(heads):
        yield error(
            "access/ledger-truncated",
            f"the ledger ends at entry {previous.sequence}, and entry {sequence} was exported earlier",
            hint="entries at its end were removed; compare with a backup and find out who could write the database",
        )


def _is_as_written(row: Row, previous: str) -> bool:
    """Whether the text is, letter for letter, what `append` writes for these columns, and has that hash. No entry that
    is so needs to be read: where it is not, `_one` says what is wrong."""
    sequence, at, kind, actor, subject, cluster, text, hash = row
    begin = f'{{"actor":{_quoted(actor)},"at":"{at}","cluster":{_quoted(cluster)},"data":'
    end = f',"kind":{_quoted(kind)},"previous":"{previous}","sequence":{sequence},"subject":{_quoted(subject)}}}'
    if not (text.startswith(begin) and text.endswith(end)):
        return False
    data = text[len(begin) : -len(end)]
    try:
        _, stop = _scan(data)
    except ValueError:
        return False
    return stop == len(data) and digest(text) == hash


def _one(row: Row, previous: Head) -> Iterator[Problem]:
    sequence, at, kind, actor, subject, cluster, text, hash = row
    if sequence != previous.sequence + 1:
        yield _problem(sequence, f"follows entry {previous.sequence}: entries are missing or were reordered")
    if digest(text) != hash:
        yield _problem(sequence, "does not have the hash that stands beside it")
    try:
        held = json.loads(text)
    except ValueError:
        yield _problem(sequence, "cannot be read")
        return
    if not isinstance(held, dict) or held.get("previous") != previous.hash:
        yield _problem(sequence, "does not continue the entry before it")
        return
    said = {"sequence": sequence, "at": at, "kind": kind, "actor": actor, "subject": subject, "cluster": cluster}
    wrong = [key for key, value in said.items() if held.get(key) != value]
    if wrong:
        yield _problem(sequence, f"shows another {' and '.join(wrong)} than what was recorded")


def _problem(sequence: int, what: str) -> Problem:
    return error(
        "access/ledger-broken",
        f"ledger entry {sequence} {what}",
        hint="somebody changed the database; compare with a backup, and trust no entry from there on",
    )


def read(
    sequence: int, at: datetime, kind: str, actor: str, subject: str, cluster: str, text: str, hash: str
) -> Recorded:
    """A row of a store as a recorded entry; the columns are kept as they are, for `verify` to judge."""
    try:
        held = json.loads(text)
        data = held.get("data") or {}
    except (ValueError, AttributeError):
        data = {}
    return Recorded(sequence, at.astimezone(UTC), Entry(kind, actor, subject, cluster, data), text, hash)
