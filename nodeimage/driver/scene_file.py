"""Open the .blend and make it render as the farm wants, whatever it says itself."""

from __future__ import annotations

import os
from typing import Any

import bpy

from .outputs import file_output_nodes

#: Formats that are movies in some Blender; `is_movie_format` knows most, AVI is gone since 5.0.
MOVIES = frozenset({"FFMPEG", "AVI_JPEG", "AVI_RAW"})


class CannotOpen(Exception):
    """The .blend can't be rendered as asked; the message says why, for a person."""


def open_file(path: str) -> None:
    """Make `path` the open file, with no script of it run.

    Errors:  CannotOpen
    """
    if not os.path.isfile(path):
        raise CannotOpen(f"the workspace has no file {os.path.basename(path)}")
    problem = ""
    try:
        bpy.ops.wm.open_mainfile(filepath=path, load_ui=False, use_scripts=False)
    except RuntimeError as error:  # also raised for files that did open but lack a library
        problem = str(error).strip()
    if not bpy.data.filepath or not os.path.samefile(bpy.data.filepath, path):
        raise CannotOpen(problem or f"Blender {bpy.app.version_string} can't open {os.path.basename(path)}")


def choose_scene(settings: dict[str, Any]) -> Any:
    """Apply the job's settings to the scene it asks for.

    Returns: the scene
    Errors:  CannotOpen - the file has no such scene, camera or view layer
    """
    name = settings.get("scene")
    scene = bpy.data.scenes.get(name) if name else bpy.context.scene
    if scene is None:
        raise CannotOpen(f"the file has no scene “{name}”; it has {_listed(bpy.data.scenes)}")
    if bpy.context.window:
        bpy.context.window.scene = scene
    _choose_camera(scene, settings.get("camera"))
    _choose_view_layers(scene, settings.get("view_layers") or ())
    if settings.get("resolution_pct"):
        scene.render.resolution_percentage = settings["resolution_pct"]
    if settings.get("samples"):
        _set_samples(scene, settings["samples"])
    scene.render.use_persistent_data = bool(settings.get("persistent_data", True))
    if settings.get("threads"):
        scene.render.threads_mode = "FIXED"
        scene.render.threads = settings["threads"]
    return scene


def _choose_camera(scene: Any, name: str | None) -> None:
    if not name:
        return
    camera = scene.objects.get(name)
    if camera is None or camera.type != "CAMERA":
        cameras = [thing for thing in scene.objects if thing.type == "CAMERA"]
        raise CannotOpen(f"the scene “{scene.name}” has no camera “{name}”; it has {_listed(cameras)}")
    scene.camera = camera
    for marker in scene.timeline_markers:  # a marker's camera would take over at its frame
        marker.camera = None


def _choose_view_layers(scene: Any, names: Any) -> None:
    missing = [name for name in names if name not in scene.view_layers]
    if missing:
        raise CannotOpen(f"the scene “{scene.name}” has no view layer “{missing[0]}”; it has {_listed(scene.view_layers)}")
    for layer in scene.view_layers if names else ():
        layer.use = layer.name in names


def _set_samples(scene: Any, samples: int) -> None:
    if hasattr(scene, "cycles"):
        scene.cycles.samples = samples
    if hasattr(scene.eevee, "taa_render_samples"):
        scene.eevee.taa_render_samples = samples


def _listed(things: Any) -> str:
    names = [f"“{thing.name}”" for thing in things]
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "none"


def fix_format(scene: Any, wanted: str | None) -> list[dict[str, str]]:
    """Make the scene write still images over what is there. Returns: findings"""
    render = scene.render
    image = render.image_settings
    own = image.file_format
    is_movie = render.is_movie_format or own in MOVIES
    if wanted in MOVIES:
        is_movie, wanted, own = True, None, str(wanted)
    if is_movie or wanted:
        _set_format(image, wanted or "PNG")
    render.use_file_extension = True
    render.use_overwrite = True
    render.use_placeholder = False
    if is_movie and not wanted:
        text = f"The scene “{scene.name}” is set to write a movie ({own}); the farm renders its frames as PNG."
        return [{"code": "movie_format", "text": text}]
    return []


def _set_format(image: Any, name: str) -> None:
    if hasattr(image, "media_type"):  # 5.0: the formats on offer depend on it
        image.media_type = "MULTI_LAYER_IMAGE" if name == "OPEN_EXR_MULTILAYER" else "IMAGE"
    try:
        image.file_format = name
    except TypeError as error:
        raise CannotOpen(f"Blender {bpy.app.version_string} can't write the format {name}") from error


def switch_off_scripts(scene: Any) -> list[dict[str, str]]:
    """Switch off what a .blend could still run with scripts disabled. Returns: findings, scripts blocked by Blender included

    Freestyle's Python mode runs text blocks at render time in 3.4, 4.2 and 5.0 all the same; 4.5 blocks it.
    """
    findings = []
    for any_scene in bpy.data.scenes:
        for layer in any_scene.view_layers:
            freestyle = getattr(layer, "freestyle_settings", None)
            if freestyle is None or freestyle.mode != "SCRIPT" or not len(freestyle.modules):
                continue
            layer.use_freestyle = False
            freestyle.mode = "EDITOR"
            text = f"Freestyle runs Python in the view layer “{layer.name}” of “{any_scene.name}”; the farm renders it without Freestyle."
            findings.append({"code": "freestyle_script", "text": text})
    if bpy.app.autoexec_fail:
        what = bpy.app.autoexec_fail_message.strip()
        text = f"The file wants to run Python, which the farm does not let it ({what}); what depends on it may look different."
        findings.append({"code": "scripts_blocked", "text": text})
    return findings


def describe(scene: Any) -> dict[str, Any]:
    """Say what will be rendered, for the log."""
    render = scene.render
    return {
        "scene": scene.name,
        "engine": render.engine,
        "camera": scene.camera.name if scene.camera else None,
        "resolution": [render.resolution_x, render.resolution_y, render.resolution_percentage],
        "format": render.image_settings.file_format,
        "view_layers": [layer.name for layer in scene.view_layers if layer.use],
        "frames": [scene.frame_start, scene.frame_end, scene.frame_step],
        "multiview": render.use_multiview,
        "file_outputs": [node.name for node in file_output_nodes(scene)],
        "persistent_data": render.use_persistent_data,
    }
