"""The form of a job's settings: from what a person typed to JobSettings, and back."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from supervisor.domain.errors import Rejected
from supervisor.domain.instance import Market
from supervisor.domain.settings import FILE_FORMATS, HIGHEST_PRIORITY, USUAL_PRIORITY, JobSettings, OutputSettings
from supervisor.domain.workspace import WorkspaceMode
from supervisor.queries import JobDetail

FIELDS = (
    "frames",
    "instances",
    "scene",
    "camera",
    "blender",
    "market",
    "max_price_usd_per_h",
    "instance_types",
    "workspace_mode",
    "output_name",
    "output_format",
    "resolution_pct",
    "samples",
    "persistent_data",
    "max_cost_usd",
    "priority",
    "scout",
)
#: Boxes: unticked, they are not sent.
_BOXES = frozenset({"persistent_data", "scout"})


def form_values(detail: JobDetail, persistent_default: bool) -> dict[str, str]:
    """The draft's settings as the form shows them. Empty: as the scene says; the frames are always written out."""
    settings, output = detail.settings, detail.settings.output
    persistent = persistent_default if settings.persistent_data is None else settings.persistent_data
    return {
        "frames": settings.frames or detail.frames_spec,
        "frames_default": "" if settings.frames else detail.frames_spec,
        "instances": str(settings.instances),
        "scene": settings.scene or "",
        "camera": settings.camera or "",
        "blender": settings.blender or "",
        "market": settings.market.value,
        "max_price_usd_per_h": _shown(settings.max_price_usd_per_h),
        "instance_types": ", ".join(settings.instance_types),
        "workspace_mode": settings.workspace_mode or "",
        "output_name": output.name or "",
        "output_format": output.format or "",
        "resolution_pct": _shown(output.resolution_pct),
        "samples": _shown(output.samples),
        "persistent_data": "on" if persistent else "",
        "max_cost_usd": _shown(settings.max_cost_usd),
        "priority": str(settings.priority),
        "scout": "on" if settings.scout else "",
    }


def _shown(value: object) -> str:
    return "" if value is None else str(value)


def typed_values(form: Mapping[str, str]) -> dict[str, str]:
    """What a person typed, to show it again beside what was wrong with it. An unticked box is not sent: it counts as empty."""
    values = {name: form.get(name, "").strip() for name in FIELDS if name in form or name in _BOXES}
    return values | {"frames_default": form.get("frames_default", "").strip()}


def settings_of(form: Mapping[str, str], *, persistent_default: bool) -> JobSettings:
    """The settings that a person typed.

    Errors:  Rejected - by field, the first that is no number where one belongs; the command checks the rest
    """
    frames = form.get("frames", "").strip()
    persistent = form.get("persistent_data", "") == "on"
    return JobSettings(
        # left as the scene prefilled it: the scene's own, so that choosing another scene brings that one's frames
        frames=None if frames == form.get("frames_default", "").strip() else frames or None,
        instances=_whole(form, "instances", "Instances", 1, 10_000) or 1,
        market=Market.SPOT if form.get("market") == Market.SPOT else Market.ON_DEMAND,
        max_price_usd_per_h=_price(form),
        max_cost_usd=dollars_of(form, "max_cost_usd", "Most it may cost: write dollars, such as 20."),
        priority=priority_of(form),
        scout=form.get("scout", "") == "on",
        instance_types=tuple(part.strip() for part in form.get("instance_types", "").split(",") if part.strip()),
        workspace_mode=_workspace_mode(form.get("workspace_mode", "")),
        scene=form.get("scene") or None,
        camera=form.get("camera") or None,
        blender=form.get("blender") or None,
        output=OutputSettings(
            name=form.get("output_name", "").strip() or None,
            format=_format(form.get("output_format", "")),
            resolution_pct=_whole(form, "resolution_pct", "Resolution", 1, 1000),
            samples=_whole(form, "samples", "Samples", 1, 65536),
        ),
        persistent_data=None if persistent == persistent_default else persistent,
    )


def _whole(form: Mapping[str, str], name: str, label: str, least: int, most: int) -> int | None:
    text = form.get(name, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not least <= int(text) <= most:
        raise Rejected(f"{label}: write a whole number from {least} to {most}.", field=name)
    return int(text)


def priority_of(form: Mapping[str, str]) -> int:
    """The priority that a person typed; of nothing, the usual one. Errors: Rejected - it is none"""
    typed = _whole(form, "priority", "Priority", 0, HIGHEST_PRIORITY)
    return USUAL_PRIORITY if typed is None else typed


def _price(form: Mapping[str, str]) -> Decimal | None:
    if form.get("market") != Market.SPOT:
        return None
    return dollars_of(form, "max_price_usd_per_h", "Highest price: write dollars per hour, such as 0.45.")


def dollars_of(form: Mapping[str, str], name: str, else_say: str) -> Decimal | None:
    """The amount that a person typed. Returns: None if nothing was. Errors: Rejected - it is no amount above 0"""
    text = form.get(name, "").strip().lstrip("$").strip()
    if not text:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise Rejected(else_say, field=name) from error
    if not amount.is_finite() or amount <= 0:
        raise Rejected(f"{else_say} It must be more than 0.", field=name)
    return amount


def _workspace_mode(name: str) -> WorkspaceMode | None:
    if name and name not in set(WorkspaceMode):
        raise Rejected("How the files come to instances: pick one of the list.", field="workspace_mode")
    return WorkspaceMode(name) if name else None


def _format(identifier: str) -> str | None:
    if identifier and identifier not in FILE_FORMATS:
        raise Rejected("Format: pick one of the list.", field="output_format")
    return identifier or None
