"""The Blender process: what it is given, what it says, how it ends. A script stands in for Blender."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodeimage.agent.blender import Blender, Event, command_line, scrubbed_environment
from nodeimage.protocol import Failure, NodeConfig
from tests.waiting import wait_until

from .agent_fakes import PATIENCE_S

Start = Callable[..., Blender]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process whose program is given; at the end it is killed."""
    started: list[Blender] = []

    def start(program: str, *, grace_s: float = 5.0, **environment: str) -> Blender:
        script = tmp_path / "program.py"
        script.write_text("import json, os, signal, subprocess, sys, time\n" + program)
        config = NodeConfig(
            node="n", job="j", bucket="b", home=str(tmp_path / "home"), workspace=str(tmp_path), blender=sys.executable, blender_kind="bpy"
        )
        blender = Blender(config, number=1, environment={**os.environ, **environment}, driver=script, grace_s=grace_s)
        started.append(blender)
        return blender

    yield start
    for blender in started:
        blender.kill(ask_first=False)


def next_event(blender: Blender) -> Event:
    event = blender.next_event(PATIENCE_S)
    assert event is not None, "it says nothing"
    return event


def wait_for(blender: Blender, name: str) -> Event:
    while (event := next_event(blender)).name != name:
        pass
    return event


HELLO = 'print(json.dumps({"ev": "hello"}), flush=True)\n'
SLEEP = "time.sleep(3600)\n"


def test_banner_before_hello_is_ignored(start: Start) -> None:
    blender = start('print("Blender 5.0")\nprint(json.dumps({"ev": "progress"}))\nprint("{")\n' + HELLO)
    assert next_event(blender).name == "hello"
    assert next_event(blender).fields == {"code": 0}


def test_line_that_is_no_event_is_ignored(start: Start) -> None:
    blender = start(HELLO + 'print("[1]\\nnull\\n{}\\nFra:1", flush=True)\nprint(json.dumps({"ev": "saved"}), flush=True)')
    assert next_event(blender).name == "hello"
    assert next_event(blender).name == "saved"


def test_blender_sees_neither_keys_nor_settings_and_its_home_is_the_nodes(start: Start, tmp_path: Path) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "s", "AWS_ACCESS_KEY_ID": "k", "KILN_NODE_JOB": "j", "KILN_TOKEN": "t", "CUDA_VISIBLE_DEVICES": "1"}
    blender = start('print(json.dumps({"ev": "hello", "env": dict(os.environ)}), flush=True)', **secrets)
    env = next_event(blender).fields["env"]
    assert not [name for name in env if name.startswith(("AWS_", "KILN_"))]
    assert env["CUDA_VISIBLE_DEVICES"] == "1"
    assert env["HOME"].startswith(str(tmp_path / "home"))
    assert env["TMPDIR"].startswith(str(tmp_path / "home"))


def test_environment_keeps_what_drivers_need_and_nothing_else() -> None:
    env = {"PATH": "/bin", "LANG": "C", "VK_ICD_FILENAMES": "x", "PYTHONPATH": "/evil", "LD_PRELOAD": "/evil.so", "HOME": "/root"}
    kept = scrubbed_environment(env, Path("/n"))
    assert kept == {
        "PATH": "/bin",
        "LANG": "C",
        "VK_ICD_FILENAMES": "x",
        "HOME": "/n/blender",
        "TMPDIR": "/n/tmp",
        "PYTHONUTF8": "1",
    }


def test_process_has_a_session_of_its_own(start: Start) -> None:
    blender = start('print(json.dumps({"ev": "hello", "sid": os.getsid(0)}), flush=True)')
    assert next_event(blender).fields["sid"] == blender.pid != os.getsid(0)


def test_kill_ends_the_whole_group(start: Start) -> None:
    child = "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])\n"
    blender = start(child + 'print(json.dumps({"ev": "hello", "child": child.pid}), flush=True)\n' + SLEEP)
    child_pid = next_event(blender).fields["child"]
    blender.kill(ask_first=True)
    wait_for(blender, "exit")
    wait_until(lambda: not is_alive(child_pid), what="the end of Blender's own child")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_process_that_is_asked_to_end_may_do_so_itself(start: Start) -> None:
    blender = start("signal.signal(signal.SIGTERM, lambda *_: os._exit(7))\n" + HELLO + SLEEP)
    next_event(blender)
    blender.kill(ask_first=True)
    assert wait_for(blender, "exit").fields["code"] == 7


def test_process_that_ignores_asking_is_killed(start: Start) -> None:
    blender = start("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HELLO + SLEEP, grace_s=0.1)
    next_event(blender)
    blender.kill(ask_first=True)
    assert wait_for(blender, "exit").fields["code"] == -signal.SIGKILL
    assert not blender.is_running()


def test_commands_to_a_process_that_ended_are_no_error(start: Start) -> None:
    blender = start("")
    wait_for(blender, "exit")
    blender.render(1, Path("/x"), in_order=False)
    blender.render(2, Path("/x"), in_order=False)
    blender.end()


@pytest.mark.parametrize(
    ("program", "failure", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", Failure.CRASH, "SIGSEGV, exit code -11"),
        ("os._exit(139)", Failure.CRASH, "SIGSEGV, exit code 139"),
        ("os.abort()", Failure.CRASH, "SIGABRT, exit code -6"),
        ("os._exit(134)", Failure.CRASH, "SIGABRT, exit code 134"),
        ("os._exit(0)", Failure.CRASH, "exit code 0"),
        ("os.kill(os.getpid(), signal.SIGKILL)", Failure.OUT_OF_MEMORY, "killed"),
        ("os._exit(137)", Failure.OUT_OF_MEMORY, "killed"),
        (
            "sys.stderr.write('Malloc returns null: len=123\\n'); sys.stderr.flush(); os.abort()",
            Failure.OUT_OF_MEMORY,
            "Malloc returns null",
        ),
        ("raise MemoryError", Failure.OUT_OF_MEMORY, "MemoryError"),
        ("sys.stderr.write('Out of memory in CUDA\\n'); os._exit(1)", Failure.OUT_OF_MEMORY, "CUDA"),
        ("sys.stderr.write('System is out of GPU memory\\n'); os._exit(1)", Failure.OUT_OF_MEMORY, "GPU memory"),
    ],
)
def test_end_of_blender_is_classified(start: Start, program: str, failure: Failure, said: str) -> None:
    blender = start(program)
    kind, message = blender.why_ended(wait_for(blender, "exit").fields["code"])
    assert kind is failure
    assert said in message


def test_last_words_leave_progress_out(start: Start) -> None:
    program = "sys.stderr.write('Warning: texture is gone\\nFra:1 Mem:1M\\nFra:1 Mem:2M\\nSaved: x\\n')\nsys.stderr.flush()\nos._exit(139)"
    blender = start(program)
    _, message = blender.why_ended(wait_for(blender, "exit").fields["code"])
    assert message.endswith("its last words: Warning: texture is gone")


def test_command_lines_of_both_kinds() -> None:
    driver = Path("/d/driver.py")
    config = NodeConfig(node="n", job="j", bucket="b", blender="'/opt/my blender/blender' --debug-cycles", threads=3)
    assert shlex.join(command_line(config, driver)) == (
        "'/opt/my blender/blender' --debug-cycles -b --factory-startup --disable-autoexec --python-exit-code 1 --threads 3 "
        "--python /d/driver.py"
    )
    bpy = NodeConfig(node="n", job="j", bucket="b", blender="/v/bin/python", blender_kind="bpy", threads=3)
    assert command_line(bpy, driver) == ["/v/bin/python", "-I", "/d/driver.py"]
