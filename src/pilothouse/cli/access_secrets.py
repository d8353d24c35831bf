"""`pilothouse access secrets`: what a service gets from Vault, how it gets into its pods, and how it is changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilothouse.cli.output import emit, output_option, print_problems
from pilothouse.problems import Invalid, PilothouseError, Unavailable, nearest, one_of

if TYPE_CHECKING:
    from pilothouse.access.content import VaultContent
    from pilothouse.access.secret_readers import Explanation, Reader
    from pilothouse.inputs import Inputs
    from pilothouse.platform.model import Service
    from pilothouse.problems import Problem
    from pilothouse.workflows.secret_rotation import Rotation, State

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("secrets")
def group() -> None:
    """Secrets of workloads: explain, render, rotate, make dummies; and the agent that runs in their pods."""


def _platform(command: Command) -> Command:
    for option in (
        output_option,
        click.option("--cluster", "-c", required=True, help="Name of the cluster."),
        click.option(
            "--platform",
            type=click.Path(path_type=Path),
            default=Path(),
            envvar="PILOTHOUSE_PLATFORM",
            show_default="here",
            help="The folder of documents.",
        ),
    ):
        command = option(command)
    return command


def _token_file(command: Command) -> Command:
    return click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        default=None,
        envvar="PILOTHOUSE_VAULT_TOKEN_FILE",
        help="File that holds a token of Vault's (default: the `tokenFile` that is declared).",
    )(command)


def _open(platform: Path, cluster: str) -> tuple[Inputs, VaultContent]:
    from pilothouse.access import content
    from pilothouse.cli.opening import open_inputs

    _, inputs = open_inputs(platform, cluster)
    settings, problems = content.read(inputs.content)
    if settings is None:
        raise Invalid(f"secrets/vault cannot be read: {problems[0].message}", problems[0].hint)
    return inputs, settings


def _service(inputs: Inputs, name: str) -> Service:
    """By `namespace/name`, or by its name where that is of one service alone."""
    running = {service.key: service for service in inputs.platform.services_on(inputs.cluster.name)}
    found = [running[name]] if name in running else [item for item in running.values() if item.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise Invalid(f"several services are called {name}", one_of(item.key for item in found))
    raise Invalid(
        f"no service {name} runs on cluster {inputs.cluster.name}",
        nearest(name, [*running, *(item.name for item in running.values())]) or one_of(running),
    )


# ---------------------------------------------------------------- explain


@group.command()
@click.argument("service")
@_platform
@click.option("--live", is_flag=True, help="Look in Vault too: versions, times and names of keys, never a value.")
@_token_file
@click.option(
    "--audit-log",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=None,
    help="Vault's audit log (JSON lines): when each secret was last read, and by which account.",
)
def explain(
    service: str, platform: Path, cluster: str, live: bool, token_file: Path | None, audit_log: Path | None, output: str
) -> None:
    """Where the secrets of SERVICE come from, as whom its pods get them, and who else may read them."""
    from pilothouse.access import secret_readers
    from pilothouse.workflows import secret_rotation

    inputs, settings = _open(platform, cluster)
    declared = _service(inputs, service)
    found = secret_readers.explain(declared, inputs.platform, inputs.cluster, settings)
    states: dict[str, State] = {}
    problems: list[Problem] = []
    if live or token_file:
        from pilothouse.cli.access_vault import client_of

        client = client_of(inputs.cluster, token_file)
        readers = secret_readers.Readers(inputs.platform, inputs.cluster, settings)
        for item in found.secrets:
            states[item.path] = secret_rotation.state(client, readers.key_value, item.path)
            mine = [reader for reader in readers.of(item.path) if reader.service == declared.key]
            problems += secret_rotation.wrong(states[item.path], mine, cluster)
    reads = _last_reads(audit_log, found) if audit_log else {}
    data = {"explanation": found, "states": states, "last_reads": reads, "problems": problems}
    emit(data, output, lambda: _show(found, states, reads, audit_log is not None))
    if output == "text":
        print_problems(problems)


def _last_reads(audit_log: Path, found: Explanation) -> dict[str, tuple[str, str]]:
    from pilothouse.access.secret_readers import last_reads

    def entries() -> Any:
        with audit_log.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # the log's last line may be half written
                if isinstance(entry, Mapping):
                    yield entry

    try:
        return last_reads(entries(), [item.api_path for item in found.secrets])
    except OSError as failure:
        raise Unavailable(f"cannot read {audit_log}: {failure.strerror}") from failure


def _show(found: Explanation, states: Mapping[str, State], reads: Mapping[str, Any], logged: bool) -> None:
    bound = f", from {', '.join(found.token_networks)} alone" if found.token_networks else ""
    click.echo(
        f"Pods of {found.service} on {found.cluster} log in at {found.vault} ({found.auth_mount})\n"
        f"  as ServiceAccount {found.namespace}/{found.account},"
        f" with a token for the audience {found.audience}{bound}\n"
        f"  role {found.role}, policy {found.policy}\n"
        f"  kept fresh every {found.interval} s ({found.sidecar})"
    )
    for item in found.secrets:
        click.echo()
        click.echo(click.style(item.path, bold=True) + f"  declared at {item.declared_at}")
        click.echo(f"  in Vault:    {item.api_path}")
        names = ", ".join(item.files) if item.files else "one for each key of the secret"
        click.echo(f"  in the pod:  {item.mount_path}/ ({names})")
        for line in [f"{reader.service} (team {reader.team}{_at(reader)})" for reader in item.other_readers] or [
            "no other service"
        ]:
            click.echo(f"  also read by: {line}")
        if item.path in states:
            state = states[item.path]
            kept = f"version {state.version}, written {state.written_at}" if state.is_there else "nothing is there"
            asked = f", fetched again on demand {state.asked_at}" if state.asked_at else ""
            click.echo(f"  last rotated: {kept}{asked}")
            if state.keys is not None:
                click.echo(f"  its keys:    {', '.join(state.keys)}")
        if logged:
            when, who = reads.get(item.api_path, ("", ""))
            read = f"{when} by {who or 'no workload'}" if when else "never in this log"
            click.echo(f"  last read:   {read}")


def _at(reader: Reader) -> str:
    return f", {reader.declared_at}" if reader.declared_at.path else ", reached by its policy though not declared"


# ---------------------------------------------------------------- render


@group.command()
@click.argument("service")
@_platform
@click.option("--container", default="", help="Name of the container that reads them (default: like the service).")
@click.option("--kind", default="", help="Wrap it for that kind, such as Deployment: a patch for kustomize or kubectl.")
def render(service: str, platform: Path, cluster: str, container: str, kind: str, output: str) -> None:
    """Print what to merge into the pod template of SERVICE: volumes, init container, sidecar and mounts."""
    from pilothouse.access import pod
    from pilothouse.artifacts.write import to_yaml

    inputs, settings = _open(platform, cluster)
    declared = _service(inputs, service)
    template = pod.fragment(declared, inputs.cluster, settings, container)
    data = pod.wrapped(template, declared, kind) if kind else template
    if output == "json":
        click.echo(json.dumps(data, indent=2))
    else:
        click.echo(to_yaml(data), nl=False)
    server = inputs.cluster.servers.vault
    if server and server.ca_file and not settings.agent.authority_config_map:
        click.echo(
            f"Note: {cluster} declares {server.ca_file} for Vault's certificate, and pods do not have that file. Unless"
            " the image trusts that authority, put it into a ConfigMap and name it as"
            " `workloads.agent.authorityConfigMap` in secrets/vault/settings.yaml.",
            err=True,
        )


# ---------------------------------------------------------------- rotate


@group.command()
@click.argument("path")
@_platform
@_token_file
@click.option("--generate", multiple=True, metavar="KEY", help="Give KEY a new random value (also more than once).")
@click.option(
    "--bytes", "size", type=click.IntRange(16, 256), default=32, show_default=True, help="Of randomness each."
)
@click.option("--stdin", "typed", is_flag=True, help="Read new values from stdin: a JSON object, key to text.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show who is affected, and stop.")
def rotate(
    path: str,
    platform: Path,
    cluster: str,
    token_file: Path | None,
    generate: tuple[str, ...],
    size: int,
    typed: bool,
    yes: bool,
    dry_run: bool,
    output: str,
) -> None:
    """Write new values to the secret at PATH; without any, have every pod fetch it again.

    Other keys stay as they are, unseen. A value is never an argument: it would be seen in the list of processes.
    """
    import secrets

    from pilothouse.access.secret_readers import Readers
    from pilothouse.cli.access_vault import client_of
    from pilothouse.workflows import secret_rotation

    if not (yes or dry_run) and (typed or output == "json" or not sys.stdin.isatty()):
        raise Invalid("there is no terminal to ask on", "say --yes to rotate, or --dry-run to see who is affected")
    inputs, settings = _open(platform, cluster)
    values = _values() if typed else {}
    twice = sorted(set(values) & set(generate))
    if twice:
        raise Invalid(f"{twice[0]} is given by stdin and is to be generated", "one of both")
    values |= {key: secrets.token_urlsafe(size) for key in generate}
    client = client_of(inputs.cluster, token_file)
    readers = Readers(inputs.platform, inputs.cluster, settings)
    interval = settings.agent.interval
    found = secret_rotation.plan(client, inputs.cluster, readers, path, values, interval)
    if output == "text":
        _affected(found)
    if not dry_run:
        if not yes:
            click.confirm("Rotate it?", abort=True, err=True)
        found = secret_rotation.rotate(client, found, readers.key_value, values, datetime.now(UTC))
    emit(found, output, lambda: _rotated(found))


def _values() -> dict[str, str]:
    try:
        given = json.loads(sys.stdin.read())
    except ValueError:
        given = None  # the parser's message would quote what was typed
    if not isinstance(given, dict) or not given or not all(isinstance(item, str) for item in given.values()):
        raise Invalid("stdin holds no JSON object of texts", 'such as {"password": "…"}')
    return given


def _affected(found: Rotation) -> None:
    what = f"new values for {', '.join(found.changed)}" if found.changed else "to be fetched again as it is"
    click.echo(f"{found.path} on {found.cluster}, version {found.before}: {what}. It is read by:")
    for reader in found.readers:
        click.echo(f"  {reader.service} (team {reader.team}{_at(reader)}) at {reader.mount_path or 'no mount'}")
    print_problems(found.problems, total=False)


def _rotated(found: Rotation) -> None:
    if not found.done:
        click.echo("Nothing was changed.")
        return
    if found.changed:
        click.echo(f"Version {found.version} is written.")
    click.echo(
        f"Running pods have it within {found.interval} s; a service that reads its files only at the start must be"
        " restarted."
    )


# ---------------------------------------------------------------- dummy


@group.command()
@click.argument("service")
@_platform
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder that stands for the pod's root.")
def dummy(service: str, platform: Path, cluster: str, out: Path, output: str) -> None:
    """Write files of the same shape with made-up values, for a laptop or a CI job. No Vault is asked."""
    from pilothouse.workflows import dummy_secrets

    inputs, _ = _open(platform, cluster)
    found = dummy_secrets.write(_service(inputs, service), inputs.cluster, out)

    def human() -> None:
        for item in found:
            click.echo(f"{item.folder}/ ({', '.join(item.files)})  stands for {item.path}")
            if not item.declared:
                click.echo("  its keys are not declared: add `keys: […]` to the Service to get its true file names")

    emit(found, output, human)


# ---------------------------------------------------------------- the agent


@group.command()
@click.option("--once", "how", flag_value="once", help="Fetch everything and end: the init container.")
@click.option("--watch", "how", flag_value="watch", help="Keep the files fresh until told to end: the sidecar.")
@click.option(
    "--config", type=click.Path(path_type=Path), required=True, help="What `render` put into the pod's annotation."
)
def agent(how: str | None, config: Path) -> None:
    """Run in a pod: write its secrets as files, from Vault, with the pod's own token.

    Logs JSON lines to stderr. Exit codes: 2 could not begin, 3 Vault did not answer, 4 it refused, 5 a secret is
    missing or cannot be files.
    """
    import signal
    import threading

    if how is None:
        raise click.UsageError("say --once or --watch")
    stop = threading.Event()
    before = {kind: signal.signal(kind, lambda *_: stop.set()) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = _run(how, config, stop)
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    if code:
        raise click.exceptions.Exit(code)


def _run(how: str, config: Path, stop: Any) -> int:
    import random
    import time

    from pilothouse.clients.vault_workload import WorkloadVault
    from pilothouse.mounted.config import parse
    from pilothouse.workflows.secret_agent import Agent, Stopped, Surroundings, exit_code

    around = Surroundings(lambda: datetime.now(UTC), time.monotonic, stop.wait, random.random, _log)
    begun = False
    try:
        try:
            text = config.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as failure:
            raise Invalid(f"cannot read {config}", "is the projected volume mounted there?") from failure
        told = parse(text)
        made = Agent(told, WorkloadVault(told.url, told.ca_file), around)
        begun = True
        (made.once if how == "once" else made.watch)()
    except Stopped:
        _log("info", "told to end", {})
        return 143
    except PilothouseError as failure:
        _log("error", "failed", {"reason": failure.message, "hint": failure.hint})
        return exit_code(failure) if begun else 2
    return 0


def _log(level: str, event: str, fields: Mapping[str, Any]) -> None:
    """One line of JSON, so that nothing in it can pass for another line."""
    line = {"timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "event": event, **fields}
    click.echo(json.dumps(line), err=True)
