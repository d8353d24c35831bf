"""`pilothouse egress`: look at a change of what a service may talk to, propose it, decide on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilothouse.cli.opening import Day, clusters_option, day, platform_argument
from pilothouse.cli.output import emit, exit_for, output_option, print_problems, table
from pilothouse.problems import Invalid, Place, Problem, Severity

if TYPE_CHECKING:
    from pilothouse.clients.portal import PortalClient
    from pilothouse.workflows.egress import Preview
    from pilothouse.workflows.rendering import Opened

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def group() -> None:
    """Propose a change of what a service may talk to."""


class Item(click.ParamType[dict[str, Any]]):
    """An item of `egress`, as YAML."""

    name = "yaml"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        import yaml

        from pilothouse.source import plain

        if isinstance(value, dict):
            return value
        try:
            found = plain(value)
        except yaml.YAMLError:
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("to"), dict):
            self.fail(f"{value!r} is no item such as {{to: {{service: ledger/ledger}}, ports: [grpc]}}", param, ctx)
        return found


def change_options(command: Command) -> Command:
    """Adds `--add`, `--remove`, `--file` and `--ask` (parameters `add`, `remove`, `file`, `ask`)."""
    for option in (
        click.option(
            "--ask",
            multiple=True,
            metavar="SERVICE",
            help="Ask the team of this service to let in what is declared already.",
        ),
        click.option(
            "--file",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            default=None,
            help="The whole document as it should be.",
        ),
        click.option("--remove", type=click.IntRange(1), multiple=True, metavar="N", help="Remove item N of `show`."),
        click.option("--add", type=Item(), multiple=True, metavar="YAML", help="Add an item, as it stands in YAML."),
    ):
        command = option(command)
    return command


def _text_of(file: Path, add: Sequence[object], remove: Sequence[int]) -> str:
    if add or remove:
        raise click.UsageError("--file is the whole document: give either it, or --add and --remove")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise Invalid(f"{file} cannot be read as text: {failure}", "give a YAML file") from failure


# ---------------------------------------------------------------- on a folder


@group.command()
@platform_argument
@click.argument("service")
@clusters_option
@click.option("--today", type=Day(), default=None, help="Judge expiries as of this day.", show_default="today")
@output_option
def show(platform: Path, service: str, clusters: tuple[str, ...], today: date | None, output: str) -> None:
    """What SERVICE (`namespace/name`) talks to: its declared destinations, numbered, and everything that is implied."""
    from pilothouse.policies import edges
    from pilothouse.workflows import egress, neighbours
    from pilothouse.workflows.rendering import inputs_for, open_platform

    opened = open_platform(platform)
    found = egress.target(opened, service).service
    names = [name for name in opened.clusters(clusters) if found.runs_on(name)]
    around = {}
    for name in names:
        here = edges.of(inputs_for(opened, name, day(today))[0]).of(service)
        around[name] = (here, here)
    items: list[dict[str, Any]] = [
        {
            "number": number,
            "peer": str(edge.peer),
            "ports": [str(port) for port in edge.ports],
            "clusters": sorted(edge.clusters),
            "reason": edge.reason,
            "expires": edge.expires,
            "expired": edge.expired(day(today)),
            "place": str(edge.place),
        }
        for number, edge in enumerate(found.egress, 1)
    ]
    parties = neighbours.compare(around)

    def human() -> None:
        rows = [
            (
                item["number"],
                item["peer"],
                ", ".join(item["ports"]) or "every port",
                ", ".join(item["clusters"]) or "all",
                _until(item),
                item["place"],
            )
            for item in items
        ]
        if rows:
            table(
                f"Destinations of {service}",
                ("No", "To", "Ports", "Clusters", "Reason", "Written at"),
                rows,
                right=("No",),
            )
        else:
            click.echo(f"{service} declares no destination.")
        click.echo()
        table(
            f"Everything on {', '.join(names) or 'no cluster'}",
            ("", "Who", "Ports", "Clusters", ""),
            [
                (
                    "→" if party.direction == "egress" else "←",
                    party.name,
                    party.ports,
                    ", ".join(party.clusters) or "all",
                    "implied" if party.implied else "" if party.agreed else "not accepted there",
                )
                for party in parties
            ],
        )

    data = {"service": service, "team": found.team, "egress": items, "clusters": names, "neighbours": parties}
    emit(data, output, human)


def _until(item: Mapping[str, Any]) -> str:
    words = [item["reason"], f"{'ended' if item['expired'] else 'until'} {item['expires']}" if item["expires"] else ""]
    return ", ".join(word for word in words if word)


@group.command()
@platform_argument
@click.argument("service")
@change_options
@clusters_option
@click.option("--write", is_flag=True, help="Write the change into the folder, when it has no errors.")
@click.option("--today", type=Day(), default=None, help="Judge expiries as of this day.", show_default="today")
@output_option
def effect(
    platform: Path,
    service: str,
    add: tuple[dict[str, Any], ...],
    remove: tuple[int, ...],
    file: Path | None,
    ask: tuple[str, ...],
    clusters: tuple[str, ...],
    write: bool,
    today: date | None,
    output: str,
) -> None:
    """What a change of SERVICE would do: problems, connections on each cluster, who must agree, the difference.

    Nothing is sent anywhere, and nothing written without --write.
    """
    from pilothouse.workflows import egress
    from pilothouse.workflows.rendering import open_platform

    opened = open_platform(platform)
    names = opened.clusters(clusters) if clusters else ()
    target = egress.target(opened, service)
    if file is not None:
        text = _text_of(file, add, remove)
    else:
        text = egress.with_edges(target.text, service, add, [number - 1 for number in remove])
    found = egress.preview(opened, service, text, day(today), clusters=names, asks=ask)
    data = _data(opened, found)
    written: list[str] = []
    if write and found.can_submit:
        written = _write(opened, found)
    emit({**data, "written": written}, output, lambda: _print_preview(data, written))
    if output == "text" and write and not found.can_submit:
        click.echo("Nothing was written.", err=True)
    exit_for(found.problems)


def _write(opened: Opened, found: Preview) -> list[str]:
    from pilothouse.files.editing import replace_text

    paths = {path: opened.loaded.files[path] for path in found.files}
    for path, text in found.files.items():
        replace_text(paths[path], text)
    return [str(path) for path in paths.values()]


def _data(opened: Opened, found: Preview) -> dict[str, Any]:
    """A preview in the form in which the portal's API gives one."""
    from pilothouse.policies.compare import effect as effects
    from pilothouse.workflows import commits

    texts = {path: source.text for path in found.files if (source := opened.loaded.source(path))}
    return {
        "service": found.target.service.key,
        "summary": found.summary,
        "can_submit": found.can_submit,
        "problems": [_problem_data(item) for item in opened.loaded.shown(found.problems)],
        "effects": {cluster: effects.as_data(item) for cluster, item in found.effects.items()},
        "needed": [{"role": item.role, "team": item.team, "why": item.why} for item in found.needed],
        "others": list(found.others),
        "asks": list(found.asks),
        "diff": commits.patch(texts, found.files),
        "document": found.files.get(found.target.path, found.target.text),
    }


