"""Which format lines are in, told by their field names."""

from __future__ import annotations

import re
from enum import StrEnum

from pilothouse.policies.flows import table


class Format(StrEnum):
    GOLDMANE = "goldmane"
    HUBBLE = "hubble"
    CALICO = "calico"
    """Calico's flow logs."""
    CSV = "csv"


_LOOK_AT = 65_536
_AGGREGATED = re.compile(r'"(?:source|dest)_name_aggr"\s*:')
_TELLING = re.compile(
    r'"(?:(?P<goldmane>Key|source_name|dest_name|sourceName)'
    r"|(?P<hubble>verdict|l4|l7|is_reply|node_status|lost_events|traffic_direction|ethernet))\"\s*:"
)


def detect(first: bytes | str) -> Format | None:
    """The format of what begins like this (a line is enough where one holds a whole record); None if it is none."""
    shown = first[:_LOOK_AT]
    text = shown.decode("utf-8", "replace") if isinstance(shown, bytes) else shown
    text = text.lstrip("\ufeff \t\r\n")
    if text.startswith(("{", "[", "data:", "event:", "id:")):
        if _AGGREGATED.search(text):
            return Format.CALICO
        found = _TELLING.search(text)
        return Format(str(found.lastgroup)) if found else None
    return Format.CSV if table.is_header(text.partition("\n")[0]) else None
