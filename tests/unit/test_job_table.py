"""The lifecycle's table: every status can be reached and left, somebody moves each, and nothing rented is forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.domain.instance import RENTED, InstanceStatus
from supervisor.domain.job import (
    ACTIVE,
    AFTER_RELEASE,
    ENDED,
    HOLDING,
    TRANSITIONS,
    IllegalMove,
    JobStatus,
    can_cancel,
    can_delete,
    can_pause,
    can_resume,
    can_retry,
    check_move,
)
from supervisor.lifecycle.diagram import diagram
from supervisor.lifecycle.reconcile import STEPS

README = Path(__file__).parents[2] / "supervisor" / "README.md"


def _reachable(start: JobStatus, *, without: JobStatus | None = None) -> set[JobStatus]:
    found, waiting = {start}, [start]
    while waiting:
        for to in TRANSITIONS[waiting.pop()]:
            if to not in found and to is not without:
                found.add(to)
                waiting.append(to)
    return found


def test_every_status_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(JobStatus)


def test_every_status_is_reachable_from_a_draft() -> None:
    assert _reachable(JobStatus.DRAFT) == set(JobStatus)


@pytest.mark.parametrize("status", sorted(set(JobStatus) - ENDED))
def test_every_unfinished_status_can_finish(status: JobStatus) -> None:
    assert _reachable(status) & ENDED == ENDED


@pytest.mark.parametrize("status", sorted(set(JobStatus) - ENDED))
def test_every_unfinished_status_has_a_mover(status: JobStatus) -> None:
    moved_by_a_person = {JobStatus.DRAFT, JobStatus.PAUSED}
    assert status in STEPS or status in moved_by_a_person


def test_the_supervisor_has_a_step_for_each_status_that_it_acts_on_and_no_other() -> None:
    assert set(STEPS) == ACTIVE


def test_every_move_says_why() -> None:
    assert all(reason for moves in TRANSITIONS.values() for reason in moves.values())


@pytest.mark.parametrize("status", sorted(HOLDING - {JobStatus.RELEASING}))
def test_nothing_rented_is_forgotten(status: JobStatus) -> None:
    """From a status in which something may be rented, every way to an end leads through RELEASING."""
    assert not _reachable(status, without=JobStatus.RELEASING) & ENDED


def test_what_follows_releasing_is_an_end_or_a_pause() -> None:
    assert ENDED | {JobStatus.PAUSED} == AFTER_RELEASE


def test_an_illegal_move_is_a_bug() -> None:
    with pytest.raises(IllegalMove, match="from draft to completed"):
        check_move(JobStatus.DRAFT, JobStatus.COMPLETED)


@pytest.mark.parametrize("status", JobStatus)
def test_a_person_may_ask_only_for_what_the_table_has(status: JobStatus) -> None:
    moves = TRANSITIONS[status]
    if can_pause(status):
        assert JobStatus.RELEASING in moves
    if can_resume(status):
        assert JobStatus.LAUNCHING in moves
    if can_cancel(status):
        assert {JobStatus.CANCELLED, JobStatus.RELEASING} & moves.keys()
    if can_retry(status):
        assert JobStatus.SUBMITTED in moves
    if can_delete(status):
        assert status not in HOLDING


def test_every_instance_status_but_the_last_is_rented() -> None:
    assert set(InstanceStatus) - RENTED == {InstanceStatus.TERMINATED}


def test_the_diagram_in_the_readme_is_the_tables() -> None:
    assert diagram() in README.read_text(), "print it anew: .venv/bin/python -m supervisor.lifecycle.diagram"
