"""Look after the database's file: copy it while it is in use, and say whether it is whole."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


class NoDatabase(Exception):
    """There is no database where one should be."""


def copy_database(source: Path, target: Path) -> None:
    """Make `target` a copy of the database as it is at one moment, while others go on using it. Errors: NoDatabase, sqlite3.Error"""
    if not source.is_file():
        raise NoDatabase(f"there is no database {source}")
    with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        # one file, without a log beside it: it is about to be carried away
        new.execute("PRAGMA journal_mode=DELETE")


def damage_of(path: Path) -> str:
    """What SQLite finds wrong with the file. Returns: empty if nothing. Errors: NoDatabase"""
    if not path.is_file():
        raise NoDatabase(f"there is no database {path}")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == ["ok"] else "; ".join(found)
