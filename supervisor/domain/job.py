"""A job's statuses and moves: the lifecycle as a table. Who makes a move is decided elsewhere; whether it exists, here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class JobStatus(StrEnum):
    """Where a job stands."""

    DRAFT = "draft"  #: a person is still adding files and settings
    SUBMITTED = "submitted"  #: a person wants it rendered; nothing done yet
    STAGING = "staging"  #: its files are being copied into the workspace and verified
    SNAPSHOTTING = "snapshotting"  #: the workspace is being frozen
    LAUNCHING = "launching"  #: instances are asked for; none runs yet
    RENDERING = "rendering"  #: at least one instance has run since the last launch
    RELEASING = "releasing"  #: everything rented is being given back; `then` on the job says what follows
    PAUSED = "paused"  #: nothing renders, nothing is rented by the hour; a person may resume it
    COMPLETED = "completed"  #: every frame is received
    FAILED = "failed"  #: it ended with frames missing; what was received can be downloaded
    CANCELLED = "cancelled"  #: a person ended it; what was received can be downloaded


class IllegalMove(Exception):
    """A move that the table does not have: a bug, not a condition."""


_S = JobStatus

#: Status -> where it can go -> why that edge is taken.
TRANSITIONS: Mapping[JobStatus, Mapping[JobStatus, str]] = MappingProxyType(
    {
        _S.DRAFT: {_S.SUBMITTED: "a person submitted it"},
        _S.SUBMITTED: {
            _S.STAGING: "the supervisor took it up",
            _S.CANCELLED: "cancelled before anything was done",
            _S.FAILED: "it can't be rendered",
        },
        _S.STAGING: {
            _S.SNAPSHOTTING: "every file is in the workspace and verified",
            _S.RELEASING: "cancelled, paused, or staging failed",
        },
        _S.SNAPSHOTTING: {
            _S.LAUNCHING: "the workspace is frozen",
            _S.RELEASING: "cancelled, paused, or the snapshot failed",
        },
        _S.LAUNCHING: {
            _S.RENDERING: "an instance runs",
            _S.STAGING: "the workspace is gone: it is staged again",
            _S.RELEASING: "cancelled, paused, a cap reached, nothing left to render, or no instance could be launched",
        },
        _S.RENDERING: {
            _S.LAUNCHING: "every instance is gone and frames are left",
            _S.RELEASING: "every wanted frame has ended, a cap is reached, or a person paused or cancelled it",
        },
        _S.RELEASING: {
            _S.COMPLETED: "everything is given back and every frame is received",
            _S.FAILED: "everything is given back; frames are missing",
            _S.CANCELLED: "everything is given back after a cancel",
            _S.PAUSED: "everything is given back after a pause",
        },
        _S.PAUSED: {_S.LAUNCHING: "a person resumed it", _S.RELEASING: "a person cancelled it"},
        _S.COMPLETED: {_S.SUBMITTED: "a person asked for frames to be rendered again"},
        _S.FAILED: {_S.SUBMITTED: "a person asked for the missing frames, or for others again"},
        _S.CANCELLED: {_S.SUBMITTED: "a person asked for the missing frames, or for others again"},
    }
)

#: Ends that only a person leaves.
ENDED = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED})
#: Statuses that the supervisor's tick acts on. The others wait for a person.
ACTIVE = frozenset({_S.SUBMITTED, _S.STAGING, _S.SNAPSHOTTING, _S.LAUNCHING, _S.RENDERING, _S.RELEASING})
#: Statuses in which something may be rented or held for the job.
HOLDING = frozenset({_S.STAGING, _S.SNAPSHOTTING, _S.LAUNCHING, _S.RENDERING, _S.RELEASING, _S.PAUSED})
#: What `then` may say in RELEASING.
AFTER_RELEASE = frozenset(TRANSITIONS[_S.RELEASING])


def check_move(seen: JobStatus, to: JobStatus) -> None:
    """Errors: IllegalMove - the table has no such edge."""
    if to not in TRANSITIONS[seen]:
        raise IllegalMove(f"a job does not go from {seen} to {to}")


def can_pause(status: JobStatus) -> bool:
    return status in {_S.STAGING, _S.SNAPSHOTTING, _S.LAUNCHING, _S.RENDERING}


def can_resume(status: JobStatus) -> bool:
    return status is _S.PAUSED


def can_cancel(status: JobStatus) -> bool:
    return status in ACTIVE - {_S.RELEASING} or status is _S.PAUSED


def can_retry(status: JobStatus) -> bool:
    return status in {_S.FAILED, _S.CANCELLED}


def can_render_again(status: JobStatus) -> bool:
    """Say whether frames that have ended may be asked for once more: not of a draft, which has none, nor while everything is given back."""
    return status not in {_S.DRAFT, _S.RELEASING}


def can_delete(status: JobStatus) -> bool:
    return status in ENDED or status is _S.DRAFT
