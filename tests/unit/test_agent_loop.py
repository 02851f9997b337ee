"""The agent at work: a store in memory, a Blender that is a script."""

from __future__ import annotations

import json
import threading
import time
import zlib

import pytest

from nodeimage.agent.ending import EndKind
from nodeimage.agent.ports import Full, Refused, Silent
from nodeimage.protocol import (
    Action,
    Claim,
    Failure,
    NodeState,
    Outcome,
    Requeued,
    Task,
    claim_key,
    frames_prefix,
    log_key,
    order_key,
    output_key,
    preview_key,
    runs_of,
)
from tests.waiting import AT_ONCE_S

from .agent_fakes import JOB, Rig, rendered

UNBAKED = {"code": "unbaked", "text": "“Flag” has cloth that is not baked."}


def test_agent_renders_its_task_in_order_and_ends_when_idle(rig: Rig) -> None:
    rig.put_order(3, 4, 5)
    reason = rig.agent().run().reason
    assert "nothing to do" in reason
    assert rig.frames(Outcome.FINISHED) == [3, 4, 5]
    assert rig.beat().state is NodeState.GONE
    assert rig.beat().finished == 3


def test_delivered_frame_has_outputs_preview_and_log_in_the_bucket(rig: Rig) -> None:
    rig.put_order(-2)
    rig.agent().run()
    [entry] = rig.journal(Outcome.FINISHED)
    assert [output.name for output in entry.outputs] == ["extra/depth.exr", "shot_-002.png"]
    assert entry.outputs[0].bytes == 5
    assert entry.outputs[0].crc32 == zlib.crc32(b"depth")
    assert rig.store.body(output_key(JOB, -2, "extra/depth.exr")) == b"depth"
    assert rig.store.body(preview_key(JOB, -2)) == b"small"
    assert b"Fra:-2" in rig.store.body(log_key(JOB, -2, 1))


def test_journal_entry_bears_the_nonce_of_the_claim(rig: Rig) -> None:
    rig.put_order(1)
    rig.agent().run()
    claim = rig.claim_of(1)
    assert claim is not None
    assert rig.journal(Outcome.FINISHED)[0].nonce == claim.nonce


def test_blender_is_opened_and_its_findings_journaled_before_the_first_claim(rig: Rig) -> None:
    rig.plan(findings=[{"code": "missing_file", "text": "wood.png is missing."}])
    rig.put_order(1)
    rig.agent().run()
    opened = rig.journal()[0]
    assert opened.outcome is Outcome.OPENED
    assert opened.findings[0].text == "wood.png is missing."
    assert opened.blender_version == "0.0"


def test_log_of_an_attempt_is_its_own(rig: Rig) -> None:
    rig.put_order(1, 2, 3)
    rig.agent().run()
    for frame in (1, 2, 3):
        log = rig.store.body(log_key(JOB, frame, 1)).decode()
        assert next(line for line in log.splitlines() if line.startswith("Fra:")).startswith(f"Fra:{frame} ")
        assert log.count("Fra:") == 1


def test_one_blender_renders_all_frames(rig: Rig) -> None:
    rig.put_order(1, 2, 3)
    rig.agent().run()
    assert [rendered(rig, frame)["asked"] for frame in (1, 2, 3)] == [1, 2, 3]


def test_two_nodes_render_every_frame_once(rig: Rig) -> None:
    rig.plan(frames={"1": "wait"})
    rig.put_order(*range(1, 20), node_b=[20])
    with rig.running("node_a", idle_s=30.0):
        rig.store.wait_until(lambda: rig.claim_of(1) is not None, "node_a's claim")
        with rig.running("node_b", idle_s=30.0):
            rig.wait_for(Outcome.FINISHED, 3)
            rig.go_on()
            rig.wait_for(Outcome.FINISHED, 20)
    assert sorted(frame for frame in rig.frames(Outcome.FINISHED) if frame) == list(range(1, 21))
    assert {entry.node for entry in rig.journal(Outcome.FINISHED)} == {"node_a", "node_b"}


