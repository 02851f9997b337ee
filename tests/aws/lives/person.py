"""Who owns a job: looks at its page now and then, and does what the life says, through the farm's own commands."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nodeimage.protocol import project_key
from supervisor import queries
from supervisor.cloud.ports import CloudError
from supervisor.commands import downloads, files
from supervisor.commands import jobs as commands
from supervisor.domain.download import DownloadStatus
from supervisor.domain.errors import CommandError
from supervisor.domain.file import FileStatus
from supervisor.domain.job import ENDED, JobStatus, can_cancel, can_pause
from supervisor.farm import Farm
from tests.fakes.farm import add_file

from .bucket import Bucket
from .life import Life, Wish

_BLEND = b"BLENDER-v405 a scene for tests"
#: A real file, where it is uploaded and read.
_REAL_BLEND = Path(__file__).parents[2] / "data" / "scene-4.5.blend"
#: The store, as the person's browser reaches it.
_STORE = "http://127.0.0.1:9"


@dataclass
class Person:
    """Does one thing at a time; what is refused or fails is tried again the next time. It remembers what it did, whoever dies."""

    life: Life
    bucket: Bucket
    put: Callable[[str, bytes], str]  #: sends a part to its URL. Returns: its ETag
    job: str = ""  #: empty: there is none yet
    sees_end: bool = False
    has_deleted: bool = False
    complaints: list[str] = field(default_factory=list)
    has_wished: bool = False  #: paused or cancelled it
    has_resumed: bool = False
    ended_as: JobStatus | None = None
    _has_removed: bool = False
    _has_looked: bool = False
    _download: str = ""

    def act(self, farm: Farm) -> None:
        """Do what is to be done now, if anything."""
        if not self.has_deleted:
            try:
                self._act(farm)
            except (CommandError, CloudError):
                return

    def _act(self, farm: Farm) -> None:
        if not self.job:
            self._make_draft(farm)
        seen = queries.job_summary(farm, self.job)
        if seen.status is JobStatus.DRAFT:
            if not self.life.is_whole or self._has_uploaded(farm):
                commands.submit_job(farm, self.job, self.life.settings)
        elif seen.status is JobStatus.PAUSED:
            commands.resume_job(farm, self.job)
            self.has_resumed = True
        elif seen.status in ENDED:
            self.ended_as = seen.status
            self.sees_end = not self.life.is_whole or self._has_downloaded(farm)
        elif not self.has_wished and (seen.frames.received or self.life.wish is Wish.EARLY_PAUSE):
            self._wish(farm, seen.status)

    @property
    def unfulfilled(self) -> str:
        """What came of the wish, where it is not what the life is about: in a calm life nobody comes too late. Empty: it was fulfilled"""
        if self.life.wish is Wish.CANCEL and self.ended_as is not JobStatus.CANCELLED:
            return f"nothing was cancelled: the job is {self.ended_as}"
        if self.life.wish in {Wish.PAUSE, Wish.EARLY_PAUSE} and not self.has_resumed:
            return "nothing was paused and resumed"
        return ""

    def _make_draft(self, farm: Farm) -> None:
        job = commands.create_job(farm, name="a job", owner_id=None)
        if not self.life.is_whole:
            self.bucket.put(project_key(job, "scene.blend"), _BLEND)
            add_file(farm, job, "scene.blend", body=_BLEND)
        self.job = job

    def _has_uploaded(self, farm: Farm) -> bool:
        """Upload the file, after one that is thought better of; look at the doctor's page. Returns: False if that takes longer"""
        if not self._has_removed:
            plan = files.begin_file(farm, self.job, path="wrong.png", length=100)
            files.remove_file(farm, self.job, plan.file)
            self._has_removed = True
        there = [file for file in queries.job_files(farm, self.job) if file.path == "scene.blend"]
        if not there or there[0].status is FileStatus.UPLOADING:
            self._upload(farm)
            return False
        if there[0].status is FileStatus.BAD:
            self.complaints.append(f"the file is refused: {there[0].problem}")
        if not self._has_looked:
            found = [check for check in farm.cloud.premises.checks() if not check.is_ok and not check.is_warning]
            self.complaints += [f"the doctor says: {check.text}" for check in found]
            self._has_looked = True
        return there[0].status is FileStatus.READY

    def _upload(self, farm: Farm) -> None:
        """Send the file, or what is left of it: part by part to the store itself, or through the farm."""
        body = _REAL_BLEND.read_bytes()
        is_direct = self.life.mode.value == "snapshot"
        endpoint = _STORE if is_direct else None
        plan = files.begin_file(farm, self.job, path="scene.blend", length=len(body), modified_ms=7, endpoint=endpoint)
        etags = [(part.number, part.etag) for part in plan.received]
        for number, url in plan.urls:
            part = body[(number - 1) * plan.part_bytes : number * plan.part_bytes]
            if url:
                etag = self.put(url, part)
            else:
                etag = files.put_part(farm, self.job, plan.file, number=number, source=io.BytesIO(part), length=len(part))
            etags.append((number, etag))
        files.complete_file(farm, self.job, plan.file, parts=sorted(etags))

    def _has_downloaded(self, farm: Farm) -> bool:
        """Get the frames as a zip, and look into it. Returns: False if that takes longer"""
        if not self._download:
            self._download = downloads.begin_download(farm, self.job)
        found = downloads.download(farm, self._download)
        if found.status is DownloadStatus.FAILED:
            self.complaints.append(f"the zip is not packed: {found.reason}")
            return True
        if found.status is not DownloadStatus.READY:
            return False
        opened = downloads.open_download(farm, self._download)
        with zipfile.ZipFile(io.BytesIO(b"".join(opened.send(0, opened.bytes)))) as zipped:
            contents = sorted(zipped.read(name) for name in zipped.namelist())
        if contents != sorted(f"picture {number}".encode() for number in self.life.frames):
            self.complaints.append(f"the zip holds {contents}")
        return True

    def _wish(self, farm: Farm, status: JobStatus) -> None:
        if self.life.wish in {Wish.PAUSE, Wish.EARLY_PAUSE} and can_pause(status):
            commands.pause_job(farm, self.job)
            self.has_wished = True
        if self.life.wish is Wish.CANCEL and can_cancel(status):
            commands.cancel_job(farm, self.job)
            self.has_wished = True

    def delete(self, farm: Farm) -> None:
        """Delete the job, which has ended."""
        commands.delete_job(farm, self.job)
        self.has_deleted = True
