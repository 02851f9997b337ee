"""Which frame a node takes next, and whose it is when two want it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeimage.agent.claims import LOST_IN_A_ROW, Claims, others_frames, own_frames
from nodeimage.agent.held import HeldClaims
from nodeimage.agent.ports import Silent
from nodeimage.protocol import Action, Claim, Order, RenderSettings, Requeued, Task, claim_key, runs_of

from .agent_fakes import JOB, MemoryStore

SETTINGS = RenderSettings(main_file="a.blend")


def an_order(*tasks: tuple[str | None, list[int]], ordered: bool = False, revision: int = 1, **requeued: Requeued) -> Order:
    return Order(
        job=JOB,
        revision=revision,
        action=Action.RENDER,
        settings=SETTINGS,
        tasks=tuple(Task(node=node, frames=runs_of(frames)) for node, frames in tasks),
        requeued={int(name.removeprefix("f")): entry for name, entry in requeued.items()},
        ordered=ordered,
    )


class Claimant:
    """A node that claims."""

    def __init__(self, store: MemoryStore, home: Path, node: str = "node_a") -> None:
        (home / node).mkdir(exist_ok=True)
        self.held = HeldClaims(home / node)
        self.claims = Claims(store, self.held, job=JOB, node=node, now_ms=lambda: 0)

    def take(self, order: Order, **options: list[int]) -> int | None:
        claim = self.claims.next(order, **options)
        return claim.frame if claim else None

    def take_all(self, order: Order) -> list[int]:
        taken = []
        while (frame := self.take(order)) is not None:
            taken.append(frame)
        return taken


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def claimed_by_others(store: MemoryStore, *frames: int) -> None:
    for frame in frames:
        store.put(claim_key(JOB, frame), Claim(node="node_z", frame=frame, attempt=1, nonce="z", at_ms=0).to_bytes())


def test_own_task_goes_first_then_nobodys_from_the_front_then_others_from_their_far_end(store: MemoryStore, tmp_path: Path) -> None:
    order = an_order(("node_a", [1, 2]), (None, [10, 11]), ("node_b", [20, 21, 22]))
    assert Claimant(store, tmp_path).take_all(order) == [1, 2, 10, 11, 22, 21, 20]


def test_node_steals_where_most_is_left(store: MemoryStore, tmp_path: Path) -> None:
    claimed_by_others(store, 1, 2, 3)
    order = an_order(("node_b", [1, 2, 3, 4, 5]), ("node_c", [11, 12, 13, 14]))
    assert Claimant(store, tmp_path).take(order) == 14


def test_own_frames_are_claimed_without_listing(store: MemoryStore, tmp_path: Path) -> None:
    claimant = Claimant(store, tmp_path)
    order = an_order(("node_a", list(range(50))))
    for _ in range(50):
        claimant.take(order)
    assert {name for name, _ in store.calls} == {"put_new"}


def test_claims_are_listed_once_several_own_frames_in_a_row_are_taken(store: MemoryStore, tmp_path: Path) -> None:
    claimed_by_others(store, *range(40))
    store.calls.clear()
    assert Claimant(store, tmp_path).take(an_order(("node_a", list(range(41))))) == 40
    assert len(store.calls) <= LOST_IN_A_ROW + 2


def test_frames_not_delivered_yet_are_not_claimed_again(store: MemoryStore, tmp_path: Path) -> None:
    assert Claimant(store, tmp_path).take(an_order(("node_a", [1, 2])), busy=[1]) == 2


def test_frame_to_be_left_to_others_is_left(store: MemoryStore, tmp_path: Path) -> None:
    order = an_order(("node_a", [1, 2]), f1=Requeued(attempt=2, avoid=("node_a",)))
    assert Claimant(store, tmp_path).take_all(order) == [2]
    assert Claimant(store, tmp_path, "node_b").take_all(order) == [1]


def test_claim_bears_the_attempt_that_the_order_names(store: MemoryStore, tmp_path: Path) -> None:
    claim = Claimant(store, tmp_path).claims.next(an_order(("node_a", [1]), f1=Requeued(attempt=3)))
    assert claim is not None
    assert claim.attempt == 3


def test_frame_that_was_freed_is_claimed_again_with_the_next_revision(store: MemoryStore, tmp_path: Path) -> None:
    claimant = Claimant(store, tmp_path)
    assert claimant.take_all(an_order(("node_a", [1, 2]))) == [1, 2]
    store.delete(claim_key(JOB, 1))
    assert claimant.take(an_order(("node_a", [1, 2]), revision=2)) == 1


def test_ordered_job_is_its_first_tasks_nodes_alone(store: MemoryStore, tmp_path: Path) -> None:
    order = an_order(("node_a", [1, 2, 3]), (None, [4]), ordered=True)
    assert Claimant(store, tmp_path, "node_b").take_all(order) == []
    assert Claimant(store, tmp_path).take_all(order) == [1, 2, 3]


def test_claim_in_doubt_is_settled_before_another_is_made(store: MemoryStore, tmp_path: Path) -> None:
    claimant = Claimant(store, tmp_path)
    order = an_order(("node_a", [1, 2]))
    store.fail(Silent("no answer"))
    with pytest.raises(Silent):
        claimant.take(order)
    assert [claim.frame for claim in claimant.held.all()] == [1]
    store.recover()
    assert claimant.take(order) == 1, "it was never made, and the frame is free"
    assert [claim.frame for claim in claimant.held.all()] == [1]


def test_claim_lost_to_another_node_is_not_held(store: MemoryStore, tmp_path: Path) -> None:
    claimed_by_others(store, 1)
    claimant = Claimant(store, tmp_path)
    assert claimant.take(an_order(("node_a", [1]))) is None
    assert claimant.held.all() == []


def test_only_a_claim_with_our_nonce_is_given_back(store: MemoryStore, tmp_path: Path) -> None:
    claimed_by_others(store, 1)
    claims = Claimant(store, tmp_path).claims
    claims.give_back(frame=1, nonce="ours")
    assert store.has(claim_key(JOB, 1))
    claims.give_back(frame=1, nonce="z")
    assert not store.has(claim_key(JOB, 1))
    claims.give_back(frame=1, nonce="z")


def test_held_claims_outlive_the_agent(tmp_path: Path) -> None:
    claim = Claim(node="n", frame=-3, attempt=2, nonce="x", at_ms=5)
    HeldClaims(tmp_path).remember(claim)
    (tmp_path / "claims" / "7").write_bytes(b'{"cut sho')
    assert HeldClaims(tmp_path).all() == [claim]


def test_claim_that_could_not_be_written_down_is_not_held(tmp_path: Path) -> None:
    held = HeldClaims(tmp_path)
    (tmp_path / "claims" / "3").mkdir()
    with pytest.raises(OSError, match="directory"):
        held.remember(Claim(node="n", frame=3, attempt=1, nonce="x", at_ms=5))
    assert held.all() == []


def test_racing_nodes_take_every_frame_once(store: MemoryStore, tmp_path: Path) -> None:
    order = an_order(("node_0", list(range(30))), ("node_1", list(range(30, 40))), (None, [50, 51]))
    nodes = [Claimant(store, tmp_path, f"node_{n}") for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda node: node.take_all(order), nodes))
    assert sorted(frame for frames in taken for frame in frames) == [*range(40), 50, 51]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([None, "node_a", "node_b", "node_c"]), st.integers(0, 12)), max_size=5), st.sets(st.integers(0, 60))
)
def test_own_and_others_frames_are_together_all_that_is_free(lengths: list[tuple[str | None, int]], taken: set[int]) -> None:
    tasks: list[tuple[str | None, list[int]]] = []
    first = 0
    for node, length in lengths:
        tasks.append((node, list(range(first, first + length))))
        first += length
    order = an_order(*tasks)
    own = [frame for frame in own_frames(order, "node_a") if frame not in taken]
    others = list(others_frames(order, "node_a", taken=taken))
    assert sorted(own + others) == [frame for frame in range(first) if frame not in taken]
