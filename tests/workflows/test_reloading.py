"""New files for running servers: all of them load them, or none keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from pilothouse.files import tree
from pilothouse.problems import Invalid, Unavailable
from pilothouse.workflows.reloading import install

OLD, NEW = {"a.yaml": b"a: 1\n"}, {"a.yaml": b"a: 2\n", "b.yaml": b"b: 1\n"}


class Fake:
    """A server that loads `folder/a.yaml`, and refuses what `refuses` stands in."""

    def __init__(self, folder: Path, refuses: bytes = b"never", away: bool = False) -> None:
        self.url = f"http://{len(str(folder))}.example"
        self.folder = folder
        self.refuses = refuses
        self.away = away
        self.loaded = b""

    def reload(self) -> None:
        if self.away:
            raise Unavailable("it is away")
        text = (self.folder / "a.yaml").read_bytes()
        if self.refuses in text:
            raise Invalid(f"failed to reload config: {text!r}")
        self.loaded = text


def nothing(_: object) -> Iterable[str]:
    return ()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tree.write_tree(tmp_path / "served", OLD)
    return tmp_path / "served"


def test_all_load_the_new_files(folder: Path) -> None:
    servers = [Fake(folder), Fake(folder)]
    found = install(folder, NEW, servers, nothing)
    assert found.is_well
    assert found.changed == ("b.yaml", "a.yaml")
    assert [item.loaded for item in servers] == [b"a: 2\n"] * 2
    assert tree.read_tree(folder) == NEW


@pytest.mark.parametrize("bad", [{"refuses": b"a: 2"}, {"away": True}])
def test_one_that_refuses_undoes_it_for_all(folder: Path, bad: dict[str, object]) -> None:
    good, other = Fake(folder), Fake(folder, **bad)  # type: ignore[arg-type]  # fields by name
    found = install(folder, NEW, [good, other], nothing)
    assert found.undone
    assert not found.is_well
    assert [bool(item.refused) for item in found.servers] == [False, True]
    assert good.loaded == b"a: 1\n", "it took the new one, and has the old one again"
    assert tree.read_tree(folder) == OLD


def test_what_the_check_refuses_is_told_to_no_server(folder: Path) -> None:
    server = Fake(folder)
    found = install(folder, NEW, [server], nothing, lambda path: f"{path.name} is wrong")
    assert (found.wrong, found.undone, found.servers) == ("served is wrong", True, ())
    assert server.loaded == b""
    assert tree.read_tree(folder) == OLD


def test_a_server_that_took_the_files_and_shows_something_else(folder: Path) -> None:
    found = install(folder, NEW, [Fake(folder)], lambda _: ["the job x is not loaded"])
    assert found.servers[0].differs == ("the job x is not loaded",)
    assert not found.is_well


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a.yaml").write_bytes(b"theirs\n")
    with pytest.raises(Invalid):
        install(tmp_path / "theirs", NEW, [], nothing)
    assert (tmp_path / "theirs" / "a.yaml").read_bytes() == b"theirs\n"
