"""Checks of what decides first: tiers, orders, rules that never decide anything or change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lint_cases import Case, calico, check, everywhere, findings, kubernetes, together

from pilothouse.problems import Severity

DENY_ALL = "ingress: [{action: Deny}]"


def tier(name: str, order: int | None, action: str = "Deny") -> str:
    number = "" if order is None else f"order: {order}, "
    return (
        f"apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: {name}}}\n"
        f"spec: {{{number}defaultAction: {action}}}\n"
    )


def rules(*items: str, more: str = "") -> str:
    return calico(f"{{selector: app == 'web', {more}ingress: [{', '.join(items)}]}}")


FROM_DB = "{action: Allow, source: {selector: app == 'db'}}"
FROM_ALL = "{action: Allow, source: {selector: has(app)}}"
NOT_DB = "{action: Deny, source: {selector: app == 'db'}}"
NARROW = "{from: [{podSelector: {matchLabels: {app: db}}}]}"
WIDE = "{from: [{podSelector: {}}]}"


def twins(first: str, second: str) -> str:
    return together(
        kubernetes(f"{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{first}]}}", "one"),
        kubernetes(f"{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{second}]}}", "two"),
    )


def tied(order_one: int, order_two: int, second: str = NOT_DB) -> str:
    return together(
        calico(f"{{order: {order_one}, selector: app == 'web', ingress: [{FROM_ALL}]}}", "a"),
        calico(f"{{order: {order_two}, selector: app == 'web', ingress: [{second}]}}", "b"),
    )


def tiers(action: str) -> str:
    return together(
        tier("security", 100, action),
        everywhere(f"{{tier: security, selector: app == 'web', ingress: [{NOT_DB}]}}", "security.x"),
        rules(
            "{action: Allow, source: {selector: app == 'gateway', namespaceSelector: all()}}", more="tier: default, "
        ),
    )


def passing(later: str) -> str:
    return together(
        tier("security", 100),
        everywhere("{tier: security, selector: app == 'web', ingress: [{action: Pass}]}", "security.x"),
        later,
    )


CASES = (
    Case("tier-never-reached", tiers("Deny"), "default", tiers("Pass"), says="the tier `security` leaves nothing"),
    Case(
        "shadowed-rule",
        rules("{action: Deny, source: {selector: has(app)}}", FROM_DB, "{action: Allow, protocol: UDP}"),
        FROM_DB,
        rules(FROM_DB, "{action: Deny, source: {selector: has(app)}}", "{action: Allow, protocol: UDP}"),
    ),
    Case(
        "shadowed-policy",
        together(
            calico("{order: 1, selector: app == 'web', ingress: [{action: Deny, source: {selector: has(app)}}]}", "a"),
            calico(f"{{order: 2, selector: app == 'web', ingress: [{FROM_DB}]}}", "b"),
        ),
        "b",
        together(
            calico("{order: 3, selector: app == 'web', ingress: [{action: Deny, source: {selector: has(app)}}]}", "a"),
            calico(f"{{order: 2, selector: app == 'web', ingress: [{FROM_DB}]}}", "b"),
        ),
        says="NetworkPolicy shop/a decides before it",
    ),
    Case(
        "redundant-rule",
        rules(FROM_ALL, FROM_DB),
        FROM_DB,
        rules(FROM_ALL, NOT_DB),
        says="adds nothing to `ingress[0]`",
    ),
    Case(
        "redundant-rule",
        kubernetes(f"{{podSelector: {{}}, ingress: [{NARROW}, {WIDE}]}}"),
        NARROW,
        kubernetes("{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 1}]}, " + NARROW + "]}"),
    ),
    Case(
        "redundant-rule",
        rules(FROM_DB, "{action: Deny}"),
        "{action: Deny}",
        rules("{action: Deny, source: {selector: app == 'db'}}", FROM_ALL),
        Severity.INFO,
        says="denies what is denied anyway",
    ),
    Case(
        "redundant-policy",
        twins(NARROW, WIDE),
        "one",
        twins(NARROW, "{from: [{namespaceSelector: {}}], ports: [{port: 1}]}"),
    ),
    Case("order-tie", tied(5, 5), "5", tied(5, 6), says="has the order 5 as NetworkPolicy shop/a"),
    Case("order-tie", tied(5, 5), "5", tied(5, 5, "{action: Deny, source: {notSelector: has(app)}}")),
    Case(
        "tier-tie",
        together(
            tier("one", 7),
            tier("two", 7),
            everywhere("{tier: one, selector: app == 'web', types: [Ingress]}", "one.x"),
            everywhere("{tier: two, selector: app == 'db', types: [Ingress]}", "two.x"),
        ),
        "7",
        together(
            tier("one", 7),
            tier("two", 8),
            everywhere("{tier: one, selector: app == 'web', types: [Ingress]}", "one.x"),
            everywhere("{tier: two, selector: app == 'db', types: [Ingress]}", "two.x"),
        ),
    ),
    Case(
        "pass-from-last-tier",
        passing(kubernetes("{podSelector: {matchLabels: {app: db}}}")),
        "Pass",
        passing(kubernetes("{podSelector: {matchLabels: {app: web}}}")),
        says="that of a namespace allows",
    ),
    Case(
        "empty-tier",
        tier("security", 100),
        "security",
        together(
            tier("security", 100),
            everywhere("{tier: security, selector: app == 'web', types: [Ingress]}", "security.x"),
        ),
        Severity.INFO,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_found_and_its_near_miss_is_not(tmp_path: Path, case: Case) -> None:
    check(tmp_path, case)


def codes(folder: Path, text: str) -> list[str]:
    return [problem.code.removeprefix("policies/") for problem in findings(folder, text)]


def test_of_two_equal_rules_one_may_go(tmp_path: Path) -> None:
    assert (
        codes(tmp_path, kubernetes(f"{{podSelector: {{}}, ingress: [{NARROW}, {NARROW}]}}")).count("redundant-rule")
        == 1
    )


def test_a_redundant_policy_is_told_once_and_its_rules_are_not(tmp_path: Path) -> None:
    found = codes(tmp_path, twins(NARROW, WIDE))
    assert found.count("redundant-policy") == 1
    assert "redundant-rule" not in found


def test_a_policy_that_alone_isolates_its_pods_is_needed(tmp_path: Path) -> None:
    """Its only rule allows what another policy allows to the others, and yet without it the pod would be open."""
    text = together(
        kubernetes(f"{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{NARROW}]}}", "one"),
        kubernetes(f"{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{WIDE}]}}", "two"),
    )
    assert "redundant-policy" not in codes(tmp_path, text)


def test_policies_of_calico_and_kubernetes_with_one_name_are_two(tmp_path: Path) -> None:
    text = together(
        calico("{order: 1, selector: app == 'web', ingress: [{action: Deny, source: {selector: app == 'db'}}]}"),
        kubernetes(f"{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{WIDE}]}}"),
    )
    found = codes(tmp_path, text)
    assert "shadowed-policy" not in found
    assert "redundant-policy" not in found


def test_another_tier_that_passes_is_no_shadow(tmp_path: Path) -> None:
    found = codes(tmp_path, passing(kubernetes(f"{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{WIDE}]}}")))
    assert not {"shadowed-policy", "shadowed-rule", "tier-never-reached"} & set(found)
