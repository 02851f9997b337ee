"""Commands about downloads: zips of the frames received so far."""

from __future__ import annotations

from pathlib import Path

from supervisor.farm import Farm
from supervisor.queries import DownloadView


def begin_download(farm: Farm, job: str) -> str:
    """Pack what has been received so far, in the background. A zip of just these frames that is there or being packed is taken instead.

    Returns: the download's id
    Errors:  NotFound, Conflict (no frame received yet), OutOfSpace
    """
    raise NotImplementedError


def download(farm: Farm, download_id: str) -> DownloadView:
    """Errors: NotFound"""
    raise NotImplementedError


def job_downloads(farm: Farm, job: str) -> list[DownloadView]:
    """A job's downloads that are being packed, ready or failed, newest first."""
    raise NotImplementedError


def download_file(farm: Farm, download_id: str) -> Path:
    """The zip of a ready download. Errors: NotFound (deleted by age or size: says so, and that it can be packed anew)"""
    raise NotImplementedError
