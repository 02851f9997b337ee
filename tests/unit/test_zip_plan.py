"""Plans of zips: their bytes are those of a zip, whatever part is asked for, however large it is."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from stat import S_ISREG

from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.naming import Packed
from supervisor.domain.zip_plan import Stretch, ZipPlan, index_of
from supervisor.store.encoding import index_from_bytes, index_to_bytes

MADE_AT = datetime(2026, 1, 5, 9, 30, 12)  # noqa: DTZ001 - a zip has local time without a zone
GIB = 1 << 30


def a_plan(outputs: list[Packed]) -> ZipPlan:
    return ZipPlan(index_of(outputs, made_at=MADE_AT))


def of_body(frame: int, name: str, body: bytes) -> Packed:
    return Packed(frame=frame, name=name, bytes=len(body), crc32=zlib.crc32(body))


def bytes_of(plan: ZipPlan, first: int, end: int, content: Callable[[Stretch], bytes]) -> bytes:
    return b"".join(piece if isinstance(piece, bytes) else content(piece) for piece in plan.pieces(first, end))


class _Sparse(io.RawIOBase):
    """A planned zip as a file whose entries hold zeros, none of which are anywhere."""

    def __init__(self, plan: ZipPlan) -> None:
        self._plan = plan
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, position: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = position + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._plan.bytes}[whence]
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        end = min(self._at + len(buffer), self._plan.bytes)
        part = bytes_of(self._plan, min(self._at, end), end, lambda stretch: bytes(stretch.end - stretch.first))
        buffer[: len(part)] = part
        self._at = end
        return len(part)


def opened(plan: ZipPlan) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BufferedReader(_Sparse(plan), 1 << 16))


def zeros_crc32(length: int) -> int:
    crc32, block = 0, bytes(1 << 24)
    for _ in range(length // len(block)):
        crc32 = zlib.crc32(block, crc32)
    return zlib.crc32(bytes(length % len(block)), crc32)


def test_plan_of_a_zip_is_a_zip_that_python_reads() -> None:
    bodies = {"shot_0001.png": b"one", "Größe/木.exr": b"two" * 1000, "empty.txt": b""}
    outputs = [of_body(1, name, body) for name, body in bodies.items()]
    plan = a_plan(outputs)

    whole = bytes_of(plan, 0, plan.bytes, lambda stretch: bodies[stretch.entry.output][stretch.first : stretch.end])

    assert len(whole) == plan.bytes
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == bodies
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (2026, 1, 5, 9, 30, 12)
            assert S_ISREG(entry.external_attr >> 16)
            assert entry.external_attr >> 16 & 0o777 == 0o644


def test_zip_without_files_is_a_zip() -> None:
    plan = a_plan([])
    with zipfile.ZipFile(io.BytesIO(bytes_of(plan, 0, plan.bytes, lambda stretch: b""))) as archive:
        assert archive.namelist() == []


def test_file_of_more_than_four_gib_and_what_follows_it_are_found() -> None:
    large, small = 5 * GIB + 17, 1000
    outputs = [
        Packed(frame=1, name="large.exr", bytes=large, crc32=1),
        Packed(frame=2, name="small.exr", bytes=small, crc32=zlib.crc32(bytes(small))),
    ]
    plan = a_plan(outputs)
    assert plan.bytes > 5 * GIB
    with opened(plan) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        assert entries["large.exr"].file_size == large
        assert entries["small.exr"].header_offset > 5 * GIB
        assert archive.read("small.exr") == bytes(small)
        with archive.open("large.exr") as source:
            assert source.read(100) == bytes(100)


def test_checksum_of_a_file_at_the_edge_of_zip64_is_read_back() -> None:
    length = (1 << 31) + 3  # Python's own edge lies at 2 GiB, the format's at 4
    plan = a_plan([Packed(frame=1, name="a.exr", bytes=length, crc32=zeros_crc32(length))])
    with opened(plan) as archive:
        assert archive.testzip() is None


def test_zip_of_more_files_than_the_old_format_counts_opens() -> None:
    outputs = [Packed(frame=n, name=f"shot_{n:06d}.png", bytes=1, crc32=zlib.crc32(b"\0")) for n in range(66_000)]
    with opened(a_plan(outputs)) as archive:
        assert len(archive.namelist()) == 66_000
        assert archive.read("shot_065999.png") == b"\0"


_FILES = st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=40)), max_size=6)


def _ranges(length: int) -> st.SearchStrategy[tuple[int, int]]:
    place = st.integers(0, length)
    return st.tuples(place, place).map(lambda pair: (min(pair), max(pair)))


@given(_FILES, st.data())
def test_any_part_of_a_plan_is_that_part_of_the_whole(files: list[tuple[str, bytes]], data: st.DataObject) -> None:
    plan = a_plan([of_body(number, name, body) for number, (name, body) in enumerate(files)])

    def content(stretch: Stretch) -> bytes:
        assert stretch.first < stretch.end
        return files[stretch.entry.frame][1][stretch.first : stretch.end]

    whole = bytes_of(plan, 0, plan.bytes, content)
    first, end = data.draw(_ranges(plan.bytes))

    assert bytes_of(plan, first, end, content) == whole[first:end]
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.testzip() is None
        assert [archive.read(name) for name in archive.namelist()] == [body for _, body in files]


@given(_FILES)
def test_index_is_read_back_as_it_was_written(files: list[tuple[str, bytes]]) -> None:
    index = index_of([of_body(number, name, body) for number, (name, body) in enumerate(files)], made_at=MADE_AT)
    assert index_from_bytes(index_to_bytes(index)) == index


def pieces_between(plan: ZipPlan, first: int, end: int) -> Iterator[Stretch]:
    return (piece for piece in plan.pieces(first, end) if isinstance(piece, Stretch))


def test_part_of_a_zip_needs_the_files_that_it_touches_alone() -> None:
    plan = a_plan([Packed(frame=n, name=f"{n}.png", bytes=1000, crc32=0) for n in range(100)])
    middle = plan.bytes // 2
    assert len(list(pieces_between(plan, middle, middle + 100))) <= 2
    assert list(pieces_between(plan, plan.bytes - 50, plan.bytes)) == []
