"""Calico's label selectors: trees, their text, their evaluation over bit sets, and Kubernetes' selectors as such.

`space` decides questions about all label sets there could be: whether any matches, whether one selector implies
another.
"""

from pilothouse.policies.selectors.kubernetes import from_labels, to_labels
from pilothouse.policies.selectors.parser import (
    MAX_DEPTH,
    MAX_LENGTH,
    SelectorError,
    is_global,
    parse,
    parse_namespaces,
)
from pilothouse.policies.selectors.tree import (
    ALL,
    NOTHING,
    All,
    And,
    Contains,
    EndsWith,
    Equal,
    Has,
    In,
    Index,
    Not,
    NotEqual,
    NotIn,
    Or,
    Selector,
    StartsWith,
    Term,
    all_of,
    any_of,
    negated,
    prefixed,
    select,
)

__all__ = [
    "ALL",
    "MAX_DEPTH",
    "MAX_LENGTH",
    "NOTHING",
    "All",
    "And",
    "Contains",
    "EndsWith",
    "Equal",
    "Has",
    "In",
    "Index",
    "Not",
    "NotEqual",
    "NotIn",
    "Or",
    "Selector",
    "SelectorError",
    "StartsWith",
    "Term",
    "all_of",
    "any_of",
    "from_labels",
    "is_global",
    "negated",
    "parse",
    "parse_namespaces",
    "prefixed",
    "select",
    "to_labels",
]
