"""The embedded authorities: one key per cluster, in a folder that nobody else can read.

    <keys>/                 0700
    <keys>/<cluster>/ca.key 0600, PKCS 8
    <keys>/<cluster>/ca.crt 0644
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
from pilothouse.platform.model import Platform
from pilothouse.problems import Invalid, Unavailable, one_of
from pilothouse.workflows.issuance import Voucher

NO_VOUCHER = Voucher()


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
        self._loaded: dict[str, tuple[x509.Certificate, ec.EllipticCurvePrivateKey]] = {}
        _private_folder(keys)
        published.mkdir(parents=True, exist_ok=True)
        self._held = _hold(keys / "lock")

    def close(self) -> None:
        os.close(self._held)

    def certificate(self, cluster: str) -> x509.Certificate:
        """The authority of a cluster, made now if it is declared and has none yet."""
        return self._get(cluster)[0]

    def sign(self, cluster: str, template: Template, voucher: Voucher = NO_VOUCHER) -> x509.Certificate:
        return certificates.sign(template, *self._get(cluster))

    def _get(self, cluster: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        declared = self._platform().clusters.get(cluster)
        if declared is None:
            raise Invalid(f"there is no cluster `{cluster}`", one_of(self._platform().clusters))
        if declared.authority.backend != "embedded":
            raise Unavailable(
                f"the authority of cluster {cluster} is {declared.authority.backend}, not the embedded one",
                "ask there; pilothouse never falls back to another authority",
            )
        with self._lock:
            if cluster not in self._loaded:
                name = declared.authority.common_name or f"pilothouse access {cluster}"
                try:
                    self._loaded[cluster] = self._load(cluster) or self._make(cluster, name)
                    self._publish(cluster, self._loaded[cluster][0])
                except OSError as failure:
                    raise Unavailable(f"the keys of {cluster} cannot be used: {failure.strerror}") from failure
            return self._loaded[cluster]

    def _load(self, cluster: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
        folder = self._keys / cluster
        key_file, certificate_file = folder / "ca.key", folder / "ca.crt"
        if not key_file.exists():
            return None
        if stat.S_IMODE(key_file.stat().st_mode) & 0o077:
            raise Unavailable(
                f"{key_file} can be read by others", f"chmod 600 {key_file}, and think of a new authority"
            )
        try:
            key = load_pem_private_key(key_file.read_bytes(), None)
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        except (ValueError, TypeError, FileNotFoundError) as failure:
            raise Unavailable(f"{folder} is damaged: {failure}", "bring it back from a backup") from failure
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise Unavailable(f"key and certificate in {folder} do not belong together", "bring back a backup")
        return certificate, key

    def _make(self, cluster: str, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        folder = self._keys / cluster
        _private_folder(folder)
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._clock().replace(microsecond=0)
        certificate = certificates.create_authority(name, key, self._serial(), now)
        # The certificate first: an authority is there once its key is.
        write(folder / "ca.crt", certificates.pem(certificate).encode(), 0o644)
        write(folder / "ca.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        return certificate, key

    def _publish(self, cluster: str, certificate: x509.Certificate) -> None:
        publish(self._published, cluster, certificate)

    def keep_head(self, head: Head) -> None:
        """Keep the newest head beside the keys, where whoever can change the database cannot."""
        try:
            write(self._keys / "head", f"{head}\n".encode(), 0o600, durable=False)
        except OSError as failure:
            raise Unavailable(
                f"the head of the ledger cannot be kept: {failure.strerror}", "is the disk full?"
            ) from failure


def publish(folder: Path, cluster: str, certificate: x509.Certificate) -> None:
    """Lay the public certificate of an authority out, for API servers and for whoever verifies."""
    text = certificates.pem(certificate).encode()
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