def _problem_data(item: Problem) -> dict[str, Any]:
    return {
        "code": item.code,
        "severity": item.severity,
        "message": item.message,
        "hint": item.hint,
        "path": item.place.path,
        "line": item.place.line,
        "column": item.place.column,
        "teams": list(item.teams),
        "cluster": item.cluster,
        "excerpt": item.place.excerpt,
        "width": item.place.width,
    }


# ---------------------------------------------------------------- through the portal


def _portal() -> PortalClient:
    from pilothouse.cli.access import portal, wallet

    return portal(wallet())


@group.command()
@click.argument("service")
@change_options
@click.option("--reason", default="", help="Why; it becomes part of the commit.")
@click.option("--title", default="", help="One line (default: what it does).")
@click.option("--draft", is_flag=True, help="Keep it as a draft: nobody is asked yet.")
@output_option
def propose(
    service: str,
    add: tuple[dict[str, Any], ...],
    remove: tuple[int, ...],
    file: Path | None,
    ask: tuple[str, ...],
    reason: str,
    title: str,
    draft: bool,
    output: str,
) -> None:
    """Propose a change of SERVICE at the portal; where nobody must agree, it is committed at once."""
    if not reason.strip() and not draft:
        raise click.UsageError("a proposal needs a reason: say why with --reason")
    change: dict[str, Any] = {"service": service}
    if ask:
        change["asks"] = list(ask)
    if file is not None:
        change["text"] = _text_of(file, add, remove)
    else:
        change |= {"add": [_sendable(item) for item in add], "remove": list(remove)}
    client = _portal()
    found = client.preview(change)
    if not draft and not found["can_submit"]:
        emit({"proposal": None, "preview": found}, output, lambda: _print_preview(found, ()))
        if not found["diff"]:
            raise Invalid("nothing is changed", "give --add, --remove, --ask, or another --file")
        raise click.exceptions.Exit(1)
    kept = client.propose(change | {"title": title, "reason": reason, "submit": not draft})

    def human() -> None:
        _print_preview(found, ())
        click.echo()
        _print_state(kept)

    emit({"proposal": kept, "preview": found}, output, human)


def _sendable(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in item.items()}


