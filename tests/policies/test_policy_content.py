from __future__ import annotations

import pytest
from support.builders import bundle_content

from pilothouse.inputs import Content
from pilothouse.policies import content
from pilothouse.policies.content import BASELINE, GUARDRAILS


def changed(path: str, old: str, new: str) -> content.PolicyContent:
    text = bundle_content().files[path].text
    assert old in text
    return content.read(bundle_content({path: text.replace(old, new)}))


def test_the_bundle_s_own_content_is_clean() -> None:
    found = content.read(bundle_content())
    assert found.problems == ()
    assert found.baseline is not None
    assert "kube-system" in found.baseline.exempt_namespaces
    assert [str(peer) for peer in found.baseline.dns] == ["cluster DNS"]
    assert found.guardrails is not None
    assert found.guardrails.require_expiry


@pytest.mark.parametrize(
    ("path", "old", "new", "code", "message", "hint"),
    [
        (BASELINE, "exemptNamespaces:", "exemptNamespace:", "unknown-field", "exemptNamespace", "exemptNamespaces"),
        (BASELINE, "  privateRanges:", "  others:", "missing-field", "privateRanges", "add"),
        (BASELINE, "10.0.0.0/8 ", "10.0.0.1/8 ", "bad-value", "host bits", "10.0.0.0/8"),
        (BASELINE, "secrets: [vault]", "secrets: [vautl]", "unknown-system-peer", "vautl", "did you mean `vault`?"),
        (GUARDRAILS, "exposures: [edge]", "exposures: [egde]", "bad-value", "egde", "edge"),
        (GUARDRAILS, "127.0.0.0/8", "169.254.169.254/32", "bad-value", "stands twice", "keep one"),
        (GUARDRAILS, "kind: PolicyGuardrails", "kind: Else\n---\nkind: More", "missing-content", "2 documents", "keep"),
        (GUARDRAILS, "maxDays: 400", "maxDays: [", "yaml-syntax", "not valid YAML", ""),
    ],
)
def test_mistakes_have_a_place(path: str, old: str, new: str, code: str, message: str, hint: str) -> None:
    found = changed(path, old, new)
    problem = found.problems[0]
    assert problem.code.endswith(f"/{code}")
    assert message in problem.message
    assert hint in problem.hint
    assert problem.place.path == path
    assert (found.baseline is None) is (path == BASELINE)
    assert (found.guardrails is None) is (path == GUARDRAILS)


def test_missing_files_are_problems() -> None:
    found = content.read(Content())
    assert [problem.code for problem in found.problems] == ["policies/missing-content"] * 2
    assert found.baseline is None
    assert found.guardrails is None
