"""A token in a file that is its owner's own: never an argument, never in an environment that others may print."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pilothouse.problems import Invalid, Unavailable

MOST = 1_000


def private_text(path: Path) -> str:
    """The text of a file with a secret. `Invalid` where everybody may read it, or it is no text; `Unavailable` where
    it cannot be read."""
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
    return text


def write_private(path: Path, text: str) -> None:
    """Put a secret into a file of its owner's own (mode 0600), in one step. `Unavailable` where that cannot be."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
        temporary.replace(path)
    except OSError as failure:
        temporary.unlink(missing_ok=True)
        raise Unavailable(
            f"{path} cannot be written: {failure.strerror}", "check the folder and its owner"
        ) from failure


def read_token(path: Path) -> str:
    """The token in the file. `Invalid` where everybody may read it, or it holds none; `Unavailable` where it cannot
    be read."""
    text = private_text(path)
    if not text or any(char.isspace() for char in text):
        raise Invalid(f"{path} holds no token", "it is one line, as `pilothouse users add --machine` printed it")
    return text
