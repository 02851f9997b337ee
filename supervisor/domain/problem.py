"""Problems: what a person should know about a job, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something a person should know about a job. A job has one of a code about a thing."""

    code: str
    about: str = ""  #: a path, a frame, a node; empty: the job
    severity: Severity
    text: str
    remedy: str = ""
    since: datetime
