"""Where the bundle's content lies, in a checkout and in a wheel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse.files import content
from pilothouse.problems import Invalid
from pilothouse.source import Source


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    content.bundle_root.cache_clear()
    yield
    content.bundle_root.cache_clear()


def test_the_checkout_wins(root: Path) -> None:
    assert content.bundle_root() == root


def test_an_installed_package_has_its_own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lib" / "site-packages" / "pilothouse"
    (package / "_content" / "alerts").mkdir(parents=True)
    monkeypatch.setattr(content, "_PACKAGE", package)
    assert content.bundle_root() == package / "_content"


def test_another_projects_checkout_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\n')
    monkeypatch.setattr(content, "_PACKAGE", tmp_path / "src" / "pilothouse")
    with pytest.raises(Invalid, match="content of the bundle is missing"):
        content.bundle_root()


def test_an_example_by_name(root: Path) -> None:
    assert content.example() == root / "examples" / "bank"
    for name in ("bnak", "../src", ""):
        with pytest.raises(Invalid, match="no example") as refused:
            content.example(name)
        assert "bank" in refused.value.hint


def test_later_layers_win() -> None:
    one, other = Source("one", "1"), Source("other", "2")
    laid = content.overlay({"b": one, "a": one}, {"b": other})
    assert dict(laid.files) == {"a": one, "b": other}
    assert list(laid.files) == ["a", "b"]


def test_the_bundle_holds_every_content_folder() -> None:
    tree = content.bundle_content()
    assert tree.problems == ()
    assert {path.split("/")[0] for path in tree.sources} >= {
        "alerts",
        "collectors",
        "dashboards",
        "policies",
        "secrets",
    }
    assert {source.origin for source in tree.sources.values()} == {"bundle"}
