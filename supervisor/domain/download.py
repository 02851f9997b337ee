"""Downloads: zips of a job's frames."""

from __future__ import annotations

from enum import StrEnum


class DownloadStatus(StrEnum):
    """Where a download stands."""

    PACKING = "packing"  #: the zip is being written
    READY = "ready"  #: the zip is whole; its link works until it expires
    FAILED = "failed"  #: it could not be packed; `reason` says why
    DELETED = "deleted"  #: the zip was deleted by age, by total size, or with its job
