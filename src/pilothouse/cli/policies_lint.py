"""`pilothouse policies lint`: what is wrong with network policies, and what they likely do not mean."""

from __future__ import annotations

from pathlib import Path

import click

from pilothouse.cli.output import print_problems, report_option, table
from pilothouse.cli.policies_site import Chosen, path_argument, site_options


def _list_checks(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from pilothouse.policies.lint import CHECKS

        table("", ("check", "severity", "finds"), [(check.code, check.severity, check.summary) for check in CHECKS])
        context.exit()


@click.command("lint")
@path_argument
@site_options
@click.option("--only", multiple=True, metavar="CODE", help="Run this check alone; may be given more than once.")
@click.option("--strict", is_flag=True, help="End with 1 on warnings, too.")
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_checks, help="Show every check and end."
)
@report_option
def command(path: Path, chosen: Chosen, only: tuple[str, ...], strict: bool, output: str) -> None:
    """Look at the policies of PATH: a platform folder, manifests, a snapshot, or - for standard input.

    Ends with 1 where something is an error.
    """
    from pilothouse.policies.lint import lint
    from pilothouse.problems import Severity, ordered
    from pilothouse.workflows.policy_lint import code_of

    codes = [code_of(name) for name in only]
    opened = chosen.open(path, quiet=True)
    site = opened.site
    found = ordered([*site.problems, *lint(site.snapshot, site.policies, codes)])
    if opened.opened is not None:
        found = opened.opened.loaded.shown(found)
    print_problems(found, output)
    if output == "text":
        for kind, count in site.unknown.items():
            click.echo(f"not read: {count} of kind {kind}")
        if not found:
            click.echo(f"nothing to say about {len(site.policies.policies):,} policies")
    worst = (Severity.ERROR, Severity.WARNING) if strict else (Severity.ERROR,)
    if any(problem.severity in worst for problem in found):
        raise click.exceptions.Exit(1)
