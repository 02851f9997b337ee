"""Which Blender renders a file, and what is said where none can, or another series does."""

from __future__ import annotations

import pytest

from supervisor.domain.blender import check_blender, kept_blender, newest_by_series, numbers_of, told_if_newer
from supervisor.domain.errors import Rejected

FARM = ("4.2.23", "4.5.9", "4.5.14", "5.2.2")


@pytest.mark.parametrize(
    ("there", "saved_by", "chosen"),
    [
        (FARM, (4, 5), "4.5.14"),
        (FARM, (4, 3), "4.5.14"),
        (FARM, (5, 0), "5.2.2"),
        (FARM, (2, 93), "4.2.23"),
        (("4.5.1", "4.5.10", "4.5.2"), (4, 5), "4.5.10"),
        (("5.0.1",), (4, 5), "5.0.1"),
    ],
)
def test_file_is_rendered_by_its_own_series_or_the_next_newer(there: tuple[str, ...], saved_by: tuple[int, int], chosen: str) -> None:
    assert check_blender(saved_by, there, path="a.blend") == chosen


@pytest.mark.parametrize(("wish", "chosen"), [("4.5", "4.5.14"), ("5.2", "5.2.2")])
def test_person_may_choose_a_newer_series(wish: str, chosen: str) -> None:
    assert check_blender((4, 5), FARM, path="a.blend", wish=wish) == chosen


@pytest.mark.parametrize(
    ("saved_by", "there", "wish", "field", "said"),
    [
        ((5, 3), FARM, None, "main_file", r"“a\.blend” was saved by Blender 5\.3, and the newest Blender of this farm is 5\.2\.2"),
        ((4, 5), FARM, "4.4", "blender", r"no Blender 4\.4; it has 4\.2\.23, 4\.5\.14, 5\.2\.2"),
        ((4, 5), FARM, "4.5.14", "blender", r"no Blender 4\.5\.14"),
        ((4, 5), FARM, "4.2", "blender", r"saved by Blender 4\.5, which 4\.2\.23 can't open in full; choose 4\.5\.14 or 5\.2\.2"),
        ((5, 3), FARM, "5.2", "blender", r"save the file with 5\.2"),
        ((4, 5), (), None, "", "kiln doctor"),
    ],
)
def test_blender_that_can_not_be_had_is_refused_with_those_that_can(
    saved_by: tuple[int, int], there: tuple[str, ...], wish: str | None, field: str, said: str
) -> None:
    with pytest.raises(Rejected, match=said) as refused:
        check_blender(saved_by, there, path="a.blend", wish=wish)
    assert refused.value.field == field


def test_farm_that_rents_and_has_no_image_says_where_one_is_built() -> None:
    with pytest.raises(Rejected, match="an administrator builds one on the page “Images”"):
        check_blender((4, 5), (), path="a.blend", rents=True)


def test_newest_of_each_series_is_named_oldest_first() -> None:
    assert newest_by_series(("5.2.2", "4.5.9", "4.5.14", "4.10.1")) == {"4.5": "4.5.14", "4.10": "4.10.1", "5.2": "5.2.2"}


@pytest.mark.parametrize(("given", "kept"), [("4.5.9", "4.5.9"), ("4.5.11", "4.5.14"), ("4.5.14 LTS", "4.5.14"), ("4.4.1", None)])
def test_job_goes_on_with_its_version_or_another_of_its_series(given: str, kept: str | None) -> None:
    assert kept_blender(given, FARM) == kept


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("4.5.15", "Saved by Blender 4.2; rendered with 4.5.15."),
        ("4.2.23", ""),
        ("", ""),
        ("4.2.23 LTS", ""),
    ],
)
def test_other_series_than_the_files_is_told_in_one_sentence(version: str, said: str) -> None:
    assert told_if_newer((4, 2), version) == said


def test_numbers_are_read_from_whatever_blender_calls_itself() -> None:
    assert [numbers_of(version) for version in ("4.5.15 LTS", "5.0", "nonsense", "")] == [(4, 5, 15), (5, 0), (), ()]
