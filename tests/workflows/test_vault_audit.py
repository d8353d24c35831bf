"""Audit devices, and how far an engineer's token reaches; the same tests on the stand-in and on the real server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.builders import bundle_content
from support.vault_site import Site, site_of

from pilothouse.problems import Denied, Invalid, Problem, Severity
from pilothouse.workflows import vault_audit, vault_setup

SETTINGS = "secrets/vault/settings.yaml"


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def site(request: Any) -> Iterator[Site]:
    for made in site_of(request):
        before = set(made.root.read("sys/audit") or {})
        yield made
        for name in set(made.root.read("sys/audit") or {}) - before:
            made.root.delete(f"sys/audit/{name.rstrip('/')}")


def plan(site: Site, devices: str = "", networks: str = "", apply: bool = False) -> vault_setup.Plan:
    """`devices` and `networks` as they stand in the settings, for this cluster."""
    text = bundle_content().files[SETTINGS].text
    text = text.replace("devices: {}", f"devices: {{{site.name}: [{devices}]}}") if devices else text
    text = text.replace("tokenNetworks: {}", f"tokenNetworks: {{{site.name}: [{networks}]}}", 1) if networks else text
    given = replace(site.inputs(), content=bundle_content({SETTINGS: text}))
    return (vault_setup.apply if apply else vault_setup.plan)(site.root, given)


def found(planned: vault_setup.Plan, code: str) -> list[Problem]:
    return [problem for problem in planned.problems if problem.code == f"access/{code}"]


def two(site: Site, tmp_path: Path) -> str:
    return f"{{path: a-{site.name}, file: {tmp_path}/a.log}}, {{path: b-{site.name}, file: stdout}}"


def test_declared_devices_are_enabled_before_all_else(site: Site, tmp_path: Path) -> None:
    declared = two(site, tmp_path)
    planned = plan(site, declared)
    assert [change.path for change in planned.changes[:2]] == [
        f"sys/audit/a-{site.name}",
        f"sys/audit/b-{site.name}",
    ]
    assert not found(planned, "vault-audit-missing")
    plan(site, declared, apply=True)
    there = site.root.read("sys/audit") or {}
    assert there[f"a-{site.name}/"]["options"] == {"file_path": f"{tmp_path}/a.log", "mode": "0600"}
    assert there[f"b-{site.name}/"]["options"] == {"file_path": "stdout"}
    assert plan(site, declared).is_empty
    assert plan(site).is_empty, "what is declared no more is never disabled"


def test_none_or_one_alone_is_said(site: Site, tmp_path: Path) -> None:
    there = len(site.root.read("sys/audit") or {})  # the real one of a test run has one
    problems = [found(plan(site), "vault-audit-missing")]
    problems.append(
        found(plan(site, f"{{path: a-{site.name}, file: {tmp_path}/a.log}}", apply=True), "vault-audit-missing")
    )
    said = [[problem.message for problem in listed] for listed in problems]
    wanted = ["is seen by nobody", "has one audit device", ""][there : there + 2]
    for messages, words in zip(said, wanted, strict=True):
        assert len(messages) == bool(words)
        assert words in " ".join(messages)
    assert all(problem.severity is Severity.WARNING for listed in problems for problem in listed)


def test_a_device_that_writes_elsewhere_is_left_and_said(site: Site, tmp_path: Path) -> None:
    plan(site, two(site, tmp_path), apply=True)
    other = two(site, tmp_path).replace("a.log", "c.log")
    planned = plan(site, other)
    assert planned.is_empty
    (problem,) = found(planned, "vault-audit-differs")
    assert 'file_path is "/' in problem.message
    assert f"vault audit disable a-{site.name}" in problem.hint


def test_where_vault_cannot_write_nothing_else_is_changed(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match=f"the audit device a-{site.name} could not be enabled") as caught:
        plan(site, f"{{path: a-{site.name}, file: {tmp_path}/file/a.log}}", apply=True)
    assert "OpenBao" in caught.value.hint
    assert f"{site.pki}/" not in (site.root.read("sys/mounts") or {})


def test_nothing_is_set_up_where_secrets_are_written_in_the_clear(site: Site, tmp_path: Path) -> None:
    raw = {"type": "file", "options": {"file_path": f"{tmp_path}/raw.log", "log_raw": "true"}}
    site.root.write(f"sys/audit/raw-{site.name}", raw)
    (problem,) = found(plan(site), "vault-audit-raw")
    assert problem.severity is Severity.ERROR
    with pytest.raises(Invalid, match="in the clear"):
        plan(site, apply=True)


def test_who_may_not_see_the_devices_is_told() -> None:
    class Refusing:
        def read(self, path: str) -> dict[str, Any] | None:
            raise Denied(f"the token may not GET {path}")

    cluster = next(iter(Site("x", "http://127.0.0.1:1", *[None] * 5).platform().clusters.values()))  # type: ignore[arg-type]
    changes, (problem,) = vault_audit.look(Refusing(), cluster, {"sys/audit/a": {}})  # type: ignore[arg-type]
    assert (changes, problem.code) == ([], "access/vault-audit-missing")
    assert "sudo" in problem.hint


def test_how_long_and_from_where_a_token_is_good(site: Site) -> None:
    config = f"auth/{site.login_mount}/config"
    held = site.root.read(config) or {}
    kept = {name: value for name, value in held.items() if not name.startswith(("token_", "bindpass"))}
    site.root.write(config, kept | {"token_ttl": 0, "token_explicit_max_ttl": 0, "token_bound_cidrs": []})
    said = " ".join(problem.message for problem in found(plan(site), "vault-login-wide"))
    for word in ("lives longer than an hour", "renewed for longer than 16 h", "is good from anywhere"):
        assert word in said
    limits = {"token_ttl": 3600, "token_explicit_max_ttl": 57600, "token_bound_cidrs": ["127.0.0.0/8"]}
    site.root.write(config, kept | limits)
    assert not found(plan(site), "vault-login-wide")
    assert not found(plan(site, networks="127.0.0.0/8"), "vault-login-wide")
    (problem,) = found(plan(site, networks="10.0.0.0/8"), "vault-login-wide")
    assert "is good from 127.0.0.0/8, not from 10.0.0.0/8" in problem.message
    assert problem.hint.endswith("token_bound_cidrs=10.0.0.0/8")


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("{path: a}", "give either `file` or `syslog`"),
        ("{path: a, file: /x, syslog: AUTH}", "give either `file` or `syslog`"),
        ("{path: a, file: audit.log}", "is no file for an audit log"),
        ("{path: a, file: /x/../y?}", "is no file for an audit log"),
        ("{path: ../a, file: /x}", "path"),
    ],
)
def test_devices_that_do_not_fit(device: str, says: str) -> None:
    from pilothouse.access import content

    text = bundle_content().files[SETTINGS].text.replace("devices: {}", f"devices: {{dev: [{device}]}}")
    read, problems = content.read(bundle_content({SETTINGS: text}))
    assert read is None
    assert says in " ".join(f"{problem.message} {problem.hint}" for problem in problems)
