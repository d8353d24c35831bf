"""The Fluentd configuration of an agent, derived.

    @READ    lines of the node's containers, partial lines put together
    @TREAT   id, Kubernetes metadata, and by the route of each service: parse, drop, lift, redact
    @SHIP    one output to Elasticsearch, with a file buffer that waits and never drops
    @ERROR   what cannot be shipped stays on the node, in files

Every record gets its `_id` from what it is (its container, its time to the nanosecond, its line), before anything
can be retried, so that writing it twice is refused as a duplicate. Rejected records alone are sent again, and
`@SHIP` has no filter, so none of them is treated twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from pilothouse.collectors.logging import ruby
from pilothouse.collectors.logging.config import INCLUDE, Element, Ruby, Value, element, seconds, size
from pilothouse.collectors.logging.content import Settings
from pilothouse.collectors.logging.services import TEXT_KEYS, Treatments, part
from pilothouse.collectors.logging.sizing import Sizing
from pilothouse.inputs import Inputs
from pilothouse.platform.model import LogDrop

DEFAULT_URL = "http://elasticsearch.logging.svc:9200"
"""Where Elasticsearch is looked for when the Cluster does not say."""

_FILE_NAME = r"/\/(?<podname>[^_\/]+)_(?<namespace>[^_]+)_(?<container>.+)-(?<docker_id>[a-z0-9]{64})\.log$/"


def files(inputs: Inputs, settings: Settings, treatments: Treatments, sizing: Sizing) -> Mapping[str, Element]:
    """The configuration's files by name; `fluent.conf` includes the others."""
    return {
        "fluent.conf": _main(inputs, settings, treatments, sizing),
        "limits.conf": Element("ROOT", children=_limits(inputs, settings, treatments, sizing)),
        "routes.conf": Element("ROOT", children=_routes(settings, treatments)),
        "treatments.conf": Element("ROOT", children=_treatments(settings, treatments)),
    }


def _include(path: str) -> Element:
    return Element(INCLUDE, path)


def _main(inputs: Inputs, settings: Settings, treatments: Treatments, sizing: Sizing) -> Element:
    read, ports = settings.pipeline.read, settings.agents.ports
    state = read.state_folder.rstrip("/")
    system = element("system", "", {"log_level": "info"})
    # The two that tell how the agent is; the ports are those of the DaemonSet.
    monitors = (
        element("source", "", {"@type": "prometheus", "port": ports.metrics}),
        element("source", "", {"@type": "prometheus_output_monitor", "interval": "10s"}),
        element("source", "", {"@type": "monitor_agent", "port": ports.monitor}),
    )
    tail = element(
        "source",
        "",
        {
            "@type": "tail",
            "@id": "containers",
            "@label": "@READ",
            "path": read.path,
            **({"exclude_path": list(read.exclude)} if read.exclude else {}),
            "pos_file": f"{state}/containers.pos",
            "tag": "kubernetes.*",
            "encoding": "utf-8",
            "read_from_head": True,
            "follow_inodes": True,
            "refresh_interval": seconds(read.refresh_interval),
            "rotate_wait": seconds(read.rotate_wait),
            "read_lines_limit": read.lines_per_read,
        },
        # The format of the Container Runtime Interface: time, stream, P(artial) or F(ull), line.
        element(
            "parse",
            "",
            {
                "@type": "regexp",
                "expression": r"/^(?<time>[^ ]+) (?<stream>stdout|stderr) (?<logtag>[FP])[^ ]* (?<message>.*)$/m",
                "time_key": "time",
                "time_format": "%Y-%m-%dT%H:%M:%S.%N%:z",
                "keep_time_key": True,
            },
        ),
        element(
            "group",
            "",
            {"pattern": _FILE_NAME, "rate_period": seconds(settings.pipeline.limits.period)},
            _include("limits.conf"),
        ),
        comment="Lines of every container of this node. A service that writes faster than its `logs.rate` is read\n"
        "more slowly: its lines wait in the file.",
    )
    return Element(
        "ROOT",
        children=(
            system,
            *monitors,
            tail,
            _read_label(),
            _treat_label(inputs),
            _ship_label(inputs, settings, sizing, state),
            _error_label(state),
            element("label", "@FLUENT_LOG", {}, element("match", "**", {"@type": "stdout"})),
        ),
    )


def _read_label() -> Element:
    return element(
        "label",
        "@READ",
        {},
        element(
            "filter",
            "**",
            {
                "@type": "concat",
                "key": "message",
                "use_partial_cri_logtag": True,
                "partial_cri_logtag_key": "logtag",
                "partial_cri_stream_key": "stream",
                "separator": "",
                "flush_interval": 5,
                "timeout_label": "@TREAT",
            },
        ),
        element("match", "**", {"@type": "relabel", "@label": "@TREAT"}),
    )


