"""What becomes of files once they are whole in the store: checksum, inspection, unpacking; and uploads that nobody goes on with."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import structlog

from supervisor.cloud.ports import CloudError
from supervisor.domain.errors import OutOfSpace
from supervisor.domain.file import FileStatus, is_blend
from supervisor.domain.job import JobStatus
from supervisor.domain.scene import Inspection
from supervisor.domain.upload import gib
from supervisor.farm import Farm
from supervisor.inspection.plain import NotUsable, TooLarge
from supervisor.inspection.recognise import misnamed
from supervisor.inspection.sandbox import Interrupted, NoRoom, inspect_blend
from supervisor.inspection.stream import checksum_text, copy_with_checksum
from supervisor.room import check_room, kept_free_bytes
from supervisor.store import files as store
from supervisor.store.files import FileRow

from .unpack import is_project_zip, unpack_zip

log = structlog.get_logger(__name__)

#: A file so large gets its checksum in the background: reading it again would make whoever uploaded it wait.
_CHECKSUM_LATER_BYTES = 64 << 20
#: What a compressed .blend may grow to however small it is.
_ALWAYS_ALLOWED_BYTES = 256 << 20


def check_file(farm: Farm, file: FileRow, *, is_asked: bool = False, go_on: Callable[[], bool] = lambda: True) -> None:
    """Make a file that is whole in the store READY, or BAD with its problem; give a READY one its checksum.

    Shape:   is_asked: somebody waits for it
    Repeat:  safe; one that is being checked already is left alone. What the cloud or the disk prevents now is left for the next time
    """
    with _in_hand(file.id) as is_mine:
        if not is_mine:
            return
        try:
            _check(farm, file, is_asked=is_asked, go_on=go_on)
        except NotUsable as error:
            _write_bad(farm, file, str(error))
        except FileNotFoundError:
            _write_bad(farm, file, "its content is gone from the store; upload it again")
        except Interrupted:
            return
        except OutOfSpace as error:
            _write_waiting(farm, file, str(error))
        except CloudError as error:
            log.warning("file not checked yet", job=file.job, file=file.id, error=str(error))


def check_pending(farm: Farm, *, go_on: Callable[[], bool] = lambda: True) -> None:
    """Go on with files that are whole and not checked: zips, big ones, and those that a restart or a full disk interrupted."""
    for is_zips_turn in (False, True, False):  # a zip may take long; and what comes out of it is not to wait for the next time
        with farm.db.read() as connection:
            pending = [file for file in store.unchecked(connection) if is_project_zip(file.path) is is_zips_turn]
        for file in pending:
            if not go_on():
                return
            check_file(farm, file, go_on=go_on)


def sweep_uploads(farm: Farm) -> None:
    """Delete uploads that nobody went on with for `[uploads] stale_days`."""
    since = farm.now() - timedelta(days=farm.config.uploads.stale_days)
    with farm.db.read() as connection:
        stale = store.stale_uploads(connection, untouched_since=since)
    for file in stale:
        if forget_file(farm, file):
            log.info("stale upload deleted", job=file.job, file=file.id, path=file.path)


def forget_file(farm: Farm, file: FileRow) -> bool:
    """Make a file of a draft be gone: its row, then what the store has of it, which goes with its job if we are cut off between the two.

    Returns: False if the job is no draft (any more): then its files stay
    """
    with farm.db.write() as connection:
        if store.standing(connection, file.job, file.path).job_status is not JobStatus.DRAFT:
            return False
        unpacked = store.remove_unpacked(connection, file)
        store.remove(connection, file)
    try:
        if file.upload_id:
            farm.cloud.uploads.abort(file.key, file.upload_id)
        farm.cloud.objects.delete([file.key, *(row.key for row in unpacked)])
    except CloudError as error:
        log.warning("content of a removed file is left until its job goes", job=file.job, file=file.id, error=str(error))
    return True


def _check(farm: Farm, file: FileRow, *, is_asked: bool, go_on: Callable[[], bool]) -> None:
    if problem := misnamed(file.path):
        raise NotUsable(problem)
    if is_project_zip(file.path) and file.status is FileStatus.CHECKING:
        if not is_asked:  # it may take minutes: the background's business
            unpack_zip(farm, file, go_on=go_on)
    elif is_blend(file.path) and file.status is FileStatus.CHECKING:
        _check_blend(farm, file, go_on=go_on)
    elif is_asked and file.bytes > _CHECKSUM_LATER_BYTES:
        _write_ready(farm, file, checksum="")
    elif checksum := _read(farm, file, lambda _: None, go_on=go_on):
        _write_ready(farm, file, checksum=checksum)


def _check_blend(farm: Farm, file: FileRow, *, go_on: Callable[[], bool]) -> None:
    check_room(farm, file.bytes, what=f"reading “{file.path}”")
    farm.scratch_folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="inspect-", dir=farm.scratch_folder) as folder:
        copy = Path(folder) / "file.blend"
        with _full_disk_refused(), copy.open("wb") as out:
            checksum = _read(farm, file, out.write, go_on=go_on)
        if checksum:
            _write_ready(farm, file, checksum=checksum, inspection=_inspect(farm, file, copy, go_on=go_on))


def _inspect(farm: Farm, file: FileRow, copy: Path, *, go_on: Callable[[], bool]) -> Inspection:
    free = farm.cloud.premises.free_bytes()
    allowed = max(_ALWAYS_ALLOWED_BYTES, int(file.bytes * farm.config.uploads.max_zip_ratio))
    room = allowed if free is None else max(0, free - kept_free_bytes(farm))
    stem, limits = PurePosixPath(file.path).stem, farm.config.inspection
    try:
        return inspect_blend(copy, stem=stem, scratch=copy.parent, limits=limits, max_bytes=min(allowed, room), go_on=go_on)
    except TooLarge as error:
        if room < allowed:
            raise OutOfSpace(f"there is no room to unpack “{file.path}” for reading") from error
        raise NotUsable(f"unpacked, it has more than {gib(allowed)}, which no .blend of its size has ([uploads] max_zip_ratio)") from error
    except NoRoom as error:
        raise OutOfSpace(f"there is no room to unpack “{file.path}” for reading") from error


def _read(farm: Farm, file: FileRow, write: Callable[[bytes], object], *, go_on: Callable[[], bool]) -> str | None:
    """Read a file from the store once. Returns: its checksum; None if `go_on` said no. Errors: NotUsable - it has another length"""
    with closing(farm.cloud.objects.open(file.key)) as source:
        read = copy_with_checksum(source, write, go_on=go_on)
    if read is None:
        return None
    length, crc = read
    if length != file.bytes:
        raise NotUsable(f"it has {length} bytes in the store where {file.bytes} were announced; upload it again")
    return checksum_text(crc)


@contextmanager
def _full_disk_refused() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OutOfSpace("the farm's disk is full") from error


def _write_ready(farm: Farm, file: FileRow, *, checksum: str, inspection: Inspection | None = None) -> None:
    with farm.db.write() as connection:
        if file.status is FileStatus.READY:
            store.keep_checksum(connection, file, checksum=checksum)
        else:
            store.mark_ready(connection, file, checksum=checksum, inspection=inspection)


def _write_waiting(farm: Farm, file: FileRow, problem: str) -> None:
    if file.problem:
        return  # said already; only the numbers differ
    log.warning("file not checked for want of room", job=file.job, file=file.id)
    with farm.db.write() as connection:
        store.note_waiting(connection, file, problem=problem)


def _write_bad(farm: Farm, file: FileRow, problem: str) -> None:
    with farm.db.write() as connection:
        store.mark_bad(connection, file, problem=problem)


_hands: set[str] = set()
_hands_guard = threading.Lock()


@contextmanager
def _in_hand(file_id: str) -> Iterator[bool]:
    """Take a file into hand, so that a request and the timer don't check it both. Gives False if somebody has it."""
    with _hands_guard:
        is_mine = file_id not in _hands
        _hands.add(file_id)
    try:
        yield is_mine
    finally:
        if is_mine:
            with _hands_guard:
                _hands.discard(file_id)
