"""What Blender found in a file, as problems that people can act on."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from datetime import datetime

from nodeimage.protocol import Finding
from supervisor.domain.problem import Problem, Severity

#: Code -> how grave it is, and what to do.
_REMEDIES: dict[str, tuple[Severity, str]] = {
    "missing_file": ("warning", "Upload the file in its place beside the .blend, or pack it into the .blend, in a new job."),
    "linked_id": ("warning", "Open the .blend in Blender, repair or remove the link, and upload it in a new job."),
    "unbaked": ("warning", "Bake the simulation in Blender and upload the .blend with its cache: then several instances can render it."),
    "fluid_not_baked": ("warning", "Bake the fluid in Blender and upload its cache folder with the .blend, in a new job."),
    "movie_format": ("info", "Frames are rendered as PNG. Choose a format of still images to have another."),
    "scripts_blocked": ("info", "The farm runs no scripts of uploaded files. Bake what they do into the .blend if frames differ."),
    "freestyle_script": ("info", "The farm runs no scripts of uploaded files. Use Freestyle's parameter editor instead."),
    "outputs_redirected": ("info", "What File Output nodes write is among the frame's files, wherever they point."),
    "gpu_absent": ("warning", "Frames are rendered on the CPU, which may take much longer."),
}


def problem_of(finding: Finding, *, at: datetime) -> Problem:
    """The problem that a finding is. Two findings of a code are two problems if they say different things."""
    severity, remedy = _REMEDIES.get(finding.code, ("warning", ""))
    return Problem(code=finding.code, about=finding.text, severity=severity, text=finding.text, remedy=remedy, since=at)


def is_told(finding: Finding, told: Iterable[Problem]) -> bool:
    """Say whether the inspection of the .blend found the same before: a file is missing once, whoever misses it."""
    names = [posixpath.basename(problem.about.replace("\\", "/")) for problem in told if problem.code == finding.code == "missing_file"]
    return any(name and name in finding.text for name in names)
