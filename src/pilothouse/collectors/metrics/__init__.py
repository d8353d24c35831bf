"""Prometheus: scrape jobs, leaves and the global, rule placement and federation."""

from pilothouse.collectors.metrics.derive import Plan, derive, plan

__all__ = ["Plan", "derive", "plan"]
