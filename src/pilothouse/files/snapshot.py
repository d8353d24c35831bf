"""A cluster snapshot read from files: what kubectl printed, or a folder of plain manifests.

JSON is taken as a machine's output: fast, and only syntax errors have a line. YAML up to 5 MB is taken as written by
people and read with carets; larger YAML (`kubectl get -o yaml`) goes through the C loader. What is no manifest (Helm
templates, kustomizations, values) is counted and named, and never stops the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pilothouse.files.garbage import collector_paused
from pilothouse.files.reading import walk
from pilothouse.inventory.fields import Key
from pilothouse.inventory.model import Snapshot
from pilothouse.inventory.parse import NEWER_API, Locate, at, parse
from pilothouse.problems import Invalid, Place, Problem, Problems, Unavailable, error, info, ordered, warning
from pilothouse.source import MAX_BYTES, Node, PlainLoader, Source, load

SNAPSHOTS = "snapshots"
SUFFIXES = (".json", ".yaml", ".yml")
MAX_SNAPSHOT_BYTES = 1_000_000_000
"""About a hundred thousand pods; a larger file is taken for a mistake."""
MAX_VALUES = 30_000_000
"""Values of one large YAML file once its aliases are written out."""

KUBECTL = (
    "kubectl get namespaces,nodes,pods,services,endpointslices,serviceaccounts,networkpolicies,ingresses,"
    "roles,rolebindings,clusterroles,clusterrolebindings -A -o json > snapshot.json"
)
"""How to take one; docs/snapshots.md says more."""

_HOSTILE = frozenset(("source/too-complex", "source/recursive-alias"))
"""Nobody writes such a manifest by mistake: a file that grows without end, or that holds itself."""
_KUSTOMIZATIONS = frozenset(("kustomization.yaml", "kustomization.yml", "Kustomization"))
_TEMPLATE = re.compile(r"\{\{")
_SKIPPED = frozenset(("node_modules",))
_NAMES = 8
"""How many of the files left aside are named."""


@dataclass
class _Aside:
    """Files that hold no manifests, by why."""

    helm: list[str] = field(default_factory=list)
    kustomize: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


def find(platform_root: Path, cluster: str) -> Path | None:
    """The snapshot of a cluster where convention puts it: `snapshots/<cluster>.json` (or YAML), or a folder."""
    folder = platform_root / SNAPSHOTS
    for suffix in SUFFIXES:
        if (folder / f"{cluster}{suffix}").is_file():
            return folder / f"{cluster}{suffix}"
    return folder / cluster if (folder / cluster).is_dir() else None


def read(path: Path) -> tuple[Snapshot, Problems]:
    """The snapshot at that path, a file or a folder, and what is wrong with single objects of it.

    Raises `Invalid` for what is no snapshot at all: no such path, a binary or broken file, a newer API than
    this one reads. `Unavailable` where the file system does not let us.
    """
    path = Path(path)
    problems: list[Problem] = []
    aside = _Aside()
    if path.is_dir():
        objects = _folder(path, problems, aside)
    elif path.is_file():
        objects = _file(path, path.as_posix(), problems, aside, alone=True)
    else:
        raise Invalid(f"no snapshot at {path}", f"take one: {KUBECTL}")
    with collector_paused():
        snapshot, found = parse(objects, source=path.as_posix())
    found = ordered((*problems, *found, *_named(aside, path)))
    newer = [problem for problem in found if problem.code == NEWER_API]
    if newer:
        more = f" (and {len(newer) - 1} more kinds)" if len(newer) > 1 else ""
        raise Invalid(f"{newer[0].place}: {newer[0].message}{more}", newer[0].hint, found)
    if snapshot == Snapshot(source=snapshot.source):
        found = (*found, _empty(path))
    return snapshot, found


def read_text(text: str, shown: str) -> tuple[Snapshot, Problems]:
    """The snapshot that a text holds, JSON or YAML; `shown` names it in problems. Raises `Invalid` as `read` does."""
    problems: list[Problem] = []
    aside = _Aside()
    suffix = ".json" if text.lstrip()[:1] in ("{", "[") else ".yaml"
    objects = _objects(text, shown, Path(f"{shown}{suffix}"), problems, aside)
    with collector_paused():
        snapshot, found = parse(objects, source=shown)
    found = ordered((*problems, *found, *_named(aside, Path(shown))))
    return snapshot, found if objects else (*found, _empty(Path(shown)))


def _empty(path: Path) -> Problem:
    return warning(
        "inventory/empty-snapshot", f"{path} holds no Kubernetes object", Place(path.as_posix()), f"take one: {KUBECTL}"
    )


def _folder(root: Path, problems: list[Problem], aside: _Aside) -> Iterator[tuple[Any, Locate]]:
    unreadable: list[Problem] = []
    for file in walk(root, "", _SKIPPED, unreadable):
        if file.suffix in SUFFIXES:
            yield from _file(file, file.as_posix(), problems, aside, alone=False)
    problems.extend(unreadable)


def _file(
    file: Path, shown: str, problems: list[Problem], aside: _Aside, *, alone: bool
) -> Iterator[tuple[Any, Locate]]:
    """The objects of one file. `alone` says that it is all there is: what is wrong with it as a whole is raised."""
    try:
        raw = _bytes(file)
        text = raw.decode("utf-8-sig")
        if "\0" in text:
            raise Invalid(f"{shown} is no text file", "a snapshot is JSON or YAML in UTF-8")
        found = _objects(text, shown, file, problems, aside)
    except UnicodeDecodeError as failure:
        refused = Invalid(f"{shown} is no text file: byte {failure.start} is not UTF-8", _encoding_hint(raw))
        refused.__cause__ = failure
    except Invalid as failure:
        refused = failure
    else:
        yield from found
        return
    if alone:
        raise refused
    problems.extend(
        refused.problems or (error("inventory/unreadable-file", refused.message, Place(shown), refused.hint),)
    )


def _encoding_hint(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "it is in UTF-16, as PowerShell's `>` writes it: use `| Out-File -Encoding utf8` instead"
    return "a snapshot is JSON or YAML in UTF-8"


def _bytes(file: Path) -> bytes:
    try:
        size = file.stat().st_size
        if size > MAX_SNAPSHOT_BYTES:
            raise Invalid(
                f"{file} has {size:,} bytes, more than a snapshot may ({MAX_SNAPSHOT_BYTES:,})",
                "name only the kinds that docs/snapshots.md lists",
            )
        return file.read_bytes()
    except OSError as failure:
        raise Unavailable(
            f"{file} cannot be read: {failure.strerror or failure}", "give the user that runs pilothouse the right to"
        ) from failure


def _objects(text: str, shown: str, file: Path, problems: list[Problem], aside: _Aside) -> list[tuple[Any, Locate]]:
    if file.name in _KUSTOMIZATIONS:
        aside.kustomize.append(shown)
        return []
    if file.suffix == ".json":
        return _json(text, shown, file, aside)
    if _TEMPLATE.search(text) and _is_chart(file):
        aside.helm.append(shown)
        return []
    if len(text) > MAX_BYTES:
        return [(data, at(Place(shown))) for data in _large_yaml(text, shown)]
    source = Source(shown, text)
    nodes, found = load(source)
    syntax = [problem for problem in found if problem.code != "source/duplicate-key"]
    if syntax and _TEMPLATE.search(text):
        aside.helm.append(shown)  # a template outside of a chart: `{{ … }}` is no YAML
        return []
    hostile = next((problem for problem in found if problem.code in _HOSTILE), None)
    if hostile:
        raise Invalid(f"{hostile.place}: {hostile.message}", hostile.hint, tuple(found))
    problems.extend(found)
    kept = [node for node in nodes if _is_object(node.data)]
    if not kept and not found:
        aside.other.append(shown)
    return [(node.data, _located(node)) for node in kept]


def _located(node: Node) -> Locate:
    return lambda path: node.key_at(*path) if path and isinstance(path[-1], Key) else node.at(*path)


def _is_object(data: Any) -> bool:
    """Whether it claims to be one. Values, compose files and workflows don't; half of the claim is enough."""
    if isinstance(data, list):
        return any(_is_object(item) for item in data)
    return isinstance(data, dict) and "kind" in data and ("apiVersion" in data or "metadata" in data)


