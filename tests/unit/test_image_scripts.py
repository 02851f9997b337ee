"""The image's scripts and units: what a linter finds, and what single scripts do with stand-ins for the commands they call."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ami.recipe import PROVISIONERS, ROOTFS

ROOT = PROVISIONERS.parents[1]
UNITS = sorted((ROOTFS / "usr/lib/systemd/system").glob("kiln-*"))
#: What a unit runs that is on the image alone.
ON_THE_IMAGE = r"Command /(opt/kiln|usr/lib/kiln|usr/sbin|usr/bin)/\S+ is not executable: No such file or directory"


def shell_scripts() -> list[Path]:
    """Every shell script of the checkout: by its first line, or its name."""
    found = [path for path in (*PROVISIONERS.iterdir(), *(ROOT / "scripts").iterdir(), *ROOTFS.rglob("*")) if path.is_file()]
    return sorted(path for path in found if path.suffix == ".sh" or re.match(rb"#! ?/bin/(ba)?sh", path.read_bytes()[:20]))


def provisioners() -> list[Path]:
    return sorted(PROVISIONERS.glob("[0-9][0-9]-*.sh"))


def test_no_shell_script_has_anything_that_shellcheck_finds() -> None:
    assert len(shell_scripts()) > 10
    linter = Path(sys.executable).with_name("shellcheck")
    ran = subprocess.run([linter, *shell_scripts()], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("script", provisioners(), ids=lambda script: script.name)
def test_provisioner_stops_at_the_first_error_and_says_what_it_does(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    assert re.match(r"# [A-Z].{10,}", lines[1]), "the second line is what the builder's progress shows"
    assert lines[2] == "set -euo pipefail"


def test_validation_is_the_last_provisioner() -> None:
    assert provisioners()[-1].name == "90-validate.sh"


def needed_by(script: Path) -> list[str]:
    return [name for line in re.findall(r"^need (.+)$", script.read_text(), re.MULTILINE) for name in line.split()]


@pytest.mark.parametrize("script", [script for script in provisioners() if needed_by(script)], ids=lambda script: script.name)
def test_provisioner_without_its_orders_names_what_is_missing(script: Path) -> None:
    ran = subprocess.run(["bash", script], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert f"{script.name} needs {needed_by(script)[0]}" in ran.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_what_systemd_takes(unit: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:  # not on every machine; image-check verifies them on the image itself
        assert unit.read_text().startswith("[Unit]\n")
        return
    ran = subprocess.run([analyze, "verify", "--man=no", *UNITS], capture_output=True, text=True, check=False)
    assert [line for line in ran.stderr.splitlines() if "kiln-" in line and not re.search(ON_THE_IMAGE, line)] == []


class Stage:
    """A place to run a script in, with stand-ins for commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()

    def stand_in(self, name: str, body: str = "exit 0") -> None:
        """Have a command that notes how it was called, and does `body`."""
        path = self.bin / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.folder}/calls"\n{body}\n')
        path.chmod(0o755)

    def run(self, script: Path, **env: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "TMPDIR": str(self.folder), **env}
        return subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_instance_whose_agent_is_at_work_is_left_alone(stage: Stage) -> None:
    stage.stand_in("systemctl")
    assert stage.run(ROOTFS / "usr/lib/kiln/deadline").returncode == 0
    assert stage.calls() == ["systemctl --quiet is-active kiln-node.service"]


def test_instance_without_an_agent_at_work_gives_up(stage: Stage) -> None:
    stage.stand_in("systemctl", '[ "$2" != is-active ]')
    stage.stand_in("sleep")
    stage.run(ROOTFS / "usr/lib/kiln/deadline", KILN_DEADLINE_TRIES="2")
    assert stage.calls()[-1] == "systemctl --no-block start kiln-gave-up.service"
    assert stage.calls().count("systemctl --quiet is-active kiln-node.service") == 2


def test_as_blender_without_a_command_says_how_it_is_used(stage: Stage) -> None:
    ran = stage.run(ROOTFS / "usr/lib/kiln/as-blender")
    assert (ran.returncode, ran.stderr) == (2, "usage: as-blender COMMAND [ARGUMENT ...]\n")


