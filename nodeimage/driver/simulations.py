"""Simulations that are not baked: what they show in a frame depends on the frames evaluated before it.

Rendering such a file frame by frame on several nodes gives wrong pictures without a word, with and without persistent data.
What can't matter is not reported: switched-off modifiers, hair that does not move, objects outside the rendered view layers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import bpy


def unbaked_simulations(scene: Any) -> list[dict[str, str]]:
    """List the simulations of what the scene renders that are not baked. Returns: findings `unbaked`, and `fluid_not_baked`"""
    findings = []
    for rendered in _rendered_scenes(scene):
        for thing in _evaluated_objects(rendered):
            findings += [_unbaked(thing.name, kind) for kind, _ in _unbaked_caches(thing)]
            findings += [_fluid_not_baked(thing.name) for modifier in thing.modifiers if _is_empty_fluid(modifier)]
        if _rigid_body_cache(rendered) is not None:
            findings.append(_unbaked(rendered.name, "rigid bodies"))
    return findings


def simulation_start(scene: Any) -> int:
    """The first frame that must be evaluated before any other frame is right."""
    starts = [scene.frame_start]
    for rendered in _rendered_scenes(scene):
        for thing in _evaluated_objects(rendered):
            starts += [cache.frame_start for _, cache in _unbaked_caches(thing) if cache is not None]
        cache = _rigid_body_cache(rendered)
        starts += [cache.frame_start] if cache is not None else []
    return int(min(starts))


def _unbaked(name: str, kind: str) -> dict[str, str]:
    return {"code": "unbaked", "text": f"“{name}” has {kind} that are not baked: each frame depends on the ones before it."}


def _fluid_not_baked(name: str) -> dict[str, str]:
    return {
        "code": "fluid_not_baked",
        "text": f"The fluid of “{name}” is not baked and shows nothing: bake it, and upload its cache folder too.",
    }


def _rendered_scenes(scene: Any) -> list[Any]:
    """The scene, and those it shows: background sets, render layers of other scenes in the compositor, scene strips."""
    scenes: list[Any] = []
    waiting = [scene]
    while waiting:
        current = waiting.pop()
        if current is None or current in scenes:
            continue
        scenes.append(current)
        waiting.append(current.background_set)
        tree = getattr(current, "compositing_node_group", None) or getattr(current, "node_tree", None)
        if tree is not None:
            waiting += [node.scene for node in tree.nodes if node.bl_idname == "CompositorNodeRLayers"]
        editor = current.sequence_editor
        if editor is not None and current.render.use_sequencer:
            strips = editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all
            waiting += [strip.scene for strip in strips if strip.type == "SCENE"]
    return scenes


def _evaluated_objects(scene: Any) -> Iterator[Any]:
    seen = set()
    waiting = [thing for layer in scene.view_layers if layer.use for thing in layer.objects]
    while waiting:
        thing = waiting.pop()
        if thing.name_full in seen:
            continue
        seen.add(thing.name_full)
        yield thing
        if thing.instance_type == "COLLECTION" and thing.instance_collection is not None:
            waiting += thing.instance_collection.all_objects


def _unbaked_caches(thing: Any) -> Iterator[tuple[str, Any]]:
    """Yield (kind, point cache or None) for each simulation of an object that is not baked."""
    for modifier in thing.modifiers:
        if not modifier.show_render:
            continue
        find = _FINDERS.get(modifier.type)
        for kind, cache in find(thing, modifier) if find else ():
            if cache is None or not (cache.is_baked or getattr(cache, "use_external", False)):
                yield kind, cache


def _cloth(thing: Any, modifier: Any) -> Iterator[tuple[str, Any]]:
    yield "cloth or soft body physics", modifier.point_cache


def _particles(thing: Any, modifier: Any) -> Iterator[tuple[str, Any]]:
    system = modifier.particle_system
    settings = system.settings
    if settings is None or not settings.count:
        return
    if settings.type == "HAIR":
        if system.use_hair_dynamics:
            yield "hair dynamics", system.point_cache
    elif settings.physics_type in {"NEWTON", "BOIDS", "FLUID"}:
        yield "particles", system.point_cache


def _fluid(thing: Any, modifier: Any) -> Iterator[tuple[str, Any]]:
    domain = modifier.domain_settings
    if modifier.fluid_type == "DOMAIN" and domain is not None and domain.cache_type == "REPLAY":
        yield "a fluid", None


def _is_empty_fluid(modifier: Any) -> bool:
    if modifier.type != "FLUID" or not modifier.show_render or modifier.fluid_type != "DOMAIN":
        return False
    domain = modifier.domain_settings
    return domain is not None and domain.cache_type != "REPLAY" and not domain.has_cache_baked_data


def _dynamic_paint(thing: Any, modifier: Any) -> Iterator[tuple[str, Any]]:
    canvas = modifier.canvas_settings
    for surface in canvas.canvas_surfaces if canvas else ():
        if surface.is_active and surface.surface_format == "VERTEX":
            yield "dynamic paint", surface.point_cache


def _nodes(thing: Any, modifier: Any) -> Iterator[tuple[str, Any]]:
    if _has_simulation_zone(modifier.node_group, set()) and not _is_zone_baked(thing, modifier):
        yield "simulation nodes", None


def _has_simulation_zone(group: Any, seen: set[str]) -> bool:
    if group is None or group.name_full in seen:
        return False
    seen.add(group.name_full)
    return any(
        node.bl_idname == "GeometryNodeSimulationOutput" or _has_simulation_zone(getattr(node, "node_tree", None), seen)
        for node in group.nodes
        if not node.mute
    )


def _is_zone_baked(thing: Any, modifier: Any) -> bool:
    """Say whether the bake of a simulation zone lies on disk. A packed bake can't be told from none: it counts as not baked."""
    folder = getattr(modifier, "bake_directory", "") or getattr(modifier, "simulation_bake_directory", "")
    bakes = list(getattr(modifier, "bakes", ()))
    folders = [bake.directory if bake.use_custom_path else folder for bake in bakes] or [folder]
    paths = [bpy.path.abspath(path, library=thing.library) for path in folders]
    return all(path and os.path.isdir(path) and os.listdir(path) for path in paths)


def _rigid_body_cache(scene: Any) -> Any:
    """The cache of a rigid body world in which something moves and that is not baked, else None."""
    world = scene.rigidbody_world
    if world is None or not world.enabled or world.collection is None or world.point_cache.is_baked:
        return None
    bodies = (thing.rigid_body for thing in world.collection.all_objects)
    moves = any(body is not None and body.type == "ACTIVE" and body.enabled and not body.kinematic for body in bodies)
    return world.point_cache if moves else None


_FINDERS = {
    "CLOTH": _cloth,
    "SOFT_BODY": _cloth,
    "PARTICLE_SYSTEM": _particles,
    "FLUID": _fluid,
    "DYNAMIC_PAINT": _dynamic_paint,
    "NODES": _nodes,
}
