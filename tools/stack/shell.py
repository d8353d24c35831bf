"""A person's shell: the programs, the files that hold their session, and commands run as they would run them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from stack.machine import Failed
from support import testbed

SECONDS = 120.0


@dataclass(frozen=True)
class Shell:
    """In the stack's folder, with an administrator's kubeconfig."""

    folder: Path
    kubeconfig: Path
    portal: str

    @property
    def kubectl(self) -> Path:
        return testbed.program("kubectl")

    def write(self) -> None:
        """Programs in `bin`, and a file `env` to source, after which the commands of the five things are short."""
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "kubectl").symlink_to(self.kubectl)
        (programs / "pilothouse").symlink_to(Path(sys.executable).parent / "pilothouse")
        stack = programs / "stack"
        own = f"{shlex.quote(sys.executable)} {shlex.quote(str(testbed.ROOT / 'tools' / 'stack'))}"
        stack.write_text(f'#!/bin/sh\nexec {own} --folder {shlex.quote(str(self.folder))} "$@"\n', encoding="utf-8")
        stack.chmod(0o755)
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self._variables(None).items()]
        lines.append(f'export PATH={shlex.quote(str(programs))}:"$PATH"')
        (self.folder / "env").write_text("\n".join([*lines, ""]), encoding="utf-8")

    def _variables(self, home: Path | None) -> dict[str, str]:
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "PILOTHOUSE_SERVER": self.portal,
            "XDG_CONFIG_HOME": str(home or self.folder / "home"),
        }

    def run(
        self, *command: object, home: Path | None = None, stdin: str = "", kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Any command. `home` holds that person's session and certificates."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PILOTHOUSE_", "VAULT_"))}
        own |= self._variables(home) | {"NO_COLOR": "1", "COLUMNS": "160"}
        own["PATH"] = os.pathsep.join((str(self.folder / "bin"), own["PATH"]))
        if kubeconfig:
            own["KUBECONFIG"] = str(kubeconfig)
        try:
            return subprocess.run(
                [str(part) for part in command],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
                env=own,
                cwd=self.folder,
                start_new_session=True,  # no terminal: a password is read from stdin
            )
        except subprocess.TimeoutExpired as failure:
            raise Failed(f"{' '.join(map(str, command))} did not end within {SECONDS:.0f} s") from failure

    def pilothouse(
        self, *arguments: object, home: Path | None = None, stdin: str = "", codes: tuple[int, ...] = (0,)
    ) -> str:
        """`pilothouse ARGUMENTS`; what it printed. `Failed` where it ends with another code."""
        done = self.run(sys.executable, "-m", "pilothouse", *arguments, home=home, stdin=stdin)
        if done.returncode not in codes:
            said = (done.stdout + done.stderr)[-3000:]
            raise Failed(f"pilothouse {' '.join(map(str, arguments))} ended with {done.returncode}:\n{said}")
        return done.stdout
