"""Volumes that hold a job's files: how large they must be, and how fast they can be."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Any

#: Where the volume with the job's files is attached; the instance finds it by its serial number where the name is another.
WORKSPACE_DEVICE = "/dev/sdf"
#: Largest volume of type gp3, in GiB.
MOST_GIB = 16384

_GIB = 1 << 30
_BLOCK_BYTES = 4096
#: What ext4 leaves of a volume: 5 % are root's, 1.6 % inodes; the journal is within the rest.
_USABLE = 0.92
_SPARE_BYTES = _GIB // 8
#: ext4 makes one inode for so many bytes of the volume.
_BYTES_PER_INODE = 16384
_BASE_IOPS = 3000
_IOPS_PER_MIB_S = 4  #: gp3 gives a quarter of a MiB/s for each operation a second
_MOST_IOPS_PER_GIB = 500
#: What EC2 takes for the rate at which a volume is filled from its snapshot; and what all volumes that are made at once in a region may ask
#: for together: beyond it launches fail. A launch asks for half of that: another job's may be under way.
#: Source: EBS user guide, "Provisioned Rate for Volume Initialization", as of 2026-01
_LEAST_INITIALIZATION_MIB_S, _MOST_INITIALIZATION_MIB_S = 100, 300
_MOST_OF_ONE_LAUNCH_MIB_S = 5000 // 2
_INITIALIZATION_STEP_MIB_S = 50


def gib_for(files: Collection[tuple[str, int]]) -> int:
    """Say how large a volume for these files must be: ext4 as `mkfs.ext4` makes it, in whole GiB, at least one.

    Shape:   files: relative path, bytes
    """
    folders = {folder for path, _ in files for folder in PurePosixPath(path).parents}
    blocks = sum(_in_blocks(size) for _, size in files) + (len(files) + len(folders)) * _BLOCK_BYTES
    inodes = (len(files) + len(folders)) * _BYTES_PER_INODE
    return max(1, math.ceil((max(blocks, inodes) / _USABLE + _SPARE_BYTES) / _GIB))


def gp3(gib: int, *, throughput_mib_s: int) -> dict[str, Any]:
    """Describe an encrypted gp3 volume of this size, as fast as asked for or as its size allows.

    Returns: keys of `Ebs` in a block device mapping, the size not among them
    Source:  EBS user guide, gp3: 3,000 to 500 IOPS a GiB, 0.25 MiB/s for each of them; as of 2026-01
    """
    most_iops = max(_BASE_IOPS, gib * _MOST_IOPS_PER_GIB)
    throughput = min(throughput_mib_s, most_iops // _IOPS_PER_MIB_S)
    return {
        "VolumeType": "gp3",
        "Encrypted": True,
        "Throughput": throughput,
        "Iops": max(_BASE_IOPS, throughput * _IOPS_PER_MIB_S),
    }


def initialization_mib_s(wanted: int, *, volumes: int) -> int:
    """Say at which rate so many volumes that are made at once can be filled from their snapshot; 0: at none, but as it comes.

    Shape:   wanted: 0: as it comes; volumes: >= 1
    """
    if not wanted:
        return 0
    share = _MOST_OF_ONE_LAUNCH_MIB_S // volumes // _INITIALIZATION_STEP_MIB_S * _INITIALIZATION_STEP_MIB_S
    rate = min(max(wanted, _LEAST_INITIALIZATION_MIB_S), _MOST_INITIALIZATION_MIB_S, share)
    return rate if rate >= _LEAST_INITIALIZATION_MIB_S else 0


def _in_blocks(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES
