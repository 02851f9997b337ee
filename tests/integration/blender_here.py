"""The Blender that the node's tests use: `KILN_TEST_BLENDER`, else the checkout's bpy wheel."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodeimage.agent.blender import Blender, Event
from nodeimage.protocol import NodeConfig, RenderSettings

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
WIDTH, HEIGHT = 64, 36
FORMATS = ("OPEN_EXR", "JPEG", "TIFF", "WEBP", "BMP", "TARGA", "HDR", "DPX", "JPEG2000")


def blender_command() -> tuple[str, str]:
    """The command line, and its kind as NodeConfig has it."""
    command = os.environ.get("KILN_TEST_BLENDER", str(ROOT / ".bpy/bin/python"))
    return command, "blender" if Path(command).name.startswith("blender") else "bpy"


def make_scenes(folder: Path) -> None:
    """Make the tests' .blend files, with Blender itself."""
    command, kind = blender_command()
    script = Path(__file__).with_name("node_scenes.py")
    words = [command, str(script)] if kind == "bpy" else [command, "-b", "--factory-startup", "--python", str(script), "--"]
    answer = subprocess.run(
        [*words, str(folder), json.dumps([WIDTH, HEIGHT, FORMATS])], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert answer.returncode == 0, answer.stderr[-2000:]


class Driven:
    """A driver process, spoken to as the agent does."""

    def __init__(self, workspace: Path, home: Path, *, device: str = "") -> None:
        command, kind = blender_command()
        self.home = home
        config = NodeConfig(
            node="n", job="j", bucket="b", workspace=str(workspace), home=str(home), blender=command, blender_kind=kind, device=device
        )
        self.blender = Blender(config, number=1, environment=os.environ)
        self._asked = 0

    def open(self, name: str, **settings: Any) -> Event:
        """Open a scene. Returns: `opened` or `cannot_open`"""
        self.blender.open(RenderSettings(main_file=f"{name}.blend", **{"preview_width_px": 32, **settings}))
        return self.wait_for("opened", "cannot_open", "exit")

    def ask(self, frame: int, *, in_order: bool = False) -> Path:
        """Ask for a frame. Returns: the folder it goes to"""
        self._asked += 1
        folder = self.home / f"{self._asked:03d}"
        self.blender.render(frame, folder, in_order=in_order)
        return folder

    def render(self, frame: int, *, in_order: bool = False) -> Frame:
        """Render a frame, and wait for it."""
        folder = self.ask(frame, in_order=in_order)
        event = self.wait_for("rendered", "failed", "exit")
        assert event.name == "rendered", (event, self.blender.log.telling_lines())
        return Frame(folder, event.fields)

    def wait_for(self, *names: str) -> Event:
        until = time.monotonic() + PATIENCE_S
        while (left_s := until - time.monotonic()) > 0:
            event = self.blender.next_event(left_s)
            if event is not None and event.name in names:
                return event
        raise AssertionError(f"Blender never said {names}: {self.blender.log.tail()}")


class Frame:
    """A rendered frame on disk."""

    def __init__(self, folder: Path, fields: Mapping[str, Any]) -> None:
        self.folder = folder
        self.names: list[str] = [output["name"] for output in fields["outputs"]]
        self.preview = folder / "preview.webp" if fields["has_preview"] else None

    def path(self, name: str) -> Path:
        return self.folder / "outputs" / name


def codes(event: Event) -> list[str]:
    """The codes of what was found on opening."""
    return [finding["code"] for finding in event.fields["findings"]]
