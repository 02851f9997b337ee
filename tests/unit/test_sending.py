"""Sending zips: checked on the way, patient with the store, and over at once when nobody wants it any more."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeimage.protocol import output_key
from supervisor.cloud.ports import Refused, Throttled, Unreachable
from supervisor.domain.naming import Packed
from supervisor.domain.zip_plan import ZipPlan, index_of
from supervisor.lifecycle.readahead import Wanted, open_ahead
from supervisor.lifecycle.sending import BadFrame, send_zip
from tests.fakes import FakeObjectStore
from tests.waiting import wait_for

MIB = 1 << 20


@dataclass
class Zip:
    """A zip of frames that are in a store, and the pauses that were made for the store's sake."""

    bodies: list[bytes]
    objects: FakeObjectStore = field(default_factory=FakeObjectStore)
    paused_s: list[float] = field(default_factory=list)
    plan: ZipPlan = field(init=False)

    def __post_init__(self) -> None:
        outputs = []
        for frame, body in enumerate(self.bodies):
            self.objects.place(self.key(frame), body, etag="x")
            outputs.append(Packed(frame=frame, name=f"{frame}.png", bytes=len(body), crc32=zlib.crc32(body)))
        self.plan = ZipPlan(index_of(outputs, made_at=datetime(2026, 1, 5)))  # noqa: DTZ001 - a zip has no zone

    def key(self, frame: int) -> str:
        return output_key("job_a", frame, f"{frame}.png")

    def sent(self, first: int = 0, end: int | None = None) -> Generator[bytes, None, None]:
        end = self.plan.bytes if end is None else end
        return send_zip(self.objects, "job_a", self.plan, first=first, end=end, pause=self.paused_s.append)

    def start_of(self, frame: int) -> int:
        """Where a frame's content begins in the zip."""
        whole = b"".join(Zip(self.bodies).sent())
        return whole.index(self.bodies[frame])


def a_body(frame: int, length: int = 3000) -> bytes:
    return (f"frame {frame} ".encode() * length)[:length]


@pytest.fixture
def a_zip() -> Zip:
    return Zip([a_body(frame) for frame in range(5)])


def test_whole_zip_is_sent_in_order(a_zip: Zip) -> None:
    with zipfile.ZipFile(io.BytesIO(b"".join(a_zip.sent()))) as archive:
        assert archive.testzip() is None
        assert [archive.read(name) for name in archive.namelist()] == a_zip.bodies


@given(st.lists(st.binary(max_size=60), max_size=8), st.data())
def test_any_range_is_that_part_of_the_whole(bodies: list[bytes], data: st.DataObject) -> None:
    a_zip = Zip(bodies)
    whole = b"".join(a_zip.sent())
    first = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(first, len(whole)))
    assert b"".join(a_zip.sent(first, end)) == whole[first:end]


def test_range_inside_a_frame_opens_that_frame_there_alone(a_zip: Zip) -> None:
    start = a_zip.start_of(2)
    assert b"".join(a_zip.sent(start + 100, start + 200)) == a_body(2)[100:200]
    assert [(key, first) for key, first, _ in a_zip.objects.opened] == [(a_zip.key(2), 100)]


