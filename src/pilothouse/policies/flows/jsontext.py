"""JSON values as they stand in files of flows: one record, or many in a list or a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def parsed(text: bytes) -> tuple[Any, str, int, int]:
    """The data; or what is wrong with it, in which line and column (0: not known)."""
    try:
        return json.loads(text.decode("utf-8")), "", 0, 0
    except json.JSONDecodeError as failure:
        return None, f"not valid JSON: {failure.msg}", failure.lineno, failure.colno
    except UnicodeDecodeError as failure:
        return None, f"byte {failure.start} is not UTF-8", 1, 0
    except RecursionError:
        return None, "nested too deeply", 1, 0
    except ValueError:  # a number with thousands of digits
        return None, "not valid JSON: a number is too long", 1, 0


def items(data: Any) -> Iterator[Any]:
    """The records of one JSON value: itself, or those of a list, of a page (`items`, `flows`), or of what Elasticsearch
    answers."""
    waiting = [data]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(reversed(item))
        elif isinstance(item, dict):
            held = _held(item)
            if held is None:
                yield item
            else:
                waiting.append(held)
        else:
            yield item


def _held(item: dict[str, Any]) -> Any:
    for name in ("items", "flows"):
        if isinstance(item.get(name), list):
            return item[name]
    hits = item.get("hits")
    if isinstance(hits, (list, dict)):
        return hits
    return item.get("_source") if isinstance(item.get("_source"), dict) else None
