"""Make `kiln.blend`, the animation that `make demo` renders: pots in the glow of an open kiln, a slow camera.

Run it with the Python that has the bpy wheel: `.bpy/bin/python samples/make_sample.py [FILE]`. Everything is made here
from code, with no textures and no downloads, so the file stays small and its licence is the project's own.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import bpy
from materials import fired_material, glazed_material, hot_material, new_material, plain_material, vault_material
from measures import ARCH_RADIUS, ARCH_SPRING, FRAMES, KILN_DEPTH, SAMPLES, SEED, SIZE_PX, TABLE_TOP, Point, Profile
from shapes import box, new_object, turned


def main(path: Path) -> None:
    """Write the sample file."""
    random.seed(SEED)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.name = "Kiln"
    build_kiln()
    build_embers(scene)
    build_table()
    build_pots()
    build_lights(scene)
    build_camera(scene)
    set_render(scene)
    set_glow(scene)
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=True)


# -------------------------------------------------------------------- kiln


def build_kiln() -> None:
    brick = plain_material("Firebrick", (0.34, 0.15, 0.08), roughness=0.8, spread=0.45)
    mortar = plain_material("Mortar", (0.10, 0.075, 0.06), roughness=0.95)
    join("Bricks", [*wall_bricks(brick), *arch_stones(brick)])
    build_backing(mortar)
    build_chamber()


def wall_bricks(material: bpy.types.Material) -> Iterator[bpy.types.Object]:
    """Lay courses of bricks, leaving the mouth open."""
    width, height, gap = 0.62, 0.26, 0.028
    for course in range(15):
        z = (course + 0.5) * (height + gap)
        for column in range(-8, 9):
            x = (column + (0.5 if course % 2 else 0.0)) * (width + gap)
            if is_in_mouth(x, z, margin=0.36):
                continue
            at = (x + random.uniform(-0.006, 0.006), 0.15 + random.uniform(-0.03, 0.03), z)
            brick = box("Brick", (width, 0.3, height), at, material, bevel=0.022)
            brick.rotation_euler = [math.radians(random.uniform(-0.9, 0.9)) for _ in range(3)]
            yield brick


def is_in_mouth(x: float, z: float, *, margin: float) -> bool:
    if z < ARCH_SPRING:
        return abs(x) < ARCH_RADIUS + margin
    return math.hypot(x, z - ARCH_SPRING) < ARCH_RADIUS + margin + 0.12


def arch_stones(material: bpy.types.Material) -> Iterator[bpy.types.Object]:
    """Set the arch stones, and the straight jambs under them."""
    middle, count = ARCH_RADIUS + 0.23, 17
    angles = [math.pi * (i + 0.5) / count for i in range(count)]
    places = [(middle * math.cos(angle), ARCH_SPRING + middle * math.sin(angle), angle) for angle in angles]
    places += [(side * middle, 0.13 + i * 0.263, 0.0) for side in (-1, 1) for i in range(4)]
    for x, z, angle in places:
        stone = box("Arch stone", (0.46, 0.42, 0.235), (x, 0.06 + random.uniform(-0.015, 0.015), z), material, bevel=0.028)
        stone.rotation_euler = (0, -angle, 0)
        yield stone


def join(name: str, parts: Iterable[bpy.types.Object]) -> None:
    """Make one object of many: one thing to hand to Cycles, and faster to trace."""
    objects = list(parts)
    objects[0].name = name
    with bpy.context.temp_override(active_object=objects[0], selected_editable_objects=objects):
        bpy.ops.object.join()


def mouth_outline(steps: int = 24) -> list[tuple[float, float]]:
    arc = [
        (ARCH_RADIUS * math.cos(math.pi * i / steps), ARCH_SPRING + ARCH_RADIUS * math.sin(math.pi * i / steps)) for i in range(steps + 1)
    ]
    return [(ARCH_RADIUS, 0.0), *arc, (-ARCH_RADIUS, 0.0)]


def build_backing(material: bpy.types.Material) -> None:
    """Fill the joints: a sheet behind the bricks, with the mouth left open."""
    inner = mouth_outline()
    outer = [(7 * x / max(abs(x), z, 0.01), 7 * z / max(abs(x), z, 0.01)) for x, z in inner]
    points = [(x, 0.2, z) for x, z in [*inner, *outer]]
    count = len(inner)
    new_object("Joints", points, [(i, i + count, i + 1 + count, i + 1) for i in range(count - 1)], material)


def build_chamber() -> None:
    """Make the inside: a glowing vault, a bed of embers, and the pots that are being fired."""
    outline = mouth_outline()
    count = len(outline)
    points = [(x, y, z) for y in (0.3, KILN_DEPTH) for x, z in outline]
    faces = [(i, i + count, i + 1 + count, i + 1) for i in range(count - 1)]
    new_object("Vault", points, [*faces, tuple(range(count, 2 * count))], vault_material())
    bed = hot_material("Ember bed", strength=(0.6, 9.0), kelvin=(1050, 2100), scale=6.0)
    new_object("Ember bed", *hills(), bed)
    fired = fired_material()
    for name, profile, x, y, size in (
        ("Fired jar", JAR, -0.48, 0.95, 0.95),
        ("Fired bottle", BOTTLE, 0.12, 1.15, 0.98),
        ("Fired bowl", BOWL, 0.62, 0.85, 0.8),
    ):
        pot = turned(name, profile, fired, sides=40)
        pot.location, pot.scale = (x, y, 0.14), (size, size, size)


def hills(across: int = 44, deep: int = 30) -> tuple[list[Point], list[tuple[int, ...]]]:
    points = [
        (
            (i / (across - 1) * 2 - 1) * ARCH_RADIUS,
            0.1 + j / (deep - 1) * (KILN_DEPTH - 0.1),
            0.05 + 0.10 * random.random() + 0.05 * math.sin(i * 0.7) * math.cos(j * 0.9),
        )
        for j in range(deep)
        for i in range(across)
    ]
    faces = [
        (j * across + i, j * across + i + 1, (j + 1) * across + i + 1, (j + 1) * across + i)
        for j in range(deep - 1)
        for i in range(across - 1)
    ]
    return points, faces


def build_embers(scene: bpy.types.Scene) -> None:
    """Let sparks rise from the mouth; each ends where another began, so the animation loops."""
    spark = hot_material("Spark", strength=(14, 30), kelvin=(1500, 2000), scale=1.0)
    shape = turned("Spark", [(0.0, -1), (0.7, -0.7), (1, 0), (0.7, 0.7), (0.0, 1)], spark, sides=12)
    scene.collection.objects.unlink(shape)
    for _ in range(46):
        ember = shape.copy()
        scene.collection.objects.link(ember)
        size = random.uniform(0.006, 0.015)
        ember.scale = (size, size, size)
        x, y, z = random.uniform(-1.5, 1.7), random.uniform(-2.6, 0.4), random.uniform(0.2, 2.6)
        rise, sway, phase = random.uniform(0.25, 0.6), random.uniform(0.03, 0.1), random.uniform(0, 2 * math.pi)
        for frame in range(0, FRAMES + 1, 4):
            part = frame / FRAMES
            ember.location = (x + sway * math.sin(2 * math.pi * part + phase), y, z + rise * part)
            ember.keyframe_insert("location", frame=frame)


# ----------------------------------------------------------- table and pots

VASE: Profile = [(0.0, 0.0), (0.2, 0.0), (0.22, 0.03), (0.36, 0.32), (0.40, 0.58), (0.30, 0.86), (0.15, 1.02), (0.13, 1.12), (0.2, 1.24),
                 (0.185, 1.245), (0.11, 1.12), (0.13, 1.0), (0.26, 0.82), (0.0, 0.5)]  # fmt: skip
JAR: Profile = [(0.0, 0.0), (0.2, 0.0), (0.24, 0.04), (0.36, 0.3), (0.36, 0.55), (0.26, 0.72), (0.24, 0.78), (0.27, 0.82), (0.25, 0.825),
                (0.22, 0.78), (0.24, 0.7), (0.33, 0.5), (0.0, 0.2)]  # fmt: skip
BOWL: Profile = [(0.0, 0.0), (0.15, 0.0), (0.16, 0.05), (0.3, 0.14), (0.42, 0.3), (0.47, 0.42), (0.455, 0.425), (0.39, 0.3), (0.26, 0.16),
                 (0.0, 0.1)]  # fmt: skip
BOTTLE: Profile = [(0.0, 0.0), (0.2, 0.0), (0.22, 0.03), (0.27, 0.25), (0.25, 0.55), (0.12, 0.8), (0.07, 0.98), (0.065, 1.2), (0.1, 1.3),
                   (0.09, 1.305), (0.05, 1.2), (0.055, 0.98), (0.0, 0.8)]  # fmt: skip
CUP: Profile = [(0.0, 0.0), (0.11, 0.0), (0.13, 0.02), (0.17, 0.16), (0.18, 0.34), (0.165, 0.345), (0.155, 0.16), (0.11, 0.05),
                (0.0, 0.05)]  # fmt: skip


def build_table() -> None:
    wood, tree, surface = new_material("Old oak")
    wave = tree.nodes.new("ShaderNodeTexNoise")
    stretch = tree.nodes.new("ShaderNodeMapping")
    stretch.inputs["Scale"].default_value = (0.7, 9.0, 4.0)
    where = tree.nodes.new("ShaderNodeTexCoord")
    tree.links.new(where.outputs["Object"], stretch.inputs["Vector"])
    tree.links.new(stretch.outputs["Vector"], wave.inputs["Vector"])
    wave.inputs["Scale"].default_value, wave.inputs["Detail"].default_value = 3.0, 2
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[0].color = 0.3, (0.035, 0.018, 0.010, 1)
    ramp.color_ramp.elements[1].position, ramp.color_ramp.elements[1].color = 0.75, (0.15, 0.075, 0.035, 1)
    tree.links.new(wave.outputs["Fac"], ramp.inputs["Fac"])
    tree.links.new(ramp.outputs["Color"], surface.inputs["Base Color"])
    surface.inputs["Roughness"].default_value = 0.32
    for row in range(4):
        box("Plank", (9, 0.36, 0.1), (random.uniform(-0.4, 0.4), -3.35 + row * 0.375, TABLE_TOP - 0.05), wood, bevel=0.012)
    floor = plain_material("Floor", (0.06, 0.05, 0.045), roughness=0.4)
    box("Floor", (24, 16, 0.1), (0, -7, -0.05), floor)


def build_pots() -> None:
    celadon = glazed_material("Celadon", (0.10, 0.42, 0.36), (0.01, 0.13, 0.14), line=0.22)
    cobalt = glazed_material("Cobalt", (0.02, 0.09, 0.36), (0.006, 0.02, 0.12), line=0.16)
    oxblood = glazed_material("Oxblood", (0.34, 0.022, 0.018), (0.10, 0.006, 0.01), line=0.14)
    shino = glazed_material("Shino", (0.72, 0.64, 0.52), (0.50, 0.26, 0.13), line=0.30)
    for name, profile, glaze, x, y, size in (
        ("Vase", VASE, celadon, -0.62, -2.72, 0.92),
        ("Bottle", BOTTLE, oxblood, -1.22, -2.42, 0.95),
        ("Bowl", BOWL, shino, 0.34, -2.92, 0.72),
        ("Jar", JAR, cobalt, 1.28, -2.58, 0.82),
        ("Cup", CUP, celadon, -1.5, -3.1, 0.72),
        ("Small cup", CUP, shino, 0.86, -2.35, 0.72),
    ):
        pot = turned(name, profile, glaze)
        pot.location, pot.scale = (x, y, TABLE_TOP), (size, size, size)
        pot.rotation_euler = (0, 0, random.uniform(0, 2 * math.pi))


# ------------------------------------------------------- light, camera, film


def build_lights(scene: bpy.types.Scene) -> None:
    world = bpy.data.worlds.new("Night")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs[0].default_value = (0.010, 0.016, 0.032, 1)
    scene.world = world
    fire = area_light("Fire", 2.0, (0, 0.25, 1.0), (math.radians(90), 0, math.pi), (1.0, 0.36, 0.09), 260)
    flicker(fire.data, 260)
    area_light("Fire from below", 1.4, (0, -0.7, 0.12), (math.radians(150), 0, 0), (1.0, 0.30, 0.06), 16)
    area_light("Window", 2.6, (-4.2, -5.2, 3.6), (math.radians(58), 0, math.radians(-48)), (0.42, 0.62, 1.0), 120)
    area_light("Sky", 3.0, (3.6, -5.4, 4.2), (math.radians(48), 0, math.radians(40)), (0.55, 0.68, 1.0), 25)


def area_light(name: str, size: float, at: Point, turn: Point, colour: Point, watts: float) -> bpy.types.Object:
    light = bpy.data.lights.new(name, "AREA")
    light.size, light.color, light.energy = size, colour, watts
    made = bpy.data.objects.new(name, light)
    made.location, made.rotation_euler = at, turn
    made.visible_camera = False
    made.visible_glossy = name != "Fire"
    bpy.context.scene.collection.objects.link(made)
    return made


def flicker(light: bpy.types.Light, watts: float) -> None:
    for frame in range(0, FRAMES + 1, 2):
        part = 2 * math.pi * frame / FRAMES
        light.energy = watts * (1 + 0.07 * math.sin(2 * part) + 0.05 * math.sin(5 * part + 1))
        light.keyframe_insert("energy", frame=frame)


def build_camera(scene: bpy.types.Scene) -> None:
    """Let the camera swing slowly round the pots, focused on the vase."""
    aim = bpy.data.objects.new("Aim", None)
    aim.location = (0.05, -1.6, 1.12)
    scene.collection.objects.link(aim)
    lens = bpy.data.cameras.new("Camera")
    lens.lens = 42
    lens.dof.use_dof = True
    lens.dof.focus_object = bpy.data.objects["Vase"]
    lens.dof.aperture_fstop = 0.9
    camera = bpy.data.objects.new("Camera", lens)
    scene.collection.objects.link(camera)
    scene.camera = camera
    track = camera.constraints.new("TRACK_TO")
    track.target, track.track_axis, track.up_axis = aim, "TRACK_NEGATIVE_Z", "UP_Y"
    for frame in range(1, FRAMES + 1):
        angle = math.radians(-9 + 18 * ease((frame - 1) / (FRAMES - 1)))
        camera.location = (5.0 * math.sin(angle), -1.6 - 5.0 * math.cos(angle), 1.62)
        camera.keyframe_insert("location", frame=frame)


def ease(part: float) -> float:
    return part * part * (3 - 2 * part)


def set_render(scene: bpy.types.Scene) -> None:
    scene.frame_start, scene.frame_end = 1, FRAMES
    render, cycles = scene.render, scene.cycles
    render.engine = "CYCLES"
    render.resolution_x, render.resolution_y = SIZE_PX
    render.fps = 24
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode = "RGB"
    render.filepath = "//kiln_"
    render.use_persistent_data = True
    cycles.device = "CPU"
    cycles.samples = SAMPLES
    cycles.use_adaptive_sampling = False
    cycles.use_light_tree = False
    cycles.use_denoising = True
    cycles.denoiser = "OPENIMAGEDENOISE"
    cycles.denoising_prefilter, cycles.denoising_quality = "FAST", "FAST"
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces, cycles.transmission_bounces = 2, 1, 2, 0
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 2.0
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Medium High Contrast"
    scene.view_settings.exposure = 0.45


def set_glow(scene: bpy.types.Scene) -> None:
    """Let bright places bleed a little into what is beside them, as in a lens."""
    scene.use_nodes = True
    nodes, links = scene.node_tree.nodes, scene.node_tree.links
    nodes.clear()
    image = nodes.new("CompositorNodeRLayers")
    glare = nodes.new("CompositorNodeGlare")
    glare.glare_type = "BLOOM"
    glare.quality = "MEDIUM"
    glare.inputs["Threshold"].default_value = 1.0
    glare.inputs["Strength"].default_value = 0.35
    glare.inputs["Size"].default_value = 0.6
    out = nodes.new("CompositorNodeComposite")
    links.new(image.outputs["Image"], glare.inputs["Image"])
    links.new(glare.outputs["Image"], out.inputs["Image"])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "kiln.blend").resolve())
