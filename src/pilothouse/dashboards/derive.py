"""The dashboards of one cluster: one per service, one per team, one for the cluster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import chain

from pilothouse.artifacts.model import Artifacts, Document, Format
from pilothouse.dashboards import build, content
from pilothouse.dashboards.model import Board, DashboardsDerived, Defaults, Definition, Subject
from pilothouse.dashboards.placeholders import fill, of_any
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Exposure, Service, SqlLatencyAbove
from pilothouse.problems import Problem
from pilothouse.promql import Query, check

UID_LENGTH = 40


def uid(kind: str, *names: str) -> str:
    """The dashboard's stable identity in Grafana: readable where it fits into 40 characters, else cut and hashed.

    Names of Kubernetes hold no underscore, so that two subjects never share one.
    """
    text = "_".join(part for part in (kind, *names) if part)
    if len(text) <= UID_LENGTH:
        return text
    return f"{text[: UID_LENGTH - 9]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def derive(inputs: Inputs) -> DashboardsDerived:
    """`dashboards/<kind>-<name>.json` for each subject, and the queries that the definitions ask."""
    defaults, definitions, found = content.read(inputs.content)
    problems, queries = _queries(definitions)
    documents: list[Document] = []
    boards: list[Board] = []
    templates: dict[tuple[str, str, frozenset[str]], tuple[str, int]] = {}
    wanted = {
        (d.kind, d.name): frozenset(chain.from_iterable(r.needs.union(*(p.needs for p in r.panels)) for r in d.rows))
        for d in definitions
    }
    for definition in definitions:
        for subject in subjects(inputs, defaults, definition.kind):
            # A condition that the definition never asks for must not make a template of its own.
            meets = subject.meets & wanted[definition.kind, definition.name]
            key = (definition.kind, definition.name, meets)
            if key not in templates:
                panels = sum(len(shown) for _, shown in build.shown(definition, meets))
                templates[key] = (build.template(definition, defaults, meets), panels)
            text, panels = templates[key]
            board = _board(inputs, definition, subject, panels)
            documents.append(Document(board.path, _instance(text, board, subject), Format.TEXT))
            boards.append(board)
    return DashboardsDerived(Artifacts.of(documents), (*found, *problems), queries, tuple(boards))


def subjects(inputs: Inputs, defaults: Defaults, kind: str) -> Iterator[Subject]:
    """What dashboards of that kind are made for on this cluster, sorted."""
    cluster = inputs.cluster.name
    portal = defaults.portal_url
    whole = ("Cluster", f"/d/{uid('cluster', cluster)}")
    services = inputs.platform.services_on(cluster)
    if kind == "cluster":
        links = (("Catalogue", f"{portal}/catalogue/"), ("Alerts", f"{portal}/alerts?cluster={cluster}"))
        yield Subject(kind, cluster, (("cluster", cluster),), links=links)
    elif kind == "team":
        for team in sorted({service.team for service in services}):
            yield Subject(
                kind,
                team,
                (("cluster", cluster), ("team", team)),
                links=(whole, ("Portal", f"{portal}/catalogue/?team={team}")),
            )
    else:
        for service in services:
            values = {
                "cluster": cluster,
                "namespace": service.namespace,
                "service": service.name,
                "team": service.team,
                "pods": pods(inputs, service),
            }
            yield Subject(
                kind,
                service.key,
                tuple(values.items()),
                frozenset(_conditions(service, cluster)),
                (
                    whole,
                    (f"Team {service.team}", f"/d/{uid('team', cluster, service.team)}"),
                    ("Portal", f"{portal}/catalogue/{service.key}"),
                ),
            )


def pods(inputs: Inputs, service: Service) -> str:
    """A regular expression for the names of a service's pods, from the workloads that own them.

    Without pods in the snapshot its own name stands for the workload's. Names of Kubernetes hold no
    special character but the dot.
    """
    owners: set[str] = set()
    for pod in inputs.snapshot.select(service.namespace, service.pod_selector):
        owners.add(f"{pod.owner.name}-.+" if pod.owner else pod.name)
    names = sorted(owners) or [f"{service.name}-.+"]
    return "|".join(name.replace(".+", "\0").replace(".", "[.]").replace("\0", ".+") for name in names)


def _conditions(service: Service, cluster: str) -> Iterator[str]:
    if service.metrics is not None:
        yield "metrics"
    if any(isinstance(alert.condition, SqlLatencyAbove) and alert.holds_on(cluster) for alert in service.alerts):
        yield "sql"
    if service.exposure is Exposure.EDGE:
        yield "edge"


def _board(inputs: Inputs, definition: Definition, subject: Subject, panels: int) -> Board:
    names = (*subject.name.split("/"), definition.name)
    own = names if definition.kind == "cluster" else (inputs.cluster.name, *names)
    file = ".".join(part for part in names if part)  # a dot stands in none of the names
    return Board(
        f"dashboards/{definition.kind}-{file}.json",
        uid(definition.kind, *own),
        fill(definition.title, dict(subject.values)),
        definition.kind,
        subject.name,
        panels,
    )


def _instance(text: str, board: Board, subject: Subject) -> str:
    """The template with the subject's values, which stand inside JSON strings."""
    values = {name: json.dumps(value, ensure_ascii=False)[1:-1] for name, value in subject.values}
    return (
        fill(text, values).replace(f'"{build.LINKS}"', build.links(subject.links), 1).replace(build.UID, board.uid, 1)
    )


def _queries(definitions: Iterable[Definition]) -> tuple[list[Problem], tuple[Query, ...]]:
    """Every expression of the definitions, checked, and as it reads for all subjects."""
    problems: list[Problem] = []
    queries: list[Query] = []
    for definition in definitions:
        board = f"{definition.kind} dashboard" + (f" {definition.name}" if definition.name else "")
        for row in definition.rows:
            for panel in row.panels:
                for target in panel.targets:
                    _, complaints = check(target.expr, target.place)
                    problems += complaints
                    if not complaints:
                        queries.append(Query(of_any(target.expr), f"{board}: {panel.title}", target.place))
    return problems, tuple(dict.fromkeys(queries))
