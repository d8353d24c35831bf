"""The agent in a pod: fetches the secrets of a service before it starts, and keeps its files fresh afterwards.

`once` is for an init container: everything is there when it returns, or it raises within its budget. `watch` is for a
sidecar: it never gives up what it holds. Where Vault is away or a secret is gone, the files stay as they are, the
failure is said, and it is tried again.

Nothing here sees the clock, waits or logs by itself; all of that is handed in. A value is never logged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pilothouse.clients.vault_workload import Session, Version
from pilothouse.files import swap
from pilothouse.mounted.config import AgentConfig, Mounted
from pilothouse.mounted.layout import files_of
from pilothouse.problems import Denied, Invalid, PilothouseError, Unavailable

Value = TypeVar("Value")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
LONGEST_DELAY = 120.0
"""Seconds between two looks of a sidecar at a Vault that keeps failing."""
CODES: tuple[tuple[type[Exception], int], ...] = ((Unavailable, 3), (Denied, 4), (Invalid, 5))
"""Exit codes of the agent: Vault does not answer, it refuses, a secret is missing or cannot be files. 2: it could not
begin."""


class Vault(Protocol):
    """`clients.vault_workload.WorkloadVault`."""

    def login(self, mount: str, role: str, jwt: str) -> Session: ...
    def version(self, session: Session, mount: str, path: str) -> Version | None: ...
    def secret(self, session: Session, mount: str, path: str) -> tuple[Mapping[str, Any], Version] | None: ...
    def revoke(self, session: Session) -> None: ...


class Stopped(Exception):
    """Somebody asked the agent to end."""


@dataclass(frozen=True)
class Surroundings:
    """What the agent gets from outside.

    `wait(seconds)` returns True where it was told to end; `chance()` is 0 to 1; `seconds()` never runs backwards;
    `log(level, event, fields)` writes one line.
    """

    now: Callable[[], datetime]
    seconds: Callable[[], float]
    wait: Callable[[float], bool]
    chance: Callable[[], float]
    log: Callable[[str, str, Mapping[str, Any]], None]


def exit_code(failure: Exception) -> int:
    return next((code for kind, code in CODES if isinstance(failure, kind)), 2)


@dataclass
class Agent:
    config: AgentConfig
    vault: Vault
    around: Surroundings
    _session: Session | None = field(default=None, repr=False)
    _ends: float = 0.0
    _held: dict[str, Version] = field(default_factory=dict)

    # ------------------------------------------------------------ the init container

    def once(self) -> None:
        """Write every secret. `Unavailable` when the budget is spent, `Denied` and `Invalid` at once: to try again
        would not help, and the kubelet starts a failed init container anew anyway. All secrets that failed are named.
        """
        started = self.around.seconds()
        try:
            self._tried(self._log_in, started)
            failures: list[PilothouseError] = []
            for item in self.config.secrets:
                try:
                    files, version = self._tried(lambda item=item: self._fetch(item), started)  # type: ignore[misc]
                    self._write(item, files, version)
                except (Denied, Invalid) as failure:
                    failures.append(failure)
            if failures:
                raise _together(failures)
        finally:
            self._log_out()

    def _tried(self, call: Callable[[], Value], started: float) -> Value:
        """What the call returns, tried again while Vault does not answer and the budget lasts."""
        pause, tries = FIRST_PAUSE, 0
        while True:
            tries += 1
            try:
                return call()
            except Unavailable as failure:
                rest = self._jittered(pause)
                spent = self.around.seconds() - started
                if spent + rest > self.config.budget:
                    raise Unavailable(
                        f"{failure.message} (given up after {tries} {'try' if tries == 1 else 'tries'}"
                        f" in {spent:.0f} s)",
                        f"{failure.hint + ' ' if failure.hint else ''}The pod tries again by itself.",
                    ) from failure
                self.around.log("warning", "waiting for Vault", {"reason": failure.message, "again_in": round(rest, 1)})
                if self.around.wait(rest):
                    raise Stopped from failure
                pause = min(pause * 2, LONGEST_PAUSE)

    # ------------------------------------------------------------ the sidecar

    def watch(self) -> None:
        """Look at every secret each interval until told to end."""
        failed = 0
        try:
            while True:
                failed = 0 if self.look() else failed + 1
                rest = min(self.config.interval * 2**failed, max(LONGEST_DELAY, self.config.interval))
                # Pods that started together drift apart; without a failure never later than the interval.
                if self.around.wait(self._jittered(rest) if failed else rest * (1 - self.around.chance() / 5)):
                    return
        finally:
            self._log_out()

    def look(self) -> bool:
        """One look at every secret; what changed is written. False where something failed, which is logged."""
        whole = True
        try:
            if self._session is None or self.around.seconds() >= self._ends:
                self._log_out()
                self._log_in()
            for item in self.config.secrets:
                try:
                    self._refresh(item)
                except (Denied, Invalid) as failure:
                    self._failed(failure, item)
                    whole = False
        except PilothouseError as failure:
            self._failed(failure)  # no login, or Vault is away: that holds for every secret
            whole = False
        if not whole:
            self._log_out()  # the token may be what is wrong; the next look begins with a new one
        return whole

    def _refresh(self, item: Mounted) -> None:
        swap.sweep(Path(item.folder))
        held = self._held.get(item.path)
        seen = self.vault.version(self._token(), self.config.key_value_mount, item.path)
        if seen is None:
            raise self._missing(item)
        if seen != held:
            files, version = self._fetch(item)
            asked = held is not None and held.rotated != version.rotated
            self._write(item, files, version, asked)

    def _failed(self, failure: PilothouseError, item: Mounted | None = None) -> None:
        told = {"reason": failure.message, "hint": failure.hint, "kept": "the files stay as they are"}
        self.around.log("error", "cannot look", told | ({"path": item.path} if item else {}))

    # ------------------------------------------------------------ both

    def _token(self) -> Session:
        if self._session is None:
            raise AssertionError("a login comes first")
        return self._session

    def _log_in(self) -> None:
        """With the account's token as it is now: the kubelet replaces it long before its end."""
        path = self.config.token_file
        try:
            jwt = Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as failure:
            raise Invalid(
                f"the token of the ServiceAccount cannot be read at {path}", "is the projected volume mounted there?"
            ) from failure
        try:
            session = self.vault.login(self.config.auth_mount, self.config.role, jwt)
        except Denied as failure:
            raise Denied(
                failure.message,
                f"the role {self.config.role} of auth/{self.config.auth_mount} wants its own ServiceAccount, namespace"
                " and audience: hold the pod against `pilothouse access secrets explain`, and see whether Vault is set"
                " up as declared (`pilothouse access vault plan`)",
            ) from failure
        self._session = session
        self._ends = self.around.seconds() + session.seconds * 2 / 3

    def _log_out(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            self.vault.revoke(session)
        except PilothouseError as failure:
            # It ends by itself soon; what was fetched is none the worse for it.
            self.around.log("info", "the token was not ended", {"reason": failure.message})

    def _fetch(self, item: Mounted) -> tuple[dict[str, bytes], Version]:
        where = f"{item.path} for {item.mount_path}"
        try:
            found = self.vault.secret(self._token(), self.config.key_value_mount, item.path)
        except Denied as failure:
            raise Denied(
                f"cannot get {where}: {failure.message}",
                f"the policy of role {self.config.role} does not reach it: is the secret declared for this cluster, and"
                " Vault set up as declared (`pilothouse access vault plan`)?",
            ) from failure
        if found is None:
            raise self._missing(item)
        try:
            return files_of(found[0], item.keys), found[1]
        except Invalid as failure:
            raise Invalid(f"cannot use {where}: {failure.message}", failure.hint) from failure

    def _missing(self, item: Mounted) -> Invalid:
        return Invalid(
            f"cannot get {item.path} for {item.mount_path}: nothing is there in Vault, or it was deleted",
            f"write it: vault kv put -mount={self.config.key_value_mount} {item.path} @FILE",
        )

    def _write(self, item: Mounted, files: Mapping[str, bytes], version: Version, asked: bool = False) -> None:
        mark = self.around.now().strftime("%Y_%m_%d_%H_%M_%S.%f")
        changed = swap.write(Path(item.folder), files, mark, self.config.file_mode, asked)
        self._held[item.path] = version
        if changed:
            told = {"path": item.path, "mount_path": item.mount_path, "version": version.number, "files": sorted(files)}
            self.around.log("info", "written", told)

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 - self.around.chance() / 2)


def _together(failures: list[PilothouseError]) -> PilothouseError:
    if len(failures) == 1:
        return failures[0]
    first = failures[0]
    return type(first)("; ".join(failure.message for failure in failures), first.hint)
