"""`python -m ami.check`: run the proofs, say what they showed, end with 1 if one does not hold."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ami.check import lives, own_volume, proofs
from ami.check.agent import check_archive
from ami.check.blenders import packed_blenders, serving
from ami.check.bucket import Bucket
from ami.check.commands import Failed, run
from ami.check.debian import layer, made_base
from ami.check.network import AWS, STORE, enter, make_networks, object_store
from ami.recipe import PROVISIONERS

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".image-check"
INSIDE = "KILN_IMAGE_CHECK_INSIDE"
PROVEN: list[str] = []
PROGRAMS = ("debootstrap", "systemd-nspawn", "nft", "ip", "mount", "losetup", "unshare", "xz", "wipefs", "apt-get")


def missing() -> list[str]:
    """Say what this machine lacks for the check."""
    lacks = [] if os.geteuid() == 0 else ["root: it makes a system, mounts it, and starts it (sudo make image-check)"]
    lacks += [f"the program {name}" for name in PROGRAMS if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None]
    lacks += [] if (ROOT / ".bpy/lib").is_dir() else ["Blender in .bpy (make setup-dev)"]
    return lacks


def main() -> int:
    if lacks := missing():
        print("make image-check can't run here. It needs:\n" + "\n".join(f"  {each}" for each in lacks), file=sys.stderr)
        return 2
    if os.environ.get(INSIDE) != "1":
        # Mounts and processes that end with us, however we end
        os.environ[INSIDE] = "1"
        command = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            sys.executable,
            "-m",
            "ami.check",
        ]
        os.execvp(command[0], command)
    began = time.monotonic()
    try:
        check()
    except Failed as error:
        print(f"image-check: FAILED after {time.monotonic() - began:.0f} s: {error}", file=sys.stderr)
        return 1
    print(f"image-check: {len(PROVEN)} proofs hold ({time.monotonic() - began:.0f} s)")
    return 0


def check() -> None:
    """Prove it all. Errors: Failed - the first proof that does not hold"""
    CACHE.mkdir(exist_ok=True)
    _detach_left_over_loops()
    _say("making a fresh Debian, and packing Blender's builds (made before: at once)")
    base = made_base(CACHE)
    blenders = packed_blenders(ROOT / ".bpy", CACHE)
    with layer(base, CACHE / "run") as root, serving(CACHE / "mirror") as (mirror, asked):
        shared = CACHE / "run" / "shared"
        shared.mkdir()
        bench = proofs.Bench(root=root, shared=shared, blenders=blenders, agent=check_archive(), environment=dict(os.environ))
        _prove(lambda: proofs.provisioners_make_the_image(bench, mirror), proofs.provisioners_make_the_image)
        _prove(lambda: proofs.provisioners_run_again_change_nothing(bench, mirror, asked), proofs.provisioners_run_again_change_nothing)
        _prove(lambda: proofs.damaged_download_is_refused(bench, mirror), proofs.damaged_download_is_refused)
        _check_in_aws_network(bench)


def _check_in_aws_network(bench: proofs.Bench) -> None:
    make_networks()
    enter(AWS)
    store = Path(sys.executable).with_name("moto_server")
    with object_store(store, bench.shared / "store.log"), proofs.loop_volume(CACHE / "volume") as device:
        bucket = Bucket()
        bucket.put(proofs.AGENT_KEY, bench.agent)
        bucket.put(lives.SCENE_KEY, _scene())
        _prove(lambda: proofs.validation_passes(bench), proofs.validation_passes)
        _prove(lambda: proofs.image_is_as_described(bench), proofs.image_is_as_described)
        _prove(lambda: proofs.gpu_variant_refuses_this_machine(bench), proofs.gpu_variant_refuses_this_machine)
        _prove(lambda: proofs.addons_of_the_image_are_enabled(bench), proofs.addons_of_the_image_are_enabled)
        _prove(lambda: proofs.firewall_keeps_blender_in(bench), proofs.firewall_keeps_blender_in)
        _prove(lambda: proofs.workspace_volume_is_made_and_found_again(bench, device), proofs.workspace_volume_is_made_and_found_again)
        _prove(
            lambda: lives.instance_starts_renders_and_switches_itself_off(bench, device, bucket),
            lives.instance_starts_renders_and_switches_itself_off,
        )
        _prove(
            lambda: lives.volume_is_staged_and_a_job_is_rendered_from_it(bench, device, bucket),
            lives.volume_is_staged_and_a_job_is_rendered_from_it,
        )
        _prove(
            lambda: lives.instance_that_no_farm_launched_switches_itself_off(bench),
            lives.instance_that_no_farm_launched_switches_itself_off,
        )
        _prove(lambda: lives.instance_that_hangs_gives_up(bench, bucket), lives.instance_that_hangs_gives_up)
        _prove(lambda: lives.instance_without_an_agent_gives_up(bench, bucket), lives.instance_without_an_agent_gives_up)
        _check_own_volumes(bucket)


def _check_own_volumes(bucket: Bucket) -> None:
    folder = CACHE / "run" / "own-volume"
    folder.mkdir()
    with own_volume.farm_with_a_volume(folder, bucket, STORE) as farm:
        for proof in own_volume.PROOFS:
            _prove(partial(proof, farm), proof)


def _scene() -> bytes:
    """A .blend of a moment's work."""
    folder = CACHE / "scene"
    folder.mkdir(exist_ok=True)
    run(ROOT / ".bpy/bin/python", "-I", PROVISIONERS / "validate_scene.py", folder)
    return (folder / "cycles.blend").read_bytes()


def _prove(deed: Callable[[], str], proof: Callable[..., str]) -> None:
    """Have a proof tried, and say what it showed."""
    began = time.monotonic()
    name = proof.__name__.replace("_", " ")
    try:
        shown = deed()
    except Failed as error:
        raise Failed(f"{name}: {error}") from error
    PROVEN.append(name)
    print(f"image-check: proved ({time.monotonic() - began:3.0f} s) {name}\n    {proof.__doc__}\n    seen: {shown}", flush=True)


def _say(text: str) -> None:
    print(f"image-check: {text}", flush=True)


def _detach_left_over_loops() -> None:
    """Detach what a killed run left: a loop device is the one thing that does not end with its namespace."""
    for line in run("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE").splitlines():
        name, _, file = line.partition(" ")
        if file.strip().startswith(str(CACHE)):
            run("losetup", "--detach", name)


if __name__ == "__main__":
    sys.exit(main())
