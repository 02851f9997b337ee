"""Whether the farm itself runs on an EC2 instance on which it may fill volumes: the machine is asked, and believed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from nodeimage.disks import Disks
from nodeimage.metadata import Metadata, MetadataError

#: The bit of CAP_SYS_ADMIN, the right to mount. Source: linux/capability.h
_CAP_SYS_ADMIN = 21
PROGRAMS = ("unshare", "mount", "umount", "mountpoint", "blkid", "mkfs.ext4", "chown")
#: Mounts something in a namespace that ends with it: what else keeps a process from mounting (AppArmor, seccomp) shows here.
TRIAL = ("unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "kiln-trial")
_TRIAL_S = 10.0
_SBIN = "/usr/sbin:/sbin"
#: What keeps it from being so is looked at again after so long.
_LOOK_AGAIN_S = 600.0


class NotHere(Exception):
    """The farm can't fill volumes where it runs; the message says why, after `because `."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnInstance:
    """The instance that the farm runs on."""

    id: str
    zone: str


class OwnMachine:
    """The machine that the farm runs on."""

    def __init__(
        self,
        region: str,
        *,
        metadata: Metadata,
        disks: Disks | None = None,
        proc: Path = Path("/proc/self"),
        trial: Sequence[str] = TRIAL,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Shape:   region: the farm's; trial: a command that ends with 0 if one may mount, the folder is added. Units:   clock: seconds"""
        self._region = region
        self._metadata = metadata
        self._disks = disks or Disks()
        self._proc = proc
        self._trial = trial
        self._clock = clock
        self._found: OwnInstance | None = None
        self._why, self._look_at = "", 0.0

    def instance(self) -> OwnInstance:
        """The instance, if volumes can be filled on it. What is found stays so for as long as the farm runs. Errors: NotHere"""
        if self._found is None and self._clock() >= self._look_at:
            try:
                self._found = self._look()
            except NotHere as error:
                self._why, self._look_at = str(error), self._clock() + _LOOK_AGAIN_S
        if self._found is None:
            raise NotHere(self._why)
        return self._found

    def _look(self) -> OwnInstance:
        try:
            region = self._metadata.region()
            found = OwnInstance(id=self._metadata.instance_id(), zone=self._metadata.zone())
        except MetadataError as error:
            raise NotHere(f"the farm does not run on an EC2 instance, as far as it can tell: {error}") from error
        if region != self._region:
            raise NotHere(f"the farm runs on {found.id} in {region}, and rents in {self._region}")
        if why := self._why_not_mount():
            raise NotHere(f"on {found.id}, where the farm runs, {why}")
        return found

    def _why_not_mount(self) -> str:
        """Returns: empty if this process may mount what is attached while it runs"""
        if not self._is_root():
            return "it is not root, or not with the right to mount (CAP_SYS_ADMIN)"
        if lacking := [name for name in PROGRAMS if not (shutil.which(name) or shutil.which(name, path=_SBIN))]:
            return f"it lacks {', '.join(lacking)}"
        if self._kind_of_dev() != "devtmpfs":
            return "its /dev is not the machine's own, so that new disks are not seen there"
        if why := self._disks.openable():
            return f"its disks {why}"
        return self._tried()

    def _is_root(self) -> bool:
        told = dict(line.split(":", 1) for line in (self._proc / "status").read_text().splitlines() if ":" in line)
        effective_user, capabilities = told["Uid"].split()[1], int(told["CapEff"], 16)
        return effective_user == "0" and bool(capabilities >> _CAP_SYS_ADMIN & 1)

    def _kind_of_dev(self) -> str:
        """The kind of file system that /dev is on. In a container it is one of its own, unless the machine's is put in its place."""
        kind = ""
        for line in (self._proc / "mountinfo").read_text().splitlines():
            mount, _, source = line.partition(" - ")
            if mount.split()[4] == "/dev":
                kind = source.split()[0]  # the last one covers those before
        return kind

    def _tried(self) -> str:
        with tempfile.TemporaryDirectory() as folder:
            try:
                ran = subprocess.run([*self._trial, folder], capture_output=True, text=True, check=False, timeout=_TRIAL_S)
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"mounting was tried, and failed: {error}"
        return f"mounting was tried, and refused: {(ran.stderr or ran.stdout).strip()[-200:]}" if ran.returncode else ""
