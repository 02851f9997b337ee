"""What is proved of volumes that the farm fills on its own instance: with real mounts of a real file system, on a device over a file.

Part of image-check; `python -m ami.check.own_volume` proves it alone, in half a minute.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ami.check.bucket import BUCKET, REGION, Bucket
from ami.check.commands import Failed, expect, run, wait_until
from ami.check.loops import loop_volume
from ami.check.network import object_store
from ami.check.proving import enter_namespaces, prove
from nodeimage.disks import is_in_use
from nodeimage.launch import FileEntry, FileList, LaunchData, Role, StagingReport, StagingState, WorkspaceKind
from nodeimage.protocol import files_key, project_key, staging_key
from supervisor.cloud.aws.inventory import FarmVolume
from supervisor.cloud.aws.own_filling import Fillings
from supervisor.cloud.aws.own_machine import TRIAL
from supervisor.cloud.aws.session import AwsSession, Keys

JOB, GIB = "job_own", 1
BODIES = {"scene.blend": os.urandom(3 << 20), "tex/wood.png": b"wood", "tex/empty": b""}
BLENDERS_GROUP = 880


class Farm:
    """A farm's own machine with a volume attached: what the kernel shows of disks is made up, and hidden from everybody else."""

    def __init__(self, folder: Path, device: str, bucket: Bucket, endpoint: str) -> None:
        self.device = Path(device)
        self.bucket = bucket
        self._endpoint = endpoint
        self._sys = folder / "sys"
        self._number = 0
        self._sys.mkdir(parents=True)
        run("mount", "--bind", self._sys, "/sys/block")
        self.fillings = Fillings(folder / "filling", AwsSession(region=REGION, keys=Keys(access_key="check", secret_key="check")))

    def attach(self) -> FarmVolume:
        """Attach a new volume: the device, emptied, with another serial."""
        run("wipefs", "--all", self.device)
        self._number += 1
        volume = f"vol-0123456789abcde{self._number:02d}"
        entry, number = self._sys / self.device.name, self.device.stat().st_rdev
        (entry / "device").mkdir(parents=True, exist_ok=True)
        (entry / "device/serial").write_text(f"{volume.replace('-', '')}  \n")
        (entry / "size").write_text(f"{GIB << 21}\n")
        (entry / "dev").write_text(f"{os.major(number)}:{os.minor(number)}\n")
        return FarmVolume(
            id=volume,
            job=JOB,
            role="stage",
            request="r",
            state="in-use",
            gib=GIB,
            created_at=datetime.now(UTC),
            is_blank=True,
            device="/dev/sdf",
            instance="i-here",
            attachment="attached",
            host="i-here",
        )

    def start(self, volume: FarmVolume) -> None:
        launch = LaunchData(
            role=Role.STAGE,
            farm="check",
            job=JOB,
            region=REGION,
            projects_bucket=BUCKET,
            received_bucket=BUCKET,
            endpoint=self._endpoint,
            agent="",
            agent_sha256="",
            workspace=WorkspaceKind.BLANK,
        )
        self.fillings.start(volume, launch)

    def wait_until_mounted(self, volume: FarmVolume) -> None:
        def is_mounted() -> bool:
            expect(self.is_running(volume), f"the filling has ended: {self.fillings.look(volume.id)}")
            return self.said(volume) is not None and is_in_use(self.device)

        wait_until(is_mounted, "the volume is mounted", limit_s=60)
        expect(str(self.device) not in Path("/proc/self/mounts").read_text(), "what the filling mounted is seen outside of it")

    def is_running(self, volume: FarmVolume) -> bool:
        filling = self.fillings.look(volume.id)
        return filling is not None and filling.status is None

    def wait_until_filled(self, volume: FarmVolume) -> None:
        wait_until(lambda: not self.is_running(volume), "the volume is filled", limit_s=120)
        filling, said = self.fillings.look(volume.id), self.said(volume)
        expect(filling is not None and filling.status == 0, f"the filling ended so: {filling}")
        expect(said is not None and said.state is StagingState.DONE, f"the report is {said}")
        expect(not self.fillings.is_in_use(volume), "the device is in use after the end")

    def said(self, volume: FarmVolume) -> StagingReport | None:
        body = self.bucket.find(staging_key(JOB))
        said = StagingReport.from_bytes(body) if body else None
        return said if said and said.instance == volume.id else None

    def put_files(self) -> None:
        self.bucket.put(files_key(JOB), file_list().to_bytes())

    def forget_files(self) -> None:
        """Let a filling wait for the list of the files, with the volume mounted."""
        self.bucket.delete(files_key(JOB))


def file_list() -> FileList:
    return FileList(
        files=tuple(
            FileEntry(path=path, key=project_key(JOB, path), bytes=len(body), checksum=f"crc32:{zlib.crc32(body):08x}")
            for path, body in BODIES.items()
        )
    )


