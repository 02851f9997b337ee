"""Uploads: begun, resumed, refused, completed, removed."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import queries
from supervisor.cloud.ports import Full, Unreachable
from supervisor.commands import files as commands
from supervisor.commands import jobs as job_commands
from supervisor.commands.files import UploadPlan
from supervisor.config import Config, UploadsConfig
from supervisor.domain.errors import Conflict, NotFound, OutOfSpace, Rejected
from supervisor.domain.file import FileStatus
from supervisor.domain.upload import MAX_PARTS, check_complete, gib, part_count, part_length, part_size
from supervisor.lifecycle import intake
from supervisor.store import files as store
from tests.fakes.farm import FakeFarm

MIB = 1 << 20
PART = 16 * MIB


def send(bench: FakeFarm, job: str, plan: UploadPlan, body: bytes, *, numbers: tuple[int, ...] | None = None) -> list[tuple[int, str]]:
    """Send an upload's missing parts, as the app does. Returns: (number, ETag) of all parts"""
    sent = [(part.number, part.etag) for part in plan.received]
    for number, _ in plan.urls:
        if numbers is None or number in numbers:
            part = body[(number - 1) * plan.part_bytes : number * plan.part_bytes]
            sent.append((number, commands.put_part(bench.farm, job, plan.file, number=number, source=io.BytesIO(part), length=len(part))))
    return sent


