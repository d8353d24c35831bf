"""The log pipeline: Fluentd agents on every node, Elasticsearch behind them.

`derive` makes `fluentd/` (configuration and manifests) and `elasticsearch/` (templates, lifecycle, roles).
`explain` says what happens to the records of one service; `analyse` gives the sizes alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from pilothouse.artifacts.model import EMPTY, Artifacts, Derived, Document, Format
from pilothouse.collectors.logging import content, daemonset, elasticsearch, fluentd, services, sizing
from pilothouse.collectors.logging.config import text
from pilothouse.collectors.logging.lint import lint
from pilothouse.collectors.logging.parse import parse
from pilothouse.inputs import Inputs
from pilothouse.problems import Problem, Problems, error, ordered
from pilothouse.reports import plural

__all__ = ["Analysis", "Step", "analyse", "derive", "explain", "lint", "parse"]


@dataclass(frozen=True)
class Analysis:
    """Everything that the documents are made from; None in all but `problems` when the content is wrong."""

    settings: content.Settings | None
    treatments: services.Treatments | None
    sizing: sizing.Sizing | None
    problems: Problems


def analyse(inputs: Inputs) -> Analysis:
    """Content read, services treated, sizes derived."""
    settings, problems = content.read(inputs.content)
    if settings is None:
        return Analysis(None, None, None, ordered(problems))
    treatments, found = services.treat(inputs, settings)
    problems += found
    sizes, found = sizing.derive(inputs, settings, treatments.services)
    problems += found
    return Analysis(settings, treatments, sizes, ordered(problems))


def derive(inputs: Inputs) -> Derived:
    """The documents below `fluentd/` and `elasticsearch/` for one cluster."""
    analysis = analyse(inputs)
    settings, treatments, sizes = analysis.settings, analysis.treatments, analysis.sizing
    if settings is None or treatments is None or sizes is None:
        return Derived(EMPTY, analysis.problems)
    texts = {name: text(root) for name, root in fluentd.files(inputs, settings, treatments, sizes).items()}
    problems: list[Problem] = list(analysis.problems)
    documents = [Document(f"fluentd/{name}", body, Format.TEXT, comment="") for name, body in texts.items()]
    try:
        manifests = daemonset.manifests(inputs, settings, texts)
        documents.append(Document("fluentd/agents.yaml", manifests, Format.MANIFESTS))
    except ValueError as failure:
        problems.append(
            error(
                "logging/config-too-large",
                f"the agents' configuration for {inputs.cluster.name}: {failure}",
                inputs.cluster.place,
                "share drop rules and redacted keys between services, so that they need fewer elements",
                cluster=inputs.cluster.name,
            )
        )
    documents.extend(elasticsearch.documents(inputs, settings, sizes))
    return Derived(Artifacts.of(documents), ordered(problems))


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens to a record: what, and because of what."""

    name: str
    what: str
    why: str


def explain(inputs: Inputs, key: str) -> tuple[Step, ...]:
    """What happens to a record of that service, in order; empty where the service is not on this cluster."""
    analysis = analyse(inputs)
    settings, treatments, sizes = analysis.settings, analysis.treatments, analysis.sizing
    if settings is None or treatments is None or sizes is None:
        return ()
    item = next((found for found in treatments.services if found.service.key == key), None)
    if item is None:
        return ()
    logs = item.service.logs
    declared = "declared in `logs`" if logs else "default of collectors/fluentd/pipeline.yaml"
    kept = next(found for found in settings.retention.classes if found.name == item.retention)
    asked = logs.retention_days if logs else settings.pipeline.defaults.retention
    on_node = sizes.pods_per_node[key]
    fields = {"json": "a JSON object's fields", "logfmt": "`key=value` fields"}.get(item.format)
    steps = [
        Step(
            "read",
            f"at most {item.rate:,} bytes a second per pod, {plural(on_node, 'pod')} on the fullest node; "
            "more waits in the file",
            declared,
        ),
        Step("identify", "an `_id` from container, time and line, so that it is stored once", "the safe recipe"),
        Step("route", f"tag ph.{treatments.route(item)}", f"pods with {item.service.pod_selector}"),
        Step(
            "parse",
            f"{fields} go below `data`; a line that is none stays a text" if fields else "the line is the message",
            f"format {item.format}, {declared}",
        ),
    ]
    for drop in item.drop:
        steps.append(Step("drop", f"thrown away where `{drop.key}` is `{drop.equals}`", "declared in `logs.drop`"))
    for path, _ in settings.filters:
        steps.append(Step("filter", "a filter for all services", path))
    own = set(services.keys((), logs.redact)) if logs else set()
    everyone = [name for name in item.redact if name not in own]
    for names, why in ((sorted(own), "declared in `logs.redact`"), (everyone, "collectors/fluentd/pipeline.yaml")):
        if names:
            steps.append(Step("redact", f"{', '.join(names)} become {settings.pipeline.mask}", why))
    steps.append(
        Step("ship", f"in chunks of {sizes.chunk:,} bytes to {settings.retention.index(item.retention)}", "sizing")
    )
    steps.append(
        Step(
            "keep",
            f"{plural(kept.days, 'day')}, {plural(kept.replicas, 'more copy', 'more copies')}",
            f"asked for {asked} days: class {kept.name}",
        )
    )
    return tuple(steps)
