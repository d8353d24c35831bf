"""Look-alikes of a service's secrets in a folder, laid out as in its pods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pilothouse.access.pod import declared
from pilothouse.files import swap
from pilothouse.mounted.layout import dummy_files
from pilothouse.platform.model import Cluster, Service
from pilothouse.problems import Conflict, Invalid

MARK = "dummy"


@dataclass(frozen=True, slots=True)
class Dummy:
    """`declared` says whether the names of the files are those of the declared keys."""

    path: str
    folder: Path
    files: tuple[str, ...]
    declared: bool


def write(service: Service, cluster: Cluster, out: Path) -> tuple[Dummy, ...]:
    """Below `out`, which stands for the root of the pod; the same bytes each time.

    `Invalid` where nothing is declared; `Conflict` where a folder holds what is no dummy, which may be real: nothing is
    written then.
    """
    secrets = declared(service, cluster)
    if not secrets:
        raise Invalid(f"service {service.key} declares no secret for cluster {cluster.name}")
    folders = [out / secret.mount_path.strip("/") for secret in secrets]
    for folder in folders:
        if folder.exists() and any(not is_ours(path) for path in folder.iterdir()):
            raise Conflict(f"{folder} holds files that are no dummies of ours", "choose another folder for --out")
    found = []
    for secret, folder in zip(secrets, folders, strict=True):
        files = dummy_files(secret.path, secret.keys)
        swap.write(folder, files, MARK)
        found.append(Dummy(secret.path, folder, tuple(files), bool(secret.keys)))
    return tuple(found)


def is_ours(path: Path) -> bool:
    """Whether an entry of a folder is one that `write` makes."""
    return path.name.startswith(f"..{MARK}") or (
        path.is_symlink() and str(path.readlink()).startswith((f"..{MARK}", f"{swap.DATA}/"))
    )