KERNEL = "6.1.0-40-cloud-amd64"
DRIVER = {"KILN_VARIANT": "gpu", "KILN_NVIDIA_VERSION": "580.1", "KILN_NVIDIA_URL": "https://nvidia.example/580.run"}


def a_gpu_builder(stage: Stage, *, running: str = KERNEL, newest: str = KERNEL) -> None:
    """A builder whose kernels, package manager and driver are stand-ins; the downloaded installer says that it ran."""
    stage.stand_in("uname", f"echo {running}")
    stage.stand_in("find", f"echo {newest}")
    stage.stand_in("curl", 'while [ "$1" != --output ]; do shift; done\necho "exit 0" >"$2"')
    stage.stand_in("sh", "exit 0")
    stage.stand_in("nvidia-smi", "echo 580.1")
    stage.stand_in("dpkg-query", f"echo 'linux-image-{KERNEL} ii '")
    stage.stand_in("ldconfig", "printf '\\t%s (libc6,x86-64)\\n' libcuda.so.1 libnvoptix.so.1 libEGL_nvidia.so.0")
    for name in ("apt-get", "apt-mark", "depmod", "modprobe", "systemctl"):
        stage.stand_in(name)


def sum_of_installer() -> str:
    return subprocess.run(["sha256sum"], input=b"exit 0\n", capture_output=True, check=True).stdout.decode().split()[0]


def test_image_without_a_gpu_gets_no_driver(stage: Stage) -> None:
    a_gpu_builder(stage)
    assert stage.run(PROVISIONERS / "40-nvidia.sh", KILN_VARIANT="cpu").returncode == 0
    assert stage.calls() == []


def test_driver_is_made_for_the_kernel_that_runs_and_the_kernel_is_kept(stage: Stage) -> None:
    a_gpu_builder(stage)
    ran = stage.run(PROVISIONERS / "40-nvidia.sh", **DRIVER, KILN_NVIDIA_SHA256=sum_of_installer())
    assert ran.returncode == 0, ran.stderr
    (installed,) = [call for call in stage.calls() if call.startswith("sh ")]
    assert f"--kernel-name={KERNEL}" in installed
    assert "--kernel-module-type=open" in installed
    assert f"apt-mark hold linux-image-{KERNEL}" in stage.calls()
    assert "modprobe nvidia-uvm" in stage.calls()


def test_builder_with_a_newer_kernel_is_restarted_before_the_driver_is_made(stage: Stage) -> None:
    a_gpu_builder(stage, running="6.1.0-39-cloud-amd64")
    ran = stage.run(PROVISIONERS / "40-nvidia.sh", **DRIVER, KILN_NVIDIA_SHA256=sum_of_installer())
    assert ran.returncode == 100
    assert not [call for call in stage.calls() if call.startswith(("curl", "sh "))]


def test_driver_with_another_checksum_is_not_run(stage: Stage) -> None:
    a_gpu_builder(stage)
    ran = stage.run(PROVISIONERS / "40-nvidia.sh", **DRIVER, KILN_NVIDIA_SHA256="0" * 64)
    assert ran.returncode == 1
    assert "it is not the file that the recipe names" in ran.stderr
    assert not [call for call in stage.calls() if call.startswith("sh ")]


def test_driver_of_another_version_than_the_recipes_is_a_failure(stage: Stage) -> None:
    a_gpu_builder(stage)
    stage.stand_in("nvidia-smi", "echo 570.9")
    ran = stage.run(PROVISIONERS / "40-nvidia.sh", **DRIVER, KILN_NVIDIA_SHA256=sum_of_installer())
    assert ran.returncode == 1
    assert "the driver says that it is 570.9, and the recipe names 580.1" in ran.stderr


def test_driver_without_the_library_that_cycles_is_fastest_with_is_a_failure(stage: Stage) -> None:
    a_gpu_builder(stage)
    stage.stand_in("ldconfig", "printf '%s\\n' libcuda.so.1 libEGL_nvidia.so.0")
    ran = stage.run(PROVISIONERS / "40-nvidia.sh", **DRIVER, KILN_NVIDIA_SHA256=sum_of_installer())
    assert ran.returncode == 1
    assert "left out libnvoptix.so.1" in ran.stderr