def test_crash_fails_the_attempt_and_the_next_frame_gets_a_new_blender(rig: Rig) -> None:
    rig.plan(frames={"1": "crash"})
    rig.put_order(1, 2)
    rig.agent().run()
    [failed] = rig.journal(Outcome.FAILED)
    assert failed.failure is Failure.CRASH
    assert "SIGSEGV" in failed.message
    assert "something is very wrong" in failed.message
    assert b"something is very wrong" in rig.store.body(log_key(JOB, 1, 1))
    assert rig.frames(Outcome.FINISHED) == [2]
    assert not rig.store.below(output_key(JOB, 1, ""))


def test_crash_while_a_frame_is_checked_fails_that_frame_only(rig: Rig) -> None:
    rig.plan(after_save={"1": "crash"})
    rig.put_order(1, 2, 3)
    rig.agent().run()
    assert rig.frames(Outcome.FAILED) == [1]
    assert rig.frames(Outcome.FINISHED) == [2, 3]


@pytest.mark.parametrize("how", ["killed", "bad_alloc", "out_of_memory"])
def test_lack_of_memory_is_told_from_other_ends(rig: Rig, how: str) -> None:
    rig.plan(frames={"1": how})
    rig.put_order(1, 2)
    rig.agent().run()
    assert rig.journal(Outcome.FAILED)[0].failure is Failure.OUT_OF_MEMORY
    assert rig.frames(Outcome.FINISHED) == [2]
    assert rendered(rig, 2)["asked"] == 1, "a new process, whatever Blender said"


@pytest.mark.parametrize("how", ["hang", "deaf hang"])
def test_frame_without_progress_is_hung_and_its_blender_killed(rig: Rig, how: str) -> None:
    rig.plan(frames={"1": how})
    rig.put_order(1, 2)
    assert rig.order is not None
    settings = rig.order.settings
    rig.change_order(settings=type(settings)(main_file="plan.json", frame_timeout_s=1.5))
    rig.agent().run()
    [failed] = rig.journal(Outcome.FAILED)
    assert failed.failure is Failure.HANG
    assert "no progress" in failed.message
    assert "frame_timeout_s" in failed.message, "a person may know that it only takes long"
    assert rig.frames(Outcome.FINISHED) == [2]


@pytest.mark.parametrize("how", [Failure.ERROR, Failure.BAD_OUTPUT])
def test_error_of_blenders_fails_the_attempt_and_keeps_the_process(rig: Rig, how: Failure) -> None:
    rig.plan(frames={"1": str(how)})
    rig.put_order(1, 2)
    rig.agent().run()
    [failed] = rig.journal(Outcome.FAILED)
    assert failed.failure is how
    assert "as planned" in failed.message
    assert rendered(rig, 2)["asked"] == 2


def test_file_that_can_not_be_opened_fails_frames_one_attempt_each(rig: Rig) -> None:
    rig.plan(open="cannot_open")
    rig.put_order(1)
    rig.agent().run()
    [failed] = rig.journal(Outcome.FAILED)
    assert (failed.frame, failed.failure, failed.message) == (1, Failure.OPEN, "not a .blend")
    assert rig.store.body(log_key(JOB, 1, 1)) == b"Blender wrote nothing.\nnot a .blend\n"


def test_crash_while_opening_counts_as_not_opened(rig: Rig) -> None:
    rig.plan(open="once:crash")
    rig.put_order(1, 2)
    rig.agent().run()
    assert rig.journal(Outcome.FAILED)[0].failure is Failure.OPEN
    assert rig.frames(Outcome.FINISHED) == [2]


def test_blender_that_is_not_there_is_told_in_the_journal(rig: Rig) -> None:
    rig.put_order(1)
    rig.agent(blender="/nowhere/blender").run()
    [failed] = rig.journal(Outcome.FAILED)
    assert failed.failure is Failure.OPEN
    assert "/nowhere/blender" in failed.message


