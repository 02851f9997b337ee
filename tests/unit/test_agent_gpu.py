"""The agent on a machine with a GPU, or with one that does not work: a store in memory, a Blender that is a script."""

from __future__ import annotations

import pytest

from nodeimage.agent.ending import EndKind
from nodeimage.protocol import (
    Failure,
    NodeState,
    Outcome,
)

from .agent_fakes import Rig, rendered


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files that can't be opened tried again at once."""
    monkeypatch.setattr("nodeimage.agent.loop.FIRST_BACK_OFF_S", 0.01)


def test_node_whose_gpu_can_not_be_used_tells_it_and_ends_without_an_attempt_at_any_frame(rig: Rig, short_pauses: None) -> None:
    rig.plan(open="no_gpu")
    rig.put_order(1, 2)
    ending = rig.agent(device="gpu", idle_s=30.0).run()
    assert (ending.kind, ending.reason) == (EndKind.UNFIT, "this node has a GPU, and Blender can't use it")
    assert (rig.beat().state, rig.beat().problem) == (NodeState.STARTING, ending.reason), "no good end: it was launched for nothing"
    assert rig.journal() == []
    assert rig.claim_of(1) is None


def test_node_of_the_pool_whose_gpu_can_not_be_used_fails_frames_so_that_the_job_ends(rig: Rig, short_pauses: None) -> None:
    rig.plan(open="no_gpu")
    rig.is_of_pool = True
    rig.put_order(1, 2, 3, 4)
    assert rig.agent(device="gpu").run().kind is EndKind.NO_WORK
    assert [(entry.frame, entry.failure) for entry in rig.journal(Outcome.FAILED)] == [(frame, Failure.DEVICE) for frame in (1, 2, 3, 4)]


def test_node_whose_gpu_works_after_all_has_no_problem_any_more(rig: Rig, short_pauses: None) -> None:
    rig.plan(open="once:no_gpu")
    rig.put_order(1, 2)
    rig.agent(device="gpu").run()
    assert rig.frames(Outcome.FAILED) == []
    assert rig.frames(Outcome.FINISHED) == [1, 2]
    assert rig.beat().problem == ""


def test_node_that_has_lost_its_gpu_ends_before_it_fails_every_frame(rig: Rig) -> None:
    rig.plan(frames={str(frame): "device" for frame in range(2, 20)})
    rig.put_order(*range(1, 20))
    ending = rig.agent(device="gpu", idle_s=30.0).run()
    assert ending.kind is EndKind.UNFIT
    assert rig.frames(Outcome.FINISHED) == [1]
    assert rig.frames(Outcome.FAILED) == [2, 3, 4]
    assert rig.beat().problem == "as planned"


def test_frame_that_the_cpu_rendered_on_a_gpu_node_is_a_failure_and_blender_goes_on(rig: Rig) -> None:
    rig.plan(frames={"1": "device"})
    rig.put_order(1, 2)
    rig.agent(device="gpu").run()
    [failed] = rig.journal(Outcome.FAILED)
    assert (failed.frame, failed.failure) == (1, Failure.DEVICE)
    assert rig.frames(Outcome.FINISHED) == [2]


def test_driver_is_told_what_must_render(rig: Rig) -> None:
    rig.put_order(1)
    rig.agent(device="gpu").run()
    assert rendered(rig, 1)["device"] == "gpu"
