"""Workspaces in memory."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

from supervisor.cloud.ports import StagedFile, WorkspaceState
from supervisor.domain.workspace import WorkspaceMode

from .objects import FakeObjectStore
from .trouble import Trouble


class FakeWorkspaces(Trouble):
    """`Workspaces` in memory. Staging and freezing are done at once, unless `is_slow`; then `finish()` does them."""

    def __init__(self, objects: FakeObjectStore) -> None:
        super().__init__()
        self._objects = objects
        self.is_slow = False
        self.is_slow_to_go = False  #: what an unfinished staging rents is on its way out
        self.doing = ""  #: what is said of a workspace that is staged or frozen slowly
        self._states: dict[str, WorkspaceState] = {}
        self._files: dict[str, tuple[StagedFile, ...]] = {}
        self._staging: dict[str, tuple[StagedFile, ...]] = {}
        self._freezing: dict[str, str] = {}
        self.released: list[str] = []
        self.looks = 0  #: how often the state of one was asked for
        self.modes: dict[str, WorkspaceMode | None] = {}

    def stage(self, job: str, files: Sequence[StagedFile], *, request_id: str, mode: WorkspaceMode | None = None) -> None:
        self._meet_trouble("stage")
        self.modes[job] = mode
        state = self._states.get(job)
        if state and state.is_staged and self._files[job] == tuple(files):
            return
        self._files[job] = tuple(files)
        self._states[job] = WorkspaceState(total_bytes=sum(file.bytes for file in files))
        self._staging[job] = tuple(files)
        if not self.is_slow:
            self.finish()

    def state(self, job: str) -> WorkspaceState | None:
        self._meet_trouble("state")
        self.looks += 1
        state = self._states.get(job)
        is_busy = job in self._staging or job in self._freezing
        return replace(state, doing=self.doing) if state and is_busy else state

    def snapshot(self, job: str, *, request_id: str) -> None:
        self._meet_trouble("snapshot")
        state = self._states.get(job)
        if state is None or not state.is_staged or state.snapshot:
            return
        self._freezing[job] = f"snap-{job}"
        if not self.is_slow:
            self.finish()

    def release_copies(self, job: str) -> bool:
        self._meet_trouble("release_copies")
        if not self.is_slow_to_go:
            self.released.append(job)
        return not self.is_slow_to_go

    def delete(self, job: str) -> None:
        self._meet_trouble("delete")
        self.lose(job)

    def jobs(self) -> Sequence[str]:
        self._meet_trouble("jobs")
        return sorted(self._states)

    def finish(self) -> None:
        """Do what staging and freezing have to do."""
        for job, files in self._staging.items():
            problem = next((text for file in files if (text := self._problem_of(file))), "")
            staged = 0 if problem else sum(file.bytes for file in files)
            self._states[job] = replace(self._states[job], staged_bytes=staged, is_staged=not problem, problem=problem)
        for job, snapshot in self._freezing.items():
            self._states[job] = replace(self._states[job], snapshot=snapshot)
        self._staging.clear()
        self._freezing.clear()

    def _problem_of(self, file: StagedFile) -> str:
        there = self._objects.get(file.key)
        if there is None:
            return f"“{file.path}” is no longer in the object store; upload it again"
        if len(there.body) != file.bytes:
            return f"“{file.path}” has {len(there.body)} bytes instead of {file.bytes}; upload it again"
        if file.checksum and file.checksum != f"crc32:{zlib.crc32(there.body):08x}":
            return f"“{file.path}” does not match its checksum; upload it again"
        return ""

    def lose(self, job: str) -> None:
        """Let the workspace be gone."""
        for table in (self._states, self._staging, self._freezing):
            table.pop(job, None)
