"""A platform's repository: commits with an author, conflicts found, nothing half done."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pilothouse.files import git
from pilothouse.files.git import Repository
from pilothouse.problems import Conflict, Invalid, Unavailable

ALICE = ("Alice Adler", "alice@bank.example")


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "a.yaml").write_text("one\n")
    found = git.init(tmp_path / "r")
    found.commit_all("Begin", *ALICE)
    return found


def status(repository: Repository) -> str:
    return git.run(repository.path, "status", "--porcelain").stdout


def test_a_new_repository(tmp_path: Path) -> None:
    found = git.init(tmp_path / "new" / "r")
    assert found.is_repository()
    assert found.head() == ""
    assert found.log() == ()
    assert found.is_clean()
    head = found.commit({"x/a.yaml": "a: 1\n"}, "First", *ALICE)
    assert found.head() == head
    assert git.init(tmp_path / "new" / "r").head() == head, "a second time changes nothing"
    assert git.run(found.path, "branch", "--show-current").stdout == "main\n"


def test_a_commit_has_its_author_and_message(repository: Repository) -> None:
    before = repository.head()
    sha = repository.commit(
        {"a.yaml": "two\n", "new/b.yaml": "b\n"}, "Open a port\n\nApproved-by: bob", *ALICE, expected_head=before
    )
    commit, first = repository.log()
    assert (commit.sha, commit.author, commit.email) == (sha, *ALICE)
    assert (commit.subject, commit.body) == ("Open a port", "Approved-by: bob")
    assert commit.when.tzinfo is not None
    assert first.sha == before
    assert repository.show("HEAD", "a.yaml") == "two\n"
    assert repository.show(before, "a.yaml") == "one\n"
    assert repository.show(before, "new/b.yaml") is None
    assert "+two" in repository.patch(sha)
    assert status(repository) == ""
    assert [c.subject for c in repository.log("new")] == ["Open a port"]
    assert len(repository.log(limit=1)) == 1
    committer = git.run(repository.path, "log", "-1", "--format=%cn").stdout.strip()
    assert committer == "pilothouse"


def test_a_file_is_removed(repository: Repository) -> None:
    repository.commit({"a.yaml": None}, "Remove", *ALICE)
    assert not (repository.path / "a.yaml").exists()
    assert repository.show("HEAD", "a.yaml") is None


def test_other_changes_in_the_working_tree_stay_out(repository: Repository) -> None:
    (repository.path / "draft.yaml").write_text("draft\n")
    repository.commit({"a.yaml": "two\n"}, "Change", *ALICE)
    assert status(repository) == "?? draft.yaml\n"
    assert repository.is_clean("a.yaml")
    assert not repository.is_clean()


def test_a_folder_inside_of_a_repository(repository: Repository) -> None:
    (repository.path / "bank").mkdir()
    inner = Repository(repository.path / "bank")
    inner.commit({"t.yaml": "t\n"}, "Inner", *ALICE)
    assert repository.show("HEAD", "bank/t.yaml") == "t\n"
    assert inner.show("HEAD", "t.yaml") == "t\n"
    assert [commit.subject for commit in inner.log()] == ["Inner"]


def test_odd_names_and_text_survive(repository: Repository) -> None:
    text = "name: Zoë\nnote: '名前'\n"
    repository.commit({"ä ö.yaml": text}, "Ünïcode ✓", "Zoë <z>\nx", "z@bank.example")
    assert repository.show("HEAD", "ä ö.yaml") == text
    assert repository.log()[0].author == "Zoë z x"
    assert repository.log()[0].subject == "Ünïcode ✓"


def test_committing_everything_again_changes_nothing(repository: Repository) -> None:
    assert repository.commit_all("Again", *ALICE) == repository.head()
    assert len(repository.log()) == 1


# ---------------------------------------------------------------- conflicts


def test_a_head_that_moved(repository: Repository) -> None:
    seen = repository.head()
    repository.commit({"b.yaml": "b\n"}, "Somebody", *ALICE)
    with pytest.raises(Conflict, match="newer commits"):
        repository.commit({"a.yaml": "two\n"}, "Mine", *ALICE, expected_head=seen)
    assert (repository.path / "a.yaml").read_text() == "one\n"


def test_a_file_that_changed(repository: Repository) -> None:
    seen = {"a.yaml": repository.blob("a.yaml"), "new.yaml": ""}
    assert seen["a.yaml"]
    repository.commit({"b.yaml": "b\n"}, "Somebody", *ALICE)
    repository.commit(
        {"new.yaml": "n\n"}, "Another file does not matter", *ALICE, expected_blobs={"a.yaml": seen["a.yaml"]}
    )
    with pytest.raises(Conflict, match=r"new\.yaml has changed"):
        repository.commit({"a.yaml": "two\n"}, "Mine", *ALICE, expected_blobs=seen)


def test_a_file_that_was_edited_by_hand(repository: Repository) -> None:
    (repository.path / "a.yaml").write_text("by hand\n")
    with pytest.raises(Conflict, match=r"nobody committed: a\.yaml"):
        repository.commit({"a.yaml": "two\n"}, "Mine", *ALICE)
    assert (repository.path / "a.yaml").read_text() == "by hand\n"


def test_nothing_to_change(repository: Repository) -> None:
    with pytest.raises(Conflict, match="already holds this"):
        repository.commit({"a.yaml": "one\n"}, "Mine", *ALICE)
    with pytest.raises(Invalid, match="nothing to commit"):
        repository.commit({}, "Mine", *ALICE)


def test_another_process_holds_the_lock(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "_LOCK_SECONDS", 0.1)
    with (repository.path / ".git" / "pilothouse.lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="another process"):
            repository.commit({"a.yaml": "two\n"}, "Mine", *ALICE)
    repository.commit({"a.yaml": "two\n"}, "Mine", *ALICE)


def test_gits_own_lock_is_a_conflict_and_nothing_is_half_done(repository: Repository) -> None:
    (repository.path / ".git" / "index.lock").touch()
    with pytest.raises(Conflict):
        repository.commit({"a.yaml": "two\n", "new.yaml": "n\n"}, "Mine", *ALICE)
    (repository.path / ".git" / "index.lock").unlink()
    assert status(repository) == ""
    assert (repository.path / "a.yaml").read_text() == "one\n"


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_commit_that_is_cancelled_leaves_no_trace(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(Repository, "_commit", fail)
    with pytest.raises(type(failure)):
        repository.commit({"a.yaml": None, "new.yaml": "n\n"}, "Mine", *ALICE)
    assert status(repository) == ""
    assert (repository.path / "a.yaml").read_text() == "one\n"


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "", ".git/config", "a/.GIT/hooks/x", ":(top)a", "a\0b"])
def test_paths_stay_inside(repository: Repository, path: str) -> None:
    with pytest.raises(Invalid, match="no path inside"):
        repository.commit({path: "x"}, "Mine", *ALICE)


def test_a_link_does_not_lead_out(repository: Repository, tmp_path: Path) -> None:
    (repository.path / "out").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(Invalid, match="leads out"):
        repository.commit({"out/x.yaml": "x"}, "Mine", *ALICE)
    assert not (tmp_path / "x.yaml").exists()


@pytest.mark.parametrize("rev", ["--output=/tmp/x", "", "HEAD:a", "a b"])
def test_a_revision_is_a_name(repository: Repository, rev: str) -> None:
    with pytest.raises(Invalid, match="no revision"):
        repository.show(rev, "a.yaml")


def test_a_folder_that_is_no_repository(tmp_path: Path) -> None:
    found = Repository(tmp_path)
    assert not found.is_repository()
    assert not Repository(tmp_path / "nowhere").is_repository()
    for ask in (found.head, found.pull, lambda: found.commit({"a": "b"}, "m", *ALICE)):
        with pytest.raises(Invalid, match="no Git repository"):
            ask()
    with pytest.raises(Invalid, match="no folder"):
        git.run(tmp_path / "nowhere", "status")


def test_hooks_of_a_repository_never_run(repository: Repository, tmp_path: Path) -> None:
    hook = repository.path / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    hook.chmod(0o755)
    repository.commit({"a.yaml": "two\n"}, "Mine", *ALICE)
    assert not (tmp_path / "ran").exists()


def test_the_environment_does_not_reach_git(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Mallory")
    repository.commit({"a.yaml": "two\n"}, "Mine", *ALICE)
    assert repository.log()[0].author == "Alice Adler"


def test_without_git_the_way_out_is_said(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unavailable, match="git is missing"):
        repository.head()


def test_a_git_that_hangs(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, with the helper that it started for the network."""
    program, number = repository.path.parent / "bin" / "git", repository.path.parent / "helper"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nsleep 600 &\necho $! >{number}.new\nmv {number}.new {number}\nwait\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(Unavailable, match="did not end within 3 s"):
        git.run(repository.path, "push", remote=True, seconds=3)
    helper = Path("/proc", number.read_text().strip(), "cmdline")
    deadline = time.monotonic() + 10
    while helper.exists() and helper.read_bytes():  # one that has ended, and is not yet collected, has no command line
        assert time.monotonic() < deadline, "the helper was left behind"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("stderr", "raised", "says"),
    [
        ("fatal: detected dubious ownership in repository at '/x'", Invalid, "another user"),
        ("fatal: unable to access 'https://me:secret@git.example/x': no", Unavailable, "https://git.example"),
        ("error: failed to push some refs\nhint: fetch first", Conflict, "failed to push"),
        ("fatal: write error: No space left on device", Unavailable, "no space"),
        ("fatal: something else", Invalid, "something else"),
        ("", Invalid, "it failed"),
    ],
)
def test_what_git_says_becomes_one_line(tmp_path: Path, stderr: str, raised: type[Exception], says: str) -> None:
    failure = git._refusal(tmp_path, "push", stderr)
    assert type(failure) is raised
    assert says in str(failure)
    assert "secret" not in str(failure)


