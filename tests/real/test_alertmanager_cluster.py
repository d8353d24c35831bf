"""Two Alertmanagers that gossip: one silence for both, one board, and one of them away."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support import testbed
from support.bed.monitoring import Monitor
from support.bed.process import Server, free_port
from support.bed.web import request

from pilothouse.alerts.live import Board, Held, Silence, SilenceState
from pilothouse.alerts.routing.model import Matcher, MatchOp
from pilothouse.clients.alertmanager import Alertmanagers
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Unavailable

CONFIG = "route: {receiver: all, group_wait: 100ms}\nreceivers: [{name: all}]\n"
PAY = Matcher("team", MatchOp.EQUAL, "pay")


@pytest.fixture
def pair(tmp_path: Path, bed: Any) -> Iterator[tuple[Monitor, Monitor]]:
    """Both are started before the first is waited for: each looks for the other."""
    del bed  # ends whatever is left at the end of the run
    file = tmp_path / "alertmanager.yml"
    file.write_text(CONFIG)
    ports = free_port(), free_port()
    made = []
    for own, other in (ports, ports[::-1]):
        url = f"http://127.0.0.1:{free_port()}"
        flags: list[str | Path] = [
            testbed.program("alertmanager"),
            f"--config.file={file}",
            f"--storage.path={tmp_path / str(own)}",
            f"--web.listen-address={url[7:]}",
            f"--cluster.listen-address=127.0.0.1:{own}",
            f"--cluster.advertise-address=127.0.0.1:{own}",
            f"--cluster.peer=127.0.0.1:{other}",
            "--cluster.gossip-interval=50ms",
            "--cluster.settle-timeout=2s",
        ]
        server = Server("alertmanager", flags, lambda url=url: request(f"{url}/-/ready"))  # type: ignore[misc]
        made.append(Monitor(url, file, server.launch()))
    for one in made:
        one.server.wait()
    yield made[0], made[1]
    for one in made:
        one.stop()


def until(client: Alertmanagers, wanted: Callable[[Board], bool]) -> Board:
    ends = time.monotonic() + 20
    while not wanted(found := client.board()):
        assert time.monotonic() < ends, found
        time.sleep(0.2)
    return found


def fire(*servers: Any) -> None:
    body = json.dumps([{"labels": {"alertname": "A", "team": "pay", "severity": "page"}}]).encode()
    for server in servers:
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/api/v2/alerts", body, headers), timeout=5).close()


def test_one_silence_reaches_both_and_ends_at_both(pair: tuple[Any, Any]) -> None:
    client = Alertmanagers([server.endpoint for server in pair])
    ends = time.monotonic() + 20
    while [getattr(item, "peers", 0) for item in client.statuses().values()] != [2, 2]:
        assert time.monotonic() < ends, client.statuses()
        time.sleep(0.2)
    fire(*pair)
    board = until(client, lambda found: any(len(item.known_to) == 2 for item in found.alerts))
    assert len(board.alerts) == 1
    now = datetime.now(UTC)
    made = client.silence(Silence((PAY,), now, now + timedelta(hours=1), "ann", "work"))
    assert len(made) == 1, "gossip hands it on"
    board = until(client, lambda found: found.alerts[0].held is Held.SILENCED)
    (silence,) = board.silences
    assert {url for url, _ in silence.ids} == {server.url for server in pair}
    assert len(client.expire(silence)) == 1
    board = until(client, lambda found: found.alerts[0].held is Held.NO)
    assert [item.state for item in board.silences] == [SilenceState.EXPIRED]


def test_one_that_is_paused_or_dead_is_a_reason(pair: tuple[Any, Any]) -> None:
    fire(*pair)
    client = Alertmanagers([server.endpoint for server in pair], seconds=1.0)
    until(client, lambda found: len(found.alerts) == 1)
    pair[0].pause()
    try:
        board = client.board()
        assert [item.known_to for item in board.alerts] == [(pair[1].url,)]
        assert list(board.reasons) == [pair[0].url]
        now = datetime.now(UTC)
        made = client.silence(Silence((PAY,), now, now + timedelta(hours=1), "ann", "work"))
        assert [url for url, _ in made] == [pair[1].url]
    finally:
        pair[0].resume()
    pair[1].stop()
    assert list(client.board().reasons) == [pair[1].url]
    pair[0].stop()
    with pytest.raises(Unavailable):
        client.board()


def test_faults(pair: tuple[Any, Any], faults: Callable[[str], Any]) -> None:
    fire(*pair)
    until(Alertmanagers([server.endpoint for server in pair]), lambda found: len(found.alerts) == 1)
    proxy = faults(pair[0].url)
    client = Alertmanagers([Endpoint(proxy.url), pair[1].endpoint], seconds=1.0)
    assert not client.board().reasons
    for fault in (proxy.delay(30), proxy.cut_after(bytes=100), proxy.refuse(), proxy.answer(500, body=b"oops")):
        with fault:
            board = client.board()
            assert list(board.reasons) == [proxy.url]
            assert len(board.alerts) == 1
    assert not client.board().reasons
