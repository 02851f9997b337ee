"""The outbox: in order, the journal last, through outages and restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodeimage.agent import delivery
from nodeimage.agent.delivery import Outbox
from nodeimage.agent.ports import Full, Silent
from nodeimage.protocol import Failure, JournalEntry, Outcome, Output, journal_prefix, log_key, output_key, preview_key

from .agent_fakes import JOB, PATIENCE_S, MemoryStore

MakeOutbox = Callable[[], Outbox]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_PAUSE_S", 0.01)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def make_outbox(store: MemoryStore, tmp_path: Path) -> Iterator[MakeOutbox]:
    made: list[Outbox] = []

    def make_outbox() -> Outbox:
        made.append(Outbox(store, job=JOB, home=tmp_path, now_ms=iter(range(1000, 10**6)).__next__, changed=lambda outbox: None))
        return made[-1]

    yield make_outbox
    for outbox in made:
        outbox.stop()


def an_entry(frame: int, *, outputs: tuple[Output, ...] = (), outcome: Outcome = Outcome.FINISHED) -> JournalEntry:
    return JournalEntry(outcome=outcome, node="n", at_ms=1, frame=frame, nonce=f"n{frame}", outputs=outputs, has_preview=bool(outputs))


def add_frame(outbox: Outbox, tmp_path: Path, frame: int, body: bytes = b"picture") -> None:
    """Hand over a rendered frame."""
    folder = tmp_path / f"rendered-{frame}"
    (folder / "outputs").mkdir(parents=True)
    (folder / "outputs" / "a.png").write_bytes(body)
    (folder / "preview.webp").write_bytes(b"small")
    outbox.add(an_entry(frame, outputs=(Output(name="a.png", bytes=len(body), crc32=0),)), folder, log_text=b"log\n")


def journal(store: MemoryStore) -> list[JournalEntry]:
    return [JournalEntry.from_bytes(store.body(key)) for key in store.below(journal_prefix(JOB))]


def test_frame_is_delivered_whole_and_the_journal_entry_comes_last(store: MemoryStore, make_outbox: MakeOutbox, tmp_path: Path) -> None:
    outbox = make_outbox()
    add_frame(outbox, tmp_path, 5)
    outbox.start()
    assert outbox.wait_until_empty(PATIENCE_S)
    written = [key for _, key in store.calls]
    assert written[:3] == [output_key(JOB, 5, "a.png"), preview_key(JOB, 5), log_key(JOB, 5, 1)]
    assert written[3].startswith(journal_prefix(JOB))
    assert outbox.delivered == 1
    assert list((tmp_path / "outbox").iterdir()) == []


def test_outputs_bear_their_checksum(store: MemoryStore, make_outbox: MakeOutbox, tmp_path: Path) -> None:
    outbox = make_outbox()
    add_frame(outbox, tmp_path, 5, b"123456789")
    outbox.start()
    assert outbox.wait_until_empty(PATIENCE_S)
    assert journal(store)[0].outputs == (Output(name="a.png", bytes=9, crc32=0xCBF43926),)


def test_parcels_go_in_the_order_in_which_they_came(store: MemoryStore, make_outbox: MakeOutbox, tmp_path: Path) -> None:
    outbox = make_outbox()
    for frame in (9, 1, 5):
        add_frame(outbox, tmp_path, frame)
    assert outbox.frames() == (9, 1, 5)
    outbox.start()
    assert outbox.wait_until_empty(PATIENCE_S)
    assert [entry.frame for entry in journal(store)] == [9, 1, 5]


def test_three_waiting_frames_leave_no_room_but_other_entries_do(make_outbox: MakeOutbox, tmp_path: Path) -> None:
    outbox = make_outbox()
    outbox.add(JournalEntry(outcome=Outcome.OPENED, node="n", at_ms=0))
    add_frame(outbox, tmp_path, 1)
    add_frame(outbox, tmp_path, 2)
    assert outbox.has_room()
    assert not outbox.has_room(besides=1)
    add_frame(outbox, tmp_path, 3)
    assert not outbox.has_room()


@pytest.mark.parametrize("error", [Silent("no answer"), Full("507")])
def test_delivery_goes_on_when_the_store_takes_things_again(
    store: MemoryStore, make_outbox: MakeOutbox, tmp_path: Path, error: Silent
) -> None:
    outbox = make_outbox()
    store.fail(error)
    add_frame(outbox, tmp_path, 1)
    outbox.start()
    while not outbox.problem:
        outbox.wait_for_change(0.01)
    store.recover()
    assert outbox.wait_until_empty(PATIENCE_S)
    assert outbox.problem == ""
    assert [entry.outcome for entry in journal(store)] == [Outcome.FINISHED]


def test_what_an_agent_left_is_delivered_by_the_next_one_first(store: MemoryStore, make_outbox: MakeOutbox, tmp_path: Path) -> None:
    add_frame(make_outbox(), tmp_path, 1)
    outbox = make_outbox()
    assert outbox.frames() == (1,)
    assert outbox.knows("n1")
    add_frame(outbox, tmp_path, 2)
    outbox.start()
    assert outbox.wait_until_empty(PATIENCE_S)
    assert [entry.frame for entry in journal(store)] == [1, 2]


def test_rest_of_a_parcel_whose_removal_was_cut_short_is_removed(make_outbox: MakeOutbox, tmp_path: Path) -> None:
    (tmp_path / "outbox" / "00000007" / "outputs").mkdir(parents=True)
    assert make_outbox().entries() == []
    assert list((tmp_path / "outbox").iterdir()) == []


@pytest.mark.parametrize("damage", ["gone", "shorter"])
def test_output_that_is_not_what_blender_wrote_fails_the_attempt(
    store: MemoryStore, make_outbox: MakeOutbox, tmp_path: Path, damage: str
) -> None:
    outbox = make_outbox()
    add_frame(outbox, tmp_path, 1)
    [path] = (tmp_path / "outbox").rglob("a.png")
    path.unlink() if damage == "gone" else path.write_bytes(b"pic")
    outbox.start()
    assert outbox.wait_until_empty(PATIENCE_S)
    [entry] = journal(store)
    assert (entry.outcome, entry.failure, entry.outputs) == (Outcome.FAILED, Failure.DELIVERY, ())
    assert store.has(log_key(JOB, 1, 1))


def test_fault_that_nobody_foresaw_holds_a_delivery_up_and_does_not_end_them_all(
    store: MemoryStore, make_outbox: MakeOutbox, tmp_path: Path
) -> None:
    outbox = make_outbox()
    put_file, faults = store.put_file, iter(range(2))

    def break_off(key: str, path: Path, *, content_type: str = "") -> None:
        if next(faults, None) is not None:
            raise RuntimeError("of the library's own")
        put_file(key, path)

    store.put_file = break_off  # type: ignore[method-assign]
    add_frame(outbox, tmp_path, 1)
    outbox.start()
    assert outbox.wait_until_empty(PATIENCE_S)
    assert [entry.outcome for entry in journal(store)] == [Outcome.FINISHED]


def test_entry_without_room_on_the_disk_is_delivered_from_memory(store: MemoryStore, make_outbox: MakeOutbox) -> None:
    outbox = make_outbox()
    outbox.add_without_files(an_entry(3, outcome=Outcome.FAILED))
    outbox.start()
    assert outbox.wait_until_empty(PATIENCE_S)
    assert journal(store)[0].frame == 3


def test_entry_is_dated_when_it_is_written_not_when_it_happened(store: MemoryStore, make_outbox: MakeOutbox) -> None:
    outbox = make_outbox()
    outbox.add(an_entry(3, outcome=Outcome.FAILED))
    outbox.start()
    assert outbox.wait_until_empty(PATIENCE_S)
    assert journal(store)[0].at_ms >= 1000
