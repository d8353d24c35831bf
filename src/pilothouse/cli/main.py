"""The command `pilothouse`: `pilothouse <area> <verb>`, each loaded only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

import click

from pilothouse import __version__
from pilothouse.problems import PilothouseError

# name → (module, attribute, one line of help). The help stands here so that `--help` imports nothing.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "render": ("pilothouse.cli.render", "render", "Derive everything from a platform and write it to a folder."),
    "check": ("pilothouse.cli.render", "check", "Run every check of every area and print the problems by file."),
    "diff": ("pilothouse.cli.render", "diff", "Show what a render would change in a folder or the live cluster."),
    "apply": ("pilothouse.cli.apply", "apply", "Bring a cluster to what is declared: plan, ask, apply."),
    "platform": ("pilothouse.cli.platform", "group", "The documents: check, show, schema."),
    "metrics": ("pilothouse.cli.metrics", "group", "Prometheus: scrape jobs, rules, federation."),
    "alerts": ("pilothouse.cli.alerts", "group", "Alerts: who is told, when and why."),
    "logs": ("pilothouse.cli.logs", "group", "The log pipeline: Fluentd and Elasticsearch."),
    "policies": ("pilothouse.cli.policies", "group", "Network policies: who may talk to whom."),
    "access": ("pilothouse.cli.access", "group", "Certificates, profiles, approvals and the ledger."),
    "dashboards": ("pilothouse.cli.dashboards", "group", "Grafana dashboards."),
    "egress": ("pilothouse.cli.egress", "group", "Propose a change of what a service may talk to."),
    "serve": ("pilothouse.cli.serve", "serve", "Serve the portal."),
    "worker": ("pilothouse.cli.serve", "worker", "Run the worker's jobs."),
    "users": ("pilothouse.cli.users", "group", "The people who may log in, with their directory groups."),
    "demo": ("pilothouse.cli.serve", "demo", "Serve a demonstration with a platform and users of its own."),
    "backup": ("pilothouse.cli.serve", "backup", "Save a data folder to one file."),
    "restore": ("pilothouse.cli.serve", "restore", "Bring a data folder back from a backup."),
    "copy-database": ("pilothouse.cli.serve", "copy_database", "Copy a data folder's database to a PostgreSQL."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(_load(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{attribute} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from pilothouse.problems import nearest, one_of

            hint = nearest(args[0], COMMANDS) or one_of(COMMANDS, 20)
            raise click.UsageError(f"no command `{args[0]}`: {hint}", ctx)
        return super().resolve_command(ctx, args)


EXTRAS = {
    "server": "flask flask_wtf gunicorn sqlalchemy alembic apscheduler argon2 structlog".split(),
    "live": "kubernetes hvac elasticsearch ldap3 urllib3 prometheus_client".split(),
    "postgresql": ["psycopg"],
}


def _load(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise _missing(missing) from missing


def _missing(failure: ModuleNotFoundError) -> PilothouseError | ModuleNotFoundError:
    """A clear message for a module of an extra that is not installed; anything else stays what it is."""
    root = (failure.name or "").split(".")[0]
    for extra, modules in EXTRAS.items():
        if root in modules:
            return PilothouseError(
                f"this needs the extra [{extra}], which is not installed (no module `{root}`)",
                f"pip install 'pilothouse[{extra}]'",
            )
    return failure


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pilothouse")
def cli() -> None:
    """Teams declare; pilothouse derives, proves, applies and watches."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit: 0 clean, 1 problems, 2 could not run."""
    try:
        code = cli.main(args=arguments, prog_name="pilothouse", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        code = exit_.exit_code
    except click.ClickException as failure:
        failure.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = _cancelled()
    except BrokenPipeError:
        # The reader of our output went away (`| head`); point stdout elsewhere so that the exit is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except PilothouseError as failure:
        code = _say(failure)
    except ModuleNotFoundError as failure:
        missing = _missing(failure)
        if missing is failure:
            code = _surprise(failure)
        else:
            code = _say(missing)
    except Exception as failure:  # the last line of defence: a bare traceback helps nobody who is not debugging
        code = _cancelled() if _interrupted(failure) else _surprise(failure)
    sys.exit(code if isinstance(code, int) else 0)


def _cancelled() -> int:
    click.echo("pilothouse: cancelled; nothing was left half done", err=True)
    return 130


def _interrupted(failure: BaseException) -> bool:
    """Whether Ctrl-C lies under it: some libraries wrap the interrupt in an error of their own, or only name it."""
    under: BaseException | None = failure
    while under is not None:
        if isinstance(under, KeyboardInterrupt) or "KeyboardInterrupt" in str(under):
            return True
        under = under.__cause__ or under.__context__
    return False


def _say(failure: Exception) -> int:
    click.echo(f"pilothouse: {failure}", err=True)
    if hint := getattr(failure, "hint", ""):
        click.echo(f"  → {hint}", err=True)
    return 2


def _surprise(failure: Exception) -> int:
    if os.environ.get("PILOTHOUSE_DEBUG"):
        traceback.print_exc()
    click.echo(f"pilothouse: a mistake of ours: {type(failure).__name__}: {failure}", err=True)
    click.echo("  → set PILOTHOUSE_DEBUG=1 to see where, and report it with the command you ran", err=True)
    return 2
