"""A break-glass profile beside the bundle's own, for the platform of `support.access_world`."""

from __future__ import annotations

from pathlib import Path

DOCUMENT = """\
apiVersion: pilothouse.dev/v1
kind: AccessProfile
metadata: {name: glass}
spec:
  title: Break-glass
  description: Everything, when nobody else can be asked.
  elevated: true
  scope: cluster
  clusterRole: cluster-admin
  breakGlass: {people: [PEOPLE]}
"""
REVIEW = "The directory was down; one node was drained, and that was right."


def declare(root: Path, *people: str) -> None:
    text = DOCUMENT.replace("PEOPLE", ", ".join(people or ("olga", "bob")))
    (root / "glass.yaml").write_text(text, encoding="utf-8")
