"""Network policies: from declarations to manifests, with a proof, an effect preview and guardrails.

`edges` says what talks to what and why, and `derive` turns that into policies. `reading` makes values of the policies
of anybody, `engine` computes what they really allow (it knows nothing of `derive`), `prove` holds the two against each
other, `compare` compares two states, `explain` says why, `lint` what is doubtful, and `flows` what traffic was seen.
`guardrails` says what a declaration may ask for and who must agree.
"""

from pilothouse.policies.derive import PoliciesDerived, derive
from pilothouse.policies.guardrails import check_guardrails
from pilothouse.policies.prove import prove

__all__ = ["PoliciesDerived", "check_guardrails", "derive", "prove"]
