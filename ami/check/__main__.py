"""`python -m ami.check`: run the proofs, say what they showed, end with 1 if one does not hold."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from ami.check import lives, own_volume, proofs
from ami.check.agent import check_archive
from ami.check.blenders import packed_blenders, serving
from ami.check.bucket import Bucket
from ami.check.commands import Failed, run
from ami.check.debian import layer, made_base
from ami.check.loops import detach_left_over, loop_volume
from ami.check.network import AWS, enter, make_networks, object_store
from ami.check.proving import PROVEN, enter_namespaces, prove
from ami.recipe import PROVISIONERS

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".image-check"
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
    enter_namespaces("ami.check")
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
    detach_left_over(CACHE)
    _say("making a fresh Debian, and packing Blender's builds (made before: at once)")
    base = made_base(CACHE)
    blenders = packed_blenders(ROOT / ".bpy", CACHE)
    with layer(base, CACHE / "run") as root, serving(CACHE / "mirror") as (mirror, asked):
        shared = CACHE / "run" / "shared"
        shared.mkdir()
        bench = proofs.Bench(root=root, shared=shared, blenders=blenders, agent=check_archive(), environment=dict(os.environ))
        prove(proofs.provisioners_make_the_image, bench, mirror)
        prove(proofs.provisioners_run_again_change_nothing, bench, mirror, asked)
        prove(proofs.damaged_download_is_refused, bench, mirror)
        _check_in_aws_network(bench)


def _check_in_aws_network(bench: proofs.Bench) -> None:
    make_networks()
    enter(AWS)
    with object_store(bench.shared / "store.log") as store, loop_volume(CACHE / "volume", bytes=256 << 20) as device:
        bucket = Bucket(store)
        bucket.put(proofs.AGENT_KEY, bench.agent)
        bucket.put(lives.SCENE_KEY, _scene())
        prove(proofs.validation_passes, bench)
        prove(proofs.image_is_as_described, bench)
        prove(proofs.gpu_variant_refuses_this_machine, bench)
        prove(proofs.addons_of_the_image_are_enabled, bench)
        prove(proofs.firewall_keeps_blender_in, bench)
        prove(proofs.workspace_volume_is_made_and_found_again, bench, device)
        prove(lives.instance_starts_renders_and_switches_itself_off, bench, device, bucket)
        prove(lives.volume_is_staged_and_a_job_is_rendered_from_it, bench, device, bucket)
        prove(lives.instance_that_no_farm_launched_switches_itself_off, bench)
        prove(lives.instance_that_hangs_gives_up, bench, bucket)
        prove(lives.instance_without_an_agent_gives_up, bench, bucket)
        _check_own_volumes(bucket, store)


def _check_own_volumes(bucket: Bucket, store: str) -> None:
    folder = CACHE / "run" / "own-volume"
    folder.mkdir()
    with own_volume.farm_with_a_volume(folder, bucket, store) as farm:
        for proof in own_volume.PROOFS:
            prove(proof, farm)


def _scene() -> bytes:
    """A .blend of a moment's work."""
    folder = CACHE / "scene"
    folder.mkdir(exist_ok=True)
    run(ROOT / ".bpy/bin/python", "-I", PROVISIONERS / "validate_scene.py", folder)
    return (folder / "cycles.blend").read_bytes()


def _say(text: str) -> None:
    print(f"image-check: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
