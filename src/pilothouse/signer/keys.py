"""The embedded authorities: one key per cluster, in a folder that nobody else can read.

    <keys>/                 0700
    <keys>/<cluster>/ca.key 0600, PKCS 8
    <keys>/<cluster>/ca.crt 0644
    <keys>/<cluster>/authorities.json  which of several signs (`signer.shelf`), once one was rotated
    <keys>/head             the newest entry of the ledger that this signer wrote

A key is made on first use and never written anew; the public certificates are also published, for API
servers and for whoever verifies.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from pilothouse.access import certificates
from pilothouse.access.certificates import Template
from pilothouse.access.ledger import Head
from pilothouse.access.rotation import FOLLOWS, Stage
from pilothouse.platform.model import Platform
from pilothouse.problems import Conflict, Invalid, Unavailable, one_of
from pilothouse.signer import shelf
from pilothouse.signer.shelf import Shelf
from pilothouse.workflows.issuance import Voucher

NO_VOUCHER = Voucher()


Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


@dataclass(frozen=True, slots=True)
class Held:
    """The authorities of one cluster: which signs, and which lies beside it during a rotation."""

    shelf: Shelf
    signs: Pair = field(repr=False)
    beside: Pair | None = field(default=None, repr=False)

    @property
    def bundle(self) -> tuple[x509.Certificate, ...]:
        """What API servers are to trust. A new one that was only made is in nobody's hands yet."""
        if self.beside is None or self.shelf.stage is Stage.MADE:
            return (self.signs[0],)
        return self.signs[0], self.beside[0]


