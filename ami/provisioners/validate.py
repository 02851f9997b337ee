"""Render a frame of a scene with one of the image's Blenders, as a node does: as Blender's user, through the driver, checked.

Run on the builder by `90-validate.sh`, in the agent's Python with the agent's package on its path. Ends with 1 and a sentence if it fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from nodeimage.agent.blender import Blender, Event
from nodeimage.protocol import NodeConfig, RenderSettings

AS_BLENDER = "/usr/lib/kiln/as-blender"
SCENE_SCRIPT = Path(__file__).resolve().with_name("validate_scene.py")
#: Of one engine. The first frame of EEVEE compiles its shaders, by software on a machine without a GPU.
LIMIT_S = 600.0
#: Of Cycles, and of what draws with OpenGL.
ENGINES = ("cycles", "eevee")
SOFTWARE = "software_gl"
#: What the image's start-up script says (rootfs/usr/share/kiln/blender/startup/kiln_addons.py).
LAME_ADDON = "the image's add-on "


class NotProven(Exception):
    """A Blender does not render as it must; the message says how."""


def make_scenes(program: str, home: Path) -> Path:
    """Have Blender make a file for each engine. Returns: their folder. Errors: NotProven"""
    workspace = home / "workspace"
    workspace.mkdir(parents=True)
    script = home / SCENE_SCRIPT.name
    script.write_bytes(SCENE_SCRIPT.read_bytes())  # the bundle may lie where Blender's user can't read
    words = [AS_BLENDER, program, "-b", "--factory-startup", "--python-exit-code", "1", "--python", str(script), "--", str(workspace)]
    environment = {"PATH": os.defpath, "HOME": str(workspace), "TMPDIR": str(workspace)}
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    if ran.returncode != 0 or any(not (workspace / f"{engine}.blend").is_file() for engine in ENGINES):
        raise NotProven(f"it makes no scene: {(ran.stderr or ran.stdout).strip()[-600:]}")
    if lame := [line for line in ran.stderr.splitlines() if line.startswith(LAME_ADDON)]:
        raise NotProven(lame[0])
    return workspace


def rendered(config: NodeConfig, engine: str) -> str:
    """Render the frame. Returns: what rendered it. Errors: NotProven"""
    blender = Blender(config, number=1, environment=os.environ)
    try:
        blender.open(RenderSettings(main_file=f"{engine}.blend", preview_width_px=32))
        opened = awaited(blender, "opened", "cannot_open")
        if opened.name != "opened":
            raise NotProven(opened.fields["message"])
        # What the node's hardware has is `device`'s to check; on an image without a driver, software is all that there is.
        others = [finding for finding in opened.fields["findings"] if finding["code"] != SOFTWARE]
        if others:
            raise NotProven(f"it finds fault with a scene of its own: {others}")
        began = time.monotonic()
        blender.render(1, Path(config.home) / f"frame-{engine}", in_order=False)
        event = awaited(blender, "rendered", "failed")
        if event.name != "rendered" or not event.fields["has_preview"]:
            raise NotProven(event.fields.get("message", "the frame has no small picture"))
        return f"{opened.fields['device'] or 'an unknown device'}, {time.monotonic() - began:.1f} s"
    finally:
        blender.kill(ask_first=False)


def awaited(blender: Blender, *names: str) -> Event:
    """Wait for what the driver says. Errors: NotProven"""
    until = time.monotonic() + LIMIT_S
    while (left_s := until - time.monotonic()) > 0:
        event = blender.next_event(left_s)
        if event is not None and event.name == "exit":
            raise NotProven(blender.why_ended(event.fields["code"])[1])
        if event is not None and event.name in names:
            return event
    raise NotProven(f"it said nothing of {' or '.join(names)} for {LIMIT_S:.0f} s; its log ends: {blender.log.telling_lines()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blender", required=True, help="version")
    parser.add_argument("--home", required=True, type=Path, help="a new folder, in one of Blender's group")
    parser.add_argument("--device", required=True, choices=["gpu", "cpu", ""], help="what must render")
    arguments = parser.parse_args()
    program = f"/opt/blender/{arguments.blender}/blender"
    engine = ENGINES[0]
    try:
        workspace = make_scenes(program, arguments.home)
        config = NodeConfig(
            node="node_validate",
            job="job_validate",
            bucket="none",
            workspace=str(workspace),
            home=str(arguments.home),
            blender=f"{AS_BLENDER} {program}",
            device=arguments.device,
        )
        for engine in ENGINES:
            sys.stdout.write(f"Blender {arguments.blender} renders a frame with {engine} on {rendered(config, engine)}\n")
    except (NotProven, OSError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"Blender {arguments.blender} with {engine}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
