"""STYLE, section 2: imports point one way. mypy and pytest do not see a wrong one; import-linter does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conventions.sources import ROOT


def test_the_import_contracts_in_pyproject_are_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
