"""Commands about a job's files: upload in parts, resume, complete, inspect, unpack, remove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

from nodeimage.protocol import project_key
from supervisor.cloud.ports import CloudError, PartMismatch, Refused, UploadedPart
from supervisor.domain.errors import CommandError, Conflict, NotFound, Rejected
from supervisor.domain.file import FileStatus, clean_path
from supervisor.domain.ids import new_id
from supervisor.domain.job import JobStatus
from supervisor.domain.upload import check_complete, gib, part_count, part_length, part_size
from supervisor.farm import Farm
from supervisor.inspection.stream import EndedEarly, ExactReader
from supervisor.lifecycle.intake import check_file, forget_file
from supervisor.queries import FileView
from supervisor.room import check_room, full_store_refused
from supervisor.store import files as store
from supervisor.store.files import FileRow, Standing

_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPlan:
    """Where the parts of an upload go."""

    file: str  #: id
    part_bytes: int  #: size of every part but the last
    received: tuple[UploadedPart, ...]  #: parts that need not be sent again
    urls: tuple[tuple[int, str | None], ...]  #: (number, presigned URL) of the others; None: through the app


def begin_file(farm: Farm, job: str, *, path: str, length: int, modified_ms: int | None = None, endpoint: str | None = None) -> UploadPlan:
    """Begin a file's upload, or go on with the one of the same path, length and time. Another content of that path is replaced.

    Shape:   endpoint: the store's address as the client reaches it; None: the client can't, parts go through the app.
             A whole file of the same path, length and time is kept: every part counts as received, and only `complete_file` is left.
             modified_ms None: nobody can tell whether it is the same content, so the upload begins anew
    Errors:  Rejected (path, bytes: empty, too large, too many files, a name that differs only in case), NotFound,
             Conflict (not a draft), OutOfSpace
    """
    clean = clean_path(path)
    _check_length(farm, clean, length)
    with farm.db.read() as connection:
        standing = store.standing(connection, job, clean)
    _check_standing(farm, job, clean, length, standing)
    existing = standing.existing
    if existing and modified_ms is not None and (existing.bytes, existing.modified_ms) == (length, modified_ms):
        if existing.status in {FileStatus.READY, FileStatus.CHECKING}:
            return _plan_of_whole(existing)
        plan = _plan(farm, existing, endpoint) if existing.status is FileStatus.UPLOADING else None
        if plan:
            return plan
    check_room(farm, length, what=f"“{clean}”")
    made = _add_upload(farm, job, clean, length=length, modified_ms=modified_ms)
    return UploadPlan(file=made.id, part_bytes=made.part_bytes, received=(), urls=_urls(farm, made, (), endpoint))


def resume_file(farm: Farm, job: str, file: str, *, endpoint: str | None = None) -> UploadPlan:
    """The parts already received, and fresh URLs for the others. Errors: NotFound, Conflict (it is complete)"""
    row = _uploading(farm, job, file)
    plan = _plan(farm, row, endpoint)
    if plan is None:
        raise Conflict(f"the upload of “{row.path}” is gone from the store; begin it again")
    return plan


def put_part(farm: Farm, job: str, file: str, *, number: int, source: BinaryIO, length: int) -> str:
    """Stream one part through the app. Returns: its ETag. Errors: Rejected (length), NotFound, Conflict, OutOfSpace"""
    row = _uploading(farm, job, file)
    due = part_length(number, length=row.bytes, part_bytes=row.part_bytes)
    if length != due:
        raise Rejected(f"part {number} of “{row.path}” has {due} bytes; {length} were sent", field="length")
    check_room(farm, length, what=f"part {number} of “{row.path}”")
    etag = _stream_part(farm, row, number, source, length)
    with farm.db.write() as connection:
        store.touch(connection, row.id, at=farm.now())
    return etag


def complete_file(farm: Farm, job: str, file: str, *, parts: Sequence[tuple[int, str]]) -> FileView:
    """Make the file whole; inspect a .blend, unpack a zip (then the zip's own row is gone and its files are there).

    Returns: the file, READY or BAD with its problem; of a zip, CHECKING while it is unpacked in the background
    Repeat:  safe: completing a complete file returns it
    Errors:  Rejected - field `parts`: a part is missing or its ETag is wrong; the upload stays and can go on; NotFound; OutOfSpace
    """
    row = _file(farm, job, file)
    if row.status is FileStatus.UPLOADING:
        _join(farm, row, parts)
        with farm.db.write() as connection:
            is_first = store.mark_checking(connection, row, at=farm.now())
        row = _file(farm, job, file)
        if is_first:
            check_file(farm, row, is_asked=True)
    return file_view(farm, job, file)


def put_file(farm: Farm, job: str, *, path: str, source: BinaryIO, length: int) -> FileView:
    """The same in one streamed request. Errors: as begin_file and complete_file"""
    plan = begin_file(farm, job, path=path, length=length)
    try:
        etags = [
            (number, put_part(farm, job, plan.file, number=number, source=source, length=_length_of(plan, number, length)))
            for number in range(1, part_count(length, plan.part_bytes) + 1)
        ]
        return complete_file(farm, job, plan.file, parts=etags)
    except (CommandError, CloudError, OSError):
        # who sends a file in one request has nothing to resume it with
        with farm.db.read() as connection:
            row = store.file_by_id(connection, plan.file, job=job)
        if row and row.status is FileStatus.UPLOADING:
            forget_file(farm, row)
        raise


def remove_file(farm: Farm, job: str, file: str) -> None:
    """Take a file out of a draft, uploaded or half uploaded. Errors: NotFound, Conflict"""
    row = _file(farm, job, file)
    if not forget_file(farm, row):
        with farm.db.read() as connection:
            _check_draft(store.standing(connection, job, row.path))


def file_view(farm: Farm, job: str, file: str) -> FileView:
    """A file as pages and the API show it. Errors: NotFound"""
    row = _file(farm, job, file)
    with farm.db.read() as connection:
        is_main = store.main_file_id(connection, job) == row.id
    return FileView(
        id=row.id,
        job=row.job,
        path=row.path,
        bytes=row.bytes,
        status=row.status,
        problem=row.problem,
        is_main=is_main,
        inspection=row.inspection,
    )


def _check_length(farm: Farm, path: str, length: int) -> None:
    limit = farm.config.uploads.max_file_gib
    if length <= 0:
        raise Rejected(f"“{path}” is empty (0 bytes): save or export it again, or leave it out", field="bytes")
    if length > limit * _GIB:
        raise Rejected(f"“{path}” has {gib(length)}; one file may have {limit:g} GiB ([uploads] max_file_gib)", field="bytes")


def _check_draft(standing: Standing) -> None:
    if standing.job_status is None:
        raise NotFound("there is no such job (any more)")
    if standing.job_status is not JobStatus.DRAFT:
        raise Conflict(f"this job is {standing.job_status}; files can be added and removed only before it is submitted")


def _check_standing(farm: Farm, job: str, path: str, length: int, standing: Standing) -> None:
    _check_draft(standing)
    limits, existing = farm.config.uploads, standing.existing
    if existing and existing.path != path:
        raise Rejected(
            f"“{path}” differs from “{existing.path}” in upper and lower case only; some systems take these for one file. Rename one",
            field="path",
        )
    if standing.above or standing.below:
        raise Rejected(f"“{path}” can't be both a file and a folder: the job has “{standing.above or standing.below}”", field="path")
    if standing.count >= limits.max_files:
        raise Rejected(f"this job has {standing.count} files, the most that one may have ([uploads] max_files)", field="path")
    if standing.bytes + length > limits.max_job_gib * _GIB:
        raise Rejected(
            f"with “{path}” this job has {gib(standing.bytes + length)}; {limits.max_job_gib:g} GiB are allowed ([uploads] max_job_gib)",
            field="bytes",
        )


def _add_upload(farm: Farm, job: str, path: str, *, length: int, modified_ms: int | None) -> FileRow:
    key, now = project_key(job, path), farm.now()
    with full_store_refused():
        upload_id = farm.cloud.uploads.begin(key)
    made = FileRow(
        id=new_id("file"),
        job=job,
        path=path,
        bytes=length,
        modified_ms=modified_ms,
        checksum="",
        status=FileStatus.UPLOADING,
        problem="",
        key=key,
        upload_id=upload_id,
        part_bytes=part_size(length, smallest=farm.config.uploads.part_mib << 20),
        inspection=None,
        created_at=now,
        touched_at=now,
    )
    try:
        with farm.db.write() as connection:
            standing = store.standing(connection, job, path)
            _check_standing(farm, job, path, length, standing)  # again: others may have been quicker
            store.add_upload(connection, made, replaces=standing.existing)
    except CommandError:
        farm.cloud.uploads.abort(key, upload_id)
        raise
    if standing.existing and standing.existing.upload_id:
        farm.cloud.uploads.abort(standing.existing.key, standing.existing.upload_id)
    return made


def _plan(farm: Farm, row: FileRow, endpoint: str | None) -> UploadPlan | None:
    """Returns: None if the store doesn't know the upload (any more)"""
    received = farm.cloud.uploads.parts(row.key, row.upload_id) if row.upload_id else None
    if received is None:
        return None
    whole = _whole_parts(row, received)
    with farm.db.write() as connection:
        store.touch(connection, row.id, at=farm.now())
    return UploadPlan(file=row.id, part_bytes=row.part_bytes, received=whole, urls=_urls(farm, row, whole, endpoint))


def _plan_of_whole(row: FileRow) -> UploadPlan:
    count = part_count(row.bytes, row.part_bytes)
    numbers = range(1, count + 1)
    lengths = (part_length(number, length=row.bytes, part_bytes=row.part_bytes) for number in numbers)
    received = tuple(UploadedPart(number=n, etag="received", bytes=length) for n, length in zip(numbers, lengths, strict=True))
    return UploadPlan(file=row.id, part_bytes=row.part_bytes, received=received, urls=())


def _whole_parts(row: FileRow, received: Sequence[UploadedPart]) -> tuple[UploadedPart, ...]:
    """The parts that need not be sent again. A store may list several of one number: broken ones, and earlier ones of another content."""
    found: dict[int, set[UploadedPart]] = {}
    for part in received:
        if _is_whole(row, part):
            found.setdefault(part.number, set()).add(part)
    return tuple(parts.pop() for _, parts in sorted(found.items()) if len(parts) == 1)


def _is_whole(row: FileRow, part: UploadedPart) -> bool:
    if not 1 <= part.number <= part_count(row.bytes, row.part_bytes):
        return False
    return part.bytes == part_length(part.number, length=row.bytes, part_bytes=row.part_bytes)


def _urls(farm: Farm, row: FileRow, received: Sequence[UploadedPart], endpoint: str | None) -> tuple[tuple[int, str | None], ...]:
    assert row.upload_id is not None, "only an upload under way has parts to send"
    have = {part.number for part in received}
    missing = [number for number in range(1, part_count(row.bytes, row.part_bytes) + 1) if number not in have]
    if endpoint is None:
        return tuple((number, None) for number in missing)
    return tuple((number, farm.cloud.uploads.part_url(row.key, row.upload_id, number, endpoint=endpoint)) for number in missing)


def _stream_part(farm: Farm, row: FileRow, number: int, source: BinaryIO, length: int) -> str:
    assert row.upload_id is not None, "only an upload under way takes parts"
    exact = ExactReader(source, length)
    try:
        with full_store_refused():
            return farm.cloud.uploads.put_part(row.key, row.upload_id, number, cast("BinaryIO", exact), length=length)
    except (CloudError, EndedEarly) as error:
        if exact.is_short:
            said = f"part {number} of “{row.path}” ended after {exact.taken} of {length} bytes; send it again"
            raise Rejected(said, field="length") from error
        if isinstance(error, Refused):
            raise Conflict(f"the upload of “{row.path}” is gone from the store; begin it again") from error
        raise


def _join(farm: Farm, row: FileRow, parts: Sequence[tuple[int, str]]) -> None:
    assert row.upload_id is not None, "an upload under way has an id"
    check_complete([number for number, _ in parts], length=row.bytes, part_bytes=row.part_bytes)
    stored = farm.cloud.uploads.parts(row.key, row.upload_id)
    # None: an earlier call may have completed it and died before it was written down; then completing again is safe
    named = {(number, etag.strip('"')) for number, etag in parts}
    wrong = next((part for part in stored or () if (part.number, part.etag) in named and not _is_whole(row, part)), None)
    if wrong:
        raise Rejected(f"part {wrong.number} has {wrong.bytes} bytes, which is not its length; upload it again", field="parts")
    try:
        with full_store_refused():
            farm.cloud.uploads.complete(row.key, row.upload_id, sorted(named))
    except PartMismatch as error:
        said = f"part {error.number} is not the one that was stored; upload it and complete the file again"
        raise Rejected(said, field="parts") from error
    except Refused as error:
        raise Conflict(f"the upload of “{row.path}” is gone from the store; begin it again") from error


def _length_of(plan: UploadPlan, number: int, length: int) -> int:
    return part_length(number, length=length, part_bytes=plan.part_bytes)


def _file(farm: Farm, job: str, file: str) -> FileRow:
    with farm.db.read() as connection:
        row = store.file_by_id(connection, file, job=job)
    if row is None:
        raise NotFound("there is no such file in this job (any more); it may have been replaced or removed")
    return row


def _uploading(farm: Farm, job: str, file: str) -> FileRow:
    row = _file(farm, job, file)
    if row.status is not FileStatus.UPLOADING:
        raise Conflict(f"“{row.path}” is uploaded already; to replace it, begin its upload anew")
    return row
