"""Bring the database up to date before anything else touches it, keeping a copy of the file as it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from .database import Database

MIGRATIONS = Path(__file__).parent / "migrations"


class NewerDatabase(Exception):
    """The database was made by a newer Kiln than this one."""


class DamagedDatabase(Exception):
    """A migration would leave the database inconsistent: nothing was changed."""


def migrate(db: Database, path: Path, *, migrations: Path = MIGRATIONS) -> Path | None:
    """Bring the schema up to date.

    Shape:   path: the database's file; its copy is put beside it, `<name>.before-<number of the first step taken>`
    Repeat:  safe; with nothing to do it changes nothing
    Returns: the copy; None if the database was new or up to date
    Errors:  NewerDatabase - run the newer Kiln, or restore a copy; DamagedDatabase
    """
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    steps = ScriptDirectory.from_config(config)
    with db.engine.connect() as connection:
        at = MigrationContext.configure(connection).get_current_revision()
        connection.rollback()
    if at == steps.get_current_head():
        return None
    known = {step.revision for step in steps.walk_revisions()}
    if at is not None and at not in known:
        raise NewerDatabase(
            f"the database {path} is at step {at}, which this Kiln does not know: it was made by a newer one. "
            f"Run that one, or put back a copy ({path.name}.before-…) from before it"
        )
    copy = _copy(path, before=_step_after(steps, at)) if at else None
    with _migrating(db) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return copy


def _step_after(steps: ScriptDirectory, revision: str) -> str:
    return next(step.revision for step in steps.walk_revisions() if step.down_revision == revision)


def _copy(path: Path, *, before: str) -> Path:
    copy = path.with_name(f"{path.name}.before-{before}")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


@contextmanager
def _migrating(db: Database) -> Iterator[Connection]:
    """One transaction for all steps.

    Foreign keys are off in it: SQLite alters a table by making it anew, and dropping the old one would cascade.
    """
    with db.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield connection
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise DamagedDatabase(f"a migration would leave {len(broken)} rows without their parent, the first in {broken[0][0]}")
        except BaseException:
            connection.rollback()
            raise
        else:
            connection.commit()
        finally:
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")
            connection.rollback()
