"""Metrics and logs: how they are collected, sharded, federated and stored."""

from pilothouse.collectors.derive import derive

__all__ = ["derive"]
