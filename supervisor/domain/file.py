"""Files of a job: their statuses, and which names may stand in a job."""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from pathlib import PurePosixPath

from .errors import Rejected


class FileStatus(StrEnum):
    """Where a file stands."""

    UPLOADING = "uploading"  #: its parts are arriving; it may be resumed
    CHECKING = "checking"  #: whole in the store; being inspected or, a zip, unpacked
    READY = "ready"  #: usable
    BAD = "bad"  #: unusable; `problem` says why and what to do


MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 800  #: an S3 key has 1,024 bytes; the prefix and SeaweedFS's own need some of them


def clean_path(path: str) -> str:
    """Make an uploaded relative path safe and canonical: forward slashes, no `.`, NFC. Spaces, quotes and unicode stay.

    Errors:  Rejected - field `path`: empty, absolute, with `..`, a control character, or a name over 255 bytes; says which
    """
    text = unicodedata.normalize("NFC", path.replace("\\", "/"))
    if not text.strip():
        raise Rejected("the file has no name", field="path")
    if any(unicodedata.category(c) == "Cs" for c in text):
        raise Rejected(f"the name {path!r} is not valid Unicode; rename the file", field="path")
    if any(unicodedata.category(c) == "Cc" for c in text):
        raise Rejected(f"the name {path!r} has a control character in it; rename the file", field="path")
    if text.startswith("/") or (len(text) > 1 and text[1] == ":" and text[0].isalpha()):
        raise Rejected(f"“{path}” is an absolute path; a job's files have paths relative to the job", field="path")
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise Rejected(f"“{path}” leaves the job's folder (..); put the file inside it", field="path")
    if not parts:
        raise Rejected("the file has no name", field="path")
    clean = "/".join(parts)
    _check_lengths(clean, parts)
    return clean


def _check_lengths(clean: str, parts: list[str]) -> None:
    for part in parts:
        if len(part.encode()) > MAX_NAME_BYTES:
            raise Rejected(f"the name “{part[:40]}…” is longer than {MAX_NAME_BYTES} bytes; shorten it", field="path")
    if len(clean.encode()) > MAX_PATH_BYTES:
        raise Rejected(f"the path “{clean[:40]}…” is longer than {MAX_PATH_BYTES} bytes; use fewer or shorter folders", field="path")


def is_blend(path: str) -> bool:
    """Say whether a path bears Blender's file name (backups such as .blend1 do not count)."""
    return PurePosixPath(path).suffix.lower() == ".blend"


def is_zip(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() == ".zip"
