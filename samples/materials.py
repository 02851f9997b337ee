"""The sample's surfaces: brick, glaze, and what glows."""

from __future__ import annotations

import math

import bpy
from measures import ARCH_RADIUS, ARCH_SPRING, FRAMES, Point


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
