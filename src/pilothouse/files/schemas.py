"""The JSON Schemas as files, for editors."""

from __future__ import annotations

import json
from pathlib import Path

from pilothouse.platform.schema import file_name, json_schemas
from pilothouse.problems import Unavailable


def schema_files() -> dict[str, str]:
    """Every schema's text by file name."""
    return {file_name(kind): json.dumps(schema, indent=2) + "\n" for kind, schema in json_schemas().items()}


def write_schemas(folder: Path) -> tuple[Path, ...]:
    """Write them into a folder, which is made if need be; returns the files that changed."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in schema_files().items():
            path = folder / name
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
                written.append(path)
    except OSError as failure:
        raise Unavailable(
            f"{folder} cannot be written: {failure.strerror or failure}", "check the path and its rights"
        ) from failure
    return tuple(written)
