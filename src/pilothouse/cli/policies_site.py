"""Options of the commands that ask about network policies, and how what they name is opened."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilothouse.cli.opening import Day, day, kept_domains, where
from pilothouse.cli.output import print_problems
from pilothouse.problems import Invalid, Severity

if TYPE_CHECKING:
    from pilothouse.workflows.policy_sites import OpenedSite

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Chosen:
    """What a command was told about where to look; the value of its parameter `chosen`."""

    cluster: str
    snapshot: Path | None
    live: bool
    context: str
    today: date | None
    data: Path | None
    preview: bool
    found: bool

    def open(self, path: Path | None, *, quiet: bool = False) -> OpenedSite:
        """Open it. Problems that leave something out go to stderr, unless the command shows them itself (`quiet`)."""
        from pilothouse.workflows.policy_sites import STANDARD_INPUT, open_site

        text = ""
        if path is not None and str(path) == STANDARD_INPUT:
            if sys.stdin.isatty():
                raise Invalid("standard input is a terminal", "pipe manifests in: kubectl get … -o json | pilothouse …")
            text = sys.stdin.read()
        clusters = (self.cluster,) if self.cluster or self.snapshot or self.live else ()
        opened = open_site(
            path,
            self.cluster,
            day(self.today),
            where(self.snapshot, self.live, self.context, clusters),
            kept_domains(self.data),
            text=text,
            as_if_enforced=self.preview,
            as_found=self.found,
        )
        errors = [problem for problem in opened.problems if problem.severity is Severity.ERROR]
        if opened.opened is not None:
            errors = list(opened.opened.loaded.shown(errors))
        if errors and not quiet:
            print_problems(errors, aside=True)
        return opened


def site_options(command: Command) -> Command:
    """Adds the options of `Chosen`; the command gets them as one parameter `chosen`."""

    def together(*args: Any, **given: Any) -> Any:
        chosen = Chosen(*(given.pop(name) for name in Chosen.__dataclass_fields__))
        return command(*args, chosen=chosen, **given)

    together.__name__ = command.__name__
    together.__doc__ = command.__doc__
    wrapped: Any = together
    wrapped.__click_params__ = getattr(command, "__click_params__", [])
    for option in (
        click.option(
            "--found", is_flag=True, help="Ask about the policies that the snapshot holds, not the derived ones."
        ),
        click.option("--preview", is_flag=True, help="Count staged and withheld policies as if they were enforced."),
        click.option(
            "--data",
            type=click.Path(path_type=Path),
            default=None,
            envvar="PILOTHOUSE_DATA",
            help="Data folder of a worker, for the domains that it resolved.",
        ),
        click.option("--today", type=Day(), default=None, help="Judge expiries as of this day.", show_default="today"),
        click.option("--context", default="", help="Context of the kubeconfig, with --live."),
        click.option("--live", is_flag=True, help="Read the live cluster: the declared server, else the kubeconfig's."),
        click.option(
            "--snapshot", type=click.Path(path_type=Path), default=None, help="File or folder of the snapshot."
        ),
        click.option("--cluster", "-c", default="", help="Cluster of a platform folder."),
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


def path_argument(command: Command) -> Command:
    """Adds the argument PATH (parameter `path`): a platform folder, manifests, a snapshot, or - for standard input."""
    return click.argument("path", type=click.Path(path_type=Path, allow_dash=True))(command)
