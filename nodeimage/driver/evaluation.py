"""Bring the scene to a frame, evaluating no more than the render needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy

from .simulations import simulation_start

LAYER_NAME = "kiln: nothing to see"


class Evaluation:
    """Sets the frame of one scene.

    Blender evaluates a scene for the viewport too, before or after each render, in the background as well. With a view layer in the
    window that shows nothing, that costs nothing: half the time of a frame of a heavily animated scene, and its memory. Simulations that
    are not baked are different: they advance in the viewport's evaluation, and the render reads what it left.
    """

    def __init__(self, scene: Any, *, is_unbaked: bool) -> None:
        self._scene = scene
        self._evaluated: int | None = None
        self._own_layer = bpy.context.view_layer
        # Else a negative `frame_current` is 0 without a word
        bpy.context.preferences.edit.use_negative_frames = True
        self._is_quiet = not is_unbaked and _show_nothing(scene)

    def bring_to(self, frame: int, *, in_order: bool, say: Callable[[str], None]) -> None:
        """Make `frame` the scene's frame; in order: through every frame since the simulation's start, or the one evaluated last."""
        if not in_order:
            self._scene.frame_current = frame
            self._scene.frame_subframe = 0.0
            if not self._is_quiet:
                self._scene.frame_set(frame)
            return
        self._show_all()
        first = simulation_start(self._scene) if self._evaluated is None or self._evaluated >= frame else self._evaluated + 1
        for earlier in range(first, frame):
            say(f"Evaluating frame {earlier}")
            self._scene.frame_set(earlier)
        self._scene.frame_set(frame)
        self._evaluated = frame

    def _show_all(self) -> None:
        if self._is_quiet:
            bpy.context.window.view_layer = self._own_layer
            self._is_quiet = False


def _show_nothing(scene: Any) -> bool:
    """Have the window show a view layer without collections. Returns: False where that can't be"""
    window = bpy.context.window
    if window is None or scene.render.use_single_layer or scene.library is not None:
        return False
    layer = scene.view_layers.new(LAYER_NAME)
    layer.use = False
    for collection in layer.layer_collection.children:
        collection.exclude = True
    window.view_layer = layer
    return True
