"""What every component derives from, and the content that people edit.

`Content` is the bundle's top-level folders with a platform folder's own laid over them
file by file; `files.content` reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

from pilothouse.inventory.model import Snapshot
from pilothouse.platform.model import Cluster, Platform
from pilothouse.source import Source

CONTENT_FOLDERS = ("collectors", "policies", "alerts", "dashboards", "secrets", "helm")


@dataclass(frozen=True)
class Content:
    """Files by relative path, such as `alerts/rules/node.yaml`; each source knows its origin."""

    files: Mapping[str, Source] = field(default_factory=dict)

    def under(self, folder: str, suffix: str = ".yaml") -> Iterator[tuple[str, Source]]:
        """(path, source) of the files below a folder, sorted by path."""
        prefix = folder.rstrip("/") + "/"
        for path in sorted(self.files):
            if path.startswith(prefix) and path.endswith(suffix):
                yield path, self.files[path]

    def get(self, path: str) -> Source | None:
        return self.files.get(path)


@dataclass(frozen=True)
class Inputs:
    """One cluster's inputs. `today` decides which egress has expired; nothing else reads a clock."""

    platform: Platform
    cluster: Cluster
    snapshot: Snapshot
    content: Content
    today: date
