"""STYLE, section 15: the documents that operators and newcomers rely on keep their form."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.conventions.sources import ROOT, name_of, tracked_files

MOST_DECISION_LINES = 10
DESIGN_TARGETS = {"help", "setup", "demo", "serve", "test", "check", "fix", "bench", "image", "image-check", "clean"}


def test_changelog_groups_each_version_for_operators() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert versions
    assert all(re.fullmatch(r"Unreleased|\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", version) for version in versions)
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {"New", "Changed", "Fixed"}


def test_decisions_are_numbered_dated_and_short() -> None:
    text = (ROOT / "DECISIONS.md").read_text()
    heads = re.findall(r"^## (\d+)\. .+ \(\d{4}-\d\d-\d\d\)$", text, re.MULTILINE)
    assert [int(number) for number in heads] == list(range(1, len(re.findall(r"^## ", text, re.MULTILINE)) + 1))
    for body in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        assert len([line for line in body.splitlines() if line.strip()]) <= MOST_DECISION_LINES, body
        assert "Rejected:" in body, body


def test_make_help_lists_the_commands_that_the_design_fixes() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"make ([a-z-]+) ", shown)) >= DESIGN_TARGETS


def test_links_between_our_documents_lead_somewhere() -> None:
    dead = [
        f"{name_of(page)}: {target}"
        for page in tracked_files()
        if page.suffix == ".md"
        for target in re.findall(r"\]\((?!https?://|mailto:|#)([^)#\s]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert dead == []


def test_the_sample_is_small_enough_to_be_in_the_repository() -> None:
    assert (ROOT / "samples" / "kiln.blend").stat().st_size < 2_000_000


def test_nothing_large_is_in_the_repository() -> None:
    large = [f"{name_of(path)}: {path.stat().st_size}" for path in tracked_files() if _is_large(path)]
    assert large == []


def _is_large(path: Path) -> bool:
    return path.stat().st_size > 2_000_000