def test_unbaked_scene_waits_for_an_ordered_order(rig: Rig) -> None:
    rig.plan(findings=[UNBAKED])
    rig.put_order(1, 2, node_b=[3, 4])
    with rig.running(idle_s=30.0):
        rig.wait_for(Outcome.OPENED)
        rig.wait_for_beat(lambda beat: beat.state is NodeState.IDLE, "an idle node")
        assert rig.store.below(f"received/{JOB}/claims/") == []
        rig.change_order(ordered=True, tasks=(Task(node="node_a", frames=((1, 4, 1),)),))
        rig.wait_for(Outcome.FINISHED, 4)
    assert rig.frames(Outcome.FINISHED) == [1, 2, 3, 4]
    assert rendered(rig, 1)["in_order"] is True


def test_ordered_job_of_another_node_is_left_alone(rig: Rig) -> None:
    rig.put_order(1, 2, ordered=True, node="node_b")
    rig.agent().run()
    assert rig.journal(Outcome.FINISHED) == []


def test_requeued_frame_bears_its_attempt_and_renders_in_a_fresh_process_without_persistent_data(rig: Rig) -> None:
    rig.plan(frames={"1": "once:error"})
    rig.put_order(1, 2, 3, 4)
    with rig.running(idle_s=30.0):
        rig.wait_for(Outcome.FAILED)
        rig.wait_for(Outcome.FINISHED, 3)
        rig.requeue({1: Requeued(attempt=2, persistent_data=False)})
        again = rig.wait_for(Outcome.FINISHED, 4)
        assert (again.frame, again.attempt, again.persistent_data) == (1, 2, False)
        rig.store.wait_until(lambda: rig.store.has(log_key(JOB, 1, 2)), "the second attempt's log")
        assert rendered(rig, 1) == {"frame": 1, "asked": 1, "persistent_data": False, "in_order": False, "device": ""}
        rig.change_order(tasks=(Task(node="node_a", frames=runs_of([5])),))
        rig.wait_for(Outcome.FINISHED, 5)
    assert rendered(rig, 5)["persistent_data"] is True
    assert rendered(rig, 5)["asked"] == 1


def test_frame_requeued_between_reading_the_order_and_claiming_is_attempted_as_the_new_order_says(rig: Rig) -> None:
    rig.put_order(1)
    put_new = rig.store.put_new

    def requeue_meanwhile(key: str, body: bytes) -> bool:
        rig.store.put_new = put_new  # type: ignore[method-assign]
        rig.change_order(requeued={1: Requeued(attempt=2, persistent_data=False)})
        return put_new(key, body)

    rig.store.put_new = requeue_meanwhile  # type: ignore[method-assign]
    rig.agent().run()
    [finished] = rig.journal(Outcome.FINISHED)
    assert (finished.attempt, finished.persistent_data) == (2, False)


def test_node_leaves_a_frame_it_failed_to_others(rig: Rig) -> None:
    rig.put_order(1, 2)
    rig.change_order(requeued={1: Requeued(attempt=2, avoid=("node_a",))})
    rig.agent().run()
    assert rig.frames(Outcome.FINISHED) == [2]


def test_drain_finishes_and_delivers_the_current_frame_and_takes_no_other(rig: Rig) -> None:
    rig.plan(frames={"1": "wait"})
    rig.put_order(1, 2, 3)
    with rig.running(idle_s=30.0):
        rig.wait_for_beat(lambda beat: beat.frame == 1, "a frame rendering")
        rig.change_order(action=Action.DRAIN)
        rig.go_on()
        rig.wait_for_beat(lambda beat: beat.state is NodeState.GONE, "the node's end")
    assert rig.frames(Outcome.FINISHED) == [1]
    assert rig.frames(Outcome.INTERRUPTED) == []
    assert rig.claim_of(2) is None


def test_stop_gives_claims_back_as_interrupted(rig: Rig) -> None:
    rig.plan(frames={"1": "hang"})
    rig.put_order(1, 2)
    with rig.running():
        rig.wait_for_beat(lambda beat: beat.state is NodeState.RENDERING, "a frame rendering")
        rig.change_order(action=Action.STOP)
        rig.wait_for_beat(lambda beat: beat.state is NodeState.GONE, "the node's end")
    [entry] = rig.journal(Outcome.INTERRUPTED)
    assert (entry.frame, entry.message) == (1, "the farm says stop")
    assert rig.claim_of(1) is None


