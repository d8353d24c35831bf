"""Every table case: what the specifications say of given packets, item by item of the checklist (1 to 30)."""

from __future__ import annotations

from policies.table_calico import TIERS
from policies.table_calico_matches import MATCHES
from policies.table_calico_selectors import SELECTORS
from policies.table_case import Case, Probe
from policies.table_kubernetes import KUBERNETES

__all__ = ["CASES", "Case", "Probe"]

CASES: list[Case] = [*KUBERNETES, *TIERS, *SELECTORS, *MATCHES]
