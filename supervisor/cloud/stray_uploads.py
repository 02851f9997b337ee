"""Uploads that were begun for jobs which are gone, or that nobody knows of: on any store that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from nodeimage.protocol import PROJECTS_PREFIX, RECEIVED_PREFIX

from .s3_uploads import S3Uploads, UnfinishedUpload

#: What the farm itself streams into a known job's files (out of a zip) takes less: only what the farm was cut off from is older.
_STREAMED_WITHIN = timedelta(days=1)


def stray_uploads(
    uploads: S3Uploads, known_jobs: frozenset[str], known_uploads: frozenset[str] | None, *, begun_before: datetime
) -> Iterator[UnfinishedUpload]:
    """Find unfinished uploads of unknown jobs, and, of known jobs' files, those that a farm which died did not come to write down.

    What is younger may belong to what was made after the jobs were looked at.
    Shape:   known_uploads: as of `Premises.orphans`
    Errors:  as of the store
    """
    for prefix in (PROJECTS_PREFIX, RECEIVED_PREFIX):
        for upload in uploads.unfinished(prefix):
            job = upload.key.removeprefix(prefix).partition("/")[0]
            if job not in known_jobs and upload.begun_at < begun_before:
                yield upload
            elif known_uploads is None or prefix != PROJECTS_PREFIX:
                continue  # nodes' own uploads are written down nowhere
            elif upload.upload_id not in known_uploads and upload.begun_at < begun_before - _STREAMED_WITHIN:
                yield upload
