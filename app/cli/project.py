"""Which local files a submission has, and the paths they get in the job."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from supervisor.domain.errors import Rejected
from supervisor.domain.file import clean_path

#: Never part of a project: what version control and file browsers leave behind, and Blender's backups.
_SKIPPED_NAMES = frozenset({".git", ".svn", ".hg", "__pycache__", ".DS_Store", "Thumbs.db", "desktop.ini"})
_SKIPPED_ENDINGS = (".blend1", ".blend2", ".blend3", ".blend@")


class BadProject(Exception):
    """The files can't be submitted as named; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A file to upload."""

    source: Path
    path: str  #: in the job
    bytes: int
    modified_ms: int


def gather(main: Path, others: Sequence[Path]) -> list[LocalFile]:
    """List the main file, first, and the others, folders with all that is in them but empty files, which no farm takes.

    Paths in the job are relative to the main file's folder; if something lies outside of it, to the folder that holds all,
    so that what the .blend says of its neighbours (`//../textures`) stays true.

    Errors:  BadProject - a file is not there, is empty, can't be read, or has a name that no job takes
    """
    if not main.is_file():
        raise BadProject(f"there is no file {main}" if not main.exists() else f"{main} is not a file; name the .blend (or .zip) to render")
    sources = [main.absolute(), *(each.absolute() for other in others for each in _files_of(other))]
    unique = list(dict.fromkeys(Path(os.path.normpath(source)) for source in sources))
    root = Path(os.path.commonpath([source.parent for source in unique]))
    return [_local_file(source, root) for source in unique]


def _files_of(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise BadProject(f"there is no file or folder {path}")
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_NAMES)
        for name in sorted(names):
            file = Path(folder, name)
            if name not in _SKIPPED_NAMES and not name.endswith(_SKIPPED_ENDINGS) and (file.stat().st_size or not file.is_file()):
                yield file


def _local_file(source: Path, root: Path) -> LocalFile:
    try:
        stat = source.stat()
    except OSError as error:
        raise BadProject(f"can't read {source}: {error.strerror}") from error
    if not os.access(source, os.R_OK):
        raise BadProject(f"can't read {source}: permission denied")
    try:
        path = clean_path(source.relative_to(root).as_posix())
    except Rejected as error:
        raise BadProject(f"{str(source)!r} can't be in a job: {error}") from error
    return LocalFile(source=source, path=path, bytes=stat.st_size, modified_ms=stat.st_mtime_ns // 1_000_000)
