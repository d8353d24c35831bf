"""An engineer's own logins at the Vaults that sign: made with the password of the day's login, kept in the wallet,
renewed there.

The password goes from the engineer's machine to each Vault itself. The token is sent to the portal only within a
request for a certificate, which uses it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from pilothouse.files.wallet import VaultLogin, Wallet
from pilothouse.problems import Denied, PilothouseError, Unavailable

if TYPE_CHECKING:
    from pilothouse.clients.vault import VaultToken  # loads what a credential from the disk does not need

ENDLESS = timedelta(days=1)
"""How long a token without an end is kept: that of a misconfigured mount, which the day should not outlive."""


class Vault(Protocol):
    """`clients.vault.VaultClient`, without a token of its own."""

    def login_ldap(self, mount: str, user: str, password: str) -> VaultToken: ...
    def renew(self, token: str) -> VaultToken: ...
    def revoke(self, token: str) -> None: ...


Reach = Callable[[str, str], Vault]
"""The client of a Vault by address and CA file."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`reason` says why the login at that Vault did not work, "" where it did."""

    cluster: str
    url: str
    expires_at: datetime | None = None
    reason: str = ""


def log_in(
    wallet: Wallet,
    reach: Reach,
    places: Iterable[Mapping[str, Any]],
    user: str,
    password: str,
    now: datetime,
    ca_file: str = "",
) -> tuple[Outcome, ...]:
    """Log in at each Vault once, for all clusters that it signs for. One that fails keeps no other from it.

    `places` are the portal's: `cluster`, `url`, `mount`, `ca_file`; `ca_file` given here stands before theirs.
    """
    done: dict[tuple[str, str], VaultToken | PilothouseError] = {}
    outcomes = []
    for place in places:
        url, mount = str(place["url"]), str(place["mount"])
        ca = ca_file or str(place.get("ca_file", ""))
        if (url, mount) not in done:
            try:
                done[url, mount] = reach(url, ca).login_ldap(mount, user, password)
            except PilothouseError as failure:
                done[url, mount] = failure
        found = done[url, mount]
        cluster = str(place["cluster"])
        if isinstance(found, PilothouseError):
            wallet.forget_vault(cluster)  # whoever logged in before is not who logs in now
            outcomes.append(Outcome(cluster, url, reason=found.message))
            continue
        end = now + (timedelta(seconds=found.seconds) if found.seconds else ENDLESS)
        wallet.keep_vault(VaultLogin(cluster, url, mount, found.token, user, found.seconds, end, found.renewable, ca))
        outcomes.append(Outcome(cluster, url, end))
    return tuple(outcomes)


def token_for(wallet: Wallet, reach: Reach, cluster: str, now: datetime, fresh: bool = False) -> str:
    """The token at the Vault of a cluster, renewed when less than half of its life is left; "" where there is none.
    With `fresh` it is renewed in any case.

    To renew asks the directory again: one who has lost a right there is refused by Vault and the login is forgotten.
    """
    found = wallet.vault(cluster)
    if found is None or not found.is_alive(now):
        return ""
    if not found.renewable or not found.seconds:
        return found.token
    if not fresh and found.expires_at - now > timedelta(seconds=found.seconds / 2):
        return found.token
    try:
        renewed = reach(found.url, found.ca_file).renew(found.token)
    except Denied:
        wallet.forget_vault(cluster)
        return ""
    except Unavailable:
        return found.token  # it still lives; Vault itself says so when it is used
    end = now + timedelta(seconds=renewed.seconds)
    wallet.keep_vault(replace(found, seconds=max(renewed.seconds, found.seconds), expires_at=end))
    return found.token


def log_out(wallet: Wallet, reach: Reach) -> tuple[Outcome, ...]:
    """End every token and forget it, whatever Vault says; those that could not be ended."""
    failed = []
    ended: set[str] = set()
    for login in wallet.vaults():
        wallet.forget_vault(login.cluster)
        if login.token in ended:
            continue
        ended.add(login.token)
        try:
            reach(login.url, login.ca_file).revoke(login.token)
        except Denied:
            continue  # it had ended by itself
        except PilothouseError as failure:
            failed.append(Outcome(login.cluster, login.url, login.expires_at, failure.message))
    return tuple(failed)
