"""The processes that fill volumes on the farm's own instance. Each has a mount namespace of its own, and ends with the farm's process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from nodeimage.disks import Disks, WrongDevice, is_in_use
from nodeimage.group import Group
from nodeimage.launch import LaunchData

from .inventory import FarmVolume
from .session import AwsSession
from .staging_terms import Filling

log = structlog.get_logger(__name__)

#: Whatever it mounts is gone with it, even when it is killed; nobody else ever sees it.
COMMAND = ("unshare", "--mount", "--propagation", "private", sys.executable, "-m", "nodeimage.instance.filling")
#: A killed process is gone within this time, unless a disk holds it.
_GONE_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    process: subprocess.Popen[bytes]
    group: Group
    folder: Path


class Fillings:
    """The processes of this one process of the farm, by volume. One that was started by a process before it has ended with that."""

    def __init__(self, folder: Path, session: AwsSession, *, command: Sequence[str] = COMMAND, disks: Disks | None = None) -> None:
        """Shape:   folder: for what they need, a folder each, with nothing in it that must be kept"""
        self._folder = folder.absolute()
        self._session = session
        self._command = command
        self._disks = disks or Disks()
        self._lock = threading.RLock()
        self._running: dict[str, _Running] = {}
        self._failed: dict[str, str] = {}

    def start(self, volume: FarmVolume, told: LaunchData) -> None:
        """Start to fill a volume that is attached to this machine. Repeat: safe; one that runs goes on"""
        with self._lock:
            if volume.id in self._running:
                return
            folder = self._folder / volume.id
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "launch.json").write_bytes(told.to_bytes())
                process = self._spawn(volume, folder)
                self._running[volume.id] = _Running(process=process, group=Group(process), folder=folder)
            except OSError as error:
                self.note_failure(volume.id, f"it could not be started: {error}")

    def look(self, volume: str) -> Filling | None:
        """See how far the filling is. Returns: None if this process of the farm has not started any"""
        with self._lock:
            if volume in self._failed:
                return Filling(status=1, last_words=self._failed[volume])
            running = self._running.get(volume)
            if running is None:
                return None
            status = running.group.status()
            return Filling(status=status, last_words=_last_words(running.folder) if status else "")

    def note_failure(self, volume: str, why: str) -> None:
        """Take in that a volume can't be filled here."""
        with self._lock:
            self._failed[volume] = why

    def end(self, volume: str) -> None:
        """End the filling of a volume, with all that it started, and forget it. Repeat: safe"""
        with self._lock:
            self._failed.pop(volume, None)
            running = self._running.pop(volume, None)
            if running:
                _kill(running)
            self._clean(self._folder / volume)

    def is_in_use(self, volume: FarmVolume) -> bool:
        """Say whether something on this machine still uses a volume: a process that was killed leaves it in a moment."""
        try:
            device = self._disks.find(volume.id, attached_as=volume.device, gib=volume.gib)
        except WrongDevice:
            return False  # nothing of ours was ever mounted from it
        return device is not None and is_in_use(device)

    def _spawn(self, volume: FarmVolume, folder: Path) -> subprocess.Popen[bytes]:
        with (folder / "filling.log").open("wb") as output:
            process = subprocess.Popen(
                [*self._command, "--volume", volume.id, "--attached-as", volume.device, "--gib", str(volume.gib)],
                # it ends when this end is closed, by whatever end of ours
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=self._environment(folder),
                start_new_session=True,
            )
        log.info("filling started", job=volume.job, volume=volume.id, pid=process.pid)
        return process

    def _environment(self, folder: Path) -> Mapping[str, str]:
        places = {"LAUNCH": folder / "launch.json", "HOME": folder / "home", "WORKSPACE": folder / "workspace"}
        return {**self._session.environment(os.environ), **{f"KILN_{name}": str(path) for name, path in places.items()}}

    def _clean(self, folder: Path) -> None:
        """Remove what a filling left. The folder that volumes are mounted at is removed only if it is empty, as it must be here."""
        with suppress(OSError):
            (folder / "workspace").rmdir()
            shutil.rmtree(folder / "home", ignore_errors=True)
            for name in ("launch.json", "filling.log"):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def _kill(running: _Running) -> None:
    # not asked first: nothing of a volume that is not finished is of any use
    if not running.group.kill(_GONE_WITHIN_S):
        log.warning("killed filling is not gone yet", pid=running.process.pid)
    if running.process.stdin:
        running.process.stdin.close()


def _last_words(folder: Path) -> str:
    with suppress(OSError):
        lines = (folder / "filling.log").read_text(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else ""
    return ""