def volume_is_filled_verified_and_unmounted(farm: Farm) -> str:
    """A blank volume is found by its serial, gets a file system, every file, and is whole when that is said; nobody saw it mounted."""
    farm.put_files()
    volume = farm.attach()
    farm.start(volume)
    farm.wait_until_filled(volume)
    farm.fillings.end(volume.id)
    return _whole(farm)


def filling_that_is_ended_leaves_no_mount(farm: Farm) -> str:
    """Whoever pauses or cancels a job ends the filling: at once nothing holds the volume any more."""
    farm.forget_files()
    volume = farm.attach()
    farm.start(volume)
    farm.wait_until_mounted(volume)
    began = time.monotonic()
    farm.fillings.end(volume.id)
    wait_until(lambda: not farm.fillings.is_in_use(volume), "the volume is free", limit_s=10)
    return f"free after {time.monotonic() - began:.2f} s"


def farm_that_dies_takes_its_filling_with_it_and_goes_on_with_the_same_volume(farm: Farm) -> str:
    """The farm's process is killed in the middle: the mount is gone with it, and the next one fills the same volume."""
    farm.forget_files()
    volume = farm.attach()
    child = os.fork()
    if child == 0:
        farm.start(volume)
        time.sleep(600)
        os._exit(1)
    wait_until(lambda: farm.said(volume) is not None and is_in_use(farm.device), "the volume is mounted", limit_s=60)
    began = time.monotonic()
    os.kill(child, 9)
    os.waitpid(child, 0)
    wait_until(lambda: not farm.fillings.is_in_use(volume), "the volume is free", limit_s=10)
    free_s = time.monotonic() - began
    farm.put_files()
    farm.start(volume)
    farm.wait_until_filled(volume)
    farm.fillings.end(volume.id)
    return f"free {free_s:.2f} s after the farm's death; then {_whole(farm)}"


def volume_with_something_else_on_it_is_left_alone(farm: Farm) -> str:
    """What is not blank, and not the farm's, is not touched."""
    volume = farm.attach()
    run("mkfs.ext4", "-q", "-L", "somebodys", farm.device)
    before = run("dumpe2fs", "-h", farm.device)
    farm.start(volume)
    wait_until(lambda: not farm.is_running(volume), "the filling has ended", limit_s=60)
    filling = farm.fillings.look(volume.id)
    expect(filling is not None and filling.status == 1, f"it ended so: {filling}")
    expect(run("dumpe2fs", "-h", farm.device) == before, "the file system was changed")
    farm.fillings.end(volume.id)
    return filling.last_words if filling else ""


PROOFS = (
    volume_is_filled_verified_and_unmounted,
    filling_that_is_ended_leaves_no_mount,
    farm_that_dies_takes_its_filling_with_it_and_goes_on_with_the_same_volume,
    volume_with_something_else_on_it_is_left_alone,
)


def _whole(farm: Farm) -> str:
    """Look at the volume as a node will. Errors: Failed"""
    run("e2fsck", "-f", "-n", farm.device)
    with tempfile.TemporaryDirectory() as place:
        run("mount", "-o", "ro", farm.device, place)
        try:
            root = Path(place)
            wrong = [path for path, body in BODIES.items() if (root / path).read_bytes() != body]
            expect(not wrong, f"these are not what they were: {wrong}")
            there = root.stat()
            expect((there.st_gid, there.st_mode & 0o7777) == (BLENDERS_GROUP, 0o2775), f"the folder is {there}")
            expect(all((root / path).stat().st_gid == BLENDERS_GROUP for path in BODIES), "Blender's group can't use the files")
            expect(not (root / "lost+found").exists(), "lost+found is there")
        finally:
            run("umount", place)
    return f"{len(BODIES)} files on {run('blkid', '--probe', '--output', 'value', '--match-tag', 'TYPE', farm.device).strip()}, whole"


@contextmanager
def farm_with_a_volume(folder: Path, bucket: Bucket, endpoint: str) -> Iterator[Farm]:
    """A farm with files to bring onto a volume. Only in a mount namespace of one's own."""
    for path, body in BODIES.items():
        bucket.put(project_key(JOB, path), body)
    with loop_volume(folder / "own-volume", bytes=GIB << 30) as device:
        try:
            yield Farm(folder, device, bucket, endpoint)
        finally:
            run("umount", "/sys/block", status=None)


def main() -> int:
    """Prove it all, with a store of its own. Returns: exit status"""
    enter_namespaces("ami.check.own_volume")
    run(*TRIAL, "/mnt")
    with (
        tempfile.TemporaryDirectory() as name,
        object_store(Path(name, "store.log"), address="127.0.0.1", port=_free_port()) as endpoint,
        farm_with_a_volume(Path(name), Bucket(endpoint), endpoint) as farm,
    ):
        for proof in PROOFS:
            try:
                prove(proof, farm)
            except Failed as error:
                print(f"image-check: FAILED: {error}", file=sys.stderr)
                return 1
    return 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


if __name__ == "__main__":
    sys.exit(main())
