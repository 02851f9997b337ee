"""Blender's log: cut into attempts, kept short, and telling."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeimage.agent import log as agent_log
from nodeimage.agent.log import LINE_CHARACTERS, BlenderLog


@pytest.fixture
def log(tmp_path: Path) -> BlenderLog:
    return BlenderLog(tmp_path / "blender.log")


def write(log: BlenderLog, text: str) -> None:
    with log.path.open("a") as file:
        file.write(text)


def test_cut_takes_what_came_since_the_last_one(log: BlenderLog) -> None:
    write(log, "one\ntwo\n")
    assert log.cut() == b"one\ntwo\n"
    write(log, "three\n")
    assert log.cut() == b"three\n"
    assert log.cut() == b""


def test_cut_leaves_what_belongs_to_the_next_attempt(log: BlenderLog) -> None:
    write(log, "mine\ntheirs\n")
    assert log.cut(5) == b"mine\n"
    assert log.cut() == b"theirs\n"


def test_long_lines_are_shortened(log: BlenderLog) -> None:
    write(log, "x" * 10_000 + "\nend\n")
    first, second = log.cut().decode().splitlines()
    assert len(first) < LINE_CHARACTERS + 10
    assert second == "end"


def test_long_log_keeps_its_beginning_and_its_end(log: BlenderLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_log, "PART_BYTES", 100)
    write(log, "first\n" + "warning\n" * 1000 + "last\n")
    cut = log.cut().decode()
    assert cut.startswith("first\n")
    assert cut.endswith("last\n")
    assert "bytes left out" in cut
    assert len(cut) < 300


def test_log_that_would_fill_the_disk_is_emptied(log: BlenderLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_log, "MOST_BYTES", 1000)
    write(log, "warning\n" * 1000)
    assert log.size() < 100
    write(log, "after\n")
    assert log.cut().decode().endswith("dropped\nafter\n")


def test_bytes_that_are_no_text_do_no_harm(log: BlenderLog) -> None:
    log.path.write_bytes(b"\xff\xfe caf\xe9\n")
    assert "caf" in log.cut().decode()
    assert log.tail()


def test_tail_is_the_last_lines_without_empty_ones(log: BlenderLog) -> None:
    write(log, "\n".join(str(n) for n in range(50)) + "\n\n\n")
    assert log.tail()[-1] == "49"
    assert len(log.tail()) == 20
