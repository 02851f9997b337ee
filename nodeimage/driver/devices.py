"""What Blender renders on: chosen from what the machine has, checked before and after each frame, named for the farm.

Needs no Blender itself: it is handed what it asks, so that its tests have GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .graphics import blender_says_software, gl_renderer, is_software

#: In the order of preference: OptiX renders faster than CUDA on the same GPU.
KINDS = ("OPTIX", "CUDA", "HIP", "ONEAPI", "METAL")
_SPELLED = {"OPTIX": "OptiX", "ONEAPI": "oneAPI", "METAL": "Metal"}
CYCLES = "CYCLES"


class WrongDevice(Exception):
    """The node must render on its GPU, and Blender does not; the message says why."""


class Devices:
    """The devices of one open file."""

    def __init__(
        self,
        scene: Any,
        wanted: str,
        *,
        scenes: Iterable[Any],
        addons: Mapping[str, Any],
        renderer: Callable[[], str] = gl_renderer,
        says_software: Callable[[], bool] = blender_says_software,
    ) -> None:
        """Shape:   `wanted` as `NodeConfig.device`; `renderer` names what OpenGL would draw with, `says_software` what it drew with"""
        self._scene = scene
        self._wanted = wanted
        self._scenes = scenes
        addon = addons.get("cycles")
        self._cycles: Any = addon.preferences if addon is not None else None
        self._renderer = renderer
        self._says_software = says_software
        self._kind = ""

    def choose(self) -> tuple[str, list[dict[str, str]]]:
        """Have the scene rendered on what it should be.

        Returns: what renders it, and findings
        Errors:  WrongDevice - it must be the GPU, and it can't be
        """
        if self._scene.render.engine == CYCLES:
            return self._choose_for_cycles()
        return self._look_at_gl()

    def check_before(self) -> None:
        """Make sure that a frame can't fall to the CPU without a word. Errors: WrongDevice

        Cycles renders on the CPU where its preferences enable no device, whatever the scene says.
        """
        if self._wanted != "gpu" or self._scene.render.engine != CYCLES:
            return
        self._put_scenes_on("GPU")
        used = [device for device in self._cycles_devices() if device.use and device.type == self._kind]
        if not used or self._cycles.compute_device_type != self._kind:
            raise WrongDevice("Cycles has lost the GPU that it was to render on, and would have rendered the frame on the CPU")

    def check_after(self) -> None:
        """Make sure that the frame was drawn by the GPU. Errors: WrongDevice

        Blender tells only after it has drawn what it draws with.
        """
        if self._wanted == "gpu" and self._scene.render.engine != CYCLES and self._says_software():
            raise WrongDevice(f"the frame was drawn by software on the CPU, though this node has a GPU ({self._engine()} with OpenGL)")

    # Cycles

    def _choose_for_cycles(self) -> tuple[str, list[dict[str, str]]]:
        if self._wanted == "cpu" or (not self._wanted and self._scene.cycles.device != "GPU"):
            self._put_scenes_on("CPU" if self._wanted else None)
            return "CPU", []
        gpus = self._enabled_gpus()
        if gpus:
            self._put_scenes_on("GPU" if self._wanted else None)
            return f"{' + '.join(gpus)} ({_SPELLED.get(self._kind, self._kind)})", []
        if self._wanted == "gpu":
            raise WrongDevice(
                "this node has a GPU, and Blender can't use it: Cycles finds no OptiX, CUDA, HIP or oneAPI device. "
                "The image may lack the graphics driver (its variant for GPUs has it), or the driver does not work."
            )
        self._scene.cycles.device = "CPU"
        text = f"The scene “{self._scene.name}” asks for the GPU and this node has none; the CPU renders it."
        return "CPU", [{"code": "gpu_absent", "text": text}]

    def _enabled_gpus(self) -> list[str]:
        """Enable the GPUs of the first kind that there is, and nothing else. Returns: their names"""
        for kind in KINDS if self._cycles is not None else ():
            try:
                self._cycles.compute_device_type = kind
            except (TypeError, AttributeError):  # not built into this Blender
                continue
            self._cycles.refresh_devices()
            names = [device.name for device in self._cycles_devices() if device.type == kind]
            if names:
                for device in self._cycles_devices():
                    device.use = device.type == kind
                self._kind = kind
                return names
        return []

    def _cycles_devices(self) -> list[Any]:
        return list(self._cycles.devices) if self._cycles is not None else []

    def _put_scenes_on(self, device: str | None) -> None:
        """Set the device of every scene: the compositor and the background may have others rendered. None: as the file says"""
        for scene in self._scenes if device else ():
            if hasattr(scene, "cycles"):
                scene.cycles.device = device

    # EEVEE and Workbench

    def _look_at_gl(self) -> tuple[str, list[dict[str, str]]]:
        name = self._renderer()
        if not is_software(name):
            return name, []
        if self._wanted == "gpu":
            raise WrongDevice(
                f"this node has a GPU, and OpenGL can't use it: {self._engine()} would be drawn by software ({name}) on the CPU"
            )
        text = f"{self._engine()} is drawn by software ({name}) on this node, many times slower than a GPU draws it; Cycles may be faster."
        return name, [{"code": "software_gl", "text": text}]

    def _engine(self) -> str:
        """The engine's name as people know it."""
        engine = str(self._scene.render.engine)
        return "EEVEE" if "EEVEE" in engine else engine.removeprefix("BLENDER_").capitalize()
