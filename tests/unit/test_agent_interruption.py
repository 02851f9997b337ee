"""The agent when the cloud takes its machine back, and what comes before Blender."""

from __future__ import annotations

import threading
import time

import pytest

from nodeimage.agent import loop
from nodeimage.agent.ending import EndKind
from nodeimage.agent.interruption import MARGIN_S, Interruption
from nodeimage.agent.ports import Silent
from nodeimage.agent.surroundings import CannotPrepare, Watcher
from nodeimage.protocol import Action, Claim, NodeState, Outcome, claim_key, log_key
from tests.waiting import AT_ONCE_S

from .agent_fakes import JOB, Rig

# Is there time?


def interruption(in_s: float, *renders_s: float) -> Interruption:
    told = Interruption(lambda: 1_000_000 + int(in_s * 1000), now_ms=lambda: 1_000_000)
    for seconds in renders_s:
        told.rendered(seconds)
    assert told.is_announced()
    return told


def test_nobody_said_anything_is_no_interruption() -> None:
    assert not Interruption(lambda: 0, now_ms=lambda: 1).is_announced()


def test_notice_that_is_withdrawn_stays_one() -> None:
    said = [5000]
    told = Interruption(lambda: said[0], now_ms=lambda: 0)
    assert told.is_announced()
    said[0] = 0
    assert told.is_announced()
    assert told.at_ms == 5000


@pytest.mark.parametrize(
    ("elapsed_s", "has_time"),
    [(70.0, True), (20.0, True), (4.0, False), (500.0, True)],
    ids=["nearly done", "half done", "just begun", "slower than usual"],
)
def test_frame_goes_on_if_a_usual_one_would_be_delivered_before_the_deadline(elapsed_s: float, has_time: bool) -> None:
    told = interruption(80.0 + MARGIN_S, 90.0, 80.0, 85.0)
    assert told.leaves_time_for(elapsed_s, is_saved=False, delivery_s=2.0) is has_time


def test_frame_without_time_for_its_delivery_is_given_up() -> None:
    told = interruption(60.0 + MARGIN_S, 50.0)
    assert told.leaves_time_for(0.0, is_saved=False, delivery_s=9.0)
    assert not told.leaves_time_for(0.0, is_saved=False, delivery_s=11.0)


def test_first_frame_of_a_node_is_expected_to_take_as_long_again_as_it_has() -> None:
    told = interruption(115.0 + MARGIN_S)
    assert told.leaves_time_for(100.0, is_saved=False, delivery_s=5.0)
    assert not told.leaves_time_for(3600.0, is_saved=False, delivery_s=5.0)


def test_frame_that_is_written_needs_time_for_its_delivery_only() -> None:
    told = interruption(10.0 + MARGIN_S)
    assert told.leaves_time_for(3600.0, is_saved=True, delivery_s=9.0)
    assert not told.leaves_time_for(3600.0, is_saved=True, delivery_s=11.0)


# The agent at work


def test_interrupted_node_gives_back_the_frame_that_it_has_no_time_for_with_its_log(rig: Rig) -> None:
    rig.plan(frames={"2": "hang"})
    rig.put_order(1, 2, 3)
    with rig.running(idle_s=30.0):
        rig.wait_for_beat(lambda beat: beat.frame == 2 and "Fra:2" in str(beat.log_tail), "the second frame rendering, and its log")
        rig.wait_for(Outcome.FINISHED)
        rig.announce_interruption(in_s=MARGIN_S + 0.3)
        given_back = rig.wait_for(Outcome.INTERRUPTED)
        beat = rig.wait_for_beat(lambda beat: beat.state is NodeState.IDLE and beat.interruption_at_ms > 0, "a node that waits")
    assert given_back.frame == 2
    assert "takes the instance back" in given_back.message
    assert rig.claim_of(2) is None
    assert b"Fra:2" in rig.store.body(log_key(JOB, 2, 1))
    assert rig.frames(Outcome.FINISHED) == [1]
    assert beat.interruption_at_ms == rig.interruption_at_ms


def test_blender_that_tells_of_progress_all_the_time_does_not_keep_its_node_from_hearing_the_cloud(rig: Rig) -> None:
    rig.plan(frames={"1": "chatter"})
    rig.put_order(1)
    with rig.running(idle_s=30.0):
        rig.wait_for_beat(lambda beat: beat.phase == "Rendering", "a frame rendering")
        rig.announce_interruption(in_s=MARGIN_S + 0.3)
        assert rig.wait_for(Outcome.INTERRUPTED).frame == 1
    assert rig.claim_of(1) is None


