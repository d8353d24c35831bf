"""What every alert of ours carries, whoever declared it: identity in labels, words in annotations."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from pilothouse.alerts.content import Defaults
from pilothouse.alerts.totals import needs_all_leaves
from pilothouse.platform.model import AlertSeverity, Cluster

IDENTITY = ("team", "severity", "cluster", "namespace", "service")
NEEDS, ALL_LEAVES = "needs", "all-leaves"
"""The label of an alert that a missing leaf alone could make fire; an inhibition holds it back meanwhile."""


def lowered(severity: AlertSeverity, cluster: Cluster) -> AlertSeverity:
    """The severity, no louder than the cluster's ceiling."""
    return min(severity, cluster.max_severity, key=lambda item: item.loudness)


def identity(
    team: str, severity: AlertSeverity, cluster: Cluster, namespace: str = "", service: str = ""
) -> dict[str, str]:
    """The labels, without those that the alert does not have."""
    values = (team, lowered(severity, cluster).value, cluster.name, namespace, service)
    return {name: value for name, value in zip(IDENTITY, values, strict=True) if value}


def needs(expr: str) -> dict[str, str]:
    """`needs="all-leaves"` where it applies. `expr` is PromQL that was checked."""
    return {NEEDS: ALL_LEAVES} if needs_all_leaves(expr) else {}


def explain_url(portal_url: str, alert: str, labels: Mapping[str, str]) -> str:
    """The routing page with this alert's labels filled in."""
    text = " ".join(f"{name}={value}" for name, value in {"alertname": alert, **labels}.items())
    return f"{portal_url}/alerts?cluster={quote(labels.get('cluster', ''), safe='')}&labels={quote(text, safe='')}"


def words(
    defaults: Defaults, alert: str, labels: Mapping[str, str], summary: str, description: str, runbook: str
) -> dict[str, str]:
    """`runbook` is a full address, or the name of one of the bundle's runbooks."""
    url = runbook if "://" in runbook else defaults.links.runbook(runbook)
    return {
        "summary": summary,
        "description": description,
        "runbook_url": url,
        "explain_url": explain_url(defaults.links.portal, alert, labels),
    }
