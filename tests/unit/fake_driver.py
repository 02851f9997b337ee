"""Stands in for the Blender driver: speaks its protocol, renders nothing, and misbehaves as `plan.json` in the workspace says.

plan.json: {"findings": […], "open": HOW, "frames": {"<frame>": HOW}, "after_save": {"<frame>": HOW}}
HOW is a word of `DEEDS`, or how a frame fails; with `once:` before it, it happens once.
What it renders is JSON that tells the frame, how often this process was asked, and with what settings.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

WORKSPACE = Path.cwd()
NEVER_S = 3600.0


def emit(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"ev": event, **fields}) + "\n")
    sys.stdout.flush()


def log(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def crash() -> None:
    log("Error: something is very wrong")
    os.kill(os.getpid(), signal.SIGSEGV)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_out_of_memory() -> None:
    log("terminate called after throwing an instance of 'std::bad_alloc'")
    os.abort()


def hang() -> None:
    time.sleep(NEVER_S)


def hang_deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log("not listening")
    time.sleep(NEVER_S)


def wait() -> None:
    while not (WORKSPACE / "go").exists():
        time.sleep(0.01)


def chatter() -> None:
    while True:
        emit("progress", phase="Rendering")
        time.sleep(0.05)


DEEDS = {
    "crash": crash,
    "killed": be_killed,
    "bad_alloc": run_out_of_memory,
    "hang": hang,
    "deaf hang": hang_deaf,
    "wait": wait,
    "chatter": chatter,
}


def misbehave(how: str, **about: Any) -> bool:
    """Do what a Blender in trouble does. Returns: True if it has answered in its own way"""
    if how.startswith("once:"):
        mark = WORKSPACE / f"did-{'-'.join(str(value) for value in about.values())}"
        if mark.exists():
            return False
        mark.touch()
        how = how.removeprefix("once:")
    if how in DEEDS:
        DEEDS[how]()
    if how == "no_gpu":
        emit("cannot_open", message="this node has a GPU, and Blender can't use it", kind="device")
        return True
    if how in {"error", "bad_output", "out_of_memory", "device"}:
        log("Error: as planned")
        emit("failed", kind=how, message="as planned", log_bytes=os.fstat(2).st_size, **about)
        return True
    return False


def render(command: dict[str, Any], plan: dict[str, Any], settings: dict[str, Any], count: int) -> None:
    frame = command["frame"]
    emit("progress", frame=frame, phase="Preparing")
    log(f"Fra:{frame} as {os.getpid()}")
    if misbehave(plan.get("frames", {}).get(str(frame), ""), frame=frame):
        return
    outputs = Path(command["folder"]) / "outputs"
    (outputs / "extra").mkdir(parents=True)
    told = {
        "frame": frame,
        "asked": count,
        "persistent_data": settings["persistent_data"],
        "in_order": command["in_order"],
        "device": settings["device"],
    }
    (outputs / f"shot_{frame:04d}.png").write_text(json.dumps(told))
    (outputs / "extra" / "depth.exr").write_bytes(b"depth")
    (outputs.parent / "preview.webp").write_bytes(b"small")
    emit("saved", frame=frame)
    if misbehave(plan.get("after_save", {}).get(str(frame), ""), frame=frame):
        return
    files = sorted(path for path in outputs.rglob("*") if path.is_file())
    listed = [{"name": str(path.relative_to(outputs)), "bytes": path.stat().st_size} for path in files]
    emit("rendered", frame=frame, render_s=0.5, outputs=listed, has_preview=True, peak_memory_bytes=1000, log_bytes=os.fstat(2).st_size)


def main() -> None:
    sys.stdout.write("a banner\n")
    emit("hello", version="0.0", pid=os.getpid())
    plan: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    count = 0
    for line in sys.stdin:
        command = json.loads(line)
        if command["cmd"] == "quit":
            return
        if command["cmd"] == "open":
            settings = command["settings"]
            plan = json.loads(Path(command["file"]).read_text())
            how = plan.get("open", "")
            if how == "cannot_open":
                emit("cannot_open", message="not a .blend", kind="open")
            elif not misbehave(how, what="open"):
                emit("opened", version="0.0", device="CPU", findings=plan.get("findings", []), info={}, open_s=0.1)
        else:
            count += 1
            render(command, plan, settings, count)


main()
