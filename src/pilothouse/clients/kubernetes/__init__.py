"""An API server: what runs there, read as a snapshot, and what is ours, applied.

Third-party exceptions end here. The kubernetes package (extra `[live]`) is imported where a kubeconfig is read.
"""

from pilothouse.clients.kubernetes.api import Api, Clashing, FieldConflict
from pilothouse.clients.kubernetes.connect import connect, to_context, to_endpoint
from pilothouse.clients.kubernetes.lease import Lease, LeaseLost
from pilothouse.clients.kubernetes.reading import read_cluster, snapshot
from pilothouse.clients.kubernetes.transport import Answered, Clash, Failing, Forbidden, Rejected, Transport

__all__ = [
    "Answered",
    "Api",
    "Clash",
    "Clashing",
    "Failing",
    "FieldConflict",
    "Forbidden",
    "Lease",
    "LeaseLost",
    "Rejected",
    "Transport",
    "connect",
    "read_cluster",
    "snapshot",
    "to_context",
    "to_endpoint",
]
