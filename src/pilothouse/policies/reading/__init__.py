"""Manifests of every kind of network policy as values, with problems where they are not what an API server would take.

`read` takes them together, `policy_of` one by itself, `from_data` those that pilothouse made.
"""

from pilothouse.policies.reading.collect import Reading, from_data, manifest_of, policy_of, read, shown_again

__all__ = ["Reading", "from_data", "manifest_of", "policy_of", "read", "shown_again"]
