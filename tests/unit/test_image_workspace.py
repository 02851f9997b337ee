"""Which of an instance's disks is the job's volume: listings of lsblk as Nitro and Xen instances show them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .image_files import LIB, load

workspace_volume = load("workspace_volume")
WORKSPACE = Path("/var/lib/kiln/workspace")
EBS, OWN = "Amazon Elastic Block Store", "Amazon EC2 NVMe Instance Storage"


def a_disk(
    name: str, *, serial: str | None = None, model: str | None = None, at: str | None = None, parts: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A disk as `lsblk --json` lists it; `parts` are where its partitions are mounted."""
    disk: dict[str, Any] = {"name": name, "path": f"/dev/{name}", "type": "disk", "serial": serial, "model": model, "mountpoints": [at]}
    if parts:
        between = "p" if name.startswith("nvme") else ""
        disk["children"] = [
            {"name": f"{name}{between}{number}", "path": f"/dev/{name}{between}{number}", "type": "part", "mountpoints": [place]}
            for number, place in enumerate(parts, 1)
        ]
    return disk


def listing(*disks: dict[str, Any]) -> bytes:
    return json.dumps({"blockdevices": list(disks)}).encode()


NITRO_ROOT = a_disk("nvme0n1", serial="vol0aaaaaaaaaaaaaaaa", model=EBS, parts=("/", "/boot/efi"))
NITRO_OWN = a_disk("nvme1n1", serial="AWS22C2ABF2D4B3DDA1E", model=OWN)
NITRO_VOLUME = a_disk("nvme2n1", serial="vol0bbbbbbbbbbbbbbbb", model=EBS)
XEN_ROOT = a_disk("xvda", parts=("/",))
XEN_OWN = a_disk("xvdb")
XEN_VOLUME = a_disk("xvdf")
LOOP = {"name": "loop0", "path": "/dev/loop0", "type": "loop", "serial": None, "mountpoints": ["/snap/core"]}


@pytest.mark.parametrize(
    ("disks", "path"),
    [
        ((NITRO_ROOT, NITRO_OWN, NITRO_VOLUME), "/dev/nvme2n1"),
        ((NITRO_VOLUME, LOOP, NITRO_ROOT), "/dev/nvme2n1"),  # the order is the attachment's: the root may come second
        ((XEN_ROOT, XEN_OWN, XEN_VOLUME), "/dev/xvdf"),
        ((XEN_ROOT, a_disk("sdf")), "/dev/sdf"),
    ],
)
def test_volume_is_found_by_serial_on_nitro_and_by_name_on_xen(disks: tuple[dict[str, Any], ...], path: str) -> None:
    assert [volume.path for volume in workspace_volume.volumes(listing(*disks), WORKSPACE)] == [path]


def test_root_and_the_instances_own_disks_are_never_the_workspace() -> None:
    assert workspace_volume.volumes(listing(NITRO_ROOT, NITRO_OWN), WORKSPACE) == []
    assert workspace_volume.volumes(listing(XEN_ROOT, XEN_OWN), WORKSPACE) == []


def test_root_without_partitions_is_not_the_workspace() -> None:
    assert workspace_volume.volumes(listing(a_disk("nvme0n1", serial="vol0a", model=EBS, at="/")), WORKSPACE) == []


def test_volume_that_is_mounted_at_its_place_is_found_again() -> None:
    (found,) = workspace_volume.volumes(listing(NITRO_ROOT, a_disk("nvme1n1", serial="vol0b", model=EBS, at=str(WORKSPACE))), WORKSPACE)
    assert found.is_mounted


def test_volume_that_is_mounted_elsewhere_is_left_alone() -> None:
    assert workspace_volume.volumes(listing(a_disk("nvme1n1", serial="vol0b", model=EBS, at="/mnt")), WORKSPACE) == []


BLANK = workspace_volume.Volume(path="/dev/nvme1n1", serial="vol0b", is_mounted=False)
OURS = replace(BLANK, fstype="ext4", label="kiln-workspace")
FOREIGN = replace(BLANK, fstype="xfs", label="data")


@pytest.mark.parametrize(
    ("found", "mode", "chosen"),
    [
        ([OURS], "volume", OURS),
        ([BLANK], "blank", BLANK),
        ([OURS], "blank", OURS),
        ([FOREIGN, OURS], "volume", OURS),
        ([], "volume", None),
        ([], "blank", None),
    ],
)
def test_volume_is_chosen_by_what_is_on_it(found: list[Any], mode: str, chosen: Any) -> None:
    assert workspace_volume.chosen(found, mode) == chosen


@pytest.mark.parametrize(
    ("found", "mode", "says"),
    [
        ([BLANK], "volume", "no volume bears the label kiln-workspace; there is /dev/nvme1n1 (vol0b, blank"),
        ([FOREIGN], "volume", "no volume bears the label"),
        ([FOREIGN], "blank", "not one blank volume, but 0; there is /dev/nvme1n1 (vol0b, xfs, label “data”)"),
        ([replace(OURS, fstype="btrfs")], "blank", "not one blank volume, but 0"),
        ([BLANK, replace(BLANK, path="/dev/nvme2n1")], "blank", "not one blank volume, but 2"),
        ([OURS, replace(OURS, path="/dev/nvme2n1")], "volume", "several volumes bear the label"),
    ],
)
def test_nothing_is_overwritten_and_nothing_is_guessed(found: list[Any], mode: str, says: str) -> None:
    with pytest.raises(workspace_volume.NoVolume) as refused:
        workspace_volume.chosen(found, mode)
    assert says in str(refused.value)


def test_workspace_of_a_kind_that_the_image_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(workspace_volume.NoVolume, match="knows s3, volume and blank"):
        workspace_volume.prepare("nfs", tmp_path)


def test_failure_is_a_sentence_and_an_exit_status(tmp_path: Path) -> None:
    (tmp_path / "launch.json").write_text('{"workspace": "nfs"}')
    command = ["python3", "-I", str(LIB / "workspace_volume.py")]
    ran = subprocess.run(command, env={"KILN_RUN": str(tmp_path), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.startswith("kiln: the workspace is not ready: the launch asks for a workspace “nfs”")


def test_what_is_on_a_volume_is_asked_of_the_volume_itself(tmp_path: Path) -> None:
    image = tmp_path / "volume"
    with image.open("wb") as file:
        file.truncate(8 * 2**20)
    volume = replace(BLANK, path=str(image))
    assert workspace_volume.with_contents(volume) == volume
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-L", "kiln-workspace", image], check=True)
    assert workspace_volume.with_contents(volume) == replace(volume, fstype="ext4", label="kiln-workspace")
