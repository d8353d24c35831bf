"""The running system that is attacked: a portal over HTTP and a signer in a process of its own, on embedded
authorities, or with a directory's people and Vault's authority."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import delete
from support.access_portal import USERS
from support.access_values import csr
from support.access_world import CLUSTER, write_platform
from support.portal import Now, make_app
from support.vault_site import PASSWORD, Site
from support.vault_world import declare
from werkzeug.serving import make_server

from pilothouse.clients.signer import SignerClient
from pilothouse.problems import PilothouseError
from pilothouse.store import Store, ledger, users
from pilothouse.store.schema import rate_limits
from pilothouse.workflows import vault_setup
from pilothouse.workflows.rendering import inputs_for, open_platform


@dataclass
class System:
    """`cluster` is the one whose authority is attacked; elevated profiles are had on `dev` in either case."""

    name: str
    address: str
    folder: Path
    store: Store
    cluster: str
    site: Site | None = None
    tokens: dict[str, str] = field(default_factory=dict)
    vault_tokens: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def signer(self) -> SignerClient:
        return SignerClient(self.data / "signer.sock")

    def send(self, method: str, path: str, who: str = "", source: str = "127.0.0.1", **more: Any) -> requests.Response:
        """One request, from that address, with that person's token; redirects are not followed."""
        headers = {"X-Forwarded-For": source} | more.pop("headers", {})
        if who:
            headers["Authorization"] = f"Bearer {self.token(who)}"
        return requests.request(
            method, f"{self.address}{path}", headers=headers, timeout=30, allow_redirects=False, **more
        )

    def token(self, who: str) -> str:
        if who not in self.tokens:
            answer = self.send("POST", "/api/v1/session", json={"user": who, "password": PASSWORD})
            assert answer.status_code == 201, answer.text
            self.tokens[who] = answer.json()["token"]
        return self.tokens[who]

    def vault_token(self, who: str) -> str:
        if self.site is None:
            return ""
        if who not in self.vault_tokens:
            self.vault_tokens[who] = self.site.login(who).token
        return self.vault_tokens[who]

    def browser(self, source: str = "127.0.0.1") -> Browser:
        return Browser(self, source)

    def certificate(self, who: str = "alice", request: str = "", **fields: Any) -> requests.Response:
        body = {
            "profile": "developer",
            "cluster": self.cluster,
            "team": "payments",
            "csr": request or new_csr(),
            "vault_token": self.vault_token(who),
            **fields,
        }
        return self.send("POST", "/api/v1/access/certificates", who, json=body)

    def elevation(self, who: str = "olga", approver: str = "pat") -> str:
        """The id of a new request for cluster-admin on dev, approved where `approver` is given."""
        body = {"profile": "cluster-admin", "cluster": "dev", "reason": "to repair a node"}
        answer = self.send("POST", "/api/v1/access/requests", who, json=body)
        assert answer.status_code == 201, answer.text
        id = str(answer.json()["id"])
        if approver:
            decided = self.send("POST", f"/api/v1/access/requests/{id}/approve", approver, json={})
            assert decided.status_code == 200, decided.text
        return id

    def claim(self, id: str, who: str = "olga") -> requests.Response:
        return self.send("POST", f"/api/v1/access/requests/{id}/claim", who, json={"csr": new_csr()})

    def give_back(self, id: str, who: str = "olga") -> requests.Response:
        return self.send("POST", f"/api/v1/access/give-back/{id}", who)

    def kinds(self) -> list[str]:
        return [item.entry.kind for item in ledger.everything(self.store)]

    def forget_limits(self) -> None:
        with self.store.write() as connection:
            connection.execute(delete(rate_limits))

    def logs(self) -> str:
        """Whole lines of every process."""
        texts = (path.read_text(errors="replace") for path in self.folder.glob("*.log"))
        return "".join(text[: text.rfind("\n") + 1] for text in texts)


