"""Uploaded zips: unpacked into the job, or refused with nothing left behind."""

from __future__ import annotations

import io
import random
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor import queries
from supervisor.cloud.ports import Unreachable
from supervisor.commands import files as commands
from supervisor.config import Config, UploadsConfig
from supervisor.domain.errors import Conflict, Rejected
from supervisor.domain.file import FileStatus
from supervisor.inspection.seekable import SeekableObject, TooMuchAtOnce
from supervisor.lifecycle import intake
from supervisor.store import files as store
from tests.fakes import FakeObjectStore
from tests.fakes.farm import FakeFarm

DATA = Path(__file__).parents[1] / "data"
BLEND = (DATA / "scene-4.5.blend").read_bytes()
PNG = b"\x89PNG picture"
MIB = 1 << 20


def a_zip(
    files: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED, change: Callable[[zipfile.ZipInfo], None] | None = None
) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", compression) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (2026, 1, 5, 9, 0, 0))
            entry.compress_type = compression
            if change:
                change(entry)
            archive.writestr(entry, content)
    return body.getvalue()


def drop(bench: FakeFarm, job: str, body: bytes, *, name: str = "project.zip") -> str:
    """Upload a zip. Returns: the file's id"""
    view = commands.put_file(bench.farm, job, path=name, source=io.BytesIO(body), length=len(body))
    return view.id


def unpack(bench: FakeFarm, body: bytes, *, job: str | None = None) -> dict[str, FileStatus]:
    """Upload a zip and let the background have it. Returns: the job's files with their statuses"""
    job = job or bench.a_draft(blend=None)
    drop(bench, job, body)
    intake.check_pending(bench.farm)
    return {file.path: file.status for file in queries.job_files(bench.farm, job)}


def refused(bench: FakeFarm, body: bytes) -> str:
    """Upload a zip that is refused; nothing of it but the zip itself may stay. Returns: the problem"""
    job = bench.a_draft(blend=None)
    file = drop(bench, job, body)
    intake.check_pending(bench.farm)
    view = commands.file_view(bench.farm, job, file)
    assert view.status is FileStatus.BAD
    assert [file.path for file in queries.job_files(bench.farm, job)] == ["project.zip"]
    assert bench.cloud.objects.keys(f"projects/{job}") == [f"projects/{job}/project.zip"]
    return view.problem


