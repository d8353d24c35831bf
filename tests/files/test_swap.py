import os

import pytest

from pilothouse.files import swap
from pilothouse.problems import Conflict, Unavailable


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_is_laid_out_as_the_kubelet_does(tmp_path):
    assert swap.write(tmp_path / "db", {"user": b"a", "password": b"b"}, "one")
    assert names(tmp_path / "db") == ["..data", "..one", "password", "user"]
    assert swap.read(tmp_path / "db") == {"user": b"a", "password": b"b"}
    assert (tmp_path / "db" / "user").read_bytes() == b"a"


def test_the_same_files_change_nothing_unless_they_are_asked_for_again(tmp_path):
    swap.write(tmp_path, {"a": b"1"}, "one")
    assert not swap.write(tmp_path, {"a": b"1"}, "two")
    assert str((tmp_path / "..data").readlink()) == "..one"
    assert swap.write(tmp_path, {"a": b"1"}, "two", again=True)
    assert str((tmp_path / "..data").readlink()) == "..two"


def test_what_was_there_before_stays_for_readers_under_way_and_goes_at_the_next_sweep(tmp_path):
    swap.write(tmp_path, {"a": b"1", "gone": b"x"}, "one")
    under_way = tmp_path / (tmp_path / "..data").readlink()
    swap.write(tmp_path, {"a": b"2"}, "two")
    assert (under_way / "gone").read_bytes() == b"x"
    assert names(tmp_path) == ["..data", "..one", "..two", "a"]
    swap.sweep(tmp_path)
    assert names(tmp_path) == ["..data", "..two", "a"]


def test_two_changes_of_one_moment(tmp_path):
    for content in (b"1", b"2", b"3"):
        swap.write(tmp_path, {"a": content}, "same")
    assert (tmp_path / "a").read_bytes() == b"3"


def test_an_end_in_the_middle_leaves_the_old_files_and_is_cleared_up(tmp_path, monkeypatch):
    swap.write(tmp_path, {"a": b"1"}, "one")

    def broken(*_arguments, **_named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_bytes", broken)
    with pytest.raises(Unavailable, match="No space left"):
        swap.write(tmp_path, {"a": b"2"}, "two")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"1"
    (tmp_path / "..killed").mkdir()
    (tmp_path / "..data_tmp").symlink_to("..killed")
    assert swap.write(tmp_path, {"a": b"2"}, "two")
    assert (tmp_path / "a").read_bytes() == b"2"
    assert "..killed" not in names(tmp_path)


def test_a_file_of_somebody_else_is_not_touched(tmp_path):
    (tmp_path / "password").write_text("mine")
    with pytest.raises(Conflict, match="none of ours"):
        swap.write(tmp_path, {"password": b"x"}, "one")
    assert (tmp_path / "password").read_text() == "mine"


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_modes_do_not_depend_on_the_mask_of_the_process(tmp_path, mask):
    before = os.umask(mask)
    try:
        swap.write(tmp_path / "x", {"a": b"1"}, "one", 0o440)
    finally:
        os.umask(before)
    assert (tmp_path / "x" / "a").stat().st_mode & 0o777 == 0o440
    assert (tmp_path / "x" / "..data").stat().st_mode & 0o777 == 0o755


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot write"):
        swap.write(tmp_path / "file" / "below", {"a": b"1"}, "one")
