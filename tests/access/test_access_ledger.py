import dataclasses
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.access_values import NOW

from pilothouse.access import ledger
from pilothouse.access.ledger import EMPTY, Entry, Head
from pilothouse.problems import Invalid


def chain(count=5):
    entries, head = [], EMPTY
    for index in range(count):
        entry = Entry("certificate.intent", "alice", f"s{index}", "dev", {"profile": "developer", "seconds": index})
        entries.append(ledger.append(head, entry, NOW + timedelta(seconds=index)))
        head = entries[-1].head
    return entries


def told(entries, exported=()):
    return [problem.message for problem in ledger.verify(entries, exported)]


def test_a_chain_that_was_not_touched_is_whole():
    entries = chain()
    assert told(entries) == []
    assert told(entries, [entries[2].head, EMPTY]) == []
    assert told([]) == []


def test_an_entry_is_one_line_whatever_it_holds():
    entry = ledger.append(EMPTY, Entry("x.y", "alice\n\x1b[31m", data={"reason": "naïve\n2nd"}), NOW)
    assert "\n" not in entry.text
    assert entry.text.isascii()
    assert entry.text.isprintable()


def changed(index, **fields):
    entries = chain()
    entries[index] = dataclasses.replace(entries[index], **fields)
    return entries


def test_an_edited_entry_is_detected():
    text = chain()[2].text.replace("alice", "mallory")
    assert told(changed(2, text=text)) == [
        "ledger entry 3 does not have the hash that stands beside it",
        "ledger entry 3 shows another actor than what was recorded",
    ]
    forged = changed(2, text=text, hash=ledger.digest(text), entry=Entry("certificate.intent", "mallory", "s2", "dev"))
    assert told(forged) == ["ledger entry 4 does not continue the entry before it"]
    assert "does not continue" in told(changed(2, text="[]", hash=ledger.digest("[]")))[0]
    assert "cannot be read" in told(changed(2, text="{", hash=ledger.digest("{")))[0]


@pytest.mark.parametrize(
    ("fields", "column"),
    [
        ({"entry": Entry("certificate.intent", "bob", "s2", "dev")}, "actor"),
        ({"entry": Entry("certificate.issued", "alice", "s2", "dev")}, "kind"),
        ({"at": NOW}, "at"),
    ],
)
def test_a_column_that_says_otherwise_is_detected(fields, column):
    assert told(changed(2, **fields)) == [f"ledger entry 3 shows another {column} than what was recorded"]


def test_removed_and_reordered_entries_are_detected():
    entries = chain()
    assert told(entries[:2] + entries[3:]) == [
        "ledger entry 4 follows entry 2: entries are missing or were reordered",
        "ledger entry 4 does not continue the entry before it",
    ]
    assert told([entries[0], entries[2], entries[1], *entries[3:]])
    assert told(entries[1:])[0].startswith("ledger entry 2 follows entry 0")


def test_a_cut_end_is_detected_by_an_exported_head():
    entries = chain()
    (problem,) = ledger.verify(entries[:3], [entries[4].head])
    assert problem.code == "access/ledger-truncated"
    assert problem.message == "the ledger ends at entry 3, and entry 5 was exported earlier"


def test_a_chain_written_anew_is_detected_by_an_exported_head():
    entries = chain()
    exported = Head(3, "f" * 64)
    assert told(entries, [exported]) == ["ledger entry 3 is not the one that was exported: the chain was written anew"]


def test_a_head_can_be_written_down():
    head = chain()[-1].head
    assert Head.parse(f" {head}\n") == head
    for text in ("", "5", "5:abc", "x:" + "0" * 64, "5:" + "Z" * 64):
        with pytest.raises(Invalid):
            Head.parse(text)


def test_a_row_reads_as_it_was_written():
    entry = chain()[0]
    again = ledger.read(
        entry.sequence,
        entry.at,
        entry.entry.kind,
        entry.entry.actor,
        entry.entry.subject,
        entry.entry.cluster,
        entry.text,
        entry.hash,
    )
    assert again == entry
    assert ledger.read(1, NOW, "k", "a", "s", "c", "not json", "h").entry.data == {}


def test_a_moment_needs_a_time_zone():
    with pytest.raises(ValueError, match="time zone"):
        ledger.append(EMPTY, Entry("x", "y"), datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused


@given(st.lists(st.text(max_size=5), min_size=1, max_size=6), st.data())
def test_any_change_of_a_text_breaks_the_chain(actors, data):
    entries, head = [], EMPTY
    for actor in actors:
        entries.append(ledger.append(head, Entry("k", actor), NOW))
        head = entries[-1].head
    assert told(entries) == []
    index = data.draw(st.integers(0, len(entries) - 1))
    text = entries[index].text
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[place]))
    entries[index] = dataclasses.replace(entries[index], text=text[:place] + other + text[place + 1 :])
    assert told(entries)
