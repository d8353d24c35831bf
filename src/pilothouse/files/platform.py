"""A platform read from a folder: its documents, the platforms it extends, its content over the bundle's.

Paths in sources and problems are relative to the platform's folder, so that what is derived does
not depend on where it lies; `LoadedPlatform.shown` turns them into paths that a terminal can open.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pilothouse.files.content import bundle_content, overlay, read_content
from pilothouse.files.reading import Tree, read_tree
from pilothouse.inputs import CONTENT_FOLDERS, Content
from pilothouse.platform import documents
from pilothouse.platform.model import Platform
from pilothouse.problems import Invalid, Place, Problem, Problems, Unavailable, error, ordered
from pilothouse.source import Source

SNAPSHOTS = "snapshots"
FLOWS = "flows"
"""Observed flows may lie beside the snapshots: nothing reads them but the commands that are told to."""
PROFILES = "secrets/profiles/"
"""The content folder whose files are documents (AccessProfile)."""

_CANNOT_RUN = frozenset(
    (
        "source/too-large",
        "source/too-complex",
        "source/recursive-alias",
        "files/not-text",
        "files/cyclic-extends",
        "files/unreadable",
        "files/link-outside",
    )
)
"""Such a file is no mistake in a declaration: something lies in the folder that does not belong there."""


@dataclass(frozen=True)
class LoadedPlatform:
    """`sources` are the texts of all documents; `problems` come from reading alone, the others from `platform.checks`.

    `files` says where each source lies, by `Source.path`. `layers` are the folders from the lowest up, the
    last one being `root`. `places` says where each effective document stands, by (kind, key), and
    `covered` which ones it was laid over.
    """

    root: Path
    platform: Platform
    content: Content
    sources: tuple[Source, ...]
    problems: Problems
    files: Mapping[str, Path] = field(default_factory=dict)
    layers: tuple[Path, ...] = ()
    places: Mapping[tuple[str, str], Place] = field(default_factory=dict)
    covered: Mapping[tuple[str, str], tuple[Place, ...]] = field(default_factory=dict)
    covered_content: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By content path: the paths of the files that the effective one was laid over, lowest first."""
    texts: Texts = field(default_factory=lambda: Texts(Tree()), repr=False)
    """Everything that it was made from."""

    def shown(self, problems: Iterable[Problem]) -> Problems:
        """The problems with paths as the caller would open them: below the root as it was given."""
        return tuple(
            replace(
                problem,
                place=self._shown(problem.place),
                related=tuple(self._shown(place) for place in problem.related),
            )
            for problem in problems
        )

    def _shown(self, place: Place) -> Place:
        file = self.files.get(place.path)
        return replace(place, path=_short(file)) if file else place

    def source(self, path: str) -> Source | None:
        """The document source of that path."""
        return next((item for item in self.sources if item.path == path), None)


def _short(file: Path) -> str:
    """Relative to where the user stands, when that is below."""
    try:
        return file.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return file.as_posix()


@dataclass(frozen=True)
class _Layer:
    root: Path
    prefix: str
    documents: Tree
    content: Tree


@dataclass(frozen=True)
class Texts:
    """The files of a platform as they were read, and the problems of what it extends."""

    bundle: Tree
    layers: tuple[_Layer, ...] = ()
    problems: Problems = ()

    @cached_property
    def digest(self) -> str:
        """Equal for equal texts at equal paths: two platforms with the same one are the same platform."""
        found = hashlib.sha256()
        for tree in (self.bundle, *(tree for layer in self.layers for tree in (layer.documents, layer.content))):
            for source in tree.sources.values():
                for part in (source.path, source.text):
                    data = part.encode(errors="surrogateescape")
                    found.update(b"%d:" % len(data) + data)
            found.update(b"\n")
        return found.hexdigest()

    def changed(self, instead: Mapping[str, str | None]) -> Texts:
        """With other texts in the platform's own folder, None for a file that is taken away."""
        return replace(self, layers=(*self.layers[:-1], _changed(self.layers[-1], instead))) if instead else self


