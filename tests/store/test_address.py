"""Which database belongs to a data folder, and that no password is where others can read it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from pilothouse.problems import Invalid, Unavailable
from pilothouse.store import Store, address, local
from pilothouse.store.address import FOLDER_S, Named
from pilothouse.store.outage import PAUSE, Outage

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)
URL = "postgresql://pilothouse@db.example/pilothouse"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://pilothouse:hush@db.example/pilothouse", "holds a password"),
        ("postgresql://pilothouse@db.example/pilothouse?password=hush", "holds a password"),
        ("postgresql://db.example/pilothouse?sslpassword=hush", "holds a password"),
        ("mysql://db.example/pilothouse", "names mysql"),
        ("postgresql://db.example", "names no database on db.example"),
        ("db.example", "no address of a database"),
    ],
)
def test_addresses_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        address.named(url)
    assert "hush" not in str(caught.value)
    assert "hush" not in caught.value.hint
    assert caught.value.hint


def test_one_way_of_naming_it() -> None:
    assert address.named() == FOLDER_S
    assert not FOLDER_S
    assert address.named(URL).arguments == ("--database", URL)
    assert address.named("", "/run/database").arguments == ("--database-file", "/run/database")
    assert FOLDER_S.arguments == ()
    with pytest.raises(Invalid, match="a database each"):
        address.named(URL, "/run/database")


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_file_holds_the_whole_address(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "database"
    path.write_text(f"{scheme}://pilothouse:hush@db.example:6432/pilothouse?sslmode=verify-full\n")
    found = address.url_of(address.named("", path))
    assert (found.drivername, found.password, found.port) == ("postgresql+psycopg", "hush", 6432)
    store = address.opened(tmp_path / "data", address.named("", path))
    assert (store.is_sqlite, store.folder, store.name) == (
        False,
        None,
        "postgresql://pilothouse@db.example:6432/pilothouse",
    )
    assert (tmp_path / "data").is_dir()


def test_files_that_hold_no_address(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="there is no file"):
        address.url_of(Named(file=str(tmp_path / "none")))
    with pytest.raises(Unavailable, match="cannot read"):
        address.url_of(Named(file=str(tmp_path)))
    (tmp_path / "text").write_bytes(b"\xff\xfe")
    with pytest.raises(Unavailable, match="no text"):
        address.url_of(Named(file=str(tmp_path / "text")))
    (tmp_path / "text").write_text("password: hush")
    with pytest.raises(Invalid, match="holds no address") as caught:
        address.url_of(Named(file=str(tmp_path / "text")))
    assert "hush" not in str(caught.value)


def test_what_was_named_is_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert address.opened(data).is_sqlite
    assert not address.exists(data)
    named = address.named(URL)
    address.keep(data, named)
    assert address.of(data) == named
    assert address.exists(data)
    assert address.opened(data).name == URL
    assert (data / address.KEPT).stat().st_mode & 0o777 == 0o600
    other = address.named("", tmp_path / "file")
    assert address.of(data, other) == other, "what is named now wins"
    address.keep(data, other)
    assert address.of(data) == other
    (data / address.KEPT).write_text("nonsense")
    with pytest.raises(Invalid, match="is damaged"):
        address.of(data)
    (data / address.KEPT).write_text("[]")
    with pytest.raises(Invalid, match="is damaged"):
        address.of(data)


def test_a_folder_with_people_and_ledger_is_not_left_behind(tmp_path: Path) -> None:
    Store(tmp_path).migrate()
    with pytest.raises(Invalid, match="has a database of its own") as caught:
        address.keep(tmp_path, address.named(URL))
    assert "copy-database" in caught.value.hint
    assert address.opened(tmp_path).is_sqlite


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        (URL, False),
        (f"{URL}?sslmode=require", False),
        (f"{URL}?sslmode=verify-full", True),
        ("postgresql:///pilothouse", True),
        ("postgresql:///pilothouse?host=/run/postgresql", True),
        ("postgresql://127.0.0.1/pilothouse", True),
    ],
)
def test_whether_somebody_in_between_could_pose_as_the_server(url: str, checked: bool) -> None:
    assert address.is_checked(make_url(url)) is checked


def test_what_concerns_one_folder_stands_in_it(tmp_path: Path) -> None:
    own = Store(tmp_path / "own")
    own.migrate()
    shared = Store(URL)
    (tmp_path / "shared").mkdir()
    for store, folder in ((own, tmp_path / "own"), (shared, tmp_path / "shared")):
        assert local.get(store, folder, "serve.port", 8420) == 8420
        local.put(store, folder, "serve.port", 8421, NOW)
        local.put(store, folder, "serve.platform", "/platform", NOW)
        assert local.get(store, folder, "serve.port") == 8421
    assert [path.name for path in (tmp_path / "shared").iterdir()] == [local.FILE]
    assert not (tmp_path / "own" / local.FILE).exists()
    with pytest.raises(Unavailable, match="cannot write"):
        local.put(shared, tmp_path / "missing", "serve.port", 1, NOW)


# ---------------------------------------------------------------- outage


def test_one_caller_tries_and_the_others_are_told() -> None:
    moment = 0.0
    outage = Outage(lambda: moment)
    outage.check()
    outage.failed(Unavailable("it hangs", "wait"))
    with pytest.raises(Unavailable, match="it hangs") as caught:
        outage.check()
    assert caught.value.hint == "wait"
    moment = PAUSE
    outage.check()
    outage.check()  # the same caller, in the same try
    import threading

    told: list[str] = []

    def other() -> None:
        try:
            outage.check()
        except Unavailable as failure:
            told.append(failure.message)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert told == ["it hangs"]
    outage.over()
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert told == ["it hangs"]
