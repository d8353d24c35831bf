"""How commands show things: text for people, JSON for programs, problems with a caret."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from typing import Any, TypeVar

import click

from pilothouse import __version__, reports
from pilothouse.problems import Problem, has_errors

Command = TypeVar("Command", bound=Callable[..., Any])


def output_option(command: Command) -> Command:
    """Adds `--output text|json` (parameter `output`)."""
    return click.option(
        "--output", "-o", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form of output."
    )(command)


def report_option(command: Command) -> Command:
    """Adds `--output text|json|sarif` (parameter `output`), for commands whose result is problems."""
    return click.option(
        "--output",
        "-o",
        type=click.Choice(["text", "json", "sarif"]),
        default="text",
        show_default=True,
        help="Form of output.",
    )(command)


def plain(value: Any) -> Any:
    """Dataclasses, enums, dates, networks and sets as what JSON can hold."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)


def emit(data: Any, output: str, human: Callable[[], None]) -> None:
    """Print `data` as JSON, or call `human` to print it for people."""
    if output == "json":
        click.echo(json.dumps(plain(data), indent=2, ensure_ascii=False))
    else:
        human()


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> None:
    """A table on stdout; the columns of `right` are aligned to the right, those of `whole` never folded."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        shown.add_column(
            column, justify="right" if column in right else "left", overflow="fold", no_wrap=column in whole
        )
    for row in rows:
        shown.add_row(*(Text(str(cell)) for cell in row))
    console().print(shown)


def console() -> Any:
    """A rich console on stdout; 200 columns wide when the output is no terminal, so that paths stay whole."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def print_problems(
    problems: Iterable[Problem], output: str = "text", total: bool = True, *, aside: bool = False
) -> None:
    """Problems on stdout, in the form asked for; `total` counts them at the end of the text. `aside` prints text to
    stderr, where the result of the command is something else."""
    found = tuple(problems)
    if output == "json":
        click.echo(reports.to_json(found), nl=False)
    elif output == "sarif":
        click.echo(reports.to_sarif(found, __version__), nl=False)
    elif found:
        stream = sys.stderr if aside else sys.stdout
        colored = stream.isatty() and not os.environ.get("NO_COLOR")  # https://no-color.org
        click.echo(reports.to_text(found, colored, total), nl=False, err=aside)


def exit_for(problems: Iterable[Problem]) -> None:
    """End the command: 1 where a problem is an error, else go on."""
    if has_errors(problems):
        raise click.exceptions.Exit(1)


class Progress:
    """One line on stderr that says what is being done; silent when stderr is no terminal."""

    def __init__(self) -> None:
        self._shown = False

    def __call__(self, text: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\033[K{text} …", nl=False, err=True)
            self._shown = True

    def done(self) -> None:
        if self._shown:
            click.echo("\r\033[K", nl=False, err=True)
            self._shown = False
