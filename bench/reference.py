"""What a user would run instead of the farm, for a Python that has bpy: the same as `blender -b FILE -o OUT -a`."""

from __future__ import annotations

import os
import sys

import bpy


def main(path: str, output: str) -> None:
    bpy.ops.wm.open_mainfile(filepath=path, load_ui=False, use_scripts=False)
    scene = bpy.context.scene
    scene.render.filepath = output
    bpy.ops.render.render(animation=True, scene=scene.name)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # Blender's teardown is no part of rendering
