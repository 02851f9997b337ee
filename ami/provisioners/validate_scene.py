"""Make the scenes that prove an image: one for each engine. Run by Blender: `blender -b --python validate_scene.py -- FOLDER`."""

from __future__ import annotations

import os
import sys

import bpy

FOLDER = sys.argv[-1]
EEVEE = ("BLENDER_EEVEE", "BLENDER_EEVEE_NEXT")  # named so to 4.1 and from 5.0; 4.2 to 4.5


def eevee_name() -> str:
    """What this Blender calls EEVEE."""
    known = bpy.types.RenderSettings.bl_rna.properties["engine"].enum_items.keys()
    return next((name for name in reversed(EEVEE) if name in known), EEVEE[0])


scene = bpy.context.scene
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 96, 54, 100
scene.render.image_settings.file_format = "PNG"
scene.frame_start = scene.frame_end = 1
for engine, name in (("CYCLES", "cycles"), (eevee_name(), "eevee")):
    scene.render.engine = engine
    if engine == "CYCLES":
        scene.cycles.samples = 4
    else:
        scene.eevee.taa_render_samples = 1
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(FOLDER, f"{name}.blend"))
