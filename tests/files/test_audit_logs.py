"""Audit logs line by line: gzip, lines that are broken or too long, and logs that grow and are rotated."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import pytest

from pilothouse.access.audit.model import Kind
from pilothouse.files import audit_logs, audit_settings
from pilothouse.files.audit_logs import Position
from pilothouse.problems import Invalid, Unavailable


def read(data: bytes) -> list[tuple[int, bytes, str]]:
    return [(line.number, line.data, line.wrong) for line in audit_logs.of_stream(io.BytesIO(data), "log")]


def test_lines_plain_and_gzip_and_without_an_end(tmp_path: Path) -> None:
    text = b'{"a":1}\n\n{"b":"x\ry"}\r\n{"c":3}'
    wanted = [(1, b'{"a":1}', ""), (3, b'{"b":"x\ry"}', ""), (4, b'{"c":3}', "")]
    assert read(text) == wanted
    assert read(gzip.compress(text)) == wanted
    packed = tmp_path / "audit.log.gz"
    packed.write_bytes(gzip.compress(text))
    done: list[int] = []
    assert [line.data for line in audit_logs.lines(packed, done.append)] == [data for _, data, _ in wanted]
    assert done == [len(text) - len(b'{"c":3}')]
    assert read(b"") == read(b"\n \n") == []


def test_a_line_that_is_too_long_is_named_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_logs, "LONGEST", 100)
    monkeypatch.setattr(audit_logs, "_CHUNK", 30)
    long = b"x" * 1000
    found = read(b"first\n" + long + b"\nlast\n")
    assert [number for number, _, _ in found] == [1, 2, 3]
    assert found[1][1] == b""
    assert "more than 100 bytes" in found[1][2]
    assert found[2][1] == b"last"


def test_gzip_that_breaks_off_keeps_what_came_before() -> None:
    text = b"".join(b'{"number": %d, "noise": "%s"}\n' % (n, os.urandom(200).hex().encode()) for n in range(5000))
    found = read(gzip.compress(text)[:-200_000])
    assert len(found) > 1000
    assert "gzip is broken" in found[-1][2]
    assert all(wrong == "" for _, _, wrong in found[:-1])


def test_what_is_not_there_or_not_ours(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(Invalid, match="no audit log at"):
            list(audit_logs.lines(path))


def since(path: Path, position: Position) -> tuple[list[bytes], Position]:
    found = []
    for line, after in audit_logs.since(path, position):
        found.append(line.data)
        position = after
    return found, position


def test_a_log_that_grows_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"one\ntwo\nhal")
    lines, position = since(path, Position())
    assert lines == [b"one", b"two"]
    assert since(path, position) == ([], position)
    with path.open("ab") as file:
        file.write(b"f\nthree\n")
    lines, position = since(path, position)
    assert lines == [b"half", b"three"]
    assert position.offset == path.stat().st_size


def test_a_rotated_log_is_read_to_its_end_first(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"one\n")
    _, position = since(path, Position())
    with path.open("ab") as file:
        file.write(b"two\n")
    path.rename(tmp_path / "audit-2026-11-21.log")
    path.write_bytes(b"three\n")
    lines, position = since(path, position)
    assert lines == [b"two", b"three"]
    assert (position.inode, position.offset) == (path.stat().st_ino, 6)


def test_a_log_that_was_cut_in_place_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"one\ntwo\n")
    _, position = since(path, Position())
    path.write_bytes(b"new\n")
    assert since(path, position)[0] == [b"new"]
    path.unlink()
    with pytest.raises(Unavailable, match="no audit log at"):
        since(path, position)


def test_several_rotations_between_two_looks(tmp_path: Path) -> None:
    """As an API server names them, and as logrotate does; what is of another log, or packed by a program that we do not
    unpack, is left alone."""
    path = tmp_path / "audit.log"
    path.write_bytes(b"one\n")
    _, position = since(path, Position())
    for number, name in enumerate(("audit-2026-11-21T03-00-00.000.log", "audit.log.1"), 2):
        path.rename(tmp_path / name)
        path.write_bytes(b"line %d\n" % number)
        os.utime(path, (2_000_000_000 + number, 2_000_000_000 + number))
    os.utime(tmp_path / "audit-2026-11-21T03-00-00.000.log", (2_000_000_000, 2_000_000_000))
    for other in ("audit-policy.log", "audit.log.9.xz", "vault.log"):
        (tmp_path / other).write_bytes(b"not ours\n")
        os.utime(tmp_path / other, (2_000_000_001, 2_000_000_001))
    lines, position = since(path, position)
    assert lines == [b"line 2", b"line 3"]
    assert since(path, position)[0] == []


def packed(path: Path, moment: int) -> None:
    """As gzip does: another file, and the first one is gone."""
    other = path.with_name(f"{path.name}.gz")
    other.write_bytes(gzip.compress(path.read_bytes()))
    os.utime(other, (moment, moment))
    path.unlink()


def test_rotations_that_were_packed_between_two_looks(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"one\n")
    _, position = since(path, Position())
    (tmp_path / "audit.log.3.gz").write_bytes(gzip.compress(b"of last week\n"))
    os.utime(tmp_path / "audit.log.3.gz", (1_900_000_000, 1_900_000_000))
    for number, name in enumerate(("audit-2026-11-21T03-00-00.000.log", "audit.log.1"), 2):
        with path.open("ab") as file:
            file.write(b"end of %d\n" % number)
        path.rename(tmp_path / name)
        path.write_bytes(b"line %d\n" % number)
        packed(tmp_path / name, 2_000_000_000 + number)
    lines, position = since(path, position)
    assert lines == [b"end of 2", b"line 2", b"end of 3", b"line 3"]
    assert since(path, position) == ([], position)


def test_a_log_is_read_on_in_the_middle_of_a_packed_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"one\n")
    _, position = since(path, Position())
    with path.open("ab") as file:
        file.write(b"two\nthree\n")
    path.rename(tmp_path / "audit.log.1")
    packed(tmp_path / "audit.log.1", 2_000_000_000)
    path.write_bytes(b"four\n")
    line, position = next(audit_logs.since(path, position))
    assert line.data == b"two"
    assert since(path, position)[0] == [b"three", b"four"]


def test_while_it_is_packed_it_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"one\n")
    _, position = since(path, Position())
    for name, text in (("audit.log.2", b"two\n"), ("audit.log.1", b"three\n")):
        path.rename(tmp_path / name)
        path.write_bytes(text)
    (tmp_path / "audit.log.1.gz").write_bytes(gzip.compress(b"two\n")[:-6])
    lines, position = since(path, position)
    assert lines == [b"two", b"three"]


def test_a_packed_log_that_breaks_off_is_named_and_holds_nothing_up(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"one\n")
    _, position = since(path, Position())
    path.rename(tmp_path / "audit.log.1")
    (tmp_path / "audit.log.1.gz").write_bytes(gzip.compress(b"one\n" + os.urandom(5000))[:40])
    (tmp_path / "audit.log.1").unlink()
    path.write_bytes(b"two\n")
    found = [line for line, _ in audit_logs.since(path, position)]
    assert [line.data for line in found] == [b"", b"two"]
    assert "broken" in found[0].wrong


@pytest.mark.parametrize("more", [b"", b"and so many more lines that it is longer than it was before\n"])
def test_a_log_that_is_copied_and_emptied(tmp_path: Path, more: bytes) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"one\ntwo\n")
    _, position = since(path, Position())
    (tmp_path / "audit.log.1").write_bytes(path.read_bytes() + b"three\n")
    (tmp_path / "audit.log.2").write_bytes(b"long ago\nand more\n")
    path.write_bytes(b"four\n" + more)
    lines, position = since(path, position)
    assert lines == [b"three", b"four", *([more.strip()] if more else [])]
    assert position.inode == path.stat().st_ino
    assert since(path, position)[0] == []


def test_a_long_log_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(b'{"number": %06d}\n' % number for number in range(100)))
    read, position = since(path, Position())
    assert len(read) == 100
    with path.open("ab") as file:
        file.write(b"more\n")
    assert since(path, position)[0] == [b"more"]
    path.write_bytes(b"".join(b'{"another": %06d}\n' % number for number in range(200)))
    assert len(since(path, position)[0]) == 200


def test_settings(tmp_path: Path) -> None:
    assert audit_settings.from_file(tmp_path / "audit.yaml").sources == ()
    file = tmp_path / "audit.yaml"
    file.write_text(
        "sources:\n- {cluster: dev, kind: kubernetes, path: /var/log/audit.log, gap: 5m}\n"
        "- {cluster: dev, kind: vault, path: /var/log/vault.log}\nappliers: {dev: [gitops]}\n"
    )
    found = audit_settings.from_file(file)
    assert (found.sources[0].kind, found.sources[0].silence.total_seconds()) == (Kind.KUBERNETES, 300)
    assert found.sources[1].silence == audit_settings.NEVER
    assert found.appliers == {"dev": ("gitops",)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sources: [{cluster: dev, kind: other, path: /x}]", "sources.0.kind"),
        ("sources: [{cluster: dev, kind: vault, path: x}]", "no absolute path"),
        ("sources: [{cluster: dev, kind: vault, path: /x, gap: long}]", "sources.0.gap"),
        ("pageAt: 0", "pageAt"),
        ("unknown: 1", "unknown"),
        ("a: [", "audit.yaml"),
    ],
)
def test_mistakes_in_the_settings(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "audit.yaml"
    file.write_text(text)
    with pytest.raises(Invalid, match=why):
        audit_settings.from_file(file)