def test_interrupted_node_finishes_the_frame_that_it_has_time_for_and_takes_no_other(rig: Rig) -> None:
    rig.plan(frames={"1": "wait"})
    rig.put_order(1, 2, 3)
    with rig.running(idle_s=30.0):
        rig.wait_for_beat(lambda beat: beat.frame == 1, "a frame rendering")
        rig.announce_interruption(in_s=100.0)
        rig.wait_for_beat(lambda beat: beat.interruption_at_ms > 0 and beat.state is NodeState.RENDERING, "word of the interruption")
        rig.go_on()
        rig.wait_for(Outcome.FINISHED)
        rig.wait_for_beat(lambda beat: beat.state is NodeState.IDLE, "a node that waits")
    assert rig.frames(Outcome.FINISHED) == [1]
    assert rig.frames(Outcome.INTERRUPTED) == []
    assert rig.claim_of(2) is None


def test_frame_already_claimed_behind_the_current_one_is_given_back_if_it_does_not_fit(rig: Rig) -> None:
    rig.plan(after_save={"1": "wait"}, frames={"2": "hang"})
    rig.put_order(1, 2)
    with rig.running(idle_s=30.0):
        rig.store.wait_until(lambda: rig.claim_of(2) is not None, "the next frame's claim")
        rig.announce_interruption(in_s=MARGIN_S + 5.5)  # more than the first delivery is expected to take
        rig.go_on()
        rig.wait_for(Outcome.FINISHED)
        given_back = rig.wait_for(Outcome.INTERRUPTED)
    assert given_back.frame == 2
    assert rig.claim_of(2) is None


def test_node_without_a_frame_only_waits_when_it_is_interrupted(rig: Rig) -> None:
    rig.put_order()
    rig.announce_interruption(in_s=100.0)
    with rig.running(idle_s=0.01):
        rig.wait_for_beat(lambda beat: beat.state is NodeState.IDLE and beat.interruption_at_ms > 0, "a node that waits")
        told = rig.beat().beat
        rig.wait_for_beat(lambda beat: beat.beat > told + 2, "more heartbeats")
    assert rig.journal() == []


def test_interrupted_node_says_of_what_it_could_not_deliver_in_time_that_it_is_not(rig: Rig) -> None:
    rig.put_order(1)
    rig.store.fail(Silent("no answer"), keys="/frames/")
    with rig.running(idle_s=30.0):
        rig.wait_for_beat(lambda beat: beat.uploading == (1,), "a frame that waits for delivery")
        rig.announce_interruption(in_s=MARGIN_S + 0.2)
        given_back = rig.wait_for(Outcome.INTERRUPTED)
    assert "not delivered" in given_back.message
    assert rig.claim_of(1) is None


def test_claim_is_given_back_as_soon_as_the_store_answers_again(rig: Rig) -> None:
    rig.plan(frames={"1": "hang"})
    rig.put_order(1)
    with rig.running(idle_s=30.0):
        rig.wait_for_beat(lambda beat: beat.frame == 1, "a frame rendering")
        rig.store.fail(Silent("no answer"), keys="/journal/")
        rig.announce_interruption(in_s=MARGIN_S + 6.0)
        rig.wait_for_beat(lambda beat: beat.state is NodeState.DELIVERING, "a node that gives back")
        rig.store.recover()
        assert rig.wait_for(Outcome.INTERRUPTED).frame == 1
    assert rig.claim_of(1) is None


def test_node_that_is_not_taken_in_time_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "TAKEN_LATE_S", -MARGIN_S)
    rig.put_order()
    rig.announce_interruption(in_s=0.2)
    ending = rig.agent(idle_s=30.0).run()
    assert ending.kind is EndKind.INTERRUPTED
    assert rig.beat().state is NodeState.GONE
    assert rig.beat().interruption_at_ms == rig.interruption_at_ms


def test_waiting_to_be_taken_the_node_still_ends_when_it_is_told_to(rig: Rig) -> None:
    rig.put_order()
    rig.announce_interruption(in_s=100.0)
    with rig.running() as stop:
        rig.wait_for_beat(lambda beat: beat.state is NodeState.IDLE and beat.interruption_at_ms > 0, "a node that waits")
        told_at = time.monotonic()
        stop.set()
    assert time.monotonic() - told_at < AT_ONCE_S


# What comes before Blender


