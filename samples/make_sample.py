"""Make `kiln.blend`, the animation that `make demo` renders: pots in the glow of an open kiln, a slow camera.

Run it with the Python that has the bpy wheel: `.bpy/bin/python samples/make_sample.py [FILE]`. Everything is made here
from code, with no textures and no downloads, so the file stays small and its licence is the project's own.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import bpy

FRAMES = 24
SIZE_PX = (512, 288)
SAMPLES = 5
SEED = 7

ARCH_RADIUS = 1.15
ARCH_SPRING = 1.05  #: height at which the kiln's arch begins to curve
KILN_DEPTH = 1.7
TABLE_TOP = 0.62

Point = tuple[float, float, float]
Profile = Sequence[tuple[float, float]]


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


# ---------------------------------------------------------------- materials


def new_material(name: str) -> tuple[bpy.types.Material, bpy.types.NodeTree, bpy.types.Node]:
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    return material, tree, tree.nodes["Principled BSDF"]


def plain_material(name: str, colour: Point, *, roughness: float, spread: float = 0.0) -> bpy.types.Material:
    """Make a dull surface; with `spread`, every separate piece of a mesh is a little darker or lighter than the next."""
    material, tree, surface = new_material(name)
    surface.inputs["Roughness"].default_value = roughness
    surface.inputs["Base Color"].default_value = (*colour, 1)
    if spread:
        pieces = tree.nodes.new("ShaderNodeNewGeometry")
        scaled = tree.nodes.new("ShaderNodeVectorMath")
        scaled.operation = "SCALE"
        scaled.inputs[0].default_value = colour
        shade = remap(tree, pieces.outputs["Random Per Island"], (0, 1), (1 - spread, 1 + spread))
        tree.links.new(shade, scaled.inputs["Scale"])
        tree.links.new(scaled.outputs[0], surface.inputs["Base Color"])
    return material


def glazed_material(name: str, glaze: Point, pool: Point, *, line: float) -> bpy.types.Material:
    """Make a fired pot: raw clay at the foot, glaze above `line` (0 to 1 of the height) that runs down and pools."""
    material, tree, surface = new_material(name)
    nodes, links = tree.nodes, tree.links
    where = nodes.new("ShaderNodeTexCoord")
    split = nodes.new("ShaderNodeSeparateXYZ")
    links.new(where.outputs["Generated"], split.inputs[0])
    runs = nodes.new("ShaderNodeTexNoise")
    runs.inputs["Scale"].default_value = 5.0
    runs.inputs["Detail"].default_value = 2
    links.new(where.outputs["Generated"], runs.inputs["Vector"])
    height = nodes.new("ShaderNodeMath")
    height.operation = "MULTIPLY_ADD"
    height.inputs[1].default_value = 0.34
    links.new(runs.outputs["Fac"], height.inputs[0])
    links.new(split.outputs["Z"], height.inputs[2])
    ramp = nodes.new("ShaderNodeValToRGB").color_ramp
    ramp_node = nodes[-1]
    edge = line + 0.17
    ramp.elements[0].position, ramp.elements[0].color = edge - 0.012, (0.30, 0.12, 0.055, 1)
    ramp.elements[1].position, ramp.elements[1].color = edge + 0.012, (*pool, 1)
    top = ramp.elements.new(min(edge + 0.32, 0.99))
    top.color = (*glaze, 1)
    links.new(height.outputs[0], ramp_node.inputs["Fac"])
    links.new(ramp_node.outputs["Color"], surface.inputs["Base Color"])
    shine = nodes.new("ShaderNodeMapRange")
    shine.inputs["From Min"].default_value = edge - 0.012
    shine.inputs["From Max"].default_value = edge + 0.012
    shine.inputs["To Min"].default_value = 0.75
    shine.inputs["To Max"].default_value = 0.16
    links.new(height.outputs[0], shine.inputs["Value"])
    links.new(shine.outputs[0], surface.inputs["Roughness"])
    return material


def hot_material(name: str, *, strength: tuple[float, float], kelvin: tuple[float, float], scale: float) -> bpy.types.Material:
    """Make a surface that glows by itself, brighter and paler where it is hotter."""
    material, tree, surface = new_material(name)
    nodes, links = tree.nodes, tree.links
    tree.nodes.remove(surface)
    noise = nodes.new("ShaderNodeTexNoise")
    noise.noise_dimensions = "4D"
    noise.inputs["Scale"].default_value = scale
    noise.inputs["Detail"].default_value = 1
    swing(noise.inputs["W"])
    heat = noise.outputs["Fac"]
    colour = nodes.new("ShaderNodeBlackbody")
    links.new(remap(tree, heat, (0.3, 0.7), kelvin), colour.inputs[0])
    emission = nodes.new("ShaderNodeEmission")
    links.new(colour.outputs[0], emission.inputs["Color"])
    links.new(remap(tree, heat, (0.3, 0.7), strength), emission.inputs["Strength"])
    links.new(emission.outputs[0], nodes["Material Output"].inputs["Surface"])
    material.cycles.emission_sampling = "NONE"  # the lamps light the scene: sampling these as well would only add noise
    return material


def vault_material() -> bpy.types.Material:
    """Make the kiln's inside: nearly yellow at the embers, a deep red under the vault."""
    material, tree, surface = new_material("Hot vault")
    nodes, links = tree.nodes, tree.links
    nodes.remove(surface)
    where, split = nodes.new("ShaderNodeNewGeometry"), nodes.new("ShaderNodeSeparateXYZ")
    links.new(where.outputs["Position"], split.inputs[0])
    ramp = nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements.new(0.4)
    colours = ((1.0, 0.30, 0.045, 1), (0.62, 0.085, 0.008, 1), (0.16, 0.010, 0.002, 1))
    for element, colour in zip(ramp.color_ramp.elements, colours, strict=True):
        element.color = colour
    links.new(remap(tree, split.outputs["Z"], (0.0, ARCH_SPRING + ARCH_RADIUS), (0, 1)), ramp.inputs["Fac"])
    emission = nodes.new("ShaderNodeEmission")
    emission.inputs["Strength"].default_value = 1.5
    links.new(ramp.outputs["Color"], emission.inputs["Color"])
    links.new(emission.outputs[0], nodes["Material Output"].inputs["Surface"])
    material.cycles.emission_sampling = "NONE"
    return material


