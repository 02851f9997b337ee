"""Follow a job to its end, and take its frames along as they arrive."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from app.api import models
from supervisor.domain.frame import FrameStatus
from supervisor.domain.job import ENDED, JobStatus

from .client import Client, ServerUnreachable
from .failure import Failed
from .patience import patiently
from .progress import Progress

_LOOK_EVERY_S = 1.0


class FrameFolder:
    """A local folder that a job's outputs are brought into, each once."""

    def __init__(self, client: Client, job: str, folder: Path) -> None:
        self._client = client
        self._job = job
        self._folder = folder
        self._taken: set[tuple[int, int]] = set()  #: frame, attempt
        self.files = 0

    def take(self) -> None:
        """Bring every frame that was received since the last time. What is there already, whole, is kept. Errors: Failed; as Client"""
        for frame in patiently(lambda: list(self._client.frames(self._job))):
            if frame.status is FrameStatus.RECEIVED and (frame.number, frame.attempt) not in self._taken:
                for output in frame.outputs:
                    self._take(frame.number, output)
                    self.files += 1
                self._taken.add((frame.number, frame.attempt))

    def _take(self, frame: int, output: models.Output) -> None:
        target = self._folder / _safe(output.name)
        if target.is_file() and target.stat().st_size == output.bytes and _crc32(target) == output.crc32:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.part")
        patiently(lambda: self._fetch(frame, output, scratch))
        scratch.replace(target)

    def _fetch(self, frame: int, output: models.Output, scratch: Path) -> None:
        with scratch.open("wb") as out:
            for chunk in self._client.fetch_output(self._job, frame, output.name):
                out.write(chunk)
        if _crc32(scratch) != output.crc32:
            raise ServerUnreachable(f"{output.name} of frame {frame} arrived damaged")


def _safe(name: str) -> PurePosixPath:
    """An output's name as a path inside the folder: what comes from a server is not trusted to stay there."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise Failed(f"the farm names an output “{name}”, which would lie outside of the folder; fetch it in the browser")
    return path


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    return crc


def follow(
    client: Client,
    job: str,
    *,
    progress: Progress,
    frames: FrameFolder | None = None,
    wants_rest: Callable[[models.Job], bool] = lambda _job: False,
    sleep: Callable[[float], None] = time.sleep,
) -> models.Job:
    """Watch a job until it has ended; a farm that restarts meanwhile is waited for.

    Shape:   wants_rest: asked once the scout frames are there
    Returns: the job as it ended; paused, where its scout frames are there and nobody said yes to the rest
    """
    received = -1
    while True:
        seen = patiently(lambda: client.job(job))
        progress.show(seen.frames.received, seen.frames.total, _text(seen))
        if frames and seen.frames.received != received:
            frames.take()
            received = seen.frames.received
        if seen.status in ENDED:
            progress.close()
            return seen
        if seen.status is JobStatus.PAUSED and seen.scouting and seen.scouting.has_ended:
            progress.close()
            if not wants_rest(seen):
                return seen
            patiently(lambda: client.wish(job, "resume"))
        sleep(_LOOK_EVERY_S)


def _text(job: models.Job) -> str:
    counts = job.frames
    text = f"{counts.received} of {counts.total} frames"
    if counts.failed:
        text += f", {counts.failed} failed"
    if job.status in {JobStatus.RENDERING, JobStatus.LAUNCHING} and job.eta_s is not None:
        text += f", {duration_text(job.eta_s)} left"
    if job.status is JobStatus.PAUSED:
        text += f"; {job.reason}"
    return f"{job.status.value}, {text}" if counts.total else f"{job.status.value}, {job.reason}"


def duration_text(seconds: float) -> str:
    """Write a duration for people: 1 h 05 min, 2 min 10 s, 8 s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"
