"""Uploads that were begun for jobs which are gone: on any store that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from nodeimage.protocol import PROJECTS_PREFIX, RECEIVED_PREFIX

from .s3_uploads import S3Uploads, UnfinishedUpload


def stray_uploads(uploads: S3Uploads, known_jobs: frozenset[str], *, begun_before: datetime) -> Iterator[UnfinishedUpload]:
    """Find unfinished uploads of unknown jobs. What is younger may belong to a job that was made after the jobs were looked at.

    Errors:  as of the store
    """
    for prefix in (PROJECTS_PREFIX, RECEIVED_PREFIX):
        for upload in uploads.unfinished(prefix):
            job = upload.key.removeprefix(prefix).partition("/")[0]
            if job not in known_jobs and upload.begun_at < begun_before:
                yield upload
