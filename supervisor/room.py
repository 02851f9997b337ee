"""Room on the farm's disk: what is refused when it runs low."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .cloud.ports import Full
from .domain.errors import OutOfSpace
from .domain.upload import gib
from .farm import Farm

_REMEDY = "Delete old jobs, or give the farm a larger disk; then try again."


def kept_free_bytes(farm: Farm) -> int:
    return int(farm.config.store.min_free_gib * (1 << 30))


def has_room(farm: Farm, wanted_bytes: int) -> bool:
    """Say whether so much can be written with what must stay free left over."""
    free = farm.cloud.premises.free_bytes()
    return free is None or free - wanted_bytes >= kept_free_bytes(farm)


def check_room(farm: Farm, wanted_bytes: int, *, what: str) -> None:
    """Errors: OutOfSpace - `what` (“this file”) doesn't fit; says by how much and what to do"""
    free = farm.cloud.premises.free_bytes()
    if free is None or free - wanted_bytes >= kept_free_bytes(farm):
        return
    kept = gib(kept_free_bytes(farm))
    left = f"{gib(free)} are left, and the farm keeps {kept} free"
    raise OutOfSpace(f"The farm's disk is too full: {what} needs {gib(wanted_bytes)}; {left}. {_REMEDY}")


@contextmanager
def full_store_refused() -> Iterator[None]:
    """Turn the store's `Full` into a refusal that people can act on."""
    try:
        yield
    except Full as error:
        raise OutOfSpace(f"The farm's disk is full; nothing is lost. {_REMEDY}") from error
