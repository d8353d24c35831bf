"""When the embedded authorities end, read from the public certificates that the signer lays into the data folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import structlog
from cryptography import x509

log = structlog.get_logger(__name__)
FOLDER = "authorities"


def expiries(folder: Path, clusters: Iterable[str]) -> list[tuple[str, float]]:
    """(cluster, Unix time of the end) for each of the clusters that has an authority, sorted."""
    found = []
    for cluster in sorted(clusters):
        try:
            certificate = x509.load_pem_x509_certificate((folder / f"{cluster}.crt").read_bytes())
        except FileNotFoundError:  # nobody has asked for it yet, so none was made
            continue
        except (OSError, ValueError) as failure:
            log.warning("authority not readable", cluster=cluster, reason=str(failure))
            continue
        found.append((cluster, certificate.not_valid_after_utc.timestamp()))
    return found