# ---------------------------------------------------------------- remotes


def test_clone_pull_and_push(repository: Repository, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    git.run(tmp_path, "clone", "--quiet", "--bare", str(repository.path), str(bare))
    one, other = git.clone(str(bare), tmp_path / "one"), git.clone(f"file://{bare}", tmp_path / "other", "main")
    assert one.has_remote()
    assert not repository.has_remote()
    one.commit({"a.yaml": "two\n"}, "From one", *ALICE)
    one.push()
    assert other.pull() == one.head()
    assert (other.path / "a.yaml").read_text() == "two\n"
    other.commit({"a.yaml": "three\n"}, "From other", *ALICE)
    one.commit({"a.yaml": "four\n"}, "From one again", *ALICE)
    one.push()
    with pytest.raises(Conflict):
        other.push()
    with pytest.raises(Conflict):
        other.pull()
    assert (other.path / "a.yaml").read_text() == "three\n"


def test_who_waits_for_the_remote_holds_up_no_commit(repository: Repository, tmp_path: Path) -> None:
    """A fetch and a push run beside a commit; only what changes files is alone."""
    bare = tmp_path / "bare.git"
    git.run(tmp_path, "clone", "--quiet", "--bare", str(repository.path), str(bare))
    here, other = git.clone(str(bare), tmp_path / "here"), git.clone(str(bare), tmp_path / "other")
    here.commit({"a.yaml": "two\n"}, "Here", *ALICE)
    with ThreadPoolExecutor(1) as pool, here.alone():
        pool.submit(here.push).result(30)
    assert here.ahead() == 0
    other.push()  # nothing to send is no mistake
    assert other.pull() == here.head()


def test_a_push_that_another_one_overtook_is_none_that_failed(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare.git"
    git.run(tmp_path, "clone", "--quiet", "--bare", str(repository.path), str(bare))
    here = git.clone(str(bare), tmp_path / "here")
    here.commit({"a.yaml": "two\n"}, "Here", *ALICE)
    here.push()
    plain = git.run

    def refused(folder: Path, *arguments: str, **more: Any) -> Any:
        if arguments[0] == "push":
            raise Conflict("git push: fetch first", "")
        return plain(folder, *arguments, **more)

    monkeypatch.setattr(git, "run", refused)
    here.push()
    here.commit({"a.yaml": "three\n"}, "Here", *ALICE)
    with pytest.raises(Conflict):
        here.push()


def test_a_folder_that_cannot_be_locked_is_said(repository: Repository) -> None:
    (repository.path / ".git" / "pilothouse.lock").unlink()
    (repository.path / ".git" / "pilothouse.lock").mkdir()
    with pytest.raises(Unavailable, match="cannot be written"), repository.alone():
        raise AssertionError("nobody is alone here")


def test_a_clone_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(Invalid, match="not empty"):
        git.clone("https://git.example/x", tmp_path / "full")
    for url in ("--upload-pack=touch x", "ext::sh -c id"):
        with pytest.raises(Invalid, match="no address"):
            git.clone(url, tmp_path / "new")
    with pytest.raises((Invalid, Unavailable)):
        git.clone(str(tmp_path / "nowhere"), tmp_path / "new")
    assert not (tmp_path / "new").exists()
