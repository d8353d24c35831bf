"""Vault, with the LDAP and Kubernetes login plugins in its catalogue.

In development mode it is unsealed, in memory and forgets everything; `persistent` is a server with a configuration
file and storage on disk, which can be sealed, unsealed and restarted.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import testbed
from support.bed.process import Served, Server, free_port, own_folder
from support.bed.web import request

from pilothouse.platform.model import Endpoint


@dataclass
class Vault(Served):
    """`root_token` is in `token_file` too."""

    folder: Path
    url: str
    root_token: str = field(repr=False)
    token_file: Path
    server: Server
    unseal_key: str = field(default="", repr=False)

    @property
    def endpoint(self) -> Endpoint:
        """With the root token: what sets Vault up."""
        return Endpoint(self.url, str(self.token_file))

    @property
    def engineers_endpoint(self) -> Endpoint:
        """Without a token: what engineers log in at."""
        return Endpoint(self.url)

    def root(self) -> Any:
        """An hvac client with the root token."""
        import hvac

        return hvac.Client(url=self.url, token=self.root_token)

    def mount(self, prefix: str) -> str:
        """A mount path that nobody else uses."""
        return f"{prefix}-{secrets.token_hex(4)}"

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """A request below /v1 with the root token; its JSON or None."""
        headers = {"X-Vault-Token": self.root_token}
        return json.loads(request(f"{self.url}/v1/{path}", method, body, headers, seconds=30) or "null")

    # ------------------------------------------------------------ sealing (persistent ones)

    def seal(self) -> None:
        self.send("PUT", "sys/seal")

    def unseal(self) -> None:
        self.send("PUT", "sys/unseal", {"key": self.unseal_key})
        self._wait_for_leader()

    def restart(self, unseal: bool = True) -> None:
        """Start it anew on the same storage; it is sealed until somebody unseals it."""
        self.server.restart()
        if unseal:
            self.unseal()

    def _wait_for_leader(self) -> None:
        """Raft elects this only node a moment after it was unsealed."""
        deadline = time.monotonic() + 20
        while True:
            try:
                request(f"{self.url}/v1/sys/health")
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def start(persistent: bool = False) -> Vault:
    folder = own_folder("vault")
    token_file = folder / "token"
    token_file.touch(mode=0o600)
    return _persistent(folder, token_file) if persistent else _development(folder, token_file)


def _environment(folder: Path) -> dict[str, str]:
    return {"HOME": str(folder), "VAULT_CLI_NO_COLOR": "1"}


def _development(folder: Path, token_file: Path) -> Vault:
    port, token = free_port(), f"root-{secrets.token_hex(12)}"
    url = f"http://127.0.0.1:{port}"
    token_file.write_text(token, encoding="ascii")
    server = Server(
        "vault",
        [
            testbed.program("vault"),
            "server",
            "-dev",
            "-dev-no-store-token",
            f"-dev-listen-address=127.0.0.1:{port}",
            f"-dev-plugin-dir={_plugins(folder)}",
            "-log-level=info",
        ],
        lambda: request(f"{url}/v1/sys/health"),
        # Its arguments are for everybody to read, its environment is not.
        env=_environment(folder) | {"VAULT_DEV_ROOT_TOKEN_ID": token},
    )
    made = Vault(folder, url, token, token_file, server.start())
    made.send("POST", "sys/audit/file", {"type": "file", "options": {"file_path": str(folder / "audit.log")}})
    return made


def _persistent(folder: Path, token_file: Path) -> Vault:
    port, cluster_port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    plugins = _plugins(folder)
    (folder / "data").mkdir()
    (folder / "vault.json").write_text(
        json.dumps(
            {
                "storage": {"raft": {"path": str(folder / "data"), "node_id": "bed"}},
                "listener": {"tcp": {"address": f"127.0.0.1:{port}", "tls_disable": True}},
                "api_addr": url,
                "cluster_addr": f"http://127.0.0.1:{cluster_port}",
                "disable_mlock": True,
                "plugin_directory": str(plugins),
            }
        ),
        encoding="utf-8",
    )
    server = Server(
        "vault",
        [testbed.program("vault"), "server", f"-config={folder / 'vault.json'}"],
        # Any state of it is an answer: new, sealed or unsealed.
        lambda: request(f"{url}/v1/sys/health?uninitcode=200&sealedcode=200"),
        env=_environment(folder),
    )
    server.start()
    made = json.loads(request(f"{url}/v1/sys/init", "PUT", {"secret_shares": 1, "secret_threshold": 1}, seconds=30))
    token_file.write_text(made["root_token"], encoding="ascii")
    vault = Vault(folder, url, made["root_token"], token_file, server, made["keys_base64"][0])
    vault.unseal()
    for plugin in plugins.iterdir():
        digest = hashlib.sha256(plugin.read_bytes()).hexdigest()
        vault.send("PUT", f"sys/plugins/catalog/auth/{plugin.name}", {"sha256": digest, "command": plugin.name})
    return vault


def _plugins(folder: Path) -> Path:
    """The plugins in a folder of their own: Vault follows no link out of its plugin folder."""
    made = folder / "plugins"
    shutil.copytree(testbed.program("vault-plugins"), made)
    return made