def test_large_frames_come_in_pieces_and_small_ones_together() -> None:
    large, small = bytes(range(256)) * (20 * MIB // 256), [a_body(n, 100) for n in range(1000)]
    sizes = [len(chunk) for chunk in Zip([large, *small]).sent()]
    assert max(sizes) <= MIB
    assert len(sizes) < 30


@pytest.mark.parametrize(("length", "most"), [(1000, 4), (10 * MIB, 2), (100 * MIB, 1)])
def test_few_objects_are_opened_ahead_and_fewer_large_ones(length: int, most: int) -> None:
    objects = FakeObjectStore()
    for n in range(20):
        objects.place(f"k/{n:02d}", b"x", etag="x")
    openings = open_ahead(objects, (Wanted(key=f"k/{n:02d}", first_byte=0, bytes=length) for n in range(20)))

    for taken in range(1, 21 - most):
        next(openings).result().close()
        wait_for(lambda taken=taken: len(objects.opened) == taken + most - 1, "those ahead")  # type: ignore[misc]

    openings.close()
    assert [key for key, _, _ in objects.opened] == [f"k/{n:02d}" for n in range(19)]
    wait_for(lambda: all(stream.closed for _, _, stream in objects.opened), "every stream to be closed")


@pytest.mark.parametrize("body", [a_body(7), a_body(2)[:-1], b""])
def test_frame_that_is_another_one_now_ends_the_sending_before_its_last_byte(a_zip: Zip, body: bytes) -> None:
    a_zip.objects.place(a_zip.key(2), body, etag="y")
    received: list[bytes] = []
    with pytest.raises(BadFrame, match=r"“2\.png” of frame 2 is not what its node delivered"):
        received.extend(a_zip.sent())
    assert sum(map(len, received)) < a_zip.start_of(2) + len(a_body(2))


def test_frame_that_is_another_one_now_is_noticed_by_whoever_asks_for_its_end_alone(a_zip: Zip) -> None:
    damaged = bytearray(a_body(2))
    damaged[0] ^= 1
    a_zip.objects.place(a_zip.key(2), bytes(damaged), etag="y")
    start = a_zip.start_of(2)
    assert b"".join(a_zip.sent(start + 10, start + 20)) == a_body(2)[10:20]
    with pytest.raises(BadFrame):
        b"".join(a_zip.sent(start + 2000, start + 3000))


def test_frame_that_is_gone_ends_the_sending(a_zip: Zip) -> None:
    a_zip.objects.delete([a_zip.key(3)])
    with pytest.raises(BadFrame, match=r"“3\.png” of frame 3 is gone from the store"):
        b"".join(a_zip.sent())
    assert a_zip.paused_s == []


@pytest.mark.parametrize("after_bytes", [0, 1, 3 * MIB // 2, 5 * MIB - 1])
def test_answer_that_breaks_off_goes_on_from_the_byte_reached(after_bytes: int) -> None:
    a_zip = Zip([a_body(frame, 5 * MIB) for frame in range(3)])
    whole = b"".join(Zip(a_zip.bodies).sent())
    a_zip.objects.break_off(a_zip.key(1), Unreachable("connection reset"), after_bytes=after_bytes)

    assert b"".join(a_zip.sent()) == whole

    first_bytes = [first for key, first, _ in a_zip.objects.opened if key == a_zip.key(1)]
    assert first_bytes[0] == 0
    assert 0 <= after_bytes - first_bytes[1] < MIB or first_bytes[1] == after_bytes
    assert len(a_zip.paused_s) == 1


@pytest.mark.parametrize("error", [Unreachable("no answer"), Throttled("slow down")])
def test_store_that_does_not_answer_is_asked_again_for_a_while(a_zip: Zip, error: Exception) -> None:
    whole = b"".join(Zip(a_zip.bodies).sent())
    a_zip.objects.fail_next(error, times=5, call="open")
    assert b"".join(a_zip.sent()) == whole
    assert 0 < sum(a_zip.paused_s) < 60


def test_store_that_stays_silent_is_given_up(a_zip: Zip) -> None:
    a_zip.objects.fail_next(Unreachable("no answer"), times=1000, call="open")
    with pytest.raises(Unreachable):
        b"".join(a_zip.sent())
    assert 10 < sum(a_zip.paused_s) < 60


def test_store_that_refuses_is_not_asked_again(a_zip: Zip) -> None:
    a_zip.objects.fail_next(Refused("wrong keys"), times=1000, call="open")
    with pytest.raises(Refused):
        b"".join(a_zip.sent())
    assert a_zip.paused_s == []


def test_sending_that_nobody_reads_on_closes_what_is_open() -> None:
    a_zip = Zip([a_body(frame, 3 * MIB) for frame in range(20)])
    sending = a_zip.sent()
    assert next(sending)
    wait_for(lambda: len(a_zip.objects.opened) >= 2, "the next frame to be opened")
    sending.close()
    wait_for(lambda: all(stream.closed for _, _, stream in a_zip.objects.opened), "every stream to be closed")
    assert len(a_zip.objects.opened) < 10