def _treat_label(inputs: Inputs) -> Element:
    return element(
        "label",
        "@TREAT",
        {},
        element(
            "filter",
            "kubernetes.**",
            {
                "@type": "elasticsearch_genid",
                "hash_id_key": "_hash",
                "hash_type": "sha256",
                "use_record_as_seed": True,
                "record_keys": ["time", "stream", "message"],
                "include_tag_in_seed": True,
            },
            comment="The same line read twice gets the same id. The tag names pod and container.",
        ),
        element(
            "filter",
            "kubernetes.**",
            {
                "@type": "kubernetes_metadata",
                "skip_container_metadata": True,
                "skip_master_url": True,
                "skip_namespace_metadata": True,
                "watch": True,
            },
        ),
        _include("routes.conf"),
        element(
            "match",
            "kubernetes.**",
            {"@type": "rewrite_tag_filter"},
            element("rule", "", {"key": "route", "pattern": "/^(.+)$/", "tag": "ph.$1"}),
        ),
        element(
            "filter",
            "ph.**",
            {"@type": "record_modifier", "remove_keys": "route,logtag,time"},
            element(
                "record",
                "",
                {
                    # What the service wrote, before anything is parsed or masked: what its rate is held against.
                    "bytes": '${record["message"].to_s.bytesize}',
                    "cluster": inputs.cluster.name,
                    "retention": "${tag_parts[2]}",
                    "service": "${tag_parts[5]}/${tag_parts[6]}",
                    "team": "${tag_parts[7]}",
                },
            ),
        ),
        _include("treatments.conf"),
        element("match", "ph.**", {"@type": "relabel", "@label": "@SHIP"}),
    )


def _ship_label(inputs: Inputs, settings: Settings, sizing: Sizing, state: str) -> Element:
    server = inputs.cluster.servers.elasticsearch
    address = urlsplit(server.url if server else DEFAULT_URL)
    scheme = address.scheme or "http"
    where: dict[str, Value] = {
        "host": address.hostname or "",
        "port": address.port or (443 if scheme == "https" else 9200),
        "scheme": scheme,
    }
    if address.path.strip("/"):
        where["path"] = address.path
    if scheme == "https":
        where["ssl_verify"] = True
    if server and server.ca_file:
        where["ca_file"] = server.ca_file
    if settings.agents.credentials:
        where["user"] = Ruby("#{ENV['ELASTICSEARCH_USER']}")
        where["password"] = Ruby("#{ENV['ELASTICSEARCH_PASSWORD']}")
    version = inputs.cluster.versions.number(inputs.cluster.versions.elasticsearch)
    output = element(
        "match",
        "**",
        {
            "@type": "elasticsearch",
            "@id": "ship",
            **where,
            "index_name": settings.retention.index("${retention}"),
            "write_operation": "create",
            "id_key": "_hash",
            "include_timestamp": True,
            "suppress_type_name": True,
            "request_timeout": seconds(sizing.request_timeout),
            "reload_connections": False,
            "reload_on_failure": False,
            "reconnect_on_error": True,
            "unrecoverable_error_types": ["out_of_memory_error"],
            "bulk_message_request_threshold": -1,
            "retry_tag": "ph.retry",
            "log_es_400_reason": True,
            "verify_es_version_at_startup": False,
            "default_elasticsearch_version": version[0] if version else 8,
            "slow_flush_log_threshold": seconds(sizing.request_timeout),
        },
        element(
            "buffer",
            "retention",
            {
                "@type": "file",
                "path": f"{state}/buffer/ship",
                "chunk_limit_size": size(sizing.chunk),
                "total_limit_size": size(sizing.total_limit),
                "flush_mode": "interval",
                "flush_interval": seconds(sizing.flush_interval),
                "flush_thread_count": sizing.threads,
                "flush_thread_interval": seconds(sizing.burst_interval),
                "flush_thread_burst_interval": seconds(sizing.burst_interval),
                "overflow_action": "block",
                "retry_type": "exponential_backoff",
                "retry_wait": "1s",
                "retry_max_interval": seconds(sizing.retry_max_interval),
                "retry_forever": True,
            },
        ),
        # With retry_forever, only what can never succeed comes here.
        element(
            "secondary",
            "",
            {"@type": "secondary_file", "directory": f"{state}/failed", "basename": "chunk.${chunk_id}"},
        ),
    )
    return element("label", "@SHIP", {}, output)


def _error_label(state: str) -> Element:
    return element(
        "label",
        "@ERROR",
        {},
        element(
            "match",
            "**",
            {"@type": "file", "@id": "dead_letters", "path": f"{state}/failed/records.%Y%m%d", "append": True},
            element(
                "buffer",
                "time",
                {
                    "@type": "file",
                    "path": f"{state}/buffer/failed",
                    "timekey": "1d",
                    "timekey_wait": "10m",
                    "chunk_limit_size": "8m",
                    "total_limit_size": "256m",
                    "flush_mode": "interval",
                    "flush_interval": "60s",
                    "overflow_action": "block",
                    "retry_forever": True,
                    "retry_max_interval": "60s",
                },
            ),
        ),
        comment="What Elasticsearch refuses for good, and what a filter could not treat. It stays on the node.",
    )


