"""`pilothouse policies prove`: the proof of a cluster's policies, its invariants, and how sharp the proof is."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilothouse.cli.opening import cluster_option, kept_option, open_inputs, platform_argument, snapshot_option
from pilothouse.cli.output import Progress, emit, output_option, print_problems, table

if TYPE_CHECKING:
    from pilothouse.workflows.policy_proof import Proof, Sharpness


@click.command("prove")
@platform_argument
@click.option("--mutate", is_flag=True, help="Change every rule in turn, and count which changes the proof catches.")
@cluster_option
@snapshot_option
@kept_option
@output_option
def command(
    platform: Path,
    mutate: bool,
    cluster: str,
    snapshot: Path | None,
    live: bool,
    context: str,
    today: date | None,
    data: Path | None,
    output: str,
) -> None:
    """Prove that the derived policies allow what is declared, no more and no less, and that every invariant holds.

    Each render does the same; this says what was looked at. Ends with 1 where anything is not proved.
    """
    from pilothouse.workflows.policy_proof import Case, sharpness

    opened, inputs = open_inputs(platform, cluster, snapshot, live, context, today, data)
    case = Case(inputs)
    proof = case.proof()
    progress = Progress()
    sharp = sharpness(case, progress=progress) if mutate else None
    progress.done()
    emit(_as_data(cluster, proof, sharp), output, lambda: _print(cluster, proof, sharp))
    problems = (*proof.problems, *(problem for held in proof.invariants for problem in held.problems))
    if output == "text":
        print_problems(opened.loaded.shown(problems))
    if not proof.is_proved or (sharp and sharp.missed):
        raise click.exceptions.Exit(1)


def _as_data(cluster: str, proof: Proof, sharp: Sharpness | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cluster": cluster,
        "proved": proof.is_proved,
        "policies": proof.policies,
        "endpoints": proof.endpoints,
        "future": proof.future,
        "regions": proof.regions,
        "simplified": list(proof.simplified),
        "problems": [problem.message for problem in proof.problems],
        "invariants": [
            {
                "name": held.invariant.name,
                "title": held.invariant.title,
                "proved": held.is_proved,
                "pairs": held.pairs,
                "problems": [problem.message for problem in held.problems],
            }
            for held in proof.invariants
        ],
    }
    if sharp is not None:
        found["mutations"] = {
            "caught": sharp.caught,
            "effective": sharp.effective,
            "missed": list(sharp.missed),
            "idle": list(sharp.idle),
            "refused": sharp.refused,
            "caughtByKind": dict(sharp.kinds),
        }
    return found


def _print(cluster: str, proof: Proof, sharp: Sharpness | None) -> None:
    state = "proved" if not proof.problems else "NOT PROVED"
    click.echo(
        f"{state}: {proof.policies:,} policies of {cluster} allow what is declared, over {proof.endpoints:,} classes "
        f"of pods ({proof.future:,} of them to come) and {proof.regions:,} address regions, at every protocol and port"
    )
    if proof.simplified:
        names = ", ".join(proof.simplified)
        click.echo(f"too many combinations of labels, so that pods to come match one selector at a time: {names}")
    rows = [
        ("proved" if held.is_proved else "BROKEN", held.invariant.name, held.invariant.title, f"{held.pairs:,}")
        for held in proof.invariants
    ]
    if rows:
        table("", ("", "invariant", "says", "pairs"), rows, right=("pairs",))
    if sharp is not None:
        click.echo(
            f"mutations: {sharp.caught:,} of {sharp.effective:,} that change who reaches whom are caught; "
            f"{len(sharp.idle):,} change nothing, {sharp.refused:,} are no valid policies"
        )
        for name in sharp.missed:
            click.echo(f"missed: {name}")
        for name in sharp.idle:
            click.echo(f"changes nothing: {name}")
