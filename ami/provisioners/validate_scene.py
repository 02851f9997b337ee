"""Make the scenes that prove an image: one for each engine. Run by Blender: `blender -b --python validate_scene.py -- FOLDER`."""

from __future__ import annotations

import os
import sys

import bpy

FOLDER = sys.argv[-1]
#: EEVEE is BLENDER_EEVEE to 4.1 and from 5.0, and BLENDER_EEVEE_NEXT in between.
NAMES = {"cycles": ("CYCLES",), "eevee": ("BLENDER_EEVEE_NEXT", "BLENDER_EEVEE")}


def use(engine: str) -> None:
    """Choose an engine by the name that this Blender knows. Errors: TypeError - it knows none"""
    for name in NAMES[engine]:
        try:
            scene.render.engine = name
        except TypeError:
            continue
        return
    raise TypeError(f"this Blender has no {engine}")


scene = bpy.context.scene
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 96, 54, 100
scene.render.image_settings.file_format = "PNG"
scene.frame_start = scene.frame_end = 1
for engine in NAMES:
    use(engine)
    if engine == "cycles":
        scene.cycles.samples = 4
    else:
        scene.eevee.taa_render_samples = 1
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(FOLDER, f"{engine}.blend"))
