"""What a volume that the farm fills on its own instance needs next: each case by name, and what holds whatever is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from nodeimage.launch import StagingReport, StagingState
from supervisor.cloud.aws.inventory import FarmInstance, FarmSnapshot, FarmVolume
from supervisor.cloud.aws.staging_plan import plan_of
from supervisor.cloud.aws.staging_terms import MOST_ATTEMPTS, Filling, Plan, Seen, Step
from supervisor.cloud.aws.workspace_records import Record
from supervisor.domain.workspace import WorkspaceMode

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
CONTENT, HERE = "c0ffee", "i-here"
S = timedelta(seconds=1)

ASKED = Record(
    job="job_a",
    content=CONTENT,
    mode=WorkspaceMode.SNAPSHOT,
    bytes=1000,
    gib=1,
    attempt=1,
    token="stage-1",
    host=HERE,
    volume="vol-1",
    asked_at=NOW - 90 * S,
)
FREE = FarmVolume(
    id="vol-1",
    job="job_a",
    role="stage",
    request="stage-1",
    state="available",
    gib=1,
    created_at=NOW - 90 * S,
    is_blank=True,
    host=HERE,
)
MAKING = replace(FREE, state="creating")
ATTACHED = replace(FREE, state="in-use", device="/dev/sdf", instance=HERE, attachment="attached")
RUNS, DID, FAILED_HERE = Filling(), Filling(status=0), Filling(status=1, last_words="no disk of this machine is it")
SNAPSHOT = FarmSnapshot(id="snap-1", job="job_a", content=CONTENT, state="completed", started_at=NOW - 60 * S, volume="vol-1")


def a_report(state: StagingState, *, volume: str = "vol-1", message: str = "") -> StagingReport:
    return StagingReport(state=state, instance=volume, content=CONTENT, at_ms=0, done_bytes=430, total_bytes=1000, message=message)


RUNNING, DONE, FAILED = (a_report(state) for state in (StagingState.RUNNING, StagingState.DONE, StagingState.FAILED))


def seen(
    *volumes: FarmVolume,
    filling: Filling | None = None,
    report: StagingReport | None = None,
    age: timedelta = S,
    here: str = HERE,
    snapshots: tuple[FarmSnapshot, ...] = (),
    instances: tuple[FarmInstance, ...] = (),
) -> Seen:
    return Seen(
        volumes=volumes,
        filling=filling,
        report=report,
        report_at=NOW - age if report else None,
        here=here,
        snapshots=snapshots,
        instances=instances,
    )


def plan(there: Seen, record: Record = ASKED) -> Plan:
    return plan_of(record, there, now=NOW)


def test_volume_is_attached_filled_detached_and_frozen_one_after_the_other() -> None:
    way = [
        seen(MAKING),
        seen(FREE),
        seen(replace(ATTACHED, attachment="attaching")),
        seen(ATTACHED),
        seen(ATTACHED, filling=RUNS),
        seen(ATTACHED, filling=RUNS, report=RUNNING),
        seen(ATTACHED, filling=DID, report=DONE),
        seen(replace(ATTACHED, attachment="detaching"), report=DONE),
        seen(FREE, report=DONE),
    ]
    steps = [plan(there).step for there in way]
    assert steps == [Step.WAIT, Step.ATTACH, Step.WAIT, Step.FILL, Step.WAIT, Step.WAIT, Step.DETACH, Step.WAIT, Step.FREEZE]
    assert [plan(there).doing for there in way] == [
        "the volume for its files is being made",
        "the volume for its files is being attached",
        "the volume for its files is being attached",
        "the volume for its files is being made ready",
        "the volume for its files is being made ready",
        "the volume is being filled: 43 %",
        "the filled volume is being detached",
        "the filled volume is being detached",
        "the snapshot is being made",
    ]
    assert [plan(there).is_staged for there in way] == [False] * 8 + [True]
    assert not any(plan(there).delete or plan(there).let_go for there in way)


def test_farm_that_was_started_again_goes_on_with_the_volume_that_is_attached() -> None:
    told = plan(seen(ATTACHED, report=RUNNING, age=0 * S))
    assert (told.step, told.volume) == (Step.FILL, "vol-1")


def test_process_that_ended_well_is_believed_to_have_reported_what_is_not_read_yet() -> None:
    assert plan(seen(ATTACHED, filling=DID, report=RUNNING)).step is Step.WAIT


def test_volume_that_is_not_listed_is_waited_for_then_asked_for_again_then_lost() -> None:
    def after(seconds: int, volume: str = "vol-1") -> Step:
        return plan(seen(), replace(ASKED, volume=volume, asked_at=NOW - seconds * S)).step

    assert [after(30), after(61), after(601)] == [Step.WAIT, Step.ASK_AGAIN, Step.LAUNCH]
    assert [after(2, ""), after(6, "")] == [Step.WAIT, Step.ASK_AGAIN]


def test_report_of_a_volume_that_was_filled_before_is_not_believed() -> None:
    assert plan(seen(FREE, report=a_report(StagingState.DONE, volume="vol-0"))).step is Step.ATTACH


LOSSES = {
    "ended": (seen(ATTACHED, filling=FAILED_HERE), ASKED, "i-here could not fill vol-1: no disk of this machine is it"),
    "killed": (seen(ATTACHED, filling=Filling(status=-9), report=RUNNING), ASKED, "it gave no reason"),
    "silent": (seen(ATTACHED, filling=RUNS, report=RUNNING, age=301 * S), ASKED, "has not gone on for 5 minutes"),
    "never begun": (seen(MAKING), replace(ASKED, asked_at=NOW - 601 * S), "did not begin within 10 minutes"),
    "moved": (seen(ATTACHED, here="i-other"), ASKED, "fills no volumes on i-here any more"),
    "may not any more": (seen(FREE, here=""), ASKED, "fills no volumes on i-here any more"),
    "faulty": (seen(replace(FREE, state="error")), ASKED, "has an error"),
    "gone": (seen(report=DONE), ASKED, "the volume that was filled is gone"),
    "stuck": (seen(ATTACHED, filling=DID, report=DONE, age=301 * S), ASKED, "could not be taken from i-here"),
}


@pytest.mark.parametrize(("there", "record", "why"), LOSSES.values(), ids=LOSSES.keys())
def test_what_the_farm_can_not_fill_is_left_to_a_staging_instance_and_the_volume_given_back(there: Seen, record: Record, why: str) -> None:
    told = plan(there, record)
    assert told.step is Step.LAUNCH
    assert why in told.lost
    assert told.let_go == tuple(each.id for each in there.volumes if each.is_at_host)
    assert told.delete == tuple(each.id for each in there.volumes if each.is_free)


def test_files_that_are_not_what_was_uploaded_are_a_problem_at_once() -> None:
    told = plan(seen(ATTACHED, filling=DID, report=replace(FAILED, message="“a.png” does not match its checksum; upload it again")))
    assert (told.step, told.problem) == (Step.GIVE_UP, "“a.png” does not match its checksum; upload it again")
    assert told.let_go == ("vol-1",)


def test_volume_that_was_left_attached_by_an_attempt_before_is_let_go_and_then_deleted() -> None:
    by_instance = replace(ASKED, attempt=2, token="stage-2", host="", volume="")
    assert plan(seen(ATTACHED), by_instance).let_go == ("vol-1",)
    assert plan(seen(FREE), by_instance).delete == ("vol-1",)


def test_volume_of_files_that_another_job_has_frozen_meanwhile_is_let_go() -> None:
    told = plan(seen(ATTACHED, filling=RUNS, report=RUNNING, snapshots=(replace(SNAPSHOT, job="job_b", volume="vol-9"),)))
    assert (told.let_go, told.snapshot) == (("vol-1",), None)
    gone = plan(seen(snapshots=(replace(SNAPSHOT, job="job_b", volume="vol-9"),)))
    assert gone.snapshot == "snap-1"


VOLUMES = [
    (),
    *[(each,) for each in (MAKING, FREE, ATTACHED, replace(FREE, state="error"), replace(FREE, state="deleting"))],
    *[(replace(ATTACHED, attachment=word),) for word in ("attaching", "detaching", "busy")],
    (ATTACHED, replace(ATTACHED, id="vol-0", request="stage-0", device="/dev/sdg")),
    (replace(FREE, id="vol-0", request="stage-0"),),
    (replace(ATTACHED, instance="i-other"),),
]
FILLINGS = (None, RUNS, DID, FAILED_HERE)
REPORTS = [(None, S), *product((RUNNING, DONE, FAILED), (S, 400 * S)), (a_report(StagingState.DONE, volume="vol-0"), S)]
SNAPSHOTS: list[tuple[FarmSnapshot, ...]] = [(), (SNAPSHOT,), (replace(SNAPSHOT, state="pending"),), (replace(SNAPSHOT, state="error"),)]
RECORDS = [
    replace(ASKED, attempt=attempt, volume=volume, asked_at=NOW - age * S)
    for attempt, volume, age in product((1, MOST_ATTEMPTS), ("", "vol-1"), (1, 30, 90, 700))
]


def everything() -> Iterator[tuple[Record, Seen]]:
    for record, volumes, filling, (report, age), here, snapshots in product(RECORDS, VOLUMES, FILLINGS, REPORTS, (HERE, ""), SNAPSHOTS):
        yield record, seen(*volumes, filling=filling, report=report, age=age, here=here, snapshots=snapshots)


def wrong_with(there: Seen, told: Plan) -> Iterator[str]:
    """What must never be, whatever is there."""
    volumes = {each.id: each for each in there.volumes}
    if told.step in {Step.ATTACH, Step.FREEZE} and volumes[told.volume].instance:
        yield "works with a volume that is attached"
    if told.step in {Step.FILL, Step.DETACH} and not volumes[told.volume].instance:
        yield "works with a volume that is not attached"
    if told.step is Step.FILL and there.here != HERE:
        yield "fills a volume that is elsewhere"
    if told.step is Step.FREEZE and (there.report is None or there.report.state is not StagingState.DONE):
        yield "freezes what was not filled"
    if told.step is not Step.NOTHING and not told.doing and not told.problem:
        yield "does not say what it does"
    yield from wrongly_given_back(there, told)


def wrongly_given_back(there: Seen, told: Plan) -> Iterator[str]:
    held = {each.id for each in there.volumes if each.is_at_host}
    free = {each.id for each in there.volumes if each.is_free}
    if told.step in {Step.LAUNCH, Step.GIVE_UP} and (set(told.let_go) != held or set(told.delete) != free):
        yield "leaves a volume behind"
    if set(told.let_go) - held or set(told.delete) - free:
        yield "gives back what can't be given back"
    if told.volume in {*told.let_go, *told.delete}:
        yield "gives back what it works with"


def test_every_combination_is_decided_within_the_rules() -> None:
    wrong = [(why, record, there) for record, there in everything() for why in wrong_with(there, plan(there, record))]
    assert wrong[:3] == []
    steps = {plan(there, record).step for record, there in everything()}
    assert steps == set(Step)