def _is_chart(file: Path) -> bool:
    """Whether the file lies in the `templates/` of a Helm chart (https://helm.sh/docs/topics/charts/)."""
    return any(parent.name == "templates" and (parent.parent / "Chart.yaml").is_file() for parent in file.parents)


def _json(text: str, shown: str, file: Path, aside: _Aside) -> list[tuple[Any, Locate]]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as failure:
        place = Source(shown, text).place(failure.lineno, failure.colno)
        cut = not text.strip() or failure.pos >= len(text.rstrip()) - 1
        hint = (
            "the file is cut off: was kubectl interrupted?" if cut else "is this the output of `kubectl get -o json`?"
        )
        found = error("inventory/json-syntax", f"not valid JSON: {failure.msg}", place, hint)
        raise Invalid(f"{place}: {found.message}", hint, (found,)) from failure
    except RecursionError as failure:
        raise Invalid(f"{shown} is nested too deeply", "is this the output of `kubectl get -o json`?") from failure
    if not _is_object(data) and data != []:
        aside.other.append(shown)
        return []
    return [(data, at(Place(shown)))]


# ---------------------------------------------------------------- large YAML


def _large_yaml(text: str, shown: str) -> list[Any]:
    try:
        found = [data for data in yaml.load_all(text, Loader=PlainLoader) if _is_object(data)]
    except yaml.MarkedYAMLError as failure:
        mark = failure.problem_mark or failure.context_mark
        place = Source(shown, text).place(mark.line + 1, mark.column + 1) if mark else Place(shown)
        problem = error("source/yaml-syntax", f"not valid YAML: {failure.problem}", place, "was kubectl interrupted?")
        raise Invalid(f"{place}: {problem.message}", problem.hint, (problem,)) from failure
    except (yaml.YAMLError, RecursionError, ValueError) as failure:
        raise Invalid(
            f"{shown} is not valid YAML: {' '.join(str(failure).split())[:200]}", "was kubectl interrupted?"
        ) from failure
    _within_budget(found, shown)
    return found


