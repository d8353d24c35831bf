"""Lint: what policies say that their authors likely did not mean, each finding with its place and its fix."""

from pilothouse.policies.lint.check import Check
from pilothouse.policies.lint.table import CHECKS, lint

__all__ = ["CHECKS", "Check", "lint"]