@group.command("list")
@click.option("--mine", is_flag=True, help="Only your own.")
@click.option("--waiting", is_flag=True, help="Only those that wait for your agreement.")
@click.option("--state", default="", help="Only those in that state, such as submitted.")
@click.option("--service", default="", help="Only those of that service.")
@output_option
def list_(mine: bool, waiting: bool, state: str, service: str, output: str) -> None:
    """Proposals at the portal, the last changed first."""
    from pilothouse.cli.access import portal, wallet

    kept = wallet()
    client = portal(kept)
    login = kept.login()
    found = client.proposals(
        author=login.user if mine and login else "",
        waiting="yes" if waiting else "",
        state=state,
        service=service,
    )

    def human() -> None:
        if not found["items"]:
            click.echo("There is none.")
            return
        table(
            "",
            ("No", "State", "Service", "Title", "Author", "Changed (UTC)"),
            [
                (p["number"], p["state"], p["service"], p["title"], p["author"], _moment(p["updated_at"]))
                for p in found["items"]
            ],
            right=("No",),
        )
        if found["total"] > len(found["items"]):
            click.echo(f"and {found['total'] - len(found['items'])} more")

    emit(found, output, human)


@group.command()
@click.argument("number", type=click.IntRange(1), metavar="ID")
@click.option("--patch", is_flag=True, help="Print the difference alone, as `git apply` takes it.")
@output_option
def proposal(number: int, patch: bool, output: str) -> None:
    """Proposal ID: its effect as of now, who must agree, the difference and the history."""
    found = _portal().proposal(number)
    if patch:
        click.echo(found["diff"], nl=False)
        return
    emit(found, output, lambda: _print_proposal(found))


@group.command()
@click.argument("number", type=click.IntRange(1), metavar="ID")
@click.option("--role", default="", help="The role in which you agree, where you have more than one.")
@click.option("--version", type=click.IntRange(1), default=None, help="The version that you looked at (default: now).")
@click.option("--comment", default="", help="What the author sees.")
@output_option
def approve(number: int, role: str, version: int | None, comment: str, output: str) -> None:
    """Agree to proposal ID of somebody else; the last agreement commits it."""
    _decide(number, True, role, version, comment, output)


@group.command()
@click.argument("number", type=click.IntRange(1), metavar="ID")
@click.option("--role", default="", help="The role in which you refuse, where you have more than one.")
@click.option("--version", type=click.IntRange(1), default=None, help="The version that you looked at (default: now).")
@click.option("--comment", required=True, help="What should change; the author sees it.")
@output_option
def refuse(number: int, role: str, version: int | None, comment: str, output: str) -> None:
    """Refuse proposal ID."""
    _decide(number, False, role, version, comment, output)


def _decide(number: int, agree: bool, role: str, version: int | None, comment: str, output: str) -> None:
    client = _portal()
    seen = version or client.proposal(number)["version"]
    body = {"version": seen, "approve": agree, "role": role, "comment": comment}
    kept = client.proposal_step(number, "decide", body)
    emit(kept, output, lambda: _print_state(kept))


@group.command()
@click.argument("number", type=click.IntRange(1), metavar="ID")
@click.option("--comment", default="", help="Why.")
@output_option
def withdraw(number: int, comment: str, output: str) -> None:
    """Take your own proposal ID back."""
    _step(number, "withdraw", comment, output)


@group.command()
@click.argument("number", type=click.IntRange(1), metavar="ID")
@output_option
def submit(number: int, output: str) -> None:
    """Submit your own draft ID."""
    _step(number, "submit", "", output)


@group.command()
@click.argument("number", type=click.IntRange(1), metavar="ID")
@output_option
def retry(number: int, output: str) -> None:
    """Commit the failed proposal ID again, with the agreements given."""
    _step(number, "retry", "", output)


def _step(number: int, word: str, comment: str, output: str) -> None:
    client = _portal()
    body = {"version": client.proposal(number)["version"], "comment": comment}
    kept = client.proposal_step(number, word, body)
    emit(kept, output, lambda: _print_state(kept))


# ---------------------------------------------------------------- for people


def _print_preview(found: Mapping[str, Any], written: Iterable[str]) -> None:
    """A preview in the form of the API's `PreviewOut`."""
    print_problems(_problem(item) for item in found["problems"])
    for clusters, same in _together(found["effects"]):
        _print_effect(clusters, same)
    summary = str(found["summary"])
    click.echo(click.style(f"{summary[:1].upper()}{summary[1:]}.", bold=True))
    for path in found["others"]:
        click.echo(f"The other end lists who may reach it, so {path} changes along.")
    if found["can_submit"]:
        for item in found["needed"]:
            click.echo(f"Must agree: {_role(item['role'])}: {item['why']}")
        if not found["needed"]:
            click.echo("Nobody else must agree.")
    _print_diff(found["diff"])
    for path in written:
        click.echo(f"Wrote {path}.")


