"""Why a connection is allowed or denied: who decides, what nearly did, and the smallest edit that flips it."""

from pilothouse.policies.explain.explanation import Explanation, SideStory, Story, as_data, explain

__all__ = ["Explanation", "SideStory", "Story", "as_data", "explain"]