def fired_material() -> bpy.types.Material:
    """Make a pot in the fire: it glows, most at its edges, where more of the glow behind shines past."""
    material, tree, surface = new_material("Fired pot")
    nodes, links = tree.nodes, tree.links
    nodes.remove(surface)
    facing = nodes.new("ShaderNodeLayerWeight")
    facing.inputs["Blend"].default_value = 0.35
    emission = nodes.new("ShaderNodeEmission")
    emission.inputs["Color"].default_value = (1.0, 0.20, 0.025, 1)
    links.new(remap(tree, facing.outputs["Facing"], (0, 1), (0.10, 2.2)), emission.inputs["Strength"])
    links.new(emission.outputs[0], nodes["Material Output"].inputs["Surface"])
    material.cycles.emission_sampling = "NONE"
    return material


def remap(
    tree: bpy.types.NodeTree, value: bpy.types.NodeSocket, source: tuple[float, float], target: tuple[float, float]
) -> bpy.types.NodeSocket:
    node = tree.nodes.new("ShaderNodeMapRange")
    node.inputs["From Min"].default_value, node.inputs["From Max"].default_value = source
    node.inputs["To Min"].default_value, node.inputs["To Max"].default_value = target
    tree.links.new(value, node.inputs["Value"])
    return node.outputs[0]


def swing(socket: bpy.types.NodeSocket, reach: float = 0.55) -> None:
    """Let a value swing there and back over the animation, so that it can be played in a loop."""
    for frame in range(0, FRAMES + 1, 3):
        socket.default_value = reach * math.sin(2 * math.pi * frame / FRAMES)
        socket.keyframe_insert("default_value", frame=frame)


# ------------------------------------------------------------------ meshes


def new_object(name: str, points: Sequence[Point], faces: Sequence[Sequence[int]], material: bpy.types.Material) -> bpy.types.Object:
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(points, [], faces)
    mesh.update()
    mesh.materials.append(material)
    made = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(made)
    return made


def box(name: str, size: Point, at: Point, material: bpy.types.Material, *, bevel: float = 0.0) -> bpy.types.Object:
    x, y, z = (side / 2 for side in size)
    points = [(i * x, j * y, k * z) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    made = new_object(name, points, faces, material)
    made.location = at
    if bevel:
        round_edges(made, bevel)
    return made


def round_edges(made: bpy.types.Object, width: float) -> None:
    """Bevel the mesh itself: left as a modifier, every copy would be a mesh of its own, and slow to hand to Cycles."""
    modifier = made.modifiers.new("Bevel", "BEVEL")
    modifier.width, modifier.segments = width, 2
    with bpy.context.temp_override(object=made):
        bpy.ops.object.modifier_apply(modifier=modifier.name)


def turned(name: str, profile: Profile, material: bpy.types.Material, *, sides: int = 56) -> bpy.types.Object:
    """Turn a profile of (radius, height) about the vertical axis, as on a wheel."""
    rings = smooth(profile)
    points = [(r * math.cos(2 * math.pi * i / sides), r * math.sin(2 * math.pi * i / sides), z) for r, z in rings for i in range(sides)]
    faces = [
        (ring * sides + i, ring * sides + (i + 1) % sides, (ring + 1) * sides + (i + 1) % sides, (ring + 1) * sides + i)
        for ring in range(len(rings) - 1)
        for i in range(sides)
    ]
    made = new_object(name, points, faces, material)
    made.data.shade_smooth()
    return made


def smooth(profile: Profile, steps: int = 6) -> list[tuple[float, float]]:
    """Put a Catmull-Rom curve through the profile's points."""
    points = [profile[0], *profile, profile[-1]]
    curve = []
    for i in range(1, len(points) - 2):
        a, b, c, d = points[i - 1 : i + 3]
        for t in (step / steps for step in range(steps)):
            curve.append(tuple(catmull_rom(a[k], b[k], c[k], d[k], t) for k in (0, 1)))
    return [(max(r, 0.0), z) for r, z in [*curve, profile[-1]]]


def catmull_rom(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


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
