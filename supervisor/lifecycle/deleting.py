"""Carry out deletions: a deleted job's rows went at once; its uploads, objects and workspace go here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import structlog

from nodeimage.protocol import project_key
from supervisor.cloud.ports import CloudError
from supervisor.farm import Farm
from supervisor.store import deletions
from supervisor.store.deletions import Deletion

log = structlog.get_logger(__name__)

_AT_ONCE = 500


def delete_leftovers(farm: Farm, *, go_on: Callable[[], bool] = lambda: True) -> None:
    """Delete what deleted jobs left behind. Repeat: safe; what the cloud prevents now is left for the next time"""
    with farm.db.read() as connection:
        left = deletions.deletions_left(connection)
    for deletion in left:
        try:
            is_done = _delete(farm, deletion, go_on)
        except CloudError as error:
            log.warning("deletion not finished yet", job=deletion.job, error=str(error))
            continue
        if not is_done:
            return
        with farm.db.write() as connection:
            deletions.remove_deletion(connection, deletion.job)
        log.info("deletion finished", job=deletion.job)


def _delete(farm: Farm, deletion: Deletion, go_on: Callable[[], bool]) -> bool:
    """Returns: False if it was told to stop on the way"""
    for key, upload_id in deletion.uploads:
        farm.cloud.uploads.abort(key, upload_id)
    for prefix in (f"received/{deletion.job}/", project_key(deletion.job, "")):
        while keys := list(islice(_keys(farm, prefix), _AT_ONCE)):
            farm.cloud.objects.delete(keys)
            if not go_on():
                return False
    farm.cloud.workspaces.delete(deletion.job)
    return True


def _keys(farm: Farm, prefix: str) -> Iterator[str]:
    return (listed.key for listed in farm.cloud.objects.list(prefix))
