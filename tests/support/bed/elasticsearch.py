"""Elasticsearch with its core modules: templates, mappings, bulk, data streams, thread pools and security are real.

Lifecycle management, ingest pipelines and the API of data streams (`_data_stream`) are not there.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import testbed
from support.bed import security_index
from support.bed.process import Served, Server, folder, free_port, own, own_folder, run_unprivileged
from support.bed.web import request

from pilothouse.platform.model import Endpoint

ELASTIC = "elastic"


@dataclass
class Elasticsearch(Served):
    """`password` of the user `elastic` and its `password_file` where security is on, else empty."""

    url: str
    server: Server
    password: str = field(default="", repr=False)
    password_file: Path | None = None

    @property
    def endpoint(self) -> Endpoint:
        if self.password_file is None:
            return Endpoint(self.url)
        return Endpoint(self.url, str(self.password_file), user=ELASTIC)

    def prefix(self, word: str = "test") -> str:
        """A prefix of index and template names that nobody else uses."""
        return f"{word}-{secrets.token_hex(4)}"

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """A request as the administrator; its JSON or None. Raises `OSError` with the server's reason."""
        headers = {}
        if self.password:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{ELASTIC}:{self.password}".encode()).decode()
        return json.loads(request(f"{self.url}{path}", method, body, headers, seconds=30) or "null")


def start(heap: str = "512m", security: bool = False, settings: dict[str, Any] | None = None) -> Elasticsearch:
    """A single node. `settings` are added to elasticsearch.yml."""
    home, made, port, transport = _home(), own_folder("elasticsearch"), free_port(), free_port()
    config = made / "config"
    shutil.copytree(home / "config", config)
    for name in ("data", "logs", "tmp"):
        (made / name).mkdir()
    values = {
        "cluster.name": made.name,
        "discovery.type": "single-node",
        "network.host": "127.0.0.1",
        "http.port": port,
        "transport.port": transport,
        "path.data": str(made / "data"),
        "path.logs": str(made / "logs"),
        "xpack.security.enabled": security,
        # A small machine's disk is no reason to refuse a document.
        "cluster.routing.allocation.disk.threshold_enabled": False,
    }
    if security:
        values |= {"xpack.security.http.ssl.enabled": False, "xpack.security.transport.ssl.enabled": False}
    # JSON is YAML, and quotes itself.
    (config / "elasticsearch.yml").write_text(json.dumps(values | (settings or {})), encoding="utf-8")
    own(made)
    env = {
        "ES_HOME": str(home),
        "ES_PATH_CONF": str(config),
        "ES_JAVA_HOME": str(testbed.obtain().java_home()),
        "ES_JAVA_OPTS": f"-Xms{heap} -Xmx{heap}",
        "ES_TMPDIR": str(made / "tmp"),
        # The launcher is a second Java, which only waits.
        "CLI_JAVA_OPTS": "-Xmx32m -XX:+UseSerialGC",
        "HOME": str(made),
    }
    password, password_file = "", None
    if security:
        password, password_file = secrets.token_hex(12), folder() / f"{made.name}.password"
        password_file.touch(mode=0o600)
        password_file.write_text(password, encoding="ascii")
        tool = home / "bin" / "elasticsearch-keystore"
        run_unprivileged("elasticsearch", [tool, "create"], env=env)
        run_unprivileged("elasticsearch", [tool, "add", "-x", "bootstrap.password"], stdin=password, env=env)
    url = f"http://127.0.0.1:{port}"

    def ready() -> None:
        result.send("GET", "/_cluster/health?wait_for_status=yellow&timeout=2s")

    server = Server(
        "elasticsearch",
        [home / "bin" / "elasticsearch"],
        ready,
        env=env,
        cwd=made,
        unprivileged=True,
        ready_seconds=300,
    )
    result = Elasticsearch(url, server, password, password_file)
    server.start()
    return result


def _home() -> Path:
    """The program where nobody can read it too, once per run: a cache below /root is closed to it."""
    home = folder() / "elasticsearch"
    if not home.exists():
        aside = folder() / ".elasticsearch"
        shutil.copytree(testbed.program("elasticsearch"), aside)
        security_index.install(aside, testbed.obtain().manifest()["elasticsearch"]["version"])
        aside.rename(home)
    return home
