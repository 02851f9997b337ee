"""How the external files of .blends stand with a job's files."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.dependencies import resolve_dependencies
from supervisor.domain.scene import Dependency, DependencyFound, DependencyKind, FoundAs, Inspection


def a_blend(*dependencies: Dependency) -> Inspection:
    return Inspection(version=(4, 5), is_compressed=False, scenes=(), current_scene=None, dependencies=dependencies)


def needs(relative: str | None, kind: DependencyKind = DependencyKind.IMAGE, *, path: str = "", pattern: str | None = None) -> Dependency:
    return Dependency(path=path or f"//{relative}", kind=kind, is_absolute=relative is None, relative=relative, pattern=pattern)


def found(main: str, files: Mapping[str, Inspection | None]) -> list[tuple[str, FoundAs, str]]:
    return [(one.dependency.path, one.found, one.at) for one in resolve_dependencies(main, files)]


def test_file_beside_the_blend_is_present() -> None:
    files = {"film/shot.blend": a_blend(needs("tex/wood.png")), "film/tex/wood.png": None}
    assert found("film/shot.blend", files) == [("//tex/wood.png", FoundAs.PRESENT, "film/tex/wood.png")]


def test_path_that_goes_up_is_resolved_from_the_blends_own_folder() -> None:
    files = {"film/scenes/shot.blend": a_blend(needs("../tex/./wood.png")), "film/tex/wood.png": None}
    assert found("film/scenes/shot.blend", files) == [("//../tex/./wood.png", FoundAs.PRESENT, "film/tex/wood.png")]


def test_path_that_leaves_the_job_is_missing() -> None:
    files = {"shot.blend": a_blend(needs("../wood.png"), needs(".."), needs("../shot.blend/../x"))}
    assert {state for _, state, _ in found("shot.blend", files)} == {FoundAs.MISSING}


def test_path_that_leaves_the_job_is_not_mistaken_for_a_file_inside() -> None:
    files = {"shot.blend": a_blend(needs("../wood.png")), "wood.png": None}
    assert found("shot.blend", files) == [("//../wood.png", FoundAs.ELSEWHERE, "wood.png")]


def test_file_of_that_name_in_another_folder_is_elsewhere() -> None:
    files = {"shot.blend": a_blend(needs("tex/wood.png")), "wood.png": None}
    assert found("shot.blend", files) == [("//tex/wood.png", FoundAs.ELSEWHERE, "wood.png")]


def test_file_written_in_other_case_is_elsewhere() -> None:
    files = {"shot.blend": a_blend(needs("Tex/Wood.PNG")), "tex/wood.png": None}
    assert found("shot.blend", files) == [("//Tex/Wood.PNG", FoundAs.ELSEWHERE, "tex/wood.png")]


def test_file_that_is_nowhere_is_missing() -> None:
    assert found("shot.blend", {"shot.blend": a_blend(needs("wood.png"))}) == [("//wood.png", FoundAs.MISSING, "")]


def test_absolute_path_says_where_a_file_of_its_name_is() -> None:
    blend = a_blend(needs(None, path="C:\\Users\\ada\\Wood.png"), needs(None, path="/home/ada/brick.png"))
    files = {"shot.blend": blend, "tex/wood.png": None}
    assert found("shot.blend", files) == [
        ("C:\\Users\\ada\\Wood.png", FoundAs.ABSOLUTE, "tex/wood.png"),
        ("/home/ada/brick.png", FoundAs.ABSOLUTE, ""),
    ]


def test_sequence_is_present_with_any_number_of_it() -> None:
    rain = needs("rain/drop_0001.png", DependencyKind.SEQUENCE, pattern="rain/drop_*.png")
    assert found("a.blend", {"a.blend": a_blend(rain), "rain/drop_0100.png": None})[0][1:] == (FoundAs.PRESENT, "rain/drop_0100.png")
    assert found("a.blend", {"a.blend": a_blend(rain), "rain/drop_last.png": None})[0][1:] == (FoundAs.MISSING, "")
    assert found("a.blend", {"a.blend": a_blend(rain), "drop_3.png": None})[0][1:] == (FoundAs.ELSEWHERE, "drop_3.png")


def test_tiles_are_present_with_four_digits_only() -> None:
    skin = needs("skin.<UDIM>.png", DependencyKind.UDIM, pattern="skin.*.png")
    assert found("a.blend", {"a.blend": a_blend(skin), "skin.1002.png": None})[0][1] is FoundAs.PRESENT
    assert found("a.blend", {"a.blend": a_blend(skin), "skin.u1_v1.png": None})[0][1] is FoundAs.PRESENT
    assert found("a.blend", {"a.blend": a_blend(skin), "skin.rough.png": None})[0][1] is FoundAs.MISSING


def test_name_with_brackets_is_no_pattern() -> None:
    odd = needs("tex[1](a)_001.png", DependencyKind.SEQUENCE, pattern="tex[1](a)_*.png")
    assert found("a.blend", {"a.blend": a_blend(odd), "tex[1](a)_007.png": None})[0][1] is FoundAs.PRESENT


def test_folder_of_a_cache_is_present_when_something_lies_in_it() -> None:
    cache = needs("cache_fluid", DependencyKind.CACHE)
    assert found("f/a.blend", {"f/a.blend": a_blend(cache), "f/cache_fluid/data/x.vdb": None})[0][1:] == (FoundAs.PRESENT, "f/cache_fluid")
    assert found("f/a.blend", {"f/a.blend": a_blend(cache)})[0][1] is FoundAs.MISSING


def test_files_of_linked_blends_are_found_from_their_own_folders() -> None:
    library = needs("../lib/props.blend", DependencyKind.LIBRARY)
    files = {
        "film/shot.blend": a_blend(library),
        "lib/props.blend": a_blend(needs("tex/oak.png"), needs("deep.blend", DependencyKind.LIBRARY)),
        "lib/tex/oak.png": None,
        "lib/deep.blend": a_blend(needs("gone.png")),
        "other.blend": a_blend(needs("not-asked-for.png")),
    }
    assert [(one.in_file, one.dependency.relative, one.found) for one in resolve_dependencies("film/shot.blend", files)] == [
        ("film/shot.blend", "../lib/props.blend", FoundAs.PRESENT),
        ("lib/props.blend", "tex/oak.png", FoundAs.PRESENT),
        ("lib/props.blend", "deep.blend", FoundAs.PRESENT),
        ("lib/deep.blend", "gone.png", FoundAs.MISSING),
    ]


def test_blends_that_link_each_other_are_each_read_once() -> None:
    a, b = needs("b.blend", DependencyKind.LIBRARY), needs("a.blend", DependencyKind.LIBRARY)
    assert len(found("a.blend", {"a.blend": a_blend(a), "b.blend": a_blend(b)})) == 2


def test_main_file_that_there_is_not_has_no_dependencies() -> None:
    assert resolve_dependencies("gone.blend", {"a.png": None}) == ()


_PATHS = st.lists(st.sampled_from(["a", "b", "..", ".", "C", "x.png"]), min_size=1, max_size=6).map("/".join)


@given(_PATHS, st.frozensets(_PATHS, max_size=6), _PATHS)
def test_what_is_present_is_always_a_file_of_the_job(wanted: str, others: frozenset[str], main: str) -> None:
    files: dict[str, Inspection | None] = dict.fromkeys(others)
    files[main] = a_blend(needs(wanted))
    (one,) = resolve_dependencies(main, files)
    assert isinstance(one, DependencyFound)
    assert one.at in files or (one.at == "" and one.found in {FoundAs.MISSING, FoundAs.ABSOLUTE})
