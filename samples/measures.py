"""What the sample's scene is made to: its length, its size, and where its parts meet."""

from __future__ import annotations

from collections.abc import Sequence

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
