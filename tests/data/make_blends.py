"""Make the .blends of this folder. Run by each Blender (its `bpy` wheel) in turn: `python make_blends.py scene-4.5.blend`.

One small scene that names external files of every kind, none of which is there; what the tests expect of it stands in test_inspection.py.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import bpy


def main() -> None:
    target = Path(sys.argv[1]).resolve()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    with tempfile.TemporaryDirectory() as folder:
        settle(scene)
        add_second_scene()
        add_images()
        add_data(scene, Path(folder))
        add_modifiers(scene)
        link_library(scene, Path(folder))
        bpy.ops.wm.save_as_mainfile(filepath=str(target), compress=True, relative_remap=False)
    sys.stdout.flush()
    os._exit(0)  # 4.5 may hang at exit once handlers ran


def settle(scene: bpy.types.Scene) -> None:
    scene.frame_start, scene.frame_end, scene.frame_step = 2, 33, 3
    render = scene.render
    render.fps, render.fps_base = 30, 1.001
    render.resolution_x, render.resolution_y, render.resolution_percentage = 640, 360, 50
    render.engine = "CYCLES"
    scene.cycles.samples = 17
    render.filepath = "//out/shot_"
    render.image_settings.file_format = "OPEN_EXR"
    for name in ("Camera", "Close-up"):
        scene.collection.objects.link(bpy.data.objects.new(name, bpy.data.cameras.new(name)))
    scene.camera = bpy.data.objects["Camera"]
    scene.timeline_markers.new("cut", frame=10).camera = bpy.data.objects["Close-up"]
    scene.view_layers.new("Shadows")


def add_second_scene() -> None:
    scene = bpy.data.scenes.new("Film")
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "VIDEO"
    settings.file_format = "FFMPEG"
    scene.render.engine = "BLENDER_EEVEE" if bpy.app.version >= (5, 0) else "BLENDER_EEVEE_NEXT"
    scene.eevee.taa_render_samples = 21


def add_images() -> None:
    for name, path, source in (
        ("wood", "//textures/wood.png", "FILE"),
        ("backslashes", "//textures\\old\\bark.png", "FILE"),
        ("above", "//../shared/sky.exr", "FILE"),
        ("windows", "C:\\Users\\ada\\brick.png", "FILE"),
        ("network", "\\\\nas\\share\\tile.png", "FILE"),
        ("posix", "/home/ada/stone.png", "FILE"),
        ("rain", "//rain/drop_0007.png", "SEQUENCE"),
        ("skin", "//skin/skin.<UDIM>.png", "TILED"),
        ("screen", "//screen.mp4", "MOVIE"),
    ):
        image = bpy.data.images.new(name, 4, 4)
        image.source = source
        image.filepath_raw = path
        image.use_fake_user = True
    packed = bpy.data.images.new("packed", 4, 4)
    packed.pack()
    packed.use_fake_user = True


def add_data(scene: bpy.types.Scene, folder: Path) -> None:
    volume = bpy.data.volumes.new("smoke")
    volume.filepath, volume.is_sequence, volume.use_fake_user = "//vdb/smoke_001.vdb", True, True
    wave = folder / "a.wav"
    wave.write_bytes(
        b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 44100, 88200, 2, 16) + b"data\0\0\0\0"
    )
    sound = bpy.data.sounds.load(str(wave))
    sound.filepath, sound.use_fake_user = "//audio/hum.wav", True
    picture = folder / "plate_01.png"
    picture.write_bytes(png())
    clip = bpy.data.movieclips.load(str(picture))
    clip.filepath, clip.use_fake_user = "//plates/plate_01.png", True
    editor = scene.sequence_editor_create()
    strips = editor.sequences if hasattr(editor, "sequences") else editor.strips
    strip = strips.new_image("titles", str(picture), 1, 1)
    strip.directory = "//titles/"
    strip.elements[0].filename = "first.png"
    strip.elements.append("second.png")
    font = next(Path(bpy.utils.resource_path("LOCAL")).rglob("*.woff2"))
    loaded = bpy.data.fonts.load(str(font))
    loaded.filepath, loaded.use_fake_user = "//fonts/title.ttf", True
    light = bpy.data.lights.new("lamp", "SPOT")
    light.use_nodes, light.use_fake_user = True, True
    node = light.node_tree.nodes.new("ShaderNodeTexIES")
    node.mode, node.filepath = "EXTERNAL", "//lamps/street.ies"


def add_modifiers(scene: bpy.types.Scene) -> None:
    mesh = bpy.data.meshes.new("plane")
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], [], [(0, 1, 2, 3)])
    thing = bpy.data.objects.new("plane", mesh)
    scene.collection.objects.link(thing)
    thing.modifiers.new("cache", "MESH_CACHE").filepath = "//cache/plane.mdd"
    thing.modifiers.new("fluid", "FLUID").fluid_type = "DOMAIN"
    thing.modifiers["fluid"].domain_settings.cache_directory = "//cache_fluid"
    cloth = thing.modifiers.new("cloth", "CLOTH")
    cloth.point_cache.use_external = True
    cloth.point_cache.filepath = "//cloth_cache"


def link_library(scene: bpy.types.Scene, folder: Path) -> None:
    path = folder / "props.blend"
    mesh = bpy.data.meshes.new("chair")
    bpy.data.libraries.write(str(path), {mesh}, fake_user=True)
    bpy.data.meshes.remove(mesh)
    with bpy.data.libraries.load(str(path), link=True) as (_, wanted):
        wanted.meshes = ["chair"]
    scene.collection.objects.link(bpy.data.objects.new("chair", wanted.meshes[0]))
    bpy.data.libraries[0].filepath = "//../lib/props.blend"


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"\0\xff\xff\xff")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


if __name__ == "__main__":
    main()
