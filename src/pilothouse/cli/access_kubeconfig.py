"""`pilothouse access kubeconfig`: the contexts of every standing profile that somebody may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pilothouse.cli.access import PLUGIN_VERSIONS, plugin, portal, wallet
from pilothouse.cli.output import emit, output_option, table
from pilothouse.problems import Invalid, nearest, one_of


@click.command("kubeconfig")
@click.option("--cluster", "-c", "clusters", multiple=True, help="Of that cluster alone; may be given again.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), default=None, help="Write all of them into that file.")
@click.option("--exec-version", type=PLUGIN_VERSIONS, default="v1", show_default=True, help="For old kubectl.")
@output_option
def kubeconfig(clusters: tuple[str, ...], kubeconfig: Path | None, exec_version: str, output: str) -> None:
    """Write a context for each of your standing profiles and each cluster. No certificate is needed for that.

    kubectl gets one when a context is first used, and the next when it has ended, as long as the login lives. What else
    a file holds is kept, and which context is the current one. Elevated profiles have files of their own, by `claim`.
    """
    kept = wallet()
    found = portal(kept).contexts()
    known = {item["cluster"] for item in found}
    for name in clusters:
        if name not in known:
            raise Invalid(
                f"no standing profile of yours holds on a cluster `{name}`", nearest(name, known) or one_of(known)
            )
    rows: list[dict[str, Any]] = []
    for item in found:
        if not clusters or item["cluster"] in clusters:
            rows.append(_write(kept, item, kubeconfig, exec_version))

    def human() -> None:
        written = [row for row in rows if row["kubeconfig"]]
        table("Contexts", ("Context", "In"), [(row["context"], row["kubeconfig"]) for row in written])
        for name in sorted({row["cluster"] for row in rows if not row["kubeconfig"]}):
            click.echo(f"{name} is left out: its API server's address is not declared (`servers.kubernetes.url`).")
        for note in sorted({row["note"] for row in rows if row["note"]}):
            click.echo(f"Note: {note}.")
        paths = list(dict.fromkeys(row["kubeconfig"] for row in written))
        if paths:
            click.echo(f"export KUBECONFIG={':'.join(paths)}")
            click.echo(f"kubectl --context {written[0]['context']} get pods")

    emit(rows, output, human)


def _write(kept: Any, item: dict[str, Any], file: Path | None, exec_version: str) -> dict[str, Any]:
    from pilothouse.files.wallet import Context

    context = Context(item["cluster"], item["profile"], item["team"], item["server"])
    path = ""
    if context.server:
        target = file or kept.kubeconfig_path(context.cluster, context.profile, False)
        version = f"client.authentication.k8s.io/{exec_version}"
        kept.write_kubeconfig(
            target, context, plugin(), version, authority=item["server_authority"], make_current=False
        )
        path = str(target)
    return {
        "context": context.name,
        "cluster": context.cluster,
        "profile": context.profile,
        "team": context.team,
        "kubeconfig": path,
        "note": item["server_note"],
    }
