"""Files of certificate authorities, as they may be handed on: certificates alone, whatever else the file holds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pilothouse.problems import Invalid, Unavailable

MOST = 1_000_000
"""Bytes; more than the authorities of a whole operating system."""


def read_authorities(path: str) -> str:
    """The certificates of a PEM file, in PEM. A path that is declared by mistake (a token, a key) tells nothing.

    `Unavailable` where the file cannot be read, `Invalid` where it holds no certificate; the message names the file.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    data = _read(path)
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError as failure:
        raise Invalid(f"{path} holds no certificate in PEM") from failure
    return "".join(item.public_bytes(Encoding.PEM).decode("ascii") for item in found)


def _read(path: str) -> bytes:
    try:
        # Without waiting: what is no plain file might never answer.
        descriptor = os.open(Path(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Invalid(f"{path} is no plain file")
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(MOST + 1)
        finally:
            os.close(descriptor)
    except OSError as failure:
        raise Unavailable(f"{path} cannot be read: {failure.strerror}") from failure
    if len(data) > MOST:
        raise Invalid(f"{path} is too large for a file of certificates")
    return data
