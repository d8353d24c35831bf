"""A platform's Git repository, through the git program.

git runs without a shell, with a clean environment, without hooks and without prompts. What goes
wrong is `Unavailable` (no git, no network, a timeout), `Conflict` (somebody else was faster) or
`Invalid` (no repository, a path outside of it).
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from pilothouse.problems import Conflict, Invalid, Unavailable

_LOCAL_SECONDS = 60
_REMOTE_SECONDS = 300
_LOCK_SECONDS = 15
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./~^-]*\Z")
_KEPT = (
    "PATH",
    "HOME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
)
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.quotePath=false",
    "core.fsmonitor=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "protocol.ext.allow=never",
    "advice.detachedHead=false",
)
_COMMITTER = ("pilothouse", "pilothouse@localhost")


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit; `when` is the author's time, with its offset."""

    sha: str
    author: str
    email: str
    when: datetime
    subject: str
    body: str = ""


def run(
    folder: Path,
    *arguments: str,
    stdin: str = "",
    check: bool = True,
    remote: bool = False,
    env: Mapping[str, str] | None = None,
    seconds: float = 0,
) -> subprocess.CompletedProcess[str]:
    """Run git in that folder. Raises `Unavailable` without git or after a timeout (of `seconds`), `Invalid` when git
    refuses."""
    clean = {name: os.environ[name] for name in _KEPT if name in os.environ}
    clean |= {
        "LC_ALL": "C.UTF-8",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_COMMITTER_NAME": _COMMITTER[0],
        "GIT_COMMITTER_EMAIL": _COMMITTER[1],
    }
    if not remote:  # credentials of the user's own configuration are for the remote alone
        clean["GIT_CONFIG_GLOBAL"] = os.devnull
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    timeout = seconds or (_REMOTE_SECONDS if remote else _LOCAL_SECONDS)
    try:
        done = _run(["git", *settings, *arguments], folder, {**clean, **(env or {})}, stdin, timeout)
    except FileNotFoundError as failure:
        if not folder.is_dir():
            raise Invalid(f"there is no folder {folder}", "give the folder of the repository") from failure
        raise Unavailable("the program git is missing", "install git, which keeps the platform's history") from failure
    except subprocess.TimeoutExpired as failure:
        raise Unavailable(
            f"git {arguments[0]} did not end within {timeout:g} s", "check the network and the repository's address"
        ) from failure
    if check and done.returncode:
        raise _refusal(folder, arguments[0], done.stderr)
    return done


