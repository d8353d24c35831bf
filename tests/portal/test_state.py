"""The platform of the moment: loaded once, reloaded on change, never waited for."""

from __future__ import annotations

import gc
import threading
import weakref
from datetime import timedelta
from pathlib import Path

import pytest
from support.builders import platform, service
from support.portal import NOW, Clock, FakeEngine, make_app

from pilothouse.inputs import Content
from pilothouse.portal.app import _ticked
from pilothouse.portal.listing import Query, page_of
from pilothouse.portal.state import Current, Once, stamp_of
from pilothouse.portal.words import badge, count, duration, relative, utc
from pilothouse.problems import Unavailable, error


def current(tmp_path: Path, engine: FakeEngine, clock: Clock, warm: bool = False) -> Current:
    (tmp_path / "a.yaml").write_text("a")
    return Current(tmp_path, clock, 2.0, engine, warm)


def test_it_is_loaded_once_and_anew_after_a_change(tmp_path: Path) -> None:
    engine, clock = FakeEngine(platform([service("a/a")])), Clock()
    state = current(tmp_path, engine, clock)
    first = state.get()
    assert state.get() is first
    assert state.refresh() is first
    (tmp_path / "b.yaml").write_text("b")
    assert state.get() is first
    assert state.refresh() is not first
    assert engine.opened == 2
    clock.moment += timedelta(days=1)
    assert state.refresh().today == clock.moment.date()
    assert engine.opened == 3


def test_a_change_is_seen_in_the_background(tmp_path: Path) -> None:
    engine, clock = FakeEngine(platform([service("a/a")])), Clock()
    state = current(tmp_path, engine, clock)
    first = state.get()
    (tmp_path / "b.yaml").write_text("b")
    clock.moment += timedelta(seconds=3)
    assert state.get() is first
    for thread in threading.enumerate():
        if thread.name == "platform-reload":
            thread.join(5)
    assert state.get() is not first


def test_nothing_to_read_is_a_reason_not_a_failure(tmp_path: Path) -> None:
    state = Current(tmp_path / "gone", Clock(), 2.0, FakeEngine(platform()))
    found = state.get()
    assert "cannot read" in found.reason
    assert found.platform.services == {}


def test_errors_at_the_first_load_are_shown_with_what_there_is(tmp_path: Path) -> None:
    engine = FakeEngine(platform([service("a/a")]), problems=(error("platform/bad", "bad"),))
    found = current(tmp_path, engine, Clock()).get()
    assert not found.reason
    assert found.has_errors
    assert found.checked("dev").problems == ()
    assert [item.code for item in found.all_problems()[0]] == ["platform/bad"]


def test_clusters_are_checked_in_the_background(tmp_path: Path) -> None:
    engine = FakeEngine(platform([service("a/a")]), checked={"dev": [error("x/y", "wrong")]})
    state = current(tmp_path, engine, Clock(), warm=True)
    found = state.get()
    assert state._warming
    state._warming.join(5)
    assert found.is_checked("dev")
    assert [item.code for item in found.all_problems()[0]] == ["x/y"]
    with pytest.raises(KeyError):
        found.inputs("mars")


def test_what_pages_derive_is_made_in_the_background_too(tmp_path: Path) -> None:
    state = current(tmp_path, FakeEngine(platform([service("a/a")])), Clock(), warm=True)
    made: list[str] = []
    state.warmers.append(lambda found, name: found.derived(f"tree:{name}", lambda: made.append(name)))
    found = state.get()
    assert state._warming
    state._warming.join(5)
    found.derived("tree:dev", lambda: made.append("again"))
    assert made == ["dev"]


