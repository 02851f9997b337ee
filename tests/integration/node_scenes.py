"""Makes the .blend files of the node's tests. Run by a Python that has bpy: `python node_scenes.py FOLDER [WIDTH,HEIGHT,FORMATS]`."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import bpy

WIDTH, HEIGHT, FORMATS = json.loads(sys.argv[-1])


def a_scene(*, path: str = "//render/shot_", file_format: str = "PNG") -> Any:
    """Begin a file: a cube that moves, one sample, so small that a frame takes a moment."""
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 1
    scene.cycles.use_denoising = scene.cycles.use_adaptive_sampling = False
    scene.cycles.max_bounces = 1
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    scene.render.filepath = path
    scene.frame_start, scene.frame_end = 1, 12
    if hasattr(scene.render.image_settings, "media_type"):
        scene.render.image_settings.media_type = "MULTI_LAYER_IMAGE" if file_format == "OPEN_EXR_MULTILAYER" else "IMAGE"
    scene.render.image_settings.file_format = file_format
    cube = bpy.data.objects["Cube"]
    for frame, x in ((1, -2.0), (12, 2.0)):
        cube.location.x = x
        cube.keyframe_insert("location", frame=frame)
    return scene


def save(folder: str, name: str) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(folder, f"{name}.blend"))


def compositor(scene: Any) -> Any:
    """The scene's compositor tree with a Render Layers node and the image shown."""
    if hasattr(scene, "compositing_node_group"):
        tree = bpy.data.node_groups.new("Compositing", "CompositorNodeTree")
        scene.compositing_node_group = tree
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        shown = tree.nodes.new("NodeGroupOutput")
        layers = tree.nodes.new("CompositorNodeRLayers")
        tree.links.new(layers.outputs["Image"], shown.inputs[0])
        return tree
    scene.use_nodes = True
    return scene.node_tree


def file_output(tree: Any, source: Any, *, path: str, slot: str, file_format: str) -> Any:
    node = tree.nodes.new("CompositorNodeOutputFile")
    node.name = "Passes: all/of them"
    if hasattr(node, "base_path"):
        node.base_path = path
        node.format.file_format = file_format
        node.file_slots[0].path = slot
        tree.links.new(source, node.inputs[0])
        return node
    node.directory, node.file_name = os.path.dirname(path), os.path.basename(path)
    node.format.media_type = "IMAGE"
    node.format.file_format = file_format
    node.file_output_items.new("RGBA", slot)
    tree.links.new(source, node.inputs[0])
    return node


def plain(folder: str) -> None:
    a_scene()
    save(folder, "plain")


def drawn(folder: str) -> None:
    """What OpenGL draws, by the engine that is done with it soonest."""
    scene = a_scene()
    scene.render.engine = "BLENDER_WORKBENCH"
    save(folder, "drawn")


def formats(folder: str) -> None:
    for name in FORMATS:
        a_scene(file_format=name)
        save(folder, name.lower())


def numbered(folder: str) -> None:
    a_scene(path="//out/a##b_{blend_name}")
    save(folder, "numbered")


def movie(folder: str) -> None:
    scene = a_scene(path="//render/film")
    if hasattr(scene.render.image_settings, "media_type"):
        scene.render.image_settings.media_type = "VIDEO"
    scene.render.image_settings.file_format = "FFMPEG"
    save(folder, "movie")


def cropped(folder: str) -> None:
    scene = a_scene()
    scene.render.resolution_percentage = 50
    scene.render.use_border = scene.render.use_crop_to_border = True
    scene.render.border_min_x, scene.render.border_max_x = 0.25, 0.75
    scene.render.border_min_y, scene.render.border_max_y = 0.0, 0.5
    save(folder, "cropped")


def views(folder: str) -> None:
    scene = a_scene()
    scene.render.use_multiview = True
    scene.render.views_format = "STEREO_3D"
    scene.render.image_settings.views_format = "INDIVIDUAL"
    save(folder, "views")


def stereo(folder: str) -> None:
    """Both eyes in one file."""
    scene = a_scene(file_format="OPEN_EXR")
    scene.render.use_multiview = True
    scene.render.views_format = "STEREO_3D"
    scene.render.image_settings.views_format = "MULTIVIEW"
    save(folder, "stereo")


