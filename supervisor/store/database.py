"""Open SQLite safely, in one place: WAL, foreign keys, a busy timeout, and writers that begin as writers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection as Connection  # callers name the type; SQLAlchemy itself stays in this folder
from sqlalchemy import Engine, create_engine, event

_BUSY_TIMEOUT_MS = 10_000
#: Kept open: one for each thread that serves, and some for those of the timers.
_CONNECTIONS = 32


class Database:
    """The farm's database. One connection per block; several threads may use it at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open the file, made if need be, its schema as it is (`migrate` brings it up to date)."""
        engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False}, pool_size=_CONNECTIONS)
        event.listen(engine, "connect", _prepare)
        return cls(engine)

    @property
    def engine(self) -> Engine:
        """For migrations only."""
        return self._engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view of the database."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection
            connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end, rolled back on an exception.

        BEGIN IMMEDIATE: a deferred transaction that reads before it writes fails at once with “database is locked”, busy timeout ignored.
        """
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def checkpoint(self) -> None:
        """Write the log back into the file and cut it to nothing, as far as readers allow; else it grows with every write."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.rollback()

    def close(self) -> None:
        self._engine.dispose()


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves; sqlite3's own handling would begin deferred
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", f"busy_timeout={_BUSY_TIMEOUT_MS}", "synchronous=NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    assert cursor.execute("PRAGMA foreign_keys").fetchone() == (1,), "SQLite was built without foreign keys"
    cursor.close()
