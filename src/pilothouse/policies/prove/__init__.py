"""The proof that generated policies say what was declared, and invariants over the whole space."""

from pilothouse.policies.prove.proof import prove

__all__ = ["prove"]
