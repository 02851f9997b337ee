"""Whether a job can be rendered as asked: every check of its settings against its main file and the farm's limits."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from .errors import Rejected
from .frame import FIRST_FRAME, LAST_FRAME, parse_frames
from .instance import Market
from .scene import Inspection, SceneInfo
from .settings import FILE_FORMATS, HIGHEST_PRIORITY, JobSettings, OutputSettings

_MAX_OUTPUT_NAME_BYTES = 200  #: leaves room for the frame number and the extension in a file name of 255 bytes
_MAX_NAMES_SHOWN = 8
_MAX_PRICE_USD_PER_H = Decimal(1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What this farm allows a job."""

    max_frames: int
    max_instances: int
    rents: bool  #: False: the farm renders on its own machine: no markets, no instance types, no ways for files to come to them


def check_settings(settings: JobSettings, limits: Limits, *, main: Inspection | None) -> None:
    """Check settings as far as the main file is known.

    Shape:   main: what the inspection of the main file found; None: there is no main file yet
    Errors:  Rejected - by field: what is wrong, and what can be had instead
    """
    _check_instances(settings, limits)
    _check_output(settings.output)
    if settings.frames is not None:
        parse_frames(settings.frames, max_frames=limits.max_frames)
    if main is not None:
        chosen_frames(settings, chosen_scene(settings, main), max_frames=limits.max_frames)
        check_camera(settings, chosen_scene(settings, main))


def chosen_scene(settings: JobSettings, main: Inspection) -> SceneInfo:
    """The scene that the settings name. Errors: Rejected - field `scene`: there is none such; names those there are"""
    scene = main.scene(settings.scene)
    if scene is None and not main.scenes:
        raise Rejected("no scene was found in the main .blend; open it in Blender, save it again and upload it anew", field="main_file")
    if scene is None:
        names = _listed([found.name for found in main.scenes])
        raise Rejected(f"there is no scene “{settings.scene}” in the main .blend; it has {names}", field="scene")
    return scene


def check_camera(settings: JobSettings, scene: SceneInfo) -> None:
    """Errors: Rejected - field `camera`: the scene has none such, or none at all"""
    if settings.camera and settings.camera not in scene.cameras:
        there = f"it has {_listed(scene.cameras)}" if scene.cameras else "it has none"
        raise Rejected(f"there is no camera “{settings.camera}” in scene “{scene.name}”; {there}", field="camera")
    if settings.camera or scene.camera or scene.marker_cameras:
        return
    if scene.cameras:
        raise Rejected(f"scene “{scene.name}” has no active camera; choose one: {_listed(scene.cameras)}", field="camera")
    raise Rejected(f"scene “{scene.name}” has no camera; add one in Blender and upload the .blend again", field="camera")


def chosen_frames(settings: JobSettings, scene: SceneInfo, *, max_frames: int) -> tuple[int, ...]:
    """The frames to render, ascending: as asked for, else the scene's range and step. Errors: Rejected - field `frames`"""
    if settings.frames is not None:
        return parse_frames(settings.frames, max_frames=max_frames)
    first, last = max(scene.frame_start, FIRST_FRAME), min(scene.frame_end, LAST_FRAME)
    frames = range(first, last + 1, max(scene.frame_step, 1))
    if not frames:
        raise Rejected(f"scene “{scene.name}” ends before it begins ({first} to {last}); say which frames to render", field="frames")
    if len(frames) > max_frames:
        raise Rejected(
            f"scene “{scene.name}” has {len(frames)} frames, and one job may have {max_frames}; say which frames to render", field="frames"
        )
    return tuple(frames)


def _check_instances(settings: JobSettings, limits: Limits) -> None:
    if not 1 <= settings.instances <= limits.max_instances:
        raise Rejected(f"{settings.instances} instances are not possible; one job may have 1 to {limits.max_instances}", field="instances")
    check_priority(settings.priority)
    if not limits.rents:
        _check_nothing_rented(settings)
    price = settings.max_price_usd_per_h
    if price is None:
        return
    if settings.market is not Market.SPOT:
        raise Rejected("a highest price is for spot instances; on-demand ones have a list price", field="max_price_usd_per_h")
    if not (price.is_finite() and 0 < price <= _MAX_PRICE_USD_PER_H):
        raise Rejected(f"a highest price lies above 0 and at most at {_MAX_PRICE_USD_PER_H} dollars per hour", field="max_price_usd_per_h")


def check_priority(priority: int) -> None:
    """Errors: Rejected - field `priority`"""
    if not 0 <= priority <= HIGHEST_PRIORITY:
        raise Rejected(f"a priority is a whole number from 0 to {HIGHEST_PRIORITY}", field="priority")


def _check_nothing_rented(settings: JobSettings) -> None:
    """Check that nothing is asked for that only a farm has which rents."""
    here = "this farm renders on its own machine"
    if settings.market is Market.SPOT:
        raise Rejected(f"{here}; spot needs AWS", field="market")
    if settings.instance_types:
        raise Rejected(f"{here}; there are no instance types to choose from", field="instance_types")
    if settings.workspace_mode:
        raise Rejected(f"{here}; its instances need not fetch the files", field="workspace_mode")


def _check_output(output: OutputSettings) -> None:
    if output.format is not None and output.format not in FILE_FORMATS:
        raise Rejected(f"“{output.format}” is not a format of still images; choose one of {_listed(FILE_FORMATS)}", field="output.format")
    if output.resolution_pct is not None and not 1 <= output.resolution_pct <= 1000:
        raise Rejected("the resolution is 1 to 1000 percent", field="output.resolution_pct")
    if output.samples is not None and not 1 <= output.samples <= 65536:
        raise Rejected("samples are 1 to 65536", field="output.samples")
    if output.name is not None:
        _check_output_name(output.name)


def _check_output_name(name: str) -> None:
    # braces are templates to Blender 4.5 and later, # is where it puts the frame number
    bad = next((c for c in name if c in '/\\{}#:*?"<>|' or unicodedata.category(c) in {"Cc", "Cs"}), None)
    if bad is not None:
        raise Rejected(f"the output name can't have {bad!r} in it", field="output.name")
    if name != name.strip() or name.startswith("."):
        raise Rejected("the output name can't begin with a dot, nor begin or end with a space", field="output.name")
    if len(name.encode()) > _MAX_OUTPUT_NAME_BYTES:
        raise Rejected(f"the output name is longer than {_MAX_OUTPUT_NAME_BYTES} bytes", field="output.name")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"“{name}”" for name in names[:_MAX_NAMES_SHOWN])
    return shown if len(names) <= _MAX_NAMES_SHOWN else f"{shown} and {len(names) - _MAX_NAMES_SHOWN} more"