def _problem(item: Mapping[str, Any]) -> Problem:
    place = Place(item["path"], item["line"], item["column"], item["width"], item["excerpt"])
    severity = Severity(item["severity"])
    return Problem(item["code"], item["message"], place, severity, item["hint"], cluster=item["cluster"])


def _together(effects: Mapping[str, Mapping[str, Any]]) -> list[tuple[list[str], Mapping[str, Any]]]:
    """Clusters with the same effect, but for its examples, together."""
    found: list[tuple[Any, list[str], Mapping[str, Any]]] = []
    for cluster, item in effects.items():
        shape = ([{**change, "example": ""} for change in item["changes"]], item["isolation"], item["cut"])
        same = next((names for other, names, _ in found if other == shape), None)
        if same is None:
            found.append((shape, [cluster], item))
        else:
            same.append(cluster)
    return [(names, item) for _, names, item in found]


def _print_effect(clusters: Iterable[str], item: Mapping[str, Any]) -> None:
    from pilothouse.policies.compare.groups import SIGNS

    rows = [
        (
            SIGNS[change["what"]],
            change["source"]["name"],
            change["destination"]["name"],
            _ports(change),
            "now" if change["inForce"] else "once enforced",
            change["example"],
        )
        for change in item["changes"]
    ]
    title = f"{', '.join(clusters)}: {item['summary']}"
    if rows:
        table(title, ("", "From", "To", "Ports", "Felt", "For example"), rows)
    else:
        click.echo(title)
    for found in item["isolation"]:
        state = "comes under policy" if found["begins"] else "is left without any policy"
        click.echo(f"{found['direction']} of {len(found['pods'])} pods in {found['namespace']} {state}")
    for found in item["cut"]:
        if found["new"]:
            click.echo(f"pods in {found['namespace']} that nobody declares lose it all: {', '.join(found['pods'])}")
    for text in item["unsupported"]:
        click.echo(f"not evaluated: {text}")


def _ports(change: Mapping[str, Any]) -> str:
    """The ports, and what of them changes where neither all nor nothing was allowed."""
    notes = ["some pods"] * bool(change["some"])
    if "conditional" in (change["before"], change["after"]):
        notes.insert(
            0, f"{change['before']} becomes {change['after']}" if change["what"] == "changes" else "some requests"
        )
    return f"{change['ports']} ({', '.join(notes)})" if notes else str(change["ports"])


def _print_diff(text: str) -> None:
    for line in text.splitlines():
        colour = "green" if line.startswith("+") else "red" if line.startswith("-") else None
        click.echo(click.style(line, fg=None if line.startswith(("+++", "---")) else colour))


def _role(role: str) -> str:
    kind, _, team = role.partition(":")
    return f"a second person of team {team}" if kind == "second-person" else f"team {team}"


def _print_state(found: Mapping[str, Any]) -> None:
    number, state = found["number"], found["state"]
    click.echo(click.style(f"Proposal {number} is {state}.", bold=True))
    if found["commit"]:
        click.echo(f"  commit {found['commit'][:12]}")
    if found["error"]:
        click.echo(f"  {found['error']}")
    if state == "submitted":
        for item in found["required"]:
            done = f"agreed: {item['agreed_by']}" if item["agreed_by"] else "is asked"
            click.echo(f"  {_role(item['role'])} {done}: {item['why']}")
        click.echo(f"  They run: pilothouse egress approve {number} --version {found['version']}")
    if state == "draft":
        click.echo(f"  pilothouse egress submit {number}")
    if state == "failed":
        click.echo(f"  pilothouse egress retry {number}")


def _print_proposal(found: Mapping[str, Any]) -> None:
    click.echo(click.style(found["title"], bold=True))
    if found["reason"]:
        click.echo(found["reason"])
    click.echo(f"{found['service']} of team {found['team']}, by {found['author']}, version {found['version']}")
    click.echo()
    _print_state(found)
    click.echo()
    if found["preview"]:
        _print_preview({**found["preview"], "needed": (), "can_submit": False, "diff": ""}, ())
    elif found["unknown"]:
        click.echo(f"Its effect is not known: {found['unknown']}")
    else:
        click.echo(f"When it was written: {found['summary']}.")
    click.echo()
    _print_diff(found["diff"])
    click.echo()
    rows = [(s["version"], _moment(s["at"]), s["actor"], s["step"], s["comment"]) for s in found["history"]]
    table("History", ("Version", "At (UTC)", "Who", "What", "Comment"), rows, right=("Version",))


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}"
