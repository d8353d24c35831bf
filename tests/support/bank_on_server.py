"""A portal with its signer beside a real API server that trusts its authority: what certificates are good for."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support.access_values import csr, key
from support.bed.kubernetes import KubeApi
from support.portal import bearer

PODS = "/api/v1/namespaces/payments/pods"


@dataclass
class BankOnServer:
    """Certificates are those of `developer` on dev; their files lie in `folder`."""

    folder: Path
    app: Any
    api: KubeApi

    def post(self, name: str, path: str, status: int, **body: Any) -> Any:
        """What the access API answers that person; fails where it answers another status."""
        response = self.app.test_client().bare_post(f"/api/v1/access{path}", json=body, headers=bearer(self.app, name))
        assert response.status_code == status, response.get_data(as_text=True)
        return response.json

    def certificate(self, person: str, name: str) -> tuple[dict[str, Any], Path]:
        """What was issued, and the file of a key of its own and the certificate."""
        made = key(name)
        found = self.post(person, "/certificates", 201, profile="developer", cluster="dev", csr=csr(made))
        path = self.folder / f"{name}.pem"
        path.touch(mode=0o600)
        private = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(private + found["pem"].encode())
        return found, path

    def ask(self, pem: Path, path: str = PODS) -> tuple[int, str]:
        """(status, text) of the API server's answer to who holds that file; a connection of its own for each."""
        context = ssl.create_default_context(cafile=self.api.ca_file)
        context.load_cert_chain(pem)
        host, port = self.api.url.removeprefix("https://").split(":")
        connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def status(self, pem: Path, path: str = PODS) -> int:
        return self.ask(pem, path)[0]
