"""The agent's own log: one line an event, fields as key=value, to standard error."""

from __future__ import annotations

import logging

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class FieldFormatter(logging.Formatter):
    """Writes `time level event key=value …`."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        fields = " ".join(f"{name}={value!r}" for name, value in record.__dict__.items() if name not in _STANDARD)
        first, newline, rest = line.partition("\n")
        return f"{first} {fields}".rstrip() + newline + rest


def log_to_stderr() -> None:
    """Make the agent's log go to standard error; libraries only where something is wrong."""
    handler = logging.StreamHandler()
    handler.setFormatter(FieldFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("nodeimage").setLevel(logging.INFO)
