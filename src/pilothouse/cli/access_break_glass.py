"""`pilothouse access break-glass` and `review`: what two named people opened, and the third who looks at it."""

from __future__ import annotations

from typing import Any

import click

from pilothouse.cli.output import emit, output_option, table


@click.command("break-glass")
@output_option
def break_glass(output: str) -> None:
    """What is open by break-glass now, and what waits for its review.

    Open one with `access elevate PROFILE`, `approve` and `claim`; end it with `give-back`.
    """
    from pilothouse.cli.access import portal, wallet

    found = portal(wallet()).break_glass()

    def human() -> None:
        for title, name in (("Open now", "open"), ("To be reviewed", "waiting")):
            if found[name]:
                rows = [_row(item) for item in found[name]]
                table(title, ("Request", "Asked", "Agreed", "Profile", "Cluster", "State", "Why"), rows)
        if not found["open"] and not found["waiting"]:
            click.echo("No break-glass is open, and nothing waits for a review.")

    emit(found, output, human)


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(item[name]) for name in ("id", "user", "decided_by", "profile", "cluster", "state", "reason"))


@click.command()
@click.argument("id")
@click.option(
    "--text", required=True, help="What was done, whether it was right, and what follows; the ledger keeps it."
)
@output_option
def review(id: str, text: str, output: str) -> None:
    """Review break-glass ID, which is over; by neither of the two who opened it."""
    from pilothouse.cli.access import portal, wallet

    found = portal(wallet()).review(id, text)
    said = (
        f"Break-glass {found['id']} of {found['user']} and {found['decided_by']} is reviewed by {found['reviewed_by']}."
    )
    emit(found, output, lambda: click.echo(said))