def _limits(inputs: Inputs, settings: Settings, treatments: Treatments, sizing: Sizing) -> tuple[Element, ...]:
    limits = settings.pipeline.limits
    rules: list[Element] = []
    for item in treatments.services:
        service = item.service
        owners = {
            (pod.owner.kind, pod.owner.name)
            for pod in inputs.snapshot.select(service.namespace, service.pod_selector)
            if pod.owner
        }
        names = [ruby.pod_names(kind, name) for kind, name in sorted(owners)] or [f"{part(service.name)}-.+"]
        # The limit is shared by the group's files on a node; Fluentd divides it by their number.
        lines = int(item.rate * limits.period * sizing.pods_per_node[service.key] / limits.line_bytes)
        rules.append(
            element(
                "rule",
                "",
                {
                    # Fluentd joins the parts to one expression, so only the first may be anchored.
                    "match": {"namespace": f"/{service.namespace}/", "podname": f"/\\A(?:{'|'.join(names)})/"},
                    "limit": max(1, lines),
                },
            )
        )
    # Every other pod of the node shares this one; a rule with fewer parts comes after those with more.
    undeclared = settings.pipeline.undeclared.rate * limits.period * sizing.undeclared_per_node / limits.line_bytes
    rules.append(element("rule", "", {"match": {"namespace": "/.+/"}, "limit": max(1, int(undeclared))}))
    return tuple(rules)


def _routes(settings: Settings, treatments: Treatments) -> tuple[Element, ...]:
    undeclared = settings.pipeline.undeclared
    kept = settings.retention.class_for(undeclared.retention)
    assert kept is not None  # content.read refuses it otherwise
    head = f"{undeclared.format}.{kept.name}.d0"
    fallback = dict(treatments.fallback_redactions)
    routes: list[Element] = [
        element(
            "filter",
            "kubernetes.**",
            {"@type": "record_modifier"},
            element("record", "", {"route": f'{head}.r0.${{record.dig("kubernetes", "namespace_name") || "_"}}._._'}),
            comment="Pods of namespaces in which nothing is declared.",
        )
    ]
    for namespace in sorted(fallback):
        choices = [
            (item.service.pod_selector, treatments.route(item))
            for item in treatments.services
            if item.service.namespace == namespace
        ]
        redaction = treatments.redaction_ids[fallback[namespace]]
        routes.append(
            element(
                "filter",
                # Neither a pod's nor a namespace's nor a container's name can hold an underscore.
                f"kubernetes.var.log.containers.**_{namespace}_**",
                {"@type": "record_modifier"},
                element("record", "", {"route": ruby.route(choices, f"{head}.{redaction}.{namespace}._._")}),
            )
        )
    return tuple(routes)


def _treatments(settings: Settings, treatments: Treatments) -> tuple[Element, ...]:
    found: list[Element] = []
    used = {item.format for item in treatments.services} | {settings.pipeline.undeclared.format}
    for name, fields in (("json", ruby.JSON_FIELDS), ("logfmt", ruby.LOGFMT_FIELDS)):
        if name in used:
            params: dict[str, Value] = {"@type": "record_modifier"}
            if name == "json":
                params["prepare_value"] = 'require "json"'
            found.append(element("filter", f"ph.{name}.**", params, element("record", "", {"data": fields})))
    for drops, identity in treatments.drop_ids.items():
        if drops:
            excludes = [exclude for drop in drops for exclude in _excludes(drop)]
            found.append(element("filter", f"ph.*.*.{identity}.**", {"@type": "grep"}, *excludes))
    lift = settings.pipeline.lift
    lifted: dict[str, Value] = {}
    if lift.level:
        lifted["level"] = ruby.first_field(lift.level)
    if lift.message:
        lifted["message"] = ruby.first_field(lift.message, 'record["message"]')
    if lifted:
        formats = " ".join(f"ph.{name}.**" for name in ("json", "logfmt") if name in used)
        if formats:
            found.append(element("filter", formats, {"@type": "record_modifier"}, element("record", "", lifted)))
    for _, piece in settings.filters:
        found.extend(piece)
    for names, identity in treatments.redaction_ids.items():
        if names:
            found.append(
                element(
                    "filter",
                    f"ph.*.*.*.{identity}.**",
                    {"@type": "record_modifier", "prepare_value": ruby.cleaner(names, settings.pipeline.mask)},
                    element(
                        "record",
                        "",
                        dict(ruby.TO_CLEAN),
                    ),
                )
            )
    return tuple(found)


def _excludes(drop: LogDrop) -> list[Element]:
    pattern = f"/\\A{ruby.regexp(drop.equals)}\\z/"
    paths = [f"$['data']['{drop.key}']"]
    if drop.key in TEXT_KEYS:
        paths.append(drop.key)
    if "." in drop.key:
        # `a.b` may be a key of that name or `b` inside `a`.
        paths.append("$['data']" + "".join(f"['{name}']" for name in drop.key.split(".")))
    return [element("exclude", "", {"key": path, "pattern": pattern}) for path in paths]
