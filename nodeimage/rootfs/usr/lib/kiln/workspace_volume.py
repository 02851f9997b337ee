"""Have the job's workspace at its place: the volume that came with the instance, a blank one made ready, or a plain folder.

Standard library only. Never makes a file system where one is.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

RUN = Path("/run/kiln")
WORKSPACE = Path("/var/lib/kiln/workspace")
LABEL = "kiln-workspace"
#: A volume may be attached a moment after the instance runs.
PATIENCE_S = 120.0
PAUSE_S = 1.0
COLUMNS = "NAME,PATH,TYPE,SERIAL,MODEL,MOUNTPOINTS"
#: Nothing on a volume runs, and Blender's user may write there: its group is Blender's.
OPTIONS = "noatime,nodev,nosuid,noexec"
FOLDER_MODE = 0o2775


class NoVolume(Exception):
    """There is no volume that is surely the workspace's; the message says what there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A disk of Elastic Block Store that is not the root's."""

    path: str
    serial: str  #: `vol0…` on Nitro, empty on Xen
    is_mounted: bool  #: at the workspace's place already
    fstype: str = ""  #: empty: nothing is on it
    label: str = ""


def volumes(listing: bytes, workspace: Path) -> list[Volume]:
    """Pick from lsblk's JSON what may be the workspace's volume.

    On Nitro instances an EBS volume is an NVMe disk whose serial is the volume's id; disks of the instance's own have another. On Xen
    there is no serial, and the name says it: `sdf` in the launch becomes xvdf. Whatever holds the running system is left out.
    """
    return [
        Volume(path=disk["path"], serial=disk.get("serial") or "", is_mounted=bool(_mountpoints(disk)))
        for disk in json.loads(listing)["blockdevices"]
        if disk["type"] == "disk" and _is_ebs(disk) and not disk.get("children") and _mountpoints(disk) <= {str(workspace)}
    ]


def _is_ebs(disk: Mapping[str, Any]) -> bool:
    if (disk.get("serial") or "").startswith("vol"):
        return True
    return disk["name"] in ("xvdf", "sdf")


def _mountpoints(disk: Mapping[str, Any]) -> set[str]:
    return set(filter(None, disk.get("mountpoints") or ()))


def with_contents(volume: Volume) -> Volume:
    """Say what is on the volume, from the volume itself: udev, which lsblk asks, may not have looked yet. Errors: NoVolume"""
    probe = subprocess.run(["blkid", "--probe", "--output", "export", volume.path], check=False, stdout=subprocess.PIPE, text=True)
    if probe.returncode == 2:  # nothing known is on it
        return volume
    if probe.returncode != 0:
        raise NoVolume(f"blkid can't tell what is on {volume.path} (status {probe.returncode})")
    tags = dict(line.partition("=")[::2] for line in probe.stdout.splitlines())
    return replace(volume, fstype=tags.get("TYPE") or tags.get("PTTYPE", "unknown"), label=tags.get("LABEL", ""))


def chosen(found: list[Volume], mode: str) -> Volume | None:
    """Choose the workspace's volume.

    Shape:   `mode`: `volume`, one with the farm's file system; `blank`, one with that or with nothing on it
    Returns: None if there is none yet
    Errors:  NoVolume - several, or one with something else on it: nothing is overwritten
    """
    ours = [volume for volume in found if volume.label == LABEL and volume.fstype == "ext4"]
    if len(ours) == 1:
        return ours[0]
    if ours:
        raise NoVolume(f"several volumes bear the label {LABEL}: {_named(ours)}")
    if not found:
        return None
    if mode == "volume":
        raise NoVolume(f"no volume bears the label {LABEL}; there is {_named(found)}")
    blank = [volume for volume in found if not volume.fstype]
    if len(blank) != 1:
        raise NoVolume(f"not one blank volume, but {len(blank)}; there is {_named(found)}")
    return blank[0]


def _named(found: list[Volume]) -> str:
    return ", ".join(
        f"{volume.path} ({volume.serial or 'no serial'}, {volume.fstype or 'blank'}, label “{volume.label}”)" for volume in found
    )


def wait_for_volume(mode: str, workspace: Path, *, patience_s: float = PATIENCE_S) -> Volume:
    """Wait until the volume is there. Errors: NoVolume"""
    until = time.monotonic() + patience_s
    while True:
        listing = subprocess.run(["lsblk", "--json", "--output", COLUMNS], check=True, stdout=subprocess.PIPE).stdout
        volume = chosen([with_contents(volume) for volume in volumes(listing, workspace)], mode)
        if volume is not None:
            return volume
        if time.monotonic() > until:
            raise NoVolume(f"no volume was attached within {patience_s:.0f} s")
        time.sleep(PAUSE_S)


def mount(volume: Volume, workspace: Path) -> None:
    """Have the volume at the workspace's place, with a file system if it had none. Repeat: safe"""
    if not volume.fstype:
        _run("mkfs.ext4", "-q", "-L", LABEL, "-m", "0", volume.path)
    if not volume.is_mounted:
        workspace.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "ext4", "-o", OPTIONS, volume.path, str(workspace))
    with contextlib.suppress(OSError):  # it is none of the job's files, and fsck makes another
        (workspace / "lost+found").rmdir()
    own(workspace)


def own(workspace: Path) -> None:
    """Make it a folder that the agent writes and Blender may use."""
    workspace.mkdir(parents=True, exist_ok=True)
    _run("chown", "root:blender", str(workspace))
    workspace.chmod(FOLDER_MODE)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def prepare(mode: str, workspace: Path) -> None:
    """Errors: NoVolume, CalledProcessError"""
    if mode == "s3":
        own(workspace)
    elif mode in ("volume", "blank"):
        mount(wait_for_volume(mode, workspace), workspace)
    else:
        raise NoVolume(f"the launch asks for a workspace “{mode}”; this image knows s3, volume and blank")


def main() -> int:
    run = Path(os.environ.get("KILN_RUN", RUN))
    try:
        prepare(json.loads((run / "launch.json").read_bytes())["workspace"], Path(os.environ.get("KILN_WORKSPACE", WORKSPACE)))
    except (NoVolume, OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"kiln: the workspace is not ready: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
