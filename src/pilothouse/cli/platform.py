"""`pilothouse platform`: check what is declared, show where each value comes from, write the JSON Schemas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilothouse.cli.opening import platform_argument
from pilothouse.cli.output import emit, exit_for, output_option, print_problems, report_option, table

if TYPE_CHECKING:
    from pilothouse.files.platform import LoadedPlatform
    from pilothouse.platform.model import AccessProfile, Cluster, Service, Team


@click.group()
def group() -> None:
    """Declarations: check them, show them, list them."""


@group.command()
@platform_argument
@report_option
def check(platform: Path, output: str) -> None:
    """Check the documents of PLATFORM, alone and against each other.

    Says everything that is wrong at once, each with its place and the way out. Exit code 1 when
    something is an error. `pilothouse check` does this and derives each cluster, too.
    """
    from pilothouse import reports
    from pilothouse.files.platform import load
    from pilothouse.platform import checks
    from pilothouse.problems import ordered

    loaded = load(platform)
    problems = loaded.shown(ordered([*loaded.problems, *checks.check(loaded.platform)]))
    print_problems(problems, output)
    if output == "text":
        declared = loaded.platform
        click.echo(
            f"{declared.name}: {len(declared.services)} services, {len(declared.teams)} teams,"
            f" {len(declared.clusters)} clusters, {len(declared.profiles)} access profiles: {reports.summary(problems)}"
        )
    exit_for(problems)


@group.command()
@platform_argument
@click.option("--origin", is_flag=True, help="Show where each document and each file of the content comes from.")
@click.option("--cluster", "-c", default="", help="Show every effective value of that cluster.")
@click.option("--service", "-s", default="", help="Show every effective value of that service (namespace/name).")
@output_option
def show(platform: Path, origin: bool, cluster: str, service: str, output: str) -> None:
    """Show what PLATFORM declares, and where each effective value comes from.

    A platform's folder is laid over those that it extends, and its content folders over the
    bundle's, file by file.
    """
    from pilothouse.files.platform import load

    loaded = load(platform)
    if cluster or service:
        _show_values(loaded, "Cluster" if cluster else "Service", cluster or service, output)
        return
    documents = list(_documents(loaded))
    content = list(_content(loaded))
    data = {
        "name": loaded.platform.name,
        "layers": [str(layer) for layer in loaded.layers],
        "documents": documents,
        "content": content,
    }

    def human() -> None:
        if origin:
            table("Documents", ["kind", "name", "from", "laid over"], (list(row.values()) for row in documents))
            table("Content", ["file", "origin", "from", "laid over"], (list(row.values()) for row in content))
            return
        declared = loaded.platform
        click.echo(f"{declared.name} ({', '.join(str(layer) for layer in loaded.layers)})\n")
        table("Clusters", _CLUSTER, (_cluster(item) for item in declared.clusters.values()))
        table("Teams", _TEAM, (_team(item, len(declared.services_of(item.name))) for item in declared.teams.values()))
        table("Access profiles", _PROFILE, (_profile(item) for item in declared.profiles.values()))
        table("Services", _SERVICE, (_service(item) for item in declared.services.values()))
        own = sum(row["origin"] == "platform" for row in content)
        click.echo(f"content: {len(content)} files, {own} of them the platform's own (--origin lists them)")

    emit(data, output, human)


@group.command()
@platform_argument
@click.option("--team", "-t", default="", help="Only those of that team.")
@output_option
def services(platform: Path, team: str, output: str) -> None:
    """List the declared services."""
    from pilothouse.files.platform import load

    found = [item for item in load(platform).platform.services.values() if team in ("", item.team)]
    emit(
        [dict(zip(_SERVICE, _service(item), strict=True)) for item in found],
        output,
        lambda: table("", _SERVICE, (_service(item) for item in found)),
    )


@group.command()
@platform_argument
@output_option
def teams(platform: Path, output: str) -> None:
    """List the teams."""
    from pilothouse.files.platform import load

    declared = load(platform).platform
    rows = [_team(item, len(declared.services_of(item.name))) for item in declared.teams.values()]
    emit([dict(zip(_TEAM, row, strict=True)) for row in rows], output, lambda: table("", _TEAM, rows))


@group.command()
@click.option("--kind", default="", help="Only that kind, printed instead of written.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=None, help="Folder to write into.")
def schema(kind: str, out: Path | None) -> None:
    """Write the JSON Schemas of the documents, for editors (--out), or print them."""
    import json

    from pilothouse.files.schemas import write_schemas
    from pilothouse.platform.schema import json_schemas
    from pilothouse.problems import Invalid, nearest, one_of

    schemas = json_schemas()
    if kind and kind not in schemas:
        raise Invalid(f"there is no kind `{kind}`", nearest(kind, schemas) or one_of(schemas))
    if out is not None and not kind:
        for path in write_schemas(out):
            click.echo(f"wrote {path}")
        return
    click.echo(json.dumps(schemas[kind] if kind else schemas, indent=2))


# ---------------------------------------------------------------- rows

_SERVICE = ["service", "team", "exposure", "sensitivity", "egress", "ingress", "alerts", "clusters"]
_TEAM = ["team", "title", "members", "services", "receivers", "on call", "platform"]
_CLUSTER = ["cluster", "environment", "kubernetes", "calico", "shards", "enforcement", "loudest", "authority"]
_PROFILE = ["profile", "title", "groups", "scope", "lifetime", "elevated", "approval", "clusters"]


def _service(item: Service) -> list[object]:
    return [
        item.key,
        item.team,
        item.exposure.value,
        item.sensitivity.value,
        len(item.egress),
        "not listed" if item.ingress is None else len(item.ingress),
        len(item.alerts),
        _clusters(item.clusters),
    ]


def _team(item: Team, services: int) -> list[object]:
    return [
        item.name,
        item.title,
        len(item.members),
        services,
        ", ".join(receiver.severity.value for receiver in item.receivers) or "none",
        ", ".join(item.rotation.users) if item.rotation else "nobody",
        "yes" if item.platform else "",
    ]


def _cluster(item: Cluster) -> list[str]:
    return [
        item.name,
        item.environment,
        item.versions.kubernetes,
        item.calico_api or "none",
        str(item.shards),
        item.enforcement.value,
        item.max_severity.value,
        f"{item.authority.backend} {item.authority.mount}",
    ]


def _profile(item: AccessProfile) -> list[str]:
    return [
        item.name,
        item.title,
        ", ".join(item.groups),
        item.scope.value,
        f"{_duration(item.lifetime)}, "
        + (f"renewed every {_duration(item.renewal)}" if item.renewal else f"at most {_duration(item.max_lifetime)}"),
        "yes" if item.elevated else "",
        "yes" if item.approval else "",
        _clusters(item.clusters),
    ]


def _duration(seconds: int) -> str:
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds // 60}m"


def _clusters(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "all"


# ---------------------------------------------------------------- where from


def _documents(loaded: LoadedPlatform) -> Iterator[dict[str, Any]]:
    for (kind, key), place in loaded.places.items():
        yield {
            "kind": kind,
            "name": key,
            "from": _origin(loaded, place.path, str(place)),
            "over": ", ".join(_origin(loaded, below.path, str(below)) for below in loaded.covered.get((kind, key), ())),
        }


def _origin(loaded: LoadedPlatform, path: str, text: str) -> str:
    source = loaded.source(path)
    return f"bundle: {text}" if source and source.origin == "bundle" else text


def _content(loaded: LoadedPlatform) -> Iterator[dict[str, Any]]:
    for path, source in loaded.content.files.items():
        yield {
            "file": path,
            "origin": source.origin,
            "from": source.path,
            "over": ", ".join(loaded.covered_content.get(path, ())),
        }


def _show_values(loaded: LoadedPlatform, kind: str, key: str, output: str) -> None:
    from pilothouse.platform.explain import effective
    from pilothouse.problems import Invalid, nearest, one_of

    known = [name for of, name in loaded.places if of == kind]
    if key not in known:
        raise Invalid(f"no {kind.lower()} `{key}` is declared in {loaded.root}", nearest(key, known) or one_of(known))
    place = loaded.places[kind, key]
    source = loaded.source(place.path)
    values = effective(source, kind, key) if source else ()
    rows = [[item.path, item.value, str(item.place) if item.place else "default"] for item in values]
    emit(
        [{"path": path, "value": value, "from": origin} for path, value, origin in rows],
        output,
        lambda: table(f"{kind} {key}", ["value", "is", "from"], rows),
    )
