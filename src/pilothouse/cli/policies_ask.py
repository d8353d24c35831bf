"""`pilothouse policies can` and `policies explain`: single connections, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilothouse.cli.output import emit, output_option
from pilothouse.cli.policies_site import Chosen, site_options
from pilothouse.problems import Place

if TYPE_CHECKING:
    from pilothouse.policies.ask import Answer, Pair
    from pilothouse.policies.ask.packets import Asked
    from pilothouse.policies.explain import Explanation, SideStory, Story
    from pilothouse.policies.explain.edits import Edit

Command = TypeVar("Command", bound=Callable[..., Any])
_COLOURS = {"allow": "green", "deny": "red", "conditional": "yellow", "mixed": "yellow", "undefined": "magenta"}
_ENDS = """An end is `namespace/name` (a declared service, else a workload, else a pod, else a Kubernetes Service),
    `pod:`, `workload:` or `svc:` before it, `host:NAME`, an address, a range, `internet`, or `new:namespace/app=web`
    for any pod with these labels that may exist later. PORT is `8080`, `53/UDP`, a port's name, `icmp`, `icmp:8/0` or
    `proto:47`: of `svc:` the Service's own, else the pod's. PATH may be left out with --live or --snapshot."""


def _words(metavar: str) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        argument = click.argument("words", nargs=-1, required=True, metavar=metavar)(command)
        profile = click.option(
            "--profile",
            type=click.Choice(["calico", "k8s-strict"]),
            default="calico",
            show_default=True,
            help="Decide as Calico does, or leave undefined what Kubernetes leaves to the plugin.",
        )
        return profile(argument)

    return decorate


def _split(words: Sequence[str], chosen: Chosen, *, needs_port: bool) -> tuple[Path | None, str, str, str]:
    """(path, source, destination, port) of what was typed; no path where --live or --snapshot says where to look."""
    elsewhere = chosen.live or chosen.snapshot is not None
    with_port = [3] if needs_port else [2, 3]
    if elsewhere and len(words) in with_port and not Path(words[0]).exists():
        return None, words[0], words[1], words[2] if len(words) == 3 else ""
    if len(words) not in [1 + number for number in with_port]:
        raise click.UsageError("name PATH, FROM and TO" + (" and PORT" if needs_port else ", and perhaps PORT"))
    return Path(words[0]), words[1], words[2], words[3] if len(words) == 4 else ""


@click.command(
    "can",
    help=f"""Whether FROM reaches TO, at PORT or at what. PATH is a platform, manifests, a snapshot or -.

    {_ENDS}

    Exit 0 where all of it is allowed, else 1.""",
)
@_words("PATH FROM TO [PORT]")
@site_options
@output_option
def can(words: tuple[str, ...], profile: str, chosen: Chosen, output: str) -> None:
    from pilothouse.policies.ask import Profile, as_data, ask, parse
    from pilothouse.policies.engine.decide import Outcome

    path, source, destination, port = _split(words, chosen, needs_port=False)
    asked: Asked | None = parse(port) if port else None
    answer = ask(chosen.open(path).site, source, destination, asked, Profile(profile))
    emit(as_data(answer), output, lambda: _print(_answer(answer)))
    if answer.verdict is not Outcome.ALLOW:
        raise click.exceptions.Exit(1)


@click.command(
    "explain",
    help=f"""Why FROM reaches TO at PORT, or does not: who decides, what nearly did, the smallest edit that flips it.

    {_ENDS}""",
)
@_words("PATH FROM TO PORT")
@site_options
@output_option
def explain(words: tuple[str, ...], profile: str, chosen: Chosen, output: str) -> None:
    from pilothouse.policies.ask import Profile, parse
    from pilothouse.policies.explain import as_data
    from pilothouse.policies.explain import explain as explained

    path, source, destination, port = _split(words, chosen, needs_port=True)
    asked = parse(port)
    found = explained(chosen.open(path).site, source, destination, asked, Profile(profile))
    emit(as_data(found), output, lambda: _print(_explanation(found)))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line, color=False if os.environ.get("NO_COLOR") else None)  # https://no-color.org


def _word(verdict: str, width: int = 0) -> str:
    return click.style(verdict, fg=_COLOURS.get(verdict), bold=True) + " " * max(0, width - len(verdict))


# ---------------------------------------------------------------- an answer


def _answer(answer: Answer) -> Iterator[str]:
    yield _headline(answer)
    for pair in answer.pairs:
        yield ""
        yield from _pair(pair)
    if answer.basis:
        yield ""
        yield from (f"{click.style('·', dim=True)} {item}" for item in answer.basis)
    yield from _unread(answer)


def _headline(answer: Answer) -> str:
    at = "" if answer.asked is None else f" at {answer.asked}"
    profile = "" if answer.profile.value == "calico" else f" ({answer.profile.value})"
    return f"{_word(answer.verdict.value)}  {answer.source.name} → {answer.destination.name}{at}{profile}"


def _pair(pair: Pair) -> Iterator[str]:
    families = " and ".join(f"IPv{version}" for version in pair.versions)
    at = "" if pair.packet is None else f", {pair.packet}"
    if pair.sent is not None and pair.sent != pair.packet:
        at = f", {pair.sent} becomes {pair.packet}"
    who = f"{_some(pair.sources)} → {_some(pair.destinations)}"
    if pair.is_own:
        who = f"{_some(pair.sources)} → itself"
    yield f"  {_word(pair.outcome.value, 11)}  {who}, {families}{at}"
    said = pair.said
    if pair.packet is None:
        for name, found in (("allowed", said.allowed), ("some requests", said.conditional), ("open", said.undefined)):
            if found:
                yield f"               {name}: {found}"
    for item in said.basis:
        yield f"               {item.sentence}" + (click.style(f"  {item.source}", dim=True) if item.source else "")


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"


def _unread(answer: Answer) -> Iterator[str]:
    for text in answer.unread:
        yield f"left out: {text}"


# ---------------------------------------------------------------- an explanation


def _explanation(found: Explanation) -> Iterator[str]:
    yield _headline(found.answer)
    for story in found.stories:
        yield ""
        yield from _story(story)
    if not found.stories:
        yield from _answer(found.answer)
    yield ""
    if found.edit is None:
        yield f"No edit: {found.no_edit}."
    else:
        yield from _edit(found.edit, found.wanted.value)
        if len(found.edits) > 1:
            others = dict.fromkeys(" and ".join(change.title for change in edit.changes) for edit in found.edits[1:])
            yield f"Or: {'; '.join(others)}."
    if found.stories and found.answer.basis:
        yield ""
        yield from (f"{click.style('·', dim=True)} {item}" for item in found.answer.basis)
    yield from _unread(found.answer)


def _story(story: Story) -> Iterator[str]:
    yield next(_pair(story.pair))
    for side in story.sides:
        yield from _side(side)
    besides = [item for item in story.pair.said.basis if not item.sentence.startswith(("egress:", "ingress:"))]
    yield from (f"    {click.style('·', dim=True)} {item}" for item in besides)


def _side(side: SideStory) -> Iterator[str]:
    outcome = side.decision.outcome.value
    yield f"    {side.direction} of {side.end}: {_word(outcome)}"
    if not side.endpoint:
        yield f"      {side.decision}"
    tier = None
    for met in side.chain:
        if met.tier != tier and met.tier:
            order = "" if met.tier_order == float("inf") else f" (order {met.tier_order:,.0f})"
            yield f"      tier {met.tier}{order}"
        tier = met.tier
        mark = click.style("▸", bold=True) if met.decides else " "
        rule = "" if met.rule is None else f" {side.direction}[{met.rule}]"
        if met.name:
            order = "" if met.order is None else f", order {'last' if met.order == float('inf') else f'{met.order:g}'}"
            yield f"      {mark} {met.name}{rule}{order}: {met.did}{_at(met.place)}"
        else:
            yield f"      {mark} {met.did}{_at(met.place)}"
    for edge in side.edges:
        yield f"      declared: {edge.peer}, {edge.ports_text}: {edge.reason or edge.origin}{_at(edge.place)}"
    if side.near:
        yield f"      {click.style('nearly:', dim=True)}"
    for miss in side.near:
        yield f"        {miss.name}{_at(miss.place)}"
        yield from (f"          {reason}" for reason in miss.reasons)


def _at(place: Place) -> str:
    return click.style(f"  {place}", dim=True) if place.path else ""


def _edit(edit: Edit, wanted: str) -> Iterator[str]:
    yield f"The smallest edit after which the answer is {_word(wanted)}:"
    for change in edit.changes:
        yield ""
        yield f"  {change.title}{_at(change.place)}"
        for line in change.text.splitlines():
            colour = {"+": "green", "-": "red"}.get(line[:1])
            yield f"  {click.style(line, fg=colour) if colour else line}"
        if change.command:
            yield f"  $ {change.command}"
    yield ""
    if not edit.others:
        yield "  It changes nothing else."
    else:
        more = " at least" if edit.more else ""
        yield f"  It also changes{more}:"
        yield from (f"    {item}" for item in edit.others[:_SHOWN])
        if len(edit.others) > _SHOWN:
            yield f"    and {len(edit.others) - _SHOWN:,} more"
    yield from (f"  {remark}" for remark in edit.remarks)


_SHOWN = 12
