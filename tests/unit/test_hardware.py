"""GPUs on the PCI bus: a folder stands in for the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeimage.hardware import expected_device, gpus


def a_device(bus: Path, slot: str, *, vendor: str, kind: str, device: str = "0x2237") -> None:
    folder = bus / slot
    folder.mkdir(parents=True)
    for name, value in (("vendor", vendor), ("class", kind), ("device", device)):
        (folder / name).write_text(value + "\n")


def test_gpu_of_a_g5_instance_is_found_without_a_driver(tmp_path: Path) -> None:
    a_device(tmp_path, "0000:00:03.0", vendor="0x1d0f", kind="0x030000")  # Amazon's own screen
    a_device(tmp_path, "0000:00:05.0", vendor="0x1d0f", kind="0x020000")  # the network
    a_device(tmp_path, "0000:00:1e.0", vendor="0x10de", kind="0x030200")
    assert gpus(tmp_path) == ["NVIDIA 0x2237"]
    assert expected_device(tmp_path) == "gpu"


@pytest.mark.parametrize(("vendor", "kind"), [("0x1d0f", "0x030000"), ("0x10de", "0x040300"), ("0x8086", "0x060000")])
def test_screen_of_a_machine_without_gpu_and_other_devices_are_none(tmp_path: Path, vendor: str, kind: str) -> None:
    a_device(tmp_path, "0000:00:03.0", vendor=vendor, kind=kind)
    assert expected_device(tmp_path) == ""


def test_machine_without_a_pci_bus_has_no_gpu(tmp_path: Path) -> None:
    assert gpus(tmp_path / "none") == []
