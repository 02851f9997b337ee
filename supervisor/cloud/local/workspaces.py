"""Workspaces on this machine: a staged folder a job, frozen into the one that every node gets a copy of."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import structlog

from supervisor.cloud.ports import Full, ObjectStore, Refused, StagedFile, WorkspaceState
from supervisor.domain.workspace import WorkspaceMode

from .disk import write_private
from .staging import Staging

log = structlog.get_logger(__name__)

_FETCHERS = 4
_SNAPSHOT_PREFIX = "frozen-"
_DELETED_PREFIX = ".deleted-"


def snapshot_folder(workspaces: Path, snapshot: str) -> Path:
    """Say where the files of a snapshot lie. Errors: Refused - that is no snapshot's id"""
    if not snapshot.startswith(_SNAPSHOT_PREFIX):
        raise Refused(f"{snapshot!r} is no snapshot of this machine")
    return _folder_of(workspaces, snapshot.removeprefix(_SNAPSHOT_PREFIX)) / "frozen"


def _folder_of(workspaces: Path, job: str) -> Path:
    if not job or job.startswith(".") or "/" in job or "\0" in job:
        raise Refused(f"{job!r} can't be the name of a job's folder")
    return workspaces / job


class LocalWorkspaces:
    """`Workspaces` in folders: `<job>/files` while it is staged, `<job>/frozen` from then on. What there is, is told by the disk."""

    def __init__(self, folder: Path, objects: ObjectStore, *, release_copies: Callable[[str], None] = lambda job: None) -> None:
        self._root = folder.absolute()
        self._objects = objects
        self._release_copies = release_copies
        self._lock = threading.RLock()
        self._stagings: dict[str, Staging] = {}
        self._freezing: dict[str, Future[None]] = {}
        self._workers = ThreadPoolExecutor(max_workers=_FETCHERS, thread_name_prefix="stage")
        self._root.mkdir(parents=True, exist_ok=True)
        for rest in self._root.glob(f"{_DELETED_PREFIX}*"):
            shutil.rmtree(rest, ignore_errors=True)

    def stage(self, job: str, files: Sequence[StagedFile], *, request_id: str, mode: WorkspaceMode | None = None) -> None:
        folder = _folder_of(self._root, job)
        with self._lock:
            running = self._stagings.get(job)
            if running and running.files == tuple(files) and not running.problem:
                return
            if (folder / "frozen").exists() and _read_manifest(folder) == tuple(files):
                return
            if running:
                running.stop()
            try:
                self._prepare(folder, files)
            except OSError as error:
                raise Full(f"can't stage {job}: {error}") from error
            self._begin(job, folder, files)

    def state(self, job: str) -> WorkspaceState | None:
        folder = _folder_of(self._root, job)
        with self._lock:
            staging = self._stagings.get(job)
            manifest = staging.files if staging else _read_manifest(folder)
            if manifest is None:
                return None
            total = sum(file.bytes for file in manifest)
            if (folder / "frozen").exists():
                return WorkspaceState(staged_bytes=total, total_bytes=total, is_staged=True, snapshot=_SNAPSHOT_PREFIX + job)
            if staging is None:
                # Begun by a server before us: it goes on without being asked again.
                staging = self._begin(job, folder, manifest)
            staged = staging.staged_bytes
            return WorkspaceState(
                staged_bytes=staged,
                total_bytes=total,
                is_staged=staging.is_staged,
                problem=staging.problem,
                doing=f"its files are being copied into the workspace: {100 * staged // total} %" if 0 < staged < total else "",
            )

    def snapshot(self, job: str, *, request_id: str) -> None:
        folder = _folder_of(self._root, job)
        with self._lock:
            staging, freezing = self._stagings.get(job), self._freezing.get(job)
            if staging is None or not staging.is_staged or (folder / "frozen").exists() or (freezing and not freezing.done()):
                return
            self._freezing[job] = self._workers.submit(self._freeze, folder, staging)

    def release_copies(self, job: str) -> bool:
        self._release_copies(job)
        return True

    def delete(self, job: str) -> None:
        folder = _folder_of(self._root, job)
        with self._lock:
            staging = self._stagings.pop(job, None)
            freezing = self._freezing.pop(job, None)
        if staging and not staging.stop():
            log.warning("a file of the workspace still arrives; it is deleted all the same", job=job)
        if freezing:
            freezing.cancel() or freezing.exception(timeout=10)
        doomed = self._root / f"{_DELETED_PREFIX}{job}-{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            folder.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def jobs(self) -> Sequence[str]:
        return sorted(entry.name for entry in self._root.iterdir() if entry.is_dir() and not entry.name.startswith("."))

    def close(self) -> None:
        """End the threads. What is half there goes on at the next start."""
        with self._lock:
            for staging in self._stagings.values():
                staging.stop(timeout_s=0)
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _prepare(self, folder: Path, files: Sequence[StagedFile]) -> None:
        if (folder / "frozen").exists():
            # The job's files are others by now: what did not change is kept. Nodes have copies of their own.
            (folder / "frozen").rename(folder / "files")
        write_private(folder / "manifest.json", json.dumps([asdict(file) for file in files]))

    def _begin(self, job: str, folder: Path, files: Sequence[StagedFile]) -> Staging:
        staging = Staging(folder, files, objects=self._objects, workers=self._workers)
        self._stagings[job] = staging
        staging.begin()
        return staging

    def _freeze(self, folder: Path, staging: Staging) -> None:
        try:
            for parent, _, names in os.walk(folder / "files"):
                for name in names:
                    (Path(parent) / name).chmod(0o444)
            # One step: what bears this name is whole and never changes.
            (folder / "files").rename(folder / "frozen")
        except OSError as error:
            staging.problem = f"the workspace can't be frozen: {error}"
            log.warning("workspace not frozen", folder=folder.name, error=str(error))


def _read_manifest(folder: Path) -> tuple[StagedFile, ...] | None:
    """Returns: None if there is no workspace, or none that was begun in full"""
    try:
        return tuple(StagedFile(**entry) for entry in json.loads((folder / "manifest.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
