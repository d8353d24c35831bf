"""Delivery: the values with which the bundle's own chart is installed on a cluster."""

from pilothouse.delivery.derive import derive

__all__ = ["derive"]
