"""Workspaces: how a job's files come to its instances."""

from __future__ import annotations

from enum import StrEnum


class WorkspaceMode(StrEnum):
    """How a job's files come to instances that the cloud rents us."""

    AUTO = "auto"  #: by their size
    S3 = "s3"  #: each instance fetches them
    SNAPSHOT = "snapshot"  #: a volume is filled once; each instance gets a copy made from its snapshot
