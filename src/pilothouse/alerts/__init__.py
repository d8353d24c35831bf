"""Alerts: rules, routing, and who is called."""

from pilothouse.alerts.derive import AlertsDerived, derive, rendered_routing, rules
from pilothouse.alerts.rotation import OnCall, Shift, who

__all__ = ["AlertsDerived", "OnCall", "Shift", "derive", "rendered_routing", "rules", "who"]
