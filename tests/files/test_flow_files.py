"""Files of flows: plain, gzip or a stream, in lines, within limits."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.files import flows as files
from pilothouse.problems import Invalid, Unavailable


def lines(path: Path) -> list[bytes]:
    with files.opened(path) as found:
        return list(found)


@pytest.mark.parametrize("name", ["flows.json", "flows.json.gz"])
@pytest.mark.parametrize("packed", [False, True])
def test_gzip_is_told_by_its_content(tmp_path: Path, name: str, packed: bool) -> None:
    path = tmp_path / name
    raw = b"one\n\ntwo\r\nthree"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    assert lines(path) == [b"one", b"", b"two\r", b"three"]


@pytest.mark.parametrize("raw", [b"", b"\n", b"a", b"a\n", b"\x1f"])
def test_short_files(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "flows").write_bytes(raw)
    assert lines(tmp_path / "flows") == io.BytesIO(raw).read().splitlines()


@given(raw=st.binary(max_size=200).filter(lambda raw: not raw.startswith(b"\x1f\x8b")), chunk=st.integers(1, 9))
def test_chunks_do_not_show(raw: bytes, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_CHUNK", chunk)
        found = list(files.lines(io.BytesIO(raw), "-"))
    expected = raw.split(b"\n")
    assert found == (expected if expected[-1] else expected[:-1])


def test_a_pipe_is_read_whether_packed_or_not() -> None:
    assert list(files.lines(io.BytesIO(gzip.compress(b"a\nb\n")), "-")) == [b"a", b"b"]


def test_progress_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "flows.gz"
    path.write_bytes(gzip.compress(b"line\n" * 1000))
    told: list[tuple[int, int]] = []
    with files.opened(path, lambda done, size: told.append((done, size))) as found:
        assert sum(1 for _ in found) == 1000
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    assert told == sorted(told)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no file of flows at"):
        lines(tmp_path / "none")
    with pytest.raises(Invalid, match="is a folder"):
        lines(tmp_path)


def test_gzip_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "flows.gz"
    path.write_bytes(gzip.compress(b"line\n" * 10_000)[:-12])
    with pytest.raises(Invalid, match="is broken gzip"):
        lines(path)
    path.write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(Invalid, match="is broken gzip"):
        lines(path)


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 10)
    path = tmp_path / "flows"
    path.write_bytes(b"x" * 11)
    with pytest.raises(Invalid, match="has a line of more than 10 bytes"):
        lines(path)
    monkeypatch.setattr(files, "MAX_FLOW_BYTES", 5)
    with pytest.raises(Invalid, match="more than a file of flows may"):
        lines(path)
    path.write_bytes(gzip.compress(b"a\n" * 20))
    monkeypatch.setattr(files, "MAX_FLOW_BYTES", 39)
    with pytest.raises(Invalid, match="holds more than 39 bytes"):
        lines(path)


def test_what_cannot_be_read() -> None:
    class Gone(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(Unavailable, match="flows cannot be read: Input/output error"):
        list(files.lines(Gone(), "flows"))
