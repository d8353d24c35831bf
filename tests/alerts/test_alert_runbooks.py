"""Where alerts lead whoever is called."""

from __future__ import annotations

from pathlib import Path

from support.builders import bundle_content, inputs, service, team

from pilothouse import alerts, dashboards, links
from pilothouse.alerts import content as alerts_content
from pilothouse.alerts import runbooks
from pilothouse.inputs import Content
from pilothouse.platform.model import AlertSeverity, Receiver
from pilothouse.source import Source

TEXT = """# Runbooks

Head.

## Pod stuck

Look *here*.

### Deeper

And there.

## SQL (slow), 2nd ##
x
## Pod stuck
y
"""


def test_sections() -> None:
    found = runbooks.read(Content({runbooks.PATH: Source(runbooks.PATH, TEXT)}))
    assert [(item.name, item.title, item.text) for item in found.values()] == [
        ("pod-stuck", "Pod stuck", "Look *here*.\n\n### Deeper\n\nAnd there."),
        ("sql-slow-2nd", "SQL (slow), 2nd", "x"),
    ]
    assert runbooks.read(Content()) == {}


def test_the_portal_shows_them_unless_they_are_elsewhere() -> None:
    own, problems = links.read(bundle_content())
    assert problems == ()
    assert own is not None
    assert own.runbook("pod-stuck") == "https://pilothouse.example/runbooks/pod-stuck"
    assert own.portal_shows_runbooks
    text = "portalUrl: https://p.example/\nrunbookUrl: 'https://wiki.example/x#{runbook}'"
    other, problems = links.read(bundle_content({links.PATH: text}))
    assert problems == ()
    assert other is not None
    assert other.portal == "https://p.example"
    assert other.runbook("pod-stuck") == "https://wiki.example/x#pod-stuck"
    assert not other.portal_shows_runbooks


def test_one_file_changes_the_links_of_alerts_and_dashboards(root: Path) -> None:
    bank = (root / "examples" / "bank" / links.PATH).read_text(encoding="utf-8")
    teams = [
        team(name, platform=True, receivers=(Receiver(AlertSeverity.PAGE, email="p@bank.example"),)) for name in ["pay"]
    ]
    given = inputs([service("pay/api")], teams=teams, content=bundle_content({links.PATH: bank}))
    rules, boards = alerts.rules(given), dashboards.derive(given).artifacts
    for rule in rules:
        assert rule.annotations["explain_url"].startswith("https://pilothouse.bank.example/alerts?")
        assert rule.annotations["runbook_url"].startswith("https://pilothouse.bank.example/runbooks/")
    texts = [str(document.data) for document in boards]
    assert sum("https://pilothouse.bank.example/catalogue/" in text for text in texts) == len(texts) == 3
    assert not any("https://pilothouse.example" in text for text in texts)


def test_what_leads_nowhere_is_found_where_it_can_be_known() -> None:
    fewer = {runbooks.PATH: "## Watchdog\nx"}
    found = alerts_content.read(bundle_content(fewer)).problems
    assert {problem.code for problem in found} == {"alerts/no-runbook"}
    assert "`replicas-below`, where an alert of a service leads" in " ".join(problem.message for problem in found)
    wiki = {links.PATH: "portalUrl: https://p.example\nrunbookUrl: 'https://wiki.example/{runbook}'"}
    assert alerts_content.read(bundle_content(fewer | wiki)).problems == ()


def test_a_missing_file_of_runbooks() -> None:
    files = {path: source for path, source in bundle_content().files.items() if path != runbooks.PATH}
    assert [problem.code for problem in alerts_content.read(Content(files)).problems] == ["alerts/missing-content"]


def test_a_file_of_links_that_holds_two_mistakes_names_both() -> None:
    text = "portalUrl: p.example\nrunbookUrl: wiki.example"
    found, problems = links.read(bundle_content({links.PATH: text}))
    assert found is None
    assert [(problem.code, problem.place.line) for problem in problems] == [
        ("alerts/bad-value", 1),
        ("alerts/bad-value", 2),
    ]
