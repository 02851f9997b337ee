"""Which Blender renders a job: the series that saved its file, else the next newer, or the series that a person chose."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .errors import Rejected

Series = tuple[int, int]

_VERSION = re.compile(r"\d+\.\d+(\.\d+)*")


def numbers_of(version: str) -> tuple[int, ...]:
    """The numbers of a version such as `4.5.15 LTS`. Returns: empty if it is none"""
    found = _VERSION.match(version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def series_of(version: str) -> Series:
    """The series of a version, which has one."""
    major, minor, *_ = numbers_of(version)
    return major, minor


def series_name(series: Series) -> str:
    return f"{series[0]}.{series[1]}"


def newest_by_series(blenders: Sequence[str]) -> dict[str, str]:
    """Series -> the newest version of it that there is, the oldest series first."""
    return {series_name(series_of(version)): version for version in sorted(blenders, key=numbers_of)}


def fitting(saved_by: Series, blenders: Sequence[str]) -> str | None:
    """The version for a file: the newest of the series that saved it, else of the next newer. Returns: None if every one is older"""
    return next((version for version in newest_by_series(blenders).values() if series_of(version) >= saved_by), None)


def check_blender(saved_by: Series, blenders: Sequence[str], *, path: str, wish: str | None = None, rents: bool = False) -> str:
    """Choose the Blender for a file. Returns: its version, one of those that there are

    Shape:   blenders: versions such as 4.5.15; wish: a series that a person chose; rents: the Blenders are on images
    Errors:  Rejected - the farm has none, or not the one that is wished for, or every one is older than the file; names what there is
    """
    if not blenders:
        raise Rejected(_none_at_all(rents))
    if wish is not None:
        return _wished(wish, saved_by, blenders, path=path)
    found = fitting(saved_by, blenders)
    if found is None:
        newest = max(blenders, key=numbers_of)
        raise Rejected(
            f"“{path}” was saved by Blender {series_name(saved_by)}, and the newest Blender of this farm is {newest}; "
            f"give the farm a newer Blender, or save the file with {series_name(series_of(newest))}",
            field="main_file",
        )
    return found


def check_wish(wish: str | None, blenders: Sequence[str]) -> None:
    """Check a person's choice before there is a file. Errors: Rejected - field `blender`: the farm has no such series; names what it has"""
    if wish is not None and wish not in newest_by_series(blenders):
        raise Rejected(f"this farm has no Blender {wish}; it has {listed(blenders)}", field="blender")


def kept_blender(version: str, blenders: Sequence[str]) -> str | None:
    """What a job goes on with that was given a version before: that, else another of its series. Returns: None if there is none"""
    if version in blenders:
        return version
    return newest_by_series(blenders).get(series_name(series_of(version)))


def listed(blenders: Sequence[str]) -> str:
    """Name what there is, for people."""
    return ", ".join(newest_by_series(blenders).values()) or "none"


def told_if_newer(saved_by: Series, version: str) -> str:
    """A sentence where a file is rendered by another series than the one that saved it. Returns: empty where it is not"""
    if not numbers_of(version) or series_of(version) == saved_by:
        return ""
    return f"Saved by Blender {series_name(saved_by)}; rendered with {version}."


def _none_at_all(rents: bool) -> str:
    if rents:
        return "there is no image with a Blender that instances could start from; an administrator builds one on the page “Images”"
    return "this farm has no Blender to render with; its administrator finds out why with `kiln doctor`"


def _wished(wish: str, saved_by: Series, blenders: Sequence[str], *, path: str) -> str:
    check_wish(wish, blenders)
    version = newest_by_series(blenders)[wish]
    if series_of(version) < saved_by:
        newer = [each for each in newest_by_series(blenders).values() if series_of(each) >= saved_by]
        others = f"choose {' or '.join(newer)}" if newer else f"save the file with {wish}"
        raise Rejected(
            f"“{path}” was saved by Blender {series_name(saved_by)}, which {version} can't open in full; {others}", field="blender"
        )
    return version
