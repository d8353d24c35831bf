"""Makes the security module of the test server whole.

Its roles, role mappings, users and API keys lie in an index whose mapping asks for two token filters and a tokenizer of
the module analysis-common. That module is in no package registry, so a plugin of some lines stands in for it: it
affects how e-mail addresses of users are searched, and nothing else.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from support import testbed

SOURCE = Path(__file__).parent / "java" / "SecurityIndexAnalysis.java"
NAME = "security-index-analysis"


def install(home: Path, version: str) -> None:
    """Compile the plugin with the server's own libraries and put it into `home`."""
    folder = home / "plugins" / NAME
    folder.mkdir(parents=True)
    java = testbed.obtain().java_home() / "bin"
    with tempfile.TemporaryDirectory() as made:
        for arguments in (
            [java / "javac", "--release", "17", "-cp", f"{home}/lib/*", "-d", made, SOURCE],
            [java / "jar", "cf", folder / f"{NAME}.jar", "-C", made, "."],
        ):
            done = subprocess.run([str(item) for item in arguments], capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, f"{arguments[0]} ended with {done.returncode}:\n{done.stderr}"
    lines = {
        "name": NAME,
        "description": "the analysis that the index of the security module needs",
        "version": "1",
        "elasticsearch.version": version,
        "java.version": "17",
        "classname": "analysis.SecurityIndexAnalysis",
    }
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    (folder / "plugin-descriptor.properties").write_text(text, encoding="ascii")
