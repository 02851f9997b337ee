"""The machines behind the tests' EC2: each instance that moto launches runs here, as real processes with the user data it was sent.

What stands for what:

- the checkout for the image: the programs of `nodeimage/rootfs`, this Python, the Blender of the tests. The agent comes through the bucket.
- a `MetadataService` for 169.254.169.254 of one instance, with the keys of the nodes' role
- a folder for an instance's disk, and one for a volume; a link to that for its mount; a frozen copy of it for a snapshot
- a file that KILN_POWEROFF makes for the machine's power button; SIGKILL for what EC2 does to an instance that ends
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any  # Any: what EC2 describes

from nodeimage.instance.fetch import OWN_FOLDER
from supervisor.cloud.aws.volumes import WORKSPACE_DEVICE
from supervisor.cloud.local import processes
from supervisor.cloud.local.disk import last_lines
from tests.aws.metadata_service import MetadataService, RoleKeys
from tests.aws.moto_server import Moto

from .blender_here import ROOT, blender_command

#: What systemd starts on an instance, one after the other: `kiln-launch.service`, `kiln-node.service`.
LAUNCH, NODE = (ROOT / "nodeimage" / "rootfs" / "usr" / "lib" / "kiln" / name for name in ("launch.py", "bootstrap.py"))
_ON = frozenset({"pending", "running"})


class Machine:
    """One instance's hardware, and the programs on it."""

    def __init__(self, folder: Path, metadata: MetadataService) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.metadata = metadata.__enter__()
        self.workspace = folder / "workspace"
        self._button = folder / "off"
        self._process: subprocess.Popen[bytes] | None = None
        self.is_on = True

    def boot(self, volume: Path | None) -> None:
        """Start it as systemd does. Shape: volume: None: there is none beside the root"""
        if volume is None:
            self.workspace.mkdir()
        else:
            self.workspace.symlink_to(volume)
        told = subprocess.run([sys.executable, "-I", str(LAUNCH)], env=self._environment(), capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(NODE)],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        blender, kind = blender_command()
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.metadata.endpoint,
            "KILN_RUN": str(self.folder / "run"),
            "KILN_AGENTS": str(self.folder / "agents"),
            "KILN_LAUNCH": str(self.folder / "run" / "launch.json"),
            "KILN_HOME": str(self.folder / "home"),
            "KILN_WORKSPACE": str(self.workspace),
            "KILN_BLENDER": blender,
            "KILN_BLENDER_KIND": kind,
            "KILN_MOUNTED": "test -L",
            "KILN_UNMOUNT": "rm",
            "KILN_POWEROFF": f"touch {self._button}",
        }

    def has_powered_off(self) -> bool:
        return self._button.exists()

    def check_it_works(self) -> None:
        """Errors: AssertionError - its program has ended, and left it running"""
        assert self._process is not None, f"{self.folder.name} did not boot"
        assert self.is_on, f"{self.folder.name} was stopped and started again: that is not played here"
        status = self._process.poll()
        # powered off between the two looks, it is in order
        assert status is None or self.has_powered_off(), f"{self.folder.name}: its program ended with {status}:\n{self.last_words()}"

    def last_words(self) -> str:
        return last_lines(self.folder / "log", 15)

    def pull_the_plug(self) -> None:
        """End everything on it at once. Repeat: safe"""
        if not self.is_on:
            return
        self.is_on = False
        self.metadata.__exit__(None, None, None)
        processes.end_all(self.processes(), grace_s=0)
        if self._process is not None:
            self._process.wait(10)

    def processes(self) -> list[processes.ProcessId]:
        """Whatever runs on it: the agent, its Blender."""
        return processes.with_environment(f"{self.folder}/")