def test_a_loaded_platform_is_left_out_of_searches_for_cycles_and_freed_all_the_same(tmp_path: Path) -> None:
    state = current(tmp_path, FakeEngine(platform([service("a/a")]), content=Content()), Clock())
    old = state.get()
    state.check_all(old)
    try:
        assert gc.get_freeze_count() > 0
        snapshot = weakref.ref(old.inputs("dev").snapshot)
        gc.disable()
        (tmp_path / "b.yaml").write_text("b")
        state.refresh()
        del old
        assert snapshot() is None
    finally:
        gc.unfreeze()
        gc.enable()


def test_the_routing_page_asks_for_its_trees_ahead(tmp_path: Path) -> None:
    app = make_app(tmp_path, platform([service("a/a")]))
    state = app.extensions["pilothouse"].current
    found = state.get()
    state.check_all(found)
    assert found._once.has("page:routing:dev")


def test_a_cluster_that_cannot_be_checked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(platform([service("a/a")]))

    def fail(*_: object) -> None:
        raise Unavailable("no snapshot")

    monkeypatch.setattr(engine, "check", fail)
    found = current(tmp_path, engine, Clock(), warm=True).get()
    with pytest.raises(Unavailable):
        found.checked("dev")
    assert found.all_problems()[2] == {"dev": "no snapshot"}


def test_what_is_made_once_is_made_once_for_all_threads() -> None:
    once, made = Once(), []
    gate = threading.Event()

    def slow() -> int:
        gate.wait(5)
        made.append(1)
        return len(made)

    threads = [threading.Thread(target=once, args=("a", slow)) for _ in range(5)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(5)
    assert made == [1]


def test_the_stamp_follows_names_sizes_and_times_but_not_git(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a").write_text("a")
    first = stamp_of(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "index").write_text("x")
    assert stamp_of(tmp_path) == first
    (tmp_path / "below" / "a").rename(tmp_path / "below" / "b")
    assert stamp_of(tmp_path) != first


# ---------------------------------------------------------------- words and lists


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.42, "0.4 s"), (42, "42 s"), (60, "1 min"), (3600, "1 h"), (57600, "16 h"),
     (100000, "1 d 3 h"), (3661, "1 h 1 min"), (-60, "-1 min")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("delta", "text"),
    [(0, "now"), (-30, "30 s ago"), (-90, "1 min ago"), (-600, "10 min ago"), (3600, "in 1 h"),
     (5400, "in 1 h 30 min"), (57600, "in 16 h"), (-3 * 86400, "3 d ago")],
)  # fmt: skip
def test_relative_times(delta: float, text: str) -> None:
    assert relative(NOW + timedelta(seconds=delta), NOW) == text


def test_other_words() -> None:
    assert utc(NOW) == "21 Nov 2026 03:00 UTC"
    assert (count(1, "entry", "entries"), count(2000, "service")) == ("1 entry", "2,000 services")
    assert (badge("failed").tone, badge("anything").tone, badge("x", "ok").tone) == ("bad", "idle", "ok")


def test_a_list_keeps_its_state_in_the_address() -> None:
    query = Query("a b", "-name", 3, 10, {"team": "x"}, "/list", "name")
    assert query.url() == "/list?q=a+b&sort=-name&team=x&page=3"
    assert query.url(page=1) == "/list?q=a+b&sort=-name&team=x"
    assert query.url(team=None) == "/list?q=a+b&sort=-name"
    assert query.sort_url("name") == "/list?q=a+b&team=x" if query.sort == "name" else query.sort_url("name")
    assert (query.direction("name"), query.direction("team")) == ("descending", "none")
    page = page_of(["Ab b", "b", "a B c"], Query("A b", "name", 1, 10, {}, "/", "name"), {"name": str}, str)
    assert (list(page.items), page.total, page.all, page.first, page.last) == (["Ab b", "a B c"], 2, 3, 1, 2)


def test_backticks_become_code_and_nothing_else_does() -> None:
    assert _ticked("on `dev`, <b>") == "on <code>dev</code>, &lt;b&gt;"
    assert _ticked("an odd ` one") == "an odd ` one"
    assert _ticked("`<b>`") == "<code>&lt;b&gt;</code>"
