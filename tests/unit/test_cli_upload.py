"""Uploads of the command line: parts, and going on after whatever a network does."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pytest

from app.api import models
from app.cli.client import ApiError, Client, ServerUnreachable
from app.cli.project import BadProject, LocalFile, gather
from app.cli.upload import SMALL_BYTES, Uploader
from supervisor.domain.file import FileStatus

PART_BYTES = 4 << 20
SIZE = SMALL_BYTES + 5


def a_refusal(status: int, *, field: str = "") -> ApiError:
    errors = [models.FieldError(field=field, detail="d")] if field else []
    return ApiError(models.Problem(type="about:blank", title="", status=status, detail="refused", errors=errors))


class FakeFarm(Client):
    """A farm that keeps uploads in memory and fails when told to."""

    def __init__(self, *, is_direct: bool = False) -> None:
        super().__init__("http://farm", "token")
        self.is_direct = is_direct
        self.begun: list[bool] = []  #: through_app of each
        self.stored: dict[int, bytes] = {}
        self.whole: dict[str, bytes] = {}
        self.part_failures: list[Exception] = []
        self.complete_failures: list[Exception] = []
        self.put_failures: list[Exception] = []
        self._lock = Lock()

    def begin_file(self, job: str, new: models.NewFile, *, through_app: bool = False) -> models.UploadPlan:
        self.begun.append(through_app)
        host = "http://store" if self.is_direct and not through_app else "http://farm"
        count = math.ceil(new.bytes / PART_BYTES)
        return models.UploadPlan(
            id="file_1",
            part_bytes=PART_BYTES,
            parts=[models.PartUrl(number=n, url=f"{host}/parts/{n}") for n in range(1, count + 1) if n not in self.stored],
            received=[models.ReceivedPart(number=n, etag=_etag(data), bytes=len(data)) for n, data in self.stored.items()],
        )

    def put_part(self, url: str, source: Any, *, length: int) -> str:
        data = source.read(length)
        with self._lock:
            if self.part_failures:
                raise self.part_failures.pop(0)
            self.stored[int(url.rpartition("/")[2])] = data
        return _etag(data)

    def complete_file(self, job: str, file: str, parts: Any) -> models.File:
        if self.complete_failures:
            raise self.complete_failures.pop(0)
        assert dict(parts) == {n: _etag(data) for n, data in self.stored.items()}
        return self._made("big", b"".join(data for _, data in sorted(self.stored.items())))

    def put_file(self, job: str, path: str, source: Any, *, length: int) -> models.File:
        if self.put_failures:
            raise self.put_failures.pop(0)
        assert len(source) == length
        return self._made(path, source)

    def _made(self, path: str, content: bytes) -> models.File:
        with self._lock:
            self.whole[path] = content
        return models.File(id="file_1", path=path, bytes=len(content), status=FileStatus.READY, problem="", is_main=False, inspection=None)


def _etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def large(tmp_path: Path) -> LocalFile:
    source = tmp_path / "big"
    source.write_bytes(bytes(range(251)) * (SIZE // 251) + b"z" * (SIZE % 251))
    return gather(source, ())[0]


class Sent:
    """An upload with what it said of itself."""

    def __init__(self, farm: FakeFarm) -> None:
        self.bytes = 0
        self.files: list[str] = []
        self.slept: list[float] = []
        self._uploader = Uploader(farm, "job_1", on_bytes=self._count, waits_s=(1.0, 2.0), sleep=self.slept.append)

    def _count(self, change: int) -> None:
        self.bytes += change

    def send(self, *files: LocalFile) -> Sent:
        self._uploader.send(files, on_file=lambda file, _: self.files.append(file.path))
        return self


def test_large_file_arrives_whole_in_parts(large: LocalFile) -> None:
    farm = FakeFarm()
    sent = Sent(farm).send(large)
    assert farm.whole["big"] == large.source.read_bytes()
    assert sorted(farm.stored) == [1, 2, 3]
    assert (sent.bytes, sent.files, sent.slept) == (SIZE, ["big"], [])


def test_small_files_go_in_one_request_each(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    farm = FakeFarm()
    sent = Sent(farm).send(*gather(tmp_path / "a.png", [tmp_path / "b.png"]))
    assert farm.whole == {"a.png": b"a.png", "b.png": b"b.png"}
    assert (sent.files, farm.begun) == (["a.png", "b.png"], [])


def test_parts_received_before_are_not_sent_again(large: LocalFile) -> None:
    farm = FakeFarm()
    farm.stored[2] = large.source.read_bytes()[PART_BYTES : 2 * PART_BYTES]
    farm.part_failures = []
    assert Sent(farm).send(large).bytes == SIZE
    assert farm.whole["big"] == large.source.read_bytes()


@pytest.mark.parametrize(
    "failure", [ServerUnreachable("gone"), a_refusal(503), a_refusal(403), a_refusal(500)], ids=["gone", "busy", "address expired", "error"]
)
def test_upload_goes_on_after_a_part_failed(large: LocalFile, failure: Exception) -> None:
    farm = FakeFarm()
    farm.part_failures = [failure]
    sent = Sent(farm).send(large)
    assert farm.whole["big"] == large.source.read_bytes()
    assert sent.bytes == SIZE
    assert len(sent.slept) == 1


def test_store_that_does_not_answer_directly_is_reached_through_the_app(large: LocalFile) -> None:
    farm = FakeFarm(is_direct=True)
    farm.part_failures = [ServerUnreachable("refused")]
    Sent(farm).send(large)
    assert farm.begun == [False, True]
    assert farm.whole["big"] == large.source.read_bytes()


def test_full_farm_ends_the_upload_at_once(large: LocalFile) -> None:
    farm = FakeFarm()
    farm.part_failures = [a_refusal(507)]
    with pytest.raises(ApiError) as caught:
        Sent(farm).send(large)
    assert caught.value.status == 507


def test_patience_with_a_server_that_stays_away_ends(large: LocalFile) -> None:
    farm = FakeFarm()
    farm.part_failures = [ServerUnreachable("gone")] * 100
    with pytest.raises(ServerUnreachable):
        Sent(farm).send(large)


def test_part_that_the_store_has_otherwise_is_cleared_up_by_asking_again(large: LocalFile) -> None:
    farm = FakeFarm()
    farm.complete_failures = [a_refusal(422, field="parts")]
    sent = Sent(farm).send(large)
    assert farm.whole["big"] == large.source.read_bytes()
    assert len(farm.begun) == 2
    assert sent.bytes == SIZE


def test_refusal_of_the_whole_is_passed_on(large: LocalFile) -> None:
    farm = FakeFarm()
    farm.complete_failures = [a_refusal(409)]
    with pytest.raises(ApiError, match="refused"):
        Sent(farm).send(large)


def test_small_file_is_sent_again_after_a_restart_of_the_farm(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    farm = FakeFarm()
    farm.put_failures = [ServerUnreachable("gone"), a_refusal(502)]
    sent = Sent(farm).send(*gather(tmp_path / "a.png", ()))
    assert (farm.whole, sent.slept, sent.bytes) == ({"a.png": b"a"}, [1.0, 2.0], 1)


def test_file_that_changes_while_it_is_sent_is_refused(large: LocalFile) -> None:
    class Changing(FakeFarm):
        def put_part(self, url: str, source: Any, *, length: int) -> str:
            large.source.write_bytes(b"shorter")
            return super().put_part(url, source, length=length)

    with pytest.raises(BadProject, match="changed while it was being uploaded"):
        Sent(Changing()).send(large)


def test_file_that_vanished_is_named(tmp_path: Path, large: LocalFile) -> None:
    large.source.unlink()
    with pytest.raises(BadProject, match=r"can't read .*big"):
        Sent(FakeFarm()).send(large)


def test_refusal_of_one_file_stops_the_others_in_mid_part(tmp_path: Path, large: LocalFile) -> None:
    """Or a failed command would go on sending for as long as the parts under way take."""
    begun = Event()

    class Endless(FakeFarm):
        def put_part(self, url: str, source: Any, *, length: int) -> str:
            if url.endswith("/1"):
                begun.wait(10)
                raise KeyboardInterrupt
            begun.set()
            while True:
                source.read(0)

    with pytest.raises(KeyboardInterrupt):
        Sent(Endless()).send(large)
