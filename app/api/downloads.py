"""Calls about downloads: zips of the frames received so far."""

from __future__ import annotations

from app.current import current_farm
from app.links import download_url
from supervisor.commands import downloads as commands
from supervisor.domain.download import DownloadStatus
from supervisor.queries import DownloadView

from . import models
from .answers import download_answer


def begin_download(job: str) -> models.Download:
    return show_download(commands.begin_download(current_farm(), job))


def show_download(download: str) -> models.Download:
    return _shown(commands.download(current_farm(), download))


def list_downloads(job: str) -> list[models.Download]:
    return [_shown(each) for each in commands.job_downloads(current_farm(), job)]


def _shown(download: DownloadView) -> models.Download:
    return download_answer(download, url=download_url(download) if download.status is DownloadStatus.READY else None)
