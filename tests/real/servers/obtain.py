"""Obtains the real programs that programs.yaml names, into a cache outside the checkout.

    python tests/real/servers/obtain.py                 every program
    python tests/real/servers/obtain.py promtool helm   these
    python tests/real/servers/obtain.py --paths         what is there, as JSON, and obtains nothing

The cache is `$PILOTHOUSE_TESTBED`, or `~/.cache/pilothouse/testbed`. A program's folder is named for
the hash of its entry, of its wrapper module and of this code, so that a changed entry is built anew and an
unchanged one is found at once. Everything is built aside and renamed when it has proved that it runs.
Needs the standard library, PyYAML, Go for what is built from source, and a JDK and Maven for what comes from
Maven Central. All of these that are missing or too old are named at once, before anything is obtained.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
MINIMUM_GO = (1, 26)
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
sys.path.insert(0, str(HERE))
import schemas  # noqa: E402 - this folder is no package: it runs as a script and from the tests


class Failed(Exception):
    """One line that says what is missing or went wrong, and the way out."""


def cache() -> Path:
    """The folder that holds what was obtained; never inside the checkout."""
    configured = os.environ.get("PILOTHOUSE_TESTBED")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "pilothouse" / "testbed"


def manifest() -> dict[str, Mapping[str, Any]]:
    """Program name → its entry of programs.yaml."""
    entries: dict[str, Mapping[str, Any]] = yaml.safe_load((HERE / "programs.yaml").read_text(encoding="utf-8"))
    return entries


def is_folder(entry: Mapping[str, Any]) -> bool:
    """Whether the whole folder is the program."""
    return bool(entry["how"] == "schemas" or entry.get("folder"))


def place(name: str, entry: Mapping[str, Any]) -> Path:
    """Where that program lies once it is obtained: a file, or a folder."""
    digest = hashlib.sha256(json.dumps(entry, sort_keys=True).encode())
    digest.update(f"{platform.system()} {platform.machine()}".encode())
    if entry["how"] == "wrapper":
        for file in sorted((HERE / entry["module"]).iterdir()):
            digest.update(file.read_bytes())
    if entry["how"] == "schemas":
        digest.update((HERE / "schemas.py").read_bytes())
    folder = cache() / f"{name}-{entry['version']}-{digest.hexdigest()[:12]}"
    return folder if is_folder(entry) else folder / Path(entry.get("member", name)).name


def find(name: str) -> Path | None:
    """That program, if it has been obtained; None otherwise. Starts nothing."""
    entry = manifest()[name]
    if entry["how"] == "debian":
        folders = [
            str(path) for pattern in entry.get("folders", ()) for path in sorted(Path("/").glob(pattern), reverse=True)
        ]
        where = os.pathsep.join([os.environ.get("PATH", ""), *folders])
        found = next(filter(None, (shutil.which(command, path=where) for command in entry["commands"])), None)
        return Path(found) if found else None
    path = place(name, entry)
    return path if path.exists() else None


def obtain(name: str) -> tuple[Path, bool]:
    """That program, obtained if need be, and whether it had to be. Raises `Failed`."""
    entry = manifest()[name]
    found = find(name)
    if found:
        return found, False
    with _alone(name):
        found = find(name)  # another run may have had the lock
        if found:
            return found, False
        if entry["how"] == "debian":
            _install_packages(name, entry)
            found = find(name)
            if not found:
                raise Failed(
                    f"{name}: the packages are installed, but none of {', '.join(entry['commands'])} is on PATH"
                )
            _prove(name, entry, found)
            return found, True
        path = place(name, entry)
        target = path if is_folder(entry) else path.parent
        aside = cache() / f".making-{target.name}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            if entry["how"] == "schemas":
                _make_schemas(name, entry, aside)
            elif entry["how"] == "maven":
                _unpack(name, entry, aside)
            else:
                _build(name, entry, aside)
            _prove(name, entry, aside / path.relative_to(target))
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return path, True


@contextmanager
def _alone(name: str) -> Any:
    """One run at a time obtains a program; a second one waits and finds it."""
    cache().mkdir(parents=True, exist_ok=True)
    # apt has one lock for the machine, so packages wait for each other too.
    with (cache() / f".lock-{name}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(
    name: str, arguments: list[str], cwd: Path | None = None, env: Mapping[str, str] | None = None, ends: int = 0
) -> str:
    try:
        done = subprocess.run(
            arguments, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
        )
    except OSError as failure:
        raise Failed(f"{name}: cannot run {arguments[0]}: {failure}") from failure
    if done.returncode != ends:
        tail = " / ".join([*done.stdout.splitlines(), *done.stderr.splitlines()][-6:])
        raise Failed(f"{name}: `{' '.join(arguments[:3])} …` ended with {done.returncode}: {tail}")
    return done.stdout + done.stderr


def _go(name: str) -> str:
    go = shutil.which("go")
    wanted = ".".join(map(str, MINIMUM_GO))
    if not go:
        raise Failed(f"{name}: needs Go {wanted} or newer, and there is no `go` on PATH; install it and run this again")
    # GOTOOLCHAIN=local: the version that is installed, not one that it would fetch.
    found = re.search(r"go(\d+)\.(\d+)", _run(name, [go, "version"], env={"GOTOOLCHAIN": "local"}))
    if not found or (int(found[1]), int(found[2])) < MINIMUM_GO:
        version = found[0] if found else "an unknown version"
        raise Failed(f"{name}: needs Go {wanted} or newer, and {go} is {version}; put a newer one first on PATH")
    return go


def _maven(name: str) -> str:
    maven = shutil.which("mvn")
    if not maven:
        raise Failed(f"{name}: there is no `mvn` on PATH; install Maven 3 and run this again")
    return maven


def _java(name: str, oldest: int) -> str:
    java = shutil.which("java")
    if not java:
        raise Failed(f"{name}: {oldest} or newer is needed, and there is no `java` on PATH; install one")
    found = re.search(r'version "(\d+)', _run(name, [java, "-version"]))
    if not found or int(found[1]) < oldest:
        raise Failed(
            f"{name}: {oldest} or newer is needed, and {java} is {found[1] if found else 'of no known version'}"
        )
    if not (java_home() / "bin" / "javac").exists():
        raise Failed(f"{name}: {java} is that of a runtime alone, without `javac`; install the whole JDK")
    return java


def java_home() -> Path:
    """The folder of the JDK or JRE whose `java` is on PATH."""
    java = shutil.which("java")
    if not java:
        raise Failed("there is no `java` on PATH")
    return Path(java).resolve().parents[1]


def _build(name: str, entry: Mapping[str, Any], into: Path) -> None:
    go = _go(name)
    # Without cgo no C compiler is needed and the program runs on any machine of its kind.
    env = {"GOFLAGS": "-trimpath", "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    flags = ["-ldflags", entry["ldflags"]]
    if entry.get("tags"):
        flags += ["-tags", ",".join(entry["tags"])]
    if entry["how"] == "wrapper":
        command = [go, "build", "-mod=readonly", *flags, "-o", f"{into}{os.sep}", *entry["packages"]]
        _run(name, command, HERE / entry["module"], env)
    else:
        _run(name, [go, "install", *flags, entry["package"]], into, env | {"GOBIN": str(into)})
    names = entry.get("names", {}) | ({entry["program"]: name} if "program" in entry else {})
    for built, wanted in names.items():
        (into / built).rename(into / wanted)


def _unpack(name: str, entry: Mapping[str, Any], into: Path) -> None:
    """The artifact of Maven Central, unpacked; an only folder at its top is taken away."""
    group, artifact, version, packaging = entry["artifact"].split(":")
    del group
    _run(name, [_maven(name), "-q", "-B", COPY, f"-Dartifact={entry['artifact']}", f"-DoutputDirectory={into}"], into)
    archive = into / f"{artifact}-{version}.{packaging}"
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != entry["sha256"]:
        raise Failed(f"{name}: {entry['artifact']} has the SHA-256 {found}, and programs.yaml wants {entry['sha256']}")
    with zipfile.ZipFile(archive) as content:
        if "member" in entry:
            (into / Path(entry["member"]).name).write_bytes(content.read(entry["member"]))
        else:
            for member in content.infolist():
                inside = into.joinpath(*Path(member.filename).parts[1:])
                if member.is_dir():
                    inside.mkdir(parents=True, exist_ok=True)
                    continue
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.write_bytes(content.read(member))
                inside.chmod(0o755 if (member.external_attr >> 16) & 0o111 else 0o644)
    archive.unlink()


def _make_schemas(name: str, entry: Mapping[str, Any], into: Path) -> None:
    # Its checksum is held against Go's checksum database, as every module's is.
    answer = _run(name, [_go(name), "mod", "download", "-json", entry["module"]], into, {"GOFLAGS": ""})
    folder = json.loads(answer[answer.index("{") :])["Dir"]
    if not schemas.convert(Path(folder) / entry["document"], into):
        raise Failed(f"{name}: {entry['document']} of {entry['module']} holds no kinds")


def _install_packages(name: str, entry: Mapping[str, Any]) -> None:
    apt = shutil.which("apt-get")
    by_hand = f"install {', '.join(entry['packages'])} by hand, or put one of {', '.join(entry['commands'])} on PATH"
    if not apt:
        raise Failed(f"{name}: there is no apt-get here: {by_hand}")
    command = [apt]
    if os.geteuid() != 0:
        sudo = shutil.which("sudo")
        if not sudo:
            raise Failed(f"{name}: apt-get needs root, and there is no sudo here: {by_hand}")
        command = [sudo, "-n", apt]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    _run(name, [*command, "update"], env=quiet)
    _run(name, [*command, "install", "-y", "--no-install-recommends", *entry["packages"]], env=quiet)


def _prove(name: str, entry: Mapping[str, Any], program: Path) -> None:
    proof = entry.get("proof")
    if proof is None:
        return  # a file that no program of its own runs
    if "program" in proof:
        program = program / proof["program"]
    env = {"ES_JAVA_HOME": str(java_home())} if "java" in entry else {}
    said = _run(name, [str(program), *proof["arguments"]], env=env, ends=proof.get("ends", 0))
    if proof["says"] not in said:
        raise Failed(f"{name}: it runs, but does not say `{proof['says']}`: {' '.join(said.split())[:200]}")


def prerequisites(names: Sequence[str]) -> list[str]:
    """What has to be on the machine before these can be obtained and run, and is missing or too old; one line each."""
    entries = manifest()
    needs: list[Callable[[], object]] = []
    if any(entries[name]["how"] in ("wrapper", "install", "schemas") and not find(name) for name in names):
        needs.append(lambda: _go("Go"))
    if any(entries[name]["how"] == "maven" and not find(name) for name in names):
        needs.append(lambda: _maven("Maven"))
    oldest = max((entries[name].get("java", 0) for name in names), default=0)
    if oldest:
        needs.append(lambda: _java("a JDK", oldest))
    missing = []
    for need in needs:
        try:
            need()
        except Failed as failure:
            missing.append(str(failure))
    return missing


def main(arguments: list[str] | None = None) -> int:
    """0 when everything asked for is there, 1 otherwise."""
    entries = manifest()
    parser = argparse.ArgumentParser(description="Obtain the real programs of the tests.")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=f"of: {', '.join(entries)} (all)")
    parser.add_argument("--paths", action="store_true", help="print what is there as JSON and obtain nothing")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.programs if name not in entries]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(entries)}")
    names = options.programs or list(entries)
    if options.paths:
        print(json.dumps({name: str(path) for name in names if (path := find(name))}, indent=2))
        return 0
    missing = prerequisites(names)
    if missing:
        print("Some of what the programs need is not here:", *missing, sep="\n  ", file=sys.stderr)
        return 1
    started = time.monotonic()
    failures = 0
    # Two at a time: the network of one and the compiler of another; more would only share the cores.
    with ThreadPoolExecutor(max_workers=2) as pool:
        tasks = {pool.submit(_timed, name): name for name in names}
        for number, task in enumerate(as_completed(tasks), 1):
            name = tasks[task]
            try:
                path, made, seconds = task.result()
            except Failed as failure:
                failures += 1
                print(f"[{number}/{len(names)}] {failure}", file=sys.stderr, flush=True)
                continue
            how = f"obtained in {seconds:.0f} s" if made else "there"
            print(f"[{number}/{len(names)}] {name} {entries[name]['version']}: {how}: {path}", flush=True)
    print(f"{len(names) - failures} of {len(names)} programs in {time.monotonic() - started:.1f} s", flush=True)
    return 1 if failures else 0


def _timed(name: str) -> tuple[Path, bool, float]:
    started = time.monotonic()
    if not find(name):
        print(f"      {name} {manifest()[name]['version']}: obtaining it ({manifest()[name]['how']}) …", flush=True)
    try:
        path, made = obtain(name)
    except OSError as failure:
        raise Failed(f"{name}: {failure}") from failure
    return path, made, time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
