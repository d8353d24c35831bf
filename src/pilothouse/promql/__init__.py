"""PromQL: expressions read, analysed and written; rules and queries as values."""

from pilothouse.promql.analysis import Analysis, Labels, analyse
from pilothouse.promql.duration import format_duration, parse_duration
from pilothouse.promql.model import Query, Rule
from pilothouse.promql.parse import SyntaxFault, check, parse, restrict

__all__ = [
    "Analysis",
    "Labels",
    "Query",
    "Rule",
    "SyntaxFault",
    "analyse",
    "check",
    "format_duration",
    "parse",
    "parse_duration",
    "restrict",
]
