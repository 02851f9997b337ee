"""The image's recipe: what it pins, what is wrong with one, and the hash of all that an image is made from."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest

from ami.bundle import AgentPlace, build_env, bundle
from ami.recipe import FROM_MIRROR, RECIPE, Arch, BadRecipe, Variant, parts, read_recipe, recipe_hash, series_of

AGENT = AgentPlace(bucket="farm", region="eu-west-1", key="agent/1.pyz", sha256="0" * 64)
MIRROR = "https://mirror.example/release/"


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = RECIPE.read_text()
    assert old in text
    path = tmp_path / "recipe.toml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_recipe_pins_several_blenders_with_checksums() -> None:
    recipe = read_recipe()
    assert len(recipe.blenders) >= 2
    assert all(re.fullmatch(r"[0-9a-f]{64}", release.sha256[Arch.X86_64]) for release in recipe.blenders)
    assert {release.series for release in recipe.blenders} >= {"4.2", "4.5"}


def test_recipe_pins_the_graphics_driver_and_the_base_images_owner() -> None:
    recipe = read_recipe()
    assert recipe.nvidia.version in recipe.nvidia.url[Arch.X86_64]
    assert recipe.base.owner == "136693071363"
    assert recipe.base.name[Arch.ARM64].startswith("debian-12-arm64")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('owner = "136693071363"', 'owner = "debian"', "recipe.toml: base.owner: 'debian' is not an account number of twelve digits"),
        ('version = "4.5.14"', 'version = "4.5"', "recipe.toml: blender[2].version: '4.5' is not a version such as 4.5.14"),
        ('version = "4.5.14"', 'version = "4.2.9"', "two releases of Blender 4.2, 4.2.9 and 4.2.23"),
        ("9ba871ff", "9BA871FF", "recipe.toml: blender[2].sha256.x86_64: '9BA871FF"),
        ("root_gib = 16", "root_gib = 0", "recipe.toml: base.root_gib: 0 is not a whole number above 0"),
        ("root_gib = 16", "root_gb = 16", "recipe.toml: base.root_gib: is missing"),
        ("[nvidia]\n", "[nvidia]\ncuda = 12\n", "recipe.toml: nvidia.cuda: there is no such key"),
        ("[nvidia]\n", "[amd]\n[nvidia]\n", "recipe.toml: amd: there is no such key"),
        ("https://download.nvidia", "http://download.nvidia", "is not an https address"),
        ('[nvidia.url]\nx86_64 = "', '[nvidia.url]\narm64 = "', "nvidia.url and nvidia.sha256 must name the same architectures"),
        ("sha256 = { x86_64 =", "sha256 = { mips =", "recipe.toml: blender[1].sha256: must say something of at least one of x86_64, arm64"),
        ("[base]", "[base", "recipe.toml: "),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said_with_its_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(BadRecipe, match=re.escape(says)):
        read_recipe(changed(tmp_path, old, new))


def test_recipe_without_a_blender_is_refused(tmp_path: Path) -> None:
    text = re.sub(r"\[\[blender\]\]\n.*\n.*\n", "", RECIPE.read_text())
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(BadRecipe, match=r"recipe\.toml: blender: is missing"):
        read_recipe(path)


def test_checksum_may_be_left_to_the_mirror_in_so_many_words(tmp_path: Path) -> None:
    sum_of_4_5 = next(release for release in read_recipe().blenders if release.series == "4.5").sha256[Arch.X86_64]
    recipe = read_recipe(changed(tmp_path, sum_of_4_5, FROM_MIRROR))
    assert [release.sha256[Arch.X86_64] for release in recipe.blenders if release.series == "4.5"] == [FROM_MIRROR]


def test_image_for_arm64_is_refused_while_no_blender_is_pinned_for_it() -> None:
    with pytest.raises(BadRecipe, match="would have no Blender"):
        build_env(read_recipe(), variant=Variant.CPU, arch=Arch.ARM64, mirror=MIRROR, agent=AGENT)


def test_series_is_what_a_job_asks_for() -> None:
    assert series_of("4.5.14") == "4.5"


def test_orders_of_a_build_name_every_blender_and_no_driver_without_a_gpu() -> None:
    orders = build_env(read_recipe(), variant=Variant.CPU, arch=Arch.X86_64, mirror=MIRROR, agent=AGENT)
    assert [entry.partition("=")[0] for entry in orders["KILN_BLENDERS"].split()] == [release.version for release in read_recipe().blenders]
    assert orders["KILN_BLENDER_MIRROR"] == "https://mirror.example/release"
    assert "KILN_NVIDIA_URL" not in orders


def test_orders_of_the_gpu_variant_name_the_driver() -> None:
    orders = build_env(read_recipe(), variant=Variant.GPU, arch=Arch.X86_64, mirror=MIRROR, agent=AGENT)
    assert orders["KILN_NVIDIA_VERSION"] == read_recipe().nvidia.version


def test_hash_tells_variants_and_architectures_apart_and_is_stable() -> None:
    hashes = {recipe_hash(variant, arch) for variant in Variant for arch in Arch}
    assert len(hashes) == 4
    assert recipe_hash(Variant.CPU, Arch.X86_64) == recipe_hash(Variant.CPU, Arch.X86_64)
    assert all(re.fullmatch(r"[0-9a-f]{16}", each) for each in hashes)


def test_image_is_made_from_recipe_lock_provisioners_and_rootfs() -> None:
    names = [name for name, _ in parts()]
    assert {
        "recipe.toml",
        "requirements.txt",
        "provisioners/run",
        "provisioners/90-validate.sh",
        "rootfs/usr/lib/kiln/bootstrap.py",
    } <= set(names)
    assert not [name for name in names if "__pycache__" in name]


def test_bundle_holds_the_orders_and_programs_that_may_be_run() -> None:
    orders = build_env(read_recipe(), variant=Variant.CPU, arch=Arch.X86_64, mirror="https://a mirror/", agent=AGENT)
    with tarfile.open(fileobj=io.BytesIO(bundle(orders))) as archive:
        members = {member.name: member for member in archive.getmembers()}
        env = archive.extractfile("build.env")
        assert env is not None
        assert "KILN_BLENDER_MIRROR='https://a mirror'\n" in env.read().decode()
    assert members["provisioners/run"].mode == 0o755
    assert members["rootfs/usr/lib/kiln/as-blender"].mode == 0o755
    assert members["requirements.txt"].mode == 0o644


def test_bundle_of_the_same_orders_is_the_same_bytes() -> None:
    assert bundle({"KILN_VARIANT": "cpu"}) == bundle({"KILN_VARIANT": "cpu"})