def layers(folder: str) -> None:
    """Multilayer EXR, and a File Output node inside a group that names an absolute path and climbs out of it."""
    scene = a_scene(file_format="OPEN_EXR_MULTILAYER", path="")
    tree = compositor(scene)
    group = bpy.data.node_groups.new("Outputs", "CompositorNodeTree")
    if hasattr(group, "interface"):
        group.interface.new_socket("Image", in_out="INPUT", socket_type="NodeSocketColor")
    else:  # before 4.0
        group.inputs.new("NodeSocketColor", "Image")
    source = group.nodes.new("NodeGroupInput")
    file_output(group, source.outputs[0], path=os.path.join(folder, "elsewhere", "pass_"), slot="../../Beauty", file_format="PNG")
    node = tree.nodes.new("CompositorNodeGroup")
    node.node_tree = group
    render_layers = next(node for node in tree.nodes if node.bl_idname == "CompositorNodeRLayers")
    tree.links.new(render_layers.outputs["Image"], node.inputs[0])
    save(folder, "layers")


def cloth(folder: str) -> None:
    """A cloth that falls, not baked."""
    a_scene()
    bpy.ops.mesh.primitive_grid_add(size=2, x_subdivisions=6, y_subdivisions=6, location=(0, 0, 1))
    falling = bpy.context.object
    falling.name = "Flag"
    falling.modifiers.new("Cloth", "CLOTH")
    save(folder, "cloth")


def still_life(folder: str) -> None:
    """Things that look like simulations and do not matter."""
    a_scene()
    bpy.ops.mesh.primitive_plane_add()
    switched_off = bpy.context.object.modifiers.new("Cloth", "CLOTH")
    switched_off.show_render = False
    cube = bpy.data.objects["Cube"]
    hair = cube.modifiers.new("Hair", "PARTICLE_SYSTEM").particle_system.settings
    hair.type, hair.count = "HAIR", 3
    save(folder, "still_life")


def scripts(folder: str) -> None:
    """Python wherever a .blend can hold it: a text that registers, a driver, Freestyle. Each leaves a mark when it runs."""
    scene = a_scene()
    for name in ("text", "freestyle"):
        text = bpy.data.texts.new(f"{name}.py")
        text.write(f"open({os.path.join(folder, 'ran-' + name)!r}, 'w').close()\n")
    bpy.data.texts["text.py"].use_module = True
    driver = bpy.data.objects["Cube"].driver_add("location", 2).driver
    driver.expression = f"open({os.path.join(folder, 'ran-driver')!r}, 'w').close() or 1.0"
    layer = scene.view_layers[0]
    scene.render.use_freestyle = True
    layer.use_freestyle = True
    layer.freestyle_settings.mode = "SCRIPT"
    layer.freestyle_settings.modules.new().script = bpy.data.texts["freestyle.py"]
    save(folder, "scripts")


def missing(folder: str) -> None:
    a_scene()
    image = bpy.data.images.new("wood", 4, 4)
    image.source = "FILE"
    image.filepath = "//textures/wood.png"
    material = bpy.data.materials.new("Wood")
    material.use_nodes = True
    material.node_tree.nodes.new("ShaderNodeTexImage").image = image
    bpy.data.objects["Cube"].data.materials[0] = material
    save(folder, "missing")


def no_camera(folder: str) -> None:
    scene = a_scene()
    bpy.data.objects.remove(scene.camera)
    save(folder, "no_camera")


def wide(folder: str) -> None:
    """Wider than its preview."""
    scene = a_scene(file_format="OPEN_EXR")
    scene.render.resolution_x, scene.render.resolution_y = 320, 40
    save(folder, "wide")


def timed(folder: str) -> None:
    """A frame takes two seconds, however fast the machine is."""
    scene = a_scene()
    scene.cycles.samples, scene.cycles.time_limit = 1 << 20, 2.0
    save(folder, "timed")


if __name__ == "__main__":
    for make in (
        plain,
        drawn,
        formats,
        numbered,
        movie,
        cropped,
        views,
        stereo,
        layers,
        cloth,
        still_life,
        scripts,
        missing,
        no_camera,
        wide,
        timed,
    ):
        make(sys.argv[-2])
    sys.stdout.flush()
    os._exit(0)  # Blender's own exit hangs where a file has Python drivers
