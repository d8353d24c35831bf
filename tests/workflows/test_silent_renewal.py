"""The exec plugin with a profile that is renewed: early enough, silently, and not past a refusal."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.access_values import NOW, authority, template

from pilothouse.access import certificates
from pilothouse.access.certificates import Issued
from pilothouse.access.csr import parse
from pilothouse.clients.portal import Signed
from pilothouse.files.wallet import Credential, Wallet
from pilothouse.problems import Denied, Unavailable
from pilothouse.workflows import credential as work

HOUR = timedelta(hours=1)
END = NOW + 16 * HOUR


class Portal:
    """Signs for an hour within a login until `END`, as of `now`; or fails as it is told to."""

    def __init__(self) -> None:
        self.now, self.signed = NOW, 0
        self.failure: Exception | None = None

    def certificate(self, profile: str, cluster: str, csr: str, *_: Any, **__: Any) -> Signed:
        if self.failure:
            raise self.failure
        self.signed += 1
        values = template(
            public_key=parse(csr).public_key, serial=self.signed, now=self.now, not_after=min(self.now + HOUR, END)
        )
        leaf = certificates.sign(values, *authority())
        text = certificates.pem(leaf)
        issued = Issued(
            cluster, "alice", profile, ("g",), str(self.signed), "f", leaf.not_valid_after_utc, text, "CA", "", END
        )
        return Signed(issued, "https://api.example")

    def claim(self, id: str, csr: str) -> Signed:
        raise NotImplementedError


@pytest.fixture
def wallet(tmp_path: Path) -> Wallet:
    return Wallet(tmp_path / "pilothouse")


@pytest.fixture
def portal() -> Portal:
    return Portal()


def current(wallet: Wallet, portal: Portal | None, now: datetime) -> Credential:
    if portal:
        portal.now = now
    return work.current(wallet, "dev", "viewer", now, lambda: portal)


def test_the_next_one_is_got_in_the_last_quarter(wallet: Wallet, portal: Portal) -> None:
    assert current(wallet, portal, NOW).renew_at == NOW + timedelta(minutes=45)
    assert current(wallet, portal, NOW + timedelta(minutes=44)).serial == "1"
    assert current(wallet, portal, NOW + timedelta(minutes=46)).serial == "2"
    kept = wallet.credential("dev", "viewer")
    assert kept is not None
    assert (kept.serial, kept.not_after) == ("2", NOW + timedelta(minutes=106))


def test_the_last_one_of_a_login_is_not_got_again_and_again(wallet: Wallet, portal: Portal) -> None:
    last = current(wallet, portal, END - timedelta(minutes=30))
    assert (last.not_after, last.renew_at) == (END, None)
    assert current(wallet, portal, END - timedelta(minutes=5)).serial == "1"


def test_a_portal_that_is_away_cuts_nobody_off_before_the_end(wallet: Wallet, portal: Portal) -> None:
    current(wallet, portal, NOW)
    portal.failure = Unavailable("no answer")
    late = NOW + timedelta(minutes=50)
    assert current(wallet, portal, late).serial == "1"
    portal.failure = None
    assert current(wallet, portal, late + timedelta(seconds=30)).serial == "1"  # left alone for a minute
    assert current(wallet, portal, late + timedelta(seconds=61)).serial == "2"
    portal.failure = Unavailable("no answer")
    with pytest.raises(Unavailable):
        current(wallet, portal, late + 2 * HOUR)


def test_a_refusal_is_believed_at_once(wallet: Wallet, portal: Portal) -> None:
    current(wallet, portal, NOW)
    portal.failure = Denied("it is for members of engineers", "ask engineers")
    with pytest.raises(Denied, match="members of engineers"):
        current(wallet, portal, NOW + timedelta(minutes=46))


def test_without_a_login_the_kept_one_is_good_to_its_end(wallet: Wallet, portal: Portal) -> None:
    current(wallet, portal, NOW)
    assert current(wallet, None, NOW + timedelta(minutes=50)).serial == "1"
    with pytest.raises(Denied, match="no living certificate"):
        current(wallet, None, NOW + HOUR)


def test_two_kubectl_at_once_renew_once(wallet: Wallet, portal: Portal) -> None:
    current(wallet, portal, NOW)
    portal.now = late = NOW + timedelta(minutes=50)
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(work.current(wallet, "dev", "viewer", late, lambda: portal).serial)
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (portal.signed, found) == (2, ["2"] * 4)


def test_files_of_before_are_read(wallet: Wallet, portal: Portal) -> None:
    import json

    path = wallet.keep(current(wallet, portal, NOW))
    data = json.loads(path.read_text())
    del data["renew_at"]
    path.write_text(json.dumps(data))
    assert current(wallet, portal, NOW + timedelta(minutes=50)).serial == "1"
