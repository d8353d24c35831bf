"""Access and secrets: which certificate maps to which RBAC, who may do what, and what Vault holds.

Pure: no sockets, files, clock or randomness. `derive` is what the bundle calls; issuance
(`csr`, `certificates`, `grants`, `ledger`) is called by `workflows` and the signer.
"""

from pilothouse.access.derive import derive

__all__ = ["derive"]
