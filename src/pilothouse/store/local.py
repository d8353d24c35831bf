"""Small values of one data folder, such as the port that was chosen: they differ between hosts that share a database.

Where the folder has a database of its own they stand in it; else in a file, `serve.json`.
"""

from __future__ import annotations

import json
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from pilothouse.problems import Invalid, Unavailable
from pilothouse.store import settings
from pilothouse.store.database import Store

FILE = "serve.json"


def get(store: Store, folder: Path, key: str, default: Any = None) -> Any:
    """The value (anything JSON can hold), or the default."""
    if store.is_sqlite:
        return settings.get(store, key, default)
    return _read(folder).get(key, default)


def put(store: Store, folder: Path, key: str, value: Any, now: datetime) -> None:
    if store.is_sqlite:
        settings.put(store, key, value, now)
    else:
        write_json(folder / FILE, {**_read(folder), key: value})


def _read(folder: Path) -> dict[str, Any]:
    return read_json(folder / FILE, "remove it: what it holds is asked for again")


def read_json(path: Path, hint: str) -> dict[str, Any]:
    """The mapping in a file of a data folder; empty where there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as failure:
        raise Unavailable(f"cannot read {path}: {failure.strerror}", "check the owner of the data folder") from failure
    except ValueError as failure:
        raise Invalid(f"{path} is damaged", hint) from failure
    if not isinstance(found, dict):
        raise Invalid(f"{path} is damaged", hint)
    return found


def write_json(path: Path, values: dict[str, Any]) -> None:
    """The file anew, whole or not at all, mode 0600."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(values, stream, indent=1, sort_keys=True)
            stream.write("\n")
        Path(temporary).replace(path)
    except OSError as failure:
        raise Unavailable(f"cannot write {path}: {failure.strerror}", "check the owner of the data folder") from failure
