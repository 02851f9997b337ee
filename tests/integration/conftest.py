"""What tests with a real Blender stand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from .blender_here import make_scenes


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tests' .blend files."""
    folder = tmp_path_factory.mktemp("scenes")
    make_scenes(folder)
    return folder
