"""A token in a file that is its owner's own: never an argument, never in an environment that others may print."""

from __future__ import annotations

import stat
from pathlib import Path

from pilothouse.problems import Invalid, Unavailable

MOST = 1_000


def read_token(path: Path) -> str:
    """The token in the file. `Invalid` where everybody may read it, or it holds none; `Unavailable` where it cannot
    be read."""
    try:
        mode = path.stat().st_mode
        with path.open(encoding="ascii") as file:
            text = file.read(MOST).strip()
    except UnicodeDecodeError as failure:
        raise Invalid(f"{path} holds no token") from failure
    except OSError as failure:
        raise Unavailable(f"the token file {path} cannot be read: {failure.strerror}") from failure
    if stat.S_IMODE(mode) & 0o007:
        raise Invalid(f"{path} can be read by everybody", f"chmod 600 {path}, and get a new token")
    if not text or any(char.isspace() for char in text):
        raise Invalid(f"{path} holds no token", "it is one line, as `pilothouse users add --machine` printed it")
    return text
