"""Which block device a volume of Elastic Block Store is, told by the volume itself: nothing is guessed by what is left over."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

#: The kernel counts a disk in these, whatever its own are.
_SECTOR_BYTES = 512
_GIB = 1 << 30


class WrongDevice(Exception):
    """What is there is not surely the volume, or can't be used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """The disks of this machine, as the kernel shows them."""

    sys: Path = Path("/sys/block")
    dev: Path = Path("/dev")

    def find(self, volume: str, *, attached_as: str, gib: int) -> Path | None:
        """Find the device of a volume that is attached to this instance.

        On Nitro instances a volume is an NVMe disk whose serial is its id, without the hyphen. On Xen there is no serial, and the name says
        it: what was attached as /dev/sdf is xvdf.

        Shape:   volume: vol-…; attached_as: the name that it was attached under
        Returns: None if it is not there (yet)
        Errors:  WrongDevice - it has another size, or no node under /dev
        Source:  Amazon EBS user guide, “Map Amazon EBS volumes to NVMe device names” and “Device names for volumes”, as of 2026-01
        """
        name = self._by_serial(volume.replace("-", "")) or self._by_name(attached_as)
        if name is None:
            return None
        found_bytes = int(self._told(name, "size") or 0) * _SECTOR_BYTES
        if found_bytes != gib * _GIB:
            raise WrongDevice(f"{name} has {found_bytes} bytes, and {volume} has {gib} GiB: it is left alone")
        return self._node(name)

    def openable(self) -> str:
        """Say whether this process may open the machine's disks. Returns: empty if so; else why not, after `its disks `"""
        disks = [entry.name for entry in self._entries() if (entry / "device").exists()]
        why = "are not to be seen under /sys/block"
        for name in disks:
            try:
                os.close(os.open(self.dev / name, os.O_RDONLY | os.O_NONBLOCK))
                return ""
            except OSError as error:
                why = f"can't be opened ({self.dev / name}: {error.strerror})"
        return why

    def _by_serial(self, serial: str) -> str | None:
        names = [entry.name for entry in self._entries() if self._told(entry.name, "device/serial") == serial]
        return names[0] if len(names) == 1 else None

    def _by_name(self, attached_as: str) -> str | None:
        name = f"xvd{attached_as[-1:]}"
        is_xen = (self.sys / name).is_dir() and not self._told(name, "device/serial")
        return name if is_xen else None

    def _node(self, name: str) -> Path:
        """The device file, if it stands for that very disk. Errors: WrongDevice"""
        path = self.dev / name
        try:
            there = path.stat()
        except OSError as error:
            text = f"{name} is attached, and not to be seen as {path}: a container sees new disks only if /dev is the machine's own"
            raise WrongDevice(text) from error
        number = f"{os.major(there.st_rdev)}:{os.minor(there.st_rdev)}"
        if not stat.S_ISBLK(there.st_mode) or number != self._told(name, "dev"):
            raise WrongDevice(f"{path} is not the disk that the kernel calls {name}: it is left alone")
        return path

    def _entries(self) -> list[Path]:
        return sorted(self.sys.iterdir()) if self.sys.is_dir() else []

    def _told(self, name: str, what: str) -> str:
        try:
            return (self.sys / name / what).read_text().strip()
        except OSError:
            return ""


def is_in_use(device: Path) -> bool:
    """Say whether somebody has the device mounted, or makes a file system on it: in whichever mount namespace.

    Source:  open(2): O_EXCL without O_CREAT on a block device fails with EBUSY while the system uses it
    """
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False
