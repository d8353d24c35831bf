"""Grafana dashboards from the definitions of `dashboards/`."""

from pilothouse.dashboards.derive import derive
from pilothouse.dashboards.model import Board, DashboardsDerived

__all__ = ["Board", "DashboardsDerived", "derive"]
