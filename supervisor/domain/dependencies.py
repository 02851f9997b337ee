"""Find out which external files of a job's .blends are among the job's files."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from .scene import Dependency, DependencyFound, DependencyKind, FoundAs, Inspection

_NUMBER = {DependencyKind.UDIM: r"(?:\d{4}|u\d+_v\d+)"}
_ANY_NUMBER = r"-?\d+"


def resolve_dependencies(main: str, files: Mapping[str, Inspection | None]) -> tuple[DependencyFound, ...]:
    """Say how each external file stands that the main .blend names, or a .blend that it links, directly or through others.

    Shape:   files: every usable file of the job by path, with the inspection where it is a .blend
    Source:  Blender resolves `//` against the folder of the .blend that names it (BLI_path_abs, 4.5)
    """
    index = _Index(files)
    found: list[DependencyFound] = []
    waiting, seen = [main], {main}
    while waiting:
        path = waiting.pop(0)
        inspection = files.get(path)
        for dependency in inspection.dependencies if inspection else ():
            one = index.find(dependency, in_file=path)
            found.append(one)
            is_library = dependency.kind is DependencyKind.LIBRARY and one.found is FoundAs.PRESENT
            if is_library and one.at not in seen:
                seen.add(one.at)
                waiting.append(one.at)
    return tuple(found)


class _Index:
    """A job's files, to be found by path, by folder and by name."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths: set[str] = set()
        self._in_folder: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._folders: set[str] = set()
        for path in sorted(paths):
            folder, name = posixpath.split(path)
            self._paths.add(path)
            self._in_folder[folder].append(path)
            self._by_name[name.casefold()].append(path)
            self._folders.update(_folders_of(path))

    def find(self, dependency: Dependency, *, in_file: str) -> DependencyFound:
        at = self._at(dependency, posixpath.dirname(in_file))
        if at:
            return DependencyFound(dependency=dependency, in_file=in_file, found=FoundAs.PRESENT, at=at)
        elsewhere = self._elsewhere(dependency)
        relative = FoundAs.ELSEWHERE if elsewhere else FoundAs.MISSING
        found = FoundAs.ABSOLUTE if dependency.is_absolute else relative
        return DependencyFound(dependency=dependency, in_file=in_file, found=found, at=elsewhere)

    def _at(self, dependency: Dependency, base: str) -> str:
        """Where rendering will find it. Returns: empty if it won't"""
        if dependency.relative is None:
            return ""
        wanted = posixpath.normpath(posixpath.join(base, dependency.pattern or dependency.relative))
        if wanted == ".." or wanted.startswith("../"):
            return ""
        if dependency.pattern:
            candidates = self._in_folder.get(posixpath.dirname(wanted), ())
            return next(_matching(candidates, posixpath.basename(wanted), dependency.kind), "")
        is_there = wanted in self._paths or (dependency.kind is DependencyKind.CACHE and wanted in self._folders)
        return wanted if is_there else ""

    def _elsewhere(self, dependency: Dependency) -> str:
        """A file of that name in another place, or written in other case. Returns: empty if there is none"""
        name = posixpath.basename((dependency.pattern or dependency.relative or dependency.path).replace("\\", "/").rstrip("/"))
        if "*" not in name:
            return next(iter(self._by_name.get(name.casefold(), ())), "")
        everything = (path for paths in self._by_name.values() for path in paths)
        return next(_matching(everything, name, dependency.kind, flags=re.IGNORECASE), "")


def _matching(paths: Iterable[str], name: str, kind: DependencyKind, *, flags: int = 0) -> Iterator[str]:
    number = r"[^/]*" if kind is DependencyKind.CACHE else _NUMBER.get(kind, _ANY_NUMBER)
    pattern = re.compile(number.join(re.escape(piece) for piece in name.split("*")), flags)
    return (path for path in paths if pattern.fullmatch(posixpath.basename(path)))


def _folders_of(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path
