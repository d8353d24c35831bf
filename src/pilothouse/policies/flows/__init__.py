"""Observed flows: what was seen on the wire, read from the forms in which flows are kept.

`read` turns lines into distinct connections with counts; `model` says what a flow is here, whoever observed it.
"""

from pilothouse.policies.flows.forms import Format, detect
from pilothouse.policies.flows.model import EndKind, Flow, FlowEnd, Observed, PolicyHit
from pilothouse.policies.flows.read import Reading, read

__all__ = ["EndKind", "Flow", "FlowEnd", "Format", "Observed", "PolicyHit", "Reading", "detect", "read"]