def test_lists_of_packages_that_another_apt_has_locked_are_waited_for(stage: Stage) -> None:
    stage.stand_in("sleep", f"touch {stage.folder}/released")
    stage.stand_in("apt-get", f'case "$*" in *update) [ -e {stage.folder}/released ] ;; esac')
    ran = stage.run(PROVISIONERS / "10-packages.sh")
    assert ran.returncode == 0, ran.stderr
    assert [call.split()[-1] for call in stage.calls() if call.endswith(" update")] == ["update", "update"]


class Build:
    """A run of provisioners that the test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.provisioners = folder / "provisioners"
        self.provisioners.mkdir()
        for name in ("run", "lib.sh"):
            shutil.copy(PROVISIONERS / name, self.provisioners)
        (folder / "build.env").write_text("KILN_RECIPE=abc\nKILN_VARIANT=cpu\nKILN_ARCH=x86_64\n")

    def script(self, name: str, body: str) -> None:
        (self.provisioners / name).write_text(
            f"#!/bin/bash\n# The deed of {name}\nset -euo pipefail\necho {name} >>'{self.folder}/ran'\n{body}\n"
        )

    def run(self, **env: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "KILN_STATE": str(self.folder / "state"),
            "KILN_PROGRESS_FILE": str(self.folder / "progress"),
            **env,
        }
        # as root, wherever the tests run: the one question that `run` asks of the machine
        (self.folder / "id").mkdir(exist_ok=True)
        (self.folder / "id/id").write_text("#!/bin/sh\necho 0\n")
        (self.folder / "id/id").chmod(0o755)
        environment["PATH"] = f"{self.folder / 'id'}:{environment['PATH']}"
        return subprocess.run(["bash", self.provisioners / "run"], env=environment, capture_output=True, text=True, check=False)

    def ran(self) -> list[str]:
        return (self.folder / "ran").read_text().split()

    def progress(self) -> list[str]:
        return (self.folder / "progress").read_text().splitlines()


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


def test_provisioners_run_in_order_and_tell_how_far_they_are(build: Build) -> None:
    build.script("20-b.sh", 'echo "variant $KILN_VARIANT"')
    build.script("10-a.sh", "true")
    ran = build.run()
    assert ran.returncode == 0
    assert build.ran() == ["10-a.sh", "20-b.sh"]
    assert build.progress() == ["kiln-progress 1/2 The deed of 10-a.sh", "kiln-progress 2/2 The deed of 20-b.sh", "kiln-done abc"]
    assert "variant cpu" in ran.stdout


def test_provisioner_that_fails_ends_the_build_with_its_last_words(build: Build) -> None:
    build.script("10-a.sh", "echo 'no room on the disk' >&2; exit 3")
    build.script("20-b.sh", "true")
    ran = build.run()
    assert ran.returncode == 3
    assert build.progress()[-1] == "kiln-failed 10-a.sh: no room on the disk"
    assert build.ran() == ["10-a.sh"]


def test_build_goes_on_after_a_restart_where_it_was(build: Build) -> None:
    build.script("10-a.sh", "true")
    build.script("20-b.sh", f"[ -e '{build.folder}/rebooted' ] || {{ touch '{build.folder}/rebooted'; exit 100; }}")
    assert build.run().returncode == 100
    assert build.run().returncode == 0
    assert build.ran() == ["10-a.sh", "20-b.sh", "20-b.sh"]


def test_what_another_recipe_finished_is_done_again(build: Build) -> None:
    build.script("10-a.sh", "true")
    build.script("20-b.sh", "exit 1")
    build.run()
    (build.folder / "build.env").write_text("KILN_RECIPE=def\nKILN_VARIANT=cpu\nKILN_ARCH=x86_64\n")
    build.run()
    assert build.ran() == ["10-a.sh", "20-b.sh", "10-a.sh", "20-b.sh"]
