"""The loss linter: one finding per known way to lose or multiply records."""

from __future__ import annotations

import pytest
from support.builders import inputs, service

from pilothouse.artifacts.model import Format
from pilothouse.collectors import logging
from pilothouse.problems import Severity
from pilothouse.source import Source

SAFE = {
    "@type": "elasticsearch",
    "write_operation": "create",
    "id_key": "_hash",
    "request_timeout": "30s",
    "reload_connections": "false",
    "unrecoverable_error_types": '["out_of_memory_error"]',
}
BUFFER = {"@type": "file", "chunk_limit_size": "8m", "total_limit_size": "1g", "retry_forever": "true"}


def found(output: dict[str, str | None] | None = None, buffer: dict[str, str | None] | None = None) -> list[str]:
    """The codes for the safe output with these parameters changed (None takes one away)."""
    lines = ["<match **>"]
    lines += [f"  {key} {value}" for key, value in {**SAFE, **(output or {})}.items() if value is not None]
    lines += ["  <buffer>"]
    lines += [f"    {key} {value}" for key, value in {**BUFFER, **(buffer or {})}.items() if value is not None]
    lines += ["  </buffer>", "</match>", ""]
    root, problems = logging.parse(Source("fluent.conf", "\n".join(lines)))
    assert problems == ()
    assert all(problem.hint and problem.place.line for problem in logging.lint(root))
    return [problem.code.removeprefix("logging/") for problem in logging.lint(root)]


def test_the_safe_recipe_has_no_finding() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("output", "buffer", "code"),
    [
        ({"id_key": None}, {}, "create-without-id"),
        ({"remove_keys": "a, _hash"}, {}, "id-key-removed"),
        ({"write_operation": "index", "id_key": None}, {}, "duplicates"),
        ({"request_timeout": None}, {}, "short-timeout"),
        ({"request_timeout": "15s"}, {}, "short-timeout"),
        ({"unrecoverable_error_types": None}, {}, "rejections-amplified"),
        ({"unrecoverable_error_types": "es_rejected_execution_exception,x"}, {}, "rejections-amplified"),
        ({"bulk_message_request_threshold": "60k"}, {}, "split-requests"),
        ({"reload_connections": None}, {}, "reload-connections"),
        ({"@type": "elasticsearch_data_stream"}, {}, "data-stream-output"),
        ({}, {"chunk_limit_size": "2g"}, "chunk-over-total"),
        ({}, {"total_limit_size": "16m", "chunk_limit_size": None}, "chunk-over-total"),
        ({}, {"overflow_action": "drop_oldest_chunk"}, "overflow-drops"),
        ({}, {"retry_forever": None}, "gives-up"),
        ({}, {"retry_forever": "false", "retry_timeout": "1h"}, "gives-up"),
        ({}, {"chunk_limit_size": "8.5m"}, "unit-misread"),
        ({}, {"flush_interval": "500ms"}, "unit-misread"),
        ({}, {"flush_interval": "0.5s"}, "unit-misread"),
        ({}, {"retry_max_interval": "1h30m"}, "unit-misread"),
        ({}, {"flush_at_shutdown": "on"}, "unit-misread"),
    ],
)
def test_each_rule(output: dict[str, str | None], buffer: dict[str, str | None], code: str) -> None:
    assert found(output, buffer) == [code]


@pytest.mark.parametrize(
    ("output", "buffer"),
    [
        ({"bulk_message_request_threshold": "-1"}, {}),
        ({"remove_keys": "a,b"}, {}),
        ({"unrecoverable_error_types": '"out_of_memory_error"'}, {}),
        ({}, {"queue_limit_length": "8", "total_limit_size": "1m"}),
        ({}, {"@type": "other", "chunk_limit_size": "2g"}),
        ({}, {"flush_interval": "\"#{ENV['I']}\""}),
        ({}, {"overflow_action": "block"}),
    ],
)
def test_what_is_harmless(output: dict[str, str | None], buffer: dict[str, str | None]) -> None:
    assert found(output, buffer) == []


def test_other_outputs_are_held_to_the_buffer_alone() -> None:
    root, _ = logging.parse(Source("f", "<match **>\n  @type file\n  path /x\n</match>\n"))
    assert logging.lint(root) == ()


def test_an_output_without_buffer_is_placed_at_itself() -> None:
    root, _ = logging.parse(Source("f", "\n<match **>\n  @type elasticsearch\n</match>\n"))
    by_code = {problem.code: problem for problem in logging.lint(root)}
    assert by_code["logging/gives-up"].place.line == 2
    assert by_code["logging/duplicates"].severity is Severity.WARNING


def test_what_we_derive_has_no_finding() -> None:
    derived = logging.derive(inputs([service("payments/api")]))
    checked = 0
    for document in derived.artifacts:
        if document.format is Format.TEXT:
            root, problems = logging.parse(Source(document.path, document.data))
            assert (problems, logging.lint(root)) == ((), ())
            checked += 1
    assert checked == 4
