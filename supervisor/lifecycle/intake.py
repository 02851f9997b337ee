"""What becomes of files once they are whole in the store: checksum, inspection; and uploads that nobody goes on with."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

from supervisor.cloud.ports import CloudError
from supervisor.domain.file import FileStatus
from supervisor.farm import Farm
from supervisor.inspection.stream import checksum_text, copy_with_checksum
from supervisor.store import files as store
from supervisor.store.files import FileRow

log = logging.getLogger(__name__)

#: A file so large gets its checksum in the background: reading it again would make whoever uploaded it wait.
_CHECKSUM_LATER_BYTES = 64 << 20


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
        except FileNotFoundError:
            _write_bad(farm, file, "its content is gone from the store; upload it again")
        except CloudError as error:
            log.warning("file not checked yet", extra={"job": file.job, "file": file.id, "error": str(error)})


def check_pending(farm: Farm, *, go_on: Callable[[], bool] = lambda: True) -> None:
    """Go on with files that are whole and not checked: big ones, and those that a restart interrupted."""
    with farm.db.read() as connection:
        pending = store.unchecked(connection)
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
        forget_file(farm, file)
        log.info("stale upload deleted", extra={"job": file.job, "file": file.id, "path": file.path})


def forget_file(farm: Farm, file: FileRow) -> None:
    """Make a file be gone: what the store has of it, then its row."""
    if file.upload_id:
        farm.cloud.uploads.abort(file.key, file.upload_id)
    farm.cloud.objects.delete([file.key])
    with farm.db.write() as connection:
        store.remove(connection, file)


def _check(farm: Farm, file: FileRow, *, is_asked: bool, go_on: Callable[[], bool]) -> None:
    if is_asked and file.bytes > _CHECKSUM_LATER_BYTES:
        _write_ready(farm, file, checksum="")
        return
    with closing(farm.cloud.objects.open(file.key)) as source:
        read = copy_with_checksum(source, lambda _: None, go_on=go_on)
    if read is None:
        return
    length, crc = read
    if length != file.bytes:
        _write_bad(farm, file, f"it has {length} bytes in the store where {file.bytes} were announced; upload it again")
    elif file.status is FileStatus.READY:
        with farm.db.write() as connection:
            store.keep_checksum(connection, file, checksum=checksum_text(crc))
    else:
        _write_ready(farm, file, checksum=checksum_text(crc))


def _write_ready(farm: Farm, file: FileRow, *, checksum: str) -> None:
    with farm.db.write() as connection:
        store.mark_ready(connection, file, checksum=checksum, inspection=None)


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
