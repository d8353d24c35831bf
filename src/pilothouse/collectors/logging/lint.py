"""Finds what loses or multiplies records in a Fluentd configuration, ours or anybody's.

One rule per way that was seen to lose records or to overload Elasticsearch. The rules read the values as
Fluentd does (`units`), and what our own derivation makes has no finding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator

from pilothouse.collectors.logging import units
from pilothouse.collectors.logging.config import Element, Param
from pilothouse.problems import Problem, error, ordered, warning

SHORTEST_TIMEOUT = 30
SIZES = frozenset(("chunk_limit_size", "total_limit_size", "buffer_chunk_limit", "limit_size"))
TIMES = frozenset(
    (
        "flush_interval",
        "request_timeout",
        "retry_wait",
        "retry_max_interval",
        "retry_timeout",
        "timekey",
        "timekey_wait",
        "flush_thread_interval",
        "flush_thread_burst_interval",
        "refresh_interval",
        "rotate_wait",
        "slow_flush_log_threshold",
    )
)
BOOLEANS = frozenset(
    ("reload_connections", "reload_on_failure", "reconnect_on_error", "retry_forever", "flush_at_shutdown")
)
# https://docs.fluentd.org/configuration/buffer-section: the defaults of a file and of a memory buffer.
_CHUNK_DEFAULT = {"file": 256 * 1024**2, "memory": 8 * 1024**2}
_TOTAL_DEFAULT = {"file": 64 * 1024**3, "memory": 512 * 1024**2}

Rule = Callable[[Element], Iterator[Problem]]


def lint(root: Element) -> tuple[Problem, ...]:
    """Every finding, by its place in the file."""
    found: list[Problem] = []
    for item in root.walk():
        for param in item.params:
            found.extend(_units(param))
        if item.name in ("match", "store"):
            kind = item.get("@type")
            for rule in _OUTPUT_RULES:
                found.extend(rule(item))
            if kind.startswith("elasticsearch"):
                for rule in _ELASTICSEARCH_RULES:
                    found.extend(rule(item))
    return ordered(found)


def _place(item: Element, *keys: str) -> Param | Element:
    """The first of these parameters that is there, otherwise the element."""
    return next((found for key in keys if (found := item.param(key))), item)


def _units(param: Param) -> Iterator[Problem]:
    if param.ruby:
        return
    if param.key in SIZES:
        meant, read = units.meant_size(param.value), float(units.read_size(param.value))
        unit, example = "bytes", "whole numbers with k, m or g, such as 8704k"
    elif param.key in TIMES:
        meant, read = units.meant_time(param.value), units.read_time(param.value)
        unit, example = "seconds", "whole numbers with s, m, h or d; a fraction without a unit, such as 0.5"
    elif param.key in BOOLEANS:
        if units.read_bool(param.value) is None:
            yield error(
                "logging/unit-misread",
                f"`{param.key} {param.value}` is no boolean to Fluentd",
                param.place,
                "write true or false",
            )
        return
    else:
        return
    if meant is None or abs(meant - read) > 1e-9:
        yield error(
            "logging/unit-misread",
            f"`{param.key} {param.value}` is {read:,g} {unit} to Fluentd",
            param.place,
            f"write {example}",
        )


def _buffer(item: Element) -> Element:
    found = item.all("buffer")
    return found[-1] if found else Element("buffer")


def _chunk_over_total(item: Element) -> Iterator[Problem]:
    buffer = _buffer(item)
    kind = buffer.get("@type", "memory")
    if kind not in _CHUNK_DEFAULT or not item.all("buffer"):
        return
    chunk = units.read_size(buffer.get("chunk_limit_size") or str(_CHUNK_DEFAULT[kind]))
    queue = buffer.get("queue_limit_length")
    total = units.read_size(buffer.get("total_limit_size") or str(_TOTAL_DEFAULT[kind]))
    if queue.isdigit():
        total = chunk * int(queue)  # it replaces total_limit_size
    if chunk > total:
        yield error(
            "logging/chunk-over-total",
            f"a chunk of {chunk:,} bytes does not fit into a buffer of {total:,}",
            _place(buffer, "total_limit_size", "chunk_limit_size").place,
            "make total_limit_size several times chunk_limit_size",
        )


def _drops_when_full(item: Element) -> Iterator[Problem]:
    param = _buffer(item).param("overflow_action")
    if param and param.value == "drop_oldest_chunk":
        yield error(
            "logging/overflow-drops",
            "a full buffer throws its oldest records away",
            param.place,
            "use `overflow_action block`: reading waits, and the lines stay in their files",
        )


def _gives_up(item: Element) -> Iterator[Problem]:
    buffer = _buffer(item)
    if not item.get("@type").startswith("elasticsearch") or units.read_bool(buffer.get("retry_forever", "false")):
        return
    yield error(
        "logging/gives-up",
        "when the retries end, the whole queue is thrown away",
        _place(buffer, "retry_max_times", "retry_timeout").place if item.all("buffer") else item.place,
        "set `retry_forever true` and a `retry_max_interval`",
    )


def _create_without_id(item: Element) -> Iterator[Problem]:
    operation = item.param("write_operation")
    if operation and operation.value == "create" and not item.get("id_key"):
        yield error(
            "logging/create-without-id",
            "`write_operation create` without `id_key` sends nothing at all, and every counter looks well",
            operation.place,
            "add an elasticsearch_genid filter and `id_key _hash`",
        )


def _id_removed(item: Element) -> Iterator[Problem]:
    removed = item.param("remove_keys")
    key = item.get("id_key")
    if removed and key and key in [name.strip() for name in removed.value.split(",")]:
        yield error(
            "logging/id-key-removed",
            f"`remove_keys` takes away the id key `{key}`: records that are rejected once are lost",
            removed.place,
            f"leave `{key}` in the record; a mapping with `index: false` makes it cheap",
        )


def _no_id(item: Element) -> Iterator[Problem]:
    if item.get("write_operation", "index") == "index" and not item.get("id_key"):
        yield warning(
            "logging/duplicates",
            "records have no id, so every request that is repeated makes duplicates",
            _place(item, "@type").place,
            "use `write_operation create` with a generated `id_key`",
        )


def _short_timeout(item: Element) -> Iterator[Problem]:
    seconds = units.read_time(item.get("request_timeout", "5s"))
    if seconds < SHORTEST_TIMEOUT:
        yield error(
            "logging/short-timeout",
            f"a bulk request is given up after {seconds:g} s and sent again while Elasticsearch still works on it",
            _place(item, "request_timeout", "@type").place,
            f"set `request_timeout {SHORTEST_TIMEOUT}s` or more",
        )


def _amplified(item: Element) -> Iterator[Problem]:
    param = item.param("unrecoverable_error_types")
    types = _list(param.value) if param else ["out_of_memory_error", "es_rejected_execution_exception"]
    if "es_rejected_execution_exception" in types:
        yield error(
            "logging/rejections-amplified",
            "one rejected record makes the whole chunk be sent again, which overloads Elasticsearch further",
            _place(item, "unrecoverable_error_types", "@type").place,
            'set `unrecoverable_error_types ["out_of_memory_error"]`, so that rejected records alone are repeated',
        )


def _list(value: str) -> list[str]:
    try:
        found = json.loads(value)
    except ValueError:
        found = re.split(r"\s*,\s*", value)
    return [str(item) for item in found] if isinstance(found, list) else [str(found)]


def _split(item: Element) -> Iterator[Problem]:
    param = item.param("bulk_message_request_threshold")
    if param and units.read_size(param.value) >= 0 and not param.value.startswith("-"):
        yield error(
            "logging/split-requests",
            "a chunk is sent as several requests, and when one of them is rejected, records of the others are lost "
            "or doubled",
            param.place,
            "set `bulk_message_request_threshold -1` and choose the size by `chunk_limit_size`",
        )


def _reloads(item: Element) -> Iterator[Problem]:
    if units.read_bool(item.get("reload_connections", "true")) is not False:
        yield error(
            "logging/reload-connections",
            "after 10,000 requests the output asks for other addresses, and stalls where they cannot be reached",
            _place(item, "reload_connections", "@type").place,
            "set `reload_connections false`",
        )


def _data_stream(item: Element) -> Iterator[Problem]:
    if item.get("@type") == "elasticsearch_data_stream":
        yield error(
            "logging/data-stream-output",
            "the data stream output loses every record that is rejected",
            _place(item, "@type").place,
            "use the plain `elasticsearch` output with `write_operation create` and the data stream's name as "
            "`index_name`",
        )


_OUTPUT_RULES: Iterable[Rule] = (_chunk_over_total, _drops_when_full, _gives_up)
_ELASTICSEARCH_RULES: Iterable[Rule] = (
    _create_without_id,
    _id_removed,
    _no_id,
    _short_timeout,
    _amplified,
    _split,
    _reloads,
    _data_stream,
)
