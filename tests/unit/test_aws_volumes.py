"""How large a volume for a job's files must be, and how fast it can be."""

from __future__ import annotations

import pytest

from supervisor.cloud.aws.volumes import gib_for, gp3

GIB = 1 << 30
#: What ext4 leaves of a volume to files, without what is root's: measured on `mkfs.ext4` of e2fsprogs 1.47 with `dumpe2fs`.
USABLE = {1: 0.9006, 2: 0.9001, 5: 0.9179, 16: 0.9238, 32: 0.9250, 128: 0.9260, 1024: 0.9333}
INODES = {1: 65536, 2: 131072}  #: that it makes there


def test_a_volume_has_a_gib_at_least() -> None:
    assert gib_for([]) == gib_for([("scene.blend", 1)]) == 1


@pytest.mark.parametrize("gib", USABLE)
def test_files_that_are_said_to_fit_do_fit(gib: int) -> None:
    sizes = [size for size in range(0, gib * GIB, GIB // 64) if gib_for([("scene.blend", size)]) == gib]
    assert sizes
    assert max(sizes) < USABLE[gib] * gib * GIB


@pytest.mark.parametrize("gib", INODES)
def test_many_small_files_find_an_inode_each(gib: int) -> None:
    files = [(f"{number:08d}.bphys", 100) for number in range(INODES[gib])]
    assert gib_for(files) > gib
    assert gib_for(files[: INODES[gib] * 3 // 4]) == gib


def test_folders_and_started_blocks_count() -> None:
    flat = gib_for([(f"{number}.png", 4096) for number in range(180_000)])
    assert gib_for([(f"{number}.png", 4097) for number in range(180_000)]) >= flat
    assert gib_for([(f"{number}/a.png", 4096) for number in range(180_000)]) > flat


@pytest.mark.parametrize(
    ("gib", "asked", "throughput", "iops"),
    [(1, 125, 125, 3000), (1, 250, 250, 3000), (5, 2000, 750, 3000), (8, 2000, 1000, 4000), (16, 2000, 2000, 8000), (100, 500, 500, 3000)],
)
def test_speed_keeps_within_what_the_size_allows(gib: int, asked: int, throughput: int, iops: int) -> None:
    made = gp3(gib, throughput_mib_s=asked)
    assert (made["Throughput"], made["Iops"]) == (throughput, iops)
    assert made["Throughput"] * 4 <= made["Iops"] <= max(3000, 500 * gib)
    assert (made["VolumeType"], made["Encrypted"]) == ("gp3", True)
