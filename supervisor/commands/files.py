"""Commands about a job's files: upload in parts, resume, complete, inspect, unpack, remove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from supervisor.cloud.ports import UploadedPart
from supervisor.farm import Farm
from supervisor.queries import FileView


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPlan:
    """Where the parts of an upload go."""

    file: str  #: id
    part_bytes: int  #: size of every part but the last
    received: tuple[UploadedPart, ...]  #: parts that need not be sent again
    urls: tuple[tuple[int, str | None], ...]  #: (number, presigned URL) of the others; None: through the app


def begin_file(
    farm: Farm, job: str, *, path: str, length: int, modified_ms: int | None = None, endpoint: str | None = None
) -> UploadPlan:
    """Begin a file's upload, or go on with the one of the same path, length and time. A whole file of that path is replaced when the new one completes
    (READY stays usable until then is NOT promised: the row becomes UPLOADING).

    Shape:   endpoint: the store's address as the client reaches it; None: the client can't, parts go through the app
    Errors:  Rejected (path, bytes: empty file, too large, too many files, a name that differs only in case), NotFound, Conflict (not a draft), OutOfSpace
    """
    raise NotImplementedError


def resume_file(farm: Farm, job: str, file: str, *, endpoint: str | None = None) -> UploadPlan:
    """The parts already received, and fresh URLs for the others. Errors: NotFound, Conflict (it is complete)"""
    raise NotImplementedError


def put_part(farm: Farm, job: str, file: str, *, number: int, source: BinaryIO, length: int) -> str:
    """Stream one part through the app. Returns: its ETag. Errors: Rejected (length), NotFound, Conflict, OutOfSpace"""
    raise NotImplementedError


def complete_file(farm: Farm, job: str, file: str, *, parts: Sequence[tuple[int, str]]) -> FileView:
    """Make the file whole; inspect a .blend, unpack a zip (then the zip's own row is gone and its files are there).

    Returns: the file, READY or BAD with its problem; of a zip, CHECKING while it is unpacked in the background
    Repeat:  safe: completing a complete file returns it
    Errors:  Rejected - field `parts`: a part is missing or its ETag is wrong; the upload stays and can go on; NotFound; OutOfSpace
    """
    raise NotImplementedError


def put_file(farm: Farm, job: str, *, path: str, source: BinaryIO, length: int) -> FileView:
    """The same in one streamed request. Errors: as begin_file and complete_file"""
    raise NotImplementedError


def remove_file(farm: Farm, job: str, file: str) -> None:
    """Take a file out of a draft, uploaded or half uploaded. Errors: NotFound, Conflict"""
    raise NotImplementedError
