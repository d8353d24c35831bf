"""What every component derives from, and the content that people edit.

`Content` is the bundle's top-level folders with a platform folder's own laid over them
file by file; `files.content` reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from pilothouse.inventory.model import Snapshot
from pilothouse.platform.model import Cluster, Network, Platform
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


@dataclass(frozen=True, slots=True)
class SeenAddress:
    """One address that a domain was seen to have. `seen` and `expires` are aware UTC moments."""

    network: Network
    seen: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a domain was seen to be: each address once, IPv4 first, sorted (`policies.domains` makes it)."""

    domain: str
    addresses: tuple[SeenAddress, ...] = ()

    @property
    def networks(self) -> tuple[Network, ...]:
        return tuple(item.network for item in self.addresses)

    @property
    def expires(self) -> datetime | None:
        """When the last of its addresses ends, unless it is seen again."""
        return max((item.expires for item in self.addresses), default=None)


@dataclass(frozen=True)
class Inputs:
    """One cluster's inputs. `today` decides which egress has expired; nothing else reads a clock.

    `resolved` are the domains that a worker resolved, by name, with the addresses that still hold.
    """

    platform: Platform
    cluster: Cluster
    snapshot: Snapshot
    content: Content
    today: date
    resolved: Mapping[str, Resolved] = field(default_factory=dict)

    def domain_addresses(self, domain: str) -> tuple[Network, ...]:
        """What a `domain` peer means here. A pinned domain is what the Cluster document says, whatever DNS answers."""
        if self.is_pinned(domain):
            return self.cluster.domain_addresses[domain]
        found = self.resolved.get(domain)
        return found.networks if found else ()

    def domain_expires(self, domain: str) -> datetime | None:
        """When the last address that was resolved for it ends; None where it is pinned or not known."""
        found = None if self.is_pinned(domain) else self.resolved.get(domain)
        return found.expires if found else None

    def is_pinned(self, domain: str) -> bool:
        return domain in self.cluster.domain_addresses

    @property
    def known_domains(self) -> tuple[str, ...]:
        """Every domain with addresses, pinned or resolved, sorted."""
        return tuple(sorted({*self.cluster.domain_addresses, *self.resolved}))
