"""Rendering: a whole job, from submit to completed, beside the same Blender's own `-a` on the same file."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from app.api import models
from app.bootstrap import build_farm
from nodeimage.protocol import claims_prefix, journal_prefix
from supervisor.config import Config
from supervisor.domain.job import ENDED

from .farm import ROOT, MeasuredFarm, running_farm
from .report import Row

BPY = ROOT / ".bpy" / "bin" / "python"
RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTimes:
    """Where a job's time went, in seconds."""

    whole_s: float  #: submit asked for, to completed
    to_first_frame_s: float  #: submit asked for, to the first frame claimed by a node that has the file open
    open_s: float  #: of that: Blender's own start, and opening the file
    rendering_s: float  #: sum of the frames' times inside Blender
    to_completed_s: float  #: last journal entry written, to completed

    @property
    def overhead_s(self) -> float:
        """Submit to first frame, beyond Blender's own."""
        return self.to_first_frame_s - self.open_s


def measure_rendering() -> tuple[list[Row], list[str]]:
    """Measure both scenes. Returns: rows, and notes on where the time goes"""
    with tempfile.TemporaryDirectory(prefix="kiln-bench-") as folder:
        rows, notes = [], []
        every: list[JobTimes] = []
        for kind, title, goal in (
            ("light", "24 frames, a light scene, one instance: submit to completed", 1.15),
            ("heavy", "the same, two million static triangles", 0.6),
        ):
            blend = Path(folder) / f"{kind}.blend"
            subprocess.run([BPY, ROOT / "bench" / "scenes.py", kind, blend], check=True, stdout=subprocess.DEVNULL)
            farm_runs: list[JobTimes] = []
            reference_s: list[float] = []
            for run in range(RUNS):
                with running_farm({"KILN_LOCAL__SLOTS": "1"}) as farm:
                    farm_runs.append(_job_times(farm, blend))
                reference_s.append(_reference_s(blend, Path(folder) / f"out-{kind}-{run}"))
                print(f"{kind} {run + 1}/{RUNS}: farm {farm_runs[-1].whole_s:.1f} s, blender -a {reference_s[-1]:.1f} s", flush=True)
            rows.append(_row(title, goal, farm_runs, reference_s))
            notes.append(_where_it_goes(kind, farm_runs, reference_s))
            every += farm_runs
        rows.append(_seconds_row("submit to first frame begun, beyond Blender's own start and load", 3.0, [t.overhead_s for t in every]))
        rows.append(_seconds_row("last frame received to completed", 2.0, [t.to_completed_s for t in every]))
    return rows, notes


def _job_times(farm: MeasuredFarm, blend: Path) -> JobTimes:
    job = farm.client.create_job(blend.stem).id
    with blend.open("rb") as source:
        farm.client.put_file(job, blend.name, source, length=blend.stat().st_size)
    began = time.time()
    farm.client.submit_job(job, instances=1)
    while (state := farm.client.job(job)).status not in ENDED:
        time.sleep(0.2)
    if state.status != "completed":
        raise SystemExit(f"the measured job ended {state.status}: {state.reason}")
    assert state.ended_at is not None, "guaranteed by the supervisor: an ended job has its time"
    return _read_times(farm, state, began=began, ended=state.ended_at.timestamp())


def _read_times(farm: MeasuredFarm, job: models.Job, *, began: float, ended: float) -> JobTimes:
    """Read the nodes' own times from the bucket: this machine's clock is theirs too."""
    journal = [json.loads(body) for body in _objects(farm, journal_prefix(job.id))]
    claims = [json.loads(body) for body in _objects(farm, claims_prefix(job.id))]
    finished = [entry for entry in journal if entry["outcome"] == "finished"]
    opened = [entry for entry in journal if entry["outcome"] == "opened"]
    return JobTimes(
        whole_s=ended - began,
        to_first_frame_s=min(claim["at_ms"] for claim in claims) / 1000 - began,
        open_s=opened[0]["open_s"],
        rendering_s=sum(entry["render_s"] for entry in finished),
        to_completed_s=ended - max(entry["at_ms"] for entry in finished) / 1000,
    )


def _objects(farm: MeasuredFarm, prefix: str) -> list[bytes]:
    store = build_farm(Config(), farm.data).cloud.objects
    found = [store.get(listed.key) for listed in store.list(prefix)]
    return [each.body for each in found if each]


def _reference_s(blend: Path, out: Path) -> float:
    began = time.monotonic()
    subprocess.run(
        [BPY, ROOT / "bench" / "reference.py", blend, f"{out}/"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    took_s = time.monotonic() - began
    frames = len(list(out.iterdir()))
    assert frames == 24, f"the reference wrote {frames} frames"
    shutil.rmtree(out)
    return took_s


def _row(title: str, goal: float, farm_runs: list[JobTimes], reference_s: list[float]) -> Row:
    ratios = [times.whole_s / other for times, other in zip(farm_runs, reference_s, strict=True)]
    ratio = statistics.median(ratios)
    return Row(
        what=title,
        kiln=f"{statistics.median(t.whole_s for t in farm_runs):.1f} s",
        instead=f"`blender -b -a`: {statistics.median(reference_s):.1f} s",
        figure=f"ratio {ratio:.2f}",
        goal=f"≤ {goal}",
        is_reached=ratio <= goal,
        runs=", ".join(f"{each:.2f}" for each in ratios),
    )


def _seconds_row(title: str, goal: float, seconds: list[float]) -> Row:
    middle = statistics.median(seconds)
    return Row(
        what=title,
        kiln=f"{middle:.2f} s",
        instead="—",
        figure=f"{middle:.2f} s, at most {max(seconds):.2f} s",
        goal=f"≤ {goal:.0f} s",
        is_reached=max(seconds) <= goal,
        runs=", ".join(f"{each:.2f}" for each in seconds),
    )


def _where_it_goes(kind: str, farm_runs: list[JobTimes], reference_s: list[float]) -> str:
    middle = sorted(farm_runs, key=lambda times: times.whole_s)[len(farm_runs) // 2]
    rest_s = middle.whole_s - middle.to_first_frame_s - middle.rendering_s - middle.to_completed_s
    return (
        f"Where the time of the {kind} scene goes (median run, {middle.whole_s:.1f} s; "
        f"`blender -b -a` {statistics.median(reference_s):.1f} s): "
        f"submit, staging, snapshot and launch {middle.overhead_s:.2f} s; Blender's start and opening the file {middle.open_s:.2f} s; "
        f"rendering and saving 24 frames {middle.rendering_s:.2f} s; between frames (claims, checks, pictures of the frames) and "
        f"delivering the last one {rest_s:.2f} s; completing {middle.to_completed_s:.2f} s."
    )
