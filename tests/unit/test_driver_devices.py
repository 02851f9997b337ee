"""What renders: GPUs that are not there in tests are told by fakes of Cycles' preferences."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from nodeimage.driver.devices import Devices, WrongDevice
from nodeimage.driver.graphics import is_software

LLVMPIPE = "llvmpipe (LLVM 15.0.6, 256 bits)"


@dataclass
class FakeDevice:
    name: str
    type: str
    use: bool = False


@dataclass
class FakeCycles:
    """The preferences of Cycles: the kinds that this Blender knows, and the devices that there are."""

    devices: list[FakeDevice] = field(default_factory=list)
    kinds: tuple[str, ...] = ("NONE", "CUDA", "OPTIX", "HIP", "ONEAPI")
    kind: str = "NONE"
    refreshed: int = 0

    @property
    def compute_device_type(self) -> str:
        return self.kind

    @compute_device_type.setter
    def compute_device_type(self, kind: str) -> None:
        if kind not in self.kinds:
            raise TypeError(f"enum {kind} not found")
        self.kind = kind

    def refresh_devices(self) -> None:
        self.refreshed += 1


def a_scene(engine: str = "CYCLES", *, device: str = "CPU", name: str = "Scene") -> Any:
    return SimpleNamespace(name=name, render=SimpleNamespace(engine=engine), cycles=SimpleNamespace(device=device))


def a_g6() -> FakeCycles:
    """What Cycles shows on an instance with an L4."""
    return FakeCycles([FakeDevice("NVIDIA L4", "CUDA"), FakeDevice("NVIDIA L4", "OPTIX"), FakeDevice("AMD EPYC 7R13", "CPU")])


def devices(
    scene: Any, wanted: str, cycles: FakeCycles | None = None, *, others: tuple[Any, ...] = (), gl: str = "NVIDIA L4", drew: bool = False
) -> Devices:
    addons = {"cycles": SimpleNamespace(preferences=cycles)} if cycles is not None else {}
    return Devices(scene, wanted, scenes=(scene, *others), addons=addons, renderer=lambda: gl, says_software=lambda: drew)


def codes(findings: list[dict[str, str]]) -> list[str]:
    return [finding["code"] for finding in findings]


def test_gpu_instance_renders_a_file_that_asks_for_the_cpu_on_its_gpu() -> None:
    scene, cycles = a_scene(device="CPU"), a_g6()
    assert devices(scene, "gpu", cycles).choose() == ("NVIDIA L4 (OptiX)", [])
    assert scene.cycles.device == "GPU"
    assert [(device.type, device.use) for device in cycles.devices] == [("CUDA", False), ("OPTIX", True), ("CPU", False)]


def test_gpu_instance_puts_every_scene_of_the_file_on_the_gpu() -> None:
    background = a_scene(device="CPU", name="Background")
    devices(a_scene(), "gpu", a_g6(), others=(background, SimpleNamespace(name="without Cycles"))).choose()
    assert background.cycles.device == "GPU"


@pytest.mark.parametrize(
    ("kinds", "found", "said"),
    [
        (("NONE", "CUDA"), [FakeDevice("Tesla T4", "CUDA")], "Tesla T4 (CUDA)"),
        (("NONE", "HIP"), [FakeDevice("Radeon", "HIP")], "Radeon (HIP)"),
        (("NONE", "CUDA", "ONEAPI"), [FakeDevice("Arc", "ONEAPI")], "Arc (oneAPI)"),
        (("NONE", "OPTIX"), [FakeDevice("A10G", "OPTIX"), FakeDevice("A10G", "OPTIX")], "A10G + A10G (OptiX)"),
    ],
)
def test_best_kind_of_device_that_there_is_is_taken(kinds: tuple[str, ...], found: list[FakeDevice], said: str) -> None:
    assert devices(a_scene(), "gpu", FakeCycles(found, kinds=kinds)).choose()[0] == said


def test_gpu_instance_whose_gpu_blender_cant_use_is_a_failure_with_that_reason() -> None:
    with pytest.raises(WrongDevice, match="this node has a GPU, and Blender can't use it"):
        devices(a_scene(device="GPU"), "gpu", FakeCycles([FakeDevice("EPYC", "CPU")])).choose()


def test_blender_without_cycles_is_a_failure_on_a_gpu_instance() -> None:
    with pytest.raises(WrongDevice):
        devices(a_scene(), "gpu").choose()


def test_frame_is_not_rendered_when_the_gpu_was_lost_in_between() -> None:
    scene, cycles = a_scene(), a_g6()
    chosen = devices(scene, "gpu", cycles)
    chosen.choose()
    chosen.check_before()
    for device in cycles.devices:
        device.use = False
    with pytest.raises(WrongDevice, match="would have rendered the frame on the CPU"):
        chosen.check_before()


def test_frame_is_not_rendered_when_the_preferences_were_set_back() -> None:
    cycles = a_g6()
    chosen = devices(a_scene(), "gpu", cycles)
    chosen.choose()
    cycles.compute_device_type = "NONE"
    with pytest.raises(WrongDevice):
        chosen.check_before()


def test_scene_that_fell_back_to_the_cpu_is_put_on_the_gpu_before_each_frame() -> None:
    scene = a_scene()
    chosen = devices(scene, "gpu", a_g6())
    chosen.choose()
    scene.cycles.device = "CPU"
    chosen.check_before()
    assert scene.cycles.device == "GPU"


def test_machine_of_the_studio_renders_as_the_file_asks() -> None:
    scene = a_scene(device="CPU")
    assert devices(scene, "", a_g6()).choose() == ("CPU", [])
    assert devices(a_scene(device="GPU"), "", a_g6()).choose() == ("NVIDIA L4 (OptiX)", [])


def test_file_that_asks_for_a_gpu_that_is_not_there_is_rendered_by_the_cpu_and_that_is_said() -> None:
    scene = a_scene(device="GPU")
    device, findings = devices(scene, "", FakeCycles()).choose()
    assert (device, codes(findings), scene.cycles.device) == ("CPU", ["gpu_absent"], "CPU")


def test_node_that_must_use_the_cpu_does_whatever_the_file_asks() -> None:
    scene = a_scene(device="GPU")
    assert devices(scene, "cpu", a_g6()).choose() == ("CPU", [])
    assert scene.cycles.device == "CPU"


@pytest.mark.parametrize("engine", ["BLENDER_EEVEE", "BLENDER_EEVEE_NEXT", "BLENDER_WORKBENCH"])
def test_what_opengl_draws_is_drawn_by_the_gpu_where_there_is_one(engine: str) -> None:
    chosen = devices(a_scene(engine), "gpu", gl="NVIDIA L4/PCIe/SSE2")
    assert chosen.choose() == ("NVIDIA L4/PCIe/SSE2", [])


def test_software_opengl_is_the_last_resort_and_is_warned_of() -> None:
    device, findings = devices(a_scene("BLENDER_EEVEE_NEXT"), "", gl=LLVMPIPE).choose()
    assert (device, codes(findings)) == (LLVMPIPE, ["software_gl"])
    assert findings[0]["text"].startswith("EEVEE is drawn by software (llvmpipe")


def test_software_opengl_on_a_gpu_instance_is_a_failure_with_that_reason() -> None:
    with pytest.raises(WrongDevice, match="OpenGL can't use it: EEVEE would be drawn by software"):
        devices(a_scene("BLENDER_EEVEE"), "gpu", gl=LLVMPIPE).choose()


def test_frame_that_was_drawn_by_software_after_all_is_a_failure_on_a_gpu_instance() -> None:
    chosen = devices(a_scene("BLENDER_WORKBENCH"), "gpu", gl="", drew=True)
    chosen.choose()
    with pytest.raises(WrongDevice, match="the frame was drawn by software on the CPU"):
        chosen.check_after()


def test_frame_that_was_drawn_by_software_is_good_where_there_is_no_gpu() -> None:
    chosen = devices(a_scene("BLENDER_EEVEE"), "", gl=LLVMPIPE, drew=True)
    chosen.choose()
    chosen.check_after()
    assert chosen.choose()[0] == LLVMPIPE


@pytest.mark.parametrize(
    ("name", "is_so"), [(LLVMPIPE, True), ("softpipe", True), ("SwiftShader Device", True), ("NVIDIA L4", False), ("", False)]
)
def test_renderers_without_hardware_are_known_by_name(name: str, is_so: bool) -> None:
    assert is_software(name) is is_so
