"""The schema's migrations: they end where schema.py begins, and keep a copy of what they change."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from supervisor.store.database import Database
from supervisor.store.migrate import MIGRATIONS, NewerDatabase, migrate
from supervisor.store.schema import metadata


def test_migrations_make_the_tables_of_the_schema(tmp_path: Path) -> None:
    db = Database.open(tmp_path / "kiln.db")

    assert migrate(db, tmp_path / "kiln.db") is None

    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_an_up_to_date_database_changes_nothing(tmp_path: Path) -> None:
    db = Database.open(tmp_path / "kiln.db")
    migrate(db, tmp_path / "kiln.db")

    assert migrate(db, tmp_path / "kiln.db") is None
    assert [path.name for path in tmp_path.iterdir() if "before" in path.name] == []


def test_a_database_of_a_newer_kiln_is_refused(tmp_path: Path) -> None:
    db = Database.open(tmp_path / "kiln.db")
    migrate(db, tmp_path / "kiln.db")
    with closing(sqlite3.connect(tmp_path / "kiln.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()

    with pytest.raises(NewerDatabase, match="9999"):
        migrate(db, tmp_path / "kiln.db")


def test_a_database_that_is_behind_is_copied_before_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "kiln.db"
    db = Database.open(path)
    migrate(db, path)
    with db.write() as connection:
        connection.exec_driver_sql("INSERT INTO users VALUES ('user_1', 'ada', '', 'admin', 0, '2026-01-01')")
    steps = tmp_path / "migrations"
    _copy_with_one_more_step(steps)

    copy = migrate(db, path, migrations=steps)

    assert copy == tmp_path / f"kiln.db.before-{len(_steps()) + 1:04d}"
    with closing(sqlite3.connect(copy)) as old, closing(sqlite3.connect(path)) as new:
        assert old.execute("SELECT name FROM users").fetchall() == [("ada",)]
        assert old.execute("SELECT count(*) FROM pragma_table_info('users') WHERE name = 'email'").fetchone() == (0,)
        assert new.execute("SELECT name, email FROM users").fetchall() == [("ada", "")]


def test_steps_are_numbered_and_each_follows_the_one_before() -> None:
    names = [path.name for path in _steps()]

    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def _steps() -> list[Path]:
    return sorted((MIGRATIONS / "versions").glob("[0-9]*.py"))


def _copy_with_one_more_step(steps: Path) -> None:
    (steps / "versions").mkdir(parents=True)
    (steps / "env.py").write_text((MIGRATIONS / "env.py").read_text())
    for path in _steps():
        (steps / "versions" / path.name).write_text(path.read_text())
    last = len(_steps())
    (steps / "versions" / f"{last + 1:04d}_more.py").write_text(
        f"import sqlalchemy as sa\nfrom alembic import op\nrevision = '{last + 1:04d}'\ndown_revision = '{last:04d}'\n"
        "def upgrade():\n"
        "    with op.batch_alter_table('users') as users:\n"
        "        users.add_column(sa.Column('email', sa.String(), nullable=False, server_default=''))\n"
    )