class EmbeddedAuthorities:
    """The authorities of the declared clusters; `published` is the folder for their public certificates.

    Raises `Unavailable` where the folder cannot be used, or another signer already does.
    """

    def __init__(
        self,
        keys: Path,
        published: Path,
        platform: Callable[[], Platform],
        clock: Callable[[], datetime],
        serial: Callable[[], int],
    ) -> None:
        self._keys = keys
        self._published = published
        self._platform = platform
        self._clock = clock
        self._serial = serial
        self._lock = threading.Lock()
        self._loaded: dict[str, Held] = {}
        _private_folder(keys)
        published.mkdir(parents=True, exist_ok=True)
        self._held = _hold(keys / "lock")

    def close(self) -> None:
        os.close(self._held)

    def certificate(self, cluster: str) -> x509.Certificate:
        """The authority of a cluster, made now if it is declared and has none yet."""
        return self._get(cluster).signs[0]

    def trusted(self, cluster: str) -> tuple[x509.Certificate, ...]:
        """What API servers are to trust: the one that signs, and during a rotation the other one too."""
        return self._get(cluster).bundle

    def sign(self, cluster: str, template: Template, voucher: Voucher = NO_VOUCHER) -> x509.Certificate:
        return certificates.sign(template, *self._get(cluster).signs)

    # ------------------------------------------------------------ rotation

    def held(self, cluster: str) -> Held:
        """How far the rotation of the cluster's authority is."""
        return self._get(cluster)

    def turn(self, cluster: str, to: Stage) -> Held:
        """The next stage, which must be `to` (`Conflict` otherwise). What it replaces is replaced in one step."""
        self._get(cluster)
        name = self._platform().clusters[cluster].authority.common_name or f"pilothouse access {cluster}"
        with self._lock:
            held, folder = self._loaded[cluster], self._keys / cluster
            if FOLLOWS[held.shelf.stage] is not to:
                raise Conflict(f"the authority of {cluster} is {held.shelf.stage}, from where {to} does not follow")
            try:
                turned = self._turned(folder, held, to, f"{name} {self._clock():%Y-%m-%d}")
                if to is Stage.TRUSTED:
                    publish(self._published, cluster, *turned.bundle)
                write(folder / shelf.FILE, turned.shelf.text().encode(), 0o600)
                self._loaded[cluster] = turned
                publish(self._published, cluster, *turned.bundle)
                _sweep(folder, turned.shelf)
            except OSError as failure:
                raise Unavailable(f"the keys of {cluster} cannot be used: {failure.strerror}") from failure
            return turned

    def _turned(self, folder: Path, held: Held, to: Stage, name: str) -> Held:
        now = held.shelf
        if to is Stage.MADE:
            fresh = now.fresh
            return Held(Shelf(now.signs, fresh, to), held.signs, self._make(folder, fresh, name))
        if to is Stage.SIGNING:
            return Held(Shelf(now.beside, now.signs, to), held.beside or held.signs, held.signs)
        if to is Stage.TRUSTED:
            return Held(Shelf(now.signs, now.beside, to), held.signs, held.beside)
        return Held(Shelf(now.signs), held.signs)

    # ------------------------------------------------------------ files

    def _get(self, cluster: str) -> Held:
        clusters = self._platform().clusters
        declared = clusters.get(cluster)
        if declared is None:
            raise Invalid(f"there is no cluster `{cluster}`", one_of(clusters))
        if declared.authority.backend != "embedded":
            raise Unavailable(
                f"the authority of cluster {cluster} is {declared.authority.backend}, not the embedded one",
                "ask there; pilothouse never falls back to another authority",
            )
        held = self._loaded.get(cluster)  # replaced as a whole: threads need not queue for the lock
        if held is not None:
            return held
        with self._lock:
            if cluster not in self._loaded:
                name = declared.authority.common_name or f"pilothouse access {cluster}"
                try:
                    self._loaded[cluster] = self._load(self._keys / cluster, name)
                    publish(self._published, cluster, *self._loaded[cluster].bundle)
                except OSError as failure:
                    raise Unavailable(f"the keys of {cluster} cannot be used: {failure.strerror}") from failure
            return self._loaded[cluster]

    def _load(self, folder: Path, name: str) -> Held:
        if not (folder / shelf.FILE).exists() and not (folder / f"{shelf.FIRST}.key").exists():
            _private_folder(folder)
            return Held(Shelf(), self._make(folder, shelf.FIRST, name))
        found = shelf.read(folder)
        held = Held(found, _pair(folder, found.signs), _pair(folder, found.beside) if found.beside else None)
        _sweep(folder, found)
        return held

    def _make(self, folder: Path, file: str, name: str) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._clock().replace(microsecond=0)
        certificate = certificates.create_authority(name, key, self._serial(), now)
        # The certificate first: an authority is there once its key is.
        write(folder / f"{file}.crt", certificates.pem(certificate).encode(), 0o644)
        write(folder / f"{file}.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        return certificate, key

    def keep_head(self, head: Head) -> None:
        """Keep the newest head beside the keys, where whoever can change the database cannot."""
        try:
            write(self._keys / "head", f"{head}\n".encode(), 0o600, durable=False)
        except OSError as failure:
            raise Unavailable(
                f"the head of the ledger cannot be kept: {failure.strerror}", "is the disk full?"
            ) from failure


def _pair(folder: Path, name: str) -> Pair:
    """An authority as it lies there. `Unavailable` where anything about it is wrong: none is made in its place."""
    key_file, certificate_file = folder / f"{name}.key", folder / f"{name}.crt"
    try:
        if stat.S_IMODE(key_file.stat().st_mode) & 0o077:
            raise Unavailable(
                f"{key_file} can be read by others", f"chmod 600 {key_file}, and think of a new authority"
            )
        key = load_pem_private_key(key_file.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    except (ValueError, TypeError, FileNotFoundError) as failure:
        raise Unavailable(f"{folder} is damaged: {failure}", "bring it back from a backup") from failure
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        raise Unavailable(f"key and certificate in {folder} do not belong together", "bring back a backup")
    return certificate, key


def _sweep(folder: Path, kept: Shelf) -> None:
    """Destroy the keys of authorities that are on the shelf no more: one that was withdrawn, one half made."""
    for key in folder.glob(f"{shelf.FIRST}*.key"):
        if key.stem not in (kept.signs, kept.beside):
            key.unlink()
            key.with_suffix(".crt").unlink(missing_ok=True)


def publish(folder: Path, cluster: str, *bundle: x509.Certificate) -> None:
    """Lay the public certificates that API servers are to trust out, the one that signs first."""
    text = "".join(map(certificates.pem, bundle)).encode()
    path = folder / f"{cluster}.crt"
    if not path.exists() or path.read_bytes() != text:
        write(path, text, 0o644)


def write(path: Path, data: bytes, mode: int, durable: bool = True) -> None:
    """Write a file in one step: it is either the old one or the whole new one, never readable for more than `mode`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as failure:
        raise Unavailable(f"{folder} cannot be used: {failure.strerror}", "check its owner and mode") from failure


def _hold(path: Path) -> int:
    """An exclusive lock for as long as this process lives: two signers would make two authorities."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as failure:
        raise Unavailable(f"{path} cannot be used: {failure.strerror}") from failure
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failure:
        os.close(descriptor)
        raise Unavailable(
            f"another signer already uses {path.parent}", "end it first: one process owns the keys"
        ) from failure
    return descriptor
