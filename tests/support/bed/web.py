"""A GET that knows nothing of our clients: what the test bed asks servers with."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECONDS = 5.0


def request(
    url: str,
    method: str = "GET",
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    ca: Path | None = None,
    seconds: float = SECONDS,
) -> str:
    """The text of a successful answer; raises `OSError` otherwise."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} if body is not None else {}
    context = ssl.create_default_context(cafile=str(ca)) if ca else None
    asked = urllib.request.Request(url, data=data, method=method, headers={**sent, **(headers or {})})
    try:
        with urllib.request.urlopen(asked, timeout=seconds, context=context) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except urllib.error.HTTPError as failure:
        text = failure.read().decode("utf-8", "replace")[:500]
        raise OSError(f"{method} {url} answered {failure.code}: {text}") from failure


def get_json(url: str, headers: Mapping[str, str] | None = None, ca: Path | None = None) -> Any:
    return json.loads(request(url, headers=headers, ca=ca))
