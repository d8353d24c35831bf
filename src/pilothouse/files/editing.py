"""Write one text file in place: either the old text or the new one is there, never a part."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pilothouse.problems import Unavailable


def replace_text(path: Path, text: str) -> None:
    """Replace the text of a file; its mode stays. `Unavailable` where it cannot be written, and is as it was."""
    path = path.resolve()  # a link stays a link
    try:
        mode = path.stat().st_mode & 0o7777 if path.exists() else 0o644
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(aside, mode)  # noqa: PTH101  # a name of ours, as mkstemp gave it
            os.replace(aside, path)  # noqa: PTH105
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    except OSError as failure:
        raise Unavailable(
            f"{path} cannot be written: {failure.strerror or failure}", "it is as it was; see its rights and the disk"
        ) from failure
