"""Builds of images that somebody asked for: one small object each in the projects bucket, so that any process goes on with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

import structlog

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
    progress: str = ""  #: what the builder does, in words
    message: str = ""  #: why it failed
    tail: tuple[str, ...] = ()  #: last lines of the builder's log
    image: str = ""


def build_key(build_id: str) -> str:
    return f"{BUILDS_PREFIX}{build_id}.json"


def put_build(objects: ObjectStore, build: ImageBuild) -> None:
    """Keep a build as it is now. Errors: CloudError"""
    raw = asdict(build)
    for name in ("asked_at", "launched_at", "ended_at"):
        raw[name] = raw[name].isoformat() if raw[name] else None
    objects.put(build_key(build.id), json.dumps(raw, sort_keys=True).encode())


def all_builds(objects: ObjectStore) -> Sequence[ImageBuild]:
    """Every build that is known, newest first. Errors: CloudError"""
    found = []
    for listed in objects.list(BUILDS_PREFIX):
        stored = objects.get(listed.key)
        build = _read(stored.body, listed.key) if stored else None
        if build:
            found.append(build)
    return sorted(found, key=lambda build: (build.asked_at, build.id), reverse=True)


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
