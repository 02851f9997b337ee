"""Which files a submission has, what it remembers, and what it shows."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from app.cli.progress import Progress, size_text
from app.cli.project import BadProject, gather
from app.cli.unfinished import Unfinished
from app.cli.watch import duration_text


def a_file(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def paths(main: Path, *others: Path) -> list[str]:
    return [file.path for file in gather(main, others)]


def test_lone_blend_is_named_by_its_file_name(tmp_path: Path) -> None:
    assert paths(a_file(tmp_path / "shots" / "a b.blend")) == ["a b.blend"]


def test_files_beside_the_blend_keep_their_relative_paths(tmp_path: Path) -> None:
    main = a_file(tmp_path / "shot.blend")
    a_file(tmp_path / "tex" / "wood.png")
    a_file(tmp_path / "tex" / "deep" / "oak.png")
    assert paths(main, tmp_path / "tex") == ["shot.blend", "tex/wood.png", "tex/deep/oak.png"]


def test_file_outside_of_the_blends_folder_moves_the_root_up_so_that_relations_hold(tmp_path: Path) -> None:
    main = a_file(tmp_path / "scenes" / "shot.blend")
    assert paths(main, a_file(tmp_path / "tex" / "wood.png")) == ["scenes/shot.blend", "tex/wood.png"]


def test_file_named_twice_is_sent_once_and_the_blend_comes_first(tmp_path: Path) -> None:
    a_file(tmp_path / "a.png")
    main = a_file(tmp_path / "shot.blend")
    assert paths(main, tmp_path, tmp_path / "a.png") == ["shot.blend", "a.png"]


def test_backups_and_version_control_are_left_at_home(tmp_path: Path) -> None:
    main = a_file(tmp_path / "shot.blend")
    for name in ("shot.blend1", ".git/config", ".DS_Store", "keep.png"):
        a_file(tmp_path / name)
    assert paths(main, tmp_path) == ["shot.blend", "keep.png"]


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadProject, match=r"there is no file .*gone\.blend"):
        gather(tmp_path / "gone.blend", ())
    with pytest.raises(BadProject, match=r"there is no file or folder .*textures"):
        gather(a_file(tmp_path / "shot.blend"), (tmp_path / "textures",))


@pytest.mark.parametrize(("name", "said"), [("b\udcff.blend", "not valid Unicode"), ("a\nb.blend", "control character")])
def test_file_whose_name_no_job_takes_is_refused_before_anything_is_sent(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(BadProject, match=said) as refused:
        gather(a_file(tmp_path / name), ())
    assert str(refused.value).isprintable()


def test_name_is_sent_in_the_form_in_which_the_farm_keeps_it(tmp_path: Path) -> None:
    assert paths(a_file(tmp_path / "e\u0301.blend")) == ["\u00e9.blend"]


def test_folder_in_place_of_the_blend_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadProject, match="is not a file"):
        gather(tmp_path, ())


def test_unfinished_submission_is_found_again_with_what_it_sent(tmp_path: Path) -> None:
    file, other = gather(a_file(tmp_path / "shot.blend"), (a_file(tmp_path / "a.png"),))

    def remembered(server: str = "http://farm") -> Unfinished:
        return Unfinished(tmp_path / "state", server=server, main=tmp_path / "shot.blend", name="shot")

    first = remembered()
    assert first.job is None
    first.begin("job_1")
    first.add(file)
    again = remembered()
    assert (again.job, again.has(file), again.has(other)) == ("job_1", True, False)
    assert remembered("http://other").job is None
    again.forget()
    assert remembered().job is None


def test_file_that_changed_since_it_was_sent_is_sent_again(tmp_path: Path) -> None:
    source = a_file(tmp_path / "shot.blend")
    unfinished = Unfinished(tmp_path / "state", server="s", main=source, name="n")
    unfinished.begin("job_1")
    unfinished.add(gather(source, ())[0])
    os.utime(source, ns=(0, 5_000_000_000))
    assert not unfinished.has(gather(source, ())[0])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"job": 1}', '{"job": "j", "sent": 3}'])
def test_damaged_memory_of_a_submission_is_as_none(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "state"
    Unfinished(folder, server="s", main=tmp_path, name="n").begin("job_1")
    (kept,) = folder.iterdir()
    kept.write_text(content)
    assert Unfinished(folder, server="s", main=tmp_path, name="n").job is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_away_from_a_terminal_is_lines_and_not_many() -> None:
    out, times = io.StringIO(), iter([0.0, 0.0, 1.0, 6.0, 6.0, 6.1, 6.1])
    progress = Progress("upload", out=out, clock=lambda: next(times))
    for done in (0, 1, 2, 3):
        progress.show(done, 3, f"{done} of 3")
    assert out.getvalue() == "upload: 0 of 3\nupload: 2 of 3\nupload: 3 of 3\n"


def test_progress_on_a_terminal_draws_a_bar_over_itself() -> None:
    out = Terminal()
    progress = Progress("render", out=out, clock=lambda: 0.0)
    progress.show(3, 3, "3 of 3")
    progress.close()
    assert out.getvalue() == f"\r\x1b[K{'█' * 30} render: 3 of 3\n"


def test_sizes_and_durations_are_written_for_people() -> None:
    assert [size_text(count) for count in (0, 1023, 1536, 5 << 20, 3 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "1.5 KiB",
        "5.0 MiB",
        "3072.0 GiB",
    ]
    assert [duration_text(seconds) for seconds in (0.4, 8, 130, 3900)] == ["0 s", "8 s", "2 min 10 s", "1 h 05 min"]
