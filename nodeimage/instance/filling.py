"""`python -m nodeimage.instance.filling`: fill a volume that the farm attached to the very instance that it runs on.

It runs in a mount namespace of its own: what is mounted here nobody else sees, and it is gone with this process, however that ends. The
farm holds the other end of standard input: when that closes the farm has ended, and so does this, with whatever it started.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nodeimage.agent.logs import log_to_stderr
from nodeimage.agent.store import be_patient_for_keys, connect
from nodeimage.disks import Disks, WrongDevice, is_in_use
from nodeimage.launch import LaunchData
from nodeimage.protocol import Unreadable

from .fetch import WORKERS
from .instance import Instance, node_config
from .life import Life
from .machine import CommandFailed, Machine, run_command
from .notices import now_ms
from .staging import Staging
from .verified import this_boot
from .workspace import FileStore

log = logging.getLogger(__name__)

#: What `nodeimage/rootfs` looks for on an instance: label, options, and Blender's group, whose number is the same on every image.
LABEL = "kiln-workspace"
OPTIONS = "noatime,nodev,nosuid,noexec"
OWNER = "0:880"
FOLDER_MODE = 0o2775
#: A volume is to be seen a moment after EC2 calls it attached.
PATIENCE_S = 60.0
_PAUSE_S = 0.5
#: The farm's own pages come first.
_NICENESS = 10
#: Connections besides those that fetch files.
_OTHER_CONNECTIONS = 2
_SBIN = "/usr/sbin:/sbin"


class NotReady(Exception):
    """The volume can't be filled here; nothing is said to the bucket, so the farm finds another way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The volume to be filled."""

    volume: str
    attached_as: str  #: name that it was attached under
    gib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """What the machine is asked to do. Tests name others."""

    probe: str = "blkid --probe --output export"
    make: str = f"mkfs.ext4 -q -L {LABEL} -m 0"
    mount: str = f"mount -t ext4 -o {OPTIONS}"
    own: str = f"chown {OWNER}"


def wait_for_device(target: Target, disks: Disks, *, pause: Callable[[float], None] = time.sleep, patience_s: float = PATIENCE_S) -> Path:
    """Find the volume's device, and no other; wait until nobody uses it. Errors: NotReady"""
    give_up_at = time.monotonic() + patience_s
    while True:
        why = f"{target.volume} was attached as {target.attached_as}, and no disk of this machine is it"
        try:
            device = disks.find(target.volume, attached_as=target.attached_as, gib=target.gib)
            # The kernel would mount it a second time beside one that filled it for a farm that has just ended.
            if device and not is_in_use(device):
                return device
            why = f"{device} is in use" if device else why
        except WrongDevice as error:
            why = str(error)
        if time.monotonic() > give_up_at:
            raise NotReady(why)
        pause(_PAUSE_S)


def mount_volume(device: Path, folder: Path, commands: Commands) -> None:
    """Have the volume at the folder, with a file system if nothing is on it. Repeat: safe. Errors: NotReady - something else is on it"""
    try:
        if _is_blank(device, commands):
            run_command([*shlex.split(commands.make), str(device)])
        folder.mkdir(parents=True, exist_ok=True)
        run_command([*shlex.split(commands.mount), str(device), str(folder)])
        with suppress(OSError):  # it is none of the job's files, and fsck makes another
            (folder / "lost+found").rmdir()
        run_command([*shlex.split(commands.own), str(folder)])
        folder.chmod(FOLDER_MODE)
    except (CommandFailed, OSError) as error:
        raise NotReady(f"{device} can't be made ready: {error}") from error


def _is_blank(device: Path, commands: Commands) -> bool:
    """Say whether nothing is on the volume; what this program put there before it was broken off is mounted again. Errors: NotReady"""
    probe = subprocess.run([*shlex.split(commands.probe), str(device)], check=False, capture_output=True, text=True)
    if probe.returncode == 2:  # nothing known is on it
        return True
    found = dict(line.partition("=")[::2] for line in probe.stdout.splitlines())
    if probe.returncode == 0 and (found.get("TYPE"), found.get("LABEL")) == ("ext4", LABEL):
        return False
    what = found.get("TYPE") or found.get("PTTYPE") or f"something that blkid can't tell (status {probe.returncode})"
    raise NotReady(f"on {device} is {what}, and not the farm's file system: it is left alone")


def fill(target: Target, launch: LaunchData, machine: Machine, store: FileStore, *, pause: Callable[[float], None] = time.sleep) -> None:
    """Bring the job's files onto the mounted volume, as a staging instance does, unmount it, and tell the farm how it went.

    The report bears the volume's id in the place of an instance's: each volume is filled once, and this instance fills many.
    """
    instance = Instance(
        id=target.volume,
        launch=launch,
        life=Life(boot=this_boot(), began_at_ms=now_ms()),
        machine=machine,
        store=store,
        interruption_at_ms=lambda: 0,
        stop=threading.Event(),
        pulse=lambda: None,
    )
    ending = Staging(instance, pause=pause).run()
    log.info("filling ends", extra={"volume": target.volume, "kind": str(ending.kind), "why": ending.reason})


def end_with(lifeline: BinaryIO) -> None:
    """End this process and whatever it started, at once, when the farm's end of the pipe is closed."""

    def wait_for_the_end() -> None:
        while lifeline.read(1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait_for_the_end, name="lifeline", daemon=True).start()


def has_namespace_of_its_own() -> bool:
    """Say whether what is mounted here stays hidden from the farm's own process."""
    return os.readlink("/proc/self/ns/mnt") != os.readlink(f"/proc/{os.getppid()}/ns/mnt")


def main(arguments: Sequence[str]) -> int:
    """Returns: exit status; 0: it told the farm how it went, if the store took it; 1: no volume was made ready, the last line says why"""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--volume", required=True)
    parser.add_argument("--attached-as", required=True)
    parser.add_argument("--gib", required=True, type=int)
    target = Target(**vars(parser.parse_args(arguments)))
    log_to_stderr()
    end_with(sys.stdin.buffer)
    os.nice(_NICENESS)
    os.umask(0o002)
    be_patient_for_keys()
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"
    machine = Machine.from_env(os.environ)
    machine.home.mkdir(parents=True, exist_ok=True)
    try:
        if not has_namespace_of_its_own():
            raise NotReady("it was not started in a mount namespace of its own")
        launch = LaunchData.from_bytes(machine.launch.read_bytes())
        mount_volume(wait_for_device(target, Disks()), machine.workspace, Commands())
    except (NotReady, Unreadable, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    fill(target, launch, machine, connect(node_config(launch, target.volume), connections=WORKERS + _OTHER_CONNECTIONS))
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    # Threads may be waiting for a store that does not answer: nobody waits for them.
    os._exit(status)