def test_told_to_stop_it_ends_at_once_although_the_store_is_silent(rig: Rig) -> None:
    rig.plan(frames={"1": "hang"})
    rig.put_order(1)
    with rig.running() as stop:
        rig.wait_for_beat(lambda beat: beat.state is NodeState.RENDERING, "a frame rendering")
        rig.store.fail(Silent("no answer"))
        told_at = time.monotonic()
        stop.set()
    assert time.monotonic() - told_at < AT_ONCE_S


def test_order_that_vanishes_says_stop(rig: Rig) -> None:
    rig.plan(frames={"1": "hang"})
    rig.put_order(1)
    agent = rig.agent()
    thread = threading.Thread(target=agent.run)
    thread.start()
    rig.wait_for_beat(lambda beat: beat.state is NodeState.RENDERING, "a frame rendering")
    rig.store.delete(order_key(JOB))
    thread.join(10.0)
    assert not thread.is_alive()
    assert rig.claim_of(1) is None


def test_agent_waits_for_an_order_that_is_not_there_yet(rig: Rig) -> None:
    with rig.running(idle_s=30.0):
        rig.wait_for_beat(lambda beat: beat.state is NodeState.IDLE, "an idle node")
        rig.put_order(1)
        rig.wait_for(Outcome.FINISHED)


def test_agent_ends_when_the_store_was_silent_for_too_long(rig: Rig) -> None:
    rig.put_order(1)
    rig.store.fail(Silent("no answer"))
    reason = rig.agent(unreachable_s=0.2, idle_s=30.0).run().reason
    assert "store has not answered" in reason


def test_agent_ends_at_its_longest_life_in_the_middle_of_a_frame(rig: Rig) -> None:
    rig.plan(frames={"1": "hang"})
    rig.put_order(1)
    reason = rig.agent(max_life_s=0.5).run().reason
    assert "lived" in reason
    assert rig.frames(Outcome.INTERRUPTED) == [1]


def test_full_store_holds_frames_back_and_says_so_until_there_is_room(rig: Rig) -> None:
    rig.put_order(*range(1, 9))
    rig.store.fail(Full("could not upload: 507"), keys="/frames/")
    with rig.running(idle_s=30.0):
        beat = rig.wait_for_beat(lambda beat: "room" in beat.problem and beat.state is NodeState.DELIVERING, "frames waiting for room")
        assert beat.uploading == (1, 2, 3)
        assert rig.claim_of(4) is None
        rig.store.recover()
        rig.wait_for(Outcome.FINISHED, 8)
        rig.wait_for_beat(lambda beat: beat.problem == "", "no problem any more")
    assert sorted(frame for frame in rig.frames(Outcome.FINISHED) if frame) == list(range(1, 9))


