"""What the Markdown files point to is there: files, headings, commands and their options."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

from pilothouse.alerts.runbooks import name_of
from pilothouse.cli.main import cli

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
OPERATORS = re.compile(r"\s(?:\||>|>>|2>|&&|;|&)(?:\s|$)")
SHELLS = {"console", "sh", "bash", "shell", ""}


@dataclass(frozen=True)
class Page:
    """`prose` are the lines outside of code blocks; `commands` those within shell blocks, joined and numbered."""

    path: str
    prose: tuple[tuple[int, str], ...]
    commands: tuple[tuple[int, str], ...]

    @property
    def anchors(self) -> set[str]:
        found: dict[str, int] = {}
        for _, line in self.prose:
            if heading := HEADING.match(line):
                name = name_of(LINK.sub(lambda link: link[0][1 : link[0].index("]")], heading[1]).replace("`", ""))
                found[name] = found.get(name, -1) + 1
        return {name if n == 0 else f"{name}-{n}" for name, last in found.items() for n in range(last + 1)}


def read(path: str) -> Page:
    prose: list[tuple[int, str]] = []
    commands: list[tuple[int, str]] = []
    language: str | None = None
    held: tuple[int, str] | None = None
    for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), start=1):
        fence = re.match(r"\s*```+\s*([\w-]*)", line)
        if fence:
            language, held = (fence[1] if language is None else None), None
        elif language is None:
            prose.append((number, line))
        elif language in SHELLS:
            start, text = held or (number, "")
            text += re.sub(r"\$\([^)]*\)", "VALUE", line.strip().removeprefix("$ "))
            held = (start, text[:-1]) if text.endswith("\\") else None
            if held is None:
                commands.append((start, text))
    return Page(path, tuple(prose), tuple(commands))


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(path for path in listed.stdout.split("\n") if path and (ROOT / path).is_file())


PAGES = {path: read(path) for path in tracked()}


def test_there_are_pages() -> None:
    assert {"README.md", "docs/README.md", "docs/declarations.md"} <= PAGES.keys()
    assert "the-folder" in PAGES["docs/declarations.md"].anchors


@pytest.mark.parametrize("path", PAGES)
def test_links_lead_somewhere(path: str) -> None:
    dead = []
    for number, line in PAGES[path].prose:
        for target in LINK.findall(INLINE.sub("", line) if "](" not in line else line):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            name, _, anchor = unquote(target).partition("#")
            file = ((ROOT / path).parent / name).resolve() if name else ROOT / path
            inside = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else ""
            if not inside or not file.exists() or (anchor and anchor not in PAGES[inside].anchors):
                dead.append(f"{path}:{number}: {target}")
    assert dead == []


def calls(page: Page) -> Iterator[tuple[int, list[str], bool]]:
    """(line, words, whole) of each call of pilothouse; `whole` where it stands as a person would type it."""
    for number, line in page.commands:
        for piece in OPERATORS.split(line):
            words = lexed(piece)
            while words and ("=" in words[0] or words[0] in ("sudo", "exec", "time")):
                words = words[1:]
            if words and words[0].rpartition("/")[2] == "pilothouse":
                yield number, words[1:], True
    for number, line in page.prose:
        for code in INLINE.findall(line):
            if code.startswith("pilothouse "):
                yield number, lexed(code)[1:], False


def lexed(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return []


def complaint(words: list[str], whole: bool) -> str:
    """What is wrong with a call, or "". Placeholders such as FILE and … are taken as they are."""
    command: click.Command = cli
    context = click.Context(cli, info_name="pilothouse")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words[0]
        if not re.fullmatch(r"[a-z][a-z-]*", name):
            return ""  # a placeholder, such as `pilothouse <area> <verb>`
        found = command.get_command(context, name) if name in command.list_commands(context) else None
        if found is None:
            return f"there is no command {name}"
        context, command, words = click.Context(found, info_name=name, parent=context), found, words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h", "--version"}
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and option != "--" and option not in known:
            return f"{command.name} has no option {option}"
    if whole and not isinstance(command, click.Group) and "--help" not in words:
        try:
            command.make_context(command.name, list(words), parent=context.parent)
        except click.ClickException as failure:
            message = failure.format_message()
            return "" if "does not exist" in message else message  # files of the reader's machine
    return ""


@pytest.mark.parametrize("path", [path for path in PAGES if any(calls(PAGES[path]))])
def test_commands_are_as_the_command_line_takes_them(path: str) -> None:
    wrong = [
        f"{path}:{number}: pilothouse {' '.join(words)}: {why}"
        for number, words, whole in calls(PAGES[path])
        if (why := complaint(words, whole))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("chekc examples/bank", "there is no command chekc"),
        ("access nothing", "there is no command nothing"),
        ("check examples/bank --loud", "has no option --loud"),
        ("check", "Missing"),
        ("check examples/bank --today soon", "is not a date"),
    ],
)
def test_a_wrong_command_would_be_found(call: str, why: str) -> None:
    assert why in complaint(call.split(), whole=True)
