"""Downloads: zips of a job's frames."""

from __future__ import annotations

from enum import StrEnum


class DownloadStatus(StrEnum):
    """Where a download stands."""

    PACKING = "packing"  #: its frames are being looked for in the store
    READY = "ready"  #: what is in the zip is settled; its link gives it until it expires
    FAILED = "failed"  #: a frame was or is not as it should be; `reason` says which and what to do
    DELETED = "deleted"  #: it was deleted by age
