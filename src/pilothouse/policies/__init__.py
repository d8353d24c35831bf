"""Network policies: from declarations to manifests, with a proof, an effect preview and guardrails.

`edges` says what talks to what and why, `derive` turns that into policies, `evaluate` computes what policies
really allow (it knows nothing of `derive`), `proof` holds the two against each other, `effect` compares
two platforms, and `guardrails` says what a declaration may ask for and who must agree.
"""

from pilothouse.policies.derive import PoliciesDerived, derive
from pilothouse.policies.guardrails import check_guardrails
from pilothouse.policies.proof import prove

__all__ = ["PoliciesDerived", "check_guardrails", "derive", "prove"]