def test_zip_becomes_the_files_in_it_with_their_folders(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    found = unpack(bench, a_zip({"film/shot.blend": BLEND, "film/tex/wood.png": PNG, "film/": b""}), job=job)

    assert found == {"film/shot.blend": FileStatus.READY, "film/tex/wood.png": FileStatus.READY}
    assert bench.cloud.objects.keys(f"projects/{job}") == [f"projects/{job}/film/shot.blend", f"projects/{job}/film/tex/wood.png"]
    with bench.farm.db.read() as connection:
        wood = store.standing(connection, job, "film/tex/wood.png").existing
    assert wood is not None
    assert wood.checksum == f"crc32:{zlib.crc32(PNG):08x}"


def test_blend_out_of_a_zip_is_inspected(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    unpack(bench, a_zip({"shot.blend": BLEND, "cut.blend": BLEND[:5000], "old.blend@": b"x"}), job=job)
    views = {file.path: file for file in queries.job_files(bench.farm, job)}
    assert views["shot.blend"].inspection is not None
    assert views["cut.blend"].status is FileStatus.BAD
    assert views["old.blend@"].status is FileStatus.BAD


def test_zip_is_being_checked_until_the_background_has_unpacked_it(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    file = drop(bench, job, a_zip({"a.png": PNG}))
    assert commands.file_view(bench.farm, job, file).status is FileStatus.CHECKING


def test_zip_inside_a_folder_is_a_file_like_the_others(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    drop(bench, job, a_zip({"a.png": PNG}), name="film/backup.zip")
    intake.check_pending(bench.farm)
    assert {file.path: file.status for file in queries.job_files(bench.farm, job)} == {"film/backup.zip": FileStatus.READY}


def test_zip_inside_a_zip_stays_a_file(bench: FakeFarm) -> None:
    inner = a_zip({"a.png": PNG})
    assert unpack(bench, a_zip({"inner.zip": inner, "b.png": PNG})) == {"inner.zip": FileStatus.READY, "b.png": FileStatus.READY}


def test_what_systems_add_and_empty_files_are_left_out(bench: FakeFarm) -> None:
    found = unpack(
        bench,
        a_zip({"a.png": PNG, "__MACOSX/._a.png": b"x", "tex/.DS_Store": b"x", "Thumbs.db": b"x", "tex/._b.png": b"x", ".gitkeep": b""}),
    )
    assert list(found) == ["a.png"]


def test_names_that_macos_wrote_without_saying_utf8_are_read_right(bench: FakeFarm) -> None:
    body = a_zip({"tex/Größe 木.png": PNG})
    unmarked = bytearray(body)
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = body.index(magic) + at
        (flags,) = struct.unpack_from("<H", unmarked, start)
        struct.pack_into("<H", unmarked, start, flags & ~0x800)
    assert list(unpack(bench, bytes(unmarked))) == ["tex/Größe 木.png"]


def test_backslashes_in_names_are_folders(bench: FakeFarm) -> None:
    body = a_zip({"tex/wood.png": PNG}).replace(b"tex/wood.png", b"tex\\wood.png")
    assert list(unpack(bench, body)) == ["tex/wood.png"]


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/etc/passwd", "C:/evil.png", "..\\evil.png", "a\x01b", "x" * 300])
def test_name_that_leaves_the_job_makes_the_zip_bad(bench: FakeFarm, name: str) -> None:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("fine.png", PNG)
        archive.writestr(zipfile.ZipInfo(name), PNG)
    assert "a name in it can't be used" in refused(bench, body.getvalue())


def test_link_makes_the_zip_bad(bench: FakeFarm) -> None:
    def as_link(entry: zipfile.ZipInfo) -> None:
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16

    assert "symbolic link" in refused(bench, a_zip({"a.png": b"/etc/passwd"}, change=as_link))


def test_zip_with_a_password_is_bad(bench: FakeFarm) -> None:
    body = bytearray(a_zip({"a.png": PNG}))
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(magic) + at] |= 1
    assert "password" in refused(bench, bytes(body))


def test_zip_packed_in_an_unusual_way_is_bad_and_says_how_else(bench: FakeFarm) -> None:
    assert "deflate" in refused(bench, a_zip({"a.png": PNG}, compression=zipfile.ZIP_LZMA))


def test_names_that_differ_in_case_only_make_the_zip_bad(bench: FakeFarm) -> None:
    problem = refused(bench, a_zip({"tex/A.png": PNG, "tex/a.png": PNG}))
    assert "tex/A.png" in problem
    assert "tex/a.png" in problem


def test_name_that_is_both_file_and_folder_makes_the_zip_bad(bench: FakeFarm) -> None:
    assert "both a file and the folder" in refused(bench, a_zip({"tex": PNG, "TEX/a.png": PNG}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_name_that_is_there_twice_makes_the_zip_bad(bench: FakeFarm) -> None:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("a.png", PNG)
        archive.writestr("a.png", PNG)
    assert "twice" in refused(bench, body.getvalue())


@pytest.mark.parametrize("body", [b"not a zip", b"PK\x05\x06", b"PK\x03\x04" + bytes(100), BLEND[:1000]])
def test_what_is_no_zip_is_bad(bench: FakeFarm, body: bytes) -> None:
    assert "not a zip" in refused(bench, body)


def test_empty_zip_is_bad(bench: FakeFarm) -> None:
    assert "holds no files" in refused(bench, a_zip({}))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated_zip_is_bad(bench: FakeFarm, share: float) -> None:
    body = a_zip({f"{n}.png": random.Random(n).randbytes(5000) for n in range(20)})
    assert "not a zip" in refused(bench, body[: int(len(body) * share)])


def test_zip_damaged_in_the_middle_leaves_nothing_of_what_was_unpacked_before(bench: FakeFarm) -> None:
    body = bytearray(a_zip({f"{n:02d}.png": random.Random(n).randbytes(5000) for n in range(20)}))
    at = len(body) // 2
    body[at : at + 40] = bytes(40)
    assert "damaged" in refused(bench, bytes(body))
    assert any("/00.png" in key for key in bench.cloud.objects.writes)


def limited(tmp_path: Path, **limits: float) -> FakeFarm:
    return FakeFarm.open(tmp_path, config=Config(uploads=UploadsConfig.model_validate(limits)))


def announcing(body: bytes, length: int) -> bytes:
    """The zip with its last file announced with another length."""
    changed = bytearray(body)
    for magic, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", changed, changed.rindex(magic) + at, length)
    return bytes(changed)


def test_bomb_is_refused_before_anything_is_unpacked(bench: FakeFarm) -> None:
    body = announcing(a_zip({"a.png": PNG, "bomb.bin": bytes(1000)}), 300 * MIB)
    assert "max_zip_ratio" in refused(bench, body)
    assert len(bench.cloud.objects.writes) == 1


def test_bomb_that_lies_about_its_size_is_cut_at_what_it_announced(bench: FakeFarm) -> None:
    assert "damaged" in refused(bench, announcing(a_zip({"bomb.bin": bytes(20 * MIB)}), 1000))


def test_files_that_overlap_in_the_zip_count_each(bench: FakeFarm) -> None:
    body = a_zip({"a.bin": bytes(60 * MIB)})
    index_at = body.index(b"PK\x01\x02")
    end_at = body.index(b"PK\x05\x06")
    entry = body[index_at:end_at]
    copies = b"".join(entry.replace(b"a.bin", b"%c.bin" % (ord("a") + n)) for n in range(5))
    end = bytearray(body[end_at:])
    struct.pack_into("<HHI", end, 8, 5, 5, len(copies))
    assert "max_zip_ratio" in refused(bench, body[:index_at] + copies + bytes(end))


def test_index_that_would_fill_the_memory_is_refused(bench: FakeFarm) -> None:
    objects = FakeObjectStore()
    objects.place("k", bytes(1000), etag="x")
    with SeekableObject(objects, "k", length=1000, max_read_bytes=100) as source:
        assert len(source.read(100)) == 100
        with pytest.raises(TooMuchAtOnce):
            source.read(101)
        with pytest.raises(TooMuchAtOnce):
            source.read()


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"max_files": 2}, "max_files"), ({"max_job_gib": 5 / 1024}, "max_job_gib"), ({"max_file_gib": 2.5 / 1024}, "max_file_gib")],
)
def test_zip_over_a_limit_is_refused_with_the_limit(tmp_path: Path, limits: dict[str, float], said: str) -> None:
    body = a_zip({f"{n}.bin": random.Random(1).randbytes(MIB // 2) + bytes(5 * MIB // 2) for n in range(3)})
    assert said in refused(limited(tmp_path, **limits), body)


def test_zip_waits_for_room_and_says_so(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    file = drop(bench, job, a_zip({"a.png": PNG}))
    bench.cloud.premises.free = 2 << 30
    intake.check_pending(bench.farm)
    view = commands.file_view(bench.farm, job, file)
    assert view.status is FileStatus.CHECKING
    assert "too full" in view.problem
    bench.cloud.premises.free = None
    intake.check_pending(bench.farm)
    assert [file.path for file in queries.job_files(bench.farm, job)] == ["a.png"]


def test_unpacking_goes_on_where_the_store_interrupted_it(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    drop(bench, job, a_zip({f"{n}.png": PNG * (n + 1) for n in range(5)}))
    asked = []

    def twice() -> bool:
        asked.append(1)
        return len(asked) <= 4  # the zip itself, then three files

    intake.check_pending(bench.farm, go_on=twice)
    assert {file.status for file in queries.job_files(bench.farm, job)} == {FileStatus.CHECKING}
    bench.cloud.objects.fail_next(Unreachable("no answer"), call="put_stream")
    intake.check_pending(bench.farm)
    before = len(bench.cloud.objects.writes)

    intake.check_pending(bench.farm)

    assert {file.path: file.status for file in queries.job_files(bench.farm, job)} == {f"{n}.png": FileStatus.READY for n in range(5)}
    assert len(bench.cloud.objects.writes) == before + 2


def test_zip_removed_while_it_is_unpacked_leaves_nothing(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    file = drop(bench, job, a_zip({f"{n}.png": PNG * (n + 1) for n in range(5)}))
    asked = []

    def remove_it() -> bool:
        asked.append(1)
        if len(asked) == 4:
            commands.remove_file(bench.farm, job, file)
        return True

    intake.check_pending(bench.farm, go_on=remove_it)

    assert queries.job_files(bench.farm, job) == []
    assert bench.cloud.objects.keys(f"projects/{job}") == []


def test_files_that_the_job_has_already_are_taken_as_they_are(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    there = bench.a_file(job, "a.png", body=PNG)
    found = unpack(bench, a_zip({"a.png": PNG, "b.png": PNG}), job=job)
    assert found == {"a.png": FileStatus.READY, "b.png": FileStatus.READY}
    assert commands.file_view(bench.farm, job, there).status is FileStatus.READY


@pytest.mark.parametrize("name", ["a.png", "A.PNG", "a.png/b.png"])
def test_file_that_the_job_has_with_another_content_is_not_overwritten(bench: FakeFarm, name: str) -> None:
    job = bench.a_draft(blend=None)
    bench.a_file(job, "a.png", body=b"the artist's own")
    found = unpack(bench, a_zip({"0.png": PNG, name: PNG}), job=job)
    assert found == {"a.png": FileStatus.READY, "project.zip": FileStatus.BAD}
    kept = bench.cloud.objects.get(f"projects/{job}/a.png")
    assert kept is not None
    assert kept.body == b"the artist's own"
    assert bench.cloud.objects.keys(f"projects/{job}") == [f"projects/{job}/a.png", f"projects/{job}/project.zip"]


def test_zip_whose_content_is_gone_is_bad(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    file = drop(bench, job, a_zip({"a.png": PNG}))
    bench.cloud.objects.delete(bench.cloud.objects.keys())
    intake.check_pending(bench.farm)
    assert "gone from the store" in commands.file_view(bench.farm, job, file).problem


def test_bad_zip_can_be_replaced_by_a_sound_one(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    drop(bench, job, b"no zip")
    intake.check_pending(bench.farm)
    assert unpack(bench, a_zip({"a.png": PNG}), job=job) == {"a.png": FileStatus.READY}


_ANY_NAME = st.one_of(
    st.text(min_size=1, max_size=10),
    st.lists(st.sampled_from(["a", "A", "b.png", "..", ".", "", "C:", "__MACOSX", "\\"]), min_size=1, max_size=4).map("/".join),
)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_ANY_NAME, min_size=1, max_size=6))
def test_whatever_names_a_zip_has_all_of_it_is_unpacked_or_nothing(bench: FakeFarm, names: list[str]) -> None:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name in names:
            try:
                archive.writestr(name, PNG)
            except (UnicodeEncodeError, ValueError, IndexError):
                return
    job = bench.a_draft(blend=None)
    try:
        found = unpack(bench, body.getvalue(), job=job)
    except (Rejected, Conflict) as error:
        raise AssertionError("the background refuses nothing: it says what is bad") from error
    keys = bench.cloud.objects.keys(f"projects/{job}/")
    assert keys == sorted(f"projects/{job}/{path}" for path in found)
    assert all(".." not in key.split("/") and "//" not in key for key in keys)
    assert set(found.values()) == {FileStatus.READY} or found == {"project.zip": FileStatus.BAD}


@pytest.mark.parametrize("seed", range(40))
def test_zip_with_bytes_overwritten_is_unpacked_whole_or_refused(bench: FakeFarm, seed: int) -> None:
    chance = random.Random(seed)
    files = {f"{n}.png": chance.randbytes(400) for n in range(5)}
    body = bytearray(a_zip(files))
    for _ in range(chance.randrange(1, 4)):
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    job = bench.a_draft(blend=None)
    found = unpack(bench, bytes(body), job=job)
    if "project.zip" in found:
        assert found == {"project.zip": FileStatus.BAD}
        return
    kept = [bench.cloud.objects.get(key) for key in bench.cloud.objects.keys(f"projects/{job}/")]
    assert sorted(one.body for one in kept if one) == sorted(files.values())
