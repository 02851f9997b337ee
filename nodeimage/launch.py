"""What a rented instance is told at its launch, and tells before its agent works: the second half of the protocol.

`protocol.py` describes what nodes and the farm say to each other while frames are rendered. Standard library only, like it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from .protocol import AGENT_PREFIX, Message, known_fields


def node_of_instance(instance: str) -> str:
    """Name the node of a rented instance: `i-0abc` runs `node_0abc`. Instances launched together share their user data."""
    return f"node_{instance.removeprefix('i-')}"


def agent_key(version: str) -> str:
    return f"{AGENT_PREFIX}{version}.pyz"


class Role(StrEnum):
    """What a rented instance is for."""

    RENDER = "render"  #: a node of one job
    STAGE = "stage"  #: fills a job's volume, then ends
    BUILD = "build"  #: builds an image, then ends
    POOL = "pool"  #: a node of the shared pool, for whatever job waits


class WorkspaceKind(StrEnum):
    """How the job's files come to an instance."""

    S3 = "s3"  #: it fetches them itself
    VOLUME = "volume"  #: a volume made from the snapshot is attached to it
    BLANK = "blank"  #: an empty volume is attached to it, to be filled


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchData(Message):
    """What a rented instance is told at its launch, as its user data: names and ids, no secret, nothing of the instance's own."""

    role: Role
    farm: str
    region: str
    projects_bucket: str
    received_bucket: str
    agent: str  #: key of the agent in the projects bucket
    agent_sha256: str
    job: str = ""  #: empty in the shared pool, and for image builders
    endpoint: str = ""  #: empty: Amazon S3
    workspace: WorkspaceKind = WorkspaceKind.S3
    blender: str = ""  #: series of the Blender to use, such as 4.5; empty: the newest on the image
    heartbeat_s: float = 2.0
    poll_s: float = 1.0
    idle_s: float = 300.0
    unreachable_s: float = 900.0
    max_life_s: float = 86400.0

    @classmethod
    def _from_dict(cls, raw: Mapping[str, Any]) -> Self:
        values = known_fields(cls, raw)
        values["role"] = Role(values["role"])
        values["workspace"] = WorkspaceKind(values.get("workspace", WorkspaceKind.S3))
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file that belongs into a workspace."""

    path: str  #: relative
    key: str  #: in the projects bucket
    bytes: int
    checksum: str  #: `crc32:<8 hex digits>`; empty: only the size is verified


@dataclass(frozen=True, slots=True, kw_only=True)
class FileList(Message):
    """The files of a job: `projects/<job>.files.json`."""

    files: tuple[FileEntry, ...]

    @property
    def content(self) -> str:
        """Hash of what the files are, wherever they lie: 64 hex digits. The same files make the same one, in any order, for any job."""
        # a file that nobody has read is itself alone
        what = sorted([file.path, file.bytes, file.checksum or file.key] for file in self.files)
        return hashlib.sha256(json.dumps(what, separators=(",", ":")).encode()).hexdigest()

    @classmethod
    def _from_dict(cls, raw: Mapping[str, Any]) -> Self:
        values = known_fields(cls, raw)
        values["files"] = tuple(FileEntry(**known_fields(FileEntry, entry)) for entry in values["files"])
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolJob:
    """A job that nodes of the shared pool may work on. They fetch its files themselves."""

    job: str
    blender: str = ""  #: series of the Blender to use, such as 4.5; empty: the newest on the image


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOrder(Message):
    """What the nodes of the shared pool work on: `received/pool.json`. Only the supervisor writes it."""

    jobs: tuple[PoolJob, ...]  #: those to be taken first come first

    @classmethod
    def _from_dict(cls, raw: Mapping[str, Any]) -> Self:
        values = known_fields(cls, raw)
        values["jobs"] = tuple(PoolJob(**known_fields(PoolJob, entry)) for entry in values["jobs"])
        return cls(**values)


class StagingState(StrEnum):
    """How far the filling of a volume is."""

    RUNNING = "running"  #: files are being fetched
    DONE = "done"  #: every file is on the volume and verified, and the volume is unmounted
    FAILED = "failed"  #: it will not come to an end; `message` says why


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingReport(Message):
    """How far the filling of a job's volume is: `received/<job>/staging.json`."""

    state: StagingState
    instance: str  #: that fills the volume; the volume's own id, where the farm's own instance does
    content: str  #: hash of the file list that it works on
    at_ms: int  #: UTC, the instance's clock
    done_bytes: int = 0
    total_bytes: int = 0
    message: str = ""

    @classmethod
    def _from_dict(cls, raw: Mapping[str, Any]) -> Self:
        values = known_fields(cls, raw)
        values["state"] = StagingState(values["state"])
        return cls(**values)


class BuildState(StrEnum):
    """How far a builder is."""

    RUNNING = "running"  #: the provisioners run
    DONE = "done"  #: they have all run, the last one proved the image; the machine is about to stop
    FAILED = "failed"  #: one of them failed; `message` says which, and how


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport(Message):
    """How far the instance that becomes an image is: `received/images/<build>/report.json`."""

    state: BuildState
    build: str
    at_ms: int  #: UTC, the instance's clock
    progress: str = ""  #: what is being done, such as `5/9 Blender, side by side`
    message: str = ""
    tail: tuple[str, ...] = ()  #: last lines of the log

    @classmethod
    def _from_dict(cls, raw: Mapping[str, Any]) -> Self:
        values = known_fields(cls, raw)
        values["state"] = BuildState(values["state"])
        values["tail"] = tuple(values.get("tail", ()))
        return cls(**values)


def build_report_key(build: str) -> str:
    return f"received/images/{build}/report.json"


def build_log_key(build: str) -> str:
    """The whole log of a build, put there at its end."""
    return f"received/images/{build}/log.txt"


def build_bundle_key(build: str) -> str:
    """What the builder is to run, where instances may read."""
    return f"{AGENT_PREFIX}images/{build}.tar.gz"
