"""The driver's course of work: hello, open, then frame by frame.

{"cmd": "open", "file": PATH, "settings": {…}}    answered by `opened` or `cannot_open`
{"cmd": "render", "frame": N, "folder": PATH, "in_order": bool}
    answered by `progress` …, `saved` (written: the next command may be sent), then `rendered` or `failed`.
    The frame's files are in PATH/outputs, its small picture is PATH/preview.webp.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from typing import Any

import bpy

from .channel import Channel, is_lack_of_memory, leave, limit_memory, log_bytes, peak_memory_bytes, print_by_line
from .check import BadOutput, checked_outputs
from .devices import Devices, WrongDevice
from .evaluation import Evaluation
from .findings import missing_things, newer_file
from .outputs import OutputPaths
from .preview import Previewer
from .progress import Progress
from .scene_file import CannotOpen, choose_scene, describe, fix_format, open_file, switch_off_scripts
from .simulations import unbaked_simulations


def run(events_fd: int) -> None:
    """Serve the agent until it says `quit` or is gone; then end the process."""
    print_by_line()
    channel = Channel(events_fd)
    channel.start()
    channel.emit("hello", version=bpy.app.version_string, pid=os.getpid())
    status = 0
    try:
        serve(channel)
    except BaseException:  # noqa: BLE001 - whatever it is, Blender must not reach its own exit
        traceback.print_exc()
        status = 70
    leave(status)


def serve(channel: Channel) -> None:
    """Do what the commands say, one after the other."""
    session: Session | None = None
    for command in channel.commands():
        if command["cmd"] == "open":
            session = opened_session(channel, command)
        elif command["cmd"] == "render" and session is not None:
            session.render(command)
        sys.stdout.flush()


def opened_session(channel: Channel, command: dict[str, Any]) -> Session | None:
    """Open the file and say so. Returns: None, having said why, if it can't be"""
    settings = command["settings"]
    began = time.monotonic()
    try:
        # Graphics drivers reserve far more addresses than they use: with a limit they find no GPU.
        limit_memory(None if settings.get("device") == "gpu" else settings.get("memory_limit_bytes"))
        open_file(command["file"])
        scene = choose_scene(settings)
        findings = fix_format(scene, settings.get("file_format"))
        findings += switch_off_scripts(scene)
        devices = Devices(scene, settings.get("device", ""), scenes=bpy.data.scenes, addons=bpy.context.preferences.addons)
        device, device_findings = devices.choose()
        unbaked = unbaked_simulations(scene)
        session = Session(channel, scene, settings, devices, is_unbaked=bool(unbaked))
        findings += device_findings + session.paths.findings() + newer_file() + missing_things() + unbaked
    except (CannotOpen, WrongDevice, MemoryError, RuntimeError) as error:
        traceback.print_exc()
        channel.emit(
            "cannot_open", message=str(error) or "Blender ran out of memory while opening the file", kind=failure_kind(error, "open")
        )
        return None
    channel.emit(
        "opened",
        version=bpy.app.version_string,
        device=device,
        findings=findings,
        info=describe(scene),
        open_s=round(time.monotonic() - began, 3),
    )
    return session


class Session:
    """One open .blend."""

    def __init__(self, channel: Channel, scene: Any, settings: dict[str, Any], devices: Devices, *, is_unbaked: bool) -> None:
        self._channel = channel
        self._scene = scene
        self._devices = devices
        self._evaluation = Evaluation(scene, is_unbaked=is_unbaked)
        self._progress = Progress(channel)
        self._previewer = Previewer(settings["preview_width_px"]) if settings.get("preview_width_px") else None
        self.paths = OutputPaths(scene, settings.get("output_name"))

    def render(self, command: dict[str, Any]) -> None:
        """Render one frame and say how it went."""
        frame, folder = command["frame"], command["folder"]
        outputs_folder = os.path.join(folder, "outputs")
        began = time.monotonic()
        try:
            os.makedirs(outputs_folder, exist_ok=True)
            main = self.paths.point_to(outputs_folder, frame)
            self._progress.begin(frame)
            self._evaluation.bring_to(frame, in_order=command.get("in_order", False), say=self._progress.say)
            self._devices.check_before()
            self._render_still()
            self._devices.check_after()
            render_s = round(time.monotonic() - began, 3)
            self._progress.end()
            self._channel.emit("saved", frame=frame)
            self.paths.finish(outputs_folder, frame)
            outputs = checked_outputs(self._scene, outputs_folder, main)
            has_preview = self._preview(folder, outputs[0]["name"])
        except Exception as error:  # noqa: BLE001 - whatever Blender raises is the frame's failure, and the next frame may do
            traceback.print_exc()
            message = str(error).strip() or repr(error)
            self._channel.emit("failed", frame=frame, kind=failure_kind(error, "error"), message=message, log_bytes=log_bytes())
        else:
            self._channel.emit(
                "rendered",
                frame=frame,
                render_s=render_s,
                outputs=outputs,
                has_preview=has_preview,
                peak_memory_bytes=peak_memory_bytes(),
                log_bytes=log_bytes(),
            )
        finally:
            self._progress.end()

    def _render_still(self) -> None:
        answer = bpy.ops.render.render(write_still=True, scene=self._scene.name)
        # 3.4 answers FINISHED after a cancelled render too: the handler tells
        if "FINISHED" not in answer or self._progress.is_cancelled:
            raise RuntimeError("Blender cancelled the render")

    def _preview(self, folder: str, main: str) -> bool:
        if self._previewer is None:
            return False
        try:
            self._previewer.write(self._scene, os.path.join(folder, "outputs", main), os.path.join(folder, "preview.webp"))
        except (RuntimeError, OSError, TypeError) as error:  # a frame without its small picture is a frame
            sys.stderr.write(f"no preview: {error}\n")
            return False
        return True


def failure_kind(error: BaseException, otherwise: str) -> str:
    """The `Failure` an exception means."""
    if isinstance(error, BadOutput):
        return "bad_output"
    if isinstance(error, WrongDevice):
        return "device"
    return "out_of_memory" if is_lack_of_memory(error) else otherwise
