"""A platform read from a folder: layers, content, and every kind of file that does not belong there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilothouse.files import platform as files
from pilothouse.files.content import bundle_root
from pilothouse.files.platform import LoadedPlatform, load, read, with_texts
from pilothouse.files.reading import read_text, read_tree
from pilothouse.platform.model import AlertSeverity
from pilothouse.problems import Invalid, Place, Problem, Unavailable, error

HEAD = "apiVersion: pilothouse.dev/v1\n"


def team(name: str, title: str = "") -> str:
    return f"{HEAD}kind: Team\nmetadata: {{name: {name}}}\nspec: {{title: {title or name}}}\n"


def extending(*folders: str, name: str = "p") -> str:
    return f"{HEAD}kind: Platform\nmetadata: {{name: {name}}}\nspec: {{extends: [{', '.join(folders)}]}}\n"


def profile(name: str, title: str) -> str:
    return (
        f"{HEAD}kind: AccessProfile\nmetadata: {{name: {name}}}\n"
        f"spec: {{title: {title}, description: d, groups: [g], clusterRole: view}}\n"
    )


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def refusal(root: Path) -> Invalid:
    with pytest.raises(Invalid) as refused:
        load(root)
    assert "\n" not in refused.value.message
    assert refused.value.hint
    return refused.value


# ---------------------------------------------------------------- reading


def test_documents_of_the_whole_tree_are_read(tmp_path: Path) -> None:
    root = write(
        tmp_path / "bank",
        {
            "a.yaml": team("one"),
            "deep/er/b.yml": team("two") + "---\n" + team("three"),
            ".hidden/c.yaml": "[",
            "snapshots/dev.yaml": "[",
            "README.md": "[",
            "alerts/routing.yaml": "anything: 1",
        },
    )
    loaded = load(root)
    assert sorted(loaded.platform.teams) == ["one", "three", "two"]
    assert loaded.problems == ()
    assert loaded.platform.name == "bank", "without a Platform document the folder names it"
    assert str(loaded.platform.teams["three"].place).startswith("deep/er/b.yml:8")


def test_paths_do_not_depend_on_where_the_platform_lies(tmp_path: Path) -> None:
    one, other = write(tmp_path / "x", {"t.yaml": team("a")}), write(tmp_path / "y" / "z", {"t.yaml": team("a")})
    assert load(one).sources == load(other).sources


def test_problems_are_shown_with_paths_that_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load(write(Path("bank"), {"t.yaml": team("a") + "oops: 1\n"}))
    (problem,) = loaded.problems
    assert problem.place.path == "t.yaml"
    (shown,) = loaded.shown(loaded.problems)
    assert str(shown.place).startswith("bank/t.yaml:5")
    elsewhere = error("a/b", "x", Place("not/a/file.yaml"), related=(Place("t.yaml", 1, 1),))
    (shown,) = loaded.shown([elsewhere])
    assert (shown.place.path, shown.related[0].path) == ("not/a/file.yaml", "bank/t.yaml")
    monkeypatch.chdir(tmp_path / "bank")
    assert load(tmp_path / "bank").shown(loaded.problems)[0].place.path == "t.yaml"
    monkeypatch.chdir("/")
    monkeypatch.setattr(Path, "cwd", lambda: Path("/somewhere/else"))
    assert load(tmp_path / "bank").shown(loaded.problems)[0].place.path == str(tmp_path / "bank" / "t.yaml")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    root = write(tmp_path, {"t.yaml": b"\xef\xbb\xbf" + team("a").encode()})
    assert str(load(root).platform.teams["a"].place) == "t.yaml:3:18"


# ---------------------------------------------------------------- content


def test_content_is_laid_over_the_bundles(tmp_path: Path) -> None:
    assert (bundle_root() / "alerts" / "README.md").is_file()
    loaded = load(write(tmp_path, {"t.yaml": team("a"), "alerts/README.md": "ours", "alerts/rules/mine.yaml": "x: 1"}))
    ours, mine = loaded.content.files["alerts/README.md"], loaded.content.files["alerts/rules/mine.yaml"]
    assert (ours.text, ours.origin) == ("ours", "platform")
    assert (mine.path, mine.origin) == ("alerts/rules/mine.yaml", "platform")
    assert loaded.content.files["policies/README.md"].origin == "bundle"
    assert loaded.covered_content["alerts/README.md"] == ("bundle:alerts/README.md",)


def test_profiles_of_the_content_are_documents(tmp_path: Path) -> None:
    bundle = load(write(tmp_path / "plain", {"t.yaml": team("a")})).platform.profiles
    assert "developer" in bundle
    same_file = write(
        tmp_path / "file", {"t.yaml": team("a"), "secrets/profiles/developer.yaml": profile("engineer", "E")}
    )
    assert set(load(same_file).platform.profiles) == set(bundle) - {"developer"} | {"engineer"}
    same_name = load(write(tmp_path / "name", {"t.yaml": team("a") + "---\n" + profile("developer", "Ours")}))
    assert same_name.problems == ()
    assert same_name.platform.profiles["developer"].title == "Ours"
    assert [str(p.path) for p in same_name.covered["AccessProfile", "developer"]] == ["secrets/profiles/developer.yaml"]
    gone = write(tmp_path / "gone", {"t.yaml": team("a"), "secrets/profiles/developer.yaml": "# not here\n"})
    assert "developer" not in load(gone).platform.profiles


def test_pictures_in_content_folders_are_left_aside(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, {"t.yaml": team("a"), "dashboards/shot.png": b"\x89PNG\x00"}))
    assert "dashboards/shot.png" not in loaded.content.files
    assert loaded.problems == ()


def test_texts_can_stand_in_for_files(tmp_path: Path) -> None:
    root = write(tmp_path, {"a.yaml": team("a"), "b.yaml": team("b"), "alerts/README.md": "ours"})
    loaded = load(
        root,
        instead={
            "a.yaml": team("a", "Changed"),
            "new/c.yaml": team("c"),
            "b.yaml": None,
            "gone.yaml": None,
            "alerts/README.md": "proposed",
            "secrets/profiles/mine.yaml": profile("mine", "M"),
        },
    )
    assert {t.name: t.title for t in loaded.platform.teams.values()} == {"a": "Changed", "c": "c"}
    assert loaded.content.files["alerts/README.md"].text == "proposed"
    assert "mine" in loaded.platform.profiles
    assert loaded.problems == ()
    assert load(root).platform.teams["a"].title == "a", "nothing was written"


# ---------------------------------------------------------------- layers


def test_a_platform_over_another_one(tmp_path: Path) -> None:
    write(
        tmp_path / "common",
        {
            "platform.yaml": extending(name="common"),
            "t.yaml": team("a", "Common") + "---\n" + team("b"),
            "alerts/x.yaml": "common",
            "alerts/y.yaml": "common",
            "secrets/profiles/extra.yaml": profile("extra", "E"),
        },
    )
    root = write(
        tmp_path / "eu" / "bank",
        {"conf/p.yaml": extending("../../../common", name="eu"), "t.yaml": team("a", "Ours"), "alerts/x.yaml": "ours"},
    )
    loaded = load(root)
    assert loaded.problems == ()
    assert loaded.platform.name == "eu"
    assert {t.name: t.title for t in loaded.platform.teams.values()} == {"a": "Ours", "b": "b"}
    assert loaded.content.files["alerts/x.yaml"].text == "ours"
    assert loaded.content.files["alerts/y.yaml"].text == "common"
    assert loaded.platform.profiles["extra"].title == "E"
    assert loaded.platform.teams["b"].place.path == "../../common/t.yaml"
    assert [str(p) for p in loaded.covered["Team", "a"]] == ["../../common/t.yaml:3:18"]
    assert [layer.name for layer in loaded.layers] == ["common", "bank"]
    assert loaded.covered_content["alerts/x.yaml"] == ("../../common/alerts/x.yaml",)
    found = loaded.source("../../common/t.yaml")
    assert found is not None
    assert found.text.startswith(HEAD)
    assert loaded.source("nothing.yaml") is None


def test_a_diamond_is_read_once_and_later_folders_win(tmp_path: Path) -> None:
    write(tmp_path / "base", {"t.yaml": team("a", "Base")})
    write(tmp_path / "one", {"p.yaml": extending("../base"), "t.yaml": team("a", "One")})
    write(tmp_path / "two", {"p.yaml": extending("../base"), "t.yaml": team("a", "Two")})
    loaded = load(write(tmp_path / "top", {"p.yaml": extending("../one", "../two")}))
    assert loaded.platform.teams["a"].title == "Two"
    assert [layer.name for layer in loaded.layers] == ["base", "one", "two", "top"]


def test_a_cycle_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "one", {"p.yaml": extending("../two")})
    root = write(tmp_path / "two", {"p.yaml": extending("../one"), "t.yaml": team("a")})
    refused = refusal(root)
    assert "leads back" in refused.message
    assert [p.code for p in refused.problems] == ["files/cyclic-extends"]
    assert "leads back" in refusal(write(tmp_path / "self", {"p.yaml": extending(".")})).message


@pytest.mark.parametrize(
    ("folder", "says"), [("../nowhere", "no folder"), ("/etc", "absolute"), ("./p.yaml", "no folder")]
)
def test_a_folder_that_cannot_be_extended(tmp_path: Path, folder: str, says: str) -> None:
    loaded = load(write(tmp_path / "p", {"p.yaml": extending(folder), "t.yaml": team("a")}))
    (problem,) = loaded.problems
    assert problem.code == "files/unknown-folder"
    assert says in problem.message
    assert problem.place.line == 4


def test_a_repository_is_not_left(tmp_path: Path) -> None:
    write(tmp_path / "outside", {"t.yaml": team("secret")})
    root = write(tmp_path / "repo" / "p", {"p.yaml": extending("../../outside"), "t.yaml": team("a")})
    (tmp_path / "repo" / ".git").mkdir()
    loaded = load(root)
    assert "outside of the repository" in loaded.problems[0].message
    assert list(loaded.platform.teams) == ["a"]


# ---------------------------------------------------------------- what cannot be read


def test_a_missing_folder(tmp_path: Path) -> None:
    assert "there is no folder" in refusal(tmp_path / "nowhere").message


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path, {"t.yaml": team("a")})
    assert "is no folder" in refusal(tmp_path / "t.yaml").message


def test_an_empty_platform(tmp_path: Path) -> None:
    assert "declares nothing" in refusal(tmp_path).message
    write(tmp_path, {"README.md": "x", "snapshots/dev.json": "{}"})
    assert "declares nothing" in refusal(tmp_path).message


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff", "files/not-text", "UTF-8"),
        (b"a: \x00b", "files/not-text", "NUL"),
        ("a: 1".encode("utf-16"), "files/not-text", "UTF-16"),
        (b"x" * 50_000_000, "source/too-large", "50,000,000 bytes"),
        (
            b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            + b"\n".join(b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 12)),
            "source/too-complex",
            "aliases",
        ),
        (b"a: &x [*x]", "source/recursive-alias", "contains itself"),
        (b"[" * 100_000, "source/too-complex", "levels deep"),
    ],
    ids=["binary", "nul", "utf-16", "50 MB", "bomb", "recursive", "deep"],
)
def test_a_file_that_does_not_belong_there(tmp_path: Path, content: bytes, code: str, says: str) -> None:
    root = write(tmp_path, {"good.yaml": team("a"), "sub/bad.yaml": content})
    refused = refusal(root)
    assert "sub/bad.yaml" in refused.message
    assert says in refused.message
    assert code in [problem.code for problem in refused.problems]


def test_several_such_files_are_counted(tmp_path: Path) -> None:
    root = write(tmp_path, {"a.yaml": b"\xff", "b.yaml": b"\xff", "alerts/c.yaml": b"\xff"})
    assert "(and 2 more)" in refusal(root).message


def test_links_stay_inside(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"t.yaml": team("secret")})
    root = write(tmp_path / "p", {"real/t.yaml": team("a")})
    (root / "again").symlink_to(root, target_is_directory=True)
    assert list(load(root).platform.teams) == ["a"], "a loop of links ends"
    (root / "again").unlink()
    (root / "out").symlink_to(outside, target_is_directory=True)
    refused = refusal(root)
    assert [p.code for p in refused.problems] == ["files/link-outside"]
    over = write(tmp_path / "over", {"p.yaml": extending("../p")})
    assert refusal(over).problems[0].place.path == "../p/out"
    (root / "out").unlink()
    (root / "broken.yaml").symlink_to(root / "gone.yaml")
    assert load(root).problems == (), "a link to nothing holds nothing"


def test_a_platform_may_itself_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "real", {"t.yaml": team("a")})
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    assert list(load(tmp_path / "link").platform.teams) == ["a"]


def test_what_the_system_refuses_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path, {"t.yaml": team("a")})

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    found = read_text(root / "t.yaml", "t.yaml")
    assert isinstance(found, Problem)
    assert (found.code, found.message) == ("files/unreadable", "cannot be read: Permission denied")
    monkeypatch.undo()
    monkeypatch.setattr(os, "scandir", refuse)
    assert [p.code for p in read_tree(root).problems] == ["files/unreadable"]
    with pytest.raises(Unavailable, match="Permission denied"):
        load(root)


def test_a_folder_with_far_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilothouse.files.reading.MAX_FILES", 3)
    root = write(tmp_path, {f"{n}.yaml": team(f"t{n}") for n in range(5)})
    with pytest.raises(Unavailable, match="more than 3 files"):
        load(root)


def test_the_bank_loads_clean(root: Path) -> None:
    loaded: LoadedPlatform = load(root / "examples" / "bank")
    assert loaded.problems == ()
    assert loaded.platform.name == "bank"
    assert len(loaded.platform.services) >= 14
    assert {"dev", "test", "uat", "prod"} <= set(loaded.platform.clusters)
    assert loaded.platform.clusters["dev"].max_severity is not AlertSeverity.PAGE
    assert files.SNAPSHOTS == "snapshots"


def test_other_texts_are_laid_upon_what_was_read(tmp_path: Path) -> None:
    """What somebody writes into the folder meanwhile is not seen, and shows in the digest."""
    (tmp_path / "teams.yaml").write_text(TEAM_TEXT)
    loaded = load(tmp_path)
    assert read(tmp_path).digest == loaded.texts.digest
    (tmp_path / "teams.yaml").write_text("kind: Broken\n")
    other = with_texts(loaded, {"more.yaml": TEAM_TEXT.replace("name: one", "name: two")})
    assert sorted(other.platform.teams) == ["one", "two"]
    assert other.problems == ()
    assert len({loaded.texts.digest, other.texts.digest, read(tmp_path).digest}) == 3
    (tmp_path / "teams.yaml").write_text(TEAM_TEXT)
    assert read(tmp_path).digest == loaded.texts.digest


TEAM_TEXT = """\
apiVersion: pilothouse.dev/v1
kind: Team
metadata: {name: one}
spec:
  members: [{user: ann}, {user: bob}]
  receivers: [{severity: page, email: a@bank.example}, {severity: ticket, email: a@bank.example}]
"""
