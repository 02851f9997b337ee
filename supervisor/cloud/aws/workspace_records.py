"""What the farm has decided about each job's workspace: one small object a job, in the farm's half of the bucket.

What a workspace *is* stands on AWS; what is written here is what AWS can't tell: the mode that was chosen, and what was asked for last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from supervisor.cloud.ports import ObjectStore
from supervisor.domain.workspace import WorkspaceMode

log = structlog.get_logger(__name__)

#: In the projects bucket: nodes have no right to it.
PREFIX = "workspaces/"
#: Another process (`kiln sweep`) may delete a record: what is remembered of the listing is believed for so long.
_BELIEVED = timedelta(seconds=30)
_TIMES = ("asked_at", "freeze_asked_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A job's workspace, as far as the farm decides it."""

    job: str
    content: str  #: hash of its files
    mode: WorkspaceMode  #: s3 | snapshot
    bytes: int  #: of its files
    gib: int  #: of the volume for them
    is_frozen: bool = False  #: s3: `snapshot` was asked for
    attempt: int = 0  #: staging instances so far, the present one included; the farm's own try is one too
    token: str = ""  #: request id of the present one; empty: none was asked for
    instance: str = ""  #: its id, once EC2 has told it
    host: str = ""  #: the farm's own instance, that is to fill the volume in the place of a staging instance
    volume: str = ""  #: id of the volume for that, once EC2 has told it
    asked_at: datetime | None = None  #: when the instance, or that volume, was asked for
    freeze_asked_at: datetime | None = None  #: when the snapshot was asked for
    problem: str = ""  #: why it came to nothing


def record_key(job: str) -> str:
    return f"{PREFIX}{job}.json"


class Records:
    """The records of all jobs, remembered. One process writes them: the one that serves the farm."""

    def __init__(self, objects: ObjectStore, *, clock: Callable[[], datetime]) -> None:
        self._objects = objects
        self._clock = clock
        self._known: dict[str, tuple[str, Record]] = {}  #: job -> etag, record
        self._listed_at: datetime | None = None

    def find(self, job: str) -> Record | None:
        """Returns: None if the job has none. Errors: as `ObjectStore.get`"""
        return self.all().get(job)

    def all(self) -> Mapping[str, Record]:
        """The records by job."""
        if self._listed_at is None or self._clock() - self._listed_at >= _BELIEVED:
            self._read()
        return {job: record for job, (_, record) in self._known.items()}

    def save(self, record: Record) -> None:
        """Write a record down. Repeat: safe"""
        self._objects.put(record_key(record.job), _to_bytes(record))
        self._known[record.job] = ("", record)

    def forget(self, job: str) -> None:
        """Make there be none. Repeat: safe"""
        self._objects.delete([record_key(job)])
        self._known.pop(job, None)

    def refresh(self) -> None:
        """Read what other processes changed."""
        self._read()

    def _read(self) -> None:
        known: dict[str, tuple[str, Record]] = {}
        for listed in self._objects.list(PREFIX):
            job = listed.key.removeprefix(PREFIX).removesuffix(".json")
            kept = self._known.get(job)
            if kept and kept[0] == listed.etag:
                known[job] = kept
            elif there := self._objects.get(listed.key):
                known |= _read_one(job, there.etag, there.body)
        self._known, self._listed_at = known, self._clock()


def _read_one(job: str, etag: str, body: bytes) -> dict[str, tuple[str, Record]]:
    """Returns: nothing, where it can't be read: the workspace is then made anew"""
    try:
        return {job: (etag, _from_bytes(body))}
    except (ValueError, TypeError, KeyError) as error:
        log.warning("record of a workspace not readable", job=job, error=repr(error))
        return {}


def _to_bytes(record: Record) -> bytes:
    return json.dumps(asdict(record), default=datetime.isoformat, sort_keys=True).encode()


def _from_bytes(body: bytes) -> Record:
    raw: dict[str, Any] = json.loads(body)
    values = {name: raw[name] for name in Record.__dataclass_fields__ if name in raw}
    values["mode"] = WorkspaceMode(values["mode"])
    for name in _TIMES:
        values[name] = datetime.fromisoformat(values[name]) if values.get(name) else None
    return Record(**values)