def _within_budget(data: list[Any], shown: str) -> None:
    """Refuse a file whose aliases make it far larger than it looks, or that holds itself."""
    left = MAX_VALUES
    waiting: list[Any] = [data]
    while waiting:
        value = waiting.pop()
        children = value.values() if isinstance(value, dict) else value
        left -= len(children)
        if left < 0:
            raise Invalid(
                f"{shown} is too large once its aliases are written out", "write the values out, without anchors"
            )
        waiting.extend(child for child in children if isinstance(child, (dict, list)) and child)


# ---------------------------------------------------------------- what was left aside


def _named(aside: _Aside, path: Path) -> Iterator[Problem]:
    """One finding for each sort of file that holds no manifests."""
    for code, files, (one, many), hint in (
        (
            "inventory/helm-template",
            aside.helm,
            ("Helm template", "Helm templates"),
            "render the chart first: helm template NAME CHART > rendered.yaml, and read that",
        ),
        (
            "inventory/kustomization",
            aside.kustomize,
            ("kustomization", "kustomizations"),
            "the manifests beside it are read as they are; to read the result: kubectl kustomize DIR > built.yaml",
        ),
        (
            "inventory/not-a-manifest",
            aside.other,
            ("file without manifests", "files without manifests"),
            "move it elsewhere, or ignore this",
        ),
    ):
        if not files:
            continue
        names = ", ".join(_below(file, path) for file in files[:_NAMES])
        more = f" and {len(files) - _NAMES:,} more" if len(files) > _NAMES else ""
        count = f"1 {one}" if len(files) == 1 else f"{len(files):,} {many}"
        yield info(code, f"{count} left aside: {names}{more}", Place(path.as_posix()), hint)


def _below(file: str, root: Path) -> str:
    return file.removeprefix(f"{root.as_posix()}/")