def test_store_that_refuses_outputs_fails_the_attempt_as_not_delivered(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodeimage.agent.delivery.FIRST_PAUSE_S", 0.01)
    rig.put_order(1)
    rig.store.fail(Refused("could not upload: 403 AccessDenied"), keys="/frames/")
    rig.agent().run()
    [failed] = rig.journal(Outcome.FAILED)
    assert failed.failure is Failure.DELIVERY
    assert "403" in failed.message
    assert failed.outputs == ()


def test_node_with_a_full_disk_takes_no_frame_and_says_so(rig: Rig) -> None:
    rig.free_bytes = 1000
    rig.put_order(1)
    with rig.running(idle_s=0.01):
        rig.wait_for_beat(lambda beat: "disk" in beat.problem, "word of the full disk")
        assert rig.claim_of(1) is None
        rig.free_bytes = 2**40
        rig.wait_for(Outcome.FINISHED)


def test_rented_node_whose_disk_stays_full_ends_and_says_why(rig: Rig) -> None:
    rig.free_bytes, rig.is_rented = 1000, True
    rig.put_order(1)
    ending = rig.agent(idle_s=0.05).run()
    assert ending.kind is EndKind.UNFIT
    assert "disk" in ending.reason
    assert (rig.beat().state, rig.beat().problem) == (NodeState.STARTING, ending.reason)
    assert rig.claim_of(1) is None


def test_claim_that_the_store_did_not_take_back_is_given_back_later(rig: Rig) -> None:
    claim = Claim(node="node_a", frame=7, attempt=1, nonce="n1", at_ms=1)
    rig.store.put(claim_key(JOB, 7), claim.to_bytes())
    held = rig.folder / "node_a" / "claims"
    held.mkdir(parents=True)
    (held / "7").write_bytes(claim.to_bytes())
    rig.store.fail(Silent("no answer"), keys=claim_key(JOB, 7))
    rig.put_order(1)
    with rig.running(idle_s=30.0):
        rig.wait_for(Outcome.FINISHED)
        assert rig.claim_of(7) is not None
        rig.store.recover()
        rig.store.wait_until(lambda: rig.claim_of(7) is None, "the claim given back")
    assert rig.journal(Outcome.INTERRUPTED)[-1].frame == 7


def test_agent_started_again_gives_back_what_its_last_life_had_claimed(rig: Rig) -> None:
    rig.put_order(1)
    claim = Claim(node="node_a", frame=1, attempt=1, nonce="n1", at_ms=1)
    rig.store.put(claim_key(JOB, 1), claim.to_bytes())
    held = rig.folder / "node_a" / "claims"
    held.mkdir(parents=True)
    (held / "1").write_bytes(claim.to_bytes())
    rig.agent().run()
    [interrupted] = rig.journal(Outcome.INTERRUPTED)
    assert (interrupted.frame, interrupted.nonce) == (1, "n1")
    assert rig.frames(Outcome.FINISHED) == [1]


def test_agent_started_again_delivers_first_what_waits_on_disk(rig: Rig) -> None:
    rig.plan(frames={"2": "hang"})
    rig.put_order(1, 2)
    rig.store.fail(Silent("no answer"), keys="/frames/")
    with rig.running(idle_s=30.0):
        rig.wait_for_beat(lambda beat: beat.uploading == (1,) and beat.frame == 2, "one frame waiting while the next renders")
    rig.store.recover()
    rig.plan()
    rig.agent().run()
    finished = rig.frames(Outcome.FINISHED)
    assert finished[0] == 1
    assert 2 in finished
    assert len(rig.store.below(frames_prefix(JOB))) == 4


def test_claim_whose_reply_was_lost_is_found_to_be_ours(rig: Rig) -> None:
    rig.put_order(1)
    put_new = rig.store.put_new
    lost: list[str] = []

    def lose_first_reply(key: str, body: bytes) -> bool:
        is_ours = put_new(key, body)
        if not lost:
            lost.append(key)
            raise Silent("the reply was lost")
        return is_ours

    rig.store.put_new = lose_first_reply  # type: ignore[method-assign]
    rig.agent().run()
    assert rig.frames(Outcome.FINISHED) == [1]
    assert rig.frames(Outcome.INTERRUPTED) == []


def test_heartbeat_tells_state_frame_and_log(rig: Rig) -> None:
    rig.plan(frames={"7": "hang"})
    rig.put_order(7)
    with rig.running():
        beat = rig.wait_for_beat(lambda beat: bool(beat.log_tail) and beat.phase == "Preparing" and beat.elapsed_s > 0, "a full heartbeat")
    assert (beat.state, beat.frame, beat.attempt, beat.device) == (NodeState.RENDERING, 7, 1, "CPU")
    assert beat.log_tail[-1].startswith("Fra:7")
    assert beat.agent_version


def test_order_of_a_newer_farm_ends_the_agent_with_the_reason(rig: Rig) -> None:
    rig.put_order(1)
    assert rig.order is not None
    body = json.loads(rig.order.to_bytes())
    rig.store.put(order_key(JOB), json.dumps({**body, "version": 999}).encode())
    reason = rig.agent().run().reason
    assert "999" in reason
