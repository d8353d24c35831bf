"""Single questions: may this reach that, at this port, and what is the answer based on."""

from pilothouse.policies.ask.data import as_data
from pilothouse.policies.ask.ends import End, find
from pilothouse.policies.ask.packets import NamedPort, parse
from pilothouse.policies.ask.question import Answer, Pair, Profile, ask, verdict

__all__ = ["Answer", "End", "NamedPort", "Pair", "Profile", "as_data", "ask", "find", "parse", "verdict"]
