"""Snapshots read from files: every form that is accepted, and everything that is not one."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest

from pilothouse.files import snapshot as files
from pilothouse.problems import Invalid, Severity, Unavailable

PODS = """\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: [{name: main, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}}
"""


def listed(*items: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(items), "metadata": {"resourceVersion": ""}}


def account(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "shop"}}


def put(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_find_follows_the_convention(tmp_path: Path) -> None:
    assert files.find(tmp_path, "prod") is None
    folder = tmp_path / "snapshots" / "prod"
    folder.mkdir(parents=True)
    assert files.find(tmp_path, "prod") == folder
    yaml = put(tmp_path, "snapshots/prod.yaml", PODS)
    assert files.find(tmp_path, "prod") == yaml
    text = put(tmp_path, "snapshots/prod.json", listed())
    assert files.find(tmp_path, "prod") == text


def test_json_and_yaml_say_the_same(tmp_path: Path) -> None:
    from_json, problems = files.read(put(tmp_path, "a.json", listed(account("a"), account("b"))))
    assert problems == ()
    assert from_json.source.endswith("a.json")
    from_yaml, _ = files.read(put(tmp_path, "b.yaml", "\ufeff" + json.dumps(listed(account("a"), account("b")))))
    assert from_json.accounts == from_yaml.accounts == (("shop", "a"), ("shop", "b"))


def test_a_folder_of_manifests_of_all_sorts(tmp_path: Path) -> None:
    put(tmp_path, "pods.yaml", PODS)
    put(tmp_path, "deep/down/account.json", account("deep"))
    put(tmp_path, "lists.json", [listed(account("one")), account("two")])
    put(tmp_path, ".hidden/no.yaml", "kind: {")
    put(tmp_path, "README.md", "not read")
    snapshot, problems = files.read(tmp_path)
    assert problems == ()
    assert [pod.key for pod in snapshot.pods] == ["shop/web"]
    assert [name for _, name in snapshot.accounts] == ["deep", "one", "two", "web"]


def test_carets_in_manifests_that_people_wrote(tmp_path: Path) -> None:
    text = PODS.replace("containerPort: 80", "containerPort: eighty")
    _, problems = files.read(put(tmp_path, "m.yaml", text))
    place = problems[0].place
    assert (place.line, place.column, place.width) == (4, 58, 6)
    assert place.excerpt.startswith("spec:")
    assert "Pod shop/web" in problems[0].message


def test_duplicate_keys_and_syntax_errors_have_places_and_the_rest_is_read(tmp_path: Path) -> None:
    put(tmp_path, "a.yaml", "apiVersion: v1\nkind: Pod\nkind: Pod\nmetadata: {name: a}\n")
    put(tmp_path, "b.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: b\n")
    put(tmp_path, "c.json", '{"kind": ')
    put(tmp_path, "d.json", account("d"))
    snapshot, problems = files.read(tmp_path)
    assert [name for _, name in snapshot.accounts] == ["d"]
    found = {(Path(p.place.path).name, p.code, p.place.line) for p in problems}
    assert ("a.yaml", "source/duplicate-key", 3) in found
    assert ("c.json", "inventory/json-syntax", 1) in found
    assert any(name == "b.yaml" and code == "source/yaml-syntax" for name, code, _ in found)


def test_helm_kustomize_and_other_files_are_named_and_left_aside(tmp_path: Path) -> None:
    put(tmp_path, "chart/Chart.yaml", "name: chart\nversion: 1.0.0\n")
    put(tmp_path, "chart/values.yaml", "replicas: 2\n")
    put(tmp_path, "chart/templates/web.yaml", "kind: Pod\nmetadata: {name: '{{ .Values.name }}'}\n")
    put(tmp_path, "loose.yaml", "metadata:\n  {{- toYaml .Values.x }}\n")
    put(tmp_path, "base/kustomization.yaml", "resources: [pods.yaml]\n")
    put(tmp_path, "base/pods.yaml", PODS)
    put(tmp_path, "package.json", {"name": "x"})
    put(tmp_path, "numbers.json", [1, 2])
    snapshot, problems = files.read(tmp_path)
    assert len(snapshot.pods) == 1
    assert [(p.code, p.severity, p.message) for p in sorted(problems, key=lambda p: p.code)] == [
        ("inventory/helm-template", Severity.INFO, "2 Helm templates left aside: chart/templates/web.yaml, loose.yaml"),
        ("inventory/kustomization", Severity.INFO, "1 kustomization left aside: base/kustomization.yaml"),
        (
            "inventory/not-a-manifest",
            Severity.INFO,
            "4 files without manifests left aside: chart/Chart.yaml, chart/values.yaml, numbers.json, package.json",
        ),
    ]


def test_many_files_left_aside_are_counted(tmp_path: Path) -> None:
    for number in range(11):
        put(tmp_path, f"values-{number:02}.yaml", "a: 1\n")
    _, problems = files.read(tmp_path)
    message = next(p.message for p in problems if p.code == "inventory/not-a-manifest")
    assert message.startswith("11 files without manifests left aside: values-00.yaml")
    assert message.endswith("values-07.yaml and 3 more")


def test_a_template_with_braces_in_a_string_is_a_manifest(tmp_path: Path) -> None:
    text = PODS + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: rules}\ndata: {text: '{{ $labels.pod }}'}\n"
    snapshot, problems = files.read(put(tmp_path, "m.yaml", text))
    assert problems == ()
    assert snapshot.others == {"ConfigMap": 1}


@pytest.mark.parametrize("content", [listed(), [], "", "# nothing\n"])
def test_an_empty_snapshot_is_a_warning(tmp_path: Path, content: Any) -> None:
    name = "a.yaml" if isinstance(content, str) else "a.json"
    snapshot, problems = files.read(put(tmp_path, name, content))
    assert snapshot.is_empty
    assert "inventory/empty-snapshot" in [p.code for p in problems]
    assert "kubectl get" in problems[-1].hint


# ---------------------------------------------------------------- what is no snapshot


def refused(path: Path) -> Invalid:
    with pytest.raises(Invalid) as caught:
        files.read(path)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_missing_file(tmp_path: Path) -> None:
    assert "kubectl get" in refused(tmp_path / "none.json").hint


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\xff", b"\xff\xfe{\x00}\x00", b"{}\x00"])
def test_a_binary_file(tmp_path: Path, content: bytes) -> None:
    assert "no text file" in refused(put(tmp_path, "a.json", content)).message


def test_utf_16_gets_a_hint_of_its_own(tmp_path: Path) -> None:
    assert "PowerShell" in refused(put(tmp_path, "a.json", "{}".encode("utf-16"))).hint


def test_json_that_breaks_off(tmp_path: Path) -> None:
    whole = json.dumps(listed(account("a")), indent=2)
    failure = refused(put(tmp_path, "a.json", whole[:-9]))
    assert "interrupted" in failure.hint
    assert failure.problems[0].code == "inventory/json-syntax"


def test_json_that_is_something_else(tmp_path: Path) -> None:
    failure = refused(put(tmp_path, "a.json", "Error from server (Forbidden): pods is forbidden\n"))
    assert "a.json:1:1" in failure.message
    assert "kubectl" in failure.hint


def test_json_nested_without_end(tmp_path: Path) -> None:
    assert "too deeply" in refused(put(tmp_path, "a.json", "[" * 100_000)).message


def test_a_newer_api(tmp_path: Path) -> None:
    objects = [
        {"apiVersion": f"v{n}", "kind": kind, "metadata": {"name": "x"}} for n, kind in ((2, "Pod"), (3, "Node"))
    ]
    failure = refused(put(tmp_path, "a.json", listed(*objects)))
    assert "snapshot of a newer API" in failure.message
    assert "and 1 more kind" in failure.message
    assert len(failure.problems) == 2


def test_in_a_folder_a_binary_file_is_a_problem_beside_the_rest(tmp_path: Path) -> None:
    put(tmp_path, "a.json", b"\xff\xfe")
    put(tmp_path, "b.json", account("b"))
    snapshot, problems = files.read(tmp_path)
    assert len(snapshot.accounts) == 1
    assert [p.code for p in problems] == ["inventory/unreadable-file"]


def test_a_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, "a.json", listed())

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(Unavailable, match="Permission denied"):
        files.read(path)


def test_a_file_larger_than_any_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_SNAPSHOT_BYTES", 10)
    assert "more than a snapshot may" in refused(put(tmp_path, "a.json", listed(account("a")))).message


# ---------------------------------------------------------------- large YAML


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 10)


@pytest.mark.usefixtures("small_limit")
def test_large_yaml_is_read_without_places(tmp_path: Path) -> None:
    text = PODS.replace("namespace: shop}\nspec", "namespace: shop, creationTimestamp: 2026-11-20T06:00:00Z}\nspec")
    snapshot, problems = files.read(put(tmp_path, "a.yaml", text))
    assert problems == ()
    assert [pod.key for pod in snapshot.pods] == ["shop/web"]


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("text", ["kind: [unclosed, list, of, things", "kind: Pod\n\tmetadata: {}\n", "a: &a [*b, 1]"])
def test_large_yaml_that_is_broken(tmp_path: Path, text: str) -> None:
    assert "not valid YAML" in refused(put(tmp_path, "a.yaml", text)).message


@pytest.mark.usefixtures("small_limit")
def test_large_yaml_that_is_nested_without_end(tmp_path: Path) -> None:
    failure = refused(put(tmp_path, "a.yaml", "kind: Pod\nspec: " + "[" * 100_000))
    assert "nested more than 100 levels deep" in failure.message
    assert failure.problems[0].place.line == 2


@pytest.mark.usefixtures("small_limit")
def test_large_yaml_that_makes_objects_is_refused(tmp_path: Path) -> None:
    assert "not valid YAML" in refused(put(tmp_path, "a.yaml", "!!python/object/apply:os.system ['true']\n")).message


@pytest.mark.usefixtures("small_limit")
def test_a_bomb_of_aliases_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_VALUES", 100_000)
    lines = ["kind: List", "apiVersion: v1", "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "aliases" in refused(put(tmp_path, "a.yaml", "\n".join(lines))).message


def test_a_bomb_in_a_small_file_is_refused(tmp_path: Path) -> None:
    lines = ["kind: List", "apiVersion: v1", "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    failure = refused(put(tmp_path, "a.yaml", "\n".join(lines)))
    assert [p.code for p in failure.problems] == ["source/too-complex"]


@pytest.mark.usefixtures("small_limit")
def test_a_large_file_that_holds_itself_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_VALUES", 1000)
    assert refused(put(tmp_path, "a.yaml", "apiVersion: v1\nkind: List\nitems: &a [*a]\n")).hint


def test_the_collector_is_as_it_was(tmp_path: Path) -> None:
    path = put(tmp_path, "a.json", listed())
    files.read(path)
    assert gc.isenabled()
    gc.disable()
    try:
        files.read(path)
        assert not gc.isenabled()
    finally:
        gc.enable()
