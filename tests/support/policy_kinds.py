"""Closed schemas of the policy kinds that are not Kubernetes' own: as JSON schemas, and as CustomResourceDefinitions.

One source for both, written from the reference pages that `calico` and `sig_network` name. A kind without a schema
fails the tests, so a new kind begins there.
"""

from __future__ import annotations

from support.policy_schemas import calico, sig_network
from support.policy_schemas.crds import definition, install
from support.policy_schemas.files import folder, json_schema
from support.policy_schemas.words import Kind

CALICO = tuple(calico.GROUPS)
SIG_NETWORK = sig_network.GROUP
KINDS: tuple[Kind, ...] = (*calico.KINDS, *sig_network.KINDS)


def of(*groups: str) -> tuple[Kind, ...]:
    """The kinds of these groups."""
    return tuple(kind for kind in KINDS if kind.group in groups)


__all__ = ["CALICO", "KINDS", "SIG_NETWORK", "Kind", "definition", "folder", "install", "json_schema", "of"]
