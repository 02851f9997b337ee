"""Builds of images that somebody asked for: one small object each in the projects bucket, so that any process goes on with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

import structlog

from nodeimage.launch import build_bundle_key, build_log_key, build_report_key
from supervisor.cloud.ports import ObjectStore

log = structlog.get_logger(__name__)

BUILDS_PREFIX = "images/"


class BuildStatus(StrEnum):
    """Where a build stands."""

    BUILDING = "building"  #: a builder is wanted, or works
    IMAGING = "imaging"  #: the builder is done and stopped; the image is being made of it
    READY = "ready"  #: the image can be launched; nothing of the builder is left
    FAILING = "failing"  #: it failed, and what was rented for it is being given back
    FAILED = "failed"  #: it failed; `message` says why, `tail` is the end of the builder's log; nothing is left of it


#: Builds that something may be rented for.
UNFINISHED = frozenset({BuildStatus.BUILDING, BuildStatus.IMAGING, BuildStatus.FAILING})


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBuild:
    """One build of an image."""

    id: str
    recipe: str  #: hash of all that the image is made from
    variant: str
    arch: str
    name: str  #: of the image
    blenders: tuple[str, ...]
    status: BuildStatus
    asked_at: datetime
    launched_at: datetime | None = None  #: when a builder was first asked for
    ended_at: datetime | None = None
    progress: str = ""  #: what the builder does, in words; begins with `5/9 ` where the builder has said so
    held_up: str = ""  #: what AWS last answered instead of doing what was asked; empty: it did
    message: str = ""  #: why it failed
    tail: tuple[str, ...] = ()  #: last lines of the builder's log
    image: str = ""


def build_key(build_id: str) -> str:
    return f"{BUILDS_PREFIX}{build_id}.json"


class BuildRecords:
    """The builds in the bucket. Each is read again only when it was written again: a look costs one listing."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._read: dict[str, tuple[str, ImageBuild | None]] = {}  #: key -> ETag, and what stood there

    def all(self) -> Sequence[ImageBuild]:
        """Every build that is known, newest first. Errors: CloudError"""
        known, seen = self._read, {}
        for listed in self._objects.list(BUILDS_PREFIX):
            before = known.get(listed.key)
            if before is not None and before[0] == listed.etag:
                seen[listed.key] = before
            elif stored := self._objects.get(listed.key):
                seen[listed.key] = (stored.etag, _read(stored.body, listed.key))
        self._read = seen
        return sorted((build for _, build in seen.values() if build), key=lambda build: (build.asked_at, build.id), reverse=True)

    def unfinished(self) -> Sequence[ImageBuild]:
        """Those that something may be rented for. Errors: CloudError"""
        return [build for build in self.all() if build.status in UNFINISHED]

    def find(self, build_id: str) -> ImageBuild | None:
        """One build, as it is now. Returns: None if there is none. Errors: CloudError"""
        stored = self._objects.get(build_key(build_id))
        return _read(stored.body, build_key(build_id)) if stored else None

    def put(self, build: ImageBuild) -> None:
        """Keep a build as it is now. Errors: CloudError"""
        raw = asdict(build)
        for name in ("asked_at", "launched_at", "ended_at"):
            raw[name] = raw[name].isoformat() if raw[name] else None
        self._objects.put(build_key(build.id), json.dumps(raw, sort_keys=True).encode())

    def forget(self, builds: Sequence[ImageBuild]) -> None:
        """Remove the records of builds, with what their builders left in the bucket. Repeat: safe. Errors: CloudError"""
        for build in builds:
            self._objects.delete([build_log_key(build.id), build_report_key(build.id), build_bundle_key(build.id)])
            self._objects.delete([build_key(build.id)])


def _read(body: bytes, name: str) -> ImageBuild | None:
    """Returns: None if it was written by another version of the farm"""
    try:
        raw = json.loads(body)
        for key in ("asked_at", "launched_at", "ended_at"):
            raw[key] = datetime.fromisoformat(raw[key]) if raw[key] else None
        raw |= {"status": BuildStatus(raw["status"]), "blenders": tuple(raw["blenders"]), "tail": tuple(raw["tail"])}
        return ImageBuild(**raw)
    except (ValueError, KeyError, TypeError) as error:
        log.warning("record of a build not understood", build=name, error=str(error))
        return None
