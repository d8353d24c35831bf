"""A small platform for proposals: two teams whose services talk to each other, and the platform team."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from pilothouse.workflows.rendering import Opened, open_platform

TODAY = date(2026, 11, 21)

CLUSTER = """\
apiVersion: pilothouse.dev/v1
kind: Cluster
metadata: {name: %s}
spec:
  environment: %s
  podCIDRs: [10.40.0.0/16]
  serviceCIDRs: [10.50.0.0/16]
  nodeCIDRs: [10.60.0.0/24]
  versions: {kubernetes: "1.34"}
  enforcement: {default: enforced}
"""
TEAM = """\
apiVersion: pilothouse.dev/v1
kind: Team
metadata: {name: %s}
spec:
  members: [{user: %s-one}, {user: %s-two}, {user: %s-three}]
  approvers: [%s-one, %s-two]
  receivers: [{severity: page, email: %s@bank.example}, {severity: ticket, email: %s@bank.example}]
"""


def service(key: str, team: str, rest: str = "", kind: str = "Service") -> str:
    namespace, name = key.split("/")
    return (
        f"apiVersion: pilothouse.dev/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n"
        f"  team: {team}\n  podSelector: {{matchLabels: {{app: {name}}}}}\n"
        "  ports: [{name: http, containerPort: 8080}, {name: grpc, containerPort: 9090}]\n" + rest
    )


LISTING = "  ingress:\n    - {from: {service: shop/cart}, ports: [http]}\n"
FILES = {
    "clusters.yaml": CLUSTER % ("dev", "dev") + "---\n" + CLUSTER % ("prod", "prod"),
    "teams.yaml": "---\n".join(
        [*(TEAM % ((name,) * 8) for name in ("shop", "money")), TEAM % (("infra",) * 8) + "  platform: true\n"]
    ),
    "cart.yaml": service("shop/cart", "shop", "  egress:\n    - {to: {service: money/ledger}, ports: [http]}\n"),
    "web.yaml": service("shop/web", "shop"),
    "ledger.yaml": service("money/ledger", "money", "  sensitivity: high\n" + LISTING),
    "rates.yaml": service("money/rates", "money"),
    "quotes.yaml": service("money/quotes", "money", "  ingress: []\n"),
}


def write(folder: Path, changes: Mapping[str, str] | None = None) -> Opened:
    """The platform in that folder, with other texts of some files (by name, without `.yaml`); it has no errors."""
    for name, text in {**FILES, **{f"{name}.yaml": text for name, text in (changes or {}).items()}}.items():
        (folder / name).write_text(text)
    opened = open_platform(folder)
    assert [problem.message for problem in opened.problems if problem.severity == "error"] == []
    return opened
