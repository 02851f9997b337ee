"""What image-check proves of an instance's life: started by its own systemd, with user data, until it switches itself off."""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from ami.check.bucket import BUCKET, REGION, Bucket
from ami.check.commands import Failed, expect, run
from ami.check.container import Machine
from ami.check.network import NODE, STORE, metadata_service
from ami.check.proofs import AGENT_KEY, INSTANCE, Bench
from nodeimage.launch import FileEntry, FileList, LaunchData, Role, WorkspaceKind, node_of_instance
from nodeimage.protocol import (
    Action,
    Heartbeat,
    JournalEntry,
    NodeState,
    Order,
    Outcome,
    RenderSettings,
    Task,
    files_key,
    frames_prefix,
    journal_prefix,
    order_key,
    staging_key,
    status_key,
)
from nodeimage.release import AgentRelease, agent_release

JOB, FRAMES = "j", (1, 3)
SCENE_KEY = "projects/j/cycles.blend"
OTHER_INSTANCE = "i-0fedcba9876543210"


def instance_starts_renders_and_switches_itself_off(bench: Bench, device: str, bucket: Bucket) -> str:
    """The image starts as an instance does: launch, volume, firewall, agent, a frame by Blender's user, and its own end."""
    machine = Machine(root=bench.root, shared=bench.shared, network=NODE, binds=(f"{device}:{device}",))
    with metadata_service(instance=INSTANCE, user_data=launch_text(bench, check="render", workspace=WorkspaceKind.BLANK)):
        console = machine.start(limit_s=300)
    report = bucket.read("received/check/report.json")
    expect(report is not None, f"the agent has not reported; the console ends:\n{console[-3000:]}")
    expect(report["ended"] == "rendered" and report["user"] == 880, f"the agent reports {report}")
    expect(report["instance"] == INSTANCE, f"the instance is {report['instance']}")
    expect(any(line.startswith(f"{device} /var/lib/kiln/workspace ext4") for line in report["mounts"]), f"mounted are {report['mounts']}")
    expect(not report["failed"], f"units failed: {report['failed']}")
    expect(any("kiln-deadline.timer" in line for line in report["timers"]), f"timers are {report['timers']}")
    expect(
        not [line for line in report["listening"] if " 127.0.0" not in line and "[::1]" not in line], f"listening: {report['listening']}"
    )
    return f"Blender {report['opened']['version']} on {report['opened']['device']}, {report['frame']['render_s']} s; then off"


def volume_is_staged_and_a_job_is_rendered_from_it(bench: Bench, device: str, bucket: Bucket) -> str:
    """With the farm's real agent: an instance fills a blank volume with a job's files and ends; another has that volume, renders the job's
    frames from it, delivers them, finds no more work, and switches itself off."""
    release = agent_release()
    bucket.put(release.key, release.body)
    scene = bucket.body(SCENE_KEY)
    entry = FileEntry(path="shots/cycles.blend", key=SCENE_KEY, bytes=len(scene), checksum=f"crc32:{zlib.crc32(scene):08x}")
    bucket.put(files_key(JOB), FileList(files=(entry,)).to_bytes())
    settings = RenderSettings(main_file=entry.path, preview_width_px=32)
    tasks = (Task(node=None, frames=((*FRAMES, 1),)),)
    bucket.put(order_key(JOB), Order(job=JOB, revision=1, action=Action.RENDER, settings=settings, tasks=tasks).to_bytes())
    machine = Machine(root=bench.root, shared=bench.shared, network=NODE, binds=(f"{device}:{device}",))
    run("wipefs", "--all", "--quiet", device)

    with metadata_service(instance=INSTANCE, user_data=launch_text(bench, workspace=WorkspaceKind.BLANK, role=Role.STAGE, release=release)):
        machine.start(limit_s=180)
    staged = bucket.read(staging_key(JOB))
    expect(staged is not None and staged["state"] == "done" and staged["done_bytes"] == len(scene), f"the staging reports {staged}")

    with metadata_service(instance=OTHER_INSTANCE, user_data=launch_text(bench, workspace=WorkspaceKind.VOLUME, release=release)):
        machine.start(limit_s=300)
    entries = [JournalEntry.from_bytes(bucket.body(key)) for key in bucket.keys(journal_prefix(JOB))]
    finished = sorted(entry.frame for entry in entries if entry.outcome is Outcome.FINISHED and entry.frame is not None)
    expect(finished == list(range(FRAMES[0], FRAMES[1] + 1)), f"the journal says {entries}")
    outputs = bucket.keys(frames_prefix(JOB))
    expect(len(outputs) == len(finished), f"received are {outputs}")
    beat = last_heartbeat(bucket, OTHER_INSTANCE)
    expect(beat.state is NodeState.GONE and not beat.problem, f"the last heartbeat is {beat}")
    return f"{len(outputs)} frames, {entries[-1].device}, Blender {entries[-1].blender_version}"


