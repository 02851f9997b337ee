"""The regions of a draft: its files, what the inspection found, the form, and whether it can be submitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.auth import may_change
from app.current import current_farm
from app.views.money_regions import estimate_of, rents
from app.views.regions import CHANGED, Region, region
from app.views.settings_form import form_values
from supervisor import queries
from supervisor.domain.blender import Series, newest_by_series, series_of
from supervisor.domain.errors import Rejected
from supervisor.domain.frame import parse_frames
from supervisor.domain.scene import DependencyFound, FoundAs
from supervisor.domain.settings import FILE_FORMATS
from supervisor.queries import JobDetail
from supervisor.readiness import blenders_of
from supervisor.renting import most_of_pool

FILES_SHOWN = 300
DEPENDENCIES_SHOWN = 200
#: `hx-trigger` of a draft's regions: only what this page does changes a draft, but for checks that go on in the background.
_QUIET = f"{CHANGED} from:body"
_BUSY = f"every 2s, {CHANGED} from:body"

_ORDER = {FoundAs.MISSING: 0, FoundAs.ABSOLUTE: 1, FoundAs.ELSEWHERE: 2, FoundAs.PRESENT: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class FormInput:
    """What a person typed, and what was wrong with it. Empty: nothing was typed, the draft's own settings are shown."""

    values: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlenderOption:
    """A Blender of the farm's that a draft may be rendered with."""

    series: str
    version: str  #: the newest of the series
    is_older: bool  #: than the main file


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolWords:
    """The shared pool, in the place of what a job would choose for itself."""

    most: int  #: instances
    is_spot: bool
    types: tuple[str, ...]


def _trigger(detail: JobDetail) -> str:
    return _BUSY if _is_busy(detail) else _QUIET


def _is_busy(detail: JobDetail) -> bool:
    return bool(detail.uploading or detail.checking)


def files_region(job: str) -> Region:
    farm = current_farm()
    detail = queries.job_detail(farm, job)
    files, allowed = queries.job_files(farm, job, limit=FILES_SHOWN), may_change(detail.summary)
    return region(
        "jobs/_files.html",
        shows=([(each.id, each.path, each.bytes, each.status, each.problem, each.is_main) for each in files], detail.file_count, allowed),
        job=detail.summary,
        files=files,
        file_count=detail.file_count,
        file_bytes=detail.file_bytes,
        may_change=allowed,
        is_watched=_is_busy(detail),
        trigger=_trigger(detail),
    )


def scene_region(job: str) -> Region:
    """What the inspection of the main file found, and which files are missing."""
    farm = current_farm()
    detail = queries.job_detail(farm, job)
    found = sorted(detail.dependencies, key=lambda each: (_ORDER[each.found], each.dependency.path))
    main = detail.main_file
    return region(
        "jobs/_scene.html",
        shows=(detail.scene, found, main and (main.id, main.inspection)),
        job=detail.summary,
        main=main,
        inspection=main.inspection if main else None,
        scene=detail.scene,
        dependencies=found[:DEPENDENCIES_SHOWN],
        hidden=max(0, len(found) - DEPENDENCIES_SHOWN),
        tally=_tally(found),
        trigger=_trigger(detail),
    )


def _tally(found: list[DependencyFound]) -> dict[str, int]:
    return {kind.value: sum(each.found is kind for each in found) for kind in FoundAs}


def form_region(job: str, typed: FormInput | None = None) -> Region:
    """The settings. Its version names the scene and the files to pick from alone: a form is not replaced under a person's hands."""
    farm = current_farm()
    detail = queries.job_detail(farm, job)
    typed = typed or FormInput()
    main, candidates = detail.main_file, detail.main_candidates
    return region(
        "jobs/_form.html",
        shows=(detail.scene, main and main.id, [each.id for each in candidates]),
        job=detail.summary,
        detail=detail,
        scene=detail.scene,
        blenders=_blender_options(main.inspection.version if main and main.inspection else None),
        scenes=main.inspection.scenes if main and main.inspection else (),
        candidates=candidates,
        values={**form_values(detail, farm.config.render.persistent_data), **typed.values},
        errors=typed.errors,
        formats=FILE_FORMATS,
        max_instances=farm.config.render.max_instances,
        slots=farm.config.local.slots if farm.config.cloud.provider == "local" else None,
        rents=rents(),
        pool=_pool_words(),
        cap=detail.farm_cap_usd,
        trigger=_trigger(detail),
    )


def _pool_words() -> PoolWords | None:
    farm = current_farm()
    if farm.cloud.pool is None:
        return None
    return PoolWords(most=most_of_pool(farm), is_spot=farm.config.pool.market == "spot", types=tuple(farm.cloud.prices.instance_types()))


def _blender_options(saved_by: Series | None) -> list[BlenderOption]:
    return [
        BlenderOption(series=series, version=version, is_older=saved_by is not None and series_of(version) < saved_by)
        for series, version in newest_by_series(blenders_of(current_farm())).items()
    ]


def check_region(job: str, errors: Mapping[str, str] | None = None) -> Region:
    """Whether the draft can be submitted: what would be rendered, or what is in the way."""
    farm = current_farm()
    detail = queries.job_detail(farm, job)
    estimate = estimate_of(job)
    return region(
        "jobs/_check.html",
        shows=(detail.blockers, detail.problems, detail.frames_spec, detail.settings, detail.scene, detail.blender_words, estimate),
        job=detail.summary,
        detail=detail,
        errors=errors or {},
        estimate=estimate,
        frame_total=_count(detail.frames_spec, farm.config.render.max_frames),
        trigger=_trigger(detail),
    )


def _count(frames_spec: str, max_frames: int) -> int:
    try:
        return len(parse_frames(frames_spec, max_frames=max_frames)) if frames_spec else 0
    except Rejected:
        return 0
