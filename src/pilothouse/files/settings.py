"""Settings files of the data folder (`DATA/*.yaml`): read and checked the same way, whatever they set."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from pilothouse.problems import Invalid
from pilothouse.source import Source, load

Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(path: Path, model: type[Settings], hint: str = "") -> Settings | None:
    """What the file sets, or None where there is no such file. `Invalid` for a mistake in it; `hint` goes with what
    the model refuses."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as failure:
        raise Invalid(f"{path} cannot be read: {failure}") from failure
    nodes, problems = load(Source(str(path), text))
    if problems:
        raise Invalid(f"{problems[0].place}: {problems[0].message}", problems[0].hint)
    try:
        return model.model_validate(nodes[0].data if nodes else {})
    except ValidationError as failure:
        first = failure.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Invalid(f"{path}: {where + ': ' if where else ''}{first['msg']}", hint) from failure
