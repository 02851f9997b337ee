"""The instance that the farm itself runs on, in a life, and what fills volumes there: played, and gone with the process of the farm."""

from __future__ import annotations

from dataclasses import dataclass, field

from nodeimage.launch import LaunchData, StagingReport, StagingState
from nodeimage.protocol import staging_key
from supervisor.cloud.aws.inventory import FarmVolume
from supervisor.cloud.aws.own_machine import OwnInstance
from supervisor.cloud.aws.staging_terms import Filling
from tests.aws.world import backend_of

from .machine import Surroundings, files_of, problem_of


@dataclass
class PlayedHere:
    """Implements `Whereabouts` and `Processes`, for one process of the farm."""

    own: OwnInstance
    around: Surroundings
    _running: dict[str, FarmVolume] = field(default_factory=dict)
    _begun: set[str] = field(default_factory=set)
    _ended: dict[str, Filling] = field(default_factory=dict)

    def instance(self) -> OwnInstance:
        return self.own

    def step(self) -> None:
        """Let what fills volumes go on: it says that it began, then that it is done."""
        for volume in list(self._running.values()):
            if volume.id not in self._begun:
                self._begun.add(volume.id)
                self._report(volume, StagingState.RUNNING)
            else:
                self._finish(volume)

    def _finish(self, volume: FarmVolume) -> None:
        files = files_of(volume.job, self.around.bucket)
        problem = next((text for entry in files.files if (text := problem_of(entry, self.around.bucket))), "")
        there = backend_of().get_volume(volume.id)
        if there.attachment is None or there.attachment.instance.id != self.own.id or there.snapshot_id:
            problem = problem or "there is no empty volume"
        if not problem:
            there.kiln_content = files.content
        self._report(volume, StagingState.FAILED if problem else StagingState.DONE, problem)
        del self._running[volume.id]
        self._ended[volume.id] = Filling(status=0)

    def _report(self, volume: FarmVolume, state: StagingState, message: str = "") -> None:
        files = files_of(volume.job, self.around.bucket)
        total = sum(entry.bytes for entry in files.files)
        report = StagingReport(
            state=state,
            instance=volume.id,
            content=files.content,
            at_ms=self.around.clock.ms,
            done_bytes=total if state is StagingState.DONE else 0,
            total_bytes=total,
            message=message,
        )
        self.around.bucket.put(staging_key(volume.job), report.to_bytes())

    # `Processes`

    def start(self, volume: FarmVolume, told: LaunchData) -> None:
        assert told.job == volume.job, "it is told of the job whose files the volume is for"
        self._running[volume.id] = volume

    def look(self, volume: str) -> Filling | None:
        return Filling() if volume in self._running else self._ended.get(volume)

    def note_failure(self, volume: str, why: str) -> None:
        self._ended[volume] = Filling(status=1, last_words=why)

    def end(self, volume: str) -> None:
        self._running.pop(volume, None)
        self._ended.pop(volume, None)

    def is_in_use(self, volume: FarmVolume) -> bool:
        return volume.id in self._running
