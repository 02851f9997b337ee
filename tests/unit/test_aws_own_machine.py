"""Whether the farm may fill volumes on the machine that it runs on: each thing that is lacking is said, and asked for once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeimage.disks import Disks
from nodeimage.metadata import Metadata
from supervisor.cloud.aws.own_machine import PROGRAMS, NotHere, OwnInstance, OwnMachine
from tests.aws.metadata_service import MetadataService

HERE = OwnInstance(id="i-0abc", zone="us-east-1a")
ALL_CAPABILITIES, DOCKERS = "000001ffffffffff", "00000000a80425fb"
DEVTMPFS = "25 1 0:6 / /dev rw,nosuid shared:2 - devtmpfs udev rw,size=4096k\n"
DOCKERS_DEV = "1201 1199 0:63 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k\n"
OTHERS = "22 1 259:1 / / rw - ext4 /dev/root rw\n26 25 0:23 / /dev/pts rw - devpts devpts rw\n"


class Box:
    """A machine, and a process on it, that can be made to lack something."""

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        self.proc, self.sys, self.dev, self.programs = (folder / name for name in ("proc", "sys", "dev", "bin"))
        for path in (self.proc, self.sys / "nvme0n1/device", self.dev, self.programs):
            path.mkdir(parents=True)
        for name in PROGRAMS:
            (self.programs / name).touch(mode=0o755)
        (self.dev / "nvme0n1").touch()
        self.now_s = 1000.0
        self.metadata = metadata
        self.be(user=0, capabilities=ALL_CAPABILITIES)
        self.mounts(OTHERS + DEVTMPFS)

    def be(self, *, user: int, capabilities: str) -> None:
        (self.proc / "status").write_text(f"Name:\tkiln\nUid:\t{user}\t{user}\t{user}\t{user}\nCapEff:\t{capabilities}\n")

    def mounts(self, text: str) -> None:
        (self.proc / "mountinfo").write_text(text)

    def machine(self, *, region: str = "us-east-1", trial: tuple[str, ...] = ("true",)) -> OwnMachine:
        disks = Disks(sys=self.sys, dev=self.dev)
        return OwnMachine(region, metadata=self.metadata, disks=disks, proc=self.proc, trial=trial, clock=lambda: self.now_s)

    def why_not(self, **how: str) -> str:
        with pytest.raises(NotHere) as refused:
            self.machine(**how).instance()  # type: ignore[arg-type]  # a trial is given by itself
        return str(refused.value)


@pytest.fixture
def service() -> Iterator[MetadataService]:
    with MetadataService(instance_id=HERE.id, zone=HERE.zone) as service:
        yield service


@pytest.fixture
def box(tmp_path: Path, service: MetadataService, monkeypatch: pytest.MonkeyPatch) -> Box:
    box = Box(tmp_path, Metadata(service.endpoint))
    monkeypatch.setenv("PATH", f"{box.programs}:/usr/bin:/bin")
    return box


def test_instance_where_all_is_there_is_found_and_asked_for_once(box: Box, service: MetadataService) -> None:
    machine = box.machine()
    assert machine.instance() == HERE
    asked = len(service.asked)
    service.fail_with(500)
    box.now_s += 1e6
    assert machine.instance() == HERE
    assert len(service.asked) == asked


def test_machine_that_is_no_instance_says_so_and_is_looked_at_again_after_a_while(box: Box, service: MetadataService) -> None:
    service.fail_with(403)
    machine = box.machine()
    for _ in range(3):
        with pytest.raises(NotHere, match=r"does not run on an EC2 instance, as far as it can tell: .*switched off"):
            machine.instance()
    assert service.tokens_given == 0
    service.fail_with(0)
    with pytest.raises(NotHere):
        machine.instance()
    box.now_s += 601
    assert machine.instance() == HERE


def test_nobody_is_asked_where_the_environment_forbids_it(box: Box, service: MetadataService) -> None:
    environment = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_EC2_METADATA_SERVICE_ENDPOINT": service.endpoint}
    box.metadata = Metadata.from_env(environment)
    assert "AWS_EC2_METADATA_DISABLED says" in box.why_not()
    assert service.tokens_given == 0


def test_instance_of_another_region_is_not_the_farms(box: Box) -> None:
    assert box.why_not(region="eu-central-1") == "the farm runs on i-0abc in us-east-1, and rents in eu-central-1"


@pytest.mark.parametrize(("user", "capabilities"), [(10001, ALL_CAPABILITIES), (0, DOCKERS)], ids=["a user", "a container's root"])
def test_process_that_may_not_mount_says_so(box: Box, user: int, capabilities: str) -> None:
    box.be(user=user, capabilities=capabilities)
    assert box.why_not().startswith("on i-0abc, where the farm runs, it is not root, or not with the right to mount")


@pytest.mark.parametrize("mounts", [OTHERS + DOCKERS_DEV, OTHERS + DEVTMPFS + DOCKERS_DEV, OTHERS])
def test_container_with_a_dev_of_its_own_says_so(box: Box, mounts: str) -> None:
    box.mounts(mounts)
    assert box.why_not().endswith("its /dev is not the machine's own, so that new disks are not seen there")


def test_disks_that_can_not_be_opened_are_said(box: Box) -> None:
    (box.dev / "nvme0n1").unlink()
    assert f"its disks can't be opened ({box.dev}/nvme0n1: " in box.why_not()


def test_missing_programs_are_named(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    (box.programs / "unshare").unlink()
    monkeypatch.setenv("PATH", str(box.programs))
    assert box.why_not().endswith("it lacks unshare")


def test_mounting_is_tried_before_it_is_promised(box: Box) -> None:
    refuses = ("sh", "-c", "echo 'mount: permission denied' >&2; exit 32")
    with pytest.raises(NotHere, match="mounting was tried, and refused: mount: permission denied"):
        box.machine(trial=refuses).instance()
    with pytest.raises(NotHere, match="mounting was tried, and failed: "):
        box.machine(trial=(str(box.proc / "none"),)).instance()
