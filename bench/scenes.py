"""Make the measured scenes; runs inside Blender (`python scenes.py light|heavy FILE`, or `blender -b --python scenes.py -- …`)."""

from __future__ import annotations

import math
import sys

import bpy

FRAMES = 24


def _camera_on_a_rail(scene: bpy.types.Scene, *, height: float, distance: float) -> None:
    target = bpy.data.objects.new("target", None)
    scene.collection.objects.link(target)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(camera)
    track = camera.constraints.new("TRACK_TO")
    track.target = target
    for frame in (1, FRAMES):
        angle = 0.6 * frame / FRAMES
        camera.location = (distance * math.sin(angle), -distance * math.cos(angle), height)
        camera.keyframe_insert("location", frame=frame)
    scene.camera = camera


def _sun(scene: bpy.types.Scene) -> None:
    light = bpy.data.lights.new("sun", "SUN")
    light.energy = 4
    sun = bpy.data.objects.new("sun", light)
    sun.rotation_euler = (0.7, 0.3, 0.2)
    scene.collection.objects.link(sun)


def _settings(scene: bpy.types.Scene, *, samples: int, width_px: int, height_px: int) -> None:
    scene.render.engine = "CYCLES"
    scene.cycles.samples = samples
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = False
    scene.render.resolution_x, scene.render.resolution_y = width_px, height_px
    scene.frame_start, scene.frame_end = 1, FRAMES
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = "//out/"


def light(scene: bpy.types.Scene) -> None:
    """A little geometry, many samples: nearly all of a frame's time is path tracing."""
    bpy.ops.mesh.primitive_plane_add(size=20)
    for number in range(9):
        bpy.ops.mesh.primitive_monkey_add(location=(number % 3 * 2.4 - 2.4, number // 3 * 2.4 - 2.4, 1))
        bpy.context.object.modifiers.new("smooth", "SUBSURF").render_levels = 2
    _sun(scene)
    _camera_on_a_rail(scene, height=5, distance=11)
    _settings(scene, samples=12, width_px=480, height_px=270)


def heavy(scene: bpy.types.Scene) -> None:
    """Two million static triangles, few samples, a moving camera: nearly all of a frame's time is scene synchronisation."""
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=1000, y_subdivisions=1000, size=20)
    mesh = bpy.context.object.data
    heights = [0.0] * (3 * len(mesh.vertices))
    mesh.vertices.foreach_get("co", heights)
    for index in range(0, len(heights), 3):
        x, y = heights[index], heights[index + 1]
        heights[index + 2] = 0.35 * math.sin(1.7 * x) * math.cos(1.3 * y) + 0.08 * math.sin(9 * x + 4 * y)
    mesh.vertices.foreach_set("co", heights)
    mesh.update()
    _sun(scene)
    _camera_on_a_rail(scene, height=4, distance=12)
    _settings(scene, samples=2, width_px=480, height_px=270)


def main(kind: str, path: str) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    {"light": light, "heavy": heavy}[kind](bpy.context.scene)
    bpy.ops.wm.save_as_mainfile(filepath=path)


if __name__ == "__main__":
    arguments = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    main(*arguments)
