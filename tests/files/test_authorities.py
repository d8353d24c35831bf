from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pilothouse.access import certificates
from pilothouse.files import authorities
from pilothouse.problems import Invalid, Unavailable


def test_certificates_alone_are_handed_on(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    moment = datetime(2026, 1, 5, tzinfo=UTC)
    one, two = (certificates.pem(certificates.create_authority(name, key, 7, moment)) for name in ("one", "two"))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    file = tmp_path / "ca.crt"
    file.write_text(f"subject=one\n{one}\n{private}\n{two}")
    assert authorities.read_authorities(str(file)) == one + two
    file.write_text(private)
    with pytest.raises(Invalid, match="holds no certificate in PEM"):
        authorities.read_authorities(str(file))


def test_what_is_no_file_of_certificates_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token, pipe = tmp_path / "token", tmp_path / "pipe"
    token.write_bytes(b"hvs.secret\x00\xff")
    os.mkfifo(pipe)
    with pytest.raises(Invalid) as refused:
        authorities.read_authorities(str(token))
    assert "secret" not in str(refused.value)
    for other in (pipe, tmp_path):
        with pytest.raises(Invalid, match="is no plain file"):
            authorities.read_authorities(str(other))
    with pytest.raises(Unavailable, match="cannot be read: No such file"):
        authorities.read_authorities(str(tmp_path / "none"))
    monkeypatch.setattr(authorities, "MOST", 5)
    with pytest.raises(Invalid, match="is too large"):
        authorities.read_authorities(str(token))
