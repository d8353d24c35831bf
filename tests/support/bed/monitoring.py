"""Prometheus and Alertmanager, each from a configuration file of the caller's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import testbed
from support.bed.process import Served, Server, free_port, own_folder
from support.bed.web import get_json, request

from pilothouse.platform.model import Endpoint


@dataclass
class Monitor(Served):
    """Either of the two: both answer at `/-/ready` and reload at `/-/reload`."""

    url: str
    config: Path
    server: Server

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.url)

    def get(self, path: str) -> Any:
        return get_json(f"{self.url}{path}")

    def reload(self) -> None:
        """Raises `OSError` with what the server says about a configuration that it does not take."""
        request(f"{self.url}/-/reload", "POST", b"")


def start_prometheus(config: Path, *flags: str, port: int = 0, wait: bool = True) -> Monitor:
    """A Prometheus with that configuration, whose relative paths are the file's. `port` 0 takes any."""
    folder, port = own_folder("prometheus"), port or free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = [
        testbed.program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-lifecycle",
        *flags,
    ]
    server = Server("prometheus", arguments, lambda: request(f"{url}/-/ready"), cwd=config.parent)
    made = Monitor(url, config, server.launch())
    if wait:
        server.wait()
    return made


def start_alertmanager(config: Path, *flags: str, port: int = 0, wait: bool = True) -> Monitor:
    """An Alertmanager alone (no cluster) with that configuration. `port` 0 takes any."""
    folder, port = own_folder("alertmanager"), port or free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = [
        testbed.program("alertmanager"),
        f"--config.file={config}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        *flags,
    ]
    server = Server("alertmanager", arguments, lambda: request(f"{url}/-/ready"), cwd=config.parent)
    made = Monitor(url, config, server.launch())
    if wait:
        server.wait()
    return made