def a_body(length: int) -> bytes:
    return (b"kiln" * (length // 4 + 1))[:length]


def test_uploaded_file_is_ready_with_the_checksum_of_its_content(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(PART + 5)
    plan = commands.begin_file(bench.farm, job, path="tex/wood.png", length=len(body))

    view = commands.complete_file(bench.farm, job, plan.file, parts=send(bench, job, plan, body))

    assert (view.status, view.path, view.bytes) == (FileStatus.READY, "tex/wood.png", len(body))
    with bench.farm.db.read() as connection:
        row = store.file_by_id(connection, view.id)
    assert row is not None
    assert row.checksum == f"crc32:{zlib.crc32(body):08x}"
    there = bench.cloud.objects.get(row.key)
    assert there is not None
    assert there.body == body


def test_parts_have_addresses_in_the_store_where_the_client_reaches_it(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=PART + 1, endpoint="http://farm:9000")
    assert [number for number, _ in plan.urls] == [1, 2]
    assert all(url and url.startswith("http://farm:9000/") for _, url in plan.urls)


def test_parts_go_through_the_app_where_it_does_not(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=PART + 1)
    assert plan.urls == ((1, None), (2, None))


def test_interrupted_upload_goes_on_with_the_parts_that_are_missing(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(2 * PART + 7)
    first = commands.begin_file(bench.farm, job, path="a.bin", length=len(body), modified_ms=5)
    send(bench, job, first, body, numbers=(2,))

    again = commands.begin_file(bench.farm, job, path="a.bin", length=len(body), modified_ms=5)

    assert again.file == first.file
    assert [part.number for part in again.received] == [2]
    assert [number for number, _ in again.urls] == [1, 3]
    assert commands.complete_file(bench.farm, job, again.file, parts=send(bench, job, again, body)).status is FileStatus.READY


def test_resumed_upload_names_received_parts_and_the_others(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(PART + 7)
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=len(body))
    send(bench, job, plan, body, numbers=(1,))
    again = commands.resume_file(bench.farm, job, plan.file, endpoint="http://farm:9000")
    assert [part.number for part in again.received] == [1]
    assert [number for number, _ in again.urls] == [2]


def test_upload_of_another_content_begins_anew_and_gives_the_old_parts_back(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(PART + 7)
    old = commands.begin_file(bench.farm, job, path="a.bin", length=len(body), modified_ms=5)
    send(bench, job, old, body, numbers=(1,))

    new = commands.begin_file(bench.farm, job, path="a.bin", length=len(body), modified_ms=6)

    assert new.file != old.file
    assert new.received == ()
    assert len(bench.cloud.uploads.unfinished()) == 1
    with pytest.raises(NotFound):
        send(bench, job, old, body, numbers=(2,))


def test_upload_without_a_time_is_never_mixed_with_an_earlier_one(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(PART + 7)
    old = commands.begin_file(bench.farm, job, path="a.bin", length=len(body))
    send(bench, job, old, body, numbers=(1,))
    assert commands.begin_file(bench.farm, job, path="a.bin", length=len(body)).received == ()


def test_whole_file_dropped_again_needs_nothing_sent(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(PART + 7)
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=len(body), modified_ms=5)
    whole = commands.complete_file(bench.farm, job, plan.file, parts=send(bench, job, plan, body))

    again = commands.begin_file(bench.farm, job, path="a.bin", length=len(body), modified_ms=5)

    assert again.urls == ()
    assert [(part.number, part.bytes) for part in again.received] == [(1, PART), (2, 7)]
    assert commands.complete_file(bench.farm, job, again.file, parts=[(p.number, p.etag) for p in again.received]) == whole


def test_replaced_main_file_stays_the_main_file(bench: FakeFarm) -> None:
    job = bench.a_draft(blend="a.blend")
    bench.a_file(job, "b.blend")
    with bench.farm.db.read() as connection:
        row = store.standing(connection, job, "b.blend").existing
    assert row is not None
    job_commands.choose_main_file(bench.farm, job, file=row.id)

    plan = commands.begin_file(bench.farm, job, path="b.blend", length=10)

    with bench.farm.db.read() as connection:
        assert store.main_file_id(connection, job) == plan.file


@pytest.mark.parametrize("path", ["", "../a.png", "/etc/passwd", "C:\\a.png", "a/../../b", "a\x00b", "x" * 256])
def test_unsafe_name_is_rejected_at_its_field_and_nothing_is_begun(bench: FakeFarm, path: str) -> None:
    job = bench.a_draft(blend=None)
    with pytest.raises(Rejected) as caught:
        commands.begin_file(bench.farm, job, path=path, length=10)
    assert caught.value.field == "path"
    assert bench.cloud.uploads.unfinished() == []
    assert queries.job_files(bench.farm, job) == []


@pytest.mark.parametrize("path", ["a name with “quotes” and 'more'.png", "täxtüre/木.png", "-rf.png", "%2e%2e/x.png", "n" * 255])
def test_odd_but_safe_name_is_kept(bench: FakeFarm, path: str) -> None:
    job = bench.a_draft(blend=None)
    commands.put_file(bench.farm, job, path=path, source=io.BytesIO(b"12345"), length=5)
    assert [file.path for file in queries.job_files(bench.farm, job)] == [path]


def test_empty_file_is_rejected(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    with pytest.raises(Rejected, match=r"“a\.png” is empty") as caught:
        commands.begin_file(bench.farm, job, path="a.png", length=0)
    assert caught.value.field == "bytes"


def test_name_that_differs_in_case_only_is_rejected_naming_the_other(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    bench.a_file(job, "Tex/Wood.png")
    with pytest.raises(Rejected, match=r"“Tex/Wood\.png”") as caught:
        commands.begin_file(bench.farm, job, path="tex/wood.PNG", length=5)
    assert caught.value.field == "path"


@pytest.mark.parametrize(("there", "new"), [("a", "a/b.png"), ("a/b.png", "a"), ("a/b/c", "A/B"), ("A", "a/b/c")])
def test_name_can_not_be_both_file_and_folder(bench: FakeFarm, there: str, new: str) -> None:
    job = bench.a_draft(blend=None)
    bench.a_file(job, there)
    with pytest.raises(Rejected, match="both a file and a folder"):
        commands.begin_file(bench.farm, job, path=new, length=5)


def test_names_that_share_a_beginning_are_no_folders_of_each_other(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    for path in ("a.png", "a", "a0", "a-b/c", "a b/c"):
        commands.put_file(bench.farm, job, path=path, source=io.BytesIO(b"x"), length=1)
    assert len(queries.job_files(bench.farm, job)) == 5


def limited(tmp_path: Path, **limits: float) -> FakeFarm:
    return FakeFarm.open(tmp_path, config=Config(uploads=UploadsConfig.model_validate(limits)))


def test_file_over_the_limit_is_rejected_with_the_limit(tmp_path: Path) -> None:
    bench = limited(tmp_path, max_file_gib=0.5)
    with pytest.raises(Rejected, match=r"0\.5 GiB \(\[uploads\] max_file_gib\)"):
        commands.begin_file(bench.farm, bench.a_draft(blend=None), path="a.bin", length=600 * MIB)


def test_files_over_the_jobs_limit_are_rejected(tmp_path: Path) -> None:
    bench = limited(tmp_path, max_job_gib=1)
    job = bench.a_draft(blend=None)
    commands.begin_file(bench.farm, job, path="a.bin", length=700 * MIB)
    with pytest.raises(Rejected, match="max_job_gib"):
        commands.begin_file(bench.farm, job, path="b.bin", length=700 * MIB)
    commands.begin_file(bench.farm, job, path="a.bin", length=900 * MIB)  # in place of the first


def test_too_many_files_are_rejected(tmp_path: Path) -> None:
    bench = limited(tmp_path, max_files=2)
    job = bench.a_draft(blend=None)
    for path in ("a", "b"):
        bench.a_file(job, path)
    with pytest.raises(Rejected, match="max_files"):
        commands.begin_file(bench.farm, job, path="c", length=5)
    commands.begin_file(bench.farm, job, path="b", length=5)


def test_upload_that_does_not_fit_the_disk_is_refused_with_numbers(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    bench.cloud.premises.free = 3 << 30
    with pytest.raises(OutOfSpace, match=r"needs 1\.5 GiB; 3\.0 GiB are left, and the farm keeps 2\.0 GiB free"):
        commands.begin_file(bench.farm, job, path="a.bin", length=3 << 29)
    assert bench.cloud.uploads.unfinished() == []
    bench.cloud.premises.free = 4 << 30
    commands.begin_file(bench.farm, job, path="a.bin", length=3 << 29)


def test_part_is_refused_while_the_disk_is_full_and_taken_when_there_is_room(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(100)
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=100)
    bench.cloud.premises.free = 1 << 30
    with pytest.raises(OutOfSpace):
        send(bench, job, plan, body)
    bench.cloud.premises.free = None
    bench.cloud.uploads.fail_next(Full("no room"), call="put_part")
    with pytest.raises(OutOfSpace):
        send(bench, job, plan, body)
    assert commands.complete_file(bench.farm, job, plan.file, parts=send(bench, job, plan, body)).status is FileStatus.READY


def test_part_of_another_length_is_rejected(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=100)
    for length in (99, 101):
        with pytest.raises(Rejected, match="has 100 bytes") as caught:
            commands.put_part(bench.farm, job, plan.file, number=1, source=io.BytesIO(a_body(length)), length=length)
        assert caught.value.field == "length"


@pytest.mark.parametrize("number", [0, 2, -1])
def test_part_that_there_is_not_is_rejected(bench: FakeFarm, number: int) -> None:
    job = bench.a_draft(blend=None)
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=100)
    with pytest.raises(Rejected, match="parts 1 to 1"):
        commands.put_part(bench.farm, job, plan.file, number=number, source=io.BytesIO(a_body(100)), length=100)


def test_part_that_breaks_off_is_rejected_and_can_be_sent_again(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(100)
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=100)
    with pytest.raises(Rejected, match="ended after 60 of 100 bytes"):
        commands.put_part(bench.farm, job, plan.file, number=1, source=io.BytesIO(body[:60]), length=100)
    assert commands.complete_file(bench.farm, job, plan.file, parts=send(bench, job, plan, body)).status is FileStatus.READY


def test_part_of_an_upload_that_the_store_lost_is_a_conflict(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=100)
    with bench.farm.db.read() as connection:
        row = store.file_by_id(connection, plan.file)
    assert row is not None
    bench.cloud.uploads.abort(row.key, row.upload_id or "")
    with pytest.raises(Conflict, match="begin it again"):
        send(bench, job, plan, a_body(100))
    with pytest.raises(Conflict, match="begin it again"):
        commands.resume_file(bench.farm, job, plan.file)
    with pytest.raises(Conflict, match="begin it again"):
        commands.complete_file(bench.farm, job, plan.file, parts=[(1, "0" * 32)])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda parts: [(1, "0" * 32), parts[1]], "part 1 is not the one"),
        (lambda parts: parts[:1], "part 2 of 2 is missing"),
        (lambda parts: [], "part 1 of 2 is missing"),
        (lambda parts: [*parts, (3, "0" * 32)], "no part 3"),
        (lambda parts: [*parts, parts[0]], "part 1 is named twice"),
    ],
)
def test_upload_completed_with_wrong_parts_is_rejected_and_stays(bench: FakeFarm, change: object, said: str) -> None:
    job, body = bench.a_draft(blend=None), a_body(PART + 7)
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=len(body))
    parts = send(bench, job, plan, body)

    with pytest.raises(Rejected, match=said) as caught:
        commands.complete_file(bench.farm, job, plan.file, parts=change(parts))  # type: ignore[operator]

    assert caught.value.field == "parts"
    quoted = [(number, f'"{etag}"') for number, etag in reversed(parts)]
    assert commands.complete_file(bench.farm, job, plan.file, parts=quoted).status is FileStatus.READY


def test_completing_a_complete_file_returns_it(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(9)
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=9)
    parts = send(bench, job, plan, body)
    whole = commands.complete_file(bench.farm, job, plan.file, parts=parts)
    assert commands.complete_file(bench.farm, job, plan.file, parts=parts) == whole
    assert commands.complete_file(bench.farm, job, plan.file, parts=[]) == whole


def test_upload_that_died_between_completion_and_its_row_is_completed_by_asking_again(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(9)
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=9)
    parts = send(bench, job, plan, body)
    with bench.farm.db.read() as connection:
        row = store.file_by_id(connection, plan.file)
    assert row is not None
    bench.cloud.uploads.complete(row.key, row.upload_id or "", parts)
    assert commands.complete_file(bench.farm, job, plan.file, parts=parts).status is FileStatus.READY


def test_file_that_the_store_can_not_give_now_is_checked_later(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(9)
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=9)
    parts = send(bench, job, plan, body)
    bench.cloud.objects.fail_next(Unreachable("no answer"), call="open")
    assert commands.complete_file(bench.farm, job, plan.file, parts=parts).status is FileStatus.CHECKING

    intake.check_pending(bench.farm)

    assert commands.file_view(bench.farm, job, plan.file).status is FileStatus.READY


def test_file_whose_content_is_gone_is_bad(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    file = bench.a_file(job, "a.bin", status=FileStatus.CHECKING)
    bench.cloud.objects.delete(bench.cloud.objects.keys())
    intake.check_pending(bench.farm)
    view = commands.file_view(bench.farm, job, file)
    assert (view.status, view.problem) == (FileStatus.BAD, "its content is gone from the store; upload it again")


def test_big_file_is_ready_at_once_and_gets_its_checksum_in_the_background(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(65 * MIB)
    view = commands.put_file(bench.farm, job, path="a.bin", source=io.BytesIO(body), length=len(body))
    assert view.status is FileStatus.READY

    intake.check_pending(bench.farm)

    with bench.farm.db.read() as connection:
        row = store.file_by_id(connection, view.id)
    assert row is not None
    assert row.checksum == f"crc32:{zlib.crc32(body):08x}"
    assert row.status is FileStatus.READY


def test_every_change_of_a_file_raises_the_jobs_version(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    seen = [queries.job_summary(bench.farm, job).version]
    plan = commands.begin_file(bench.farm, job, path="a.bin", length=9)
    seen.append(queries.job_summary(bench.farm, job).version)
    commands.complete_file(bench.farm, job, plan.file, parts=send(bench, job, plan, a_body(9)))
    seen.append(queries.job_summary(bench.farm, job).version)
    commands.remove_file(bench.farm, job, plan.file)
    seen.append(queries.job_summary(bench.farm, job).version)
    assert sorted(set(seen)) == seen


def test_file_sent_in_one_request_is_ready(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(PART + 5)
    view = commands.put_file(bench.farm, job, path="tex\\wood.png", source=io.BytesIO(body), length=len(body))
    assert (view.status, view.path) == (FileStatus.READY, "tex/wood.png")


class _Counting(io.BytesIO):
    largest = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.largest = max(self.largest, len(data))
        return data


def test_file_sent_in_one_request_is_never_read_past_a_part(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(3 * PART)
    source = _Counting(body + b"and the next request on the same connection")
    commands.put_file(bench.farm, job, path="a.bin", source=cast("BinaryIO", source), length=len(body))
    assert source.largest <= PART
    assert source.read() == b"and the next request on the same connection"


def test_file_sent_in_one_request_that_breaks_off_leaves_nothing(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(PART + 5)
    with pytest.raises(Rejected, match=r"part 2 of “a\.bin” ended after 0 of 5 bytes"):
        commands.put_file(bench.farm, job, path="a.bin", source=io.BytesIO(body[:PART]), length=len(body))
    assert queries.job_files(bench.farm, job) == []
    assert bench.cloud.uploads.unfinished() == []
    assert bench.cloud.objects.keys() == []


def test_removed_file_is_gone_from_job_and_store(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    view = commands.put_file(bench.farm, job, path="a.bin", source=io.BytesIO(b"12345"), length=5)
    half = commands.begin_file(bench.farm, job, path="b.bin", length=9)
    commands.remove_file(bench.farm, job, view.id)
    commands.remove_file(bench.farm, job, half.file)
    assert queries.job_files(bench.farm, job) == []
    assert bench.cloud.objects.keys() == []
    assert bench.cloud.uploads.unfinished() == []
    with pytest.raises(NotFound):
        commands.remove_file(bench.farm, job, view.id)


def test_files_of_a_submitted_job_can_not_change(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()
    file = queries.job_files(bench.farm, job)[0]
    with pytest.raises(Conflict, match="this job is submitted"):
        commands.begin_file(bench.farm, job, path="late.png", length=5)
    with pytest.raises(Conflict):
        commands.remove_file(bench.farm, job, file.id)


def test_file_that_is_removed_just_as_its_job_is_submitted_stays(bench: FakeFarm) -> None:
    job = bench.a_draft()
    with bench.farm.db.read() as connection:
        (row,) = store.files_of(connection, job)
    job_commands.submit_job(bench.farm, job)
    assert not intake.forget_file(bench.farm, row)
    assert bench.cloud.objects.keys() == [row.key]


def test_file_of_no_job_is_not_found(bench: FakeFarm) -> None:
    job, other = bench.a_draft(blend=None), bench.a_draft()
    with pytest.raises(NotFound):
        commands.begin_file(bench.farm, "job_gone", path="a", length=5)
    file = queries.job_files(bench.farm, other)[0]
    with pytest.raises(NotFound):
        commands.resume_file(bench.farm, job, file.id)


def test_whole_file_takes_no_more_parts(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    file = bench.a_file(job, "a.bin")
    with pytest.raises(Conflict, match="uploaded already"):
        commands.resume_file(bench.farm, job, file)


def test_upload_that_nobody_goes_on_with_is_swept(bench: FakeFarm) -> None:
    job, body = bench.a_draft(blend=None), a_body(PART + 9)
    plan = commands.begin_file(bench.farm, job, path="old.bin", length=len(body))
    send(bench, job, plan, body, numbers=(1,))
    bench.clock.pass_s(6.9 * 86400)
    kept = commands.begin_file(bench.farm, job, path="new.bin", length=9)
    bench.clock.pass_s(0.2 * 86400)

    intake.sweep_uploads(bench.farm)

    assert [file.id for file in queries.job_files(bench.farm, job)] == [kept.file]
    assert len(bench.cloud.uploads.unfinished()) == 1


def test_upload_that_is_resumed_is_not_swept(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    plan = commands.begin_file(bench.farm, job, path="old.bin", length=9)
    bench.clock.pass_s(6.9 * 86400)
    commands.resume_file(bench.farm, job, plan.file)
    bench.clock.pass_s(0.2 * 86400)
    intake.sweep_uploads(bench.farm)
    assert [file.id for file in queries.job_files(bench.farm, job)] == [plan.file]


@given(st.integers(1, 1 << 43))
def test_parts_cover_the_file_exactly_and_are_never_too_many(length: int) -> None:
    size = part_size(length, smallest=16 * MIB)
    count = part_count(length, size)
    assert 1 <= count <= MAX_PARTS
    assert size >= 16 * MIB
    assert size % MIB == 0
    last = part_length(count, length=length, part_bytes=size)
    assert 1 <= last <= size
    assert size * (count - 1) + last == length
    check_complete(list(range(1, count + 1)), length=length, part_bytes=size)


def test_sizes_read_well() -> None:
    assert [gib(n) for n in (0, 12, 2048, 3 * MIB, 5 << 29)] == ["0 bytes", "12 bytes", "2.0 KiB", "3.0 MiB", "2.5 GiB"]
