"""Which of the authorities in a cluster's folder signs, and which one lies beside it.

    <keys>/<cluster>/authorities.json   {"signs": "ca-2", "beside": "ca", "stage": "signing"}

Without that file it is `ca` alone. A stage of a rotation is the replacement of this one file, so that a signer that is
killed at any point finds the stage before or the one after.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pilothouse.access.rotation import Stage
from pilothouse.problems import Unavailable

FILE = "authorities.json"
FIRST = "ca"
_NAME = re.compile(r"ca(-[1-9][0-9]{0,5})?")


@dataclass(frozen=True, slots=True)
class Shelf:
    """Names of files without their endings; `beside` is "" at rest."""

    signs: str = FIRST
    beside: str = ""
    stage: Stage = Stage.AT_REST

    @property
    def fresh(self) -> str:
        """A name that neither has."""
        _, _, number = self.signs.partition("-")
        return f"{FIRST}-{int(number or 1) + 1}"

    def text(self) -> str:
        return json.dumps({"signs": self.signs, "beside": self.beside, "stage": self.stage.value}) + "\n"


def read(folder: Path) -> Shelf:
    """The shelf of a cluster's folder. `Unavailable` where the file cannot be used: nothing is signed by guess."""
    path = folder / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        found = Shelf(data["signs"], data["beside"], Stage(data["stage"]))
    except FileNotFoundError:
        return Shelf()
    except OSError as failure:
        raise Unavailable(f"{path} cannot be read: {failure.strerror}") from failure
    except (ValueError, KeyError, TypeError) as failure:
        raise Unavailable(f"{path} is damaged", "bring it back from a backup") from failure
    names = [found.signs, *([found.beside] if found.beside else [])]
    if not all(_NAME.fullmatch(str(name)) for name in names):
        raise Unavailable(f"{path} is damaged", "bring it back from a backup")
    if bool(found.beside) == (found.stage is Stage.AT_REST) or found.signs == found.beside:
        raise Unavailable(f"{path} is damaged", "bring it back from a backup")
    return found