@contextmanager
def unit_settings(bench: Bench, settings: str) -> Iterator[None]:
    """Have the agent's unit say otherwise: what takes minutes on an instance takes seconds here."""
    folder = bench.root / "etc/systemd/system/kiln-node.service.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quick.conf").write_text(f"[Service]\n{settings}\n")
    try:
        yield
    finally:
        shutil.rmtree(folder)


def instance_that_hangs_gives_up(bench: Bench, bucket: Bucket) -> str:
    """An agent that comes up and hangs is killed and started again; after the last time the farm is told, and the machine is off."""
    user_data = launch_text(bench, check="hang", workspace=WorkspaceKind.S3)
    with unit_settings(bench, "WatchdogSec=2\nRestartSec=200ms"), metadata_service(instance=INSTANCE, user_data=user_data):
        bench.instance.start(limit_s=180)
    told = told_heartbeat(bucket)
    expect("watchdog" in told.problem.lower(), f"the farm is told: {told.problem}")
    return told.problem[:160]


def instance_that_no_farm_launched_switches_itself_off(bench: Bench) -> str:
    """Without user data nobody knows what the instance is for: nothing of ours starts, and the machine is off."""
    with metadata_service(instance=INSTANCE, user_data=None):
        bench.instance.start(limit_s=180)
    journal = ("journalctl", "--directory=/var/log/journal", "--output=cat", "--no-pager")
    said = bench.instance.call(*journal, "_SYSTEMD_UNIT=kiln-launch.service")
    expect("not launched by a farm" in said, f"the reason is not given: {said[-3000:]}")
    return next(line for line in said.splitlines() if "not launched by a farm" in line)


def instance_without_an_agent_gives_up(bench: Bench, bucket: Bucket) -> str:
    """An agent that is not the one the launch names is not run: the farm is told why, and the machine is off."""
    bucket.put(AGENT_KEY, b"something else")
    shutil.rmtree(bench.root / "var/lib/kiln/agent")
    (bench.root / "var/lib/kiln/agent").mkdir()
    user_data = launch_text(bench, check="render", workspace=WorkspaceKind.S3)
    try:
        with unit_settings(bench, "RestartSec=200ms"), metadata_service(instance=INSTANCE, user_data=user_data):
            bench.instance.start(limit_s=180)
    finally:
        bucket.put(AGENT_KEY, bench.agent)
    told = told_heartbeat(bucket)
    expect("not the one that the launch names" in told.problem, f"the farm is told: {told.problem}")
    return told.problem[:160]


def told_heartbeat(bucket: Bucket) -> Heartbeat:
    """What the farm is told of the instance that gave up."""
    told = last_heartbeat(bucket, INSTANCE)
    expect(told.state is NodeState.STARTING and told.job == JOB, f"the heartbeat is {told}")
    return told


def last_heartbeat(bucket: Bucket, instance: str) -> Heartbeat:
    """The last heartbeat of an instance, read as the farm reads it. Errors: Failed - there is none"""
    body = bucket.find(status_key(node_of_instance(instance)))
    if body is None:
        raise Failed(f"the farm was told nothing by {instance}")
    return Heartbeat.from_bytes(body)


def launch_text(
    bench: Bench, *, workspace: WorkspaceKind, check: str = "", role: Role = Role.RENDER, release: AgentRelease | None = None
) -> str:
    """The user data of a launch: with the farm's own agent, or with the proof's and a word for it."""
    data = LaunchData(
        role=role,
        farm="farm_check",
        region=REGION,
        projects_bucket=BUCKET,
        received_bucket=BUCKET,
        agent=release.key if release else AGENT_KEY,
        agent_sha256=release.sha256 if release else hashlib.sha256(bench.agent).hexdigest(),
        job=JOB,
        endpoint=STORE,
        workspace=workspace,
        blender=bench.blenders[-1].series,
        idle_s=3.0,
    )
    return json.dumps({**json.loads(data.to_bytes()), "check": check})
