"""What a person asks for when submitting a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from .instance import Market
from .workspace import WorkspaceMode

#: Still-image formats that every node can check and preview, by Blender's identifier.
FILE_FORMATS = ("PNG", "JPEG", "OPEN_EXR", "OPEN_EXR_MULTILAYER", "TIFF", "WEBP", "BMP", "TARGA", "HDR", "DPX", "CINEON", "JPEG2000")

HIGHEST_PRIORITY = 100
USUAL_PRIORITY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSettings:
    """What is written. None everywhere: as the file says."""

    name: str | None = None  #: what precedes the frame number
    format: str | None = None  #: one of FILE_FORMATS
    resolution_pct: int | None = None  #: 1 to 1000
    samples: int | None = None  #: 1 to 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """How a job is to be rendered. The defaults are the scene's own."""

    frames: str | None = None  #: a frame spec; None: the scene's range and step
    instances: int = 1
    market: Market = Market.ON_DEMAND
    max_price_usd_per_h: Decimal | None = None  #: spot only; None: up to the on-demand price
    instance_types: tuple[str, ...] = ()  #: empty: the farm's choice
    workspace_mode: WorkspaceMode | None = None  #: None: as the farm is configured
    scene: str | None = None  #: None: the one current when the file was saved
    camera: str | None = None  #: None: the scene's, marker cameras included
    blender: str | None = None  #: series such as 4.5; None: the one that saved the file, else the next newer
    output: OutputSettings = field(default_factory=OutputSettings)
    persistent_data: bool | None = None  #: None: the farm's default
    max_cost_usd: Decimal | None = None  #: the job's own cap; None: the farm's
    priority: int = USUAL_PRIORITY  #: 0 to 100: of jobs that wait for instances, the higher goes first; among equals, the earlier
    scout: bool = False  #: render the first, the middle and the last frame, then wait for a person's yes to the rest