def load(root: Path, instead: Mapping[str, str | None] | None = None) -> LoadedPlatform:
    """Read the platform in that folder.

    `instead` are texts by path below it that are taken for what lies there, None for a file that is taken
    away: a proposal is looked at this way before it is written. It does not change what `extends` names.

    Raises `Invalid` for a folder that is missing, is none, declares nothing, or holds what cannot be
    a declaration (a binary file, a file of more than 5 MB, a YAML bomb, a cycle of `extends`).
    """
    found = read(root)
    return _assembled(Path(root), found.changed(instead or {}))


def read(root: Path) -> Texts:
    """The texts of a platform as they are now; nothing is made of them yet. Raises as `load` does."""
    root = Path(root)
    _require_folder(root)
    layers: list[_Layer] = []
    problems: list[Problem] = []
    _collect(root, root, (), layers, problems)
    return Texts(bundle_content(), tuple(layers), tuple(problems))


def with_texts(loaded: LoadedPlatform, instead: Mapping[str, str | None]) -> LoadedPlatform:
    """As `load` with `instead`, upon what was read then: no file is looked at again."""
    return _assembled(loaded.root, loaded.texts.changed(instead))


def _assembled(root: Path, texts_read: Texts) -> LoadedPlatform:
    bundle, layers, problems = texts_read.bundle, texts_read.layers, list(texts_read.problems)
    content = overlay(bundle.sources, *(layer.content.sources for layer in layers))
    effective = {id(source) for source in content.files.values()}
    problems += [
        *bundle.problems,
        *(p for layer in layers for p in (*layer.documents.problems, *layer.content.problems)),
    ]

    sources: list[Source] = []
    found = Platform()
    places: dict[tuple[str, str], Place] = {}
    covered: dict[tuple[str, str], tuple[Place, ...]] = {}
    own_documents = False
    texts: list[Source]
    for texts in (
        _profiles(bundle, effective),
        *([*layer.documents.sources.values(), *_profiles(layer.content, effective)] for layer in layers),
    ):
        read = documents.read(texts)
        sources += texts
        problems += read.problems
        found = documents.lay_over(found, read.platform)
        for key, place in read.places.items():
            if key in places:
                covered[key] = (*covered.get(key, ()), places[key])
            places[key] = place
        own_documents = own_documents or any(text.origin != "bundle" for text in texts)
    _refuse_what_cannot_run(root, problems)
    if not own_documents:
        raise Invalid(
            f"{root} declares nothing: it holds no *.yaml file",
            "write a Cluster, a Team and a Service document into it; examples/bank shows how",
        )
    files = {
        source.path: tree.files[path]
        for tree in (bundle, *(item for layer in layers for item in (layer.content, layer.documents)))
        for path, source in tree.sources.items()
        if path in tree.files
    }
    if not found.name:
        found = replace(found, name=root.resolve().name)
    return LoadedPlatform(
        root,
        found,
        content,
        tuple(sources),
        ordered(problems),
        files,
        tuple(layer.root for layer in layers),
        dict(sorted(places.items())),
        dict(sorted(covered.items())),
        _covered_content([bundle, *(layer.content for layer in layers)]),
        texts_read,
    )


def _changed(layer: _Layer, instead: Mapping[str, str | None]) -> _Layer:
    declared, content = dict(layer.documents.sources), dict(layer.content.sources)
    for path, text in instead.items():
        sources = content if path.startswith(tuple(f"{folder}/" for folder in CONTENT_FOLDERS)) else declared
        sources.pop(path, None)
        if text is not None:
            sources[path] = Source(path, text)
    return replace(
        layer,
        documents=replace(layer.documents, sources=dict(sorted(declared.items()))),
        content=replace(layer.content, sources=dict(sorted(content.items()))),
    )


