"""Unusual activity, scored: each day of a person or workload is held against the days before it.

No weak sign pages by itself: points are added up, and only the sum does. Pure: activities in, alerts with their
evidence and baseline out. The rules are ours, after what public rule sets do (https://github.com/elastic/detection-rules).
"""

from pilothouse.access.unusual.judge import judge
from pilothouse.access.unusual.model import Act, Activity, Alert, Expected, Settings, Signal

__all__ = ["Act", "Activity", "Alert", "Expected", "Settings", "Signal", "judge"]
