"""How the long-running processes log: JSON lines in service, readable and warnings only on a terminal.

A traceback never shows the values of variables: a request's password is one of them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from pilothouse.problems import PilothouseError


class _Libraries(logging.Handler):
    """What libraries warn of by the standard library's logging, as lines like our own."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger(record.name).log(
                record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
            )
        except Exception:
            self.handleError(record)


def configure(process: str) -> None:
    """Set structlog up for this process, for warnings of libraries as well; `process` stands in every line."""
    terminal = sys.stderr.isatty()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if terminal:
        last: list[Any] = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        transform = ExceptionDictTransformer(show_locals=False)
        last = [structlog.processors.ExceptionRenderer(transform), structlog.processors.JSONRenderer()]
    structlog.contextvars.bind_contextvars(process=process)
    structlog.configure(
        processors=shared + last,
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if terminal else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    if not any(isinstance(handler, _Libraries) for handler in root.handlers):
        root.addHandler(_Libraries(logging.WARNING))


@contextmanager
def ending(process: str) -> Iterator[None]:
    """A process that cannot go on ends with 2, and says in two lines what is wrong and the way out."""
    try:
        yield
    except PilothouseError as failure:
        print(f"pilothouse {process}: {failure.message}", file=sys.stderr)
        if failure.hint:
            print(f"  → {failure.hint}", file=sys.stderr)
        raise SystemExit(2) from failure
