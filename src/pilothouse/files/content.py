"""The bundle's own content, and a platform's laid over it file by file.

In a checkout the content is the top-level folders (people edit them there, so the checkout wins);
in an installed wheel it is `pilothouse/_content`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pilothouse.files.reading import Tree, read_tree
from pilothouse.inputs import CONTENT_FOLDERS, Content
from pilothouse.problems import Invalid, nearest, one_of
from pilothouse.source import Source

_PACKAGE = Path(__file__).parents[1]

TEXT_SUFFIXES = (".yaml", ".yml", ".json", ".conf", ".tpl", ".tmpl", ".txt", ".md", ".hcl", ".rb", ".css", ".svg", "")
"""What the content folders hold; other files (pictures in a README) are left aside."""


@cache
def bundle_root() -> Path:
    """The folder that holds `collectors/`, `policies/` and the other content folders, and `examples/`."""
    checkout = _PACKAGE.parents[1]
    project = checkout / "pyproject.toml"
    if project.is_file() and re.search(r'^name = "pilothouse"$', project.read_text(encoding="utf-8"), re.MULTILINE):
        return checkout
    installed = _PACKAGE / "_content"
    if not installed.is_dir():
        raise Invalid(
            f"the content of the bundle is missing: there is no {installed}",
            "install pilothouse again, from its wheel or as an editable checkout",
        )
    return installed


def example(name: str = "bank") -> Path:
    """The folder of an example platform."""
    folder = bundle_root() / "examples"
    path = folder / name
    if not path.is_dir() or path.parent != folder:
        known = [item.name for item in folder.iterdir() if item.is_dir()] if folder.is_dir() else []
        raise Invalid(f"there is no example platform `{name}`", nearest(name, known) or one_of(known))
    return path


def read_content(root: Path, origin: str, prefix: str = "") -> Tree:
    """The content folders below `root`. Keys are relative paths; `Source.path` has `prefix` in front."""
    trees = [
        read_tree(root, folder, origin=origin, prefix=prefix, suffixes=TEXT_SUFFIXES)
        for folder in CONTENT_FOLDERS
        if (root / folder).is_dir()
    ]
    return Tree(
        {path: source for tree in trees for path, source in tree.sources.items()},
        {path: file for tree in trees for path, file in tree.files.items()},
        tuple(problem for tree in trees for problem in tree.problems),
    )


def bundle_content() -> Tree:
    """The bundle's own content as it lies on disk."""
    return read_content(bundle_root(), "bundle")


def overlay(*layers: Mapping[str, Source]) -> Content:
    """Later layers replace the files of earlier ones, path by path."""
    files: dict[str, Source] = {}
    for layer in layers:
        files.update(layer)
    return Content(dict(sorted(files.items())))