def test_nothing_is_claimed_and_no_blender_started_before_the_preparation_is_over(rig: Rig) -> None:
    ready = threading.Event()

    def prepare(watcher: Watcher) -> None:
        watcher.tell("fetching files: 43 %")
        while not ready.wait(0.01):
            watcher.look()

    rig.prepare = prepare
    rig.put_order(1)
    with rig.running(idle_s=30.0):
        rig.wait_for_beat(lambda beat: beat.phase == "fetching files: 43 %" and beat.state is NodeState.STARTING, "word of the preparation")
        assert rig.claim_of(1) is None
        assert not list(rig.folder.glob("node_a/blender-*.log"))
        ready.set()
        rig.wait_for(Outcome.FINISHED)
        rig.wait_for_beat(lambda beat: beat.phase != "fetching files: 43 %", "another phase")


def test_node_that_can_not_be_prepared_ends_with_the_problem_and_is_not_gone_in_good_order(rig: Rig) -> None:
    def prepare(watcher: Watcher) -> None:
        raise CannotPrepare("“a.blend” is no longer in the object store; upload it again.")

    rig.prepare = prepare
    rig.put_order(1)
    ending = rig.agent().run()
    assert ending.kind is EndKind.UNFIT
    assert rig.beat().state is NodeState.STARTING
    assert "upload it again" in rig.beat().problem
    assert rig.claim_of(1) is None


@pytest.mark.parametrize(("action", "kind"), [(Action.STOP, EndKind.STOPPED), (Action.DRAIN, EndKind.DRAINED)])
def test_preparation_ends_when_the_farm_wants_no_frames_any_more(rig: Rig, action: Action, kind: EndKind) -> None:
    def prepare(watcher: Watcher) -> None:
        while True:
            watcher.look()
            time.sleep(0.01)

    rig.prepare = prepare
    rig.put_order(1, action=action)
    ending = rig.agent().run()
    assert ending.kind is kind
    assert rig.beat().state is NodeState.GONE


def test_preparation_ends_when_the_cloud_takes_the_machine_back(rig: Rig) -> None:
    def prepare(watcher: Watcher) -> None:
        while True:
            watcher.look()
            time.sleep(0.01)

    rig.prepare = prepare
    rig.put_order(1)
    with rig.running():
        rig.wait_for_beat(lambda beat: beat.state is NodeState.STARTING, "a node that prepares")
        rig.announce_interruption(in_s=100.0)
        rig.wait_for_beat(lambda beat: beat.state is NodeState.IDLE and beat.interruption_at_ms > 0, "a node that waits")
    assert rig.claim_of(1) is None


def test_what_an_earlier_life_left_is_given_back_although_the_files_can_not_be_had(rig: Rig) -> None:
    def prepare(watcher: Watcher) -> None:
        raise CannotPrepare("no files")

    claim = Claim(node="node_a", frame=1, attempt=1, nonce="n1", at_ms=1)
    rig.store.put(claim_key(JOB, 1), claim.to_bytes())
    held = rig.folder / "node_a" / "claims"
    held.mkdir(parents=True)
    (held / "1").write_bytes(claim.to_bytes())
    rig.prepare = prepare
    rig.put_order(1)
    rig.agent().run()
    assert rig.frames(Outcome.INTERRUPTED) == [1]
    assert rig.claim_of(1) is None


def test_time_without_work_counts_from_the_end_of_the_preparation(rig: Rig) -> None:
    def prepare(watcher: Watcher) -> None:
        time.sleep(0.1)  # longer than the node may be idle

    rig.prepare = prepare
    rig.put_order(1)
    ending = rig.agent(idle_s=0.09).run()
    assert rig.frames(Outcome.FINISHED) == [1]
    assert (ending.kind, ending.attempts) == (EndKind.NO_WORK, 1)


def test_working_agent_shows_that_it_lives(rig: Rig) -> None:
    rig.plan(frames={"1": "wait"})
    rig.put_order(1)
    with rig.running(idle_s=30.0):
        rig.wait_for_beat(lambda beat: beat.frame == 1, "a frame rendering")
        before = rig.signs_of_life
        rig.wait_for_beat(lambda beat: rig.signs_of_life > before + 2, "signs of life while Blender renders")
        rig.go_on()


def test_node_that_goes_on_with_another_job_does_not_say_that_it_is_gone(rig: Rig) -> None:
    rig.last_state = NodeState.IDLE
    rig.put_order(1)
    ending = rig.agent().run()
    assert ending.kind is EndKind.NO_WORK
    assert rig.beat().state is NodeState.IDLE
