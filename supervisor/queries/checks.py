"""What the doctor finds wrong with a farm that is open: its supervisor, its cloud."""

from __future__ import annotations

from collections.abc import Iterator

from supervisor.cloud.ports import Check, CloudError
from supervisor.farm import Farm

from .jobs import health

#: What the cloud says of the object store only holds while the farm is served, where the store is the farm's own.
_NEEDS_A_SERVER = frozenset({"object store"})


def farm_checks(farm: Farm, *, is_served: bool) -> Iterator[Check]:
    """Look at the supervisor and the cloud; yield what is found, one by one, as it may take seconds.

    Shape:   is_served: some process serves the farm
    """
    yield _check_supervisor(farm) if is_served else Check(name="server", is_ok=True, text="the farm is not being served")
    try:
        found = farm.cloud.premises.checks()
    except CloudError as error:
        yield Check(name="cloud", is_ok=False, text=str(error), remedy="see to what is named, then look again")
        return
    for check in found:
        if is_served or check.name not in _NEEDS_A_SERVER:
            yield check


def _check_supervisor(farm: Farm) -> Check:
    found = health(farm)
    if not found.is_alive:
        text = "the farm is being served, but its supervisor has stopped"
        return Check(name="server", is_ok=False, text=text, remedy="restart it; see its log")
    if found.trouble:
        text = f"the farm is being served, but decides nothing at present: {found.trouble}"
        return Check(name="server", is_ok=False, text=text, remedy="it goes on by itself when that is mended")
    since = "it has not looked at its jobs yet" if found.last_tick_s is None else f"its last tick was {found.last_tick_s:.1f} s ago"
    return Check(name="server", is_ok=True, text=f"the farm is being served; {since}")
