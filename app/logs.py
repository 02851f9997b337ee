"""How the farm's log looks: one line an event, as text for people or as JSON for programs, to standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

import structlog

from supervisor.config import LogConfig

#: Libraries that tell every step of theirs.
_QUIET = {
    "alembic": logging.WARNING,
    "apscheduler": logging.ERROR,
    "boto3": logging.WARNING,
    "botocore": logging.WARNING,
    "urllib3": logging.ERROR,
}


def set_up_logs(config: LogConfig) -> None:
    """Make every logger, structlog's and the standard library's, write alike. Repeat: safe."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    as_json = config.format == "json"
    if as_json:
        shared.append(structlog.processors.format_exc_info)
    # Plain tracebacks: the pretty ones show the values of variables, keys among them.
    as_text = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer() if as_json else as_text
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(config.level.upper())
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class _StandardError:
    """Standard error as it is when something is written: tests put another in its place."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def logs_of_a_command() -> Iterator[None]:
    """Let a command log warnings and worse alone, to standard error: standard output is for what it was asked."""
    before = structlog.get_config()
    file = cast(TextIO, _StandardError())  # all of a file that a logger uses
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), logger_factory=structlog.PrintLoggerFactory(file=file)
    )
    try:
        yield
    finally:
        structlog.configure(**before)
