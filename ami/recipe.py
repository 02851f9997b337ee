"""The recipe of the image: read from `recipe.toml`, checked, and hashed together with all that the image is made from."""

from __future__ import annotations

import hashlib
import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

AMI = Path(__file__).resolve().parent
RECIPE = AMI / "recipe.toml"
PROVISIONERS = AMI / "provisioners"
REQUIREMENTS = AMI / "requirements.txt"
ROOTFS = AMI.parent / "nodeimage" / "rootfs"

#: Instead of a checksum: believe the mirror's own list.
FROM_MIRROR = "from-mirror"
HASH_DIGITS = 16


class BadRecipe(ValueError):
    """The recipe can't be followed; the message names the key and says what is wrong with it."""


class Variant(StrEnum):
    """What an image is for."""

    CPU = "cpu"  #: instances without a GPU
    GPU = "gpu"  #: instances with one: the graphics driver is on it, and a frame must be rendered by it


class Arch(StrEnum):
    """A processor architecture, as EC2 names it."""

    X86_64 = "x86_64"
    ARM64 = "arm64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The image that a build starts from."""

    owner: str  #: account that it belongs to
    root_gib: int
    name: Mapping[Arch, str]  #: pattern, as DescribeImages takes it


@dataclass(frozen=True, slots=True, kw_only=True)
class BlenderRelease:
    """One official build of Blender."""

    version: str
    sha256: Mapping[Arch, str]  #: a checksum, or `from-mirror`

    @property
    def series(self) -> str:
        return series_of(self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """NVIDIA's installer."""

    version: str
    url: Mapping[Arch, str]
    sha256: Mapping[Arch, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an image is made of."""

    base: Base
    blenders: tuple[BlenderRelease, ...]  #: at least one; by version, oldest first
    nvidia: Driver

    def blenders_for(self, arch: Arch) -> list[BlenderRelease]:
        """List the releases that there are for an architecture. Errors: BadRecipe - none"""
        found = [release for release in self.blenders if arch in release.sha256]
        if not found:
            raise BadRecipe(f"recipe.toml: no [[blender]] has a sha256 for {arch}: an image for {arch} would have no Blender")
        return found

    def driver_for(self, arch: Arch) -> Driver:
        """Return the driver, which is there for the architecture. Errors: BadRecipe"""
        if arch not in self.nvidia.url:
            raise BadRecipe(f"recipe.toml: nvidia.url has no {arch}: an image for GPUs on {arch} would have no driver")
        return self.nvidia


def series_of(version: str) -> str:
    """`4.5` of 4.5.14: what a job asks for."""
    return version.rpartition(".")[0]


def read_recipe(path: Path = RECIPE) -> Recipe:
    """Read the recipe. Errors: BadRecipe - it does not say what it must, or says more; OSError"""
    try:
        raw = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise BadRecipe(f"{path.name}: {error}") from error
    top = _Table(raw, path.name)
    base, nvidia = top.table("base"), top.table("nvidia")
    recipe = Recipe(
        base=Base(
            owner=base.text("owner", r"\d{12}", "an account number of twelve digits"),
            root_gib=base.number("root_gib"),
            name=base.by_arch("name", r"\S+", "a name pattern"),
        ),
        blenders=_blenders(top),
        nvidia=Driver(
            version=nvidia.text("version", r"\d+(\.\d+)+", "a version such as 580.178.04"),
            url=nvidia.by_arch("url", r"https://\S+", "an https address"),
            sha256=nvidia.by_arch("sha256", r"[0-9a-f]{64}", "64 hexadecimal digits"),
        ),
    )
    for table in (base, nvidia, top):
        table.end()
    if set(recipe.nvidia.url) != set(recipe.nvidia.sha256):
        raise BadRecipe(f"{path.name}: nvidia.url and nvidia.sha256 must name the same architectures")
    return recipe


def _blenders(top: _Table) -> tuple[BlenderRelease, ...]:
    releases = []
    for entry in top.tables("blender"):
        version = entry.text("version", r"\d+\.\d+\.\d+", "a version such as 4.5.14")
        sums = entry.by_arch("sha256", rf"[0-9a-f]{{64}}|{FROM_MIRROR}", f"64 hexadecimal digits, or “{FROM_MIRROR}”")
        entry.end()
        releases.append(BlenderRelease(version=version, sha256=sums))
    releases.sort(key=lambda release: [int(part) for part in release.version.split(".")])
    for one, other in itertools.pairwise(releases):
        if one.series == other.series:
            raise BadRecipe(
                f"recipe.toml: two releases of Blender {one.series}, {one.version} and {other.version}: jobs ask for the series"
            )
    return tuple(releases)


class _Table:
    """A table of the recipe, and what of it was asked for."""

    def __init__(self, raw: object, path: str) -> None:
        if not isinstance(raw, dict):
            raise BadRecipe(f"{path}: must be a table")
        self._raw: dict[str, Any] = raw
        self._path = path
        self._asked: set[str] = set()

    def _value(self, key: str) -> Any:
        self._asked.add(key)
        if key not in self._raw:
            raise BadRecipe(f"{self._named(key)}: is missing")
        return self._raw[key]

    def _named(self, key: str) -> str:
        return f"{self._path}: {key}" if self._path.endswith(".toml") else f"{self._path}.{key}"

    def table(self, key: str) -> _Table:
        return _Table(self._value(key), self._named(key))

    def tables(self, key: str) -> list[_Table]:
        entries = self._value(key)
        if not isinstance(entries, list) or not entries:
            raise BadRecipe(f"{self._named(key)}: must be at least one [[{key}]]")
        return [_Table(entry, f"{self._named(key)}[{number}]") for number, entry in enumerate(entries, 1)]

    def text(self, key: str, pattern: str, what: str) -> str:
        value = self._value(key)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise BadRecipe(f"{self._named(key)}: {value!r} is not {what}")
        return value

    def number(self, key: str) -> int:
        value = self._value(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadRecipe(f"{self._named(key)}: {value!r} is not a whole number above 0")
        return value

    def by_arch(self, key: str, pattern: str, what: str) -> dict[Arch, str]:
        """Read a table of one text for each architecture."""
        table = self.table(key)
        values = {arch: table.text(arch, pattern, what) for arch in Arch if arch in table._raw}
        if not values:
            raise BadRecipe(f"{self._named(key)}: must say something of at least one of {', '.join(Arch)}")
        table.end()
        return values

    def end(self) -> None:
        """Errors: BadRecipe - there are keys that nobody asked for"""
        unknown = sorted(set(self._raw) - self._asked)
        if unknown:
            raise BadRecipe(f"{self._named(unknown[0])}: there is no such key")


def parts() -> Iterator[tuple[str, Path]]:
    """List all that an image is made from but what is downloaded. Shape: (name in the bundle, file), by name"""
    yield "recipe.toml", RECIPE
    yield "requirements.txt", REQUIREMENTS
    for name, folder in (("provisioners", PROVISIONERS), ("rootfs", ROOTFS)):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{name}/{path.relative_to(folder).as_posix()}", path


def recipe_hash(variant: Variant, arch: Arch) -> str:
    """Name what an image is made from: two builds with the same hash make the same image, but for Debian's updates.

    Shape:   16 hexadecimal digits
    """
    digest = hashlib.sha256(f"{variant} {arch}\n".encode())
    for name, path in parts():
        mode = "x" if path.stat().st_mode & 0o100 else "-"
        digest.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()} {mode} {name}\n".encode())
    return digest.hexdigest()[:HASH_DIGITS]