def _require_folder(root: Path) -> None:
    try:
        if root.is_dir():
            os.scandir(root).close()
            return
        exists = root.exists()
    except OSError as failure:
        raise Unavailable(
            f"{root} cannot be read: {failure.strerror or failure}",
            "give the user that runs pilothouse the right to read it",
        ) from failure
    if exists:
        raise Invalid(f"{root} is no folder", "give the folder that holds the platform's documents")
    raise Invalid(f"there is no folder {root}", "give the folder of a platform, such as examples/bank")


def _collect(top: Path, root: Path, above: tuple[Path, ...], layers: list[_Layer], problems: list[Problem]) -> None:
    """Append the layers that `root` is laid over, then its own; each folder once."""
    real = root.resolve()
    if any(layer.root.resolve() == real for layer in layers):
        return
    prefix = "" if root == top else Path(os.path.relpath(real, top.resolve())).as_posix() + "/"
    tree = read_tree(root, prefix=prefix, skip=frozenset((*CONTENT_FOLDERS, SNAPSHOTS, FLOWS)))
    for extension in _extensions(tree):
        written = Path(extension.place.path.removeprefix(prefix)).parent
        folder = Path(os.path.normpath(root / written / extension.folder))
        problem = _extension_problem(extension, folder, top, (*above, real))
        if problem:
            problems.append(problem)
        else:
            _collect(top, folder, (*above, real), layers, problems)
    layers.append(_Layer(root, prefix, tree, read_content(root, "platform", prefix)))


def _extensions(tree: Tree) -> tuple[documents.Extension, ...]:
    """What the folder's Platform document extends. Only files that mention one are read for it."""
    candidates = [
        source for source in tree.sources.values() if "kind: Platform" in source.text or "extends" in source.text
    ]
    return documents.read(candidates).extends


def _extension_problem(
    extension: documents.Extension, folder: Path, top: Path, above: tuple[Path, ...]
) -> Problem | None:
    if Path(extension.folder).is_absolute():
        return error(
            "files/unknown-folder",
            f"`{extension.folder}` is an absolute path",
            extension.place,
            "write the folder relative to this file, such as ../common",
        )
    if folder.resolve() in above:
        return error(
            "files/cyclic-extends",
            f"`{extension.folder}` leads back to a platform that extends this one",
            extension.place,
            "remove one of the two `extends`: a platform cannot lie over itself",
        )
    repository = next((path for path in (top.resolve(), *top.resolve().parents) if (path / ".git").exists()), None)
    if repository and not folder.resolve().is_relative_to(repository):
        return error(
            "files/unknown-folder",
            f"`{extension.folder}` lies outside of the repository",
            extension.place,
            "extend a folder of the same repository",
        )
    if not folder.is_dir():
        return error(
            "files/unknown-folder",
            f"there is no folder `{extension.folder}`",
            extension.place,
            "write the folder relative to this file, such as ../common",
        )
    return None


def _profiles(content: Tree, effective: set[int]) -> list[Source]:
    """The documents among a layer's content that no upper layer replaces."""
    return [
        source
        for path, source in content.sources.items()
        if path.startswith(PROFILES) and path.endswith((".yaml", ".yml")) and id(source) in effective
    ]


def _refuse_what_cannot_run(root: Path, problems: list[Problem]) -> None:
    fatal = [problem for problem in ordered(problems) if problem.code in _CANNOT_RUN]
    if fatal:
        first = fatal[0]
        more = f" (and {len(fatal) - 1} more)" if len(fatal) > 1 else ""
        raise Invalid(f"{root}: {first.place}: {first.message}{more}", first.hint, problems=ordered(problems))


def _covered_content(trees: list[Tree]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for tree in trees:
        for path, source in tree.sources.items():
            found.setdefault(path, []).append(f"bundle:{path}" if source.origin == "bundle" else source.path)
    return {path: tuple(names[:-1]) for path, names in sorted(found.items()) if len(names) > 1}
