"""What a workspace on AWS needs next: each case by name, and what holds in every combination of what can be there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from nodeimage.launch import StagingReport, StagingState
from supervisor.cloud.aws import staging_terms as terms
from supervisor.cloud.aws.inventory import FarmInstance, FarmSnapshot, FarmVolume
from supervisor.cloud.aws.staging_plan import best_snapshot, plan_of
from supervisor.cloud.aws.staging_terms import Plan, Seen, Step
from supervisor.cloud.aws.workspace_records import Record
from supervisor.domain.workspace import WorkspaceMode

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
CONTENT = "c0ffee"
S = timedelta(seconds=1)

FRESH = Record(job="job_a", content=CONTENT, mode=WorkspaceMode.SNAPSHOT, bytes=1000, gib=1)
ASKED = replace(FRESH, attempt=1, token="stage-1", instance="i-1", asked_at=NOW - 120 * S)
INSTANCE = FarmInstance(id="i-1", job="job_a", role="stage", request="stage-1", state="running", launched_at=NOW - 120 * S)
VOLUME = FarmVolume(
    id="vol-1",
    job="job_a",
    role="stage",
    request="stage-1",
    state="in-use",
    gib=1,
    created_at=NOW - 120 * S,
    is_blank=True,
    device="/dev/sdf",
    instance="i-1",
)
FREE_VOLUME = replace(VOLUME, state="available", device="", instance="")
SNAPSHOT = FarmSnapshot(id="snap-1", job="job_a", content=CONTENT, state="completed", started_at=NOW - 60 * S, volume="vol-1")
PENDING = replace(SNAPSHOT, state="pending", progress_pct=80)
FAILED_SNAPSHOT = replace(SNAPSHOT, state="error")


def a_report(state: StagingState, *, done: int = 430, message: str = "", instance: str = "i-1", content: str = CONTENT) -> StagingReport:
    return StagingReport(state=state, instance=instance, content=content, at_ms=0, done_bytes=done, total_bytes=1000, message=message)


RUNNING, DONE, FAILED = (a_report(state) for state in (StagingState.RUNNING, StagingState.DONE, StagingState.FAILED))


def seen(
    *things: FarmInstance | FarmVolume | FarmSnapshot, report: StagingReport | None = None, report_age: timedelta = S, words: str = ""
) -> Seen:
    return Seen(
        instances=[each for each in things if isinstance(each, FarmInstance)],
        volumes=[each for each in things if isinstance(each, FarmVolume)],
        snapshots=[each for each in things if isinstance(each, FarmSnapshot)],
        report=report,
        report_at=NOW - report_age if report else None,
        last_words=words,
    )


def plan(record: Record, there: Seen) -> Plan:
    return plan_of(record, there, now=NOW)


def test_files_that_nodes_fetch_are_staged_at_once_and_frozen_when_asked() -> None:
    s3 = replace(FRESH, mode=WorkspaceMode.S3)
    assert (plan(s3, Seen()).is_staged, plan(s3, Seen()).snapshot) == (True, None)
    assert plan(replace(s3, is_frozen=True), Seen()).snapshot == f"s3:{CONTENT}"


def test_new_workspace_asks_for_an_instance() -> None:
    assert plan(FRESH, Seen()).step is Step.LAUNCH


def test_snapshot_of_the_same_files_by_another_job_is_used_at_once() -> None:
    told = plan(FRESH, seen(replace(SNAPSHOT, job="job_b")))
    assert (told.step, told.is_staged, told.snapshot) == (Step.NOTHING, True, "snap-1")


def test_snapshot_that_another_job_is_making_is_waited_for() -> None:
    told = plan(FRESH, seen(replace(PENDING, job="job_b")))
    assert (told.step, told.is_staged, told.snapshot) == (Step.WAIT, True, None)
    assert told.doing == "the snapshot is being made: 80 %"


def test_instance_of_a_job_whose_files_another_has_frozen_meanwhile_is_ended() -> None:
    told = plan(ASKED, seen(INSTANCE, VOLUME, replace(SNAPSHOT, job="job_b", volume="vol-9"), report=RUNNING))
    assert (told.end, told.spare, told.snapshot) == (("i-1",), "", None)


@pytest.mark.parametrize("state", ["pending", "running"])
def test_instance_that_has_not_reported_yet_is_starting(state: str) -> None:
    told = plan(ASKED, seen(replace(INSTANCE, state=state), VOLUME))
    assert (told.step, told.doing) == (Step.WAIT, "the instance that copies its files is starting")


def test_filling_shows_how_far_it_is() -> None:
    told = plan(ASKED, seen(INSTANCE, VOLUME, report=RUNNING))
    assert (told.step, told.doing, told.staged_bytes, told.is_staged) == (Step.WAIT, "the volume is being filled: 43 %", 430, False)


def test_filled_volume_is_frozen_although_its_instance_still_runs() -> None:
    told = plan(ASKED, seen(INSTANCE, VOLUME, report=DONE))
    assert (told.step, told.volume, told.is_staged, told.end) == (Step.FREEZE, "vol-1", True, ())


def test_filled_volume_of_an_instance_that_is_long_forgotten_is_frozen() -> None:
    assert plan(ASKED, seen(FREE_VOLUME, report=DONE)).step is Step.FREEZE


def test_snapshot_asked_for_a_moment_ago_is_not_asked_for_again() -> None:
    asked = replace(ASKED, freeze_asked_at=NOW - 10 * S)
    assert plan(asked, seen(INSTANCE, VOLUME, report=DONE)).step is Step.WAIT
    forgotten = replace(ASKED, freeze_asked_at=NOW - 61 * S)
    assert plan(forgotten, seen(INSTANCE, VOLUME, report=DONE)).step is Step.FREEZE


def test_instance_is_let_end_by_itself_and_ended_when_it_does_not() -> None:
    assert plan(ASKED, seen(INSTANCE, VOLUME, PENDING, report=DONE, report_age=30 * S)).end == ()
    late = plan(ASKED, seen(INSTANCE, VOLUME, PENDING, report=DONE, report_age=90 * S))
    assert (late.end, late.delete, late.spare) == (("i-1",), (), "vol-1")


def test_volume_stays_until_its_snapshot_is_complete() -> None:
    assert plan(ASKED, seen(FREE_VOLUME, PENDING, report=DONE)).delete == ()
    assert plan(ASKED, seen(FREE_VOLUME, SNAPSHOT, report=DONE)).delete == ("vol-1",)


def test_snapshot_is_shown_when_its_volume_is_gone() -> None:
    assert plan(ASKED, seen(FREE_VOLUME, SNAPSHOT)).snapshot is None
    assert plan(ASKED, seen(replace(FREE_VOLUME, state="deleting"), SNAPSHOT)).snapshot == "snap-1"
    assert plan(ASKED, seen(SNAPSHOT)).snapshot == "snap-1"


def test_snapshot_does_not_wait_for_ever_for_a_volume_that_stays() -> None:
    told = plan(ASKED, seen(VOLUME, replace(SNAPSHOT, completed_at=NOW - 200 * S)))
    assert (told.snapshot, told.step) == ("snap-1", Step.WAIT)


def test_of_several_snapshots_the_first_that_is_complete_is_used() -> None:
    older = replace(PENDING, id="snap-0", started_at=NOW - 90 * S)
    newer = replace(SNAPSHOT, id="snap-2", started_at=NOW - 30 * S)
    assert plan(ASKED, seen(older, newer, SNAPSHOT, FAILED_SNAPSHOT)).snapshot == "snap-1"


def test_failed_snapshot_is_made_again_and_then_given_up() -> None:
    once = seen(FREE_VOLUME, FAILED_SNAPSHOT, report=DONE)
    assert plan(replace(ASKED, freeze_asked_at=NOW - 5 * S), once).step is Step.WAIT
    assert plan(replace(ASKED, freeze_asked_at=NOW - 61 * S), once).step is Step.FREEZE
    twice = plan(ASKED, seen(FREE_VOLUME, FAILED_SNAPSHOT, replace(FAILED_SNAPSHOT, id="snap-2"), report=DONE))
    assert (twice.step, twice.delete) == (Step.GIVE_UP, ("vol-1",))
    assert "2 snapshots" in twice.problem


def test_failed_staging_is_a_problem_in_the_words_of_the_instance() -> None:
    told = plan(ASKED, seen(INSTANCE, VOLUME, report=replace(FAILED, message="“a.png” does not match its checksum; upload it again")))
    assert (told.step, told.end) == (Step.GIVE_UP, ("i-1",))
    assert told.problem == "“a.png” does not match its checksum; upload it again"


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (
            seen(replace(INSTANCE, state="terminated", note="Server.InternalError: gone"), FREE_VOLUME, report=RUNNING),
            "Server.InternalError",
        ),
        (seen(replace(INSTANCE, state="terminated", note="by itself"), FREE_VOLUME, words="the agent can't be unpacked"), "be unpacked"),
        (seen(replace(INSTANCE, state="stopped"), VOLUME), "it gave no reason"),
        (seen(INSTANCE, VOLUME, report=replace(RUNNING, message="fetching b.png"), report_age=301 * S), "fetching b.png"),
        (seen(replace(INSTANCE, state="terminated"), report=DONE, report_age=61 * S), "the volume that it filled is gone"),
    ],
    ids=["died", "gave up", "stopped", "silent", "volume lost"],
)
def test_instance_that_is_lost_is_replaced_and_the_last_one_a_problem(there: Seen, why: str) -> None:
    again = plan(ASKED, there)
    assert again.step is Step.LAUNCH
    assert why in again.lost
    last = plan(replace(ASKED, attempt=terms.MOST_ATTEMPTS), there)
    assert last.step is Step.GIVE_UP
    assert why in last.problem
    assert "Submit it again" in last.problem


def test_filled_volume_that_is_not_listed_yet_is_waited_for() -> None:
    there = seen(replace(INSTANCE, state="terminated"), report=DONE, report_age=59 * S)
    told = plan(ASKED, there)
    assert (told.step, told.is_staged, told.lost) == (Step.WAIT, False, "")


def test_instance_that_never_reports_is_lost() -> None:
    long_ago = replace(ASKED, asked_at=NOW - 601 * S)
    assert "did not report within 10 minutes" in plan(long_ago, seen(INSTANCE, VOLUME)).lost


def test_instance_that_is_not_listed_is_waited_for_then_asked_for_again_then_lost() -> None:
    def after(seconds: int, instance: str = "i-1") -> Step:
        return plan(replace(ASKED, instance=instance, asked_at=NOW - seconds * S), Seen()).step

    assert [after(30), after(61), after(601)] == [Step.WAIT, Step.ASK_AGAIN, Step.LAUNCH]
    assert [after(2, ""), after(6, "")] == [Step.WAIT, Step.ASK_AGAIN]


def test_instance_that_reports_is_there_whatever_is_listed() -> None:
    assert plan(replace(ASKED, asked_at=NOW - 3600 * S), seen(VOLUME, report=RUNNING)).doing == "the volume is being filled: 43 %"


@pytest.mark.parametrize(
    "report", [replace(DONE, content="other files"), replace(DONE, instance="i-0")], ids=["of other files", "of an earlier one"]
)
def test_report_that_is_not_about_this_is_not_believed(report: StagingReport) -> None:
    assert plan(ASKED, seen(INSTANCE, VOLUME, report=report)).step is Step.WAIT


def test_instance_that_could_not_read_the_list_of_files_is_believed_too() -> None:
    assert plan(ASKED, seen(INSTANCE, VOLUME, report=replace(RUNNING, content="", done_bytes=0, total_bytes=0))).doing.endswith(": 0 %")
    refused = replace(FAILED, content="", message="The store refuses the list of the job's files to the node")
    assert plan(ASKED, seen(INSTANCE, VOLUME, report=refused)).problem == refused.message


def test_what_earlier_attempts_left_behind_is_given_back() -> None:
    before = replace(INSTANCE, id="i-0", request="stage-0")
    left = replace(FREE_VOLUME, id="vol-0", request="stage-0")
    told = plan(replace(ASKED, attempt=2), seen(before, left, INSTANCE, VOLUME, report=RUNNING))
    assert (told.step, told.end, told.delete) == (Step.WAIT, ("i-0",), ("vol-0",))


def test_of_two_instances_for_one_request_the_one_that_was_told_of_stays_with_its_volume() -> None:
    twin, its_volume = replace(INSTANCE, id="i-0"), replace(VOLUME, id="vol-0", instance="i-0")
    told = plan(ASKED, seen(twin, its_volume, INSTANCE, VOLUME, report=DONE))
    assert (told.volume, told.end, told.delete) == ("vol-1", ("i-0",), ())


def test_problem_stays_until_it_is_staged_anew_and_nothing_stays_rented() -> None:
    told = plan(replace(ASKED, problem="no"), seen(INSTANCE, FREE_VOLUME))
    assert (told.step, told.problem, told.end, told.delete) == (Step.NOTHING, "no", ("i-1",), ("vol-1",))


INSTANCES = [
    (),
    *[(replace(INSTANCE, state=state),) for state in ("pending", "running", "shutting-down", "stopped", "terminated")],
    (replace(INSTANCE, id="i-0", request="stage-0"),),
    (INSTANCE, replace(INSTANCE, id="i-0", request="stage-0")),
]
VOLUMES = [
    (),
    (VOLUME,),
    (FREE_VOLUME,),
    (replace(FREE_VOLUME, state="deleting"),),
    (replace(FREE_VOLUME, id="vol-0", request="stage-0"),),
]
SNAPSHOTS = [
    (),
    (SNAPSHOT,),
    (PENDING,),
    (FAILED_SNAPSHOT,),
    (FAILED_SNAPSHOT, replace(FAILED_SNAPSHOT, id="snap-2")),
    (replace(PENDING, job="job_b", volume="vol-9"),),
]
REPORTS = [
    (None, S),
    *product((RUNNING, DONE, FAILED), (S, 400 * S)),
    (replace(DONE, content="other"), S),
    (replace(RUNNING, instance="i-0"), S),
]
RECORDS = [
    FRESH,
    *[
        replace(ASKED, attempt=attempt, instance=instance, asked_at=NOW - age * S, freeze_asked_at=frozen)
        for attempt, instance, age, frozen in product((1, 3), ("", "i-1"), (1, 30, 120, 700), (None, NOW - 5 * S))
    ],
]


#: Steps of what the farm does itself: test_aws_own_plan has them.
OF_THE_FARM = {Step.ATTACH, Step.FILL, Step.DETACH}


def everything() -> Iterator[tuple[Record, Seen]]:
    for record, instances, volumes, snapshots, (report, age) in product(RECORDS, INSTANCES, VOLUMES, SNAPSHOTS, REPORTS):
        yield record, seen(*instances, *volumes, *snapshots, report=report, report_age=age)


def wrong_with(record: Record, there: Seen, told: Plan) -> Iterator[str]:
    """What must never be, whatever is there."""
    usable = best_snapshot(there.snapshots)
    if told.step in {Step.LAUNCH, Step.ASK_AGAIN, Step.FREEZE, Step.GIVE_UP} and usable:
        yield "works although there is a snapshot"
    if told.snapshot and (usable is None or usable.state != "completed" or not told.is_staged):
        yield "shows a snapshot that can't be used"
    if told.problem and (told.is_staged or told.snapshot):
        yield "shows a problem and a workspace"
    if told.step is Step.LAUNCH and record.attempt >= terms.MOST_ATTEMPTS:
        yield "goes on for ever"
    if told.step is not Step.NOTHING and not told.doing and not told.problem:
        yield "does not say what it does"
    if told.step is Step.WAIT and not _is_on_its_way(record, there, told):
        yield "waits for nothing"
    yield from _wrongly_kept_or_given_back(there, told)


def _wrongly_kept_or_given_back(there: Seen, told: Plan) -> Iterator[str]:
    alive = {each.id for each in there.instances if not each.is_ending}
    free = {each.id for each in there.volumes if each.is_free}
    sources = {each.volume for each in there.snapshots if each.state == "pending"}
    if told.step in {Step.LAUNCH, Step.GIVE_UP} and (set(told.end) != alive or set(told.delete) != free):
        yield "leaves something rented behind"
    if set(told.end) - alive or set(told.delete) - free:
        yield "gives back what is not there to be given back"
    if set(told.delete) & (sources | {told.spare, told.volume}):
        yield "deletes the volume that is being frozen"
    if told.step is Step.FREEZE and told.volume not in {each.id for each in there.volumes}:
        yield "freezes a volume that is not there"


def _is_on_its_way(record: Record, there: Seen, told: Plan) -> bool:
    """Whether something will happen without the farm: an instance works, a snapshot is made, a volume comes free, an answer is due."""
    works = any(each.request == record.token and not each.has_ended for each in there.instances)
    reports = there.report is not None and terms.report_of(record, there) is not None
    is_answer_due = bool(record.asked_at and NOW - record.asked_at < terms.SHOWN_WITHIN)
    is_frozen_soon = bool(record.freeze_asked_at and NOW - record.freeze_asked_at < terms.SHOWN_WITHIN)
    return works or reports or is_answer_due or is_frozen_soon or bool(there.snapshots) or bool(told.delete)


def test_every_combination_is_decided_within_the_rules() -> None:
    wrong = [(why, record, there) for record, there in everything() for why in wrong_with(record, there, plan(record, there))]
    assert wrong[:3] == []
    assert {plan(record, there).step for record, there in everything()} == set(Step) - OF_THE_FARM
