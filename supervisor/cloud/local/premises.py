"""This machine as a place to render: its Blenders, its room, its health, and what lies around that nobody owns."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from supervisor.cloud.ports import BlenderFound, Check, Compute, Holding, JobNeeds, ObjectStore, Workspaces
from supervisor.cloud.s3_uploads import S3Uploads
from supervisor.cloud.stray_uploads import stray_uploads
from supervisor.domain.instance import InstanceStatus

from .blender import Search, apt_line, missing_libraries

#: What is younger may belong to a job that was made after the sweep looked at the jobs.
_ORPHAN_AGE = timedelta(minutes=10)
_GIB = 1 << 30
_NODE_BYTES = 2 * _GIB  #: memory of one node with a small scene


@dataclass(frozen=True, slots=True, kw_only=True)
class _Orphan:
    id: str
    what: str
    remove: Callable[[], None]


class LocalPremises:
    """`Premises` of this machine."""

    def __init__(
        self,
        data: Path,
        *,
        search: Callable[[], Search],
        slots: int,
        min_free_bytes: int,
        objects: ObjectStore,
        uploads: S3Uploads,
        compute: Compute,
        workspaces: Workspaces,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._data = data
        self._search = search
        self._slots = slots
        self._min_free_bytes = min_free_bytes
        self._objects = objects
        self._uploads = uploads
        self._compute = compute
        self._workspaces = workspaces
        self._clock = clock

    def blenders(self) -> Sequence[BlenderFound]:
        return [BlenderFound(version=blender.version, where=blender.command) for blender in self._search().found]

    def free_bytes(self) -> int | None:
        return shutil.disk_usage(self._data).free

    def checks(self) -> Sequence[Check]:
        return [self._check_folder(), self._check_store(), self._check_room(), self._check_memory(), *self._check_blender()]

    def job_checks(self, needs: JobNeeds) -> Sequence[Check]:
        # What a job needs of this machine (a Blender that can open it, room) is checked without asking anybody.
        return ()

    def holdings(self) -> Sequence[Holding]:
        return ()

    def _check_folder(self) -> Check:
        is_ok = os.access(self._data, os.R_OK | os.W_OK | os.X_OK)
        remedy = "" if is_ok else f"give the user that runs Kiln the folder: chown -R $(id -u) {self._data}"
        return Check(name="data folder", is_ok=is_ok, text=f"{self._data} {'can' if is_ok else 'can not'} be written", remedy=remedy)

    def _check_store(self) -> Check:
        key = "doctor/check"
        try:
            self._objects.put(key, b"kiln")
            there = self._objects.get(key)
            self._objects.delete([key])
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the store is what the doctor is to tell
            return Check(name="object store", is_ok=False, text=str(error), remedy="see store/weed.log in the data folder")
        is_ok = there is not None and there.body == b"kiln"
        text = "answers, and keeps what is written" if is_ok else "answers, but does not give back what was written"
        return Check(name="object store", is_ok=is_ok, text=text, remedy="" if is_ok else "see store/weed.log in the data folder")

    def _check_room(self) -> Check:
        free = shutil.disk_usage(self._data).free
        is_ok = free > 2 * self._min_free_bytes
        remedy = "" if is_ok else "delete old jobs, or give the farm a larger disk"
        kept = f"{self._min_free_bytes / _GIB:.1f} GiB are kept free"
        return Check(name="disk", is_ok=is_ok, text=f"{free / _GIB:.1f} GiB free; {kept}", remedy=remedy)

    def _check_memory(self) -> Check:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        is_ok = total >= _GIB + self._slots * _NODE_BYTES
        text = f"{total / _GIB:.1f} GiB for {self._slots} nodes at once"
        remedy = "" if is_ok else "set [local] slots lower, or scenes of some size will run out of memory"
        return Check(name="memory", is_ok=is_ok, text=text, remedy=remedy)

    def _check_blender(self) -> Iterator[Check]:
        for blender in self._search().found:
            yield Check(name="Blender", is_ok=True, text=f"{blender.version} ({blender.command})")
        for problem in self._search().problems:
            yield Check(name="Blender", is_ok=False, text=problem, remedy="mend it, or name another one in [blender] command")
        if not self._search().found and not self._search().problems:
            remedy = "run `make setup`, or install Blender 4.2 or newer and name it in [blender] command"
            yield Check(name="Blender", is_ok=False, text="there is none on this machine", remedy=remedy)
        missing = missing_libraries()
        text = f"missing: {', '.join(missing)}" if missing else "all that Blender needs are there"
        yield Check(name="system libraries", is_ok=not missing, text=text, remedy=f"run: {apt_line(missing)}" if missing else "")

    def orphans(self, known_jobs: frozenset[str], known_uploads: frozenset[str] | None = None) -> Mapping[str, str]:
        return {orphan.id: orphan.what for orphan in self._find_orphans(known_jobs, known_uploads)}

    def remove_orphans(self, known_jobs: frozenset[str], known_uploads: frozenset[str] | None = None) -> Mapping[str, str]:
        removed = {}
        for orphan in self._find_orphans(known_jobs, known_uploads):
            orphan.remove()
            removed[orphan.id] = orphan.what
        return removed

    def _find_orphans(self, known_jobs: frozenset[str], known_uploads: frozenset[str] | None) -> Iterator[_Orphan]:
        youngest = self._clock() - _ORPHAN_AGE
        for instance in self._compute.instances():
            gone = instance.status in {InstanceStatus.TERMINATED, InstanceStatus.TERMINATING}
            if instance.job not in known_jobs and not gone and instance.launched_at < youngest:
                what = f"node {instance.node} of the unknown job {instance.job}"
                yield _Orphan(id=instance.id, what=what, remove=partial(self._compute.terminate, [instance.id]))
        for job in self._workspaces.jobs():
            folder = self._data / "workspaces" / job
            if job not in known_jobs and folder.exists() and datetime.fromtimestamp(folder.stat().st_mtime, UTC) < youngest:
                what = f"workspace of the unknown job {job}"
                yield _Orphan(id=f"workspace {job}", what=what, remove=partial(self._workspaces.delete, job))
        for upload in stray_uploads(self._uploads, known_jobs, known_uploads, begun_before=youngest):
            what = f"unfinished upload of {upload.key}"
            yield _Orphan(id=f"upload {upload.upload_id}", what=what, remove=partial(self._uploads.abort, upload.key, upload.upload_id))
