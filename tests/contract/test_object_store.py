"""The contract of ObjectStore: in memory and on SeaweedFS."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from supervisor.cloud.ports import ObjectStore
from supervisor.cloud.s3 import part_bytes
from tests.fakes import FakeObjectStore

_NUMBERS = count()


@pytest.fixture(params=["fake", "seaweedfs"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "fake":
        return FakeObjectStore()
    real: ObjectStore = request.getfixturevalue("object_store")
    return real


@pytest.fixture
def prefix() -> str:
    """A prefix of this test's own: the real store is shared by the whole run."""
    return f"received/objects{next(_NUMBERS)}/"


class Trickle(io.RawIOBase):
    """A stream that gives less than it is asked for, as pipes do, and may break."""

    def __init__(self, size: int, *, breaks_at: int | None = None) -> None:
        super().__init__()
        self._left = size
        self._breaks_at = breaks_at
        self._given = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if self._breaks_at is not None and self._given >= self._breaks_at:
            raise OSError("the source broke")
        wanted = min(self._left, 300_000 if size < 0 else min(size, 300_000))
        self._left -= wanted
        self._given += wanted
        return b"\x5a" * wanted

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def test_object_is_read_as_it_was_written(store: ObjectStore, prefix: str) -> None:
    assert store.put(f"{prefix}a", b"one") is True
    there = store.get(f"{prefix}a")
    assert there is not None
    assert there.body == b"one"


def test_missing_object_reads_as_none(store: ObjectStore, prefix: str) -> None:
    assert store.get(f"{prefix}nothing") is None


def test_later_write_replaces_the_object(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}a", b"one")
    store.put(f"{prefix}a", b"two")
    there = store.get(f"{prefix}a")
    assert there is not None
    assert there.body == b"two"


def test_conditional_write_leaves_an_existing_object_alone(store: ObjectStore, prefix: str) -> None:
    assert store.put(f"{prefix}claim", b"mine", if_absent=True) is True
    assert store.put(f"{prefix}claim", b"theirs", if_absent=True) is False
    there = store.get(f"{prefix}claim")
    assert there is not None
    assert there.body == b"mine"


def test_exactly_one_of_many_conditional_writes_wins(object_store: ObjectStore, prefix: str) -> None:
    start = threading.Barrier(8)

    def claim(number: int) -> bool:
        start.wait()
        return object_store.put(f"{prefix}claim", b"%d" % number, if_absent=True)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(claim, range(8))) == 1


def test_unchanged_object_is_not_read_again(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}order", b"one")
    there = store.get(f"{prefix}order")
    assert there is not None
    assert store.get(f"{prefix}order", unless_etag=there.etag) is None
    store.put(f"{prefix}order", b"two")
    changed = store.get(f"{prefix}order", unless_etag=there.etag)
    assert changed is not None
    assert changed.body == b"two"


def test_names_with_blanks_quotes_and_unicode_work(store: ObjectStore, prefix: str) -> None:
    key = f"{prefix}Größe \"1\" & 'zwei' +%20/日本.blend"
    store.put(key, b"x")
    assert store.get(key) is not None
    assert [entry.key for entry in store.list(prefix)] == [key]
    store.delete([key])
    assert store.get(key) is None


def test_stream_is_read_from_a_byte_on(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}a", b"0123456789")
    with store.open(f"{prefix}a", first_byte=7) as stream:
        assert stream.read(2) == b"78"
        assert stream.read() == b"9"
        assert stream.read() == b""


def test_stream_from_beyond_the_end_is_empty(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}a", b"0123")
    with store.open(f"{prefix}a", first_byte=4) as stream:
        assert stream.read() == b""


def test_opening_a_missing_object_says_so(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(FileNotFoundError):
        store.open(f"{prefix}nothing")


@pytest.mark.parametrize("size", [0, 10, part_bytes(1), part_bytes(1) + 1, 2 * part_bytes(1) + 5])
def test_stream_of_any_size_arrives_whole(store: ObjectStore, prefix: str, size: int) -> None:
    store.put_stream(f"{prefix}zip", io.BufferedReader(Trickle(size)))
    assert [entry.bytes for entry in store.list(prefix)] == [size]
    with store.open(f"{prefix}zip") as stream:
        assert stream.read() == b"\x5a" * size


@pytest.mark.parametrize("breaks_at", [0, part_bytes(1) + 1000])
def test_broken_stream_leaves_nothing(store: ObjectStore, prefix: str, breaks_at: int) -> None:
    with pytest.raises(OSError, match="the source broke"):
        store.put_stream(f"{prefix}zip", io.BufferedReader(Trickle(3 * part_bytes(1), breaks_at=breaks_at)))
    assert list(store.list(prefix)) == []


def test_listing_is_ascending_within_a_folder(store: ObjectStore, prefix: str) -> None:
    for name in ("00000002", "-0000001", "00000010", "00000001"):
        store.put(f"{prefix}claims/{name}", name.encode())
    found = list(store.list(f"{prefix}claims/"))
    assert [entry.key.rpartition("/")[2] for entry in found] == ["-0000001", "00000001", "00000002", "00000010"]
    assert {entry.bytes for entry in found} == {8}


def test_listing_begins_after_a_key_that_need_not_exist(store: ObjectStore, prefix: str) -> None:
    for name in ("10-a", "20-a", "20-b", "30-a"):
        store.put(f"{prefix}journal/{name}", b"x")
    assert [entry.key.rpartition("/")[2] for entry in store.list(f"{prefix}journal/", after=f"{prefix}journal/20")] == [
        "20-a",
        "20-b",
        "30-a",
    ]
    assert [entry.key.rpartition("/")[2] for entry in store.list(f"{prefix}journal/", after=f"{prefix}journal/20-b")] == ["30-a"]


def test_listing_goes_on_beyond_a_thousand(store: ObjectStore, prefix: str) -> None:
    names = [f"{number:08d}" for number in range(1100)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: store.put(f"{prefix}{name}", b""), names))
    assert [entry.key.removeprefix(prefix) for entry in store.list(prefix)] == names
    store.delete(f"{prefix}{name}" for name in names)
    assert list(store.list(prefix)) == []


def test_listed_etag_is_the_one_that_reading_shows(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}a", b"one")
    there = store.get(f"{prefix}a")
    assert there is not None
    [entry] = store.list(prefix)
    assert entry.etag == there.etag
    assert entry.modified_at.tzinfo is not None


def test_deleting_what_is_not_there_is_no_error(store: ObjectStore, prefix: str) -> None:
    store.put(f"{prefix}a", b"one")
    store.delete([f"{prefix}a", f"{prefix}never"])
    store.delete([])
    assert list(store.list(prefix)) == []
