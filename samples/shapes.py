"""Meshes: boxes, and what is turned on a wheel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import bpy
from measures import Point, Profile


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