class DataCenter:
    """The cloud's hardware. Nothing happens by itself: `step` lets what was asked of EC2 come to be."""

    def __init__(self, moto: Moto, folder: Path, *, keys: RoleKeys) -> None:
        """Shape:   keys: those of the role that instances have"""
        self._moto = moto
        self._keys = keys
        self._disks = folder / "instances"
        self._volumes = folder / "volumes"
        self._snapshots = folder / "snapshots"
        for each in (self._disks, self._volumes, self._snapshots):
            each.mkdir(parents=True)
        self.machines: dict[str, Machine] = {}  #: by instance, those that have ended among them
        moto.change(is_slow=True)

    def step(self) -> None:
        """Freeze what a snapshot was asked of, boot what was launched, switch off what has ended, wipe what was deleted."""
        ec2 = self._moto.client("ec2")
        # In this order: what the one names, the next one shows, if it has not been deleted between the two.
        instances = self._moto.instances()
        volumes = {each["VolumeId"]: each for each in ec2.describe_volumes()["Volumes"]}
        snapshots = {each["SnapshotId"]: each for each in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
        for id, snapshot in snapshots.items():
            self._freeze(id, self._volumes / snapshot["VolumeId"])
        for one in instances:
            self._attend(one, volumes)
        _wipe(self._volumes, {*volumes, *self._mounted()})
        _wipe(self._snapshots, snapshots.keys())
        self._moto.tell("settle")

    def _mounted(self) -> dict[str, str]:
        """The volumes that a machine has mounted, each with its instance."""
        return {machine.workspace.resolve().name: id for id, machine in self.machines.items() if machine.is_on}

    def _freeze(self, snapshot: str, volume: Path) -> None:
        """Keep what is on the volume now. The farm learns that the snapshot is complete when this step ends."""
        if (self._snapshots / snapshot).exists() or not volume.exists():
            return  # taken before, or of an image's volume
        writer = self._mounted().get(volume.name)
        assert writer is None, f"{snapshot} is made of {volume.name} while {writer} may still write to it"
        shutil.copytree(volume, self._snapshots / snapshot)

    def _attend(self, one: Mapping[str, Any], volumes: Mapping[str, Mapping[str, Any]]) -> None:
        id, is_wanted = one["InstanceId"], one["State"]["Name"] in _ON
        machine = self.machines.get(id)
        if machine is None and is_wanted:
            self._boot(one, volumes)
        elif machine is not None and not is_wanted:
            machine.pull_the_plug()
        elif machine is not None and machine.has_powered_off():
            self._moto.tell("power_off", instance=id)
        elif machine is not None:
            machine.check_it_works()

    def _boot(self, one: Mapping[str, Any], volumes: Mapping[str, Mapping[str, Any]]) -> None:
        devices = {each["DeviceName"]: each["Ebs"]["VolumeId"] for each in one["BlockDeviceMappings"]}
        if not volumes.keys() >= set(devices.values()):
            return  # it was ended after it was described: the next step shows it
        id = one["InstanceId"]
        told = self._moto.client("ec2").describe_instance_attribute(InstanceId=id, Attribute="userData")
        metadata = MetadataService(
            instance_id=id,
            user_data=base64.b64decode(told["UserData"]["Value"]),
            life_cycle=one.get("InstanceLifecycle", "on-demand"),
            instance_type=one["InstanceType"],
            zone=one["Placement"]["AvailabilityZone"],
            keys=self._keys,
        )
        machine = self.machines[id] = Machine(self._disks / id, metadata)
        machine.boot(self._attached(volumes[devices[WORKSPACE_DEVICE]]) if WORKSPACE_DEVICE in devices else None)

    def _attached(self, volume: Mapping[str, Any]) -> Path:
        """The volume, made of its snapshot, or blank."""
        folder = self._volumes / str(volume["VolumeId"])
        if volume.get("SnapshotId"):
            shutil.copytree(self._snapshots / volume["SnapshotId"], folder)
        elif not folder.exists():
            folder.mkdir()
        return folder

    def announce_interruption(self, instance: str, *, in_s: float) -> datetime:
        """Give notice that a spot instance is taken back. Returns: when"""
        return self.machines[instance].metadata.announce_interruption(in_s=in_s)

    def take_back(self, instance: str) -> None:
        """Take a spot instance back: the next step ends what runs on it."""
        self._moto.tell("interrupt", instance=instance)

    def lose(self, instance: str) -> None:
        """Let a machine die, without a word to anybody."""
        self.machines[instance].pull_the_plug()
        self._moto.tell("lose", instance=instance)

    def frozen(self, snapshot: str) -> set[str]:
        """Relative paths of the files in a snapshot, those in the agent's own folder left out."""
        folder = self._snapshots / snapshot
        files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return {str(path) for path in files if path.parts[0] != OWN_FOLDER}

    def close(self) -> None:
        """Switch everything off. Repeat: safe"""
        for machine in self.machines.values():
            machine.pull_the_plug()


def _wipe(folder: Path, kept: Collection[str]) -> None:
    """Remove what EC2 does not have any more."""
    for each in folder.iterdir():
        if each.name not in kept:
            shutil.rmtree(each)