def _run(
    command: list[str], folder: Path, env: Mapping[str, str], stdin: str, timeout: float
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run`, but what git started for the remote (ssh, an https helper) is ended with it, and not left
    behind to wait for the network."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, env=env, stdin=pipe, stdout=pipe, stderr=pipe,
        encoding="utf-8", errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(stdin, timeout)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _refusal(folder: Path, command: str, stderr: str) -> Exception:
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("hint:")]
    last = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "it failed")
    why = re.sub(r"^(fatal|error): ", "", last)[:300]
    why = re.sub(r"(\w+://)[^/@\s]+@", r"\1", why)  # an address may carry credentials
    if "not a git repository" in why:
        return Invalid(f"{folder} is no Git repository", "make one with `git init`, or give another folder")
    if "dubious ownership" in why:
        return Invalid(f"{folder} belongs to another user", "let the user that runs pilothouse own it")
    if any(
        word in stderr for word in ("Could not resolve", "unable to access", "Connection", "Could not read from remote")
    ):
        return Unavailable(f"git {command}: {why}", "check the address, the network and the credentials")
    if any(
        word in stderr for word in ("non-fast-forward", "fast-forward", "fetch first", "index.lock", "cannot lock ref")
    ):
        return Conflict(f"git {command}: {why}", "somebody else changed the repository: read it again and repeat")
    if "No space left" in stderr:
        return Unavailable(f"no space is left for git {command} in {folder}", "free some space")
    return Invalid(f"git {command} in {folder}: {why}", "see `git status` there")


def init(folder: Path, branch: str = "main") -> Repository:
    """Make the folder a repository, if it is none yet."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        run(folder, "init", "--quiet", f"--initial-branch={branch}")
    return Repository(folder)


def clone(url: str, folder: Path, branch: str = "") -> Repository:
    """Copy a repository. `folder` must be missing or empty; it is left so when the copy fails."""
    if url.startswith("-") or "::" in url:
        raise Invalid(f"{url!r} is no address of a repository", "give an https, ssh or file address")
    if folder.exists() and any(folder.iterdir()):
        raise Invalid(f"{folder} is not empty", "give a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    options = [f"--branch={branch}"] if branch else []
    run(folder.parent, "clone", "--quiet", *options, "--", url, str(folder.absolute()), remote=True)
    return Repository(folder)


_held: ContextVar[frozenset[str]] = ContextVar("held", default=frozenset())
"""The repositories that this thread writes to at the moment."""


@dataclass(frozen=True)
class Repository:
    """A working tree, or a folder inside of one; all paths are relative to `path`."""

    path: Path

    def is_repository(self) -> bool:
        return self.path.is_dir() and run(self.path, "rev-parse", "--git-dir", check=False).returncode == 0

    def head(self) -> str:
        """The commit that is checked out, "" before the first."""
        done = run(self.path, "rev-parse", "--verify", "--quiet", "HEAD", check=False)
        if done.returncode and not self.is_repository():
            raise Invalid(f"{self.path} is no Git repository", "make one with `git init`, or give another folder")
        return done.stdout.strip()

    def is_clean(self, *paths: str) -> bool:
        """Whether nothing below the folder (or at those paths) differs from the head."""
        names = [self._inside(path) for path in paths] or ["."]
        return not run(self.path, "status", "--porcelain", "--", *names).stdout.strip()

    def blob(self, path: str, rev: str = "HEAD") -> str:
        """The identity of a file's content at a revision, "" where it has no such file."""
        done = run(
            self.path, "rev-parse", "--verify", "--quiet", f"{_revision(rev)}:./{self._inside(path)}", check=False
        )
        return done.stdout.strip()

    def show(self, rev: str, path: str) -> str | None:
        """A file's text at a revision, None where it has no such file."""
        if not self.blob(path, rev):
            return None
        return run(self.path, "show", f"{_revision(rev)}:./{self._inside(path)}").stdout

    def at(self, moment: datetime) -> str:
        """The commit that was the head's newest at that moment, by the committers' clocks; "" where there was none."""
        when = moment.astimezone(UTC).isoformat(timespec="seconds")
        return run(self.path, "rev-list", "--max-count=1", f"--before={when}", "HEAD", "--").stdout.strip()

    def export(self, rev: str, folder: Path) -> None:
        """Write the folder as it was at a revision to another one, which is there and empty."""
        packed = folder / "export.tar"
        run(self.path, "archive", "--format=tar", f"--output={packed}", _revision(rev))
        try:
            with tarfile.open(packed) as archive:
                archive.extractall(folder, filter="data")
        except (OSError, tarfile.TarError) as failure:
            raise Unavailable(f"the platform as of {rev[:12]} cannot be unpacked: {failure}") from failure
        finally:
            packed.unlink(missing_ok=True)

    def patch(self, rev: str) -> str:
        """What a commit changed, as a unified diff."""
        return run(self.path, "show", "--format=", "--patch", "--no-color", "--no-ext-diff", _revision(rev)).stdout

    def log(self, path: str = "", limit: int = 50) -> tuple[Commit, ...]:
        """The newest commits first, of one file or folder where a path is given."""
        if not self.head():
            return ()
        name = self._inside(path) if path else "."
        form = "%H%x00%an%x00%ae%x00%aI%x00%s%x00%b%x01"
        text = run(self.path, "log", f"--max-count={int(limit)}", f"--format={form}", "--", name).stdout
        found = []
        for record in text.split("\x01"):
            if record.strip():
                sha, author, email, when, subject, body = record.lstrip("\n").split("\0")
                found.append(Commit(sha, author, email, datetime.fromisoformat(when), subject, body.strip()))
        return tuple(found)

    def commit(
        self,
        files: Mapping[str, str | None],
        message: str,
        author: str,
        email: str,
        *,
        expected_head: str | None = None,
        expected_blobs: Mapping[str, str] | None = None,
    ) -> str:
        """Commit exactly these files (None removes one) and return the new commit.

        `Conflict` when the head is no longer `expected_head`, when a file is no longer the blob that the
        caller saw ("" for a file that was not there), when a file was changed by hand, or when nothing
        would change. The working tree is as before then.
        """
        names = {self._inside(path): text for path, text in files.items()}
        if not names:
            raise Invalid("there is nothing to commit", "give at least one file")
        with self._locked():
            self._require_as_seen(expected_head, expected_blobs or {})
            if not self.is_clean(*names):
                raise Conflict(
                    "there are changes in the working tree that nobody committed: " + ", ".join(sorted(names)),
                    f"commit or undo them in {self.path}, and repeat",
                )
            before = {name: self._read(name) for name in names}
            if before == names:
                raise Conflict("the repository already holds this", "read it again: somebody else made the same change")
            try:
                for name, text in names.items():
                    self._put(name, text)
                self._record(sorted(names), message, author, email)
            except BaseException:
                self._restore(before)
                raise
            return self.head()

    def commit_all(self, message: str, author: str, email: str) -> str:
        """Commit everything that differs below the folder; returns the head, new or not."""
        with self._locked():
            run(self.path, "add", "--all", "--", ".")
            if run(self.path, "diff", "--cached", "--quiet", "--", ".", check=False).returncode:
                self._commit(message, author, email, ["."])
            return self.head()

    def has_remote(self) -> bool:
        return bool(run(self.path, "remote").stdout.strip())

    def pull(self) -> str:
        """Fast-forward to the remote's head and return it. `Conflict` when both sides have new commits."""
        run(self.path, "fetch", "--quiet", remote=True)  # nobody waits for the network: this changes no file
        with self._locked():
            run(self.path, "merge", "--quiet", "--ff-only", "@{upstream}")
            return self.head()

    def ahead(self) -> int:
        """How many commits the branch has that its upstream did not have at the last pull; 0 without an upstream."""
        done = run(self.path, "rev-list", "--count", "@{upstream}..HEAD", check=False)
        return int(done.stdout) if done.returncode == 0 else 0

    def push(self, seconds: float = 0) -> None:
        """Send the commits to the remote. `Conflict` when it has newer ones, `Unavailable` where it takes longer."""
        try:
            run(self.path, "push", "--quiet", remote=True, seconds=seconds)
        except Conflict:
            if self.ahead():
                raise  # else another push of this working copy, begun later, has sent them as well

    # ------------------------------------------------------------ within

    def _inside(self, path: str) -> str:
        parts = PurePosixPath(path).parts
        bad = not parts or path.startswith("/") or ".." in parts or "\0" in path
        if bad or any(part.lower() == ".git" for part in parts) or path.startswith(":"):
            raise Invalid(
                f"{path!r} is no path inside of the repository", "give a path relative to the platform's folder"
            )
        if not (self.path / path).resolve().is_relative_to(self.path.resolve()):
            raise Invalid(f"{path!r} leads out of the repository", "replace the link by a plain file")
        return str(PurePosixPath(path))

    def _require_as_seen(self, head: str | None, blobs: Mapping[str, str]) -> None:
        hint = "read it again: somebody else changed it in the meantime"
        if head is not None and self.head() != head:
            raise Conflict("the repository has newer commits than the ones that were read", hint)
        for path, blob in blobs.items():
            if self.blob(path) != blob:
                raise Conflict(f"{path} has changed since it was read", hint)

    def _read(self, name: str) -> str | None:
        path = self.path / name
        return path.read_bytes().decode("utf-8", errors="surrogateescape") if path.is_file() else None

    def _put(self, name: str, text: str | None) -> None:
        path = self.path / name
        if text is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=".pilothouse-", delete=False) as stream:
            stream.write(text.encode("utf-8", errors="surrogateescape"))
        aside = Path(stream.name)
        aside.chmod(path.stat().st_mode & 0o7777 if path.exists() else 0o644)
        aside.replace(path)

    def _record(self, names: list[str], message: str, author: str, email: str) -> None:
        run(self.path, "add", "--all", "--", *names)
        self._commit(message, author, email, names)

    def _commit(self, message: str, author: str, email: str, names: list[str]) -> None:
        who = {"GIT_AUTHOR_NAME": _line(author), "GIT_AUTHOR_EMAIL": _line(email)}
        run(
            self.path, "commit", "--quiet", "--cleanup=whitespace", "--file=-", "--only", "--", *names,
            stdin=message, env=who,
        )  # fmt: skip

    def _restore(self, before: Mapping[str, str | None]) -> None:
        """As it was, in the working tree and in the index."""
        for name, text in before.items():
            self._put(name, text)
        run(self.path, "add", "--all", "--ignore-errors", "--", *before, check=False)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nothing of ours writes to the repository meanwhile: what is read of it stays true until the commit."""
        with self._locked():
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One thread of one process of ours at a time; git's own locks guard against the others."""
        folder = run(self.path, "rev-parse", "--absolute-git-dir").stdout.strip()
        held = _held.get()
        if folder in held:
            yield
            return
        token = _held.set(held | {folder})
        try:
            with self._file_lock(folder):
                yield
        finally:
            _held.reset(token)

    @contextmanager
    def _file_lock(self, folder: str) -> Iterator[None]:
        try:
            lock = os.open(Path(folder, "pilothouse.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as failure:
            raise Unavailable(
                f"{self.path} cannot be written: {failure.strerror}",
                "let the user that runs pilothouse write to its Git folder",
            ) from failure
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Conflict(
                            f"another process is writing to {self.path}", "wait until it has ended, and repeat"
                        ) from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(lock)  # which releases it


def _revision(rev: str) -> str:
    if not _REVISION.match(rev):
        raise Invalid(f"{rev!r} is no revision", "give a commit, a branch or a tag")
    return rev


def _line(text: str) -> str:
    """git's identities are one line without angle brackets."""
    return re.sub(r"[<>\s\0]+", " ", text).strip() or "unknown"
