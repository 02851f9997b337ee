"""Which disk of a machine a volume is, on Nitro and on Xen; what is not surely it is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodeimage.disks import Disks, WrongDevice, is_in_use

SERIAL = "vol0123456789abcdef0"
VOLUME = "vol-0123456789abcdef0"
GIB_SECTORS = 1 << 21


class Machine:
    """Disks as the kernel shows them. Any character device stands in for a device file, which only root may make."""

    def __init__(self, folder: Path) -> None:
        self.sys, self.dev = folder / "sys", folder / "dev"
        self.sys.mkdir()
        self.dev.mkdir()
        self.disks = Disks(sys=self.sys, dev=self.dev)

    def disk(self, name: str, *, serial: str | None = None, gib: int = 1) -> None:
        entry = self.sys / name
        (entry / "device").mkdir(parents=True)
        (entry / "size").write_text(f"{gib * GIB_SECTORS}\n")
        (entry / "dev").write_text("259:3\n")
        if serial is not None:
            (entry / "device/serial").write_text(f"{serial}   \n")  # padded, as NVMe has it

    def find(self, *, gib: int = 1) -> Path | None:
        return self.disks.find(VOLUME, attached_as="/dev/sdf", gib=gib)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_disk_that_is_not_there_yet_is_waited_for(machine: Machine) -> None:
    machine.disk("nvme0n1", serial="vol0aaaaaaaaaaaaaaaa")
    machine.disk("nvme1n1", serial="AWS22C2ABF2D4B3DDA1E")
    assert machine.find() is None


def test_machine_without_the_kernels_view_has_no_disks(tmp_path: Path) -> None:
    assert Disks(sys=tmp_path / "none", dev=tmp_path).find(VOLUME, attached_as="/dev/sdf", gib=1) is None


@pytest.mark.parametrize(("name", "serial"), [("nvme1n1", SERIAL), ("xvdf", None)], ids=["Nitro", "Xen"])
def test_volume_of_another_size_is_left_alone(machine: Machine, name: str, serial: str | None) -> None:
    machine.disk(name, serial=serial, gib=5)
    with pytest.raises(WrongDevice, match=rf"{name} has 5368709120 bytes, and {VOLUME} has 1 GiB: it is left alone"):
        machine.find()


def test_disk_that_a_container_does_not_see_is_said_to_be_missing_there(machine: Machine) -> None:
    machine.disk("nvme1n1", serial=SERIAL)
    with pytest.raises(WrongDevice, match="a container sees new disks only if /dev is the machine's own"):
        machine.find()


def test_file_that_is_not_that_disk_is_left_alone(machine: Machine) -> None:
    machine.disk("nvme1n1", serial=SERIAL)
    (machine.dev / "nvme1n1").write_text("a file")
    with pytest.raises(WrongDevice, match="is not the disk that the kernel calls nvme1n1"):
        machine.find()


def test_disk_with_the_name_but_the_serial_of_another_is_not_the_volume(machine: Machine) -> None:
    machine.disk("xvdf", serial="vol0aaaaaaaaaaaaaaaa")
    assert machine.find() is None


def test_two_disks_of_one_serial_are_neither_taken(machine: Machine) -> None:
    machine.disk("nvme1n1", serial=SERIAL)
    machine.disk("nvme2n1", serial=SERIAL)
    assert machine.find() is None


def test_machine_whose_disks_can_be_opened_says_nothing(machine: Machine) -> None:
    machine.disk("nvme0n1")
    assert "can't be opened" in machine.disks.openable()
    (machine.dev / "nvme0n1").write_text("")
    assert machine.disks.openable() == ""


def test_machine_that_shows_no_disks_says_so(machine: Machine) -> None:
    (machine.sys / "loop0").mkdir()
    assert machine.disks.openable() == "are not to be seen under /sys/block"


def test_what_is_not_there_is_not_in_use(tmp_path: Path) -> None:
    assert not is_in_use(tmp_path / "none")
    assert not is_in_use(Path(os.devnull))