class Browser:
    """A session with cookies at the portal."""

    def __init__(self, system: System, source: str) -> None:
        self.system = system
        self.session = requests.Session()
        self.session.headers["X-Forwarded-For"] = source

    def get(self, path: str, **more: Any) -> requests.Response:
        return self.session.get(f"{self.system.address}{path}", timeout=30, allow_redirects=False, **more)

    def form(self, path: str) -> str:
        """The CSRF token of the form on a page."""
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.get(path).text)
        assert found, path
        return found[1]

    def post(self, path: str, form: str = "", **data: str) -> requests.Response:
        """With the token of the page `form`; "" sends none."""
        headers = data.pop("headers", {})
        if form:
            data = {"csrf_token": self.form(form), **data}
        url = f"{self.system.address}{path}"
        return self.session.post(url, data=data, headers=headers, timeout=30, allow_redirects=False)

    def login(self, who: str, password: str = PASSWORD) -> requests.Response:
        return self.post("/login", "/login", user=who, password=password)


def new_csr() -> str:
    return csr(ec.generate_private_key(ec.SECP256R1()))


def leaf(answer: requests.Response) -> x509.Certificate:
    assert answer.status_code == 201, answer.text
    return x509.load_pem_x509_certificate(answer.json()["pem"].encode())


@contextmanager
def embedded(folder: Path) -> Iterator[System]:
    """People of the portal's own, and the embedded authority of dev."""
    root = write_platform(folder / "platform")
    with _running(folder, root, "embedded", "dev", None) as system:
        for name, fields in USERS.items():
            users.add(system.store, name, PASSWORD, datetime.now(UTC), **fields)
        yield system


@contextmanager
def with_vault(folder: Path, site: Site, slapd: Any) -> Iterator[System]:
    """People of a directory, and Vault's authority for a cluster of its own; dev is embedded as well."""
    root = write_platform(folder / "platform")
    path = root / "platform.yaml"
    path.write_text(path.read_text() + CLUSTER.format(name=site.name, n=60, m=100, backend="vault"))
    path.write_text(path.read_text().replace("metadata: {name: vaulted}", "metadata: {name: spare}"))
    path.write_text(path.read_text().replace(f"metadata: {{name: {site.name}}}", "metadata: {name: vaulted}"))
    declare(root, site.url)
    text = path.read_text().replace("metadata: {name: vaulted}", f"metadata: {{name: {site.name}}}")
    head, _, tail = text.rpartition("authority: {backend: vault")
    path.write_text(f"{head}authority: {{backend: vault, login: {site.login_mount}{tail}")
    inputs, _ = inputs_for(open_platform(root), site.name, datetime.now(UTC).date())
    vault_setup.apply(site.root, inputs)
    branch = site.extra["branch"]
    (folder / "data").mkdir(mode=0o700)
    (folder / "data" / "ldap-password").write_text(slapd.admin_password)
    (folder / "data" / "ldap-password").chmod(0o600)
    directory = {
        "servers": [slapd.url],
        "bindDN": slapd.admin_dn,
        "passwordFile": str(folder / "data" / "ldap-password"),
        "users": {"base": branch.people},
        "groups": {"base": branch.groups},
    }
    (folder / "data" / "directory.yaml").write_text(yaml.safe_dump(directory))
    with _running(folder, root, "Vault and slapd", site.name, site) as system:
        yield system


@contextmanager
def _running(folder: Path, root: Path, name: str, cluster: str, site: Site | None) -> Iterator[System]:
    app = make_app(folder, root=root, clock=Now(), trusted_proxies=("127.0.0.0/8",))
    data = folder / "data"
    with (folder / "signer.log").open("wb") as log:
        signer = subprocess.Popen(
            [
                *(sys.executable, "-m", "pilothouse.signer", "--stop-with-stdin"),
                *("--data", str(data), "--platform", str(root)),
            ],
            stdin=subprocess.PIPE,
            stderr=log,
        )
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            store: Store = app.config["STORE"]
            address = f"http://127.0.0.1:{server.server_port}"
            system = System(name, address, folder, store, cluster, site)
            _wait(system, signer)
            yield system
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            assert signer.stdin is not None
            signer.stdin.close()
            signer.wait(timeout=10)


def _wait(system: System, signer: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            system.signer.ping()
            return
        except PilothouseError:
            assert signer.poll() is None, system.logs()
            assert time.monotonic() < end, "the signer does not come up"
            time.sleep(0.02)
