"""Blenders of this machine: found, probed once, chosen by the file's series."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.cloud.local.blender import LocalBlender, choose_blender, find_blenders
from supervisor.config import BlenderConfig


def program(folder: Path, name: str, body: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def blender(folder: Path, version: str) -> Path:
    return program(folder, "blender", f"echo probed >> {folder}/probes\necho 'Blender {version}'\necho '\tbuild date: x'")


@pytest.fixture
def no_blender_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin:/usr/bin" if not Path("/usr/bin/blender").exists() else "/nowhere")


def search(tmp_path: Path, **config: str) -> tuple[list[tuple[str, str]], str]:
    wanted = BlenderConfig.model_validate({"bpy_python": "none", **config})
    found = find_blenders(wanted, root=tmp_path, cache=tmp_path / "blenders.json")
    return [(each.kind, each.version) for each in found.found], " ".join(found.problems)


def test_blender_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blender(tmp_path / "bin", "4.5.1 LTS")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.defpath}")
    assert search(tmp_path) == ([("blender", "4.5.1")], "")


def test_blender_that_is_too_old_is_named_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blender(tmp_path / "bin", "3.4.1")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.defpath}")
    found, problems = search(tmp_path)
    assert found == []
    assert "3.4.1" in problems
    assert "4.2 or newer" in problems


@pytest.mark.usefixtures("no_blender_on_path")
def test_python_with_bpy_is_found_beside_the_checkout(tmp_path: Path) -> None:
    program(tmp_path / ".bpy" / "bin", "python", "echo 'Blender 4.5.15 LTS'")
    assert search(tmp_path, bpy_python=".bpy/bin/python") == ([("bpy", "4.5.15")], "")


@pytest.mark.usefixtures("no_blender_on_path")
def test_machine_without_blender_has_none_and_no_problem(tmp_path: Path) -> None:
    assert search(tmp_path) == ([], "")


def test_configured_command_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blender(tmp_path / "bin", "4.5.1")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.defpath}")
    other = blender(tmp_path / "other folder", "5.0.1")
    assert search(tmp_path, command=f"'{other}'") == ([("blender", "5.0.1")], "")


def test_several_commands_are_configured_by_commas(tmp_path: Path) -> None:
    old, new = blender(tmp_path / "a, b", "4.2.1"), blender(tmp_path / "c", "4.5.1")
    assert search(tmp_path, command=f" '{old}' , {new},") == ([("blender", "4.2.1"), ("blender", "4.5.1")], "")


def test_configured_python_is_told_from_a_blender(tmp_path: Path) -> None:
    python = program(tmp_path, "python", """case "$1" in --version) echo "Python 3.11.7";; *) echo "Blender 4.5.15 LTS";; esac""")
    assert search(tmp_path, command=str(python)) == ([("bpy", "4.5.15")], "")


def test_missing_system_library_is_named_with_its_package(tmp_path: Path) -> None:
    body = "echo 'ImportError: libXrender.so.1: cannot open shared object file: No such file or directory' >&2; exit 1"
    found, problems = search(tmp_path, command=str(program(tmp_path, "blender", body)))
    assert found == []
    assert "libXrender.so.1" in problems
    assert "apt-get install --no-install-recommends libxrender1" in problems


@pytest.mark.parametrize("command", ["/nowhere/blender", "false", "echo hello", "'unbalanced"])
def test_command_that_is_no_blender_is_a_problem(tmp_path: Path, command: str) -> None:
    found, problems = search(tmp_path, command=command)
    assert found == []
    assert command.strip("'")[:5] in problems


def test_blender_is_probed_again_only_when_it_changed(tmp_path: Path) -> None:
    path = blender(tmp_path / "bin", "4.5.1")
    for _ in range(3):
        assert search(tmp_path, command=str(path)) == ([("blender", "4.5.1")], "")
    assert (tmp_path / "bin" / "probes").read_text().count("probed") == 1
    path.write_text("#!/bin/sh\necho 'Blender 5.0.1'\n")
    assert search(tmp_path, command=str(path)) == ([("blender", "5.0.1")], "")


def test_damaged_memory_of_versions_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "blenders.json").write_text('{"cut off')
    assert search(tmp_path, command=str(blender(tmp_path / "bin", "4.5.1"))) == ([("blender", "4.5.1")], "")


@pytest.mark.parametrize(
    ("there", "wanted", "chosen"),
    [
        (["4.2.1", "4.5.1", "5.0.1"], (4, 5), "4.5.1"),
        (["4.5.1", "4.5.10", "4.5.2"], (4, 5), "4.5.10"),
        (["4.5.1", "4.5.10", "4.5.2"], (4, 5, 2), "4.5.2"),
        (["4.5.1", "4.5.10"], (4, 5, 7), "4.5.10"),
        (["4.2.1", "5.0.1"], (4, 5, 1), None),
        ([], (4, 5), None),
    ],
)
def test_job_gets_its_very_blender_or_another_of_the_series(there: list[str], wanted: tuple[int, ...], chosen: str | None) -> None:
    found = choose_blender([LocalBlender(command="b", kind="blender", version=version) for version in there], wanted)
    assert (found and found.version) == chosen
