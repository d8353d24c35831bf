"""Processes that end themselves with SIGKILL at one chosen step, and the process that starts them.

The portal and the signer are made by their own code. What is handed in to them (store, authorities, the keeper of the
head, the way to the signer) is wrapped here, and every write to the database is seen through the engine. Nothing of
this is in the product. `Nursery` is a process without threads that has everything imported and forks a child for each
run, which is much faster than an interpreter for each.

A child does nothing out of the ordinary until the file `arm` lies in the data folder: then the next request is
counted step by step, and at step `at` the child is gone. `steps` in the data folder names the steps passed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


class Steps:
    """Counts the steps of one request and ends the process at one of them."""

    def __init__(self, data: Path, at: int) -> None:
        self.data, self.at = data, at
        self.count = 0
        self.armed = False

    def begin(self) -> None:
        if (self.data / "arm").exists():
            (self.data / "arm").unlink()
            self.armed = True
            self("the request was read")

    def end(self) -> None:
        self("the answer is made, and not sent")
        self.armed = False

    def __call__(self, name: str) -> None:
        if not self.armed:
            return
        self.count += 1
        with (self.data / "steps").open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # not reached

    def around(self, name: str, call: Callable[..., Any], after: Callable[[Any], None] | None = None) -> Any:
        """`call` with a step before and after it."""

        def stepped(*arguments: Any, **more: Any) -> Any:
            self(f"before {name}")
            found = call(*arguments, **more)
            if after is not None:
                after(found)
            self(f"after {name}")
            return found

        return stepped

    def watch(self, store: Any) -> None:
        """A step before each statement that writes, and around each commit of such."""
        from sqlalchemy import event

        engine = store._engine
        wrote = {"any": False}

        @event.listens_for(engine, "before_cursor_execute")
        def statement(_c: Any, _cursor: Any, text: str, _parameters: Any, _context: Any, _many: bool) -> None:
            words = text.split()
            if words[0].upper() in ("INSERT", "UPDATE", "DELETE"):
                wrote["any"] = True
                table = next(word for word in words[1:] if word.upper() not in ("INTO", "FROM"))
                self(f"before {words[0].upper()} {table.strip(chr(34))}")

        commit = engine.dialect.do_commit

        def committed(connection: Any) -> None:
            if not wrote["any"]:
                commit(connection)
                return
            wrote["any"] = False
            self("before the commit")
            commit(connection)
            self("after the commit")

        engine.dialect.do_commit = committed


class Signing:
    """Authorities whose signature is a step; each serial is written down at once, as a thief would keep the leaf."""

    def __init__(self, inner: Any, steps: Steps) -> None:
        self.certificate = inner.certificate
        self.sign = steps.around("the signature", inner.sign, lambda leaf: self._keep(leaf.serial_number))
        self._file = steps.data / "signed"

    def _keep(self, serial: int) -> None:
        with self._file.open("a", encoding="ascii") as file:
            file.write(f"{serial}\n")


def signer(data: Path, platform: Path, at: int, database: str) -> None:
    """The signer as `python -m pilothouse.signer` makes it."""
    from pilothouse.signer.__main__ import build
    from pilothouse.store.address import Named

    steps = Steps(data, at)
    server = build(data, platform, None, None, None, Named(file=database) if database else Named())
    issuance = server.issuance
    steps.watch(issuance.store)
    exported = steps.around("the head is kept", issuance.exported)
    server.issuance = replace(issuance, authorities=Signing(issuance.authorities, steps), exported=exported)
    inner = server.answer

    def answer(line: bytes) -> Any:
        if json.loads(line).get("op") != "sign":
            return inner(line)
        steps.begin()
        found = inner(line)
        steps.end()
        return found

    server.answer = answer  # type: ignore[method-assign]
    server.serve_forever(poll_interval=0.05)


def portal(data: Path, platform: Path, at: int, database: str) -> None:
    """The portal, listening at the port that it writes to `port`."""
    from werkzeug.serving import make_server

    from pilothouse.clients.signer import SignerClient
    from pilothouse.portal import Settings, create_app
    from pilothouse.store import Store

    steps = Steps(data, at)
    store = Store(Path(database).read_text() if database else data)
    client: Any = SignerClient(data / "signer.sock")
    client.sign = steps.around("the signer is asked", client.sign)
    settings = Settings(
        data=data,
        platform=platform,
        secret_key=b"only for tests, 32 bytes long...",
        clock=lambda: datetime.now(UTC),
        extra={"signer": client},
    )
    app = create_app(settings, store=store, warm=False)
    inner = app.wsgi_app
    steps.watch(store)

    def stepped(environ: Any, start: Any) -> Any:
        steps.begin()
        found = b"".join(inner(environ, start))
        steps.end()
        return [found]

    app.wsgi_app = stepped  # type: ignore[method-assign]
    server = make_server("127.0.0.1", 0, app, threaded=True)
    (data / "port.new").write_text(str(server.server_port))
    (data / "port.new").replace(data / "port")
    server.serve_forever(poll_interval=0.05)


ROLES = {"signer": signer, "portal": portal}


def main() -> None:
    """Reads one JSON command a line: fork a child, or wait for one."""
    import pilothouse.clients.notify
    import pilothouse.portal
    import pilothouse.signer.__main__
    import pilothouse.store.postgresql
    import pilothouse.workflows.self_test  # noqa: F401  # what the children need, loaded once

    for line in sys.stdin:
        command = json.loads(line)
        if "wait" in command:
            _, status = os.waitpid(command["wait"], 0)
            print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)
            continue
        pid = os.fork()
        if not pid:
            os.umask(0o077)
            os.dup2(2, 1)  # what it logs is not for who reads our answers
            try:
                ROLES[command["role"]](
                    Path(command["data"]), Path(command["platform"]), command["at"], command["database"]
                )
            except BaseException as failure:
                print(f"{command['role']}: {failure!r}", file=sys.stderr, flush=True)
                os._exit(3)
            os._exit(0)
        print(json.dumps({"pid": pid}), flush=True)


class Nursery:
    """Starts children and says how they ended."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from support.kill_steps import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=TESTS,
        )
        self._running: set[int] = set()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def start(self, role: str, data: Path, platform: Path, at: int = 0, database: str = "") -> int:
        found = self._ask({"role": role, "data": str(data), "platform": str(platform), "at": at, "database": database})
        self._running.add(found["pid"])
        return int(found["pid"])

    def wait(self, pid: int) -> int:
        """How it ended: its exit code, or minus the signal."""
        self._running.discard(pid)
        return int(self._ask({"wait": pid})["status"])

    def end(self, pid: int) -> None:
        """A child that still runs, killed as well: nothing here ends in any gentler way."""
        os.kill(pid, signal.SIGKILL)
        self.wait(pid)

    def close(self) -> None:
        for pid in list(self._running):
            self.end(pid)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._log.close()


if __name__ == "__main__":
    main()
