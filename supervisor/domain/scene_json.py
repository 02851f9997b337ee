"""Inspections as JSON and back: between the reading process, the database and the farm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .scene import Dependency, DependencyKind, Inspection, SceneInfo


def inspection_to_json(inspection: Inspection) -> dict[str, Any]:
    """Shape: plain JSON values, the dataclasses' field names"""
    return asdict(inspection)


def inspection_from_json(raw: Mapping[str, Any]) -> Inspection:
    """Errors: KeyError, TypeError, ValueError - not what `inspection_to_json` wrote"""
    first, second = raw["version"]
    return Inspection(
        version=(int(first), int(second)),
        is_compressed=raw["is_compressed"],
        scenes=tuple(_scene(scene) for scene in raw["scenes"]),
        current_scene=raw["current_scene"],
        dependencies=tuple(Dependency(**{**d, "kind": DependencyKind(d["kind"])}) for d in raw["dependencies"]),
        warnings=tuple(raw["warnings"]),
    )


def _scene(raw: Mapping[str, Any]) -> SceneInfo:
    lists = {
        "cameras": tuple(raw["cameras"]),
        "view_layers": tuple(raw["view_layers"]),
        "marker_cameras": tuple((frame, camera) for frame, camera in raw["marker_cameras"]),
    }
    return SceneInfo(**{**raw, **lists})
