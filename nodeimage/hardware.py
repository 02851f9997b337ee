"""What graphics hardware this machine has, whether or not a driver for it works: the PCI bus tells."""

from __future__ import annotations

from pathlib import Path

PCI_DEVICES = Path("/sys/bus/pci/devices")
#: PCI base class of display controllers: VGA (0x0300) and 3D (0x0302), which is what data-centre GPUs are.
_DISPLAY = "0x03"
#: Makers of what Blender renders on. Amazon's own emulated VGA is 0x1d0f, QEMU's 0x1234.
_MAKERS = {"0x10de": "NVIDIA", "0x1002": "AMD"}


def gpus(bus: Path = PCI_DEVICES) -> list[str]:
    """List the GPUs that Blender could render on. Shape: `NVIDIA 0x2237`, maker and device number"""
    found = []
    for device in sorted(bus.iterdir()) if bus.is_dir() else ():
        maker = _MAKERS.get(_value(device / "vendor"))
        if maker is not None and _value(device / "class").startswith(_DISPLAY):
            found.append(f"{maker} {_value(device / 'device')}")
    return found


def expected_device(bus: Path = PCI_DEVICES) -> str:
    """What a rented instance must render on, as `NodeConfig.device` has it. Returns: `gpu`, or empty if it has none"""
    return "gpu" if gpus(bus) else ""


def _value(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
