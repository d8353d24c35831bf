"""Alertmanager's own tool and our walk must name the same receivers, in the same order."""

from __future__ import annotations

import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest

from pilothouse import alerts
from pilothouse.alerts.routing.model import Matcher, MatchOp, Route, Routing
from pilothouse.alerts.routing.parse import parse
from pilothouse.alerts.routing.regex import compile_pattern
from pilothouse.alerts.routing.walk import matching, root_settings
from pilothouse.artifacts.write import serialise
from pilothouse.files import platform as platform_files
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Snapshot
from pilothouse.source import Source

pytestmark = pytest.mark.real

AWKWARD = r"""
route:
  receiver: root
  group_by: [alertname]
  routes:
    - match: {service: files}
      receiver: files
      continue: true
    - match_re: {service: 'mysql|cassandra|db-[0-9]+'}
      receiver: database
      routes:
        - matchers: ['severity =~ "page|tick.*"', team!="risk"]
          receiver: database-loud
        - matchers: [{}]
          receiver: database-all
          continue: true
    - matchers: ['{team=~"(pay|risk).*", severity!~"info|"}']
      continue: true
      routes:
        - matchers: [env="prod"]
          receiver: prod
          continue: true
        - matchers: ['env=~".+"']
          receiver: any-env
    - matchers: ['env!="prod"', 'team=""']
      receiver: nobody
    - matchers: ['service=~"(?i)FILES|x{2,3}"', "env=~'dev'"]
      receiver: odd
    - matchers: ['team=~"^risk$"']
      receiver: anchored
receivers: [{name: root}, {name: files}, {name: database}, {name: database-loud}, {name: database-all}, {name: prod},
  {name: any-env}, {name: nobody}, {name: odd}, {name: anchored}]
""".replace("[{}]", "['{}']")

VALUES = {
    "team": ["payments", "risk", "riskier", "accounts", "platform", "channels", ""],
    "severity": ["page", "ticket", "info", "critical", ""],
    "service": ["files", "FILES", "mysql", "db-12", "db-x", "xx", "payments", ""],
    "env": ["prod", "dev", ""],
    "alertname": ["Watchdog", "ReplicasBelow", "NodeNotReady", ""],
    "namespace": ["payments", "kube-system", ""],
}


def label_sets(count: int) -> list[dict[str, str]]:
    """Seeded, so that a failure can be repeated."""
    chance = random.Random(20261121)
    return [
        {name: value for name in VALUES if (value := chance.choice(VALUES[name])) and chance.random() < 0.9}
        for _ in range(count)
    ]


def ours(routing: Routing, labels: dict[str, str]) -> list[str]:
    found = []
    for route in matching(routing.route, labels):
        settings = root_settings(routing)
        for key in _keys(route):
            node = routing.find(key)
            assert node is not None
            settings = settings.under(node)
        found.append(settings.receiver)
    return found


def _keys(route: Route) -> list[str]:
    parts = route.key.split(".") if route.key else []
    return [".".join(parts[: index + 1]) for index in range(len(parts))]


def theirs(amtool: Path, config: Path, labels: dict[str, str]) -> list[str]:
    words = [str(Matcher(name, MatchOp.EQUAL, value)) for name, value in labels.items()]
    done = subprocess.run(
        [str(amtool), "config", "routes", "test", f"--config.file={config}", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1].split(",")  # it warns about old spellings in the lines before


def compare(amtool: Path, config: Path, sets: list[dict[str, str]]) -> None:
    routing, problems = parse(Source(str(config), config.read_text(encoding="utf-8")))
    assert routing is not None, problems
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda labels: theirs(amtool, config, labels), sets))
    differing = [(labels, ours(routing, labels), said) for labels, said in zip(sets, answers, strict=True)]
    assert [item for item in differing if item[1] != item[2]] == []
    assert len({tuple(said) for said in answers}) > 3, "the label sets reach only a few of the routes"


def test_the_banks_tree(amtool: Path, root: Path, tmp_path: Path) -> None:
    loaded = platform_files.load(root / "examples" / "bank")
    for cluster in loaded.platform.clusters.values():
        inputs = Inputs(loaded.platform, cluster, Snapshot(), loaded.content, date(2026, 11, 21))
        derived = alerts.derive(inputs)
        for document in derived.artifacts:
            path = tmp_path / cluster.name / document.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(serialise(document))
    compare(amtool, tmp_path / "prod" / "alertmanager" / "alertmanager.yaml", label_sets(500))


def test_an_awkward_tree(amtool: Path, tmp_path: Path) -> None:
    config = tmp_path / "alertmanager.yml"
    config.write_text(AWKWARD, encoding="utf-8")
    compare(amtool, config, label_sets(300))


PATTERNS = [
    *("a|b|", ".*", ".+", "a.c", "[a-c]+", "[^a-c]+", r"\d{2,3}", r"\w+", r"\s*x", "(?i)abc", "a(?i)b|c", "(?i:a)b"),
    *(r"\Qa.b\E", "^a$", "a$|b", r"\bab\b", "[[:alpha:]]+", r"[\d_-]+", "(ab)*", "(?P<n>a)b?", r"a{2}", r"x{,2}"),
    *(r"\pL+", r"\.", r"a\nb", "(?s)a.b", "[a-]", "[]a]", "((a|b)*c)+", "é+", "(?m)^a$", r"\x41", r"[\x41-C]"),
]
TEXTS = [
    "a",
    "b",
    "abc",
    "ABC",
    "aBc",
    "12",
    "123",
    "1234",
    "a.b",
    "axb",
    "ab",
    "aab",
    "abab",
    "x",
    " x",
    "_-1",
    "é",
    "éé",
    "a\nb",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_expressions(amtool: Path, tmp_path: Path, pattern: str) -> None:
    """Every expression as a matcher, against every text, asked in one tree of two receivers."""
    matcher = Matcher("l", MatchOp.REGEX, pattern)
    quoted = str(matcher).replace("'", "''")
    config = tmp_path / "alertmanager.yml"
    config.write_text(
        f"route:\n  receiver: out\n  routes: [{{receiver: in, matchers: ['{quoted}']}}]\n"
        "receivers: [{name: out}, {name: in}]\n",
        encoding="utf-8",
    )
    texts = [text for text in TEXTS if "\n" not in text]
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda text: theirs(amtool, config, {"l": text}) == ["in"], texts))
    assert [(text, compile_pattern(pattern).fullmatch(text)) for text in texts] == list(zip(texts, said, strict=True))
