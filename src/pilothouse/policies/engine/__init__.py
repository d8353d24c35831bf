"""The evaluator of network policies: exact over the whole connection space, for whole clusters or single questions."""

from pilothouse.policies.engine.connections import ALL, NONE, Connections, Packet
from pilothouse.policies.engine.engine import Engine
from pilothouse.policies.engine.reach import Block, Difference, Reach, differences
from pilothouse.policies.engine.universe import Universe, Vocabulary

__all__ = [
    "ALL",
    "NONE",
    "Block",
    "Connections",
    "Difference",
    "Engine",
    "Packet",
    "Reach",
    "Universe",
    "Vocabulary",
    "differences",
]
